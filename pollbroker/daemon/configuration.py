"""What a configuration comes to when everything in it is known: the brokers as they are added to an engine.

Two brokers of equal configuration do the same, so that a reload leaves the one alone whose configuration is equal.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

import zmq

from pollbroker.daemon.problems import Place, Problem
from pollbroker.daemon.tables import DefaultsTable, EngineTable, OptionValue
from pollbroker.daemon.wanted import WantedListener, bound_by_ports, listeners_of
from pollbroker.device import Device, Options
from pollbroker.endpoint import Endpoint
from pollbroker.limits import Limits
from pollbroker.opening import Plan, make_plan

DEFAULT_OPTIONS: Final[Mapping[str, OptionValue]] = {
    "maxmsgsize": 64 << 20,
    "handshake_ivl": 10_000,
    "linger": 1000,
}
"""Socket options of every port for which nothing else is said.

- `maxmsgsize`: libzmq has no limit, so that one frame of one peer could take all memory. 64 MiB is far above what
  brokers usually carry, and a few peers that abuse it do no harm. -1 lifts it.
- `handshake_ivl`, in ms: libzmq waits 30 s for a peer that has connected and says nothing.
- `linger`, in ms: libzmq would wait without end for a peer that takes nothing, and the daemon would not end.
"""


@dataclass(frozen=True)
class PortConfiguration:
    """One port of a broker."""

    endpoints: tuple[Endpoint, ...]
    options: Options
    """All that are set, by their names in lower case."""
    place: Place = field(compare=False)
    option_places: Mapping[str, Place] = field(default_factory=dict, compare=False)
    """Where the files say an option. Those that the device has, and the defaults of the daemon, are not among them."""

    def problem(self, text: str) -> Problem:
        """A problem with the port; if it is about `option NAME: ...`, where the files say that option."""
        name, _, rest = text.removeprefix("option ").partition(": ")
        place = self.option_places.get(name) if text.startswith("option ") else None
        return self.place.problem(text) if place is None else place.problem(rest)


@dataclass(frozen=True)
class BrokerConfiguration:
    """One broker."""

    name: str
    device_name: str
    """As the file says it."""
    device: Device
    """With the settings of its behaviour and its policies."""
    settings: Mapping[str, Any]
    """The settings that were given."""
    ports: Mapping[str, PortConfiguration]
    """The ports by name, with `capture` if there is one."""
    capture_type: zmq.SocketType
    capture_prefixes: Mapping[str, bytes] | None
    transport: str | None
    limits: Limits | None
    place: Place = field(compare=False)

    @cached_property
    def plan(self) -> Plan:
        """The ports as the engine would open them. Raises `DeviceError`, `EndpointError` or `ConfigError`."""
        return make_plan(
            self.name,
            self.device,
            {name: port.endpoints for name, port in self.ports.items()},
            {name: port.options for name, port in self.ports.items()},
            self.capture_type,
            self.transport,
            self.limits,
        )

    @cached_property
    def listeners(self) -> tuple[WantedListener, ...]:
        """The listeners that its ports are to have. Raises as `plan` does."""
        return tuple(listeners_of(self.name, self.plan))

    @property
    def bound_by_ports(self) -> tuple[WantedListener, ...]:
        """What its ports bind without a listener, in this order. Raises as `plan` does."""
        return tuple(bound_by_ports(self.name, self.plan))

    def arguments(self) -> dict[str, Any]:
        """The arguments of `Engine.add`."""
        return {
            "name": self.name,
            "device": self.device,
            "options": {name: dict(port.options) for name, port in self.ports.items()},
            "capture": None,
            "capture_type": self.capture_type,
            "capture_prefixes": self.capture_prefixes,
            "transport": self.transport,
            "limits": self.limits,
        } | {name: port.endpoints for name, port in self.ports.items()}


@dataclass(frozen=True)
class Defaults:
    """What holds for every broker that does not say otherwise."""

    table: DefaultsTable
    options: Mapping[str, OptionValue]
    """The socket options of every port for which neither its device nor its broker says anything."""
    option_places: Mapping[str, Place] = field(default_factory=dict, compare=False)
    """Where the files say an option."""


@dataclass(frozen=True)
class Configuration:
    """A whole configuration: the engine and its brokers."""

    engine: EngineTable = field(repr=False)  # the token is there
    control: tuple[Endpoint, ...]
    control_place: Place = field(compare=False)
    http: str | None
    """The host and the port at which metrics are served."""
    http_place: Place = field(compare=False)
    http_token: str | None = field(repr=False)
    """What whoever steers over HTTP has to know."""
    takeover: str | None
    """The path of the socket file at which the daemon waits for its successor."""
    takeover_place: Place = field(compare=False)
    brokers: Mapping[str, BrokerConfiguration]
    files: Sequence[str] = field(compare=False)
    """The files that were read."""
    defaults: Defaults = field(compare=False)
