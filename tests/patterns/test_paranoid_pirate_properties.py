"""Whatever workers, clients and time do: ParanoidPirate does what its model does, and accounts for every message."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pollbroker.patterns.paranoid_pirate.paranoid_pirate import ParanoidPirate
from pollbroker.patterns.paranoid_pirate.ppp import HEARTBEAT, READY
from pollbroker.testing import Send, drive
from tests.support.accounts import balanced

WORKERS = (b"w1", b"w2", b"w3")
CLIENTS = (b"c1", b"c2")
HEARTBEAT_S, LIVENESS = 1.0, 3
GARBAGE: list[list[bytes]] = [[], [b""], [b"\x03"], [b"\x03", b""], [b"\x03", b"\x03"]]


class Model:
    """What the broker does, with lists that are searched from end to end."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.heard: list[tuple[bytes, float]] = []
        """Each worker that is known, and when it was heard of, those first that were not heard of for longest."""
        self.free: list[bytes] = []
        self.doing: dict[bytes, tuple[list[bytes], bool]] = {}
        """The request of each busy worker, and whether another had it before."""
        self.waiting: list[tuple[list[bytes], bool]] = []
        self.left: set[bytes] = set()
        self._sends: list[Send] = []

    @property
    def known(self) -> list[bytes]:
        return [worker for worker, _ in self.heard]

    def ready(self, worker: bytes) -> list[Send]:
        self.left.discard(worker)
        if worker not in self.known and len(self.heard) == 2:
            return []
        self._forget(worker)
        self.heard.append((worker, self.now_s))
        self.free.append(worker)
        return self._sent()

    def heartbeat(self, worker: bytes) -> None:
        if worker in self.known:
            self.heard = [one for one in self.heard if one[0] != worker] + [(worker, self.now_s)]

    def reply(self, worker: bytes, frames: list[bytes]) -> list[Send]:
        self.heartbeat(worker)
        if worker in self.doing and self.doing[worker][0][0] == frames[0]:
            del self.doing[worker]
            self.free.append(worker)
            self._sends.append(Send("frontend", frames))
        return self._sent()

    def request(self, frames: list[bytes]) -> list[Send]:
        self._expire()
        self.waiting.append((frames, False))
        return self._sent()

    def tick(self) -> list[Send]:
        self._expire()
        self._give()
        self._sends += [Send("backend", [worker, HEARTBEAT]) for worker in self.known]
        return self._sent()

    def _expire(self) -> None:
        for worker, heard_s in self.heard.copy():
            if self.now_s - heard_s >= HEARTBEAT_S * LIVENESS:
                self._forget(worker)

    def _forget(self, worker: bytes) -> None:
        self.heard = [one for one in self.heard if one[0] != worker]
        self.free = [one for one in self.free if one != worker]
        request, was_given = self.doing.pop(worker, ([], True))
        if not was_given:
            self.waiting.append((request, True))

    def _give(self) -> None:
        while self.waiting and self.free:
            worker, request = self.free.pop(0), self.waiting.pop(0)
            self.doing[worker] = request
            self._sends.append(Send("backend", [worker, *request[0]]))

    def _sent(self) -> list[Send]:
        """What is sent and arrives. What was for a worker that has left is given to another."""
        arrived = []
        self._give()
        while self._sends:
            sends, self._sends = self._sends, []
            for send in sends:
                worker, *frames = send.frames
                if send.port == "frontend" or worker not in self.left:
                    arrived.append(send)
                elif worker in self.known:
                    if worker in self.doing and self.doing[worker][0] == frames:
                        self.waiting.insert(0, self.doing.pop(worker))
                    self._forget(worker)
                    self._give()
        return arrived


class PirateMachine(RuleBasedStateMachine):
    """The broker and the model are told the same, and send the same."""

    def __init__(self) -> None:
        super().__init__()
        self.driver = drive(ParanoidPirate(heartbeat_s=HEARTBEAT_S, liveness=LIVENESS, max_workers=2))
        self.model = Model()
        self.number = 0

    @rule(worker=st.sampled_from(WORKERS))
    def worker_is_ready(self, worker: bytes) -> None:
        self.driver.come_back("backend", worker)
        assert self.driver.message("backend", worker, READY) == self.model.ready(worker)

    @rule(worker=st.sampled_from(WORKERS))
    def worker_sends_a_heartbeat(self, worker: bytes) -> None:
        assert self.driver.message("backend", worker, HEARTBEAT) == []
        self.model.heartbeat(worker)

    @rule(worker=st.sampled_from(WORKERS), client=st.sampled_from(CLIENTS))
    def worker_replies(self, worker: bytes, client: bytes) -> None:
        if worker in self.model.doing:
            client = self.model.doing[worker][0][0]
        reply = [client, b"", b"reply"]
        assert self.driver.message("backend", worker, *reply) == self.model.reply(worker, reply)

    @rule(worker=st.sampled_from(WORKERS))
    def worker_leaves(self, worker: bytes) -> None:
        self.driver.leave("backend", worker)
        self.model.left.add(worker)

    @precondition(lambda self: self.driver.is_open("frontend"))
    @rule(client=st.sampled_from(CLIENTS))
    def client_asks(self, client: bytes) -> None:
        self.number += 1
        request = [client, b"", b"%d" % self.number]
        assert self.driver.message("frontend", *request) == self.model.request(request)

    @rule(port=st.sampled_from(["frontend", "backend"]), frames=st.sampled_from(GARBAGE))
    def garbage_comes(self, port: str, frames: list[bytes]) -> None:
        if self.driver.is_open(port):
            assert self.driver.message(port, b"stranger", *frames) == []

    @rule(quarters=st.integers(1, 14))
    def time_passes(self, quarters: int) -> None:
        for _ in range(quarters):
            self.model.now_s += 0.25
            sends = self.driver.advance(0.25)
            assert sends == (self.model.tick() if self.model.now_s % HEARTBEAT_S == 0 else [])

    @invariant()
    def every_message_is_accounted_for(self) -> None:
        assert balanced(self.driver.account)
        assert self.driver.account.failed == 0
        assert self.driver.account.held == len(self.model.waiting) + sum(
            not was_given for _, was_given in self.model.doing.values()
        )
        assert self.driver.account.held <= 2

    @invariant()
    def requests_are_read_while_a_worker_is_free(self) -> None:
        assert self.driver.is_open("frontend") == bool(self.model.free)


TestPirateMachine = PirateMachine.TestCase
TestPirateMachine.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)
