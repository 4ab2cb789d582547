"""The tables of a configuration file: each key, its type and its meaning.

The reader, the JSON Schema of `pollbroker schema` and the reference page are made from these structures. A broker's
table has one more key for each port of its device, so that its ports are not among the fields here.
"""

from typing import Annotated, Any, Final, Literal, TypeAlias

from msgspec import UNSET, Meta, Struct, UnsetType

OptionValue: TypeAlias = int | str | bool | list[str]
"""The value of a socket option. A list is for options that can be set repeatedly, such as `subscribe`."""

Options: TypeAlias = dict[str, OptionValue]

Addresses: TypeAlias = str | list[str]

Positive: TypeAlias = Annotated[int, Meta(ge=1, le=(1 << 63) - 1)]
Seconds: TypeAlias = Annotated[float, Meta(ge=0, le=1_000_000)]


def _says(description: str) -> Meta:
    return Meta(description=description)


class PortTable(Struct, forbid_unknown_fields=True, kw_only=True):
    """A port as a table. The short form is a string, or a list of strings, of endpoints in which `@` (or no mark) binds
    and `>` connects."""

    bind: Annotated[Addresses | UnsetType, _says("Addresses to bind, such as `tcp://*:5559`.")] = UNSET
    connect: Annotated[Addresses | UnsetType, _says("Addresses to connect to, such as `tcp://host:5559`.")] = UNSET
    options: Annotated[Options | UnsetType, _says("Socket options of this port, by name.")] = UNSET


PortValue: TypeAlias = str | list[str] | PortTable
"""What the key of a port may be."""


class EngineTable(Struct, forbid_unknown_fields=True, kw_only=True):
    """The engine, and the daemon as a whole."""

    control: Annotated[
        str | list[str] | UnsetType,
        _says(
            "Endpoints for the commands of `pollbroker ctl`. Whoever reaches one can stop the daemon. By default "
            "`$RUNTIME_DIRECTORY/control`, or `$XDG_RUNTIME_DIR/pollbroker/control`; `[]` is none."
        ),
    ] = UNSET
    control_from_network: Annotated[
        bool, _says("Allow a control socket that other machines can reach; `check` refuses it otherwise.")
    ] = False
    tap_bodies: Annotated[bool, _says("Allow `pollbroker ctl tap --bodies`, which shows the contents of messages.")] = (
        False
    )
    http: Annotated[
        str | UnsetType,
        _says(
            "Where the status page (`/`), metrics (`/metrics`), health (`/livez`, `/readyz`) and statistics (`/statz`) "
            "are served over HTTP, such as `127.0.0.1:9464`. Whoever reaches it can read them."
        ),
    ] = UNSET
    http_token: Annotated[
        str | UnsetType,
        _says(
            "Whoever knows this token may pause, resume and drain brokers from the status page: 16 characters or more, "
            "all printable ASCII, without spaces. Better `${NAME}`, from the environment. By default nobody may."
        ),
    ] = UNSET
    takeover: Annotated[
        str | UnsetType,
        _says(
            "The path of a socket file at which `pollbroker run --takeover` takes the place of this daemon, without a "
            "connection being refused. Only the same user can."
        ),
    ] = UNSET
    drain_timeout_s: Annotated[
        Seconds,
        _says("How long an end, or the end of a broker in a reload, may take, to deliver what the brokers have."),
    ] = 5.0
    burst_messages: Annotated[
        Positive, _says("The most messages that one direction of one broker moves in one turn.")
    ] = 1000
    burst_bytes: Annotated[Positive, _says("The most bytes that one direction of one broker moves in one turn.")] = (
        1 << 20
    )
    spin_s: Annotated[
        Annotated[float, Meta(ge=0, le=0.01)], _says("How long the engine asks for more before it falls asleep.")
    ] = 0.0
    pump: Annotated[
        Literal["native", "python"] | UnsetType,
        _says("Which pump moves messages. By default the variable POLLBROKER_PUMP decides."),
    ] = UNSET
    waiter: Annotated[
        Literal["nested", "flat"] | UnsetType,
        _says("What waits for sockets. By default the variable POLLBROKER_WAITER decides."),
    ] = UNSET


Transport: TypeAlias = Literal["auto", "wire", "libzmq"]
SlowPeer: TypeAlias = Literal["drop", "wait"]
Distribution: TypeAlias = Literal["round_robin", "least_outstanding"]

_TRANSPORT: Final = _says("What serves the ports. By default the variable POLLBROKER_TRANSPORT decides.")
_SLOW_PEER: Final = _says(
    "What becomes at a ROUTER of a message for a peer that is full while others are not. By default what the device "
    "says."
)
_MAXFRAMES: Final = _says("The most frames that a message may have. By default what the device says.")


_DISTRIBUTION: Final = _says(
    "Which peer of a DEALER or PUSH port is given the next message. With `least_outstanding` the wire serves the port. "
    "By default what the device says."
)
_LIMITS: Final = _says("How much the peers of each port may take. The wire then serves its ports.")


class LimitsTable(Struct, forbid_unknown_fields=True, kw_only=True):
    """How much the peers of a port may take. Only ports of the wire have limits."""

    connections: Annotated[Positive | UnsetType, _says("Connections of one port; 100,000 by default.")] = UNSET
    connections_per_address: Annotated[
        Positive | UnsetType, _says("Connections of one port from one IP address. By default as many as it may have.")
    ] = UNSET
    handshakes: Annotated[
        Positive | UnsetType, _says("Connections of one port that have yet to shake hands; 10,000 by default.")
    ] = UNSET
    subscriptions: Annotated[
        Positive | UnsetType, _says("Topics that one peer may subscribe to; 100,000 by default.")
    ] = UNSET
    subscription_bytes: Annotated[Positive | UnsetType, _says("The length of such a topic; 4,096 by default.")] = UNSET


class _Policies(Struct, kw_only=True):
    """What may be said of one broker, and of all."""

    transport: Annotated[Transport | UnsetType, _TRANSPORT] = UNSET
    slow_peer: Annotated[SlowPeer | UnsetType, _SLOW_PEER] = UNSET
    maxframes: Annotated[Positive | UnsetType, _MAXFRAMES] = UNSET
    distribution: Annotated[Distribution | UnsetType, _DISTRIBUTION] = UNSET
    limits: Annotated[LimitsTable | UnsetType, _LIMITS] = UNSET


class DefaultsTable(_Policies, forbid_unknown_fields=True, kw_only=True):
    """What holds for every broker that does not say otherwise."""

    options: Annotated[
        Options | UnsetType, _says("Socket options of every port, where neither the device nor the broker sets them.")
    ] = UNSET


class BrokerTable(_Policies, kw_only=True):
    """One broker. Each port of its device is one more key: an endpoint, a list of them, or a table."""

    device: Annotated[str, _says("The name of a device, such as `queue`, or `module:NAME` for a Device of your own.")]
    capture: Annotated[
        PortValue | UnsetType, _says("A port that is given a copy of every message that is sent on.")
    ] = UNSET
    capture_type: Annotated[Literal["PUB", "PUSH", "DEALER", "PAIR"], _says("The socket type of the capture port.")] = (
        "PUB"
    )
    capture_prefixes: Annotated[
        dict[str, str] | UnsetType,
        _says("A frame before each captured message, by the name of the port that the message came from."),
    ] = UNSET
    options: Annotated[Options | UnsetType, _says("Socket options of all ports of the broker but capture.")] = UNSET
    settings: Annotated[
        dict[str, Any] | UnsetType, _says("The settings of the device's behaviour, such as `max_wait_s`.")
    ] = UNSET


class FileTable(Struct, forbid_unknown_fields=True, kw_only=True):
    """A whole file."""

    include: Annotated[
        list[str] | UnsetType,
        _says("More files, relative to this one; `*` stands for any name. They are read in the order of their names."),
    ] = UNSET
    engine: Annotated[EngineTable | UnsetType, _says("The engine, and the daemon as a whole.")] = UNSET
    defaults: Annotated[DefaultsTable | UnsetType, _says("What holds for every broker.")] = UNSET
    brokers: Annotated[dict[str, BrokerTable] | UnsetType, _says("The brokers by name.")] = UNSET
