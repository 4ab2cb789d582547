"""docs/cli.md and the man page say what the commands say, and man reads the man page without complaint."""

import datetime
import importlib.util
import re
import shutil
import subprocess
from typing import Any

import pytest

from pollbroker.cli.failures import EXIT_CODES
from pollbroker.cli.listing import LISTING
from tests.support.tree import TREE

SOURCE = TREE / "docs/_ext/command_pages.py"
PAGE = TREE / "docs/cli.md"
MAN_PAGE = TREE / "docs/man/pollbroker.1"
MAKE = "python docs/_ext/command_pages.py"
DEADLINE_S = 60


@pytest.fixture(scope="module")
def maker() -> Any:
    """The module that makes the pages."""
    spec = importlib.util.spec_from_file_location("command_pages", SOURCE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_page_of_commands_is_current(maker: Any) -> None:
    assert maker.make_page() == PAGE.read_text(), f"docs/cli.md has fallen behind the commands: run {MAKE}"


def test_man_page_is_current(maker: Any) -> None:
    made = maker.make_man_page(datetime.date(2000, 1, 1))
    assert maker.without_date(made) == maker.without_date(MAN_PAGE.read_text()), (
        f"docs/man/pollbroker.1 has fallen behind the commands: run {MAKE}"
    )


def test_both_pages_have_every_command_and_the_command_that_makes_them() -> None:
    page, man_page = PAGE.read_text(), MAN_PAGE.read_text()
    for name in LISTING:
        assert f"\n## pollbroker {name}\n" in page
        assert re.search(
            rf'^\.SS "pollbroker {re.escape(name).replace("-", "-")}[ "]', man_page.replace("\\-", "-"), re.M
        )
    assert MAKE in page
    assert MAKE in man_page


def test_man_page_has_every_exit_code_and_variable() -> None:
    man_page = MAN_PAGE.read_text().replace("\\-", "-")
    ends = man_page[man_page.index(".SH EXIT STATUS") : man_page.index(".SH ENVIRONMENT")]
    assert {0, 1, 130, 143, 129, 141, *EXIT_CODES.values()} == {
        int(code) for codes in re.findall(r"\\fB([\d, ]+)\\fR", ends) for code in codes.split(", ")
    }
    for variable in ("POLLBROKER_PUMP", "POLLBROKER_WAITER", "POLLBROKER_TRANSPORT"):
        assert f"\\fB{variable}\\fR" in man_page[man_page.index(".SH ENVIRONMENT") :]


def test_man_page_has_no_link_of_markdown() -> None:
    assert [line for line in MAN_PAGE.read_text().splitlines() if "](" in line] == []


def test_what_means_something_to_roff_is_escaped(maker: Any) -> None:
    assert maker._roff(".so /etc/passwd") == "\\&.so /etc/passwd"
    assert maker._roff("'br") == "\\&'br"
    assert maker._roff("a\\fBb --c") == "a\\efBb \\-\\-c"


@pytest.mark.skipif(shutil.which("mandoc") is None, reason="mandoc is not installed here")
def test_mandoc_finds_nothing_wrong_with_the_man_page() -> None:
    done = subprocess.run(
        ["mandoc", "-T", "lint", "-W", "warning", str(MAN_PAGE)], capture_output=True, text=True, timeout=DEADLINE_S
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.skipif(shutil.which("man") is None, reason="man is not installed here")
def test_man_shows_the_man_page_without_a_warning() -> None:
    command = ["man", "--warnings", "--encoding=UTF-8", "--local-file", str(MAN_PAGE)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, env={"PATH": "/usr/bin:/bin"})
    assert (done.returncode, done.stderr) == (0, "")
    assert "EXIT STATUS" in done.stdout
    assert "pollbroker queue [OPTIONS] FRONTEND BACKEND" in done.stdout
