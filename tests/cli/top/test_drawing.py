"""What is drawn fits into the terminal, whatever its size."""

import io

import pytest
from rich.console import Console

from pollbroker.cli.top.drawing import Picture, short_number, short_time, sparkline
from pollbroker.cli.top.figures import Recent
from pollbroker.cli.top.view import View
from tests.cli.top.documents import broker, flow, stats, waits


def draw(picture: Picture, width: int, height: int, encoding: str = "utf-8") -> list[str]:
    output = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    console = Console(
        file=output, width=width, height=height, force_terminal=True, color_system=None, legacy_windows=False
    )
    console.print(picture, height=height, end="")
    output.flush()
    output.buffer.seek(0)
    return output.buffer.read().decode(encoding).split("\n")


def picture_of(number: int) -> Picture:
    view = View()
    recent = Recent()
    for sent in (0, 12_345):
        moved = flow(sent=sent, received=sent, sent_bytes=sent * 100, stalled_s=sent / 20_000, waits=waits(first=sent))
        back = flow(source="backend", sinks=("frontend",), state="stalled", held=1, slow_peer=3)
        brokers = [broker(f"broker-{one:04}-of-a-long-name", moved, back, peers=1234) for one in range(number)]
        recent.take(stats(*brokers, turns=sent), 1.0 if sent else None)
    view.show(recent.figures)
    picture = Picture(view, "ipc:///run/pollbroker/control")
    picture.turns_s = recent.turns_s
    return picture


@pytest.mark.parametrize("number", [0, 1, 10, 11, 400])
@pytest.mark.parametrize(("width", "height"), [(80, 24), (132, 50), (60, 10), (40, 5), (80, 6)])
def test_picture_is_as_large_as_the_terminal(number: int, width: int, height: int) -> None:
    lines = draw(picture_of(number), width, height)
    assert len(lines) == height
    assert max(map(len, lines)) <= width


def test_every_figure_is_there_at_80_by_24() -> None:
    lines = draw(picture_of(2), 80, 24)
    assert lines[0] == "2 brokers  24.7k in/s  24.7k out/s  12.3k turns/s  ipc:///run/pollbroker/contr…"
    assert lines[2].split() == ["broker", "from", "state", "out/s", "stall", "held", "drops", "peers", "p50", "p99"]
    first, second = lines[3], lines[4]
    assert first.startswith("broker-00")
    assert first.split()[1:] == ["frontend", "waiting", "12.3k", "▁█", "62%", "0", "0", "1.2k", "<1ms", "<1ms"]
    assert second.split() == ["backend", "stalled", "0", "▁▁", "0%", "1", "3", "1.2k", "-", "-"]
    assert lines[-1].startswith("q ends  p pause/resume")


def test_more_columns_are_there_where_there_is_room() -> None:
    lines = draw(picture_of(1), 120, 24)
    assert lines[2].split() == [
        "broker",
        "from",
        "state",
        "in/s",
        "out/s",
        "B/s",
        "stall",
        "held",
        "drops",
        "peers",
        "p50",
        "p99",
    ]
    assert lines[3].startswith("broker-0000-of-a-long-name ")


def test_terminal_without_utf8_has_other_bars() -> None:
    lines = draw(picture_of(1), 80, 24, encoding="ascii")
    assert lines[3].split()[4] == "_#"


def test_trouble_and_the_filter_are_shown() -> None:
    picture = picture_of(1)
    picture.view.on_key("/")
    picture.view.on_key("x")
    assert draw(picture, 80, 24)[1].rstrip() == "filter: x_"
    picture.trouble = "nobody listens there; " + "x" * 200
    assert draw(picture, 80, 24)[1].startswith("nobody listens there; xxx")


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (0.25, "0.2"), (9, "9"), (999, "999"), (1000, "1.0k"), (99_949, "99.9k"), (99_951, "100k"),
     (999_499, "999k"), (999_501, "1.0M"), (2**64, "18447P")],
)  # fmt: skip
def test_numbers_are_short(number: float, text: str) -> None:
    assert short_number(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "-"), (0.0, "<1ms"), (0.001, "1.0ms"), (0.0099, "9.9ms"), (0.01, "10ms"), (0.999, "999ms"), (1, "1.0s"),
     (9.94, "9.9s"), (9.96, "10s"), (100, "100s")],
)  # fmt: skip
def test_durations_are_short(seconds: float | None, text: str) -> None:
    assert short_time(seconds) == text


def test_sparkline_is_relative_to_the_greatest_rate() -> None:
    assert sparkline([0, 1, 2, 4, 8], 5) == "▁▂▃▅█"
    assert sparkline([5], 3) == "  █"
    assert sparkline([0, 0], 3) == " ▁▁"
    assert sparkline(list(range(100)), 4)[-1] == "█"
