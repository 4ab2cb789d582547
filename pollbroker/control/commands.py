"""Control: steering a running engine through a ZeroMQ socket, with the commands of libzmq's zmq_proxy_steerable.

Scripts written for libzmq's steerable proxy can steer an engine unchanged. docs/control.md describes what goes beyond
it.

- `Control` is sans-I/O: it is given the frames of one command and returns the frames of the reply. `attach` connects it
  to a socket.
- A command is carried out whole, or refused with `ERROR` and one line that says why. If it is refused, nothing has
  changed.
- No frame that a peer sends raises an exception. A REP socket answers every command, because it could not receive
  another one before.
"""

import json
import logging
import math
import struct
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from functools import partial
from itertools import product
from typing import Final, Protocol, TypeAlias

import zmq

from pollbroker.broker import Broker
from pollbroker.device import CAPTURE
from pollbroker.errors import ConfigError, ControlError, EngineError, PollbrokerError, did_you_mean
from pollbroker.frozen import FrozenDict
from pollbroker.states import BrokerState
from pollbroker.statistics import BrokerStatistics, EngineStatistics, PeerStatistics

_logger = logging.getLogger("pollbroker")

Frames: TypeAlias = list[bytes]

OK: Final = b"OK"
ERROR: Final = b"ERROR"
_DONE: Final[Frames] = [b""]

_SOCKET_TYPES: Final = (zmq.REP, zmq.PAIR, zmq.SUB, zmq.ROUTER)
_UNANSWERED: Final = ([b"PAUSE"], [b"RESUME"], [b"TERMINATE"])
"""The commands without a reply at a PAIR socket, as in libzmq except its release 4.3.5 (libzmq #4600)."""

_SHOWN_CHARACTERS: Final = 60
"""How many characters of a peer's frame an error message repeats."""

_LOG_INTERVAL_S: Final = 1.0


class Steered(Protocol):
    """What commands are carried out on: an `Engine`, or what shows a part of one."""

    @property
    def brokers(self) -> Mapping[str, Broker]: ...

    def pause(self, broker: str, /) -> None: ...

    def resume(self, broker: str, /) -> None: ...

    def stop(self) -> None: ...

    def remove(self, broker: str, /, *, timeout_s: float) -> BrokerStatistics: ...

    def statistics(self) -> EngineStatistics: ...

    def broker_statistics(self, broker: str, /) -> BrokerStatistics: ...


class Control:
    """Carries out the commands that come in at a control socket of one type: REP, PAIR, SUB or ROUTER.

    `commands` are further ones by their names, each with what it calls. They are answered as PAUSE is.

    Raises `ConfigError` for any other type.
    """

    def __init__(
        self, engine: Steered, socket_type: int = zmq.REP, commands: Mapping[bytes, Callable[[], object]] = FrozenDict()
    ) -> None:
        if socket_type not in _SOCKET_TYPES:
            found = getattr(socket_type, "name", socket_type)
            raise ConfigError(f"control: a {found} socket cannot take commands; expected REP, PAIR, SUB or ROUTER")
        self._engine = engine
        self._type = socket_type
        further = {verb: partial(_call, call) for verb, call in commands.items()}
        self._commands: Mapping[bytes, Callable[[Steered, str | None], Frames]] = {**_COMMANDS, **further}
        self.more_commands: Mapping[bytes, Callable[[Frames], Frames | Future[Frames]]] = FrozenDict()
        """Commands that take frames of their own, or are answered later: each is called with the frames behind it, and
        returns those of the reply, or a future for them, which is resolved in the engine's thread."""
        self.answer_later: Callable[[Frames], None] = lambda _: None
        """Called, in the engine's thread, with each reply that comes later."""
        self._warn = make_seldom_warning()

    def handle(self, frames: Frames) -> Frames | None:
        """Carry out one command and return the reply, or None where this type of socket sends none.

        Both are whole messages of the socket. Those of a ROUTER begin with an envelope: the routing id, or, if the
        client sent an empty delimiter as a REQ does, all frames up to the delimiter. No `frames` raise an exception.
        """
        length = _envelope_length(frames) if self._type == zmq.ROUTER else 0
        envelope, command = frames[:length], frames[length:]
        try:
            if command and command[0] in self.more_commands:
                later = self._begin(envelope, command)
                if later is None:
                    return None
                reply = later
            else:
                reply = self._carry_out(command)
        except PollbrokerError as error:
            reply = _refusal(str(error))
        except Exception as error:  # noqa: BLE001 - a REP socket must answer, whatever happened
            self._warn("control: a command raised", exc_info=error)
            reply = _refusal(f"the engine failed to carry it out: {error!r}")
        if self._type == zmq.SUB:
            if reply[0] == ERROR:
                self._warn("control: %s", reply[1].decode())
            return None
        if self._type == zmq.PAIR and command in _UNANSWERED and reply == _DONE:
            return None
        return envelope + reply

    def _begin(self, envelope: Frames, command: Frames) -> Frames | None:
        """Carry out one of `more_commands`. Return None if the reply comes later."""
        if self._type != zmq.ROUTER:
            found = getattr(self._type, "name", self._type)
            raise ControlError(f"{command[0].decode()}: a {found} socket cannot answer later; expected REP or ROUTER")
        answer = self.more_commands[command[0]](command[1:])
        if not isinstance(answer, Future):
            return answer
        answer.add_done_callback(lambda done: self.answer_later(envelope + self._result_of(done)))
        return None

    def _result_of(self, answer: "Future[Frames]") -> Frames:
        error = answer.exception()
        if error is None:
            return answer.result()
        if not isinstance(error, PollbrokerError):
            self._warn("control: a command raised", exc_info=error)
        return _refusal(str(error) or repr(error))

    def _carry_out(self, command: Frames) -> Frames:
        """Carry out a command and return the reply. For an invalid command, change nothing and raise
        `PollbrokerError`."""
        every = [*self._commands, *self.more_commands]
        expected = ", ".join(verb.decode() for verb in every)
        if not command:
            raise ControlError(f"an empty message; expected {expected}")
        verb, *names = command
        carry_out = self._commands.get(verb)
        if carry_out is None:
            near = did_you_mean(verb.decode(errors="backslashreplace"), (known.decode() for known in every))
            raise ControlError(f"{shown(verb)} is not a command{near or f'; expected {expected}'}")
        most = 1 if verb in _FOR_A_BROKER else 0
        if len(names) > most:
            fits = "the command and a broker's name" if most else "the command alone"
            raise ControlError(f"{verb.decode()}: {len(command)} frames; expected {fits}")
        return carry_out(self._engine, _find(self._engine, verb, names[0]) if names else None)


def _envelope_length(frames: Frames) -> int:
    """The number of frames in the envelope of a ROUTER's message.

    An empty frame at the end of the message is an empty command, and not a delimiter.
    """
    try:
        return frames.index(b"", 1, -1) + 1
    except ValueError:
        return 1


def _find(engine: Steered, verb: bytes, frame: bytes) -> str:
    try:
        name = frame.decode()
    except UnicodeDecodeError:
        raise ControlError(f"{verb.decode()}: {shown(frame)}: expected a broker's name in UTF-8") from None
    known = engine.brokers
    if name not in known:
        some = ", ".join(list(known)[:10]) + (", ..." if len(known) > 10 else "")
        near = did_you_mean(name, known) or f"; there are: {some or 'none'}"
        raise ControlError(f"{verb.decode()}: no broker is named {shown(frame)}{near}")
    return name


def _steer(engine: Steered, steer: Callable[[str], None], name: str | None) -> Frames:
    if name is not None:
        steer(name)
        return _DONE
    for each, broker in engine.brokers.items():
        try:
            steer(each)
        except EngineError:
            if broker.state in (BrokerState.RUNNING, BrokerState.PAUSED):
                raise  # a broker that has ended or is about to must not keep the others from being steered
    return _DONE


def _terminate(engine: Steered, name: str | None) -> Frames:
    if name is None:
        engine.stop()
    else:
        engine.remove(name, timeout_s=0.0)
    return _DONE


def _statistics(engine: Steered, name: str | None) -> Frames:
    """The first port of a device counts as libzmq's frontend, all others as its backend; captured copies nowhere."""
    counts = dict.fromkeys(product(("frontend", "backend"), ("received", "sent"), ("frames", "bytes")), 0)
    for broker in engine.statistics().brokers.values() if name is None else (engine.broker_statistics(name),):
        ports = [port for name, port in broker.ports.items() if name != CAPTURE]
        for index, port in enumerate(ports):
            side = "backend" if index else "frontend"
            # libzmq counts what its proxy with one socket sends as the backend's.
            for of, way in ((side, "received"), ("backend" if len(ports) == 1 else side, "sent")):
                for unit in ("frames", "bytes"):
                    counts[of, way, unit] += getattr(port, f"{way}_{unit}")
    return [struct.pack("=Q", count % (1 << 64)) for count in counts.values()]


def _call(call: Callable[[], object], engine: Steered, name: str | None) -> Frames:  # noqa: ARG001 - as the others
    call()
    return _DONE


def _list(engine: Steered, _: str | None) -> Frames:
    return [OK, *(name.encode() for name in engine.brokers)]


def _stats(engine: Steered, name: str | None) -> Frames:
    statistics = engine.statistics() if name is None else engine.broker_statistics(name)
    return [OK, json.dumps(statistics, default=vars).encode()]


def _peers(engine: Steered, name: str | None) -> Frames:
    brokers = engine.brokers
    told = {each: list(map(_as_json, brokers[each].peers())) for each in (brokers if name is None else (name,))}
    return [OK, json.dumps(told if name is None else told[name]).encode()]


def _as_json(peer: PeerStatistics) -> dict[str, object]:
    """The fields of a peer. A routing id that is not printable text is told in hexadecimal digits."""
    try:
        routing_id = peer.routing_id.decode()
    except UnicodeDecodeError:
        routing_id = ""
    if not routing_id.isprintable() or not routing_id:
        routing_id = f"0x{peer.routing_id.hex()}" if peer.routing_id else ""
    return vars(peer) | {"routing_id": routing_id}


_COMMANDS: Final[Mapping[bytes, Callable[[Steered, str | None], Frames]]] = {
    b"PAUSE": lambda engine, name: _steer(engine, engine.pause, name),
    b"RESUME": lambda engine, name: _steer(engine, engine.resume, name),
    b"TERMINATE": _terminate,
    b"STATISTICS": _statistics,
    b"LIST": _list,
    b"STATS": _stats,
    b"PEERS": _peers,
}
_FOR_A_BROKER: Final = _COMMANDS.keys() - {b"LIST"}
"""The commands that may name one broker."""


def _refusal(text: str) -> Frames:
    return [ERROR, " ".join(text.split()).encode(errors="backslashreplace")]


def shown(frame: bytes) -> str:
    """Return a peer's frame as one printable line."""
    text = repr(frame[:_SHOWN_CHARACTERS].decode(errors="backslashreplace"))
    return text if len(frame) <= _SHOWN_CHARACTERS else f"{text}... ({len(frame)} bytes)"


def make_seldom_warning() -> Callable[..., None]:
    """Return a function that logs at most one warning a second, so that a peer that floods a control socket does not
    flood the log."""
    next_s = -math.inf

    def warn(message: str, *args: object, exc_info: BaseException | None = None) -> None:
        nonlocal next_s
        now_s = time.monotonic()
        if now_s >= next_s:
            next_s = now_s + _LOG_INTERVAL_S
            _logger.warning(message, *args, exc_info=exc_info)

    return warn
