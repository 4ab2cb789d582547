"""Both twins on sockets that fail when a test says so, and a count of the frames that the native one keeps.

Real sockets are used throughout; what fails is a chosen operation on one of them. The native code finds libzmq's
functions with `ctypes.CDLL` when it is imported. So a second copy of the very extension that is installed is imported
here, and is given functions that are written in Python: they call libzmq's, count what they are given, and fail when it
is their turn. The Python twin is given sockets of a subclass that does the same.
"""

import ctypes
import gc
import importlib.machinery
import importlib.util
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Final
from unittest import mock

import zmq
from zmq.backend.cython import _zmq

from pollbroker.pump import PYTHON, native_classes
from pollbroker.pump.limits import MAXFRAMES
from tests.support.types import Socket

INT_MAX: Final = 2**31 - 1
HUGE: Final = -1
"""Instead of an errno: the receive succeeds, and says what libzmq says of a frame of 2 GiB or more."""

_EXCEPTIONS: Final[dict[int, type[zmq.ZMQError]]] = {zmq.EAGAIN: zmq.Again, zmq.ETERM: zmq.ContextTerminated}


class Faults:
    """Which operations are to fail, and how many were tried so far."""

    def __init__(self) -> None:
        self.waiting: list[str] = []
        """The calls that would have waited, which none may."""
        self._planned: dict[tuple[str, int], dict[int, int]] = defaultdict(dict)
        self._actions: dict[tuple[str, int], dict[int, Callable[[], None]]] = defaultdict(dict)
        self._tried: dict[tuple[str, int], int] = defaultdict(int)

    def plan(self, operation: str, socket: Socket | None, *places: int, code: int) -> None:
        """Have `operation` ("recv", "send", "events", "init_size") fail with an errno at these places, counted from
        now, where 1 is the next one. `init_size` has no socket."""
        key = (operation, _address(socket))
        for place in places:
            self._planned[key][self._tried[key] + place] = code

    def meanwhile(self, operation: str, socket: Socket, place: int, action: Callable[[], None]) -> None:
        """Have something done just before an operation, which is then tried as ever."""
        key = (operation, _address(socket))
        self._actions[key][self._tried[key] + place] = action

    def next(self, operation: str, address: int) -> int:
        """The errno with which this operation is to fail, or 0."""
        key = (operation, address)
        self._tried[key] += 1
        action = self._actions[key].pop(self._tried[key], None)
        if action is not None:
            action()
        return self._planned[key].pop(self._tried[key], 0)

    def times(self, operation: str, socket: Socket | None) -> int:
        """How often an operation was tried."""
        return self._tried[operation, _address(socket)]

    @property
    def all_met(self) -> bool:
        """Return True if everything that was planned has happened. If not, the test shows nothing."""
        return not any(self._planned.values()) and not any(self._actions.values())


def _address(socket: Socket | None) -> int:
    return 0 if socket is None else int(socket.underlying)


# -- the native one ----------------------------------------------------------------------------------------------------


class CountingLibzmq:
    """What the second copy of the native code takes for libzmq."""

    def __init__(self) -> None:
        self.faults = Faults()
        self.live = 0
        """Frames with content that the native code owns: received, made or copied, and neither sent nor closed. A frame
        that is overwritten or freed without having been closed stays in it, as its memory does."""
        self._real = ctypes.CDLL(_zmq.__file__, use_errno=True)
        self._real.zmq_msg_size.restype = ctypes.c_size_t
        self._errno = 0
        self._functions: dict[str, Any] = {}
        pointer, number, size = ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t
        for name, function, arguments in (
            ("zmq_msg_close", self._close, (pointer,)),
            ("zmq_msg_init_size", self._init_size, (pointer, size)),
            ("zmq_msg_copy", self._copy, (pointer, pointer)),
            ("zmq_msg_recv", self._recv, (pointer, pointer, number)),
            ("zmq_msg_send", self._send, (pointer, pointer, number)),
            ("zmq_getsockopt", self._getsockopt, (pointer, number, pointer, pointer)),
            ("zmq_errno", lambda: self._errno, ()),
        ):
            getattr(self._real, name).argtypes = arguments
            self._functions[name] = ctypes.CFUNCTYPE(number, *arguments)(function)
        for name in ("zmq_msg_size", "zmq_msg_init"):
            getattr(self._real, name).argtypes = (pointer,)

    def __getattr__(self, name: str) -> Any:
        return self._functions[name] if name in self._functions else getattr(self._real, name)

    def _call(self, name: str, *arguments: Any) -> int:
        result = getattr(self._real, name)(*arguments)
        assert isinstance(result, int)
        if result < 0:
            self._errno = ctypes.get_errno()
        return result

    def _has_content(self, msg: int) -> bool:
        return bool(self._real.zmq_msg_size(msg) > 0)

    def _fails(self, operation: str, address: int) -> bool:
        code = self.faults.next(operation, address)
        self._errno = code or self._errno
        return code > 0

    def _without_waiting(self, name: str, flags: int) -> int:
        if not flags & zmq.DONTWAIT:
            self.faults.waiting.append(name)
        return flags | int(zmq.DONTWAIT)

    def _close(self, msg: int) -> int:
        self.live -= self._has_content(msg)
        return self._call("zmq_msg_close", msg)

    def _init_size(self, msg: int, size: int) -> int:
        if self._fails("init_size", 0):
            return -1
        self.live += size > 0
        return self._call("zmq_msg_init_size", msg, size)

    def _copy(self, target: int, source: int) -> int:
        self.live += self._has_content(source) - self._has_content(target)
        return self._call("zmq_msg_copy", target, source)

    def _recv(self, msg: int, socket: int, flags: int) -> int:
        flags = self._without_waiting("zmq_msg_recv", flags)
        code = self.faults.next("recv", socket)
        if code > 0:
            self._errno = code
            return -1
        had_content = self._has_content(msg)
        result = self._call("zmq_msg_recv", msg, socket, flags)
        if result >= 0:
            self.live += self._has_content(msg) - had_content
        return INT_MAX if code == HUGE else result

    def _send(self, msg: int, socket: int, flags: int) -> int:
        flags = self._without_waiting("zmq_msg_send", flags)
        if self._fails("send", socket):
            return -1
        had_content = self._has_content(msg)
        result = self._call("zmq_msg_send", msg, socket, flags)
        self.live -= had_content and result >= 0
        return result

    def _getsockopt(self, socket: int, option: int, value: int, size: int) -> int:
        if option == zmq.EVENTS and self._fails("events", socket):
            return -1
        return self._call("zmq_getsockopt", socket, option, value, size)


@cache
def _counted_native() -> tuple[ModuleType, CountingLibzmq]:
    """The second copy, and its libzmq, which must live as long: one for a process, since it cannot be unloaded."""
    native = import_module("pollbroker.pump.native")
    assert native.__file__ is not None
    libzmq = CountingLibzmq()
    with tempfile.TemporaryDirectory() as directory:
        path = shutil.copy(native.__file__, directory)  # another file: else the loader gives the same copy again
        loader = importlib.machinery.ExtensionFileLoader(native.__name__, path)
        spec = importlib.util.spec_from_file_location(native.__name__, path, loader=loader)
        assert spec is not None
        with mock.patch.object(ctypes, "CDLL", return_value=libzmq):
            copy = importlib.util.module_from_spec(spec)
            loader.exec_module(copy)
    assert Path(str(copy.__file__)) != Path(native.__file__)
    return copy, libzmq


# -- the Python one ----------------------------------------------------------------------------------------------------


def _faulty(socket: Socket, faults: Faults) -> Socket:
    """Another object for a socket, whose operations fail when it is their turn."""
    address = _address(socket)

    def check(operation: str, flags: int = int(zmq.DONTWAIT)) -> None:
        if not flags & zmq.DONTWAIT:
            faults.waiting.append(operation)
        code = faults.next(operation, address)
        if code > 0:
            raise _EXCEPTIONS.get(code, zmq.ZMQError)(code)

    class FaultySocket(zmq.Socket[Any]):
        def send(self, data: Any, flags: int = 0, *args: Any, **kwargs: Any) -> Any:
            check("send", flags)
            return super().send(data, flags | zmq.DONTWAIT, *args, **kwargs)

        def recv(self, flags: int = 0, *args: Any, **kwargs: Any) -> Any:
            check("recv", flags)
            return super().recv(flags | zmq.DONTWAIT, *args, **kwargs)

        def getsockopt(self, option: int) -> Any:
            if option == zmq.EVENTS:
                check("events")
            return super().getsockopt(option)

    return FaultySocket(shadow=socket.underlying)


# -- both --------------------------------------------------------------------------------------------------------------


class Twin:
    """One of the twins on sockets that may fail."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._of: Callable[[Socket], Socket]
        if name == "native":
            module, self._libzmq = _counted_native()
            self.faults = self._libzmq.faults = Faults()
            gc.collect()  # what an earlier test has left closes its frames now, and not later
            self._libzmq.live = 0
            self._of = lambda socket: socket
            self.implementation = native_classes(module)
        else:
            self.faults = Faults()
            self._of = lambda socket: _faulty(socket, self.faults)
            self.implementation = PYTHON

    @property
    def live(self) -> int:
        """Frames with content that it owns; of the Python twin the interpreter counts them."""
        return self._libzmq.live if self.name == "native" else 0

    def socket(self, socket: Socket) -> Socket:
        """The same socket, as this twin is to be given it."""
        return self._of(socket)

    def pump(self, source: Socket, sink: Socket, *, capture: Socket | None = None, **options: Any) -> Any:
        """A pump between sockets that may fail."""
        copies = None if capture is None else self._of(capture)
        return self.implementation.make_pump(self._of(source), self._of(sink), capture=copies, **options)

    def sending(
        self, sink: Socket, capture: Socket | None = None, prefix: bytes | None = None, drop_slow_peer: bool = True
    ) -> Any:
        """The sending side of a route with a handler, on sockets that may fail."""
        copies = None if capture is None else self._of(capture)
        return self.implementation.make_sender(self._of(sink), copies, prefix, drop_slow_peer)

    def receiver(self, socket: Socket, maxframes: int = MAXFRAMES) -> Any:
        """The receiving side of a route with a handler, on a socket that may fail."""
        return self.implementation.make_receiver(self._of(socket), maxframes)
