"""Clients and workers of MDP that a test plays against a broker that is driven by hand."""

from collections.abc import Sequence

from pollbroker.patterns.majordomo import mdp
from pollbroker.patterns.majordomo.mdp import FINAL, Command, Version
from pollbroker.testing import Send
from pollbroker.testing.driving import Driver


class Peers:
    """Says to a driven broker what clients and workers say. Each method returns what was sent because of it.

    Arguments:
        clients_at, workers_at: the ports at which they are.
    """

    def __init__(self, driver: Driver, clients_at: str = "frontend", workers_at: str = "frontend") -> None:
        self.driver = driver
        self.clients_at = clients_at
        self.workers_at = workers_at

    def ask(
        self, client: bytes, service: bytes, *body: bytes, version: Version = 1, port: str | None = None
    ) -> list[Send]:
        frames = mdp.client_request(service, body or [b"question"], version)
        return self.driver.message(port or self.clients_at, client, *frames)

    def say(self, worker: bytes, frames: Sequence[bytes]) -> list[Send]:
        return self.driver.message(self.workers_at, worker, *frames)

    def ready(self, worker: bytes, service: bytes = b"echo", version: Version = 1) -> list[Send]:
        return self.say(worker, mdp.worker_ready(service, version))

    def answer(
        self, worker: bytes, client: bytes, *body: bytes, version: Version = 1, command: Command = FINAL
    ) -> list[Send]:
        return self.say(worker, mdp.worker_reply(client, body or [b"answer"], version, command))

    def beat(self, worker: bytes, version: Version = 1) -> list[Send]:
        return self.say(worker, mdp.worker_heartbeat(version))

    def leave(self, worker: bytes, version: Version = 1) -> list[Send]:
        return self.say(worker, mdp.worker_disconnect(version))

    def given(self, worker: bytes, client: bytes, *body: bytes, version: Version = 1) -> Send:
        """What a worker is sent when it is given a request."""
        return Send(self.workers_at, [worker, *mdp.worker_request(client, body or [b"question"], version)])

    def answered(
        self,
        client: bytes,
        service: bytes = b"echo",
        *body: bytes,
        version: Version = 1,
        command: Command = FINAL,
        port: str | None = None,
    ) -> Send:
        """What a client is sent when it is answered."""
        reply = mdp.client_reply(service, body or [b"answer"], version, command)
        return Send(port or self.clients_at, [client, *reply])

    def broken_off(self, worker: bytes, version: Version = 1) -> Send:
        """What a worker is sent that has to begin again."""
        return Send(self.workers_at, [worker, *mdp.worker_disconnect(version)])

    def heartbeat(self, worker: bytes, version: Version = 1) -> Send:
        """What a worker is sent that was not sent anything for a while."""
        return Send(self.workers_at, [worker, *mdp.worker_heartbeat(version)])
