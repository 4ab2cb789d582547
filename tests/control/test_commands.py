"""Commands: what is valid, what each of them changes, and what a refusal says."""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import pytest
import zmq
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pollbroker import Broker, Device, Engine, EngineError, Route
from pollbroker.control import Control
from pollbroker.engine import engine_loop
from pollbroker.statistics import EngineStatistics
from tests.support.addresses import ANY_PORT
from tests.support.control import COMMANDS, FOR_ONE, STEERING, WAITING, make_ask, numbers, text_of
from tests.support.deadline import wait_until
from tests.support.transports import holding_streamer
from tests.support.types import Connect, MakeEngine, Socket

# -- what is valid, and what it changes --------------------------------------------------------------------------------


BROKERS = ("a", "b", "ü", "dead")

names = st.sampled_from([name.encode() for name in BROKERS])

verbs = st.sampled_from(COMMANDS)

seconds = st.sampled_from([b"0", b"0.0", b"1e-3", b" 1 ", b"nan", b"inf", b"-1", b"1e7", b"", b"\xff", b"0x1"])

anything = st.binary(max_size=12) | names | verbs | st.sampled_from([b"", b"\xff", b"\r\nPAUSE", b"x" * 5000])

messages = (
    st.tuples(verbs).map(list)
    | st.tuples(verbs, names).map(list)
    | st.tuples(verbs, anything).map(list)
    | st.tuples(verbs, names | st.just(b"*"), seconds).map(list)
    | st.lists(anything, max_size=4)
)


@contextmanager
def engine_with_a_failed_broker() -> Iterator[Engine]:
    """Brokers of the names `BROKERS`, of which the last has failed."""
    context: zmq.Context[Socket] = zmq.Context()
    engine = Engine(context)
    sockets = [context.socket(zmq.PAIR) for _ in BROKERS]
    for name, socket in zip(BROKERS, sockets, strict=True):
        engine.register(socket, None, "reflector", name=name)
    sockets[-1].close()
    wait_until(lambda: engine.brokers["dead"].state == "failed", engine=engine)
    try:
        yield engine
    finally:
        engine.close()
        context.destroy(linger=0)


def states(engine: Engine) -> dict[str, str]:
    return {name: str(broker.state) for name, broker in engine.brokers.items()}


def expect(model: dict[str, str], command: list[bytes]) -> str:
    """What kind of reply a command is due; carries it out on the model, which has a state for each broker."""
    verb, *rest = command or [b""]
    if verb not in COMMANDS or len(rest) > (verb != b"LIST") + (verb in WAITING):
        return "error"
    timed = len(rest) > 1
    if timed and rest[1] not in (b"0", b"0.0", b"1e-3", b" 1 "):
        return "error"
    if timed and rest[0] == b"*":
        rest = []
    addressed = [name for name in model if name.encode() == rest[0]] if rest else list(model)
    if rest and not addressed:
        return "error"
    if verb in FOR_ONE:
        return "error"  # every socket was registered
    if verb == b"DRAIN":
        return "later"
    if verb == b"PAUSE" and timed:
        alive = [name for name in addressed if model[name] != "failed"]
        model.update(dict.fromkeys(alive, "paused"))
        return "error" if rest and not alive else "later"
    if verb in (b"PAUSE", b"RESUME"):
        alive = [name for name in addressed if model[name] != "failed"]
        model.update(dict.fromkeys(alive, "paused" if verb == b"PAUSE" else "running"))
        return "error" if rest and not alive else "done"
    if verb == b"TERMINATE":
        for name in addressed if rest else ():
            del model[name]
        return "done"
    return "numbers" if verb == b"STATISTICS" else "ok"


def kind_of(reply: list[bytes]) -> str:
    if reply == [b""]:
        return "done"
    if reply[0] == b"OK":
        return "ok"
    if reply[0] == b"TIMEOUT":
        return "left" if text_of([b"ERROR", *reply[1:]]) else "an empty refusal"
    if reply[0] == b"ERROR":
        return "error" if text_of(reply) else "an empty refusal"
    return "numbers" if numbers(reply) else "never"


# Any frames whatever get the reply that they are due, and only valid commands change anything: what they say.
@given(st.lists(messages, max_size=12), st.sampled_from([zmq.REP, zmq.ROUTER, zmq.PAIR, zmq.SUB]))
@example([[b"PAUSE"], [b"PAUSE", b"dead"], [b"TERMINATE", b"dead"], [b"RESUME"]], zmq.REP)
@example([[b"PAUSE", b"a"], [b"PAUSE", b"a"], [b"RESUME"], [b"RESUME", b"a"], [b"PAUSE"]], zmq.REP)
@example([[], [b""], [b"", b""], [b"PAUSE", b""], [b"LIST", b"a"], [b"pause"]], zmq.ROUTER)
@example([[b"PAUSE"], [b"PAUSE", b"a"], [b"LIST"], [b"TERMINATE"]], zmq.PAIR)
@example([[b"PAUSE", b"a", b"0"], [b"DRAIN", b"*", b"0"], [b"DRAIN", b"dead"], [b"RESUME", b"a"], [b"LIST"]], zmq.REP)
@example(
    [[b"PAUSE", b"*", b" 1 "], [b"PAUSE", b"dead", b"0"], [b"TERMINATE", b"a"], [b"DRAIN", b"b", b"0"]], zmq.ROUTER
)
@example([[b"DRAIN", b"*", b"0"], [b"PAUSE", b"*", b"0"]], zmq.PAIR)
@settings(max_examples=150, deadline=None)
def test_any_command_is_carried_out_or_refused(commands: list[list[bytes]], socket_type: int) -> None:
    with engine_with_a_failed_broker() as engine:
        control = Control(engine, socket_type)
        later: list[list[bytes] | None] = []
        control.answer_later = later.append
        model = states(engine)
        stopped = False
        for command in commands:
            delimited = socket_type == zmq.ROUTER and b"" in command[:-1]
            bare = command[command.index(b"") + 1 :] if delimited else command
            expected = expect(model, bare)
            stopped = stopped or bare == [b"TERMINATE"]
            reply = control.handle([b"\0id", *command] if socket_type == zmq.ROUTER else list(command))
            if bare in ([b"STATISTICS"], [b"STATS"], [b"PEERS"]) and control.awaited:
                wait_until(lambda: later, engine=engine)  # the machine is busy, and not all brokers were asked at once
                reply = later.pop()
            if expected == "later":
                assert reply is None
                wait_until(lambda: later, engine=engine)
                reply = later.pop()
                expected = "done" if socket_type == zmq.SUB or bare[0] == b"PAUSE" else "drained"
            assert not later
            assert not control.awaited
            if socket_type == zmq.SUB or (socket_type == zmq.PAIR and len(bare) == 1 and bare[0] in STEERING):
                assert reply is None
            else:
                assert reply is not None
                if socket_type == zmq.ROUTER:
                    envelope = [b"\0id", *command[: len(command) - len(bare)]]
                    assert reply[: len(envelope)] == envelope
                    reply = reply[len(envelope) :]
                assert kind_of(reply) in (("done", "left") if expected == "drained" else (expected,))
            assert states(engine) == model
            assert engine_loop(engine).stop_called == stopped


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (
            [],
            "an empty message; expected PAUSE, RESUME, TERMINATE, STATISTICS, LIST, STATS, PEERS, "
            "DRAIN, DISABLE, ENABLE, RECONNECT",
        ),
        (
            [b"KILL"],
            "'KILL' is not a command; expected PAUSE, RESUME, TERMINATE, STATISTICS, LIST, STATS, PEERS, "
            "DRAIN, DISABLE, ENABLE, RECONNECT",
        ),
        ([b"STATISTIC"], "'STATISTIC' is not a command; did you mean 'STATISTICS'?"),
        ([b"pause"], "'pause' is not a command; did you mean 'PAUSE'?"),
        ([b"PAUSE\0"], "'PAUSE\\x00' is not a command; did you mean 'PAUSE'?"),
        ([b"PAUSE", b"dad"], "PAUSE: no broker is named 'dad'; did you mean 'dead'?"),
        ([b"PAUSE", b"c"], "PAUSE: no broker is named 'c'; there are: a, b, ü, dead"),
        ([b"PAUSE", b"\xff"], "PAUSE: '\\\\xff': expected a broker's name in UTF-8"),
        ([b"STATS", b"a", b"b"], "STATS: 3 frames; expected the command and a broker's name"),
        ([b"PAUSE", b"a", b"b"], "PAUSE: 'b': expected seconds that it may take, 0 to 1000000"),
        ([b"DRAIN", b"a", b"nan"], "DRAIN: 'nan': expected seconds that it may take, 0 to 1000000"),
        ([b"DRAIN", b"a", b"-1"], "DRAIN: '-1': expected seconds that it may take, 0 to 1000000"),
        ([b"DRAIN", b"*"], "DRAIN: no broker is named '*'; there are: a, b, ü, dead"),
        ([b"DRAIN", b"a", b"1"], "DRAIN: this control can answer at once only; expected no time limit"),
        ([b"DRAIN", b"a", b"1", b"2"], "DRAIN: 4 frames; expected the command, a broker's name and seconds"),
        ([b"DISABLE"], "DISABLE: 1 frame; expected the command and the name of a broker"),
        ([b"DISABLE", b"a", b"b"], "DISABLE: 3 frames; expected the command and the name of a broker"),
        ([b"DISABLE", b"a"], "brokers.a.frontend: its socket was registered, and whoever opened it"),
        ([b"RECONNECT", b"a"], "brokers.a.frontend: its socket was registered, and whoever opened it"),
        ([b"LIST", b"a"], "LIST: 2 frames; expected the command alone"),
        ([b"RESUME", b"dead"], "brokers.dead: "),
    ],
)
def test_refusal_says_what_is_wrong_and_what_was_expected(command: list[bytes], expected: str) -> None:
    with engine_with_a_failed_broker() as engine:
        reply = Control(engine).handle(command)
        assert reply is not None
        assert text_of(reply).startswith(expected)


@pytest.mark.parametrize("error", [RuntimeError("no\nluck"), EngineError("no\nluck")])
def test_engine_that_fails_in_a_command_is_reported(error: Exception) -> None:
    class Broken(Engine):
        def statistics(self, brokers: Iterable[str | Broker] | None = None) -> EngineStatistics:
            raise error

    with Broken() as engine:
        reply = Control(engine).handle([b"STATS"])
    assert reply is not None
    assert "luck" in text_of(reply)


def test_broker_that_cannot_be_paused_now_is_not_passed_over(engine: Engine, connect: Connect) -> None:
    control = Control(engine)
    steer = Route("frontend", "frontend", via=lambda frames: [frames[0], *(control.handle(frames[1:]) or ())])
    own = engine.add("own", Device("steerer", zmq.ROUTER, None, (steer,)), frontend=ANY_PORT)
    other = engine.add("other", "streamer", frontend=ANY_PORT, backend=ANY_PORT)
    ask = make_ask(connect(zmq.DEALER, *own.frontend.endpoints))
    assert "its own handler" in text_of(ask(b"PAUSE"))
    assert own.state == "running"
    assert ask(b"PAUSE", b"other") == [b""]
    assert other.state == "paused"


def test_broker_that_holds_a_message_is_removed_at_once(make_engine: MakeEngine, connect: Connect) -> None:
    engine = make_engine(clock=lambda: 0.0)  # the second that remove() waits by default would not pass
    engine.start()
    broker = engine.add("jobs", holding_streamer(), frontend=ANY_PORT, backend=ANY_PORT)
    connect(zmq.PUSH, *broker.frontend.endpoints).send(b"for nobody")
    wait_until(lambda: engine.statistics().brokers["jobs"].flows["frontend"].held)
    assert Control(engine).handle([b"TERMINATE", b"jobs"]) == [b""]
    assert not engine.brokers


# -- what refusals and warnings say ------------------------------------------------------------------------------------


def test_refusal_about_an_unknown_broker_lists_ten_of_the_known_ones(idle: Engine) -> None:
    control = Control(idle)
    unknown = [b"PAUSE", b"x"]
    assert text_of(control.handle(unknown)) == "PAUSE: no broker is named 'x'; there are: none"
    for number in range(12):
        names = ", ".join(f"b{n}" for n in range(min(number, 10)))
        if number:
            more = ", ..." if number > 10 else ""
            assert text_of(control.handle(unknown)) == f"PAUSE: no broker is named 'x'; there are: {names}{more}"
        idle.add(f"b{number}", "streamer", frontend=ANY_PORT, backend=ANY_PORT)


@pytest.mark.parametrize(
    ("command", "shown"),
    [(b"x" * 60, f"'{'x' * 60}'"), (b"x" * 61, f"'{'x' * 60}'... (61 bytes)"), (b"\n\xff", r"'\n\\xff'")],
)
def test_long_frame_is_shown_as_far_as_it_goes(idle: Engine, command: bytes, shown: str) -> None:
    assert text_of(Control(idle).handle([command])).startswith(f"{shown} is not a command; expected PAUSE, ")


def test_text_of_an_error_is_made_one_printable_line() -> None:
    class Broken(Engine):
        def statistics(self, brokers: Iterable[str | Broker] | None = None) -> EngineStatistics:
            raise EngineError("no\n\n \udcff luck")

    with Broken() as engine:
        assert text_of(Control(engine).handle([b"STATS"])) == r"no \udcff luck"


def test_command_that_raises_is_logged_and_refused(caplog: pytest.LogCaptureFixture) -> None:
    error = RuntimeError("no luck")

    class Broken(Engine):
        def statistics(self, brokers: Iterable[str | Broker] | None = None) -> EngineStatistics:
            raise error

    with Broken() as engine:
        reply = Control(engine).handle([b"STATS"])
    assert text_of(reply) == "the engine failed to carry it out: RuntimeError('no luck')"
    (record,) = caplog.records
    assert (record.levelno, record.message) == (logging.WARNING, "control: a command raised")
    assert record.exc_info is not None
    assert record.exc_info[1] is error


def test_what_a_sub_cannot_answer_is_logged(idle: Engine, caplog: pytest.LogCaptureFixture) -> None:
    control = Control(idle, zmq.SUB)
    assert control.handle([b"LIST"]) is None
    assert not caplog.records
    assert control.handle([b"LIST", b"%s"]) is None
    assert [record.message for record in caplog.records] == ["control: LIST: 2 frames; expected the command alone"]
