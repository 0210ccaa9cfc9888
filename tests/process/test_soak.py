"""Half a minute of calls from 32 threads against two gunicorn nodes: no error, no crossed answer, no growth."""

from __future__ import annotations

import threading
import time

import pytest

from catga_sync import ClusterMediator
from tests.conftest import require_module
from tests.process.messages import Ask, Do
from tests.process.nodes import node, wait_for

require_module("gunicorn")
psutil = require_module("psutil")

pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.xdist_group("soak")]

THREADS = 32


@pytest.mark.parametrize(
    ("burst", "silence"), [(1, 0.0), (20, 3.0)], ids=["all the time", "bursts with 3 s of silence between them"]
)
def test_half_a_minute_of_calls(client: ClusterMediator, cluster_name: str, burst: int, silence: float) -> None:
    with node("n1", cluster_name), node("n2", cluster_name):
        wait_for(client, "n1", "n2")
        me = psutil.Process()
        end = time.monotonic() + 30
        wrong: list[object] = []
        made = [0] * THREADS
        pause = threading.Event()

        def call(thread: int) -> None:
            while time.monotonic() < end:
                for _ in range(burst):
                    text = f"{thread}-{made[thread]}"
                    result = client.send((Do if made[thread] % 2 else Ask)(text))
                    made[thread] += 1
                    if not result.is_success or result.value is None or result.value.text != text:
                        wrong.append((result, result.attempts))
                if silence:
                    # Longer than the 2 s for which gunicorn keeps an idle connection.
                    pause.wait(silence)

        threads = [threading.Thread(target=call, args=(n,)) for n in range(THREADS)]
        for thread in threads:
            thread.start()
        sizes = []
        for _ in range(4):
            pause.wait(5)
            sizes.append((me.num_fds(), me.num_threads()))
        for thread in threads:
            thread.join()
        print(f"{sum(made)} calls; descriptors and threads every 5 s: {sizes}")
        assert wrong == []
        assert max(fds for fds, _ in sizes) <= sizes[0][0] + 2 * THREADS
        assert max(count for _, count in sizes) <= sizes[0][1] + 2
