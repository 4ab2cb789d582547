"""Socket options by name (`sndhwm`, `rcvhwm`, `maxmsgsize`, `tcp_keepalive`, ...), checked before they are set.

The names are those of zmq_setsockopt(3) without `ZMQ_`, in any case; pyzmq's `zmq.SocketOption` is the list.
"""

import os
import stat
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Final, TypeAlias

import zmq
from zmq import SocketOption, SocketType

from pollbroker.errors import ConfigError, did_you_mean

Value: TypeAlias = int | bytes

_NOT_FOR_USERS: Final = frozenset({"FD", "EVENTS", "TYPE", "RCVMORE", "LAST_ENDPOINT", "MECHANISM", "THREAD_SAFE"})
"""Options that can only be read."""

_ENGINE_OWNS: Final = frozenset({"SNDTIMEO", "RCVTIMEO"})
"""Timeouts of sends and receives. The engine never waits in either, so these would have no effect."""

_CUTS_MESSAGES: Final = "CONFLATE"
"""With this option a socket keeps only the last frame of a message (zmq_setsockopt(3)), so messages would be split."""

_SWITCH: Final = (0, 1)
_NOT_NEGATIVE: Final = (0, None)
_OR_DEFAULT: Final = (-1, None)
"""The value -1 means the system's default, no limit, or never, depending on the option."""

RANGES: Final[Mapping[str, tuple[int, int | None]]] = {
    "AFFINITY": _NOT_NEGATIVE,
    "BACKLOG": _NOT_NEGATIVE,
    "CONNECT_TIMEOUT": _NOT_NEGATIVE,
    "CURVE_SERVER": _SWITCH,
    "HANDSHAKE_IVL": _NOT_NEGATIVE,
    "HEARTBEAT_IVL": _NOT_NEGATIVE,
    "HEARTBEAT_TIMEOUT": _NOT_NEGATIVE,
    "HEARTBEAT_TTL": (0, 6_553_599),
    "IMMEDIATE": _SWITCH,
    "INVERT_MATCHING": _SWITCH,
    "IPC_FILTER_GID": _NOT_NEGATIVE,
    "IPC_FILTER_PID": _NOT_NEGATIVE,
    "IPC_FILTER_UID": _NOT_NEGATIVE,
    "IPV4ONLY": _SWITCH,
    "IPV6": _SWITCH,
    "LINGER": _OR_DEFAULT,
    "LOOPBACK_FASTPATH": _SWITCH,
    "MAXMSGSIZE": _OR_DEFAULT,
    "MULTICAST_HOPS": (1, None),
    "MULTICAST_LOOP": _SWITCH,
    "MULTICAST_MAXTPDU": (1, None),
    "ONLY_FIRST_SUBSCRIBE": _SWITCH,
    "PLAIN_SERVER": _SWITCH,
    "PROBE_ROUTER": _SWITCH,
    "RATE": (1, None),
    "RCVBUF": _OR_DEFAULT,
    "RCVHWM": _NOT_NEGATIVE,
    "RECONNECT_IVL": _OR_DEFAULT,
    "RECONNECT_IVL_MAX": _NOT_NEGATIVE,
    "RECONNECT_STOP": (0, 7),  # the sum of 1 (refused), 2 (the handshake has failed) and 4 (after a disconnect)
    "RECOVERY_IVL": _NOT_NEGATIVE,
    "REQ_CORRELATE": _SWITCH,
    "REQ_RELAXED": _SWITCH,
    "ROUTER_HANDOVER": _SWITCH,
    "ROUTER_MANDATORY": _SWITCH,
    "ROUTER_RAW": _SWITCH,
    "SNDBUF": _OR_DEFAULT,
    "SNDHWM": _NOT_NEGATIVE,
    "STREAM_NOTIFY": _SWITCH,
    "TCP_KEEPALIVE": (-1, 1),
    "TCP_KEEPALIVE_CNT": _OR_DEFAULT,
    "TCP_KEEPALIVE_IDLE": _OR_DEFAULT,
    "TCP_KEEPALIVE_INTVL": _OR_DEFAULT,
    "TCP_MAXRT": _NOT_NEGATIVE,
    "TOS": _NOT_NEGATIVE,
    "XPUB_MANUAL": _SWITCH,
    "XPUB_MANUAL_LAST_VALUE": _SWITCH,
    "XPUB_NODROP": _SWITCH,
    "XPUB_VERBOSE": _SWITCH,
    "XPUB_VERBOSER": _SWITCH,
    "ZAP_ENFORCE_DOMAIN": _SWITCH,
}
"""The least and the greatest value (None: no bound) of each option whose values are integers, from zmq_setsockopt(3).
They are checked here, since libzmq answers most wrong values with "Invalid argument" only, and accepts some that it
cannot use. Those options are missing that the libzmq of pyzmq's wheels was built without, and so refuses at every
socket."""

_ROUTERS: Final = frozenset({SocketType.ROUTER, SocketType.REP})
_PUBLISHERS: Final = frozenset({SocketType.XPUB, SocketType.PUB})

FITTING: Final[Mapping[str, frozenset[SocketType]]] = {
    "CONNECT_ROUTING_ID": _ROUTERS | {SocketType.STREAM},
    "HWM": frozenset(),
    "ONLY_FIRST_SUBSCRIBE": _PUBLISHERS | {SocketType.XSUB},
    "PROBE_ROUTER": _ROUTERS | {SocketType.DEALER, SocketType.REQ},
    "REQ_CORRELATE": frozenset({SocketType.REQ}),
    "REQ_RELAXED": frozenset({SocketType.REQ}),
    "ROUTER_HANDOVER": _ROUTERS,
    "ROUTER_MANDATORY": _ROUTERS,
    "ROUTER_RAW": _ROUTERS,
    "STREAM_NOTIFY": frozenset({SocketType.STREAM}),
    "SUBSCRIBE": frozenset({SocketType.SUB}),
    "UNSUBSCRIBE": frozenset({SocketType.SUB}),
    "XPUB_MANUAL": _PUBLISHERS,
    "XPUB_MANUAL_LAST_VALUE": _PUBLISHERS,
    "XPUB_NODROP": _PUBLISHERS,
    "XPUB_VERBOSE": _PUBLISHERS,
    "XPUB_VERBOSER": _PUBLISHERS,
    "XPUB_WELCOME_MSG": _PUBLISHERS,
}
"""The types of sockets at which libzmq takes an option, where it does not take it at all (zmq_setsockopt(3), and, since
its REP is made of its ROUTER and its PUB of its XPUB, its source). None has HWM any more, since ZeroMQ 3."""

_BYTES: Final = frozenset(
    {
        "BINDTODEVICE", "CONNECT_ROUTING_ID", "CURVE_PUBLICKEY", "CURVE_SECRETKEY", "CURVE_SERVERKEY", "DISCONNECT_MSG",
        "GSSAPI_PRINCIPAL", "GSSAPI_SERVICE_PRINCIPAL", "HELLO_MSG", "HICCUP_MSG", "LAST_ENDPOINT", "METADATA",
        "PLAIN_PASSWORD", "PLAIN_USERNAME", "ROUTING_ID", "SOCKS_PASSWORD", "SOCKS_PROXY", "SOCKS_USERNAME",
        "SUBSCRIBE", "TCP_ACCEPT_FILTER", "UNSUBSCRIBE", "WSS_CERT_PEM", "WSS_HOSTNAME", "WSS_KEY_PEM",
        "WSS_TRUST_PEM", "XPUB_WELCOME_MSG", "ZAP_DOMAIN",
    }
)  # fmt: skip
_LONG: Final = frozenset({"AFFINITY", "MAXMSGSIZE", "VMCI_BUFFER_MAX_SIZE", "VMCI_BUFFER_MIN_SIZE", "VMCI_BUFFER_SIZE"})
"""Options whose values are bytes (`_BYTES`) or integers of 64 bits (`_LONG`), from zmq_setsockopt(3). The values of all
others are integers of 32 bits."""

SECRET: Final = frozenset({"CURVE_SECRETKEY", "PLAIN_PASSWORD", "SOCKS_PASSWORD", "WSS_KEY_PEM"})
"""Options whose values no message repeats."""

NEEDED: Final[Mapping[str, tuple[tuple[str, ...], str]]] = {
    # libzmq 4.3.5 aborts the whole process at the first client (assertion in plain_server.cpp).
    "ZAP_ENFORCE_DOMAIN": (("ZAP_DOMAIN",), ""),
    "CURVE_SERVER": (("CURVE_SECRETKEY",), "nobody could connect: the server has no key; "),
    "CURVE_SERVERKEY": (
        ("CURVE_PUBLICKEY", "CURVE_SECRETKEY"),
        "no connection could be made: a client of CURVE has a key of its own; ",
    ),
}
"""Options without which others are wrong: for each of these the options that it needs, and why, for the error."""

_REPEATABLE: Final = frozenset({"SUBSCRIBE", "UNSUBSCRIBE", "TCP_ACCEPT_FILTER"})


def parse_options(where: str, options: Mapping[str, object]) -> list[tuple[SocketOption, Value]]:
    """Options by name as pairs to set, in the given order. An option that can be set repeatedly, such as `subscribe`,
    may have a list of values. Each option is checked by itself; see `check_complete`.

    Raises `ConfigError`, which names the place `where`, the option and what was expected.
    """
    if not isinstance(options, Mapping):
        raise ConfigError(f"{where}: {options!r}: expected a mapping of socket options by name")
    parsed: list[tuple[SocketOption, Value]] = []
    for name, given in options.items():
        known = _known_number(name, given) if type(given) is int and type(name) is str else None
        if known is not None:
            parsed.append(known)
            continue
        option = _find(where, name)
        parsed += [(option, _checked(f"{where}: option {name}", option, value)) for value in _values(option, given)]
    return parsed


def check_complete(where: str, options: Iterable[tuple[SocketOption, Value]]) -> None:
    """Raise `ConfigError` for an option without those that it needs beside it. The options are all those of a socket,
    parsed."""
    values = {option.name: value for option, value in options if value}
    for name, (needed, why) in NEEDED.items():
        lacking = " and ".join(f"a {one.lower()}" for one in needed if one not in values)
        if name in values and lacking:
            raise ConfigError(f"{where}: option {name.lower()}: {why}expected {lacking} beside it")


@lru_cache
def _known_number(name: str, value: int) -> tuple[SocketOption, Value] | None:
    """An option and a number that is good for it; None if there is something to be said, or it is good for now only.
    Many brokers have the same ones."""
    try:
        option = _find("", name)
        return None if option is SocketOption.USE_FD else (option, _checked("", option, value))
    except ConfigError:
        return None


def check_fit(where: str, socket_type: int, options: Iterable[tuple[SocketOption, object]]) -> None:
    """Raise `ConfigError` for an option that libzmq does not take at this type of socket, whatever its value."""
    for option, value in options:
        types = FITTING.get(option.name)
        if types is not None and socket_type not in types:
            fitting = " or ".join(sorted(kind.name for kind in types))
            expected = f"it is for {fitting}" if fitting else "expected sndhwm or rcvhwm"
            raise ConfigError(
                f"{where}: option {option.name.lower()}: libzmq refuses {value!r} for a "
                f"{SocketType(socket_type).name} socket, and so does the wire: {expected}"
            )


def set_options(where: str, socket: zmq.Socket[Any], options: Iterable[tuple[SocketOption, Value]]) -> None:
    """Set parsed options on a new socket. Raises `ConfigError` for an option that libzmq refuses for this socket
    type."""
    for option, value in options:
        try:
            socket.setsockopt(option, value)
        except zmq.ZMQError as error:
            kind = zmq.SocketType(int(socket.getsockopt(zmq.TYPE))).name
            shown = "the value" if option.name in SECRET else repr(value)
            raise ConfigError(
                f"{where}: option {option.name.lower()}: libzmq refuses {shown} for a {kind} socket: {error.strerror}"
            ) from error


def _find(where: str, name: str) -> SocketOption:
    option = SocketOption.__members__.get(name.upper()) if isinstance(name, str) else None
    if option is None:
        refused = {*_NOT_FOR_USERS, *_ENGINE_OWNS, _CUTS_MESSAGES}
        settable = [one.lower() for one in SocketOption.__members__ if one not in refused]
        raise ConfigError(f"{where}: {name!r} is not a socket option{did_you_mean(str(name), settable) or ''}")
    if option.name in _NOT_FOR_USERS:
        raise ConfigError(f"{where}: option {name}: this option can only be read")
    if option.name in _ENGINE_OWNS:
        raise ConfigError(
            f"{where}: option {name}: it would have no effect, since the engine never waits in a send or a receive"
        )
    if option.name == _CUTS_MESSAGES:
        raise ConfigError(
            f"{where}: option {name}: it keeps only the last frame of a message; expected a high-water mark"
        )
    return option


def _values(option: SocketOption, given: object) -> list[object]:
    if option.name in _REPEATABLE and isinstance(given, Iterable) and not isinstance(given, (bytes, str)):
        return list(given)
    return [given]


def _checked(where: str, option: SocketOption, value: object) -> Value:
    if option.name in _BYTES:
        if isinstance(value, str):
            try:
                return value.encode()
            except UnicodeEncodeError:
                raise ConfigError(f"{where}: {value!a}: expected bytes, or text in UTF-8") from None
        if isinstance(value, bytes):
            return value
        raise ConfigError(f"{where}: {value!r}: expected bytes or a string")
    if isinstance(value, bool):
        return int(value)
    if not isinstance(value, int):
        raise ConfigError(f"{where}: {value!r}: expected an integer")
    bits = 63 if option.name in _LONG else 31
    if not -(2**bits) <= value < 2**bits:
        raise ConfigError(f"{where}: {value!r}: expected an integer of {bits + 1} bits")
    least, most = RANGES.get(option.name, (value, None))
    if value < least or (most is not None and value > most):
        expected = (
            f"{least} or more" if most is None else "0 or 1" if (least, most) == _SWITCH else f"{least} to {most}"
        )
        raise ConfigError(f"{where}: {value!r}: expected {expected}")
    if option is SocketOption.USE_FD and value != -1 and not _is_socket(value):
        raise ConfigError(
            f"{where}: {value!r}: expected the descriptor of an open socket"
        )  # otherwise libzmq would abort the process
    return value


def _is_socket(descriptor: int) -> bool:
    try:
        return stat.S_ISSOCK(os.fstat(descriptor).st_mode)
    except (OSError, OverflowError):
        return False
