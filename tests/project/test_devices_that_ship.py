"""Each device that ships is where users look for it: among the names of the package, in the README, and on a page."""

import re

import pytest

import pollbroker
from pollbroker import DEVICES, Device
from tests.support.tree import TREE


@pytest.mark.parametrize("device", DEVICES.values(), ids=DEVICES)
def test_device_is_exported_and_has_a_row_in_the_readme(device: Device) -> None:
    name = device.name.upper()
    assert getattr(pollbroker, name) is device
    rows = re.findall(r"^\| (`[^|]+) \|", (TREE / "README.md").read_text(), re.MULTILINE)
    assert any(f"`{name}`" in row for row in rows)


def test_every_package_of_a_behaviour_has_a_page_to_which_others_lead() -> None:
    packages = sorted(path.parent.name for path in (TREE / "pollbroker/patterns").glob("*/__init__.py"))
    assert "balancer" in packages
    for package in packages:
        assert (TREE / f"docs/patterns/{package}.md").exists()
        for page in ("index", "reference/devices", "howto/behaviour"):
            assert f"patterns/{package}" in (TREE / f"docs/{page}.md").read_text()
