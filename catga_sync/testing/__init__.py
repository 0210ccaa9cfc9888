"""Tools for testing: a clock that tests move, and a whole cluster in one process on it, with scripted faults.

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
from catga_sync.testing.network import Fault
from catga_sync.testing.simulation import Execution, SimulatedNode, Simulation

__all__ = ["Execution", "FakeClock", "Fault", "SimulatedNode", "Simulation"]
