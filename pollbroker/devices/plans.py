"""What is to happen to a socket before a device starts, as the device was told."""

from typing import Any

from pollbroker.devices.reserving import LISTENER_OPTIONS, ReservedPort
from pollbroker.pump import Socket


class SocketPlan:
    """The options, binds and connects of one socket of a device, in the order in which they were asked for."""

    def __init__(self) -> None:
        self.options: list[tuple[int, Any]] = []
        self.binds: list[str | ReservedPort] = []
        self.connects: list[str] = []

    def add_option(self, option: int, value: Any) -> None:
        """Note an option that is to be set. A random port has it at once, if it is one for listeners."""
        self.options.append((option, value))
        if option in LISTENER_OPTIONS:
            for address in self.binds:
                if isinstance(address, ReservedPort):
                    address.bind_anew(self.options)

    def set_options(self, socket: Socket) -> None:
        """Set the options. They come first, since most have no effect on what is bound or connected already."""
        for option, value in self.options:
            socket.setsockopt(option, value)

    def bind(self, socket: Socket) -> None:
        """Bind the socket."""
        for address in self.binds:
            if isinstance(address, ReservedPort):
                address.bind(socket)
            else:
                socket.bind(address)

    def connect(self, socket: Socket) -> None:
        """Connect the socket."""
        for address in self.connects:
            socket.connect(address)

    def release_ports(self) -> None:
        """Give up the random ports that are not bound to the socket yet."""
        for address in self.binds:
            if isinstance(address, ReservedPort):
                address.release()
