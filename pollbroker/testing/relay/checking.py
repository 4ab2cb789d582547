"""Checking relays: in this process, or, for relays that may hang or abort, each situation in a process of its own."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from typing import Final, cast

from pollbroker.device import Device
from pollbroker.standard_devices import find_device
from pollbroker.testing.devices import named
from pollbroker.testing.relay.harness import Relay, RelayHarness
from pollbroker.testing.relay.invariants import RELAY_INVARIANTS
from pollbroker.testing.relay.situations import SITUATIONS, situations_of
from pollbroker.testing.relay.trace import RelayTrace
from pollbroker.testing.violation import InvariantViolation

DEADLINE_S: Final = 5.0
"""When nothing has moved for this time, the kit stops waiting. It is far longer than any relay needs for one step."""

KEPT: Final = "kept"
"""The verdict on a situation in which every promise was kept."""

_STARTING_S: Final = 10.0
"""How long a process may take to start on a busy machine."""

_WAITS: Final = 3
"""How many deadlines can pass one after the other in a situation: for messages that never come, for the relay's end,
and for the end of its context."""


def play(
    relay: Relay, device: Device | str, situation: str, *, seed: int = 0, deadline_s: float = DEADLINE_S
) -> RelayTrace:
    """Run a relay in one situation and return the trace, which is not judged yet."""
    chosen = SITUATIONS[situation]
    found = find_device(device)
    harness = RelayHarness(relay, found, seed=seed, deadline_s=deadline_s, mark=chosen.mark, no_drop=chosen.no_drop)
    try:
        chosen.play(harness)
    finally:
        trace = harness.stop()
    return trace


def check_relay(
    start: Relay,
    device: Device | str = "queue",
    *,
    situations: Iterable[str] | None = None,
    seed: int = 0,
    deadline_s: float = DEADLINE_S,
) -> None:
    """Run a relay in one situation after the other, in this process.

    Raises `InvariantViolation` for the first situation in which a promise is broken, and adds a note that names the
    situation. A relay that does not end with its context keeps its thread.

    Arguments:
        start: the relay. It is called in a thread of its own with two bound sockets, frontend and backend, and relays
            between them until their context ends; then it returns or raises `zmq.ContextTerminated`. If it has an
            attribute `dropped`, a function that returns how many messages the relay has dropped and counted, it is not
            blamed for the loss of those.
        device: which sockets the relay gets, with which options: "queue", "forwarder" or "streamer", or a `Device`.
        situations: names from `SITUATIONS`; by default all that are possible with the device.
        seed: decides what the messages carry.
        deadline_s: when nothing has moved for this time, a message that is missing counts as not coming any more.
    """
    for name in _chosen(device, situations):
        try:
            judge(play(start, device, name, seed=seed, deadline_s=deadline_s))
        except InvariantViolation as violation:
            violation.add_note(f"in the situation {name!r}, seed {seed}")
            raise


def judge(trace: RelayTrace) -> None:
    """Raise `InvariantViolation` for the first promise that a trace shows to be broken."""
    for invariant in RELAY_INVARIANTS:
        invariant(trace)


def examine_relay(
    start: str,
    device: str = "queue",
    *,
    situations: Iterable[str] | None = None,
    seed: int = 0,
    deadline_s: float = DEADLINE_S,
    process_deadline_s: float | None = None,
) -> dict[str, str]:
    """Run a relay in one situation after the other, each in a process of its own, which the relay may hang or abort.

    Arguments:
        start: where the relay is: "module:function", importable from here. See `check_relay`.
        device: the name of a device in `DEVICES`, or where a `Device` is: "module:name".
        situations: as in `check_relay`.
        seed: as in `check_relay`.
        deadline_s: as in `check_relay`.
        process_deadline_s: after this time a process is killed; by default it is longer than a process can take that
            does not hang.

    Returns for each situation "kept", or what was broken: "progress: ...", "hung: ...", "died (SIGABRT): ...".

    Raises `RuntimeError` if a process fails, for example because it cannot import the relay.
    """
    limit_s = _STARTING_S + _WAITS * deadline_s if process_deadline_s is None else process_deadline_s
    names = list(_chosen(resolve_device(device), situations))
    return {name: _examine(start, device, name, seed, deadline_s, limit_s) for name in names}


def _chosen(device: Device | str, situations: Iterable[str] | None) -> Iterator[str]:
    known = situations_of(find_device(device))
    for name in known if situations is None else situations:
        if name not in known:
            raise ValueError(f"situation {name!r}: expected one of {', '.join(known)}")
        yield name


def _examine(start: str, device: str, situation: str, seed: int, deadline_s: float, limit_s: float) -> str:
    arguments = [start, device, situation, str(seed), str(deadline_s)]
    # The process can import whatever this one can.
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pollbroker.testing.relay", *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=limit_s,
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"hung: its process was killed after {limit_s:g} s"
    errors = done.stderr.strip().splitlines()
    last = f": {errors[-1]}" if errors else ""
    if done.returncode < 0:
        return f"died ({signal.Signals(-done.returncode).name}){last}"
    if done.returncode:
        raise RuntimeError(f"{start}: its process ended with {done.returncode}{last}")
    answer = json.loads(done.stdout.splitlines()[-1])
    return str(answer["verdict"])


def find_relay(where: str) -> Relay:
    """Return the relay at "module:function". Raises `ValueError` if there is none."""
    return cast(Relay, named(where))


def resolve_device(where: str) -> Device:
    """Return the device of that name in `DEVICES`, or the device at "module:name"."""
    return find_device(cast(Device, named(where)) if ":" in where else where)
