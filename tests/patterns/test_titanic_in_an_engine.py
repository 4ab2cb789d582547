"""Titanic on real sockets, with a database: what was accepted is there after the broker was killed."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from pollbroker import TITANIC, BehaviourError, Broker, BrokerState, Engine, Titanic
from pollbroker.patterns.titanic import frames as titanic_frames
from pollbroker.patterns.titanic.frames import CLOSE, OK, PENDING, REPLY
from tests.support.accounts import balanced
from tests.support.addresses import ANY_PORT
from tests.support.deadline import wait_until
from tests.support.killing import kill_again_and_again
from tests.support.mdp_sockets import answer, ask, call, ready, store, work
from tests.support.types import Connect


@pytest.fixture
def engine() -> Iterator[Engine]:
    with Engine() as engine:
        yield engine


def add(engine: Engine, directory: Path, **settings: Any) -> tuple[Broker, str]:
    device = TITANIC.with_settings(path=str(directory / "titanic.db"), **settings)
    broker = engine.add("a", device, frontend=ANY_PORT)
    return broker, broker.ports["frontend"].endpoint


def test_client_and_worker_need_not_be_there_at_the_same_time(engine: Engine, connect: Connect, tmp_path: Path) -> None:
    broker, endpoint = add(engine, tmp_path)
    client = connect(zmq.DEALER, endpoint)
    uuid = store(client, b"echo", b"x")
    assert call(client, REPLY, uuid) == [PENDING]
    client.close()
    broker.remove()
    broker, endpoint = add(engine, tmp_path)
    worker = connect(zmq.DEALER, endpoint)
    ready(worker)
    assert work(worker) == b"x"
    wait_until(lambda: broker.statistics().counters.get("replied") == 1)
    worker.close()
    client = connect(zmq.DEALER, endpoint)
    assert call(client, REPLY, uuid) == [OK, b"answer to x"]
    assert call(client, CLOSE, uuid) == [OK]
    assert call(client, REPLY, uuid) == [titanic_frames.UNKNOWN]
    assert balanced(broker.statistics().flows["behaviour"])


def test_many_clients_share_a_commit(engine: Engine, connect: Connect, tmp_path: Path) -> None:
    broker, endpoint = add(engine, tmp_path, commit_s=0.02)
    client = connect(zmq.DEALER, endpoint)
    for number in range(300):
        ask(client, titanic_frames.REQUEST, b"echo", b"%d" % number)
    uuids = [answer(client).body[1] for _ in range(300)]
    worker = connect(zmq.DEALER, endpoint)
    ready(worker)
    assert [work(worker) for _ in range(300)] == [b"%d" % number for number in range(300)]
    for number, uuid in enumerate(uuids):
        wait_until(lambda uuid=uuid: call(client, REPLY, uuid) != [PENDING])  # type: ignore[misc]
        assert call(client, REPLY, uuid) == [OK, b"answer to %d" % number]
    assert broker.statistics().flows["behaviour"].held == 0


def test_second_broker_with_the_same_database_cannot_begin(engine: Engine, tmp_path: Path) -> None:
    add(engine, tmp_path)
    device = TITANIC.with_settings(path=str(tmp_path / "titanic.db"))
    with pytest.raises(BehaviourError, match="another broker uses it"):
        engine.add("b", device, frontend=ANY_PORT)
    assert list(engine.brokers) == ["a"]


def test_database_of_a_broker_that_has_failed_can_be_used_by_another(
    engine: Engine, connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker, endpoint = add(engine, tmp_path)
    monkeypatch.setattr(Titanic, "held", 1_000_000)  # more than it may keep
    connect(zmq.DEALER, endpoint).send(b"anything")
    wait_until(lambda: broker.state == BrokerState.FAILED)
    monkeypatch.undo()
    device = TITANIC.with_settings(path=str(tmp_path / "titanic.db"))
    assert engine.add("b", device, frontend=ANY_PORT).state == BrokerState.RUNNING


def test_broker_is_removed_with_what_waits_for_a_commit(engine: Engine, connect: Connect, tmp_path: Path) -> None:
    broker, endpoint = add(engine, tmp_path, commit_s=60.0)
    client = connect(zmq.DEALER, endpoint)
    ask(client, titanic_frames.REQUEST, b"echo", b"x")
    wait_until(lambda: broker.statistics().flows["behaviour"].held == 1)
    assert broker.remove().state == BrokerState.REMOVED
    status, uuid = answer(client).body
    assert status == OK
    _, endpoint = add(engine, tmp_path)
    assert call(connect(zmq.DEALER, endpoint), REPLY, uuid) == [PENDING]


@pytest.mark.slow
def test_broker_that_is_killed_loses_no_request_that_it_accepted(tmp_path: Path) -> None:
    assert kill_again_and_again(tmp_path, rounds=3, seed=1) > 0
