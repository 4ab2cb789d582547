"""A drop-in for `zmq.devices`: the same classes and functions, run by pollbroker's engine.

    from pollbroker.devices import ThreadProxy  # in place of: from zmq.devices import ThreadProxy

The names, signatures and attributes are those of `zmq.devices`, with `device`, `proxy` and `proxy_steerable` of the
package `zmq` beside them; `pollbroker.devices.green`, which needs gevent, has the `device` of `zmq.green`. `patch` puts
them in pyzmq's place for a program whose source cannot be changed, and `patched_environment` does so in processes that
are started.
"""

from pollbroker.devices.base import Device
from pollbroker.devices.functions import device, monitored_queue, proxy, proxy_steerable
from pollbroker.devices.patching import patch, patched_environment, unpatch
from pollbroker.devices.processes import (
    ProcessDevice,
    ProcessMonitoredQueue,
    ProcessProxy,
    ProcessProxySteerable,
)
from pollbroker.devices.proxies import MonitoredQueue, Proxy, ProxySteerable
from pollbroker.devices.threads import ThreadDevice, ThreadMonitoredQueue, ThreadProxy, ThreadProxySteerable

__all__ = [
    "Device",
    "MonitoredQueue",
    "ProcessDevice",
    "ProcessMonitoredQueue",
    "ProcessProxy",
    "ProcessProxySteerable",
    "Proxy",
    "ProxySteerable",
    "ThreadDevice",
    "ThreadMonitoredQueue",
    "ThreadProxy",
    "ThreadProxySteerable",
    "device",
    "monitored_queue",
    "patch",
    "patched_environment",
    "proxy",
    "proxy_steerable",
    "unpatch",
]
