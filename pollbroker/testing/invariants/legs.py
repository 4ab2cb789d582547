"""Legs: the messages that went in at one end of a path and came out at the other, matched with each other.

A path without a handler is one leg, from the peers that send to the peers that receive. A path with a handler is two
legs: one to the handler, and one from it. An output is matched with the input that has the same frames. Two inputs
differ by their marks.
"""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import NamedTuple

from pollbroker.testing.peers import envelope_of
from pollbroker.testing.trace import Frames, Got, Handled, Path, Returned, Sent, Trace


class Input(NamedTuple):
    """A message that went in."""

    at: int
    producer: str
    frames: Frames


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
    inputs: list[Input] = field(default_factory=list)
    outputs: list[Output] = field(default_factory=list)
    matches: list[int | None] = field(default_factory=list)
    """For each output the place of its input, or None if there is none."""
    alike: set[int] = field(default_factory=set)
    """The places of inputs that have the same frames as others: a handler may return the same message again. The order
    of such messages cannot be checked."""
    last: bool = True
    """Whether the leg ends at peers, and not at a handler."""

    def match(self) -> None:
        """Match the outputs with the inputs. Of several with the same frames, the first output is matched with the
        first input, and so on."""
        whole: dict[Frames, list[int]] = defaultdict(list)
        tails: dict[Frames, list[int]] = defaultdict(list)
        for place, one in enumerate(self.inputs):
            expected = as_it_arrives(self.path, one.frames)
            whole[expected].append(place)
            tails[expected[len(envelope_of(expected)) :]].append(place)
        self.alike = {place for places in whole.values() if len(places) > 1 for place in places}
        seen: dict[tuple[str, Frames], int] = defaultdict(int)
        for output in self.outputs:
            alike = (tails if output.tail else whole).get(output.frames)
            if alike is None:
                self.matches.append(None)
                continue
            key = (output.consumer if self.path.to_many else "", output.frames)
            self.matches.append(alike[min(seen[key], len(alike) - 1)])
            seen[key] += 1


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
    there: dict[str, Leg] = {}
    here: dict[str, Leg] = {}
    for path in trace.paths.values():
        if path.upstream:
            continue
        there[path.name] = here[path.name] = Leg(path, path.name)
        if path.handled:
            there[path.name] = Leg(path, f"{path.name} to its handler", last=False)
            here[path.name] = Leg(path, f"{path.name} from its handler")
    for at, event in enumerate(trace.events):
        if type(event) is Sent:
            there[event.path].inputs.append(Input(at, event.peer, event.frames))
        elif type(event) is Got:
            here[event.path].outputs.append(Output(at, event.peer, event.frames, event.tail))
        elif type(event) is Handled:
            there[event.path].outputs.append(Output(at, "the handler", event.frames))
        elif type(event) is Returned:
            here[event.path].inputs.append(Input(at, "the handler", event.frames))
    legs = list({id(leg): leg for leg in (*there.values(), *here.values())}.values())
    for leg in legs:
        leg.match()
    trace.memory["legs"] = len(trace.events), legs
    return legs


def shown(frames: Frames) -> str:
    """Frames as text for an error message, with long frames cut."""
    return "[" + ", ".join(repr(frame[:40]) + ("..." if len(frame) > 40 else "") for frame in frames) + "]"
