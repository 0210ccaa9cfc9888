"""Tests as a project has them, run by ``manage.py test``: ../test_django_commands.py does so."""

from django.test import Client, TestCase, TransactionTestCase

from catga_sync.integrations.django import mediator
from tests.apps.django_node.messages import RefuseAfterWrite
from tests.apps.django_project.models import Order
from tests.apps.messages import CountOrders, CrashAfterWrite, PlaceOrder


class LocalCalls(TestCase):
    """Handlers run in the thread of the test, with its connection and in its transaction."""

    def test_what_a_handler_writes_is_seen_here(self) -> None:
        assert mediator.send(PlaceOrder("1")).unwrap() == 1
        assert Order.objects.get().number == "1"

    def test_what_another_test_has_written_is_gone(self) -> None:
        self.test_what_a_handler_writes_is_seen_here()

    def test_what_a_failed_call_has_written_is_gone_and_the_rest_is_not(self) -> None:
        Order.objects.create(number="mine")
        assert not mediator.send(CrashAfterWrite("2"))
        assert not mediator.send(RefuseAfterWrite("2"))
        assert not mediator.send(RefuseAfterWrite("2", raises=False))
        assert [order.number for order in Order.objects.all()] == ["mine"]

    def test_queries_of_a_handler_are_counted(self) -> None:
        with self.assertNumQueries(3):  # a savepoint around one query
            assert mediator.send(CountOrders("1")).unwrap() == 0

    def test_a_view_that_sends_is_called_by_the_test_client(self) -> None:
        page = self.client.get("/place/7").json()
        assert page == {"code": "SOLD_OUT", "counts": {"7": 1, "7-refused": 0}}

    def test_the_routes_of_the_cluster_are_no_business_of_csrf_protection(self) -> None:
        response = Client(enforce_csrf_checks=True).post(
            "/catga/cluster/invoke", data="{}", content_type="application/json"
        )
        assert (response.status_code, response["Catga-Executed"]) == (401, "0")

    async def test_under_asgi_the_routes_say_that_they_are_not_served(self) -> None:
        response = await self.async_client.get("/catga/cluster/node")
        assert (response.status_code, "WSGI" in response.content.decode()) == (501, True)

    def test_a_changed_setting_makes_another_mediator(self) -> None:
        before = mediator.options.node_id
        with self.settings(CATGA={"node_id": "other", "discovery": None}):
            assert mediator.options.node_id == "other"
            assert mediator.options.discovery == "memory://"
        assert mediator.options.node_id == before

    def test_the_hooks_of_a_changed_setting_end_with_it(self) -> None:
        given, added = Watching(), Watching()
        with self.settings(CATGA={"hooks": [given]}):
            mediator.add_hook(added)
            assert mediator.send(CountOrders("1"))
        assert mediator.send(CountOrders("1"))
        assert (given.sends, given.handled) == (added.sends, added.handled) == (1, 1)


class Watching:
    """A hook that counts."""

    sends = handled = 0

    def on_send(self, details: object) -> None:
        self.sends += 1

    def on_handle(self, details: object) -> None:
        self.handled += 1


class CommittedCalls(TransactionTestCase):
    """Without a transaction around the test."""

    def test_a_call_has_a_transaction_of_its_own(self) -> None:
        assert mediator.send(PlaceOrder("1"))
        assert not mediator.send(RefuseAfterWrite("2"))
        assert [order.number for order in Order.objects.all()] == ["1"]
