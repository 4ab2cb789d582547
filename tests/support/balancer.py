"""A load balancer, the example of a behaviour: the worker that has been free for longest is given the next request."""

from collections import deque

import zmq

from pollbroker import Behaviour, Device

READY = b"READY"


class Balancer(Behaviour):
    """ROUTER to ROUTER. Workers are REQ sockets, which say READY first; requests wait at the clients' sockets."""

    def __init__(self) -> None:
        self.free: deque[bytes] = deque()

    def on_start(self) -> None:
        self.close("frontend")

    def on_message(self, port: str, frames: list[bytes]) -> None:
        if port == "frontend":
            worker = self.free.popleft()
            self.send("backend", [worker, b"", *frames])
            if not self.free:
                self.close("frontend")
        else:
            worker, _, *reply = frames
            if reply == [READY]:
                self.count("ready")
            else:
                self.send("frontend", reply)
            self.free.append(worker)
            self.open("frontend")


BALANCER = Device(
    "balancer",
    ports={"frontend": zmq.ROUTER, "backend": zmq.ROUTER},
    behaviour=Balancer,
    options={"frontend": {"router_mandatory": 1}, "backend": {"router_mandatory": 1}},
)
