"""What a handler promises: devices that keep their promises pass, and those that break one are found."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
import zmq
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

import pollbroker.testing
from pollbroker import QUEUE, Device, DeviceError, Route
from pollbroker.testing import (
    EXCHANGE,
    INVARIANTS,
    Action,
    DeviceMachine,
    Got,
    Handled,
    InvariantViolation,
    Iterated,
    LinePlan,
    Returned,
    Scenario,
    Sent,
    Step,
    Topology,
    Trace,
    calls_of,
    check_device,
    check_scenario,
    check_seed,
    keeps_envelope,
    keeps_order,
    loses_nothing,
    one_to_one,
    pure,
)
from pollbroker.testing.invariants import Invariant
from pollbroker.testing.trace import FlowKey, Path, Sink
from tests.support import handlers
from tests.support.handlers import BROKEN, KEPT, desk, pipe


def name_of(value: Any) -> str:
    names = [name for name, one in vars(handlers).items() if one is value]
    return names[0] if names else str(value.__name__)


def told(handler: Callable[..., Any]) -> Device:
    """A device in which subscriptions pass through a handler."""
    routes = [replace(route, via=handler) if route.source == "here" else route for route in EXCHANGE.routes]
    return replace(EXCHANGE, name="told", routes=routes)


@pytest.fixture(autouse=True)
def nothing_is_known_from_earlier_runs() -> Iterator[None]:
    """hypothesis tries first what failed in an earlier run; here each fault is to be found anew."""
    before = settings.get_current_profile_name()
    settings.register_profile("anew", settings.get_profile(before), database=None)
    settings.load_profile("anew")
    yield
    settings.load_profile(before)


def found(promises: Any, device: Device, **options: Any) -> InvariantViolation:
    with pytest.raises(InvariantViolation) as caught:
        check_device(device, promises=promises, columns=["simulation"], **options)
    return caught.value


def printed_call(violation: InvariantViolation) -> str:
    """The call that can be pasted into a test."""
    call = re.search(r"check_scenario\(.*?^\)", notes_of(violation), re.DOTALL | re.MULTILINE)
    assert call is not None, notes_of(violation)
    return call[0]


def notes_of(violation: InvariantViolation) -> str:
    return "\n".join(violation.__notes__)


def paste(expression: str, **defined: Any) -> None:
    """Run an expression behind `from pollbroker.testing import *`."""
    eval(expression, {name: getattr(pollbroker.testing, name) for name in pollbroker.testing.__all__} | defined)


# -- devices that keep a promise, and devices that break it ------------------------------------------------------------


@pytest.mark.parametrize(("promise", "device"), KEPT, ids=name_of)
def test_handler_that_keeps_a_promise_passes(promise: Invariant, device: Device) -> None:
    check_device(device, promises=[promise], examples=5, columns=["simulation"])


# What is broken is found, with its name, the route and the message; and what is printed fails in the same way.
@pytest.mark.parametrize(("promise", "device"), BROKEN, ids=name_of)
def test_handler_that_breaks_a_promise_is_found(promise: Invariant, device: Device) -> None:
    violation = found([promise], device)
    name = getattr(promise, "__name__", "")
    assert violation.invariant == name
    assert re.match(rf"{name}: route \w+ -> \w+.*: .*\[.*#", str(violation)), violation
    with pytest.raises(InvariantViolation) as again:
        paste(printed_call(violation))
    assert str(again.value) == str(violation)


@pytest.mark.parametrize(
    ("promise", "device"),
    [(loses_nothing, handlers.SHORT_BODIES), (keeps_order, handlers.SWAPPED), (pure, handlers.NUMBERING)],
    ids=name_of,
)
def test_printed_scenario_is_small(promise: Invariant, device: Device) -> None:
    assert printed_call(found([promise], device)).count("Step(") <= 3


@pytest.mark.slow
def test_promises_are_looked_at_in_every_environment() -> None:
    everything = [loses_nothing, keeps_order, keeps_envelope, one_to_one, pure]
    check_device(handlers.STAMPED_BOTH_WAYS, promises=everything, examples=10)


def test_promises_are_looked_at_in_a_scenario_of_a_seed_too() -> None:
    check_seed(0, handlers.STAMPED, promises=[one_to_one])
    with pytest.raises(InvariantViolation, match=r"one_to_one: route frontend -> backend"):
        check_seed(0, handlers.DOUBLED, promises=[one_to_one])


def test_mark_is_read_in_front_of_digits() -> None:
    """The twelfth message is not taken for the first one, which has a 2 behind its mark."""
    joining = pipe(lambda message: [b"".join(message)])
    plan = LinePlan(joining, client=zmq.SocketType.PUSH, worker=zmq.SocketType.PULL)
    steps = Step(Action.JOIN, side="backend"), Step(Action.SEND, count=12), Step(Action.REST)
    promises = [loses_nothing, one_to_one, keeps_order]
    trace = check_scenario(Scenario(Topology((plan,), bodies=((b"2",),)), steps), promises=promises)
    assert len(calls_of(trace)) == 12


def test_promises_can_be_looked_at_by_a_state_machine() -> None:
    class Machine(DeviceMachine):
        device = handlers.LATE
        promises = (*INVARIANTS, loses_nothing)

    with pytest.raises(InvariantViolation, match=r"loses_nothing: route frontend -> backend"):
        run_state_machine_as_test(Machine, settings=settings(phases=[Phase.generate], deadline=None))


# Subscriptions have no marks, and are looked at call by call.
def test_subscriptions_that_a_handler_drops_are_found() -> None:
    check_device(told(handlers.unchanged), promises=[loses_nothing, pure], examples=20, columns=["simulation"])
    account = found([loses_nothing], told(handlers.nothing)).account
    assert account.startswith("route here -> east, west: given [b'\\x01'], the handler gave nothing")


def test_all_that_a_handler_gave_is_in_the_error() -> None:
    account = found([one_to_one], handlers.DOUBLED_AT_A).account
    assert re.search(r"given \[.*\], the handler gave \[.*\], then gave \[.*\] for a: 2 messages for one$", account)


def test_error_of_a_handler_is_in_the_error() -> None:
    account = found([loses_nothing], handlers.RAISING).account
    assert re.search(r"the handler raised ValueError\(\[.*\]\); the message is lost$", account)


# -- on a trace --------------------------------------------------------------------------------------------------------

HERE, THERE = FlowKey("here", "frontend"), FlowKey("there", "frontend")

ONE, TWO = (b"#a/1#", b"x"), (b"#a/2#",)


def trace_of(*events: Any, handler: Callable[..., Any] = handlers.unchanged) -> Trace:
    paths = {
        flow.broker: Path(flow.broker, "line", (Sink("backend"),), (flow,), handled=True) for flow in (HERE, THERE)
    }
    return Trace(paths=paths, events=list(events), handlers=dict.fromkeys(paths, handler))


# A broker that is removed asks an iterator for no more.
def test_iterator_that_was_not_read_to_its_end_breaks_nothing() -> None:
    begun = Handled("here", HERE, ONE), Iterated("here", False, HERE)
    for promise in (loses_nothing, one_to_one, keeps_order, pure):
        promise(trace_of(*begun, Returned("here", HERE, ONE), handler=handlers.twice))
    loses_nothing(trace_of(*begun))
    with pytest.raises(InvariantViolation):
        loses_nothing(trace_of(*begun, Iterated("here", True, HERE)))
    with pytest.raises(InvariantViolation):
        pure(trace_of(*begun, Returned("here", HERE, TWO), handler=handlers.twice))


def test_message_that_a_handler_gives_to_another_broker_is_lost() -> None:
    given = Handled("here", HERE, ONE), Returned("here", HERE, ONE), Handled("there", THERE, TWO)
    loses_nothing(trace_of(*given, Returned("there", THERE, TWO)))
    for promise in (loses_nothing, one_to_one):
        with pytest.raises(InvariantViolation, match=r"given \[b'#a/2#'\], the handler gave \[b'#a/1#', b'x'\]"):
            promise(trace_of(*given, Returned("there", THERE, ONE)))
    keeps_order(trace_of(*given, Returned("there", THERE, ONE)))


# -- for single routes -------------------------------------------------------------------------------------------------


def test_promise_for_one_route_is_not_asked_of_the_others() -> None:
    there_doubled = desk(handlers.doubled, handlers.unchanged)
    check_device(there_doubled, promises={"backend": [one_to_one, pure]}, examples=20, columns=["simulation"])
    violation = found({"backend": [pure], "frontend": [one_to_one]}, there_doubled)
    assert violation.account.startswith("route frontend -> backend")
    assert "promises={'backend': [pure], 'frontend': [one_to_one]}" in notes_of(violation)


def test_list_of_promises_is_asked_of_every_route_that_has_a_handler() -> None:
    assert found([keeps_envelope], handlers.TO_SOMEBODY_ELSE).account.startswith("route backend -> frontend")
    assert found([keeps_envelope], handlers.WITHOUT_ROUTING_ID).account.startswith("route frontend -> backend")


# -- promises of one's own ---------------------------------------------------------------------------------------------


def is_stamped(trace: Trace) -> None:
    """Each result of the handler ends in a stamp."""
    for call in calls_of(trace):
        for result in call.results:
            if result.frames[-1] != b"stamp":
                raise InvariantViolation("is stamped", str(call))


@dataclass(frozen=True)
class AtMost:
    """A handler gives at most so many messages for one."""

    messages: int

    def __call__(self, trace: Trace) -> None:
        for call in calls_of(trace):
            if len(call.results) > self.messages:
                raise InvariantViolation("at most", str(call))


def test_promise_of_ones_own_is_looked_at() -> None:
    check_device(handlers.STAMPED, promises=[is_stamped, AtMost(1)], examples=20, columns=["simulation"])
    violation = found([loses_nothing, is_stamped], handlers.UNCHANGED)
    assert violation.invariant == "is stamped"
    with pytest.raises(InvariantViolation, match="is stamped"):
        paste(printed_call(violation))


def test_promise_that_is_an_object_is_printed_as_the_call_that_makes_it() -> None:
    violation = found([AtMost(1)], handlers.TWICE)
    with pytest.raises(InvariantViolation, match="at most"):
        paste(printed_call(violation), AtMost=AtMost)


def test_own_promise_for_a_route_is_given_the_events_of_that_route_alone() -> None:
    seen: list[set[str]] = []

    def looking(trace: Trace) -> None:
        events = [event for event in trace.events if isinstance(event, (Sent, Got, Returned))]
        seen.append({trace.paths[event.path].flows[0].source for event in events})

    check_device(desk(handlers.unchanged), promises={"backend": [looking]}, examples=30, columns=["simulation"])
    assert set().union(*seen) == {"backend"}


# -- what cannot be judged ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("device", "promises", "reason"),
    [
        (
            handlers.UNCHANGED,
            [keeps_envelope],
            "device pipe: route frontend -> backend: keeps_envelope cannot be judged: messages from a PULL to a PUSH "
            "have no envelope; expected a ROUTER as the source or as a sink",
        ),
        (
            told(handlers.unchanged),
            [keeps_order],
            "device told: route here -> east, west: keeps_order cannot be judged: subscriptions come from an XPUB",
        ),
        (QUEUE, [loses_nothing], "device queue: loses_nothing: no route has a handler that could break this promise"),
        (
            desk(handlers.unchanged),
            {"backend": [pure]},
            "device desk: pure: route backend -> frontend: it has no handler that could break this promise",
        ),
        (
            QUEUE,
            {"fronted": [pure]},
            "device queue: promises: no route begins at fronted; did you mean 'frontend'?",
        ),
        (QUEUE, {"capture": [pure]}, "no route begins at capture; expected one of frontend, backend"),
        (handlers.UNCHANGED, pure, "promises: <function pure at .*>: expected a list of promises"),
        (handlers.UNCHANGED, "pure", "promises: 'pure': expected a list of promises"),
        (handlers.UNCHANGED, ["pure"], r"promises: \['pure'\]: expected a list of promises"),
        (handlers.UNCHANGED, {"frontend": pure}, "promises: <function pure at .*>: expected a list of promises"),
    ],
)
def test_promise_that_cannot_be_judged_is_refused(device: Device, promises: Any, reason: str) -> None:
    with pytest.raises(DeviceError, match=reason):
        check_device(device, promises=promises)


async def _coroutine(frames: list[bytes]) -> list[bytes]:
    return frames


class _Awaited:
    async def __call__(self, frames: list[bytes]) -> list[bytes]:
        return frames


@pytest.mark.parametrize("via", [_coroutine, _Awaited()])
def test_coroutine_handler_is_refused(via: Any) -> None:
    device = replace(handlers.UNCHANGED, routes=[Route("frontend", "backend", via)])
    expected = "^device pipe: route frontend -> backend: a coroutine handler runs on an event loop, which the simulat"
    with pytest.raises(DeviceError, match=expected):
        check_device(device)


def test_order_of_messages_without_marks_cannot_be_judged() -> None:
    reason = (
        r"route frontend -> backend: keeps_order cannot be judged: given \[.*#.*\], the handler gave \[b'1 frames'\]"
    )
    with pytest.raises(DeviceError, match=reason):
        check_device(handlers.COUNTED, promises=[keeps_order], columns=["simulation"])


# -- what cannot be repeated -------------------------------------------------------------------------------------------

calls = 0


def forgetful_later(message: list[bytes]) -> list[bytes] | None:
    """Drops its 40th message, counted over all scenarios."""
    global calls
    calls += 1
    return message if calls != 40 else None


def test_broken_promise_that_cannot_be_repeated_is_named_and_explained() -> None:
    violation = found([loses_nothing], pipe(forgetful_later))
    assert violation.invariant == "loses_nothing"
    assert "a handler remembers something from one scenario to the next" in notes_of(violation)
