"""Which promises are asked of which routes of a device, and the refusal of those that cannot be judged there."""

from collections.abc import Callable, Iterable, Mapping
from typing import Final, TypeAlias

import zmq

from pollbroker.device import Device, Route
from pollbroker.errors import DeviceError, did_you_mean
from pollbroker.testing.devices import as_python
from pollbroker.testing.invariants import Invariant
from pollbroker.testing.peer_types import type_of
from pollbroker.testing.promises.purity import pure
from pollbroker.testing.promises.ready_made import keeps_envelope, keeps_order, loses_nothing, one_to_one
from pollbroker.testing.trace import Trace

Promises: TypeAlias = Iterable[Invariant] | Mapping[str, Iterable[Invariant]]
"""Promises for every route that has a handler, or for single routes, by the port at which the route begins."""


def _no_marks(device: Device, route: Route) -> str | None:
    if type_of(device, route.source) is zmq.XPUB:
        return "subscriptions come from an XPUB, and one subscription cannot be told from another of the same topic"
    return None


def _no_envelope(device: Device, route: Route) -> str | None:
    kinds = [type_of(device, port) for port in (route.source, *route.sinks)]
    if zmq.ROUTER in kinds:
        return None
    return (
        f"messages from a {kinds[0].name} to a {kinds[1].name} have no envelope; expected a ROUTER as the source or as "
        "a sink"
    )


def _nothing_against_it(device: Device, route: Route) -> str | None:  # noqa: ARG001 - as the others
    return None


READY_MADE: Final[dict[Invariant, Callable[[Device, Route], str | None]]] = {
    loses_nothing: _nothing_against_it,
    one_to_one: _nothing_against_it,
    keeps_order: _no_marks,
    keeps_envelope: _no_envelope,
    pure: _nothing_against_it,
}
"""The ready-made promises, each with what says why it cannot be judged for a route, or None."""


class AskedPromises:
    """The promises that are asked of a device. Raises `DeviceError` if they are not promises.

    As a string they are the Python expression that asks the same, of names that `from pollbroker.testing import *`
    brings.

    Arguments:
        promises: as for `check_device`.
    """

    def __init__(self, promises: Promises) -> None:
        self._by_route = isinstance(promises, Mapping)
        given = promises if isinstance(promises, Mapping) else {"": promises}
        self._promises: dict[str, tuple[Invariant, ...]] = {}
        for source, several in given.items():
            found = tuple(several) if isinstance(several, Iterable) else (None,)
            if isinstance(several, str) or not all(map(callable, found)):
                raise DeviceError(
                    f"promises: {several!r}: expected a list of promises, such as [loses_nothing], or a mapping of "
                    "such lists by the port at which a route begins"
                )
            self._promises[source] = tuple(one for one in found if one is not None)

    def __bool__(self) -> bool:
        return any(self._promises.values())

    def __repr__(self) -> str:
        lists = {source: f"[{', '.join(map(_spelled, several))}]" for source, several in self._promises.items()}
        if not self._by_route:
            return lists[""]
        return f"{{{', '.join(f'{source!r}: {several}' for source, several in lists.items())}}}"

    def check_can_be_judged(self, device: Device) -> None:
        """Raise `DeviceError` if a promise cannot be judged for a device, or for the route of which it is asked."""
        where = f"device {device.name}"
        for source, several in self._promises.items():
            routes = [route for route in device.routes if source in (route.source, "")]
            if not routes:
                sources = [route.source for route in device.routes]
                near = did_you_mean(source, sources) or f"; expected one of {', '.join(sources)}"
                raise DeviceError(f"{where}: promises: no route begins at {source}{near}")
            handled = [route for route in routes if route.via is not None]
            for promise in several:
                if _is_ready_made(promise) and not handled:
                    found = f"{routes[0]}: it has no handler" if source else "no route has a handler"
                    raise DeviceError(
                        f"{where}: {_spelled(promise)}: {found} that could break this promise; every route without a "
                        "handler is tested to pass each message on, unchanged and in order"
                    )
                for route in handled:
                    reason = READY_MADE[promise](device, route) if _is_ready_made(promise) else None
                    if reason is not None:
                        raise DeviceError(f"{where}: {route}: {_spelled(promise)} cannot be judged: {reason}")

    def check(self, trace: Trace) -> None:
        """Raise `InvariantViolation` for the first promise that was not kept."""
        for source, several in self._promises.items():
            seen = trace.of_route(source) if self._by_route else trace
            for promise in several:
                promise(seen)


def _is_ready_made(promise: Invariant) -> bool:
    return any(promise is one for one in READY_MADE)  # an object of the user's may have no hash


def _spelled(promise: Invariant) -> str:
    return getattr(promise, "__name__", "") if _is_ready_made(promise) else as_python(promise)
