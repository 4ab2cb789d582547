"""The pages about configuration files say what is so."""

import re
from pathlib import Path

import pytest

from pollbroker.daemon import ConfigurationError, read_checked, tables
from pollbroker.daemon.configuration import DEFAULT_OPTIONS
from tests.daemon.conftest import Write
from tests.support.tree import TREE

HOW_TO = (TREE / "docs/howto/daemon.md").read_text()
REFERENCE = (TREE / "docs/reference/configuration.md").read_text()

(MY_DEVICES,) = re.findall(r"^```python\n(.*?)^```$", HOW_TO, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", ["README.md", "docs/howto/daemon.md"])
def test_example_on_the_page_passes_the_check(write: Write, page: str) -> None:
    (example,) = re.findall(r"^```toml\n(.*?)^```$", (TREE / page).read_text(), re.MULTILINE | re.DOTALL)
    write(MY_DEVICES, "my_devices.py")
    assert read_checked(write(example), {"MINE_PORT": "8001"}).brokers


def test_problems_on_the_page_are_those_that_are_reported(write: Write) -> None:
    (shown,) = re.findall(r"^```text\n(.*?)^```$", HOW_TO, re.MULTILINE | re.DOTALL)
    write("[brokers.orders]\ndevice = 'queue'", "conf.d/b.toml")
    text = (
        "include = ['conf.d/b.toml']\n\n\n\n\n[brokers.orders]\ndevice = 'queue'\nfrontned = 'tcp://*:1'\n"
        "options = { sndhwm = -1 }\nbackend = 'tcp://*:2'\n"
    )
    with pytest.raises(ConfigurationError) as caught:
        read_checked(write(text))
    assert str(caught.value).splitlines() == shown.splitlines()


def test_reference_has_the_keys_of_every_table() -> None:
    listed = set(re.findall(r"^```{configuration-keys} (\w+)$", REFERENCE, re.MULTILINE))
    assert listed == {name for name in vars(tables) if name.endswith("Table")}


def test_defaults_that_the_page_names_are_those_that_are_set() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| ([\d,]+) ", HOW_TO, re.MULTILINE))
    assert {name: int(value.replace(",", "")) for name, value in rows.items()} == dict(DEFAULT_OPTIONS)


def test_page_is_where_the_commands_are() -> None:
    page = (TREE / "docs/cli.md").read_text()
    for name in ("run", "check", "show", "schema", "init"):
        assert f"\n## pollbroker {name}\n" in page
    assert Path(TREE / "docs/howto/daemon.md").exists()
