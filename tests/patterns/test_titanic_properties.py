"""Titanic against a model: no request that was accepted is lost, whatever peers do, whatever fails, and when it dies.

The process may end at any step: then everything is gone that was not committed, and so is every message that was not
sent. A new broker begins with the same store.
"""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pollbroker.patterns.majordomo import mdp
from pollbroker.patterns.titanic.frames import CLOSE, REPLY, REQUEST
from pollbroker.testing import Send, drive
from tests.support.accounts import balanced
from tests.support.titanic import FailingStore, TitanicInMemory, TitanicPeers

MAX_WORKERS = 3
MANY = 40
"""More requests than are in memory for a service, however many workers it has."""
WORKERS = [b"w%d" % number for number in range(4)]
services = st.sampled_from([b"a", b"b"])


class TitanicMachine(RuleBasedStateMachine):
    """Clients and workers of one broker. A question is a number, and its answer the same number."""

    def __init__(self) -> None:
        super().__init__()
        self.store = FailingStore()
        self.asked = 0
        self.accepted: dict[bytes, bytes] = {}
        """The question of each UUID that a client was told."""
        self.replies: dict[bytes, list[bytes]] = {}
        """What a client was told to be the reply."""
        self.closed: set[bytes] = set()
        """What a client has asked to be closed, whether or not it was told that it is."""
        self.gone: set[bytes] = set()
        """What a client was told is closed."""
        self.services: dict[bytes, bytes] = {}
        """The service of each question."""
        self.start()

    def start(self) -> None:
        self.behaviour = TitanicInMemory(
            self.store, heartbeat_s=1.25, max_workers=MAX_WORKERS, max_requests=2, commit_s=0.5, keep_s=None
        )
        self.peers = TitanicPeers(drive(self.behaviour, ["frontend"]))
        self.in_hand: dict[bytes, tuple[bytes, bytes]] = {}
        """For each worker the address and the question that it has."""
        self.serves: dict[bytes, bytes] = {}

    def note(self, sends: list[Send]) -> None:
        """Take note of what workers and clients are sent."""
        for send in sends:
            peer, *frames = send.frames
            if peer in WORKERS:
                message = mdp.parse_to_worker(frames)
                assert message is not None
                if message.command is mdp.DISCONNECT:
                    self.in_hand.pop(peer, None)
                    self.serves.pop(peer, None)
                elif message.command is mdp.REQUEST:
                    (question,) = message.body
                    assert peer not in self.in_hand
                    assert message.client not in self.gone
                    assert self.services[question] == self.serves[peer]
                    self.in_hand[peer] = message.client, question
                continue
            reply = mdp.parse_client_reply(frames)
            assert reply is not None
            status, *body = reply.body
            if reply.service == REQUEST and status == b"200":
                assert body[0] not in self.accepted
                self.accepted[body[0]] = peer  # the client's id is its question
            elif reply.service == REPLY and status == b"200":
                assert body == [self.accepted[peer]]
                assert self.replies.setdefault(peer, body) == body
            elif reply.service == REPLY and status == b"300":
                assert peer not in self.replies
            elif (reply.service, status) in ((REPLY, b"400"), (CLOSE, b"200")):
                assert peer in self.closed
                self.gone.add(peer)
            else:
                assert status == b"500" or reply.service in (b"a", b"b")

    # -- what happens -------------------------------------------------------------------------------------------------

    def question(self, service: bytes) -> bytes:
        self.asked += 1
        question = b"%d" % self.asked
        self.services[question] = service
        return question

    @rule(service=services)
    def client_stores_a_request(self, service: bytes) -> None:
        question = self.question(service)
        self.note(self.peers.store(question, service, question))

    @rule(service=services)
    def client_stores_more_requests_than_memory_has_room_for(self, service: bytes) -> None:
        for _ in range(MANY):
            self.client_stores_a_request(service)
        self.time_passes(0.5)

    @rule(service=services)
    def client_asks_as_usual(self, service: bytes) -> None:
        question = self.question(service)
        self.note(self.peers.ask(question, service, question))

    @precondition(lambda self: self.accepted)
    @rule(data=st.data(), closes=st.booleans())
    def client_asks_for_a_reply_or_closes(self, data: st.DataObject, closes: bool) -> None:
        uuid = data.draw(st.sampled_from(sorted(self.accepted)))
        if closes:
            self.closed.add(uuid)
            self.note(self.peers.close(uuid, uuid))
        else:
            self.note(self.peers.fetch(uuid, uuid))

    @rule(worker=st.sampled_from(WORKERS), service=services)
    def worker_is_ready(self, worker: bytes, service: bytes) -> None:
        if worker not in self.serves:
            self.serves[worker] = service
            self.note(self.peers.ready(worker, service))

    @rule(workers=st.sets(st.sampled_from(WORKERS), min_size=2), service=services)
    def several_workers_are_ready(self, workers: set[bytes], service: bytes) -> None:
        for worker in sorted(workers):
            self.worker_is_ready(worker, service)

    @precondition(lambda self: self.in_hand)
    @rule(data=st.data())
    def worker_answers(self, data: st.DataObject) -> None:
        worker = data.draw(st.sampled_from(sorted(self.in_hand)))
        client, question = self.in_hand.pop(worker)
        self.note(self.peers.answer(worker, client, question))

    @rule(worker=st.sampled_from(WORKERS))
    def worker_leaves(self, worker: bytes) -> None:
        self.in_hand.pop(worker, None)
        self.serves.pop(worker, None)
        self.note(self.peers.leave(worker))

    @rule(seconds=st.sampled_from([0.25, 0.5, 1.0, 2.5]))
    def time_passes(self, seconds: float) -> None:
        self.note(self.peers.driver.advance(seconds))
        for worker in list(self.serves):
            self.note(self.peers.beat(worker))

    @rule(
        failing=st.sets(st.sampled_from(["add", "commit", "put_reply", "remove", "pending", "find"]), max_size=2),
        loses_changes=st.booleans(),
    )
    def store_fails(self, failing: set[str], loses_changes: bool) -> None:
        self.store.failing = failing
        self.store.loses_changes = loses_changes

    @rule()
    def process_is_killed(self) -> None:
        self.store.rollback()
        self.start()

    @rule()
    def broker_is_removed(self) -> None:
        self.note(self.peers.driver.stop())
        self.start()

    # -- what is promised ---------------------------------------------------------------------------------------------

    @invariant()
    def every_message_is_accounted_for(self) -> None:
        account = self.peers.driver.account
        assert balanced(account)
        assert account.failed == 0

    @invariant()
    def memory_is_bounded(self) -> None:
        assert len(self.behaviour._lines) <= 16 * MAX_WORKERS

    @invariant()
    def number_of_stored_requests_is_exact(self) -> None:
        assert self.store.lost or self.behaviour._stored == self.store.count()

    def teardown(self) -> None:
        """Once the store works, one worker of each service answers every request that was accepted."""
        self.store.failing.clear()
        for service in (b"a", b"b"):
            workers = [worker for worker, name in self.serves.items() if name == service]
            for worker in workers[1:]:
                self.worker_leaves(worker)
        for service in {b"a", b"b"} - set(self.serves.values()):
            self.worker_is_ready(next(worker for worker in WORKERS if worker not in self.serves), service)
        waits = 0
        while waits < 3:
            waits = 0 if self.in_hand else waits + 1
            while self.in_hand:
                worker, (client, question) = self.in_hand.popitem()
                self.note(self.peers.answer(worker, client, question))
            self.time_passes(1.0)
        for uuid in self.accepted.keys() - self.closed:
            self.note(self.peers.fetch(uuid, uuid))
            assert uuid in self.replies
        super().teardown()


TestTitanicMachine = TitanicMachine.TestCase
TestTitanicMachine.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)
