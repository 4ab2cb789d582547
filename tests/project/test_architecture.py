"""ARCHITECTURE.md names what there is: every room, and every module of the rooms whose modules it lists."""

import re

import pytest

from tests.support.tree import TREE

PAGE = (TREE / "ARCHITECTURE.md").read_text()
PACKAGE = TREE / "pollbroker"


@pytest.mark.parametrize("room", ["", "control", "daemon", "devices", "engine", "handing_over", "metrics", "pump"])
def test_every_module_is_named(room: str) -> None:
    modules = {path.name for path in (PACKAGE / room).glob("*.py")} - {"__init__.py", "__main__.py", "version.py"}
    assert len(modules) > 2
    assert [name for name in sorted(modules) if not re.search(rf"[`/]{name}`", PAGE)] == []


def test_every_room_is_named() -> None:
    rooms = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert {"engine", "pump"} < rooms
    assert [room for room in sorted(rooms) if f"`{room}/`" not in PAGE] == []
