"""The node ``clock``: converts times between zones."""

from __future__ import annotations

from datetime import timedelta
from zoneinfo import ZoneInfo, available_timezones

from flask import Flask

from catga_sync import ClusterOptions, ErrorCode, Mediator, create_cluster
from catga_sync.errors import BusinessError
from catga_sync.integrations.flask import cluster_blueprint

from messages import ConvertTime, Reading
from tally import keep_tally

local = Mediator()
zones = {name: ZoneInfo(name) for name in available_timezones()}


@local.handler
def convert(query: ConvertTime) -> Reading:
    there = query.time.replace(tzinfo=zone(query.zone)).astimezone(zone(query.to))
    offset = there.utcoffset() or timedelta(0)
    return Reading(query.to, there.replace(tzinfo=None), offset, there.tzname() or "")


def zone(name: str) -> ZoneInfo:
    if name not in zones:
        raise BusinessError(f"there is no time zone {name}", code=ErrorCode.NOT_FOUND)
    return zones[name]


mediator = create_cluster(local, ClusterOptions.from_env())
keep_tally(mediator)
app = Flask(__name__)
app.register_blueprint(cluster_blueprint(mediator))
