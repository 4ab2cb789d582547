"""The kit's scenarios for behaviours: a sound one passes, and each kind of fault is found."""

import re
from collections.abc import Callable, Hashable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import zmq

from pollbroker import DEVICES, TITANIC, Behaviour, Device, DeviceError
from pollbroker.patterns import Titanic
from pollbroker.pump.behaviours import BehaviourRun
from pollbroker.pump.keyed_timers import KeyedTimers
from pollbroker.testing import (
    BehaviourAction,
    BehaviourScenario,
    BehaviourStep,
    BehaviourTrace,
    InvariantViolation,
    Talk,
    check_behaviour,
    check_device,
    never_raises,
)
from pollbroker.testing.behaviours.checking import behaviour_scenario_of_seed, check_behaviour_seed
from pollbroker.testing.behaviours.in_memory import TitanicInMemory
from pollbroker.testing.behaviours.recording import BehaviourCall
from pollbroker.testing.behaviours.talks import TALKS
from pollbroker.testing.driving import Send
from pollbroker.testing.fuzzing import failure_of
from tests.support.balancer import BALANCER

TALK = Talk({"backend": [[b"", b"READY"]], "frontend": [[b"", b"question"]]})


class Postman(Behaviour):
    """Keeps messages for a while, tells of refusals, sets timers anew, and closes its source when it has many."""

    max_held = 5

    def __init__(self) -> None:
        self.kept: list[list[bytes]] = []

    @property
    def held(self) -> int:
        return len(self.kept)

    def on_message(self, port: str, frames: list[bytes]) -> None:
        if port == "backend":
            self.send("frontend", frames)
            return
        self.kept.append(frames)
        self.count("taken")
        self.set_timer("deliver", 0.5)
        if self.held == self.max_held:
            self.close("frontend")

    def on_timer(self, key: Hashable) -> None:
        self.deliver()

    def on_refused(self, port: str, frames: list[bytes]) -> None:
        self.kept.append(frames)
        if self.held == self.max_held:
            self.close("frontend")

    def on_room(self, port: str) -> None:
        self.deliver()

    def on_stop(self) -> None:
        self.deliver()

    def deliver(self) -> None:
        self.open("frontend")
        for frames in self.kept:
            self.send("backend", frames, if_full="tell")
        self.kept.clear()


class Undelivered(Postman):
    """Keeps more than it may."""

    max_held = 0


POSTMAN = Device(
    "postman",
    zmq.ROUTER,
    zmq.ROUTER,
    behaviour=Postman,
    frontend_options={"router_mandatory": 1},
    backend_options={"router_mandatory": 1},
)
DEALING_POSTMAN = Device("dealing-postman", zmq.DEALER, zmq.DEALER, behaviour=Postman)


def first_failure(device: Device, seeds: Iterable[int]) -> str | None:
    """What is wrong in the first scenario of these seeds in which anything is."""
    return next(filter(None, (failure_of(partial(check_behaviour_seed, seed, device)) for seed in seeds)), None)


@pytest.mark.parametrize("device", [BALANCER, POSTMAN, DEALING_POSTMAN], ids=lambda device: device.name)
def test_sound_behaviour_passes(device: Device) -> None:
    assert first_failure(device, range(20)) is None
    check_device(device, talk=TALK, examples=10)


def test_every_device_with_a_behaviour_has_a_talk_and_peers_that_say_something() -> None:
    behaving = {name for name, device in DEVICES.items() if device.behaviour is not None}
    assert behaving == {name for name, talk in TALKS.items() if any(talk.messages.values())}


def test_run_of_a_seed_repeats() -> None:
    calls = [[(call.method, call.arguments) for call in check_behaviour_seed(7, POSTMAN).calls] for _ in range(2)]
    assert calls[0] == calls[1]
    assert len(calls[0]) > 3


def test_scenario_is_printed_as_the_expression_that_makes_it() -> None:
    scenario = behaviour_scenario_of_seed(7, POSTMAN)
    names: dict[str, Any] = {}
    exec("from pollbroker.testing import *", names)
    assert eval(str(scenario), names) == scenario
    assert eval(repr(scenario), names) == scenario


def answer_question(port: str, frames: list[bytes]) -> list[bytes] | None:
    """An answer of one's own, which can be imported."""
    return [*frames[:-1], b"answer"] if port == "backend" else None


class Picky(Behaviour):
    """Raises at an answer, which no peer gives that only repeats what it was sent."""

    def on_message(self, port: str, frames: list[bytes]) -> None:
        if port == "frontend":
            self.send("backend", frames)
        elif frames[-1:] == [b"answer"]:
            raise ValueError("on purpose")


PICKY = Device("picky", zmq.PULL, zmq.DEALER, behaviour=Picky)
ASKING = Talk({"frontend": [[b"", b"question"], (b"", b"")]}, answer_question)


def no_call_fails(trace: BehaviourTrace) -> None:
    for call in trace.calls:
        if call.failed:
            raise InvariantViolation("no call fails", call.failed)


@pytest.mark.parametrize(
    ("invariant", "spelled"),
    [
        (never_raises, "invariants=[never_raises]"),
        (no_call_fails, "invariants=[named('tests.kit.test_behaviours:no_call_fails')]"),
    ],
)
def test_what_is_printed_of_a_failure_fails_again_when_it_is_pasted(
    invariant: Callable[[BehaviourTrace], None], spelled: str
) -> None:
    with pytest.raises(InvariantViolation) as caught:
        check_device(PICKY, talk=ASKING, invariants=[invariant], columns=["simulation"], examples=1000)
    notes = "\n".join(caught.value.__notes__)
    printed = re.search(r"check_behaviour\(.*?^\)", notes, re.DOTALL | re.MULTILINE)
    assert printed is not None, notes
    assert "answer=named('tests.kit.test_behaviours:answer_question')" in printed[0]
    assert spelled in printed[0]
    with pytest.raises(InvariantViolation) as again:
        exec(f"from pollbroker.testing import *\n{printed[0]}", {})
    assert str(again.value) == str(caught.value)


def test_only_what_was_asked_for_is_printed() -> None:
    hoarder = replace(POSTMAN, behaviour=Undelivered)
    with pytest.raises(InvariantViolation) as caught:
        check_device(hoarder, columns=["simulation"])
    notes = "\n".join(caught.value.__notes__)
    assert "check_behaviour(" in notes
    assert "talk=" not in notes
    assert "invariants=" not in notes


def test_of_messages_that_are_alike_the_last_was_refused() -> None:
    one, other = [b"one"], [b"other"]

    def call(method: str, *arguments: Any, sends: Iterable[list[bytes]] = ()) -> BehaviourCall:
        return BehaviourCall(method, arguments, 0.0, 0, [Send("backend", frames) for frames in sends])

    before = call("on_timer", "key", sends=[one, other, one])
    assert BehaviourTrace(Postman(), [before, call("on_refused", "backend", one)]).sends_to("backend") == [one, other]
    given_back = [call("on_refused", "backend", one, sends=[other, one]) for _ in range(2)]
    both = BehaviourTrace(Postman(), [call("on_timer", "key", sends=[one, one]), *given_back])
    assert both.sends_to("backend") == [other, one, other, one]
    with pytest.raises(InvariantViolation, match=r"\[b'other'\] was given back, and not sent before"):
        BehaviourTrace(Postman(), [call("on_refused", "backend", other)]).sends_to("backend")


class Raises(Titanic):
    """A Titanic of one's own, which does not begin."""

    def on_start(self) -> None:
        raise ValueError("on purpose")


@pytest.mark.parametrize(
    "device",
    [replace(TITANIC, behaviour=Raises), Device("titanic", zmq.ROUTER, behaviour=Raises)],
    ids=["in the place of its behaviour", "of the same name"],
)
def test_device_of_ones_own_is_tested_and_not_the_one_that_ships(device: Device) -> None:
    assert "on purpose" in (first_failure(device, [0]) or "")


def test_settings_of_a_device_that_stores_something_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[int, bool]] = []
    on_start = Titanic.on_start

    def noted(titanic: Titanic) -> None:
        made.append((titanic._max_stored, isinstance(titanic, TitanicInMemory)))
        on_start(titanic)

    monkeypatch.setattr(Titanic, "on_start", noted)
    check_behaviour_seed(0, TITANIC.with_settings(max_stored=7))
    assert made == [(7, True)]


def test_kit_opens_no_database_of_a_device_that_ships(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    check_device(TITANIC, examples=2)
    check_device(TITANIC.with_settings(path=str(tmp_path / "of-its-own.db")), examples=2)
    assert not list(tmp_path.iterdir())


def test_sound_behaviour_that_sends_on_a_long_backlog_passes() -> None:
    class Repeating(Postman):
        max_held = 10_000

        def on_message(self, port: str, frames: list[bytes]) -> None:
            if port == "frontend":
                self.kept += [frames] * 20
                self.count("taken")
                self.set_timer("deliver", 0.5)

        def deliver(self) -> None:
            while self.kept:
                self.send("backend", self.kept.pop(0), if_full="tell")

    repeating = Device("repeating", zmq.DEALER, zmq.DEALER, behaviour=Repeating)
    question = BehaviourStep(BehaviourAction.SEND, port="frontend", frames=(b"question",))
    steps = (
        BehaviourStep(BehaviourAction.JOIN, port="backend"),
        *(step for _ in range(10) for step in (question, BehaviourStep(BehaviourAction.REST))),
        BehaviourStep(BehaviourAction.WAIT, seconds=1.0),
    )
    check_behaviour(BehaviourScenario(repeating, steps, high_water_mark=1))


# -- faults of the engine ----------------------------------------------------------------------------------------------


def message_twice(run: BehaviourRun, port: str, frames: list[bytes]) -> None:
    for _ in range(2):
        run._call(run.behaviour.on_message, port, list(frames), given=1)


def message_changed(run: BehaviourRun, port: str, frames: list[bytes]) -> None:
    run._call(run.behaviour.on_message, port, [*frames, b"more"], given=1)


def nothing_done(run: BehaviourRun, given: int, told: frozenset[str]) -> None:
    run._requests.sends.clear()
    finish(run, given, told)


finish = BehaviourRun._finish_call


def forgetful(run: BehaviourRun, port: str, frames: list[bytes]) -> None:
    """Lose what is to wait."""


def never_late(timers: KeyedTimers, key: Hashable, due_s: float) -> None:
    set_timer(timers, key, due_s - 0.4)


set_timer = KeyedTimers.set


@pytest.mark.parametrize(
    ("cls", "name", "fault", "device"),
    [
        (BehaviourRun, "message", message_twice, POSTMAN),
        (BehaviourRun, "message", message_changed, POSTMAN),
        (BehaviourRun, "message", message_twice, DEALING_POSTMAN),
        (BehaviourRun, "_finish_call", nothing_done, DEALING_POSTMAN),
        (BehaviourRun, "_let_wait", forgetful, DEALING_POSTMAN),
        (BehaviourRun, "may_read", lambda run, port: True, POSTMAN),
        (BehaviourRun, "tell_of_room", lambda run: None, DEALING_POSTMAN),
        (BehaviourRun, "add_to_counter", lambda run, name, by: None, POSTMAN),
        (BehaviourRun, "stop", lambda run: None, POSTMAN),
        (BehaviourRun, "held", property(lambda run: 0), POSTMAN),
        (KeyedTimers, "set", never_late, POSTMAN),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_fault_of_the_engine_is_found(
    cls: type, name: str, fault: Callable[..., Any], device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cls, name, fault)
    assert first_failure(device, range(200))


# -- faults of a behaviour ---------------------------------------------------------------------------------------------


def test_behaviour_that_raises_is_found_if_asked_for() -> None:
    """The example of a balancer expects that a worker sends an envelope."""
    steps = (BehaviourStep(BehaviourAction.SEND, port="backend", frames=(b"",)),)
    check_behaviour(BehaviourScenario(BALANCER, steps))
    with pytest.raises(InvariantViolation, match=r"never raises: on_message\('backend', .* raised "):
        check_behaviour(BehaviourScenario(BALANCER, steps), invariants=[never_raises])


@pytest.mark.parametrize("method", ["on_stop", "on_end"])
def test_behaviour_that_raises_at_its_end_is_found_if_asked_for(method: str) -> None:
    def fail(behaviour: Behaviour) -> None:
        raise ValueError("on purpose")

    failing = replace(POSTMAN, behaviour=type("Failing", (Postman,), {method: fail}))
    check_behaviour(BehaviourScenario(failing, ()))
    with pytest.raises(InvariantViolation, match=rf"never raises: {method}\(\) raised ValueError\('on purpose'\)"):
        check_behaviour(BehaviourScenario(failing, ()), invariants=[never_raises])


def test_behaviour_that_keeps_more_than_it_says_is_found() -> None:
    class Hoarder(Postman):
        max_held = 1

        def close(self, port: str) -> None:
            """Forget to."""

    with pytest.raises(InvariantViolation, match=r"brokers stay alive: .*Hoarder keeps 2 messages"):
        check_device(Device("hoarder", zmq.PULL, zmq.PUSH, behaviour=Hoarder), examples=100, columns=["simulation"])


@pytest.mark.parametrize("column", ["simulation", "python", "native"])
def test_own_invariant_is_given_the_calls(column: str) -> None:
    def never_begins(trace: BehaviourTrace) -> None:
        raise InvariantViolation("never begins", trace.calls[0].method)

    with pytest.raises(InvariantViolation, match="never begins: on_start"):
        check_device(POSTMAN, examples=1, columns=[column], invariants=[never_begins])


def test_failure_amid_the_end_is_counted() -> None:
    class Parting(Behaviour):
        """Says more when it is stopped than its port takes, and fails when it is told so."""

        def on_message(self, port: str, frames: list[bytes]) -> None: ...

        def on_stop(self) -> None:
            for _ in range(10):
                self.send("backend", [b"goodbye"], if_full="tell")

        def on_refused(self, port: str, frames: list[bytes]) -> None:
            raise ValueError(port)

    parting = Device("parting", zmq.PULL, zmq.PUSH, behaviour=Parting)
    trace = check_behaviour(BehaviourScenario(parting, (), high_water_mark=1))
    assert any(call.failed for call in trace.calls)


def test_promises_of_handlers_are_refused() -> None:
    with pytest.raises(DeviceError, match="device postman: promises are of handlers; expected `invariants`"):
        check_device(POSTMAN, promises=[lambda trace: None])


def test_port_without_peers_is_refused() -> None:
    device = Device("asker", zmq.REQ, behaviour=Postman)
    with pytest.raises(DeviceError, match="device asker: frontend: the test kit has no peers for a REQ; expected one"):
        check_device(device)


@pytest.mark.parametrize("column", ["python", "native"])
def test_empty_scenario_runs_on_real_sockets(column: str) -> None:
    trace = check_behaviour(BehaviourScenario(POSTMAN, ()), column)
    assert [call.method for call in trace.calls] == ["on_start", "on_stop", "on_end"]
