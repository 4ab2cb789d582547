"""What peers say to the devices that ship, so that seeds and `check_device` come further than garbage would."""

from typing import Final

from pollbroker.device import Device
from pollbroker.testing.behaviours.scenario import Talk

TALKS: Final[dict[str, Talk]] = {}
"""The talk with each device, by the name of the device."""


def talk_with(device: Device) -> Talk:
    """What the kit's peers say to a device."""
    return TALKS.get(device.name, Talk())
