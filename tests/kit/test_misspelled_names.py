"""A name that the kit does not know is refused: with it a test would pass that tests nothing."""

from collections.abc import Callable
from typing import Any

import pytest
import zmq

from pollbroker import STREAMER, Behaviour, ConfigError, Device, DeviceError
from pollbroker.testing import (
    BehaviourScenario,
    Scenario,
    Talk,
    Topology,
    check_behaviour,
    check_behaviour_seed,
    check_columns,
    check_device,
    check_scenario,
    check_seed,
    device_machine,
    drive,
    never_raises,
)


class Passes(Behaviour):
    """Passes each message on, and raises at one."""

    def on_message(self, port: str, frames: list[bytes]) -> None:
        if frames == [b"stop"]:
            raise ValueError("on purpose")
        self.send("backend", frames)


PASSES = Device("passes", zmq.PULL, zmq.PUSH, behaviour=Passes)
STOP = [[b"stop"]]
EMPTY = Scenario(Topology(()), ())


# -- ports -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("port", "expected"), [("fronted", "; did you mean 'frontend'?"), ("x", "; its ports are: frontend, backend")]
)
def test_talk_at_an_unknown_port_is_refused(port: str, expected: str) -> None:
    for check in (
        lambda: check_device(PASSES, talk=Talk({port: STOP}), invariants=[never_raises], examples=1),
        lambda: check_behaviour(BehaviourScenario(PASSES, ()), talk=Talk({port: STOP})),
    ):
        with pytest.raises(DeviceError) as caught:
            check()
        assert str(caught.value) == f"device passes: talk: the device has no {port}{expected}"


@pytest.mark.parametrize(
    ("messages", "found"),
    [
        ({"frontend": [b"5"]}, "talk: frontend: b'5'"),
        ({"frontend": b"5"}, "talk: frontend: b'5'"),
        ({"frontend": [[5]]}, "talk: frontend: [5]"),
        ({"frontend": [["5"]]}, "talk: frontend: ['5']"),
        ({"frontend": [[]]}, "talk: frontend: []"),
        ([[b"5"]], "talk: [[b'5']]"),
    ],
)
def test_talk_whose_messages_are_none_is_refused(messages: Any, found: str) -> None:
    with pytest.raises(DeviceError) as caught:
        Talk(messages)
    assert str(caught.value).startswith(f"{found}: expected a ")


def test_talk_may_have_lists_and_tuples() -> None:
    check_device(PASSES, talk=Talk({"frontend": ([b"1"], (b"2", b""))}), examples=3, columns=["simulation"])


def test_what_is_no_talk_is_refused() -> None:
    talk: Any = {"frontend": STOP}
    with pytest.raises(DeviceError, match=r"device passes: talk: \{'frontend': .*: expected a Talk"):
        check_device(PASSES, talk=talk, examples=1)


@pytest.mark.parametrize(
    "happen",
    [
        lambda driver, port: driver.message(port, b"x"),
        lambda driver, port: driver.is_open(port),
        lambda driver, port: driver.fill(port),
        lambda driver, port: driver.empty(port),
        lambda driver, port: driver.leave(port, b"id"),
        lambda driver, port: driver.come_back(port, b"id"),
    ],
)
def test_driver_refuses_an_unknown_port(happen: Callable[..., Any]) -> None:
    driver = drive(Passes())
    with pytest.raises(DeviceError) as caught:
        happen(driver, "fronted")
    assert str(caught.value) == "drive: Passes has no port fronted here; did you mean 'frontend'?"
    with pytest.raises(DeviceError, match=r"no port x here; expected one of frontend, backend, or other `ports`$"):
        happen(driver, "x")
    assert driver.received == 0


def test_ports_of_a_driver_are_no_string() -> None:
    with pytest.raises(DeviceError, match=r"drive: ports: 'frontend': expected a list of names"):
        drive(Passes(), ports="frontend")


# -- environments ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("device", [STREAMER, PASSES], ids=lambda device: device.name)
@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ([], "columns: []: expected a list of one or more of simulation, python, native, streams"),
        ("native", "columns: 'native': expected a list of one or more of simulation, python, native, streams"),
        (["simulaton"], "columns: 'simulaton' is not an environment; did you mean 'simulation'?"),
        (
            ["simulation", "x"],
            "columns: 'x' is not an environment; expected one of simulation, python, native, streams",
        ),
        ([5], "columns: 5 is not an environment; expected one of simulation, python, native, streams"),
    ],
)
def test_unknown_environments_are_refused(device: Device, columns: Any, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_device(device, columns=columns, examples=1)
    assert str(caught.value) == expected


@pytest.mark.parametrize(
    "check",
    [
        lambda: check_scenario(EMPTY, "simulaton"),
        lambda: check_behaviour(BehaviourScenario(PASSES, ()), "simulaton"),
        lambda: check_columns(EMPTY, ["simulaton"]),
        lambda: check_seed(0, column="simulaton"),
        lambda: device_machine(STREAMER, "simulaton"),
    ],
)
def test_unknown_environment_is_refused_wherever_one_is_named(check: Callable[[], Any]) -> None:
    with pytest.raises(ConfigError, match=r"'simulaton' is not an environment; did you mean 'simulation'\?$"):
        check()


def test_environment_without_seeds_is_refused_for_a_seed() -> None:
    with pytest.raises(
        ConfigError, match=r"^column: 'native' is not an environment; expected one of simulation, streams$"
    ):
        check_seed(0, STREAMER, column="native")


# -- devices -----------------------------------------------------------------------------------------------------------


CHECKS: list[Callable[[Any], Any]] = [
    lambda device: check_device(device, examples=1, columns=["simulation"]),
    lambda device: check_seed(0, device),
    device_machine,
]


@pytest.mark.parametrize("check", CHECKS)
def test_device_may_be_named(check: Callable[[Any], Any]) -> None:
    check("Streamer")


def test_device_with_a_behaviour_may_be_named() -> None:
    check_device("last-value", examples=1, columns=["simulation"])
    assert check_behaviour_seed(0, "last-value").calls


@pytest.mark.parametrize("check", [*CHECKS, lambda device: check_behaviour_seed(0, device)])
def test_unknown_device_is_refused(check: Callable[[Any], Any]) -> None:
    with pytest.raises(DeviceError, match=r"^'streamr' is not a device; .* did you mean 'streamer'\?$"):
        check("streamr")


def test_seed_of_a_device_with_a_behaviour_is_refused_with_the_function_for_it() -> None:
    with pytest.raises(DeviceError, match=r"^device passes: it has a behaviour; expected one without, .*") as caught:
        check_seed(0, PASSES)
    assert "check_behaviour_seed" in str(caught.value)
