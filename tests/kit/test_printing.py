"""What the kit prints is written in Python, and all that docs/testing.md names can be imported."""

import re
from collections.abc import Callable
from typing import Any

import pytest
import zmq
from hypothesis import HealthCheck, given, settings

import pollbroker.testing
import pollbroker.testing.fuzzing as fuzzing
from pollbroker import QUEUE, STREAMER, Device, Route
from pollbroker.testing import (
    InvariantViolation,
    LinePlan,
    Scenario,
    Trace,
    check_device,
    check_seed,
    named,
    scenarios,
)
from pollbroker.testing.drawing import scenario_of_seed
from pollbroker.testing.trace import Counted
from tests.mutants.breaking import in_place
from tests.support.kit import FORGETFUL, few, shouted
from tests.support.tree import TREE


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


SHOUTING = Shouting()

WITH_A_LAMBDA = with_handler("lambda", lambda frames: frames)

CHOOSY = Device("choosy", zmq.SUB, zmq.PUB, (Route("frontend", "backend"),), {"subscribe": [b"a", "b"], "rcvhwm": 3})


@pytest.mark.parametrize(
    ("device", "expression"),
    [
        (QUEUE, "DEVICES['queue']"),
        (pollbroker.testing.PATIENT_QUEUE, "PATIENT_QUEUE"),
        (pollbroker.testing.SHARDS, "SHARDS"),
        (pollbroker.testing.EXCHANGE, "EXCHANGE"),
        (WITH_A_LAMBDA, "named('tests.kit.test_printing:WITH_A_LAMBDA')"),
        (
            with_handler("mine", shouted, slow_peer="wait"),
            "Device('mine', ports={'frontend': (SocketType.PULL,), 'backend': (SocketType.PUSH,)}, "
            "routes=(Route('frontend', 'backend', via=named('tests.support.kit:shouted')),), slow_peer='wait')",
        ),
        (
            with_handler("mine", Shouting.shouted),
            "Device('mine', ports={'frontend': (SocketType.PULL,), 'backend': (SocketType.PUSH,)}, "
            "routes=(Route('frontend', 'backend', via=named('tests.kit.test_printing:Shouting.shouted')),))",
        ),
        (
            with_handler("mine", SHOUTING),
            "Device('mine', ports={'frontend': (SocketType.PULL,), 'backend': (SocketType.PUSH,)}, "
            "routes=(Route('frontend', 'backend', via=named('tests.kit.test_printing:SHOUTING')),))",
        ),
        (
            CHOOSY,
            "Device('choosy', ports={'frontend': (SocketType.SUB,), 'backend': (SocketType.PUB,)}, "
            "routes=(Route('frontend', 'backend'),), options={'frontend': {'subscribe': [b'a', 'b'], 'rcvhwm': 3}})",
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
    for where, account in (
        ("os", "expected 'module:name'"),
        ("os:nothing", "cannot be imported"),
        ("nobody:x", "cannot"),
    ):
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
    call = re.search(r"check_scenario\(.*?^\)", notes, re.DOTALL | re.MULTILINE)
    assert call is not None, notes
    names = {name: getattr(pollbroker.testing, name) for name in pollbroker.testing.__all__}
    with pytest.raises(InvariantViolation, match="nothing is received"):
        eval(call[0], names | {"nothing_is_received": nothing_is_received})


NOT_OF_THE_KIT = {
    *(
        "DeviceError",
        "EHOSTUNREACH",
        "TITANIC",
        "To",
        "backend",
        "balancer",
        "client",
        "frontend",
        "fuzz",
        "heartbeat_ivl",
        "libzmq",
        "make_store",
        "monitored_queue",
        "shutdown",
    ),
    *("failed", "filtered", "start", "subscribe", "tears_messages", "wire", "worker"),
}


def test_all_that_the_documentation_names_can_be_imported() -> None:
    text = (TREE / "docs" / "testing.md").read_text()
    quoted = re.findall(r"`([^`\n]+)`", text)
    names = {name for one in quoted for name in re.findall(r"(?:^|[ (=])([A-Za-z_]+)(?=\(|$)", one)} - NOT_OF_THE_KIT
    assert {"check_columns", "check_device", "device_machine", "InvariantViolation", "topologies"} <= names
    assert names <= set(pollbroker.testing.__all__)
