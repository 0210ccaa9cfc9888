"""What happens to nodes, as it is told to whoever wants to know."""

import logging

import pytest

from catga_sync import ClusterEvent
from catga_sync.cluster.events import KEPT, EventBoard, EventKind
from tests.unit.cluster.fakes import node

JOINED = ClusterEvent(EventKind.NODE_JOINED, node("a"))


def test_the_kinds_are_found_at_the_class():
    names = ["NODE_JOINED", "NODE_LEFT", "NODE_FAULTED", "NODE_RECOVERED", "NODE_SUSPECTED"]
    assert [kind.name for kind in EventKind] == names
    assert [getattr(ClusterEvent, name) for name in names] == list(EventKind)


def test_an_event_is_a_value_whenever_it_was_noticed():
    assert ClusterEvent(EventKind.NODE_JOINED, node("a"), at=1.0) == ClusterEvent(
        EventKind.NODE_JOINED, node("a"), at=2.0
    )
    assert ClusterEvent(EventKind.NODE_LEFT, node("a")) != JOINED
    with pytest.raises(AttributeError):
        JOINED.at = 5.0


def test_every_listener_hears_every_event_from_now_on():
    board, first, second = EventBoard(), [], []
    board.listen(first.append)
    board.tell(JOINED)
    board.listen(second.append)
    board.tell(JOINED)
    assert first == [JOINED, JOINED]
    assert second == [JOINED]


def test_a_listener_that_raises_keeps_no_other_from_the_event(caplog):
    board, heard = EventBoard(), []

    def broken(event):
        raise ValueError("oops")

    board.listen(broken)
    board.listen(heard.append)
    board.tell(JOINED)
    assert heard == [JOINED]
    assert "oops" in caplog.text


def test_a_listener_may_ask_listen_and_tell():
    board, heard = EventBoard(), []

    def curious(event):
        heard.append(len(board.past()))
        if len(heard) == 1:
            board.listen(lambda event: None)
            board.tell(JOINED)

    board.listen(curious)
    board.tell(JOINED)
    assert heard == [1, 2]


def test_the_last_events_are_kept_the_newest_last():
    board = EventBoard()
    assert board.past() == ()
    for number in range(KEPT + 10):
        board.tell(ClusterEvent(EventKind.NODE_JOINED, node(f"n{number}")))
    past = board.past()
    assert len(past) == KEPT == 256
    assert (past[0].node.node_id, past[-1].node.node_id) == ("n10", f"n{KEPT + 9}")


def test_an_event_is_one_line_of_the_log(caplog):
    with caplog.at_level(logging.INFO, "catga_sync"):
        EventBoard().tell(JOINED)
    assert [record.getMessage() for record in caplog.records] == ["NODE_JOINED: node=a endpoint=http://a:1"]


def test_a_forked_child_can_tell_although_the_lock_was_held():
    board = EventBoard()
    board._lock.acquire()
    board.after_fork_in_child()
    board.tell(JOINED)
    assert board.past() == (JOINED,)
