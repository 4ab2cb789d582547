"""The brokers of a line: how they are added to the engine and chained, and which paths lead through them."""

from dataclasses import replace
from typing import Final

import zmq

from pollbroker.device import Device, Route
from pollbroker.testing.environments import Environment
from pollbroker.testing.handlers import recording_handler, scripted_handler
from pollbroker.testing.scenario import LinePlan
from pollbroker.testing.trace import FlowKey, Path, Trace

_PREFIXES: Final = (b"from frontend", b"from backend")
"""The frames that precede the copies of the two directions, in a plan with `capture="prefixed"`."""


class Wiring:
    """The brokers of a plan: one, or a chain of several."""

    def __init__(self, name: str, plan: LinePlan, environment: Environment, trace: Trace) -> None:
        self.brokers = [f"{name}/{hop}" for hop in range(plan.hops)]
        """The names of the brokers, in order."""
        self.types = {"frontend": plan.device.types_of("frontend")[0]}
        """The socket type of each side."""
        if "backend" in plan.device.ports:
            self.types["backend"] = plan.device.types_of("backend")[0]
        self._name = name
        self._plan = plan
        self._environment = environment
        self._trace = trace
        self.paths: dict[str, Path] = {route.source: self._path(route) for route in plan.device.routes}
        """The paths through the brokers, by the side at which they begin."""
        trace.paths |= {path.name: path for path in self.paths.values()}

    def _path(self, route: Route) -> Path:
        plan = self._plan
        there = route.source == "frontend"
        hops = self.brokers if there else self.brokers[::-1]
        chained = plan.hops > 1 and self.types["frontend"] == zmq.ROUTER
        sink = self.types[route.sinks[0]]
        marks = (plan.high_water_mark, plan.peers_high_water_mark)
        publishes = sink in (zmq.PUB, zmq.XPUB)
        upstream = self.types[route.source] in (zmq.PUB, zmq.XPUB)
        return Path(
            name=f"{self._name}{'>' if there else '<'}",
            line=self._name,
            sink=route.sinks[0],
            flows=tuple(FlowKey(hop, route.source) for hop in hops),
            prefix=tuple(self._hop_id(hop) for hop in range(plan.hops - 2, -1, -1)) if chained else (),
            prefix_is_added=there,
            to_router=sink == zmq.ROUTER,
            to_many=publishes,
            may_lose=(publishes or upstream) and plan.high_water_mark > 0 and not plan.no_drop,
            from_publisher=self.types[route.source] in (zmq.SUB, zmq.XSUB),
            capacity=sum(marks) if all(marks) else 0,
            handled=route.via is not None or (bool(plan.behaviour) and there),
            upstream=upstream,
        )

    @staticmethod
    def _hop_id(hop: int) -> bytes:
        return b"hop %d" % hop

    def open(self) -> None:
        """Add the brokers to the engine. The last backend is bound; each other backend connects to the next
        frontend."""
        plan, types = self._plan, self.types
        for hop, broker in enumerate(self.brokers):
            frontend: dict[str, int | bytes] = self._marks(plan.high_water_mark)
            backend: dict[str, int | bytes] = self._marks(plan.high_water_mark)
            if types.get("backend") == zmq.DEALER and hop < plan.hops - 1:
                backend["routing_id"] = self._hop_id(hop)
            if plan.no_drop:
                backend["xpub_nodrop"] = 1
                frontend |= self._marks(0)  # with a limit, the publishers would drop messages
            captured = plan.capture != "none"
            prefixes = _PREFIXES if plan.capture == "prefixed" else None
            added = self._environment.engine.add(
                broker,
                self._recording(broker),
                frontend=f"@inproc://{broker}/frontend",
                backend=self._backend_endpoints(hop) if "backend" in plan.device.ports else None,
                frontend_options=frontend,
                backend_options=backend if "backend" in plan.device.ports else None,
                capture=f"@inproc://{broker}/capture" if captured else None,
                capture_type=zmq.PUSH,
                capture_options=self._marks(plan.capture_high_water_mark) if captured else None,
                capture_prefixes=prefixes,
            )
            self._environment.watch(added)
            if captured:
                self._trace.captured.add(broker)
            if prefixes is not None:
                self._trace.prefixes |= dict(zip((FlowKey(broker, s) for s in types), prefixes, strict=False))

    def _backend_endpoints(self, hop: int) -> list[str]:
        broker = self.brokers[hop]
        if hop == self._plan.hops - 1:
            return [f"@inproc://{broker}/backend"]
        return [f">inproc://{self.brokers[hop + 1]}/frontend"]

    def _recording(self, broker: str) -> Device:
        """The device of the plan, with handlers that record the messages that they are given and return."""
        routes = []
        for route in self._plan.device.routes:
            via = route.via
            if self._plan.behaviour and route.source == "frontend":
                via = scripted_handler(self._plan.behaviour)
            if via is not None:
                path = self.paths[route.source]
                via = recording_handler(via, self._trace.events.append, path.name, FlowKey(broker, route.source))
            routes.append(replace(route, via=via))
        return replace(self._plan.device, routes=tuple(routes))

    @staticmethod
    def _marks(mark: int) -> dict[str, int | bytes]:
        return {"sndhwm": mark, "rcvhwm": mark}
