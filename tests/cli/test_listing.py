"""The list of commands says what the commands say themselves, and help is printed without what the commands import."""

import sys
from types import ModuleType

import click
import pytest

from pollbroker.cli import listing, main
from pollbroker.cli.listing import DEVICES_MODULE, LISTING, Listed, load
from pollbroker.standard_devices import DEVICES
from tests.support.commands import invoke
from tests.support.processes import run_apart

HEAVY = ("zmq", "rich", "asyncio", "msgspec", "hypothesis", "pollbroker.engine", "pollbroker.errors", "sqlite3")


@pytest.mark.parametrize("name", LISTING)
def test_command_has_the_name_and_the_text_under_which_it_is_listed(name: str) -> None:
    command = load(name)
    assert command is not None
    assert (command.name, command.short_help) == (name, LISTING[name].text)


def test_command_may_have_a_hyphen_in_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    module, command = ModuleType("hyphens"), click.Command("two-words")
    vars(module)["two_words"] = command
    monkeypatch.setitem(sys.modules, "hyphens", module)
    monkeypatch.setattr(listing, "LISTING", {"two-words": Listed("Say two words.", "hyphens")})
    assert load("two-words") is command


def test_every_device_has_a_command() -> None:
    devices = {name for name, one in LISTING.items() if one.module == DEVICES_MODULE}
    assert devices == {name.replace("_", "-") for name in DEVICES}


def test_help_lists_every_command_with_its_whole_text() -> None:
    shown = " ".join(invoke("--help").stdout.split())
    for name, one in LISTING.items():
        assert f" {name} {one.text}" in shown


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], []])
def test_help_needs_none_of_what_commands_import(arguments: list[str]) -> None:
    program = f"""if True:
        import sys
        from pollbroker.cli import main
        try:
            main({arguments!r})
        except SystemExit as exit_:
            print(exit_.code, [name for name in {HEAVY!r} if name in sys.modules])
    """
    assert run_apart(program).splitlines()[-1] == "0 []"


def test_group_knows_no_other_command() -> None:
    with main.make_context("pollbroker", ["--help"], resilient_parsing=True) as context:
        assert main.list_commands(context) == sorted(LISTING)
        assert main.get_command(context, "frobnicate") is None
