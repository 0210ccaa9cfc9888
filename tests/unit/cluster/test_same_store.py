"""A plain request is sent again only where the second node has the very store in which the first one has noted it."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from catga_sync import CatgaResult, Delivery, ErrorCode
from catga_sync.cluster.local_node import SHARED_IDEMPOTENCY
from catga_sync.idempotency import MemoryIdempotency, SqliteIdempotency
from tests.processes import until
from tests.unit.cluster.losing import Do, Look, Pair, pair
from tests.unit.idempotency.named import Named

A_ALONE, BOTH = ["a"], ["a", "b"]

Opened = Callable[[Path], SqliteIdempotency]


@pytest.fixture
def opened() -> Iterator[Opened]:
    with ExitStack() as stack:
        yield lambda path: stack.enter_context(closing(SqliteIdempotency(path)))


def asked(result: CatgaResult[Any]) -> list[str]:
    return [attempt.node_id for attempt in result.attempts]


def assert_told_the_truth(result: CatgaResult[Any]) -> None:
    """The first try has left without a response: that is all that there is to say."""
    assert (result.is_success, result.delivery, result.code) == (False, Delivery.UNKNOWN, ErrorCode.UNAVAILABLE)
    assert "no complete response" in str(result.error)


def send(pair: Pair, count: int, batch: bool) -> list[CatgaResult[Any]]:
    requests = [Do(number) for number in range(count)]
    return list(pair.client.send_batch(requests)) if batch else [pair.client.send(each) for each in requests]


ONE_BY_ONE, BATCH = pytest.param(False, id="one by one"), pytest.param(True, id="batch")
BATCH_IN_SOAK = pytest.param(True, id="batch", marks=pytest.mark.slow)
one_by_one_and_in_a_batch = pytest.mark.parametrize("batch", [ONE_BY_ONE, BATCH])
#: In "make test" one by one without a secret, and in a batch with one.
with_and_without_a_secret = pytest.mark.parametrize(
    ("batch", "secret"),
    [
        pytest.param(False, None, id="one by one-unsigned"),
        pytest.param(False, "s" * 32, id="one by one-signed", marks=pytest.mark.slow),
        pytest.param(True, None, id="batch-unsigned", marks=pytest.mark.slow),
        pytest.param(True, "s" * 32, id="batch-signed"),
    ],
)


@pytest.mark.parametrize("batch", [ONE_BY_ONE, BATCH_IN_SOAK])
def test_two_objects_with_a_file_each_are_two_stores(tmp_path: Path, opened: Opened, batch: bool) -> None:
    with pair(opened(tmp_path / "a.sqlite3"), opened(tmp_path / "b.sqlite3")) as made:
        results = send(made, 5, batch)
        assert sorted(number for _, number in made.ran) == list(range(5)), "each has run once"
        for result in results:
            assert_told_the_truth(result)
            assert len(asked(result)) == 1
            assert "idempotency" not in result.metadata


def test_a_copy_of_a_file_is_another_store(tmp_path: Path, opened: Opened) -> None:
    original = opened(tmp_path / "a.sqlite3")
    original.identity()
    original.close()
    shutil.copy(original.path, tmp_path / "b.sqlite3")
    with pair(original, opened(tmp_path / "b.sqlite3")) as made:
        result = made.client.send(Do())
        assert made.ran == [("a", 0)]
        assert_told_the_truth(result)


@with_and_without_a_secret
def test_with_one_file_under_two_names_the_second_node_gives_the_response_of_the_first(
    tmp_path: Path, opened: Opened, batch: bool, secret: str | None
) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    url = f"sqlite:///{tmp_path / 'link' / 'ids.sqlite3'}"
    with pair(opened(tmp_path / "ids.sqlite3"), url, secret=secret) as made:
        made.losing = {"a"}
        results = send(made, 3, batch)
        assert [result.value for result in results] == [0, 1, 2]
        assert asked(results[0]) == BOTH
        assert {result.metadata["idempotency"] for result in results} == {"shared"}
        assert sorted(number for _, number in made.ran) == [0, 1, 2]


def test_queries_and_plain_requests_of_one_batch_each_go_their_way(tmp_path: Path, opened: Opened) -> None:
    path = tmp_path / "ids.sqlite3"
    with pair(opened(path), opened(path)) as made:
        made.losing = {"a"}
        results = made.client.send_batch([Do(0), Look(1), Do(2), Look(3)])
        assert [result.value for result in results] == [0, 1, 2, 3]
        assert {tuple(asked(result)) for result in results} == {("a", "b")}
        assert made.ran == [("a", 0), ("a", 2)]


def test_what_may_run_twice_anyway_takes_the_store_from_no_plain_request_of_its_batch() -> None:
    a, b = Named("one"), Named("one")
    with pair(a, b) as made:
        a.told = "another"
        made.losing = {"a"}
        query, plain = made.client.send_batch([Look(1), Do(2)])
        assert query.value == 1
        assert_told_the_truth(plain)
        assert made.ran == [("a", 2)]


def tells_its_store(features: Iterable[str]) -> bool:
    return any(each.startswith(SHARED_IDEMPOTENCY) for each in features)


def test_nodes_that_are_asked_what_they_are_tell_their_store_as_well(
    tmp_path: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("catga_sync.cluster.peer_descriptions.INTERVAL", 0.1)
    path = tmp_path / "ids.sqlite3"
    with pair(opened(path), opened(path), listed=True) as made:
        # A node that was asked before it had read its identity is asked again after a while.
        until(lambda: all(map(tells_its_store, made.features.values())), "both have told it")
        made.losing = {"a"}
        result = made.client.send(Do(1))
        assert (result.value, asked(result), made.ran) == (1, BOTH, [("a", 1)])


@with_and_without_a_secret
def test_a_file_that_is_replaced_between_two_heartbeats_is_another_store(
    tmp_path: Path, opened: Opened, batch: bool, secret: str | None
) -> None:
    path = tmp_path / "ids.sqlite3"
    with pair(opened(path), opened(path), secret=secret) as made:
        made.losing = {"a"}
        made.meanwhile = path.unlink
        (result,) = send(made, 1, batch)
        assert made.ran == [("a", 0)]
        assert_told_the_truth(result)
        tries = [(each.node_id, each.delivery, each.code) for each in result.attempts]
        assert tries == [
            ("a", Delivery.UNKNOWN, ErrorCode.UNAVAILABLE),
            ("b", Delivery.NOT_EXECUTED, ErrorCode.FAILED_PRECONDITION),
        ]


@pytest.mark.parametrize("told", ["another", None, OSError("no"), 7], ids=["another", "none", "down", "no text"])
@pytest.mark.parametrize("batch", [ONE_BY_ONE, BATCH_IN_SOAK])
def test_a_node_whose_store_is_not_the_one_that_is_relied_on_refuses_unexecuted(told: Any, batch: bool) -> None:
    """What the client believes of ``b`` is as old as its last heartbeat."""
    a, b = Named("one"), Named("one")
    with pair(a, b) as made:
        made.losing = {"a"}

        def change() -> None:
            b.told = told

        made.meanwhile = change
        (result,) = send(made, 1, batch)
        assert made.ran == [("a", 0)]
        assert_told_the_truth(result)
        assert asked(result) == BOTH


@pytest.mark.parametrize(
    ("store", "shared"),
    [
        (MemoryIdempotency(), False),
        (Named(None), False),
        (Named("any text \u2028"), True),
    ],
    ids=["no method", "none", "a text"],
)
def test_an_object_that_two_nodes_share_is_one_store_only_if_it_says_which_one_it_is(store: Any, shared: bool) -> None:
    with pair(store, store) as made:
        made.losing = {"a"}
        result = made.client.send(Do())
        assert made.ran == [("a", 0)]
        assert asked(result) == (BOTH if shared else A_ALONE)
        assert result.is_success is shared


@pytest.mark.parametrize("batch", [pytest.param(False, id="one by one", marks=pytest.mark.slow), BATCH])
def test_a_first_try_that_finds_another_store_is_sent_again_without_one(batch: bool) -> None:
    """Nothing has run yet. All calls between the change and the next heartbeat find it, more than the budget allows."""
    a, b = Named("one"), Named("one")
    with pair(a, b) as made:
        made.losing = set()
        a.told = b.told = "another"
        results = send(made, 150, batch)
        assert [result.value for result in results] == list(range(150))
        assert sorted(made.ran) == [("a", number) for number in range(150)]
        for result in results:
            assert [(each.delivery, each.code) for each in result.attempts] == [
                (Delivery.NOT_EXECUTED, ErrorCode.FAILED_PRECONDITION),
                (Delivery.EXECUTED, None),
            ]
            assert "idempotency" not in result.metadata


@one_by_one_and_in_a_batch
def test_what_the_first_node_has_noted_in_another_store_is_not_sent_to_the_second(batch: bool) -> None:
    """The second one has the store that both are believed to have, and would know nothing of it."""
    a, b = Named("one"), Named("one")
    with pair(a, b) as made:
        a.told = "another"
        results = send(made, 3, batch)
        assert sorted(made.ran) == [("a", 0), ("a", 1), ("a", 2)]
        for result in results:
            assert_told_the_truth(result)
            assert asked(result) == ["a", "a"]


@one_by_one_and_in_a_batch
def test_a_refusal_that_is_lost_counts_as_a_try_that_may_have_run(batch: bool) -> None:
    a, b = Named("one"), Named("one")
    with pair(a, b) as made:
        a.told = "another"
        made.losing, made.lost = {"a"}, {"0"}
        results = send(made, 3, batch)
        assert [result.value for result in results] == [0, 1, 2]
        assert sorted(made.ran) == [("b", 0), ("b", 1), ("b", 2)]


@pytest.mark.parametrize("options", [{"max_retries": 0}, {"enable_failover": False}], ids=str)
def test_a_call_that_is_tried_once_relies_on_no_store(options: dict[str, Any]) -> None:
    a, b = Named("one"), Named("one")
    with pair(a, b, **options) as made:
        made.losing = set()
        a.told = b.told = "another"
        result = made.client.send(Do())
        assert result.value == 0
        assert asked(result) == A_ALONE


def test_a_call_that_one_node_may_take_relies_on_no_store() -> None:
    a, b = Named("one"), Named("one")
    with pair(a, b) as made:
        made.losing = set()
        made.nodes["b"].close()
        until(lambda: len(made.client.nodes()) == 1, "the other one is gone")
        a.told = "another"
        result = made.client.send(Do())
        assert (result.value, asked(result)) == (0, A_ALONE)


def test_all_tries_have_one_id_where_a_behaviour_has_moved_the_call_to_a_thread_without_its_context() -> None:
    """With an id for each try the store would let each of them run."""

    def moved(proceed: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def handle(request: Any) -> Any:
            with ThreadPoolExecutor(1) as pool:
                return pool.submit(proceed, request).result()

        return handle

    store = Named("one")
    with pair(store, store) as made:
        made.client.add_behavior(moved)
        made.losing = {"a"}
        result = made.client.send(Do(7))
        assert (result.value, asked(result)) == (7, BOTH)
        assert made.ran == [("a", 7)]


def test_a_node_whose_store_does_not_tell_which_one_it_is_says_nothing_of_a_shared_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    a, b = Named(OSError("no such disk")), Named("one")
    with caplog.at_level(logging.INFO, "catga_sync.idempotency"), pair(a, b) as made:
        result = made.client.send(Do())
        assert asked(result) == A_ALONE
        assert [name for name, features in made.features.items() if tells_its_store(features)] == ["b"]
    (warning,) = [each.getMessage() for each in caplog.records if each.name.startswith("catga_sync.idempotency")]
    assert "no such disk" in warning
