"""What this process is told by others. Django's app imports it at the start."""

from catga_sync.integrations.django import subscriber

from messages import SoldOut
from orders.models import Missing


@subscriber
def note_sold_out(event: SoldOut) -> None:
    Missing.objects.get_or_create(item=event.item)
