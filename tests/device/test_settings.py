"""The settings of a device with a behaviour."""

from typing import Any, Literal

import pytest
import zmq

from pollbroker import QUEUE, Behaviour, BehaviourError, Device, DeviceError
from pollbroker.settings import settings_of


class Limited(Behaviour):
    def __init__(self, *, limit: int = 10, policy: Literal["first", "last"] = "first") -> None:
        if limit < 1:
            raise BehaviourError(f"Limited: limit is {limit}: expected a positive number")
        self.limit = limit
        self.policy = policy

    def on_message(self, port: str, frames: list[bytes]) -> None:
        self.send(port, frames)


LIMITED = Device("limited", zmq.ROUTER, behaviour=Limited)


def made_by(device: Device) -> Limited:
    assert device.behaviour is not None
    behaviour = device.behaviour()
    assert isinstance(behaviour, Limited)
    return behaviour


def test_behaviour_is_made_with_the_settings() -> None:
    device = LIMITED.with_settings(limit=3)
    assert (made_by(device).limit, made_by(device).policy) == (3, "first")
    assert made_by(LIMITED).limit == 10
    assert device.name == "limited"


def test_settings_that_were_set_before_are_kept() -> None:
    device = LIMITED.with_settings(limit=3).with_settings(policy="last")
    assert (made_by(device).limit, made_by(device).policy) == (3, "last")
    assert made_by(device.with_settings(limit=4)).limit == 4


def test_each_broker_has_a_behaviour_of_its_own() -> None:
    device = LIMITED.with_settings(limit=3)
    assert made_by(device) is not made_by(device)


def test_devices_with_the_same_settings_are_equal() -> None:
    assert LIMITED.with_settings(limit=3) == LIMITED.with_settings(limit=3)
    assert LIMITED.with_settings(limit=3) != LIMITED.with_settings(limit=4)


@pytest.mark.parametrize(
    ("device", "settings", "expected"),
    [
        (QUEUE, {"limit": 1}, "device queue: it has no behaviour, and so no settings"),
        (LIMITED, {"limits": 1}, "device limited: its behaviour has no setting limits; did you mean 'limit'?"),
        (LIMITED, {"x": 1}, "device limited: its behaviour has no setting x; its settings are: limit, policy"),
    ],
)
def test_setting_that_does_not_exist_raises(device: Device, settings: dict[str, Any], expected: str) -> None:
    with pytest.raises(DeviceError) as raised:
        device.with_settings(**settings)
    assert str(raised.value) == expected


def test_wrong_value_raises_at_once() -> None:
    with pytest.raises(BehaviourError, match="Limited: limit is 0: expected a positive number"):
        LIMITED.with_settings(limit=0)


def test_settings_can_be_listed_with_their_types_and_values() -> None:
    device = LIMITED.with_settings(limit=3)
    assert device.behaviour is not None
    settings = settings_of(device.behaviour)
    assert {name: (one.annotation, one.default) for name, one in settings.items()} == {
        "limit": (int, 3),
        "policy": (Literal["first", "last"], "first"),
    }
