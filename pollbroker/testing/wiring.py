"""The brokers of a line: how they are added to the engine and chained, and which paths lead through them."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, Final

import zmq

from pollbroker.device import Device, Route
from pollbroker.testing.environments import Environment
from pollbroker.testing.handlers import fresh_copy, recording_handler, scripted_handler
from pollbroker.testing.peer_types import PUBLISHERS, type_of
from pollbroker.testing.scenario import LinePlan
from pollbroker.testing.trace import FlowKey, Frames, Path, Sink, Trace

_ARROWS: Final = {"frontend": ">", "backend": "<"}
"""How the name of a path says where it begins, at the ports that most devices have."""

Subscribers = Callable[[Path, str | None, Frames], frozenset[str]]


class Wiring:
    """The brokers of a plan: one, or a chain of several.

    Arguments:
        subscribers: returns the subscribers that are to receive a message on a path, given its frames and the port
            that it is for (None: every sink).
    """

    def __init__(
        self, name: str, plan: LinePlan, environment: Environment, trace: Trace, subscribers: Subscribers
    ) -> None:
        self.brokers = [f"{name}/{hop}" for hop in range(plan.hops)]
        """The names of the brokers, in order."""
        self.types = {port: type_of(plan.device, port) for port in plan.device.ports}
        """The socket type of each side."""
        self._name = name
        self._plan = plan
        self._environment = environment
        self._trace = trace
        self._subscribers = subscribers
        self.paths: dict[str, Path] = {route.source: self._path(route) for route in plan.device.routes}
        """The paths through the brokers, by the side at which they begin."""
        trace.paths |= {path.name: path for path in self.paths.values()}

    def _path(self, route: Route) -> Path:
        plan = self._plan
        there = route.source != "backend"
        hops = self.brokers if there else self.brokers[::-1]
        chained = plan.hops > 1 and self.types["frontend"] == zmq.ROUTER
        marks = (plan.high_water_mark, plan.peers_high_water_mark)
        return Path(
            name=f"{self._name}{_ARROWS.get(route.source, '.' + route.source)}",
            line=self._name,
            sinks=tuple(self._sink(route, port) for port in route.sinks),
            flows=tuple(FlowKey(hop, route.source) for hop in hops),
            prefix=tuple(self._hop_id(hop) for hop in range(plan.hops - 2, -1, -1)) if chained else (),
            prefix_is_added=there,
            from_router=self.types[route.source] == zmq.ROUTER,
            from_publisher=self.types[route.source] in (zmq.SUB, zmq.XSUB),
            capacity=sum(marks) if all(marks) else 0,
            handled=route.via is not None or self._is_scripted(route),
            upstream=self.types[route.source] == zmq.XPUB,
        )

    def _sink(self, route: Route, port: str) -> Sink:
        plan, kind = self._plan, self.types[port]
        publishes = kind in PUBLISHERS
        refuses = plan.no_drop and kind != zmq.PUB  # a PUB has no XPUB_NODROP
        return Sink(
            port,
            to_router=kind == zmq.ROUTER,
            is_addressed=kind in (zmq.ROUTER, zmq.REP),
            to_many=publishes,
            may_lose=(publishes or self.types[route.source] == zmq.XPUB) and plan.high_water_mark > 0 and not refuses,
        )

    def _is_scripted(self, route: Route) -> bool:
        """Return True if the plan says what the handler of this route does."""
        return bool(self._plan.behaviour) and route.source == "frontend"

    @staticmethod
    def _hop_id(hop: int) -> bytes:
        return b"hop %d" % hop

    def open(self) -> None:
        """Add the brokers to the engine. The last backend is bound; each other backend connects to the next
        frontend."""
        plan = self._plan
        prefixes = {port: b"from %s" % port.encode() for port in self.types} if plan.capture == "prefixed" else None
        captured = plan.capture != "none"
        for hop, broker in enumerate(self.brokers):
            endpoints: dict[str, Any] = {port: self._endpoint(port, hop) for port in self.types}
            options = {port: self._options(port, hop) for port in self.types}
            if captured:
                options["capture"] = self._marks(plan.capture_high_water_mark)
            added = self._environment.engine.add(
                broker,
                self._recording(broker),
                options=options,
                capture=f"@{self._environment.address(f'{broker}/capture')}" if captured else None,
                capture_type=zmq.PUSH,
                capture_prefixes=prefixes,
                transport=self._environment.transport,
                **endpoints,
            )
            self._environment.watch(added)
            if captured:
                self._trace.captured.add(broker)
            if prefixes is not None:
                self._trace.prefixes |= {FlowKey(broker, port): prefix for port, prefix in prefixes.items()}

    def _options(self, port: str, hop: int) -> dict[str, int | bytes]:
        plan, kind = self._plan, self.types[port]
        options = self._marks(plan.high_water_mark)
        if kind == zmq.DEALER and port == "backend" and hop < plan.hops - 1:
            options["routing_id"] = self._hop_id(hop)
        if plan.no_drop and kind == zmq.XPUB:
            options["xpub_nodrop"] = 1
        if plan.no_drop and kind in (zmq.SUB, zmq.XSUB):
            options |= self._marks(0)  # with a limit, the publishers would drop messages
        return options

    def _endpoint(self, port: str, hop: int) -> str:
        if port == "backend" and hop < self._plan.hops - 1:
            return f">{self._environment.address(f'{self.brokers[hop + 1]}/frontend')}"
        return f"@{self._environment.address(f'{self.brokers[hop]}/{port}')}"

    def _recording(self, broker: str) -> Device:
        """The device of the plan, with handlers that record the messages that they are given and return."""
        routes = []
        for route in self._plan.device.routes:
            via = route.via
            if self._is_scripted(route):
                via = scripted_handler(self._plan.behaviour)
            elif via is not None:
                via = fresh_copy(via, self._trace.copies)
            if via is not None:
                path = self.paths[route.source]
                flow = FlowKey(broker, route.source)
                subscribers = partial(self._subscribers, path)
                self._trace.handlers[path.name] = via
                via = recording_handler(via, self._trace.events.append, path, flow, subscribers)
            routes.append(replace(route, via=via))
        return replace(self._plan.device, routes=tuple(routes))

    @staticmethod
    def _marks(mark: int) -> dict[str, int | bytes]:
        return {"sndhwm": mark, "rcvhwm": mark}
