"""pollbroker's devices in pyzmq's place, for a program whose source cannot be changed.

`patch` sets attributes of pyzmq's modules. Names that a program imported before (`from zmq import proxy`) keep what
they had, so it has to come first. Processes that a program starts are patched by their environment.
"""

import importlib
import os
import sys
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
from pollbroker.devices.proxies import (
    MonitoredQueue,
    MonitoredQueueBase,
    Proxy,
    ProxyBase,
    ProxySteerable,
    ProxySteerableBase,
)
from pollbroker.devices.threads import (
    BackgroundDevice,
    ThreadDevice,
    ThreadMonitoredQueue,
    ThreadProxy,
    ThreadProxySteerable,
)

_OURS: Final[dict[str, Any]] = {
    one.__name__: one
    for one in (
        *(device, proxy, proxy_steerable, monitored_queue),
        *(Device, ThreadDevice, ProcessDevice),
        *(Proxy, ThreadProxy, ProcessProxy),
        *(ProxySteerable, ThreadProxySteerable, ProcessProxySteerable),
        *(MonitoredQueue, ThreadMonitoredQueue, ProcessMonitoredQueue),
        *(BackgroundDevice, ProxyBase, ProxySteerableBase, MonitoredQueueBase),  # for subclasses and isinstance
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
"""Where pyzmq has them: its own modules, too, so that each import of them finds the same."""
_GREEN: Final = ("zmq.green", "zmq.green.device")
"""The same for a program that uses gevent. They import it."""

_AT_START: Final = Path(__file__).parent / "at_start"
"""A directory with what each Python process imports at its start, if PYTHONPATH names it."""

_replaced: dict[tuple[str, str], tuple[Any, Any]] = {}
"""What `patch` has replaced, by module and name, and what it has put there."""


def patch() -> None:
    """Put the classes and functions of `pollbroker.devices` in the place of pyzmq's: `zmq.proxy`, `zmq.device`,
    `zmq.proxy_steerable`, and what `zmq.devices` and its modules have.

    If gevent was imported already, the same is done in `zmq.green`, where `device` becomes that of
    `pollbroker.devices.green`. Otherwise gevent is not imported, and `zmq.green` is left as it is.

    Call it before the program's own modules are imported. Calling it again does nothing more, except for `zmq.green` if
    gevent was imported in the meantime.
    """
    green = _GREEN if "gevent" in sys.modules else ()
    modules = {name: importlib.import_module(name) for name in (*_MODULES, *green)}  # before anything is replaced
    for module_name, module in modules.items():
        for name, ours in _names_for(module_name).items():
            theirs = vars(module).get(name)
            if theirs is not None and theirs is not ours:
                _replaced.setdefault((module_name, name), (theirs, ours))
                setattr(module, name, ours)


def unpatch() -> None:
    """Undo `patch`. Devices that were made meanwhile go on. Calling it again does nothing."""
    for (module_name, name), (theirs, ours) in _replaced.items():
        module = importlib.import_module(module_name)
        if vars(module).get(name) is ours:  # else somebody else has replaced it since
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


def _names_for(module_name: str) -> dict[str, Any]:
    """What is to be found in a module of pyzmq's, if it has something of that name."""
    if module_name not in _GREEN:
        return _OURS
    from pollbroker.devices.green import device as green_device  # which imports gevent

    return {**_OURS, "device": green_device}
