"""A forked child calls over connections of its own, and its parent goes on with those that it had."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable

import pytest

from tests.conftest import require_module

require_module("grpc")

from tests import processes  # noqa: E402
from tests.channels.nodes import Ask, Shout  # noqa: E402
from tests.grpc_calls.nodes import calling, wait_for  # noqa: E402
from tests.grpc_calls.test_evidence import process  # noqa: E402


def in_a_child(check: Callable[[], bool], fork: Callable[[], int]) -> bool:
    """Return what ``check`` returns in a forked child; False for one that hangs."""
    child = fork()
    if child == 0:
        try:
            os._exit(0 if check() else 1)
        except BaseException:
            os._exit(2)
    status: list[int] = []

    def ended() -> bool:
        pid, code = os.waitpid(child, os.WNOHANG)
        if pid:
            status.append(os.waitstatus_to_exitcode(code))
        return bool(status)

    try:
        wait_for(ended, 30)
    except AssertionError:
        os.kill(child, 9)
        os.waitpid(child, 0)
    return status == [0]


@pytest.mark.process
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize(
    "fork",
    [
        pytest.param(os.fork, id="Python"),
        pytest.param(ctypes.PyDLL(None).fork, id="C", marks=pytest.mark.slow),
    ],
)
def test_a_child_calls_and_its_parent_goes_on(fork: Callable[[], int]) -> None:
    endpoint = f"grpc://127.0.0.1:{processes.free_port()}"
    with process(endpoint) as node, calling(endpoint, insecure=True) as caller:
        assert caller.send(Shout("before")).unwrap() == "BEFORE"
        links = caller._sender._invoker._channel._made["grpc"]._links
        (parents,) = links.values()

        def check() -> bool:
            result = caller.send(Shout("child"))
            (childs,) = caller._sender._invoker._channel._made["grpc"]._links.values()
            return result.unwrap() == "CHILD" and childs is not parents

        assert in_a_child(check, fork)
        assert caller.send(Shout("after")).unwrap() == "AFTER"
        assert list(links.values()) == [parents]
        if fork is not os.fork:
            # A thread that is about to take Python's lock at a fork in C leaves it to the child as it was: for good.
            return
        # A call of the parent is under way: it goes on. What grpcio can do in such a child is not certain, see
        # docs/grpc.md.
        results = []
        running = threading.Thread(target=lambda: results.append(caller.send(Ask("tea"))))
        running.start()
        assert node.stdout is not None
        assert node.stdin is not None
        assert node.stdout.readline() == "runs\n"
        assert in_a_child(lambda: True, fork)
        node.stdin.write("\n")
        node.stdin.flush()
        running.join(30)
        assert results[0].unwrap() == "tea"
