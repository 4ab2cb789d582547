"""Paths of `ipc://` ports that stop listening before their broker ends: they are free for others, and found again."""

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pollbroker import STREAMER, Broker, BrokerState, EndpointError, Engine, connectivity
from pollbroker.socket_files import is_taken_path
from tests.support.addresses import ANY_PORT, endpoint, refused
from tests.support.deadline import wait_until
from tests.support.wire_ports import peer_count
from tests.wire.zmtp import RawPeer


def add(engine: Engine, frontend: str) -> Broker:
    return engine.add("a", STREAMER, frontend=frontend, backend=ANY_PORT, transport="wire")


@pytest.mark.parametrize("transport", ["wire", "libzmq"])
@pytest.mark.parametrize("how", ["disabled", "drained"])
def test_path_belongs_to_whoever_listens_there_next(
    engine: Engine, new: Engine, raw: Callable[[str], RawPeer], tmp_path: Path, how: str, transport: str
) -> None:
    """The file system may give the file of the other one the same inode."""
    path = tmp_path / "f"
    address = f"ipc://{path}"
    broker = add(engine, f"{address},{ANY_PORT}")
    raw(address).shake_hands("PUSH")  # which does not leave when it is asked to
    wait_until(lambda: peer_count(engine, broker) == 1)
    if how == "disabled":
        broker.disable()
    else:
        engine.begin_removal(broker, timeout_s=1000, drain=True)
        wait_until(lambda: broker.state is BrokerState.DRAINING)
    assert not path.exists()
    new.add("b", STREAMER, frontend=address, backend=ANY_PORT, transport=transport)
    broker.remove(timeout_s=0)
    assert path.exists()
    assert not refused(address)


def test_path_is_left_to_whoever_has_it_when_a_broker_is_to_listen_again(
    engine: Engine, new: Engine, tmp_path: Path
) -> None:
    """Of the others none is left behind, and the broker listens at all of them when that is possible."""
    addresses = [f"ipc://{tmp_path}/{name}" for name in ("first", "second")]
    broker = add(engine, ",".join(addresses))
    broker.disable()
    add(new, addresses[1])
    with pytest.raises(
        EndpointError, match=r"^brokers\.a\.frontend: cannot listen again at .*: Address already in use"
    ):
        broker.enable()
    assert [path.name for path in tmp_path.iterdir()] == ["second"]
    assert not refused(addresses[1])
    new.remove("a")
    broker.enable()
    assert not any(map(refused, addresses))
    broker.remove()
    assert not list(tmp_path.iterdir())


def test_directory_that_was_made_for_a_wildcard_is_removed_with_a_disabled_broker(engine: Engine) -> None:
    broker = add(engine, "ipc://*")
    path = Path(endpoint(broker.frontend).removeprefix("ipc://"))
    broker.disable()
    assert not path.exists()
    assert path.parent.exists()
    broker.remove()
    assert not path.parent.exists()


def test_relative_path_is_found_again_from_another_directory(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "one")
    broker = add(engine, "ipc://relative")
    monkeypatch.chdir(tmp_path / "other")
    for _ in range(2):
        broker.disable()
        broker.enable()
        assert not refused(f"ipc://{tmp_path}/one/relative")
        assert not list((tmp_path / "other").iterdir())
    broker = engine.add("a", STREAMER, frontend="ipc://relative", backend=ANY_PORT, transport="wire", replaces="a")
    monkeypatch.chdir(tmp_path)
    broker.disable()
    broker.enable()
    assert not refused(f"ipc://{tmp_path}/one/relative")
    broker.remove()
    assert not list((tmp_path / "one").iterdir())


def test_relative_path_that_would_be_too_long_otherwise_is_found_again(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    monkeypatch.chdir(deep)
    broker = add(engine, "ipc://relative")
    broker.disable()
    broker.enable()
    assert not refused("ipc://relative")
    broker.remove()
    assert not list(deep.iterdir())


def test_nobody_else_binds_a_path_while_a_broker_is_about_to_listen_there_again(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = add(engine, f"ipc://{tmp_path}/f")
    broker.disable()
    were_locked: list[bool] = []

    def look(address: str) -> bool:
        if address.startswith("ipc:"):
            were_locked.append(is_locked(tmp_path))
        return is_taken_path(address)

    monkeypatch.setattr(connectivity, "is_taken_path", look)
    broker.enable()
    assert were_locked == [True]
    assert not is_locked(tmp_path)


def is_locked(directory: Path) -> bool:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
