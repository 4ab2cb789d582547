"""`pollbroker top`: the command. What it needs for drawing is imported when it is called, so that other commands begin
sooner."""

import sys

import click

from pollbroker.cli.arguments import one_of, some_seconds
from pollbroker.cli.top.view import SORTS, View


@click.command(short_help="Watch the brokers of a running engine, live.")
@click.argument("endpoint")
@click.option("--once", is_flag=True, help="Print one table, with the rates of one interval, and end.")
@click.option(
    "--interval",
    "interval_s",
    type=some_seconds,
    metavar="SECONDS",
    default=1.0,
    show_default=True,
    help="The time between two looks.",
)
@click.option(
    "--sort",
    type=one_of(SORTS, "an order"),
    metavar="ORDER",
    default="name",
    show_default=True,
    help=f"What comes first: {', '.join(SORTS)}.",
)
@click.option("--filter", "filter_text", metavar="TEXT", default="", help="Show brokers whose names have TEXT in them.")
@click.option(
    "--timeout",
    "timeout_s",
    type=some_seconds,
    metavar="SECONDS",
    default=5.0,
    show_default=True,
    help="The longest time to wait for an answer.",
)
def top(endpoint: str, once: bool, interval_s: float, sort: str, filter_text: str, timeout_s: float) -> None:
    """Watch the brokers of the engine whose control socket is at ENDPOINT: a line for each direction, with its state,
    messages a second, the part of the time in which its sink was full (stall), messages held and dropped, peers at its
    source (on ports of the wire), and how long messages waited in the broker (p50, p99). What a handler filters out is
    among those dropped, and so is what a behaviour has taken and need not send on, which is no loss.

    Keys: q ends; the arrows select a broker, and p pauses or resumes it; / filters by name; n, r, s, h, d and w sort by
    name, rate, stall, messages held, drops and wait. If the engine ends, this says so, and waits for its return.

    Exit codes: 0 it was ended; 2 the arguments were wrong, or there is no terminal; with --once, those of
    `pollbroker ctl`.
    """
    from pollbroker.cli.top.watching import print_once, watch

    view = View(sort=sort, filter_text=filter_text)
    if once:
        print_once(endpoint, view, interval_s, timeout_s)
    elif not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise click.UsageError("there is no terminal; expected one, or --once")
    else:
        watch(endpoint, view, interval_s, timeout_s)
