"""One meaning for a word: names that were given up do not come back."""

import re
from pathlib import Path

import pytest

from tests.support.tree import TREE

GIVEN_UP = {
    "hush": "drain_waker",
    "rouse": "schedule",
    "roused": "scheduled",
    "bell": "on_ready",
    "look_alive": "check_alive",
    "patient": "probe_when_full",
    "surroundings": "loop_access",
    "pumping": "implementation",
    "follow": "send_next, or carry_out",
    "settling_down_s": "ADDRESS_RELEASE_S",
    "timeout_ms=": "timeout_s",
    "handlerpump": "routingpump",
    "armed": "retries.waiting",
    "portname": "str, the name of any port",
    "pumpfactory": "implementation",
    "crew": "peerprocesses",
}
"""Each name, and what stands in its place."""

PROSE = {"armed", "crew", "follow", "bell", "rouse", "patient", "surroundings", "pumping"}
"""Words of everyday language, which prose may use: of these only names in code are looked at."""


def names_in(text: str) -> set[str]:
    """The identifiers of a file, in lower case and without underscores at their ends; comments and strings left out."""
    code = re.sub(r'""".*?"""|"[^"\n]*"|#[^\n]*', "", text, flags=re.DOTALL)
    return {name.lower().strip("_") for name in re.findall(r"[A-Za-z_]\w*", code)}


@pytest.mark.parametrize("folder", ["pollbroker", "tests", "bench", "examples"])
def test_names_that_were_given_up_are_not_used(folder: str) -> None:
    found = [
        f"{path.relative_to(TREE)}: {name}: expected {GIVEN_UP[name]}"
        for path in sorted((TREE / folder).rglob("*"))
        if path.suffix in (".py", ".pyx", ".pxi") and path != Path(__file__)
        for name in sorted(names_in(path.read_text()) & GIVEN_UP.keys())
    ]
    assert not found


@pytest.mark.parametrize("word", sorted(GIVEN_UP.keys() - PROSE))
def test_pages_do_not_name_what_is_gone(word: str) -> None:
    pages = [*TREE.glob("*.md"), *(TREE / "docs").rglob("*.md")]
    assert not [page.name for page in pages if re.search(rf"\b{re.escape(word)}\b", page.read_text())]
