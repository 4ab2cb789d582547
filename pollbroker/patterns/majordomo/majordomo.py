"""Majordomo: requests go by the name of a service to the workers that have registered for it.

It follows the Majordomo Protocol, MDP 0.1 (RFC 7) and 0.2 (RFC 18), and the Majordomo Management Interface (RFC 8).
Clients and workers of both versions may come to any port; a peer is known by its port and its routing id. Rules:

- A worker is known from its READY until it says DISCONNECT, does what the protocol does not allow, cannot be reached,
  or was not heard of for `liveness` heartbeats. Whatever else an unknown worker says is answered with DISCONNECT, on
  which a worker begins again.
- A worker has at most one request. Its answer must have the address that came with the request, so that an answer that
  comes twice does not go to the next client.
- Everything that depends on time is counted in ticks of one timer (`ages.py`), so that a message costs no look at the
  clock, and a worker no timer.
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import ClassVar, Final

import zmq

from pollbroker.behaviour import Behaviour
from pollbroker.checks import SettingChecks
from pollbroker.device import Device
from pollbroker.errors import BehaviourError
from pollbroker.patterns.ages import LEAST_S, Ages
from pollbroker.patterns.majordomo.backpressure import Backpressure
from pollbroker.patterns.majordomo.mdp import (
    DISCONNECT,
    FINAL,
    HEARTBEAT,
    MANAGEMENT,
    PARTIAL,
    READY,
    WORKER_1,
    WORKER_2,
    ClientRequest,
    Command,
    Version,
    WorkerMessage,
    client_reply,
    is_service_name,
    parse_client_request,
    parse_from_worker,
    worker_disconnect,
    worker_heartbeat,
    worker_request,
    worker_version,
)
from pollbroker.patterns.majordomo.services import Request, Services, Worker

_TICK: Final = "tick"
"""The key of the one timer."""

_TICKS: Final = 10
"""How many ticks there are in the shortest of the times that are set. The ticks are so much finer than the times, and
spread the heartbeats of many workers over their interval."""

_SERVICE_QUESTION: Final = MANAGEMENT + b"service"


class Majordomo(Behaviour):
    """A broker of services (RFC 7, RFC 18, RFC 8; the ZeroMQ guide, chapter 4).

    Counters of workers: `ready` (registered), and those that are no longer known, because they have said so
    (`disconnected`), were not heard of (`silent`), could not be reached (`gone`), or have done what the protocol does
    not allow (`unexpected`); `unknown` (heartbeats of workers that are not known). Of requests: `expired`,
    `given_again` and `abandoned` (in the hands of a worker that is no longer known). Of replies: `late` (nobody waits
    for it any more), `partials_dropped` (for a client of MDP 0.1). Of all: `refused` (beyond a bound, or a worker for a
    name that is the broker's own), `malformed`.

    Arguments:
        heartbeat_s: how often a worker is sent a heartbeat if it is sent nothing else, in seconds. Workers should be
            set to the same.
        liveness: after how many heartbeats in which nothing was heard of it a worker is no longer known.
        give_again: give a request to another worker, once, if the one that had it is no longer known. It may have been
            carried out by the first one, too.
        request_expiry_s: how long a request may wait for a worker, in seconds. None: for ever.
        reply_expiry_s: how long a worker may take with a request, in seconds. What it answers afterwards is dropped,
            and only then is it given another request. None: as long as it is heard of.
        max_requests: how many requests may be held, which wait for a worker or are in its hands.
        max_workers: how many workers may be known.
        max_services: for how many names that no worker serves requests may wait.
    """

    peers: ClassVar[Mapping[str, str]] = {"frontend": "MDP clients and workers"}

    def __init__(
        self,
        *,
        heartbeat_s: float = 2.5,
        liveness: int = 3,
        give_again: bool = True,
        request_expiry_s: float | None = 60.0,
        reply_expiry_s: float | None = None,
        max_requests: int = 10_000,
        max_workers: int = 10_000,
        max_services: int = 1_000,
    ) -> None:
        checks = SettingChecks(type(self).__name__, BehaviourError)
        checks.seconds(least=LEAST_S, heartbeat_s=heartbeat_s)
        checks.seconds(least=LEAST_S, or_none=True, request_expiry_s=request_expiry_s, reply_expiry_s=reply_expiry_s)
        checks.whole(liveness=liveness, max_requests=max_requests, max_workers=max_workers, max_services=max_services)
        checks.true_or_false(give_again=give_again)
        self.max_held = max_requests
        self._give_again = give_again
        self._max_requests = max_requests
        self._max_workers = max_workers
        times_s = (heartbeat_s, request_expiry_s, reply_expiry_s)
        self._tick_s = min(time_s for time_s in times_s if time_s is not None) / _TICKS
        self._beat_ticks = self._in_ticks(heartbeat_s)
        self._silent_ticks = self._in_ticks(heartbeat_s * liveness)
        self._request_ticks = None if request_expiry_s is None else self._in_ticks(request_expiry_s)
        self._reply_ticks = None if reply_expiry_s is None else self._in_ticks(reply_expiry_s)
        self._tick = 0
        self._ticking = False
        self._requests = 0
        """How many wait for a worker, or are in the hands of one."""
        self._services = Services(max_services, self._give)
        self._workers: dict[tuple[str, bytes], Worker] = {}
        self._heard: Ages[Worker] = Ages()
        """All workers, by when they were last heard of."""
        self._told: Ages[Worker] = Ages()
        """All workers, by when they were last sent something."""
        self._in_hand: Ages[Worker] = Ages()
        """The workers from which an answer is expected, by when they were given the request."""
        self._backpressure = Backpressure(self.close, self.open)

    @property
    def held(self) -> int:
        return self._requests

    # -- what happens -------------------------------------------------------------------------------------------------

    def on_message(self, port: str, frames: list[bytes]) -> None:
        header = frames[1] if len(frames) > 1 else b""
        if not header and len(frames) > 2:
            header = frames[2]
        if header in (WORKER_1, WORKER_2):
            self._hear_worker(port, frames, 1 if header == WORKER_1 else 2)
        elif (request := parse_client_request(frames, 1)) is not None:
            self._take_request(port, frames[0], request)
        else:
            self.count("malformed")

    def on_timer(self, key: Hashable) -> None:  # noqa: ARG002 - there is one timer
        tick = self._tick = self._tick + 1
        silent = list(self._heard.take_until(tick - self._silent_ticks - 1))
        for worker in silent:
            self._services.pass_over(worker)  # none of them is given the request of another
        for worker in silent:
            self.count("silent")
            self._forget(worker)
        if self._request_ticks is not None:
            for request in self._services.take_until(tick - self._request_ticks - 1):
                self._drop(request, "expired")
        if self._reply_ticks is not None:
            for worker in self._in_hand.take_until(tick - self._reply_ticks - 1):
                self._drop(self._take_back(worker), "expired")
        for worker in self._told.take_until(tick - self._beat_ticks):
            self._tell(worker, worker_heartbeat(worker.version))
        self._open_if_room()
        self._ticking = False
        if self._workers or self._services.expiring:
            self._keep_ticking()

    def on_dropped(self, port: str, frames: list[bytes]) -> None:
        """A worker that could not be reached is no longer known. A request that has not reached it does not count as
        given."""
        worker = self._workers.get((port, frames[0]))
        if worker is None or worker_version(frames, 1) is None:
            return
        # If it was another message, a request that was given at this tick came behind it, and has been dropped, too.
        if worker.request is not None and (len(frames) > 4 or self._in_hand.last(worker) == self._tick):
            worker.request.given -= 1
        self.count("gone")
        self._forget(worker)

    def on_stop(self) -> None:
        """Tell the workers, so that they look for another broker at once."""
        for worker in self._heard:
            self.send(worker.port, [worker.routing_id, *worker_disconnect(worker.version)])

    def is_lost(self, port: str, frames: list[bytes]) -> bool:  # noqa: ARG002
        """Workers begin again after a DISCONNECT, and send heartbeats until they have received it."""
        message = parse_from_worker(frames, 1)
        return message is None or message.command in (PARTIAL, FINAL)

    # -- requests -----------------------------------------------------------------------------------------------------

    def _take_request(self, port: str, client: bytes, asked: ClientRequest) -> None:
        service = self._services.get(asked.service)
        if service is None and self._is_built_in(asked.service):
            self._serve_built_in(port, client, asked)
            return
        self._backpressure.see_request(port)
        if self._requests >= self._max_requests:
            self.count("refused")
            self._backpressure.close()
            return
        if service is None:
            if not is_service_name(asked.service):
                self.count("malformed")
                return
            service = self._services.add_unserved(asked.service)
            if service is None:
                self.count("refused")
                return
        request = Request(port, client, asked.version, asked.service, asked.body)
        self._requests += 1
        self._services.add_request(service, request, self._tick)
        if self._requests >= self._max_requests:
            self._backpressure.close()
        if not self._ticking:
            self._keep_ticking()

    def _give(self, worker: Worker, request: Request) -> None:
        request.given += 1
        worker.busy, worker.client, worker.request = True, request.client, request
        self._in_hand.touch(worker, self._tick)
        self._tell(worker, worker_request(request.client, request.body, worker.version))

    def _tell(self, worker: Worker, frames: list[bytes]) -> None:
        self._told.touch(worker, self._tick)
        self.send(worker.port, [worker.routing_id, *frames])

    def _take_back(self, worker: Worker) -> Request:
        """Expect no answer of a worker to the request that it has."""
        request, worker.request = worker.request, None
        assert request is not None
        self._in_hand.forget(worker)
        return request

    def _drop(self, request: Request, why: str) -> None:  # noqa: ARG002 - of use to those that keep requests elsewhere
        """Nobody will answer a request, which is neither waiting nor in the hands of a worker now."""
        self._requests -= 1
        self.count(why)

    # -- replies ------------------------------------------------------------------------------------------------------

    def _hear_answer(self, worker: Worker, command: Command, body: Sequence[bytes]) -> None:
        if worker.request is None:
            self.count("late")
        else:
            self._answer(worker.request, command, body)
        if command is FINAL:
            if worker.request is not None:
                self._take_back(worker)
            worker.busy = False
            self._be_free(worker)
            self._open_if_room()

    def _be_free(self, worker: Worker) -> None:
        self._services.be_free(worker)

    def _answer(self, request: Request, command: Command, body: Sequence[bytes]) -> None:
        """Pass on what a worker has answered, or a part of it."""
        if command is FINAL:
            self._requests -= 1
        self._reply(request.port, request.client, request.version, request.service, body, command)

    def _reply(
        self,
        port: str,
        client: bytes,
        version: Version,
        service: bytes,
        body: Sequence[bytes],
        command: Command = FINAL,
    ) -> None:
        if version == 1 and command is PARTIAL:
            self.count("partials_dropped")  # in 0.1 there is one answer to a request
        else:
            self.send(port, [client, *client_reply(service, body, version, command)])

    # -- workers ------------------------------------------------------------------------------------------------------

    def _hear_worker(self, port: str, frames: list[bytes], version: Version) -> None:
        worker = self._workers.get((port, frames[0]))
        message = parse_from_worker(frames, 1)
        if message is None:
            self._break_off(port, frames[0], worker, version, "malformed")
        elif worker is None:
            self._hear_stranger(port, frames[0], message)
        elif message.command is DISCONNECT:
            self.count("disconnected")
            self._forget(worker)
        elif not _may_say(worker, message):
            self._break_off(port, frames[0], worker, version, "unexpected")
        else:
            self._heard.touch(worker, self._tick)
            if message.command is not HEARTBEAT:
                self._hear_answer(worker, message.command, message.body)

    def _hear_stranger(self, port: str, routing_id: bytes, message: WorkerMessage) -> None:
        """Hear a worker that is not registered."""
        if message.command is DISCONNECT:
            return
        if message.command is not READY:
            why_not = "unknown" if message.command is HEARTBEAT else "late"
        elif self._is_built_in(message.service) or len(self._workers) >= self._max_workers:
            why_not = "refused"
        elif not is_service_name(message.service):
            why_not = "malformed"
        else:
            self._register(port, routing_id, message.version, message.service)
            return
        self._break_off(port, routing_id, None, message.version, why_not)

    def _register(self, port: str, routing_id: bytes, version: Version, name: bytes) -> None:
        worker = Worker(port, routing_id, version, self._services.add_worker(name))
        self._workers[port, routing_id] = worker
        self._backpressure.add_worker(port)
        self._heard.touch(worker, self._tick)
        self._told.touch(worker, self._tick)
        self.count("ready")
        self._be_free(worker)
        self._keep_ticking()

    def _break_off(self, port: str, routing_id: bytes, worker: Worker | None, version: Version, why: str) -> None:
        """Send DISCONNECT to a worker, and know it no longer."""
        self.count(why)
        self.send(port, [routing_id, *worker_disconnect(version)])
        if worker is not None:
            self._forget(worker)

    def _forget(self, worker: Worker) -> None:
        """Know a worker no longer. What it had is given to another, or dropped."""
        del self._workers[worker.port, worker.routing_id]
        self._backpressure.remove_worker(worker.port)
        self._heard.forget(worker)
        self._told.forget(worker)
        if worker.request is not None:
            request = self._take_back(worker)
            if not request.given or (self._give_again and request.given < 2):
                self.count("given_again")
                self._services.add_request(worker.service, request, self._tick, first=True)
            else:
                self._drop(request, "abandoned")
        self._services.remove_worker(worker)
        self._open_if_room()

    # -- services that the broker has itself --------------------------------------------------------------------------

    def _is_built_in(self, service: bytes) -> bool:
        """Return True if the broker serves this name itself. No worker may register for it."""
        return service.startswith(MANAGEMENT)

    def _serve_built_in(self, port: str, client: bytes, asked: ClientRequest) -> None:
        if asked.service == _SERVICE_QUESTION:
            status = b"200" if self._is_served(asked.body[-1]) else b"404"
        else:
            status = b"501"
        self._reply(port, client, asked.version, asked.service, [status])

    def _is_served(self, name: bytes) -> bool:
        """What `mmi.service` tells: True if a worker is registered for this name."""
        service = self._services.get(name)
        return service is not None and service.workers > 0

    # -- time and room ------------------------------------------------------------------------------------------------

    def _keep_ticking(self) -> None:
        """Tick while there is a worker or a request."""
        if not self._ticking:
            self._ticking = True
            self.set_timer(_TICK, self._tick_s)

    def _in_ticks(self, seconds: float) -> int:
        return math.ceil(seconds / self._tick_s - 1e-6)  # the division may be off by a hair

    def _open_if_room(self) -> None:
        if self._backpressure.closed and self._requests < self._max_requests:
            self._backpressure.open()


def _may_say(worker: Worker, message: WorkerMessage) -> bool:
    """Return True if a worker that is registered may say this now: READY is said once, and only what was asked is
    answered."""
    if message.version != worker.version:
        return False
    if message.command is HEARTBEAT:
        return True
    return message.command is not READY and worker.busy and message.client == worker.client


MAJORDOMO: Final = Device(
    "majordomo",
    ports={"frontend": zmq.ROUTER},
    behaviour=Majordomo,
    # Without this option libzmq drops what is sent to a worker that has left, and nobody learns that it has.
    options={"frontend": {"router_mandatory": 1}},
)
"""Clients ask for services by name, and workers answer: one ROUTER for both (MDP 0.1 and 0.2: RFC 7, RFC 18, RFC 8)."""
