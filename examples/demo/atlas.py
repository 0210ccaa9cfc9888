"""The node ``atlas``: knows which zones there are."""

from __future__ import annotations

from zoneinfo import ZoneInfo, available_timezones

from flask import Flask

from catga_sync import ClusterOptions, ErrorCode, Mediator, create_cluster
from catga_sync.errors import BusinessError
from catga_sync.integrations.flask import cluster_blueprint

from messages import FindZone, ListZones
from tally import keep_tally

local = Mediator()
# Kept, since zoneinfo itself keeps only the last few and would read the others from disk again and again.
zones = {name: ZoneInfo(name) for name in sorted(available_timezones())}


@local.handler
def list_zones(query: ListZones) -> list[str]:
    here = {name: zone for name, zone in zones.items() if name.startswith(f"{query.region}/")}
    if not here:
        raise BusinessError(f"there is no region {query.region}", code=ErrorCode.NOT_FOUND)
    return [name for name, zone in here.items() if query.at.astimezone(zone).utcoffset() == query.offset]


@local.handler
def find_zone(query: FindZone) -> str:
    for name in zones:
        if name.rpartition("/")[2].replace("_", " ") == query.city:
            return name
    raise BusinessError(f"no zone is named after {query.city}", code=ErrorCode.NOT_FOUND)


mediator = create_cluster(local, ClusterOptions.from_env())
keep_tally(mediator)
app = Flask(__name__)
app.register_blueprint(cluster_blueprint(mediator))
