"""How the ports of a simulation listen and connect, in the place of `pollbroker.wire.streams` and `connecting`."""

from collections.abc import Callable, Mapping

from pollbroker.testing.streams.network import StreamNetwork
from pollbroker.wire.connecting import Connection
from pollbroker.wire.native import Port
from pollbroker.wire.streams import Listening, Timing


class SimulatedStreams:
    """See `pollbroker.wire.opening.Streams`."""

    def __init__(self, network: StreamNetwork, clock: Callable[[], float]) -> None:
        self.clock: Callable[[], float] | None = clock
        self._network = network

    def listen(self, port: Port, address: str, options: Mapping[str, int]) -> Listening:  # noqa: ARG002 - of sockets
        """Listen at an address of the simulation."""
        return SimulatedListening(self._network, port, address)

    def connect(
        self,
        port: Port,
        address: str,
        options: Mapping[str, int],  # noqa: ARG002 - of sockets
        timing: Timing,  # noqa: ARG002 - no connection is made again
    ) -> Connection:
        """Connect to an address of the simulation, once."""
        return SimulatedConnection(self._network, port, address)


class SimulatedListening(Listening):
    """A port that listens."""

    def __init__(self, network: StreamNetwork, port: Port, address: str) -> None:
        self.address = self.asked_for = address
        self._network = network
        network.listen(address, port)

    def close(self) -> None:
        """Accept no more connections."""
        self._network.stop_listening(self.address)


class SimulatedConnection(Connection):
    """A connection from a port to another one."""

    def __init__(self, network: StreamNetwork, port: Port, address: str) -> None:
        self.address = self.asked_for = address
        network.connect_port(address, port)

    def close(self) -> None:
        """Do nothing: the connection ends with its port."""
