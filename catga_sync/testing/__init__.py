"""Tools for testing: a mediator whose responses are given, a cluster in one process, faults by script.

For the tests of an app, see docs/testing.md:

    FakeMediator       stands for the mediator of the code under test
    override_handler   another handler for a while
    transparent        local calls go through write and read
    LocalCluster       several nodes in one process

A ``Simulation`` is a cluster on a virtual clock: the same seed and script give the same run.

with Simulation(seed=1) as sim:
    sim.add_node("a", handlers)
    sim.add_node("b", handlers)
    client = sim.add_client()
    sim.run(10)
    sim.network.script(Fault.DROP_RESPONSE, target="a")
    result = client.send(Order("7"))
    sim.assert_at_most_once()
"""

from catga_sync.testing.clock import FakeClock
from catga_sync.testing.fake import Expectation, FakeMediator, UnexpectedRequest
from catga_sync.testing.local_cluster import LocalCluster
from catga_sync.testing.network import Fault
from catga_sync.testing.overriding import override_handler
from catga_sync.testing.simulation import Execution, SimulatedNode, Simulation
from catga_sync.testing.transparency import ChangedOnTheWire, transparent

__all__ = [
    # For the tests of an app
    "ChangedOnTheWire",
    "Expectation",
    "FakeMediator",
    "Fault",
    "LocalCluster",
    "UnexpectedRequest",
    "override_handler",
    "transparent",
    # A cluster on a virtual clock
    "Execution",
    "FakeClock",
    "SimulatedNode",
    "Simulation",
]
