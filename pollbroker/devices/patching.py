"""pollbroker's devices in pyzmq's place, for a program whose source cannot be changed.

`patch` sets attributes of pyzmq's modules. Names that a program imported before (`from zmq import proxy`) keep what
they had, so it has to come first. Processes that a program starts are patched by their environment.
"""

import importlib
import os
from pathlib import Path
from typing import Any, Final

from pollbroker.devices.base import Device
from pollbroker.devices.functions import device, monitored_queue, proxy, proxy_steerable
from pollbroker.devices.processes import (
    ProcessDevice,
    ProcessMonitoredQueue,
    ProcessProxy,
    ProcessProxySteerable,
)
from pollbroker.devices.proxies import MonitoredQueue, Proxy, ProxySteerable
from pollbroker.devices.threads import ThreadDevice, ThreadMonitoredQueue, ThreadProxy, ThreadProxySteerable

_OURS: Final[dict[str, Any]] = {
    one.__name__: one
    for one in (
        *(device, proxy, proxy_steerable, monitored_queue),
        *(Device, ThreadDevice, ProcessDevice),
        *(Proxy, ThreadProxy, ProcessProxy),
        *(ProxySteerable, ThreadProxySteerable, ProcessProxySteerable),
        *(MonitoredQueue, ThreadMonitoredQueue, ProcessMonitoredQueue),
    )
}
_MODULES: Final = (
    "zmq",
    "zmq.sugar",
    "zmq.devices",
    "zmq.devices.basedevice",
    "zmq.devices.proxydevice",
    "zmq.devices.proxysteerabledevice",
    "zmq.devices.monitoredqueue",
    "zmq.devices.monitoredqueuedevice",
)
"""Where pyzmq has them: its own modules, too, so that each import of them finds the same. `zmq.green` is left alone."""

_AT_START: Final = Path(__file__).parent / "at_start"
"""A directory with what each Python process imports at its start, if PYTHONPATH names it."""

_replaced: dict[tuple[str, str], Any] = {}
"""What `patch` has replaced, by module and name."""


def patch() -> None:
    """Put the classes and functions of `pollbroker.devices` in the place of pyzmq's: `zmq.proxy`, `zmq.device`,
    `zmq.proxy_steerable`, and what `zmq.devices` and its modules have.

    Call it before the program's own modules are imported. Calling it again does nothing.
    """
    for module_name in _MODULES:
        module = importlib.import_module(module_name)
        for name, ours in _OURS.items():
            theirs = vars(module).get(name)
            if theirs is not None and theirs is not ours:
                _replaced.setdefault((module_name, name), theirs)
                setattr(module, name, ours)


def unpatch() -> None:
    """Undo `patch`. Devices that were made meanwhile go on. Calling it again does nothing."""
    for (module_name, name), theirs in _replaced.items():
        module = importlib.import_module(module_name)
        if vars(module).get(name) is _OURS[name]:  # else somebody else has replaced it since
            setattr(module, name, theirs)
    _replaced.clear()


def patched_environment() -> dict[str, str]:
    """A copy of this process's environment, in which each Python process that starts calls `patch` first, and so do its
    child processes.

        subprocess.run(["ipcontroller", "--ip=127.0.0.1"], env=patched_environment())

    It adds a directory to the variable `PYTHONPATH`. A Python process that ignores this variable (`python -I`, `-E`,
    `-S`) is not patched. One that does not have pollbroker installed says so on stderr, and goes on with pyzmq's.
    """
    before = os.environ.get("PYTHONPATH")
    paths = [str(_AT_START)] if not before else [str(_AT_START), before]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
