"""`top` at work: once, or live until its user ends it."""

import time
from queue import Empty
from typing import Final

from rich.console import Console
from rich.live import Live

from pollbroker.cli.top.asking import Asking, Done, Silent, Told, ask_stats
from pollbroker.cli.top.drawing import Picture, table_of
from pollbroker.cli.top.figures import Recent
from pollbroker.cli.top.terminal import open_terminal
from pollbroker.cli.top.view import Ask, Quit, View
from pollbroker.control.client import parse_endpoint

_PLAIN_WIDTH: Final = 120
"""How wide the table of `--once` is where there is no terminal."""


def print_once(endpoint: str, view: View, interval_s: float, timeout_s: float) -> None:
    """Print one table, with the rates of one interval."""
    recent = Recent()
    recent.take(ask_stats(endpoint, timeout_s), None)
    begun_s = time.monotonic()
    time.sleep(interval_s)
    recent.take(ask_stats(endpoint, timeout_s), time.monotonic() - begun_s)
    view.show(recent.figures)
    console = Console(highlight=False)
    width = console.width if console.is_terminal else _PLAIN_WIDTH
    table = table_of(view.groups, width, ascii_only=not console.encoding.startswith("utf"))
    console.print(table, width=width, no_wrap=True, crop=False)


def watch(endpoint: str, view: View, interval_s: float, timeout_s: float) -> None:
    """Show the brokers until the user ends it. Raises `EndpointError`, since no engine will ever answer there."""
    parse_endpoint(endpoint)
    recent, picture = Recent(), Picture(view, endpoint)
    picture.trouble = "asked, and not answered yet"
    with (
        open_terminal() as terminal,
        Asking(endpoint, interval_s=interval_s, timeout_s=timeout_s, on_news=terminal.wake) as asking,
        Live(picture, console=Console(highlight=False), screen=True, auto_refresh=False) as live,
    ):
        while True:
            live.refresh()
            for key in terminal.wait():
                match view.on_key(key):
                    case Quit():
                        return
                    case Ask() as ask:
                        asking.ask(ask)
                view.show(recent.figures)
            _take_news(asking, recent, picture)


def _take_news(asking: Asking, recent: Recent, picture: Picture) -> None:
    while True:
        try:
            news = asking.news.get_nowait()
        except Empty:
            return
        match news:
            case Told(stats, elapsed_s):
                recent.take(stats, elapsed_s)
                picture.view.show(recent.figures)
                picture.turns_s = recent.turns_s
                picture.trouble = None
            case Silent(why):
                told = why.removeprefix(f"{picture.endpoint}: ")  # which may leave no room for the rest
                picture.trouble = f"trying again: {told}"
            case Done(text):
                picture.notice = text
