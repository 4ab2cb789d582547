"""Legs: the messages that went in at one end of a path and came out at another, matched with each other.

A path without a handler has a leg to each of its sinks, from the peers that send to the peers that receive. A path with
a handler has a leg to the handler, and one from it to each sink. An output is matched with the input that has the same
frames. Two inputs differ by their marks.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from pollbroker.testing.peers import envelope_of
from pollbroker.testing.trace import Frames, Got, Handled, Joined, Left, Path, Returned, Sent, Sink, Trace


class Input(NamedTuple):
    """A message that went in."""

    at: int
    producer: str
    frames: Frames
    expected_at: frozenset[str] = frozenset()
    """The subscribers that are to receive it, where each receives a copy."""


class Output(NamedTuple):
    """A message that came out."""

    at: int
    consumer: str
    frames: Frames
    tail: bool = False


@dataclass
class Leg:
    """One leg of a path."""

    path: Path
    name: str
    sink: Sink | None
    """The sink at which the leg ends; None if it ends at a handler."""
    inputs: list[Input] = field(default_factory=list)
    outputs: list[Output] = field(default_factory=list)
    matches: list[int | None] = field(default_factory=list)
    """For each output the place of its input, or None if there is none."""
    alike: set[int] = field(default_factory=set)
    """The places of inputs that have the same frames as others: a handler may return the same message again, or two
    handlers the same. The order of such messages cannot be checked."""
    _whole: dict[Frames, list[int]] = field(default_factory=lambda: defaultdict(list))
    _tails: dict[Frames, list[int]] = field(default_factory=lambda: defaultdict(list))
    _seen: dict[tuple[str, Frames], int] = field(default_factory=lambda: defaultdict(int))

    @property
    def from_peers(self) -> bool:
        """Return True if the leg begins at peers, and not at a handler."""
        return self.sink is None or not self.path.handled

    @property
    def to_many(self) -> bool:
        """Return True if the leg ends where each subscriber gets a copy."""
        return self.sink is not None and self.sink.to_many

    @property
    def to_router(self) -> bool:
        """Return True if the leg ends at a ROUTER."""
        return self.sink is not None and self.sink.to_router

    def put_in(self, message: Input) -> None:
        """Add an input. All inputs are added before the first output."""
        expected = as_it_arrives(self.path, message.frames)
        place = len(self.inputs)
        self.inputs.append(message)
        self._whole[expected].append(place)
        self._tails[expected[len(envelope_of(expected)) :]].append(place)
        if len(self._whole[expected]) > 1:
            self.alike.update(self._whole[expected])

    def find_alike(self, others: "Iterable[Leg]") -> None:
        """Note the inputs that have the same frames as inputs of other legs that end at the same port."""
        for other in others:
            for frames in self._whole.keys() & other._whole.keys():
                self.alike.update(self._whole[frames])

    def take_out(self, output: Output) -> None:
        """Add an output and match it with an input. Of several with the same frames, the first output is matched with
        the first input, and so on; where each subscriber gets a copy, first with those that this one is to receive."""
        places = self.places_of(output)
        if self.to_many and len(places) > 1:
            places = sorted(places, key=lambda place: output.consumer not in self.inputs[place].expected_at)
        key = self._key(output)
        self.outputs.append(output)
        self.matches.append(places[min(self._seen[key], len(places) - 1)] if places else None)
        self._seen[key] += 1

    def places_of(self, output: Output) -> list[int]:
        """The places of the inputs that have the same frames as an output."""
        return (self._tails if output.tail else self._whole).get(output.frames, [])

    def awaits(self, output: Output) -> bool:
        """Return True if fewer outputs like this one have come out than went in."""
        return self._seen.get(self._key(output), 0) < len(self.places_of(output))

    def _key(self, output: Output) -> tuple[str, Frames]:
        return output.consumer if self.to_many else "", output.frames


def joined_at(trace: Trace, path: Path, port: str) -> set[str]:
    """The names of the peers that have joined at one end of a path."""
    return {one.peer for _, one in trace.of(Joined) if (one.line, one.side) == (path.line, port)}


def may_have_been_another_s(trace: Trace, leg: Leg, output: Output) -> bool:
    """Return True if a message may have been queued for another consumer, that has left since."""
    if not trace.queues or leg.sink is None or leg.sink.is_addressed or leg.sink.to_many:
        return False
    consumers = joined_at(trace, leg.path, leg.sink.port)
    return any(at < output.at and event.peer in consumers for at, event in trace.of(Left))


def as_it_arrives(path: Path, frames: Frames) -> Frames:
    """The frames of a message at the far end of a path."""
    if path.prefix_is_added:
        return path.prefix + frames
    return frames[len(path.prefix) :]


def legs_of(trace: Trace) -> list[Leg]:
    """The legs of all paths on which messages of peers travel."""
    known: int
    legs: list[Leg]
    known, legs = trace.memory.get("legs", (-1, []))
    if known == len(trace.events):
        return legs
    paths = [path for path in trace.paths.values() if not path.upstream]
    to_handlers = {path.name: Leg(path, f"{path.name} to its handler", None) for path in paths if path.handled}
    to_sinks = {path.name: [_leg_to(path, sink) for sink in path.sinks] for path in paths}
    _put_in(trace, to_handlers, to_sinks)
    _take_out(trace, to_handlers, to_sinks)
    legs = [*to_handlers.values(), *(leg for several in to_sinks.values() for leg in several)]
    trace.memory["legs"] = len(trace.events), legs
    return legs


def _leg_to(path: Path, sink: Sink) -> Leg:
    name = f"{path.name} from its handler" if path.handled else path.name
    return Leg(path, f"{name} to {sink.port}" if len(path.sinks) > 1 else name, sink)


def _put_in(trace: Trace, to_handlers: dict[str, Leg], to_sinks: dict[str, list[Leg]]) -> None:
    lost = frozenset[bytes]().union(*(event.lost for _, event in trace.of(Left)))
    for at, event in enumerate(trace.events):
        if type(event) is Sent:
            if event.mark in lost:
                continue
            message = Input(at, event.peer, event.frames, event.expected_at or frozenset())
            for leg in [to_handlers[event.path]] if event.path in to_handlers else to_sinks[event.path]:
                leg.put_in(message)
        elif type(event) is Returned:
            message = Input(at, "the handler", event.frames, event.expected_at)
            for leg in to_sinks.get(event.path, ()):  # there are none for subscriptions
                if event.port is None or (leg.sink is not None and leg.sink.port == event.port):
                    leg.put_in(message)


def _take_out(trace: Trace, to_handlers: dict[str, Leg], to_sinks: dict[str, list[Leg]]) -> None:
    by_port: dict[tuple[str, str], list[Leg]] = defaultdict(list)
    for legs in to_sinks.values():
        for leg in legs:
            assert leg.sink is not None
            by_port[leg.path.line, leg.sink.port].append(leg)
    for several in by_port.values():
        for leg in several:
            leg.find_alike(other for other in several if other is not leg)
    for at, event in enumerate(trace.events):
        if type(event) is Got:
            path = trace.paths[event.path]
            output = Output(at, event.peer, event.frames, event.tail)
            _ending_leg(by_port[path.line, event.port or path.sinks[0].port], path, output).take_out(output)
        elif type(event) is Handled and event.path in to_handlers:
            to_handlers[event.path].take_out(Output(at, "the handler", event.frames))


def _ending_leg(legs: list[Leg], path: Path, output: Output) -> Leg:
    """The leg, of those that end at one port, on which an output came: of this path, unless the frames say otherwise.
    A handler may have changed the mark by which the path is known."""
    if len(legs) == 1:
        return legs[0]
    likely = sorted(legs, key=lambda leg: leg.path is not path)
    return next(
        (leg for leg in likely if leg.awaits(output)), next((leg for leg in likely if leg.places_of(output)), likely[0])
    )


def legs_by_port(trace: Trace) -> dict[tuple[str, str], list[Leg]]:
    """The legs that end at peers, by the broker and the port at which they end."""
    by_port: dict[tuple[str, str], list[Leg]] = defaultdict(list)
    for leg in legs_of(trace):
        if leg.sink is not None:
            by_port[leg.path.flows[-1].broker, leg.sink.port].append(leg)
    return by_port


def shown(frames: Frames) -> str:
    """Frames as text for an error message, with long frames cut."""
    return "[" + ", ".join(repr(frame[:40]) + ("..." if len(frame) > 40 else "") for frame in frames) + "]"
