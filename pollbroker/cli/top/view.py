"""What the user of `top` has chosen: the order, the filter, the selected broker; and what keys do. Nothing is drawn or
sent here."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from pollbroker.cli.top.figures import Figures

SORTS: Final[Mapping[str, Callable[[Figures], float]]] = {
    "name": lambda _: 0.0,
    "rate": lambda one: one.sent_s,
    "stalled": lambda one: one.stalled,
    "held": lambda one: one.held,
    "drops": lambda one: one.dropped_s or one.dropped * 1e-9,
    "wait": lambda one: one.wait_p99_s or 0.0,
}
"""By what brokers can be sorted: the greatest comes first, and equal ones by name."""

_SORT_KEYS: Final = {"n": "name", "r": "rate", "s": "stalled", "h": "held", "d": "drops", "w": "wait"}

KEYS_SHOWN: Final = "q ends  p pause/resume  / filter  sort: n r s h d w (again: reversed)"


class Ask(NamedTuple):
    """A command that is to be sent to the engine."""

    command: str
    broker: str


class Quit(NamedTuple):
    """The end of `top`."""


@dataclass(frozen=True)
class Group:
    """A broker with its directions."""

    name: str
    flows: tuple[Figures, ...]


class View:
    """What is shown of the figures."""

    def __init__(self, *, sort: str = "name", filter_text: str = "") -> None:
        self.sort = sort
        self.reversed = False
        self.filter_text = filter_text
        self.typing = False
        """True while the user types the filter."""
        self.selected: str | None = None
        """The name of the selected broker."""
        self._groups: tuple[Group, ...] = ()
        self._page = 10

    @property
    def groups(self) -> tuple[Group, ...]:
        """The brokers that fit the filter, in order."""
        return self._groups

    def show(self, figures: Iterable[Figures]) -> None:
        """Take new figures, and sort and filter them."""
        flows: dict[str, list[Figures]] = {}
        for one in figures:
            flows.setdefault(one.broker, []).append(one)
        text = self.filter_text.casefold()
        groups = [Group(name, tuple(of)) for name, of in flows.items() if text in name.casefold()]
        key = SORTS[self.sort]
        groups.sort(key=lambda group: group.name)
        if self.sort != "name":
            groups.sort(key=lambda group: max(map(key, group.flows)), reverse=True)
        if self.reversed:
            groups.reverse()
        self._groups = tuple(groups)
        if groups and self.selected not in {group.name for group in groups}:
            self.selected = groups[0].name

    def visible(self, lines: int) -> Sequence[Group]:
        """The brokers that fit into so many lines, the selected one among them. The last may not fit whole."""
        self._page = max(1, lines // 2)
        index = self._index()
        first, used = index, len(self._groups[index].flows) if self._groups else 0
        while first > 0 and used + len(self._groups[first - 1].flows) <= lines:
            first -= 1
            used += len(self._groups[first].flows)
        last = index + 1
        while last < len(self._groups) and used < lines:
            used += len(self._groups[last].flows)
            last += 1
        return self._groups[first:last]

    def on_key(self, key: str) -> Ask | Quit | None:
        """Do what a key asks for. What is not done here is returned. `show` is to be called with the same figures
        afterwards, since the order or the filter may be another."""
        if key == "ctrl-c":
            return Quit()
        if self.typing:
            self._type(key)
            return None
        if key == "q":
            return Quit()
        if key in _SORT_KEYS:
            self.reversed = _SORT_KEYS[key] == self.sort and not self.reversed
            self.sort = _SORT_KEYS[key]
        elif key == "/":
            self.typing = True
        elif key == "escape":
            self.filter_text = ""
        elif key in ("p", " "):
            return self._pause_or_resume()
        else:
            self._move(key)
        return None

    def _type(self, key: str) -> None:
        if key in ("enter", "escape"):
            self.typing = False
            if key == "escape":
                self.filter_text = ""
        elif key == "backspace":
            self.filter_text = self.filter_text[:-1]
        elif len(key) == 1:
            self.filter_text += key

    def _move(self, key: str) -> None:
        steps = {"up": -1, "k": -1, "down": 1, "j": 1, "pageup": -self._page, "pagedown": self._page}
        steps |= {"home": -len(self._groups), "end": len(self._groups)}
        if key in steps and self._groups:
            index = min(max(self._index() + steps[key], 0), len(self._groups) - 1)
            self.selected = self._groups[index].name

    def _index(self) -> int:
        return next((index for index, group in enumerate(self._groups) if group.name == self.selected), 0)

    def _pause_or_resume(self) -> Ask | None:
        if not self._groups:
            return None
        group = self._groups[self._index()]
        paused = any(flow.state == "paused" for flow in group.flows)
        return Ask("RESUME" if paused else "PAUSE", group.name)
