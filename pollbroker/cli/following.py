"""The commands of `pollbroker ctl` that go on: `events` and `tap`. They print until Ctrl-C."""

import json
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from types import FrameType
from typing import Any

import click

from pollbroker.control import Portion, read_stream

EXIT_ENDED = 1
"""The exit code if what was followed has ended."""


def follow_events(endpoint: str, broker: str | None, *, as_json: bool, timeout_s: float) -> int:
    """Print events, of one broker or of all, until Ctrl-C."""
    command = ["EVENTS"] if broker is None else ["EVENTS", broker]
    return _print(read_stream(endpoint, *command, timeout_s=timeout_s), describe_event, as_json=as_json, count=None)


def follow_tap(
    endpoint: str,
    broker: str | None,
    *,
    port: str | None,
    bodies: bool,
    count: int | None,
    as_json: bool,
    timeout_s: float,
) -> int:
    """Print the messages that pass a broker, until Ctrl-C, until `count` were printed, or until the broker ends."""
    if broker is None:
        raise click.UsageError("TAP: expected the name of a broker")
    command = ["TAP", broker, port or "", *(["BODIES"] if bodies else [])]
    return _print(read_stream(endpoint, *command, timeout_s=timeout_s), describe_message, as_json=as_json, count=count)


@contextmanager
def remembering_interrupt() -> Iterator[Callable[[], None]]:
    """As a context, in the main thread: yields a function that raises KeyboardInterrupt if Ctrl-C was pressed.

    Ctrl-C raises it at once, too. But Python drops what is raised in a finalizer, such as that of a socket, and the
    command would go on.
    """
    pressed = False

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal pressed
        pressed = True
        signal.default_int_handler(number, frame)

    def check() -> None:
        if pressed:
            raise KeyboardInterrupt

    previous = signal.getsignal(signal.SIGINT)
    if previous is not signal.default_int_handler:
        yield check  # it is ignored, or somebody else's
        return
    signal.signal(signal.SIGINT, interrupt)
    try:
        yield check
    finally:
        signal.signal(signal.SIGINT, previous)


def _print(portions: Iterator[Portion], describe: Any, *, as_json: bool, count: int | None) -> int:
    left = -1 if count is None else count
    with remembering_interrupt() as check_interrupt, closing(portions):  # type: ignore[type-var]
        for portion in portions:
            check_interrupt()
            for item in portion.items:
                for line in [json.dumps(item)] if as_json else describe(item):
                    click.echo(line)
                left -= 1
                if not left:
                    return 0
            if portion.lost:
                click.echo(json.dumps({"lost": portion.lost}) if as_json else f"... {portion.lost} more were not shown")
            if portion.ended is not None:
                click.echo(f"pollbroker: {portion.ended}", err=True)
    return EXIT_ENDED


def describe_event(event: Mapping[str, Any]) -> Iterator[str]:
    """An event as a line."""
    place = ".".join(filter(None, (event["broker"], event["port"])))
    number = f"{event['count']} events" if event["kind"] == "events_lost" else ""
    parts = (place, event["address"], event["reason"], number)
    yield "  ".join((_clock(event["time_s"]), f"{event['kind']:<18}", *filter(None, parts)))


def describe_message(message: Mapping[str, Any]) -> Iterator[str]:
    """A message as a line, and its bodies, if there are any, as a line for each frame."""
    route = " -> ".join(filter(None, (message["source"], message["sink"])))
    frames = f"{message['frames']} {'frame' if message['frames'] == 1 else 'frames'}"
    sizes = " ".join(map(str, message["sizes"])) + (" ..." if message["frames"] > len(message["sizes"]) else "")
    line = f"{_clock(message['time_s'])}  {route}  {frames}, {message['size']} bytes ({sizes})"
    for name, shown in (("routing_id", "id"), ("topic", "topic")):
        if message[name]:
            line += f"  {shown} {message[name]}"
    yield line
    for body, size in zip(message.get("bodies", ()), message["sizes"], strict=False):
        yield f"    {body or '(empty)'}{' ...' if size > 1024 else ''}"


def _clock(time_s: float) -> str:
    whole, part = divmod(time_s, 1)
    return f"{time.strftime('%H:%M:%S', time.localtime(whole))}.{int(part * 1000):03}"
