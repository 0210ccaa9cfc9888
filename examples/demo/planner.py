"""The node ``planner``: its handler asks the other two nodes, and this one, before it answers."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta, timezone

from flask import Flask

from catga_sync import ClusterOptions, Mediator, create_cluster
from catga_sync.errors import BusinessError
from catga_sync.integrations.flask import cluster_blueprint

from messages import ConvertTime, FindMeeting, FindZone, Meeting, Overlap, Span
from tally import keep_tally

WORK_BEGINS, WORK_ENDS = time(9), time(17)
HOUR = timedelta(hours=1)

local = Mediator()
mediator = create_cluster(local, ClusterOptions.from_env())


@local.handler
def find_meeting(query: FindMeeting) -> Meeting:
    # A "no" of another node becomes ours, text and code: unwrap raises it, and the mediator hands it on.
    zones = [result.unwrap() for result in mediator.send_batch(FindZone(city) for city in query.cities)]
    work = [Span(utc(query.day, WORK_BEGINS, zone), utc(query.day, WORK_ENDS, zone)) for zone in zones]
    common = mediator.send(Overlap(work)).unwrap()
    if common.end - common.begin < HOUR:
        raise BusinessError(f"{', '.join(query.cities)} have no working hour in common", code="NO_COMMON_HOUR")

    begin = common.begin.replace(tzinfo=None)
    clocks = [result.unwrap() for result in mediator.send_batch(ConvertTime(begin, "UTC", zone) for zone in zones)]
    return Meeting(common.begin, dict(zip(query.cities, clocks, strict=True)))


def utc(day: date, when: time, zone: str) -> datetime:
    reading = mediator.send(ConvertTime(datetime.combine(day, when), zone, "UTC")).unwrap()
    return reading.time.replace(tzinfo=timezone.utc)


@local.handler
def overlap(query: Overlap) -> Span:
    return Span(max(span.begin for span in query.spans), min(span.end for span in query.spans))


keep_tally(mediator)
app = Flask(__name__)
app.register_blueprint(cluster_blueprint(mediator))
