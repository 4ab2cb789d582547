"""Control: steering a running engine through a ZeroMQ socket, with the commands of libzmq's zmq_proxy_steerable.

Scripts written for libzmq's steerable proxy can steer an engine unchanged. docs/control.md describes what goes beyond
it.

- `Control` is sans-I/O: it is given the frames of one command and returns the frames of the reply. `attach` connects it
  to a socket.
- A command is carried out whole, or refused with `ERROR` and one line that says why. If it is refused, nothing has
  changed.
- A command that takes time is answered in a later turn of the engine, through `answer_later`.
- No frame that a peer sends raises an exception. A REP socket answers every command, because it could not receive
  another one before.
"""

import logging
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from functools import partial
from typing import Final

import zmq

from pollbroker.control.arguments import find_broker, wrong_number
from pollbroker.control.carrying_out import COMMANDS, Command, Naming, further_command
from pollbroker.control.replies import DONE, ERROR, EVERYONE, TIMEOUT, Frames, Later, MakeDocument, refusal, shown
from pollbroker.control.steered import Steered
from pollbroker.control.waiting import LONGEST_WAIT_S
from pollbroker.errors import ConfigError, ControlError, PollbrokerError, did_you_mean
from pollbroker.frozen import FrozenDict
from pollbroker.seldom import SeldomLog

_logger = logging.getLogger("pollbroker")

_SOCKET_TYPES: Final = (zmq.REP, zmq.PAIR, zmq.SUB, zmq.ROUTER)
_UNANSWERED: Final = ([b"PAUSE"], [b"RESUME"], [b"TERMINATE"])
"""The commands without a reply at a PAIR socket, as in libzmq except its release 4.3.5 (libzmq #4600)."""

_AWAITED_MOST: Final = 1000
"""How many commands may wait for their reply, so that a flood of them does not take all memory."""


class Control:
    """Carries out the commands that come in at a control socket of one type: REP, PAIR, SUB or ROUTER.

    `commands` are further ones by their names, or others in the place of known ones: a `Command`, or a function without
    arguments. What a function does is answered as PAUSE is.

    Raises `ConfigError` for any other type.
    """

    def __init__(
        self,
        engine: Steered,
        socket_type: int = zmq.REP,
        commands: Mapping[bytes, Callable[[], object] | Command] = FrozenDict(),
    ) -> None:
        if socket_type not in _SOCKET_TYPES:
            found = getattr(socket_type, "name", socket_type)
            raise ConfigError(f"control: a {found} socket cannot take commands; expected REP, PAIR, SUB or ROUTER")
        self.answer_later: Callable[[Frames | None], None] | None = None
        """Called in the engine's thread with the reply to each command for which `handle` has returned None because it
        takes time; with None where this type of socket sends no reply. Until this is set, such commands are refused."""
        self.more_commands: Mapping[bytes, Callable[[Frames], Frames | Future[Frames]]] = FrozenDict()
        """Commands that take frames of their own, or are answered later: each is called with the frames behind it, and
        returns those of the reply, or a future for them, which is resolved in the engine's thread."""
        self.make_document: MakeDocument = bytearray
        """Makes what a long reply is put together in. It becomes a frame of the reply."""
        self.awaited = 0
        """How many commands wait for their reply."""
        self._awaited_in_order = 0
        self.engine: Final = engine
        """What the commands are carried out on."""
        self._type = socket_type
        further = {
            verb: call if isinstance(call, Command) else further_command(call) for verb, call in commands.items()
        }
        self._commands: Mapping[bytes, Command] = {**COMMANDS, **further}
        self._warn = SeldomLog(_logger.warning)

    def handle(self, frames: Frames) -> Frames | None:
        """Carry out one command and return the reply, or None where this type of socket sends none, or sends it later
        (see `answer_later`).

        Both are whole messages of the socket. Those of a ROUTER begin with an envelope: the routing id, or, if the
        client sent an empty delimiter as a REQ does, all frames up to the delimiter. No `frames` raise an exception.
        """
        envelope, command = self._parts_of(frames)
        reply = self._or_refusal(partial(self._carry_out, command))
        if isinstance(reply, Later) and reply.in_order and reply.future.done():
            reply = self._or_refusal(reply.reply)  # there are few brokers
        if not isinstance(reply, Later):
            return self._addressed(envelope, command, reply)
        later = reply
        self.awaited += 1
        self._awaited_in_order += later.in_order
        later.future.add_done_callback(lambda _: self._answer(envelope, command, later))
        return None

    def refuse(self, frames: Frames, why: str) -> Frames | None:
        """The reply to a command that is not carried out, or None where this type of socket sends none."""
        return self._addressed(*self._parts_of(frames), refusal(why))

    def _parts_of(self, frames: Frames) -> tuple[Frames, Frames]:
        """The envelope of a message, and the command in it."""
        length = _envelope_length(frames) if self._type == zmq.ROUTER else 0
        return frames[:length], frames[length:]

    @property
    def must_rest(self) -> bool:
        """True while no further command may be received. A REP socket cannot receive one before it has answered; the
        one client of a PAIR socket has nothing to tell replies apart by, so they come in the order of its commands."""
        return bool(self._type == zmq.REP and self.awaited) or bool(self._type == zmq.PAIR and self._awaited_in_order)

    def _answer(self, envelope: Frames, command: Frames, later: Later) -> None:
        self.awaited -= 1
        self._awaited_in_order -= later.in_order
        assert self.answer_later is not None
        made = self._or_refusal(later.reply)
        assert not isinstance(made, Later)
        self.answer_later(self._addressed(envelope, command, made))

    def _addressed(self, envelope: Frames, command: Frames, reply: Frames) -> Frames | None:
        """The message to send, or None where this type of socket sends none."""
        if self._type == zmq.SUB:
            if reply[0] in (ERROR, TIMEOUT):
                self._warn("control: %s", reply[1].decode())
            return None
        if self._type == zmq.PAIR and command in _UNANSWERED and reply == DONE:
            return None
        return envelope + reply

    def _or_refusal(self, make: "Callable[[], Frames | Later]") -> Frames | Later:
        """What a function returns, or the refusal that says what it has raised."""
        try:
            return make()
        except PollbrokerError as error:
            return refusal(str(error))
        except Exception as error:  # noqa: BLE001 - a REP socket must answer, whatever happened
            self._warn("control: a command raised", exc_info=error)
            return refusal(f"the engine failed to carry it out: {error!r}")

    def _carry_out(self, message: Frames) -> Frames | Later:
        """Carry out a command and return the reply. For an invalid command, change nothing and raise
        `PollbrokerError`."""
        every = [*self._commands, *self.more_commands]
        expected = ", ".join(verb.decode() for verb in every)
        if not message:
            raise ControlError(f"an empty message; expected {expected}")
        verb, *arguments = message
        if verb in self.more_commands:
            return self._begin(verb, arguments)
        command = self._commands.get(verb)
        if command is None:
            near = did_you_mean(verb.decode(errors="backslashreplace"), (known.decode() for known in every))
            raise ControlError(f"{shown(verb)} is not a command{near or f'; expected {expected}'}")
        least = 1 + (command.naming is Naming.MUST)
        if not least <= len(message) <= command.most_frames:
            raise wrong_number(verb.decode(), arguments, command.expected)
        wait_s = _seconds(verb, arguments[1]) if len(arguments) > 1 else command.wait_s
        everyone = not arguments or (arguments[0] == EVERYONE and len(arguments) > 1 and "*" not in self.engine.brokers)
        name = None if everyone else find_broker(self.engine, verb.decode(), arguments[0])
        if wait_s is not None and command.wait is not None:
            self._check_waiting(verb)
            return command.wait(self.engine, name, wait_s)
        if name is None and command.in_portions is not None and self.answer_later is not None:
            self._check_waiting(verb)
            return command.in_portions(self.engine, self.make_document)
        assert command.call is not None
        return command.call(self.engine, name)

    def _begin(self, verb: bytes, arguments: Frames) -> Frames | Later:
        """Carry out one of `more_commands`."""
        if self._type != zmq.ROUTER:
            found = getattr(self._type, "name", self._type)
            raise ControlError(f"{verb.decode()}: a {found} socket cannot answer later; expected REP or ROUTER")
        self._check_waiting(verb)
        answer = self.more_commands[verb](arguments)
        return Later(answer, answer.result) if isinstance(answer, Future) else answer

    def _check_waiting(self, verb: bytes) -> None:
        if self.answer_later is None:
            raise ControlError(f"{verb.decode()}: this control can answer at once only; expected no time limit")
        if self.awaited >= _AWAITED_MOST:
            raise ControlError(f"{verb.decode()}: {self.awaited} commands wait for their reply; expected fewer")


def _envelope_length(frames: Frames) -> int:
    """The number of frames in the envelope of a ROUTER's message.

    An empty frame at the end of the message is an empty command, and not a delimiter.
    """
    try:
        return frames.index(b"", 1, -1) + 1
    except ValueError:
        return 1


def _seconds(verb: bytes, frame: bytes) -> float:
    try:
        seconds = float(frame)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= LONGEST_WAIT_S:  # this refuses nan, too
        expected = f"seconds that it may take, 0 to {LONGEST_WAIT_S:.0f}"
        raise ControlError(f"{verb.decode()}: {shown(frame)}: expected {expected}")
    return seconds
