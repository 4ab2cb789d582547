"""Checking relays: in this process, or each situation in a process of its own, for relays that may hang or abort."""

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
"""For how long nothing has to have moved before the kit gives up; far more than any relay needs for anything."""

KEPT: Final = "kept"
"""The verdict on a situation in which every promise was kept."""

_STARTING_S: Final = 10.0
"""How long a process may take to start on a busy machine."""

_WAITS: Final = 3
"""At most so many deadlines pass one after the other in a situation: in vain for something, and for the end."""


def play(
    relay: Relay, device: Device | str, situation: str, *, seed: int = 0, deadline_s: float = DEADLINE_S
) -> RelayTrace:
    """Put a relay into one situation and return the trace of it, unjudged."""
    what = SITUATIONS[situation]
    found = find_device(device)
    harness = RelayHarness(relay, found, seed=seed, deadline_s=deadline_s, mark=what.mark, no_drop=what.no_drop)
    try:
        what.play(harness)
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
    """Put a relay into one situation after the other, in this process. Raises `InvariantViolation` for the first in
    which a promise is broken, with the situation in its notes.

    A relay that does not end with its context is left behind in its thread.

    Arguments:
        start: is called in a thread of its own with two bound sockets, frontend and backend, and relays between them
            until their context ends; then it returns or raises `zmq.ContextTerminated`. With an attribute `dropped`
            (a function: how many messages it has dropped and counted) it is not blamed for losing those.
        device: one of "queue", "forwarder" and "streamer", or a definition: which sockets, with which options.
        situations: names from `SITUATIONS`; by default all that can be at the device.
        seed: decides what the messages are made of.
        deadline_s: for how long nothing has to have moved before something is taken not to come any more.
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
    """Put a relay into one situation after the other, each in a process of its own: it may hang there, or abort it.

    Arguments:
        start: where the relay is: "module:function", importable from here. See `check_relay`.
        device: the name of one in `DEVICES`, or where a definition is: "module:name".
        process_deadline_s: when such a process is killed; by default later than it can take unless it hangs.

    Returns for each situation "kept", or what was broken: "progress: ...", "hung: ...", "died (SIGABRT): ...".

    Raises `RuntimeError` if the relay cannot be had there.
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
    # What can be imported here can be imported there.
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
    said = done.stderr.strip().splitlines()
    last = f": {said[-1]}" if said else ""
    if done.returncode < 0:
        return f"died ({signal.Signals(-done.returncode).name}){last}"
    if done.returncode:
        raise RuntimeError(f"{start}: its process ended with {done.returncode}{last}")
    told = json.loads(done.stdout.splitlines()[-1])
    return str(told["verdict"])


def find_relay(where: str) -> Relay:
    """The relay at "module:function". Raises `ValueError` if there is none."""
    return cast(Relay, named(where))


def resolve_device(where: str) -> Device:
    """The device of that name in `DEVICES`, or at "module:name"."""
    return find_device(cast(Device, named(where)) if ":" in where else where)
