"""What keys do: sorting, filtering, selecting, pausing."""

import pytest

from pollbroker.cli.top.figures import Recent
from pollbroker.cli.top.terminal import keys_of
from pollbroker.cli.top.view import Ask, Quit, View
from pollbroker.statistics import BrokerStatistics, FlowStatistics
from tests.cli.top.documents import broker, flow, stats, waits


def figures(*brokers: BrokerStatistics) -> Recent:
    recent = Recent()
    recent.take(stats(*(broker(one.name, *map(_begun, one.flows)) for one in brokers)), None)
    recent.take(stats(*brokers), 1.0)
    return recent


def _begun(source: str) -> FlowStatistics:
    return flow(source=source)


THREE = (
    broker("alpha", flow(sent=5, held=1), flow(source="backend", sent=1)),
    broker("beta", flow(sent=9, slow_peer=1, stalled_s=0.1, waits=waits(first=1))),
    broker("gamma", flow(sent=1, held=8, stalled_s=0.9, waits=waits(last=1)), state="paused"),
)


def names(view: View) -> list[str]:
    return [group.name for group in view.groups]


def press(view: View, *keys: str) -> list[object]:
    done = []
    for key in keys:
        done.append(view.on_key(key))
        view.show(figures(*THREE).figures)
    return [one for one in done if one is not None]


@pytest.fixture
def view() -> View:
    view = View()
    view.show(figures(*THREE).figures)
    return view


@pytest.mark.parametrize(
    ("key", "order"),
    [
        ("n", ["alpha", "beta", "gamma"]),
        ("r", ["beta", "alpha", "gamma"]),
        ("s", ["gamma", "beta", "alpha"]),
        ("h", ["gamma", "alpha", "beta"]),
        ("d", ["beta", "alpha", "gamma"]),
        ("w", ["gamma", "beta", "alpha"]),
    ],
)
def test_keys_sort_and_the_same_key_again_reverses(view: View, key: str, order: list[str]) -> None:
    press(view, "r" if key == "n" else "n", key)
    assert names(view) == order
    press(view, key)
    assert names(view) == order[::-1]
    press(view, key)
    assert names(view) == order


def test_filter_is_typed_and_escape_ends_it(view: View) -> None:
    press(view, "/", "M", "q")
    assert (view.typing, view.filter_text, names(view)) == (True, "Mq", [])
    press(view, "backspace")
    assert names(view) == ["gamma"]
    assert view.selected == "gamma"
    press(view, "enter", "escape")
    assert (view.typing, names(view)) == (False, ["alpha", "beta", "gamma"])


def test_selected_broker_is_paused_or_resumed(view: View) -> None:
    assert press(view, "p", "down", "p", "end", "p") == [
        Ask("PAUSE", "alpha"),
        Ask("PAUSE", "beta"),
        Ask("RESUME", "gamma"),
    ]


def test_nothing_is_paused_where_nothing_is_shown() -> None:
    assert View().on_key("p") is None
    assert View().on_key("down") is None


def test_selection_stays_within_the_brokers_and_with_its_broker(view: View) -> None:
    press(view, "up")
    assert view.selected == "alpha"
    press(view, "down", "down", "down", "down")
    assert view.selected == "gamma"
    press(view, "r", "r")  # sorted anew
    assert view.selected == "gamma"
    press(view, "home")
    assert view.selected == names(view)[0]


def test_q_ends_but_not_while_the_filter_is_typed(view: View) -> None:
    assert press(view, "q") == [Quit()]
    assert press(view, "/", "q") == []
    assert press(view, "ctrl-c") == [Quit()]


def test_selected_broker_is_always_visible() -> None:
    view = View()
    view.show(figures(*(broker(f"b{number:02}") for number in range(50))).figures)
    for _ in range(60):
        view.on_key("down")
        assert view.selected in {group.name for group in view.visible(7)}
        assert len(view.visible(7)) == 7
    assert [group.name for group in view.visible(7)] == [f"b{number}" for number in range(43, 50)]


def test_keys_are_told_from_what_a_terminal_sends() -> None:
    assert list(keys_of("q\x1b[A\x1b[6~\x7f\rä\x00")) == ["q", "up", "pagedown", "backspace", "enter", "ä"]
    assert list(keys_of("\x1b")) == ["escape"]
    assert list(keys_of("\x1b\x1b[A")) == ["escape", "up"]


@pytest.mark.parametrize(
    "sent",
    ["\x1b[D", "\x1b[3~", "\x1bOP", "\x1b[15~", "\x1b[1;5D", "\x1b[[A", "\x1bO5P", "\x1bp", "\x1bq", "\x1bä"],
    ids=["left", "delete", "F1", "F5", "ctrl-left", "F1-linux", "ctrl-F1", "alt-p", "alt-q", "alt-ä"],
)
def test_key_that_has_no_name_is_ignored_and_none_of_its_characters_is_another(sent: str) -> None:
    assert list(keys_of(sent)) == []
    assert list(keys_of(f"p{sent}q\x1b[B{sent}")) == ["p", "q", "down"]
