"""Make the pages about the commands from the commands: `python docs/_ext/command_pages.py`.

It writes docs/cli.md and docs/man/pollbroker.1, which wheels install as a man page. Both are kept in the repository, so
that they can be read and installed without being made; tests/docs/test_command_pages.py fails when they have fallen
behind. Exit codes and environment variables of the man page are those of docs/reference/command-line.md.

click-man was tried: it writes a man page for each command, which leave out the exit codes and what an endpoint is,
since it does not read the `epilog` of a command.
"""

import datetime
import inspect
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

from pollbroker.cli import main
from pollbroker.cli.listing import DEVICES_MODULE, LISTING
from pollbroker.version import __version__

DOCS: Final = Path(__file__).parents[1]
PAGE: Final = DOCS / "cli.md"
MAN_PAGE: Final = DOCS / "man/pollbroker.1"
REFERENCE: Final = DOCS / "reference/command-line.md"
MAKE: Final = "python docs/_ext/command_pages.py"

_KEEP_LINES: Final = "\b"
"""click's mark for a paragraph of which every line stays a line."""


@dataclass(frozen=True)
class Described:
    """What a command says of itself."""

    name: str
    usage: str
    paragraphs: tuple[str, ...]
    options: tuple[tuple[str, str], ...]
    """Each option with its values, and what it does."""


def describe(name: str) -> Described:
    """Describe a command."""
    with click.Context(main, info_name="pollbroker") as group:
        command = main.get_command(group, name)
        assert command is not None
        with click.Context(command, info_name=name, parent=group) as context:
            usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
            records = [one.get_help_record(context) for one in command.params if isinstance(one, click.Option)]
    texts = [inspect.cleandoc(text) for text in (command.help, command.epilog) if text]
    paragraphs = tuple(paragraph for text in texts for paragraph in text.split("\n\n"))
    return Described(name, usage, paragraphs, tuple(record for record in records if record))


def describe_devices() -> tuple[list[Described], Described]:
    """Describe the commands of devices, each without what is the same for all, and what is the same for all."""
    devices = [describe(name) for name, one in LISTING.items() if one.module == DEVICES_MODULE]
    first, *others = devices
    options = tuple(option for option in first.options if all(option in one.options for one in others))
    paragraphs = tuple(text for text in first.paragraphs if all(text in one.paragraphs for one in others))
    name = ("--name TEXT", "The name of the broker. By default that of the device.")
    rest = [
        Described(
            one.name,
            one.usage,
            tuple(text for text in one.paragraphs if text not in paragraphs),
            tuple(option for option in one.options if option not in options and option[0] != name[0]),
        )
        for one in devices
    ]
    return rest, Described("DEVICE", "pollbroker DEVICE [OPTIONS] PORT...", paragraphs, (name, *options))


def _others() -> list[Described]:
    return [describe(name) for name, one in LISTING.items() if one.module != DEVICES_MODULE]


# -- docs/cli.md -------------------------------------------------------------------------------------------------------


def make_page() -> str:
    """Return the page for the site and for the repository."""
    return "\n".join(_page_lines())


def _page_lines() -> Iterator[str]:
    yield f"# Commands\n\n<!-- made by {MAKE} -->\n"
    yield "This page is made from the commands. [The command line](reference/command-line.md) has exit codes,"
    yield "environment variables and completion; `man pollbroker` shows all of it.\n"
    yield "| command | |\n| --- | --- |"
    for name, listed in LISTING.items():
        yield f"| [`pollbroker {name}`](#pollbroker-{name}) | {listed.text} |"
    devices, shared = describe_devices()
    for one in _others():
        yield from _section(one)
    yield "\n## Brokers of one device\n\nWhat is the same for all of the commands below:\n"
    yield from _body(shared)
    for one in devices:
        yield from _section(one)
    yield ""


def _section(one: Described) -> Iterator[str]:
    yield f"\n## pollbroker {one.name}\n"
    yield f"```text\n{one.usage}\n```\n"
    yield from _body(one)


def _body(one: Described) -> Iterator[str]:
    for paragraph in one.paragraphs:
        if paragraph.startswith(_KEEP_LINES):
            yield f"```text\n{paragraph.removeprefix(_KEEP_LINES).strip()}\n```\n"
        else:
            yield f"{_wrapped(_guarded(paragraph), 120)}\n"
    for option, text in one.options:
        yield _wrapped(f"- `{option}`: {_guarded(text)}", 120, indent="  ")


def _wrapped(text: str, width: int, indent: str = "") -> str:
    """A paragraph in lines. No word is broken, so that addresses and options stay whole."""
    return textwrap.fill(
        " ".join(text.split()), width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def _guarded(text: str) -> str:
    """Text in which Markdown sees no marks but code."""
    parts = text.split("`")
    plain = [re.sub(r"([*_<>\[\]])", r"\\\1", part) for part in parts[::2]]
    return "`".join(part for pair in zip(plain, [*parts[1::2], ""], strict=True) for part in pair)[: -1 or None]


# -- docs/man/pollbroker.1 ---------------------------------------------------------------------------------------------


def make_man_page(date: datetime.date) -> str:
    """Return the man page, in the macros of man(7)."""
    return "\n".join(_man_lines(date)) + "\n"


def _man_lines(date: datetime.date) -> Iterator[str]:
    yield f'.\\" Made by {MAKE}'
    yield f'.TH POLLBROKER 1 "{date:%Y-%m-%d}" "pollbroker {__version__}" "User Commands"'
    yield ".SH NAME\npollbroker \\- run ZeroMQ brokers, steer them, and see how they do"
    yield ".SH SYNOPSIS\n.B pollbroker\n.I command\n.RI [ options ]\n.RI [ arguments ]"
    yield ".SH DESCRIPTION"
    yield "Any number of ZeroMQ brokers run in one thread.\nEach command is described below."
    yield ".SH COMMANDS"
    for one in _others():
        yield from _man_section(one)
    devices, shared = describe_devices()
    yield ".SH BROKERS OF ONE DEVICE"
    yield "Each of these commands runs one broker until it is told to end."
    yield "What is the same for all:\n.PP"
    yield from _man_body(shared)
    for one in devices:
        yield from _man_section(one)
    yield ".SH EXIT STATUS"
    for code, meaning in _table_of("code"):
        yield from _man_entry(code, meaning)
    yield ".SH ENVIRONMENT"
    for variable, values, meaning in _table_of("variable"):
        yield from _man_entry(variable, f"{values}: {meaning}")
    yield ".SH SEE ALSO\n.BR zmq (7),\n.BR zmq_proxy_steerable (3)"


def _man_section(one: Described) -> Iterator[str]:
    yield f'.SS "{_roff(one.usage)}"'
    yield from _man_body(one)


def _man_body(one: Described) -> Iterator[str]:
    for number, paragraph in enumerate(one.paragraphs):
        if number:
            yield ".PP"
        if paragraph.startswith(_KEEP_LINES):
            yield ".nf"
            yield from (_roff(line) for line in paragraph.removeprefix(_KEEP_LINES).strip().splitlines())
            yield ".fi"
        else:
            yield _roff_lines(paragraph)
    for option, text in one.options:
        yield from _man_entry(option, text)


def _man_entry(term: str, text: str) -> Iterator[str]:
    yield f".TP\n\\fB{_roff(term)}\\fR\n{_roff_lines(text)}"


def _roff_lines(text: str) -> str:
    """A paragraph in lines for roff."""
    return "\n".join(_roff(line) for line in _wrapped(_without_links(text), 78).splitlines())


def _without_links(text: str) -> str:
    """Text with what a link in Markdown says, and not where it leads."""
    return re.sub(r"\[([^\]]+)\]\([^)]+\)", r"\1", text)


def _roff(text: str) -> str:
    """Text as roff wants it: no backslash, hyphen, or dot at the beginning means anything to it."""
    text = text.replace("`", "").replace("\\|", "|")
    text = text.replace("\\", "\\e").replace("-", "\\-").replace('"', "\\(dq")
    return f"\\&{text}" if text.startswith((".", "'")) else text


def _table_of(heading: str) -> Iterator[list[str]]:
    """The rows of the table of docs/reference/command-line.md whose first column has this heading."""
    _, _, table = REFERENCE.read_text().partition(f"\n| {heading} |")
    for line in table.splitlines()[2:]:
        if not line.startswith("|"):
            return
        yield [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def without_date(man_page: str) -> str:
    """A man page without the day on which it was made."""
    return re.sub(r'^(\.TH \S+ \S+) "[^"]*"', r"\1", man_page, flags=re.MULTILINE)


def write() -> None:
    """Write both pages. The man page keeps its date if nothing else has changed."""
    PAGE.write_text(make_page())
    made = make_man_page(datetime.datetime.now(datetime.UTC).date())
    MAN_PAGE.parent.mkdir(exist_ok=True)
    if not MAN_PAGE.exists() or without_date(made) != without_date(MAN_PAGE.read_text()):
        MAN_PAGE.write_text(made)


if __name__ == "__main__":
    write()
