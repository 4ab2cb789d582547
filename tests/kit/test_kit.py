"""The test kit, held to what docs/testing.md says of it; and the engine, held to its promises by the kit."""

import os
import pathlib
import pickle
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import zmq
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import pollbroker.testing
import pollbroker.testing.fuzzing as fuzzing
from pollbroker import FORWARDER, QUEUE, REFLECTOR, STREAMER, Device, Route
from pollbroker.cli import main
from pollbroker.statistics import FlowStatistics
from pollbroker.testing import (
    Action,
    InvariantViolation,
    LinePlan,
    Meanwhile,
    Scenario,
    Step,
    Topology,
    Trace,
    check_columns,
    check_device,
    check_scenario,
    check_seed,
    check_trace,
    device_machine,
    faults,
    high_water_marks,
    messages,
    named,
    scenarios,
    schedules,
    topologies,
)
from pollbroker.testing.drawing import scenario_of_seed
from pollbroker.testing.trace import (
    Copied,
    Counted,
    FlowKey,
    Got,
    Handled,
    Heard,
    Iterated,
    Joined,
    Left,
    Lost,
    Path,
    Returned,
    Sent,
    Slept,
    Steered,
    Turned,
    Wanted,
)
from pollbroker.testing.worlds import COLUMNS
from tests.mutants.breaking import in_place
from tests.mutants.table import MUTANTS
from tests.support.tree import TREE

few = settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))

# -- the engine, held to its promises ----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_ten_thousand_seeds_keep_every_promise() -> None:
    findings = [one for progress in fuzzing.fuzz(seeds=10_000, jobs=os.cpu_count() or 1) for one in progress.findings]
    assert findings == []


# Whatever is simulated is so on real sockets, with either pump: to the message, where nothing is left to chance.
@pytest.mark.parametrize("first", range(0, 200, 20))
def test_columns_agree(first: int) -> None:
    for seed in range(first, first + 20):
        check_columns(scenario_of_seed(seed), tuple(COLUMNS))


@pytest.mark.parametrize("column", ["python", "native"])
@given(scenario=scenarios())
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
def test_promises_are_kept_on_real_sockets(column: str, scenario: Scenario) -> None:
    check_scenario(scenario, column)


TestAnyDevice = device_machine(None)
TestQueueOnTheNativePump = device_machine(QUEUE, "native")
for _case in (TestAnyDevice, TestQueueOnTheNativePump):
    _case.settings = settings(
        max_examples=30, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
    )


# -- a device of one's own ---------------------------------------------------------------------------------------------


def shouted(frames: list[bytes]) -> list[bytes] | None:
    """A handler that changes messages, and drops those that have nothing to say."""
    return [frame.upper() for frame in frames] if len(frames) > 1 else None


def doubled(frames: list[bytes]) -> Iterator[list[bytes]]:
    yield frames
    yield frames


@pytest.mark.parametrize("handler", [shouted, doubled])
def test_a_sound_device_passes(handler: Callable[..., Any]) -> None:
    check_device(Device("mine", zmq.PULL, zmq.PUSH, (Route("frontend", "backend", via=handler),)), examples=20)


@pytest.mark.parametrize("device", [QUEUE, STREAMER, FORWARDER, REFLECTOR])
def test_every_column_serves_every_device(device: Device) -> None:
    check_device(device, examples=10, steps=30)


def test_a_promise_of_ones_own_is_looked_at() -> None:
    def nothing_is_received(trace: Trace) -> None:
        if any(event.statistics.received for _, event in trace.of(Counted)):
            raise InvariantViolation("nothing is received", "something was")

    with pytest.raises(InvariantViolation, match="nothing is received"):
        check_device(STREAMER, examples=50, columns=["simulation"], invariants=[nothing_is_received])


def test_a_handler_that_raises_is_no_violation() -> None:
    def broken(frames: list[bytes]) -> list[bytes]:
        raise ValueError(frames)

    check_device(Device("mine", zmq.PULL, zmq.PUSH, (Route("frontend", "backend", via=broken),)), examples=20)


# -- what is drawn -----------------------------------------------------------------------------------------------------


@given(message=messages(10))
@few
def test_messages_have_one_to_eight_frames(message: list[bytes]) -> None:
    assert 1 <= len(message) <= 8
    assert all(isinstance(frame, bytes) and len(frame) <= 10 for frame in message)


@given(mark=high_water_marks())
@few
def test_high_water_marks_are_small_or_none(mark: int) -> None:
    assert 0 <= mark <= 5


@given(data=st.data())
@few
def test_schedules_and_faults_fit_their_topology(data: st.DataObject) -> None:
    topology = data.draw(topologies(QUEUE))
    assert all(line.device is QUEUE for line in topology.lines)
    fault = data.draw(faults(topology))
    assert fault.action in (Action.LEAVE, Action.REJOIN, Action.PAUSE, Action.RESUME, Action.REPLACE)
    for step in data.draw(schedules(topology, 20)):
        assert 0 <= step.line < len(topology.lines)


def test_a_step_shows_what_was_asked_for() -> None:
    step = Step(Action.TURN, count=2, meanwhile=(Meanwhile(3, Step(Action.SEND, side="backend")),))
    assert repr(step) == ("Step(Action.TURN, count=2, meanwhile=(Meanwhile(3, Step(Action.SEND, side='backend')),))")
    assert eval(repr(step)) == step


# -- a run can be repeated ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(0, 40, 5))
def test_a_seed_does_the_same_again(seed: int) -> None:
    first, again = check_seed(seed), check_seed(seed)
    assert first.events == again.events
    assert len(first.events) > 0


@pytest.mark.parametrize("column", COLUMNS)
def test_everything_is_closed_after_a_run(column: str) -> None:
    def descriptors() -> set[pathlib.Path]:
        return set(pathlib.Path("/dev/fd").iterdir())

    scenario = scenario_of_seed(7)
    check_scenario(scenario, column)
    before = len(descriptors())
    for _ in range(5):
        check_scenario(scenario, column)
    assert len(descriptors()) == before


# -- the invariants, each with a trace that breaks it ------------------------------------------------------------------

FLOW = FlowKey("b", "frontend")
PATH = Path("p", "line", "backend", (FLOW,))
ONE = (b"#a/1", b"x", b"y")
TWO = (b"#a/2", b"z")


def sent(frames: tuple[bytes, ...], path: str = "p", peer: str = "a", **more: Any) -> Sent:
    mark = next(frame for frame in frames if frame.startswith(b"#"))
    return Sent(path, peer, mark, frames, **more)


def got(frames: tuple[bytes, ...], peer: str = "c", path: str = "p", tail: bool = False) -> Got:
    return Got(path, peer, frames, tail)


def counted(flow: FlowKey = FLOW, state: str = "running", **counters: Any) -> Counted:
    return Counted(flow, state, FlowStatistics(state=counters.pop("flow_state", "waiting"), **counters))


def size(*messages: tuple[bytes, ...]) -> dict[str, Any]:
    frames, total = sum(map(len, messages)), sum(len(frame) for message in messages for frame in message)
    return {
        f"{what}{unit}": value
        for what in ("received", "sent")
        for unit, value in (("", len(messages)), ("_frames", frames), ("_bytes", total))
    }


def trace_of(*events: Any, paths: tuple[Path, ...] = (PATH,), **more: Any) -> Trace:
    return Trace(paths={path.name: path for path in paths}, events=list(events), **more)


ROUTED = replace(PATH, to_router=True)
MANY = replace(PATH, to_many=True)
HANDLED = replace(PATH, handled=True)
UPSTREAM = replace(PATH, upstream=True)
OTHER = Path("q", "other", "backend", (FlowKey("d", "frontend"),))
COMPLETE: dict[str, Any] = {"complete": {"p"}}
PUBLISHER = Joined("a", "line", "backend", zmq.SocketType.XPUB)

BROKEN: dict[str, tuple[str, Trace]] = {
    "a frame is missing": ("whole and unchanged", trace_of(sent(ONE), got(ONE[:2]))),
    "frames that nobody sent": ("whole and unchanged", trace_of(sent(ONE), got((b"x", b"y")))),
    "frames of two messages": ("whole and unchanged", trace_of(sent(ONE), sent(TWO), got(ONE + TWO))),
    "frames swapped": ("whole and unchanged", trace_of(sent(ONE), got((b"#a/1", b"y", b"x")))),
    "a handler was shown half": (
        "whole and unchanged",
        trace_of(sent(ONE), Handled("p", FLOW, ONE[:2]), paths=(HANDLED,)),
    ),
    "another line's message": ("nothing crosses", trace_of(sent(ONE), got(ONE, path="q"), paths=(PATH, OTHER))),
    "to the wrong peer": (
        "reply to its requester",
        trace_of(sent((b"A", b"#w/1")), got((b"B", b"#w/1")), paths=(ROUTED,)),
    ),
    "an answer to who did not ask": (
        "reply to its requester",
        trace_of(
            Joined("a", "line", "frontend", zmq.SocketType.DEALER, b"A"),
            sent((b"A", b"#a/1"), path="q"),
            sent((b"B", b"#w/1"), answers=b"#a/1"),
            got((b"B", b"#w/1")),
            paths=(ROUTED, OTHER),
        ),
    ),
    "twice": ("no duplicate", trace_of(sent(ONE), got(ONE), got(ONE, "d"))),
    "a subscriber twice": ("no duplicate", trace_of(sent(ONE), got(ONE), got(ONE, "d"), got(ONE), paths=(MANY,))),
    "the later first": ("order", trace_of(sent(ONE), sent(TWO), got(TWO), got(ONE))),
    "moved while paused": (
        "nothing moves while paused",
        trace_of(counted(), Steered("b", "paused"), counted(received=1, held=1)),
    ),
    "held a second time": ("the account balances", trace_of(counted(received=2, sent=1, held=2))),
    "a count too many": ("the account balances", trace_of(counted(received=1, sent=1, held=1))),
    "a count went back": (
        "the account balances",
        trace_of(counted(received=2, sent=2), counted(received=1, sent=1)),
    ),
    "asleep": ("progress", trace_of(Slept(frozenset({FLOW})))),
    "passed over": ("progress", trace_of(*[Turned(frozenset({FLOW})), counted()] * 4, patience=2)),
    "a burst too long": (
        "fairness",
        trace_of(counted(), Turned(), counted(received=3, sent=3), burst_messages=2, burst_bytes=100),
    ),
    "a burst too large": (
        "fairness",
        trace_of(
            counted(), Turned(), counted(received=2, sent=2, received_bytes=500), burst_messages=2, burst_bytes=100
        ),
    ),
    "lost": ("no loss beyond the counted", trace_of(sent(ONE), counted(received=1, sent=1), **COMPLETE)),
    "lost with a leaver who had less room": (
        "no loss beyond the counted",
        trace_of(
            *(sent((b"#a/%d" % number,)) for number in range(3)),
            Joined("lineb0", "line", "backend", zmq.SocketType.PULL),
            Left("lineb0"),
            counted(received=3, sent=3),
            paths=(replace(PATH, capacity=2),),
            **COMPLETE,
        ),
    ),
    "lost though no leaver had it": (
        "no loss beyond the counted",
        trace_of(sent(ONE), counted(received=1, sent=1), Lost(FLOW, 0), Left("lineb0"), **COMPLETE),
    ),
    "a subscriber without": (
        "no loss beyond the counted",
        trace_of(sent(ONE, expected_at=frozenset({"c"})), counted(**size(ONE)), paths=(MANY,), **COMPLETE),
    ),
    "counted frames for messages": (
        "counters are true",
        trace_of(sent(ONE), got(ONE), counted(**size(ONE) | {"received": 3, "sent": 3}), **COMPLETE),
    ),
    "bytes left out": (
        "counters are true",
        trace_of(sent(ONE), got(ONE), counted(**size(ONE) | {"sent_bytes": 1}), **COMPLETE),
    ),
    "an iterator left": (
        "counters are true",
        trace_of(
            sent(ONE),
            Handled("p", FLOW, ONE),
            Iterated("p", False),
            Returned("p", FLOW, ONE),
            got(ONE),
            counted(**size(ONE)),
            paths=(HANDLED,),
            **COMPLETE,
        ),
    ),
    "a copy of nothing": (
        "capture fidelity",
        trace_of(sent(ONE), Copied("b", ONE[:1]), captured={"b"}),
    ),
    "a copy twice": ("capture fidelity", trace_of(sent(ONE), Copied("b", ONE), Copied("b", ONE), captured={"b"})),
    "copies in another order": (
        "capture fidelity",
        trace_of(sent(ONE), sent(TWO), Copied("b", TWO), Copied("b", ONE), captured={"b"}),
    ),
    "a copy that nobody counted": (
        "capture fidelity",
        trace_of(sent(ONE), got(ONE), counted(**size(ONE), captured=0), captured={"b"}, **COMPLETE),
    ),
    "a copy without its prefix": (
        "capture fidelity",
        trace_of(sent(ONE), Copied("b", ONE), captured={"b"}, prefixes={FLOW: b"in"}),
    ),
    "a subscription that did not travel": (
        "subscriptions travel upstream",
        trace_of(
            PUBLISHER,
            Joined("c", "line", "frontend", zmq.SocketType.SUB),
            Wanted("c", b"t", True),
            paths=(UPSTREAM,),
            **COMPLETE,
        ),
    ),
    "a subscription that did not end": (
        "subscriptions travel upstream",
        trace_of(PUBLISHER, Heard("a", b"t", True), paths=(UPSTREAM,), **COMPLETE),
    ),
    "a broker that failed": ("brokers stay alive", trace_of(counted(state="failed"))),
    "a broker that ended by itself": ("brokers stay alive", trace_of(counted(state="ended"))),
    "a broker that did not end": ("brokers stay alive", trace_of(Steered("b", "ended"), counted())),
}


@pytest.mark.parametrize("what", BROKEN)
def test_an_invariant_tells_what_went_wrong(what: str) -> None:
    invariant, trace = BROKEN[what]
    with pytest.raises(InvariantViolation) as caught:
        check_trace(trace)
    assert caught.value.invariant == invariant
    assert len(caught.value.account) < 300


WHOLE: dict[str, Trace] = {
    "nothing": trace_of(**COMPLETE),
    "one message": trace_of(sent(ONE), got(ONE), counted(**size(ONE)), **COMPLETE),
    "two to two": trace_of(sent(ONE), sent(TWO), got(TWO, "d"), got(ONE), counted(**size(ONE, TWO)), **COMPLETE),
    "one for each subscriber": trace_of(sent(ONE), got(ONE), got(ONE, "d"), paths=(MANY,)),
    "the tail of an envelope": trace_of(sent((b"A", b"", *ONE)), got(ONE, tail=True)),
    "held": trace_of(
        sent(ONE), counted(**size(ONE) | {"held": 1, "sent": 0, "sent_frames": 0, "sent_bytes": 0}), **COMPLETE
    ),
    "lost with a leaver": trace_of(sent(ONE), counted(**size(ONE)), Lost(FLOW, 1), Left("lineb0"), **COMPLETE),
    "removed while paused": trace_of(
        counted(), Steered("b", "paused"), Steered("b", "removed"), counted(received=1, sent=1)
    ),
    "retrying": trace_of(*[Turned(frozenset({FLOW})), counted(flow_state="retrying")] * 9, patience=2),
}


@pytest.mark.parametrize("what", WHOLE)
def test_what_is_right_is_no_violation(what: str) -> None:
    check_trace(WHOLE[what])


def test_a_violation_travels_between_processes() -> None:
    violation = pickle.loads(pickle.dumps(InvariantViolation("order", "a before b")))
    assert (violation.invariant, violation.account, str(violation)) == ("order", "a before b", "order: a before b")


# -- the command -------------------------------------------------------------------------------------------------------

FORGETFUL = next(mutant for mutant in MUTANTS if mutant.claim == "held message forgotten")


def test_fuzz_tries_seeds_and_says_so() -> None:
    result = CliRunner().invoke(main, ["fuzz", "--seeds", "60", "--jobs", "1", "--first", "5", "--device", "queue"])
    assert result.exit_code == 0, result.output
    assert result.output.startswith("60 seeds in ")
    assert result.output.endswith("0 failed\n")


def test_fuzz_ends_when_the_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    class Clock:
        now_s = 0.0

        def monotonic(self) -> float:
            return self.now_s

    clock = Clock()
    monkeypatch.setattr(fuzzing, "time", clock)
    tried = []
    for progress in fuzzing.fuzz(minutes=1, jobs=1):
        tried.append(progress.seeds)
        clock.now_s = 60.0
    # What a process has been given by then it ends.
    assert tried[-1] == 100
    assert len(tried) <= 2


def test_fuzz_names_what_failed_and_how_to_run_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def found(**_: Any) -> Iterator[fuzzing.Progress]:
        yield fuzzing.Progress(50, (fuzzing.Finding(17, "InvariantViolation: order: on purpose"),))

    monkeypatch.setattr(fuzzing, "fuzz", found)
    result = CliRunner().invoke(main, ["fuzz", "--device", "streamer"])
    assert result.exit_code == 1
    assert "seed 17: InvariantViolation: order: on purpose" in result.output
    assert "pollbroker fuzz --replay 17 --device streamer" in result.output


def test_replay_shows_the_shortest_schedule_that_fails() -> None:
    kept = CliRunner().invoke(main, ["fuzz", "--replay", "3"])
    assert (kept.exit_code, kept.output) == (0, "seed 3: every promise was kept\n")
    with in_place(FORGETFUL):
        seed = fuzzing.check_seeds(0, 20, "streamer")[0].seed
        broken = CliRunner().invoke(main, ["fuzz", "--replay", str(seed), "--device", "streamer"])
        scenario = fuzzing.shortest_failing(seed, "streamer")
    assert broken.exit_code == 1
    assert "InvariantViolation" in broken.output
    expression = broken.output.partition("the shortest schedule that fails:\n")[2]
    assert (
        eval(expression, {name: getattr(pollbroker.testing, name) for name in pollbroker.testing.__all__}) == scenario
    )
    assert 1 <= len(scenario.steps) < len(scenario_of_seed(seed, STREAMER).steps)


def test_seeds_that_fail_are_found() -> None:
    with in_place(FORGETFUL):
        findings = fuzzing.check_seeds(0, 20, "streamer")
    assert findings
    assert all("InvariantViolation" in finding.account for finding in findings)


def test_fuzz_without_hypothesis_says_what_to_install() -> None:
    program = "import sys; sys.modules['hypothesis'] = None; from pollbroker.cli import main; main(['fuzz'])"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 1
    assert "hypothesis is not installed" in result.stderr
    assert "pip install 'pollbroker[testing]'" in result.stderr
    assert "Traceback" not in result.stderr


def violations(column: str, seeds: range) -> Iterator[str]:
    """The promises that these seeds show to be broken, one after the other."""
    for seed in seeds:
        try:
            check_scenario(scenario_of_seed(seed), column)
        except InvariantViolation as violation:
            yield violation.invariant


# Progress is looked at on real sockets, too: the engine does not fall asleep while a flow can move.
@pytest.mark.parametrize(
    ("claim", "column"),
    [
        ("events not read again before sleeping", "python"),
        ("a sink not settled before sleeping", "python"),
        ("a stalled flow that does not watch its sink", "python"),
        ("budget spent taken for source empty", "python"),
        ("resume that does not rearm", "python"),
        ("resume that does not rearm", "native"),
    ],
)
def test_engine_that_sleeps_while_a_flow_can_move_is_found_on_real_sockets(claim: str, column: str) -> None:
    assert not list(violations(column, range(60)))
    with in_place(next(mutant for mutant in MUTANTS if mutant.claim == claim)):
        assert "progress" in violations(column, range(60))  # others may be broken as well, such as that nothing is lost


# -- what is printed ---------------------------------------------------------------------------------------------------


@pytest.fixture
def pasted() -> Callable[[object], Any]:
    """What an expression means in a test that begins with `from pollbroker.testing import *`."""
    namespace = {name: getattr(pollbroker.testing, name) for name in pollbroker.testing.__all__}
    return lambda expression: eval(str(expression), dict(namespace))


# A scenario is printed as an expression that makes it again.
@given(scenario=scenarios())
@settings(few, suppress_health_check=list(HealthCheck))
def test_printed_scenario_is_the_expression_that_makes_it(pasted: Callable[[object], Any], scenario: Scenario) -> None:
    assert pasted(repr(scenario)) == scenario
    assert pasted(scenario) == scenario


def with_handler(name: str, handler: Callable[..., Any], **options: Any) -> Device:
    return Device(name, zmq.PULL, zmq.PUSH, (Route("frontend", "backend", via=handler),), **options)


class Shouting:
    """Handlers that are no functions of a module."""

    @staticmethod
    def shouted(frames: list[bytes]) -> list[bytes]:
        return [frame.upper() for frame in frames]

    def __call__(self, frames: list[bytes]) -> list[bytes]:
        return self.shouted(frames)


WITH_A_LAMBDA = with_handler("lambda", lambda frames: frames)
CHOOSY = Device("choosy", zmq.SUB, zmq.PUB, (Route("frontend", "backend"),), {"subscribe": [b"a", "b"], "rcvhwm": 3})


@pytest.mark.parametrize(
    ("device", "expression"),
    [
        (QUEUE, "DEVICES['queue']"),
        (pollbroker.testing.PATIENT_QUEUE, "PATIENT_QUEUE"),
        (WITH_A_LAMBDA, "named('tests.kit.test_kit:WITH_A_LAMBDA')"),
        (
            with_handler("mine", shouted, slow_peer="wait"),
            "Device('mine', (SocketType.PULL,), (SocketType.PUSH,), "
            "(Route('frontend', 'backend', via=named('tests.kit.test_kit:shouted')),), slow_peer='wait')",
        ),
        (
            with_handler("mine", Shouting.shouted),
            "Device('mine', (SocketType.PULL,), (SocketType.PUSH,), "
            "(Route('frontend', 'backend', via=named('tests.kit.test_kit:Shouting.shouted')),))",
        ),
        (
            CHOOSY,
            "Device('choosy', (SocketType.SUB,), (SocketType.PUB,), (Route('frontend', 'backend'),), "
            "frontend_options={'subscribe': [b'a', 'b'], 'rcvhwm': 3})",
        ),
    ],
)
def test_printed_device_is_the_expression_that_makes_it(
    pasted: Callable[[object], Any], device: Device, expression: str
) -> None:
    plan = LinePlan(device)
    assert repr(plan) == f"LinePlan({expression})"
    assert pasted(repr(plan)) == plan


def test_local_handler_is_printed_as_the_name_that_it_is_to_have() -> None:
    def local(frames: list[bytes]) -> list[bytes]:
        return frames

    for handler, name in ((local, "local"), (lambda frames: frames, "handler"), (Shouting(), "Shouting")):
        printed = repr(LinePlan(with_handler("mine", handler)))
        assert printed.endswith(f"via={name}),)))")
        names = {one: getattr(pollbroker.testing, one) for one in pollbroker.testing.__all__}
        assert eval(printed, names | {name: handler}) == LinePlan(with_handler("mine", handler))


def test_name_of_nothing_is_refused() -> None:
    for where, account in (("os", "expected 'module:name'"), ("os:nothing", "cannot be had"), ("nobody:x", "cannot")):
        with pytest.raises(ValueError, match=f"^'{where}'.* ?{account}"):
            named(where)


def test_violation_of_a_seed_comes_with_its_scenario(pasted: Callable[[object], Any]) -> None:
    with in_place(FORGETFUL):
        seed = fuzzing.check_seeds(0, 20, "streamer")[0].seed
        with pytest.raises(InvariantViolation) as caught:
            check_seed(seed, STREAMER)
    (note,) = caught.value.__notes__
    title, _, expression = note.partition("\n")
    assert title == f"in the scenario of seed {seed}:"
    assert pasted(expression) == scenario_of_seed(seed, STREAMER)


def test_violation_that_hypothesis_finds_comes_with_its_scenario() -> None:
    def nothing_is_received(trace: Trace) -> None:
        if any(event.statistics.received for _, event in trace.of(Counted)):
            raise InvariantViolation("nothing is received", "something was")

    with pytest.raises(InvariantViolation) as caught:
        check_device(STREAMER, columns=["simulation"], invariants=[nothing_is_received])
    notes = "\n".join(caught.value.__notes__)
    call = re.search(r"keeps_its_promises\(.*?^\)", notes, re.DOTALL | re.MULTILINE)
    assert call is not None, notes
    names = {name: getattr(pollbroker.testing, name) for name in pollbroker.testing.__all__}
    scenario = eval(call[0], names | {"keeps_its_promises": lambda scenario: scenario})
    with pytest.raises(InvariantViolation, match="nothing is received"):
        check_scenario(scenario, invariants=[nothing_is_received])


NOT_OF_THE_KIT = {"EHOSTUNREACH", "fuzz", "monitored_queue", "shutdown", "start", "tears_messages"}


def test_all_that_the_documentation_names_can_be_imported() -> None:
    text = (TREE / "docs" / "testing.md").read_text()
    quoted = re.findall(r"`([^`\n]+)`", text)
    names = {name for one in quoted for name in re.findall(r"(?:^|[ (=])([A-Za-z_]+)(?=\(|$)", one)} - NOT_OF_THE_KIT
    assert {"check_columns", "check_device", "device_machine", "InvariantViolation", "topologies"} <= names
    assert names <= set(pollbroker.testing.__all__)


# -- the stage ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("column", COLUMNS)
def test_a_schedule_written_by_hand_runs(column: str) -> None:
    topology = Topology(lines=(LinePlan(STREAMER, client=zmq.SocketType.PUSH, worker=zmq.SocketType.PULL),))
    steps = (Step(Action.SEND, count=3), Step(Action.REST), Step(Action.TAKE, side="backend", count=3))
    trace = check_scenario(Scenario(topology, (Step(Action.JOIN, side="backend"), *steps)), column)
    assert [event.frames[0] for _, event in trace.of(Got)] == [b"#0af0.1/1", b"#0af0.1/2", b"#0af0.1/3"]


def test_a_meddler_acts_in_the_middle_of_a_turn() -> None:
    topology = Topology(lines=(LinePlan(STREAMER, client=zmq.SocketType.PUSH, worker=zmq.SocketType.PULL),))
    turn = Step(Action.TURN, meanwhile=(Meanwhile(1, Step(Action.SEND, count=2)),))
    steps = (Step(Action.JOIN, side="backend"), Step(Action.JOIN), Step(Action.SEND), turn)
    trace = check_scenario(Scenario(topology, steps))
    events = [event for event in trace.events if isinstance(event, (Sent, Turned))]
    assert [type(event) for event in events] == [Sent, Sent, Sent, Turned]
    after_it = next(event for at, event in trace.of(Counted) if at > trace.events.index(events[-1]))
    assert after_it.statistics.sent == 3


def test_a_device_of_a_seed_is_the_one_asked_for() -> None:
    trace = check_seed(11, REFLECTOR)
    assert {path.sink for path in trace.paths.values()} == {"frontend"}
    assert partial(scenario_of_seed, 11)() == scenario_of_seed(11)
