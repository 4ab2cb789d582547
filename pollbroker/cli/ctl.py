"""`pollbroker ctl`: send one command to a running engine, and print the reply."""

import json
import struct
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import click
from click.shell_completion import CompletionItem

from pollbroker.cli.arguments import one_of, seconds, some_seconds
from pollbroker.cli.changing import add_brokers, reload_file
from pollbroker.cli.following import follow_events, follow_tap
from pollbroker.control import request
from pollbroker.control.default_endpoint import path_to_ask
from pollbroker.errors import ControlError

_COUNTS: Final = tuple(f"{port} {way}" for port in ("frontend", "backend") for way in ("received", "sent"))

_ANSWER_S: Final = 5.0
"""How long the reply may take by default, beyond the time that a command itself may take."""

_ENDING_S: Final = 60.0
"""How long the reply may take by default if brokers are ended before, which takes `drain_timeout_s` at most."""


def describe_statistics(frames: Sequence[bytes]) -> list[str]:
    """Describe the reply to STATISTICS, with one line for what each port received and one for what it sent.

    Raises `ControlError` if the reply is not 8 frames of 8 bytes, as in zmq_proxy_steerable(3).
    """
    if len(frames) != 2 * len(_COUNTS) or any(len(frame) != 8 for frame in frames):
        raise ControlError(f"STATISTICS: {list(frames)!r} came back; expected 8 frames of 8 bytes")
    numbers = [struct.unpack("=Q", frame)[0] for frame in frames]
    return [
        f"{name:<17}  {count} {'frame' if count == 1 else 'frames'}, {size} bytes"
        for name, count, size in zip(_COUNTS, numbers[::2], numbers[1::2], strict=True)
    ]


def _describe_nothing(frames: Sequence[bytes]) -> list[str]:  # noqa: ARG001 - as the others in `_COMMANDS`
    return ["done"]


def _describe_loss(frames: Sequence[bytes]) -> list[str]:
    return list(filter(None, _describe_list(frames))) or ["done"]


def _describe_list(frames: Sequence[bytes]) -> list[str]:
    return [name.decode(errors="backslashreplace") for name in frames[1:]]


def _describe_json(frames: Sequence[bytes]) -> list[str]:
    return [frame.decode(errors="backslashreplace") for frame in frames[1:]]


@dataclass(frozen=True)
class _Call:
    """What `ctl` was called with, for commands that print or read in a way of their own."""

    endpoint: str
    broker: str | None
    timeout_s: float
    as_json: bool
    port: str | None
    bodies: bool
    count: int | None

    def events(self) -> int | None:
        """Print what happens."""
        return follow_events(self.endpoint, self.broker, as_json=self.as_json, timeout_s=self.timeout_s)

    def tap(self) -> int | None:
        """Print what passes a broker."""
        return follow_tap(
            self.endpoint,
            self.broker,
            port=self.port,
            bodies=self.bodies,
            count=self.count,
            as_json=self.as_json,
            timeout_s=self.timeout_s,
        )

    def add(self) -> int | None:
        """Add the brokers on standard input."""
        return add_brokers(self.endpoint, self.broker, timeout_s=self.timeout_s)

    def reload(self) -> int | None:
        """Let a daemon read its file again."""
        return reload_file(self.endpoint, self.broker, timeout_s=self.timeout_s)


@dataclass(frozen=True)
class _Command:
    """What `ctl` knows of a command."""

    describe: Callable[[Sequence[bytes]], list[str]] = _describe_nothing
    """The lines that describe a reply."""
    takes_time: bool = False
    """True if `--timeout` is how long the command itself may take."""
    default_timeout_s: float = _ANSWER_S
    """What `--timeout` is if it is not given."""
    runs: Callable[["_Call"], int | None] | None = None
    """Carries it out and prints what comes, if it prints or reads in a way of its own."""


_COMMANDS: Final[Mapping[str, _Command]] = {
    "PAUSE": _Command(),
    "RESUME": _Command(),
    "TERMINATE": _Command(),
    "STATISTICS": _Command(describe_statistics),
    "LIST": _Command(_describe_list),
    "STATS": _Command(_describe_json),
    "PEERS": _Command(_describe_json),
    "RELOAD": _Command(runs=_Call.reload, default_timeout_s=_ENDING_S),
    "DRAIN": _Command(takes_time=True),
    "DISABLE": _Command(),
    "ENABLE": _Command(),
    "RECONNECT": _Command(),
    "REMOVE": _Command(_describe_loss, default_timeout_s=_ENDING_S),
    "EVENTS": _Command(runs=_Call.events),
    "TAP": _Command(runs=_Call.tap),
    "ADD": _Command(runs=_Call.add),
}

_KNOWN: Final = frozenset(name.casefold() for name in _COMMANDS)

_command_of = one_of(_COMMANDS, "a command")


class _Arguments(NamedTuple):
    endpoint: str
    command: str
    broker: str | None


def _parse(words: Sequence[str]) -> _Arguments:
    """Tell the arguments apart: an endpoint has `://` in it, and no command has. Raises `click.UsageError`."""
    rest = list(words)
    known = [word.casefold() in _KNOWN for word in words]
    has_endpoint = "://" in words[0] if words else False
    if not has_endpoint and known[:2] == [False, True]:
        has_endpoint = True  # it is malformed, which is said where it is parsed
    endpoint = rest.pop(0) if has_endpoint else f"ipc://{path_to_ask()}"
    if not rest:
        raise click.UsageError(f"no command is given; expected one of {', '.join(_COMMANDS)}")
    if len(rest) > 2:
        raise click.UsageError(f"{rest[2]!r}: expected [ENDPOINT] COMMAND [BROKER] and nothing more")
    return _Arguments(endpoint, _command_of(rest[0]), rest[1] if len(rest) > 1 else None)


class _Word(click.ParamType):  # type: ignore[type-arg]  # which only newer versions of click have
    """One of the words that `_parse` tells apart. Shells complete commands."""

    name = "word"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Return the commands that begin so, where the command belongs."""
        before: Sequence[str] = ctx.params.get("words") or ()
        if [("://" in word) for word in before] in ([], [True]):
            return _command_of.shell_complete(ctx, param, incomplete)
        return []


@click.command(short_help="Steer a running engine, or read its statistics.")
@click.argument("words", nargs=-1, type=_Word(), metavar="[ENDPOINT] COMMAND [BROKER]")
@click.option(
    "--timeout",
    "timeout_s",
    type=seconds,
    metavar="SECONDS",
    default=None,
    help="The longest time to wait for the reply; for DRAIN, and PAUSE with --wait, how long the command may take. By "
    f"default {_ANSWER_S:g}, and {_ENDING_S:g} for REMOVE and RELOAD, which end brokers in order.",
)
@click.option("--wait", is_flag=True, help="With PAUSE: return when what the brokers held was delivered.")
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="With STATS: print JSON also on a terminal. With EVENTS and TAP: print each as a line of JSON.",
)
@click.option("--table", "as_table", is_flag=True, help="With STATS: print a table also where no terminal reads it.")
@click.option(
    "--watch",
    "watch_s",
    type=some_seconds,
    is_flag=False,
    flag_value="2",
    default=None,
    metavar="[SECONDS]",
    help="With STATS: print it again and again, every 2 seconds or as often as this says, until Ctrl-C.",
)
@click.option("--port", metavar="PORT", help="With TAP: only what comes from this port, or goes to it.")
@click.option("--bodies", is_flag=True, help="With TAP: print the beginning of each frame, if the daemon allows it.")
@click.option("--count", type=click.IntRange(1), metavar="N", help="With TAP: end after so many messages.")
def ctl(
    words: tuple[str, ...],
    timeout_s: float | None,
    wait: bool,
    as_json: bool,
    as_table: bool,
    watch_s: float | None,
    port: str | None,
    bodies: bool,
    count: int | None,
) -> int | None:
    """Send COMMAND to the engine whose control socket is at ENDPOINT, and print the reply. Commands may be in lower
    case.

    Without ENDPOINT it is that of the daemon: $RUNTIME_DIRECTORY/control, $XDG_RUNTIME_DIR/pollbroker/control or
    /run/pollbroker/control, the first that is there.

    PAUSE, RESUME, DRAIN (wait until nothing is held and nothing is left to read), TERMINATE, STATISTICS (numbers of
    frames and bytes), STATS (all statistics: a table on a terminal, and otherwise JSON) and PEERS (who is connected to
    ports of the wire, as JSON) apply to all brokers of the engine, or only to the one named BROKER. DISABLE (nobody new
    may connect), ENABLE and RECONNECT (make connections again, with names looked up again) need a BROKER. LIST prints
    the names of the brokers. RELOAD makes `pollbroker run` read its file again, and prints what has changed; if
    anything is wrong with the file, nothing has, and it prints what is wrong.

    REMOVE ends a broker in order: it delivers what it has first. ADD adds the brokers on standard input, tables
    [brokers.NAME] in TOML, to those of `pollbroker run`. EVENTS prints what happens, until Ctrl-C: brokers come and go,
    peers connect and leave, handshakes fail. TAP prints the messages that pass a broker: their sizes, and the routing
    id or the topic.

    Exit codes: 0 it is done; 1 the broker that was followed has ended; 2 the arguments were wrong; 3 the engine has
    refused the command; 4 nobody listens at ENDPOINT; 5 there was no answer in time, or it was not done in time; 130 it
    was ended by Ctrl-C.
    """
    endpoint, command, broker = _parse(words)
    for option, given, needed in (
        ("--wait", wait, ("PAUSE",)),
        ("--json", as_json, ("STATS", "EVENTS", "TAP")),
        ("--table", as_table, ("STATS",)),
        ("--watch", watch_s is not None, ("STATS",)),
        ("--port", port is not None, ("TAP",)),
        ("--bodies", bodies, ("TAP",)),
        ("--count", count is not None, ("TAP",)),
    ):
        if given and command not in needed:
            where = " and ".join(filter(None, (", ".join(needed[:-1]), needed[-1])))
            raise click.UsageError(f"{option}: it goes with {where} only, and not with {command}")
    if as_json and as_table:
        raise click.UsageError("--json, --table: expected one of them")
    if timeout_s is None:
        timeout_s = _COMMANDS[command].default_timeout_s
    if command == "STATS" and (as_table or watch_s is not None or not as_json):
        table = as_table or (not as_json and sys.stdout.isatty())
        _print_stats(lambda: request(endpoint, "STATS", broker, timeout_s=timeout_s), table, watch_s)
        return None
    runs = _COMMANDS[command].runs
    if runs is not None:
        return runs(_Call(endpoint, broker, timeout_s, as_json, port, bodies, count))
    wait_s = timeout_s if wait or _COMMANDS[command].takes_time else None
    answer_s = timeout_s if wait_s is None else _ANSWER_S
    for line in _COMMANDS[command].describe(request(endpoint, command, broker, wait_s=wait_s, timeout_s=answer_s)):
        click.echo(line)
    return None


def _print_stats(ask: Callable[[], Sequence[bytes]], table: bool, watch_s: float | None) -> None:
    if not table:
        while True:
            for line in _describe_json(ask()):
                click.echo(line)
            if watch_s is None:
                return
            sys.stdout.flush()
            time.sleep(watch_s)
    from pollbroker.cli.statistics_table import print_table  # rich takes a while to import

    print_table(lambda: json.loads(ask()[1]), watch_s)
