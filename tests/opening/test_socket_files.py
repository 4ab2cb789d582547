"""Files of `ipc://` sockets: they have absolute paths, and are removed with their sockets; other files are not."""

import errno
import fcntl
import os
import socket as net
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import zmq

from pollbroker import EndpointError, Engine, socket_files
from pollbroker.binding import open_port
from pollbroker.control import attach, request
from pollbroker.daemon import read_checked
from pollbroker.daemon.listeners import Listeners
from pollbroker.endpoint import parse_endpoints
from pollbroker.options import parse_options
from pollbroker.port import WorkingPort
from pollbroker.socket_files import is_taken_path, what_is_in_the_way
from tests.support.deadline import DEADLINE_MS, DEADLINE_S, wait_until
from tests.support.threads import in_thread
from tests.support.types import Connect, Socket


@pytest.fixture
def engine() -> Iterator[Engine]:
    """One engine in a thread: the pumps and the waiters have nothing to do with files."""
    with Engine() as engine:
        yield engine


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, which is empty, and nothing in the environment says where temporary files go."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    for name in ("TMPDIR", "TEMPDIR", "TMP", "TEMP"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(tempfile, "tempdir", None)
    return work


def path_of(endpoint: str) -> Path:
    assert endpoint.startswith("ipc://")
    return Path(endpoint.removeprefix("ipc://"))


def open_pull(context: zmq.Context[Socket], endpoints: str, **options: object) -> WorkingPort:
    return open_port(
        context,
        where="test",
        name="frontend",
        socket_type=zmq.PULL,
        endpoints=parse_endpoints("test", endpoints),
        options=parse_options("test", options),
    )


def test_wildcard_has_an_absolute_path_outside_of_the_working_directory(
    engine: Engine, connect: Connect, work: Path
) -> None:
    broker = engine.add("a", "streamer", frontend="ipc://*", backend="ipc://*")
    paths = [path_of(port.endpoint) for port in broker.ports.values()]
    assert all(path.is_absolute() and path.is_socket() for path in paths)
    assert paths[0] != paths[1]
    assert list(work.iterdir()) == []
    push, pull = connect(zmq.PUSH, broker.frontend.endpoint), connect(zmq.PULL, broker.backend.endpoint)
    push.send(b"through")
    assert pull.recv() == b"through"
    engine.remove("a")
    assert not any(path.exists() or path.parent.exists() for path in paths)


def test_wildcard_follows_tmpdir(engine: Engine, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(work))
    broker = engine.add("a", "streamer", frontend="ipc://*", backend="inproc://b")
    assert path_of(broker.frontend.endpoint).parents[1] == work
    engine.remove("a")
    assert list(work.iterdir()) == []


def test_wildcard_without_a_directory_for_temporary_files_raises(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with pytest.raises(EndpointError, match=r"^brokers\.a\.frontend: @ipc://\*: cannot make a directory .*missing"):
        engine.add("a", "streamer", frontend="ipc://*", backend="inproc://b")


def test_wildcard_that_cannot_be_bound_leaves_no_directory(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    deep = tmp_path / ("d" * 100)  # the path of a socket has 107 bytes
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    with pytest.raises(EndpointError, match=r"^brokers\.a\.frontend: @ipc://\*: cannot bind: .*longer than 107"):
        engine.add("a", "streamer", frontend="ipc://*", backend="inproc://b")
    assert list(deep.iterdir()) == []


def bind_a_broker(engine: Engine, address: str, by: str) -> None:
    """Bind an address: a port of libzmq's or of the wire, or a listener of a daemon's, which is closed at once."""
    if by != "daemon":
        engine.add("a", "streamer", frontend=address, backend="tcp://127.0.0.1:*", transport=by)
        return
    text = f"[brokers.a]\ndevice = 'streamer'\nfrontend = '{address}'\nbackend = 'tcp://127.0.0.1:*'\n"
    file = Path(f"{address.removeprefix('ipc://')}.toml")
    file.write_text(text)
    listeners = Listeners()
    try:
        listeners.open_for(read_checked(file).brokers["a"])
    finally:
        listeners.keep_only(())


@pytest.mark.parametrize("by", ["libzmq", "wire", "daemon"])
@pytest.mark.parametrize(
    ("there", "told"),
    [
        *((there, " (there is a file, which is no socket)") for there in ("file", "link", "directory")),
        *((there, " (there is a link that leads nowhere)") for there in ("dangling", "loop")),
        *((there, "") for there in ("seqpacket", "datagrams")),
    ],
)
def test_path_that_somebody_has_is_left_alone(engine: Engine, tmp_path: Path, by: str, there: str, told: str) -> None:
    path = tmp_path / "frontend"
    with net.socket(net.AF_UNIX, net.SOCK_DGRAM if there == "datagrams" else net.SOCK_SEQPACKET) as other:
        if there == "file":
            path.write_text("precious")
        elif there == "link":
            (tmp_path / "target").write_text("precious")
            path.symlink_to("target")
        elif there in ("dangling", "loop"):
            path.symlink_to("frontend" if there == "loop" else "missing")
        elif there == "directory":
            path.mkdir()
        else:
            other.bind(os.fspath(path))
        before = path.lstat()
        in_use = f"brokers.a.frontend: @ipc://{path}: cannot bind: Address already in use"
        with pytest.raises(EndpointError) as refused:
            bind_a_broker(engine, f"ipc://{path}", by)
        assert str(refused.value) == in_use + told
        after = path.lstat()
        assert (after.st_ino, after.st_mode) == (before.st_ino, before.st_mode)
        assert there not in ("file", "link") or path.read_text() == "precious"


def test_link_that_may_not_be_followed_is_not_described(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Into a directory of another user. Root may follow every link."""

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    (tmp_path / "frontend").symlink_to("elsewhere/socket")
    address = f"ipc://{tmp_path}/frontend"
    assert what_is_in_the_way(address) == " (there is a link that leads nowhere)"
    monkeypatch.setattr(Path, "stat", refuse)
    assert what_is_in_the_way(address) == ""


def test_path_of_a_socket_that_may_not_be_asked_counts_as_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another user's, in a directory in which both may write. Root may ask every socket."""

    class Refused(net.socket):
        def connect(self, address: object) -> None:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), address)

    monkeypatch.setattr(socket_files, "net", SimpleNamespace(AF_UNIX=net.AF_UNIX, socket=Refused))
    address = f"ipc://{tmp_path}/frontend"
    assert not is_taken_path(address)  # there is nothing
    with net.socket(net.AF_UNIX) as other:
        other.bind(os.fspath(tmp_path / "frontend"))
    assert is_taken_path(address)


class BothLook:
    """Takes the place of `is_taken_path`: whoever has looked waits, for a moment, until another one has looked, too."""

    def __init__(self) -> None:
        self._looked = threading.Barrier(2)

    def __call__(self, address: str) -> bool:
        taken = is_taken_path(address)
        with suppress(threading.BrokenBarrierError):
            self._looked.wait(0.1)
        return taken


def result_of(begin: Callable[[], object]) -> str:
    """What became of it: `done`, or the error."""
    try:
        begin()
    except EndpointError as error:
        return str(error)
    return "done"


@pytest.mark.parametrize("transport", ["libzmq", "wire"])
def test_one_of_two_that_begin_at_once_has_a_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, connect: Connect, transport: str
) -> None:
    """They are as if in two processes, which know nothing of each other."""
    monkeypatch.setattr(socket_files, "_LOCK_S", DEADLINE_S)
    monkeypatch.setattr("pollbroker.binding.is_taken_path", BothLook())
    path = f"ipc://{tmp_path}/frontend"
    with Engine() as one, Engine() as other:
        begun = [
            in_thread(
                partial(
                    result_of,
                    partial(each.add, "a", "streamer", frontend=path, backend="tcp://127.0.0.1:*", transport=transport),
                )
            )
            for each in (one, other)
        ]
        told = sorted(future.result(DEADLINE_S) for future in begun)
        assert told == [f"brokers.a.frontend: @{path}: cannot bind: Address already in use", "done"]
        (winner,) = (each for each in (one, other) if each.brokers)
        connect(zmq.PUSH, path).send(b"1")
        assert connect(zmq.PULL, *winner.brokers["a"].backend.endpoints).recv() == b"1"


def test_one_of_two_daemons_that_begin_at_once_has_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket_files, "_LOCK_S", DEADLINE_S)
    monkeypatch.setattr("pollbroker.daemon.listeners.is_taken_path", BothLook())
    file = tmp_path / "brokers.toml"
    file.write_text(
        f"[brokers.a]\ndevice = 'streamer'\nfrontend = 'ipc://{tmp_path}/frontend'\nbackend = 'tcp://127.0.0.1:*'\n"
    )
    broker = read_checked(file).brokers["a"]
    several = [Listeners(), Listeners()]
    begun = [in_thread(partial(result_of, partial(listeners.open_for, broker))) for listeners in several]
    told = sorted(future.result(DEADLINE_S) for future in begun)
    for listeners in several:
        listeners.keep_only(())
    assert told[1] == "done"
    assert "cannot bind: Address already in use" in told[0]


def test_directory_that_somebody_has_locked_keeps_nobody_from_beginning(engine: Engine, tmp_path: Path) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        engine.add("a", "streamer", frontend=f"ipc://{tmp_path}/frontend", backend="tcp://127.0.0.1:*")
    finally:
        os.close(descriptor)


def test_directory_that_may_not_be_read_is_no_error(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o300)
    engine.add("a", "streamer", frontend=f"ipc://{tmp_path}/closed/frontend", backend="tcp://127.0.0.1:*")


def end_by_removal(engine: Engine) -> None:
    engine.remove("a")


def end_by_close(engine: Engine) -> None:
    engine.close()


def end_by_the_contexts_end(engine: Engine) -> None:
    broker = engine.brokers["a"]
    engine.context.term()
    assert broker.removed.result(DEADLINE_S).state == "ended"  # its ports are closed after its state has changed


@pytest.mark.parametrize("end", [end_by_removal, end_by_close, end_by_the_contexts_end])
def test_files_go_with_their_broker(engine: Engine, tmp_path: Path, end: Callable[[Engine], None]) -> None:
    names = "frontend", "backend", "capture"
    files = [tmp_path / name for name in (*names, "second")]
    endpoints: dict[str, str] = {name: f"ipc://{tmp_path}/{name}" for name in names}
    endpoints["backend"] += f",ipc://{tmp_path}/second"
    engine.add("a", "streamer", **endpoints)  # type: ignore[arg-type]
    assert all(file.is_socket() for file in files)
    end(engine)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("with_engine", [True, False])
def test_file_goes_with_its_control_socket(engine: Engine, tmp_path: Path, with_engine: bool) -> None:
    server = attach(engine, f"ipc://{tmp_path}/control")
    assert (tmp_path / "control").is_socket()
    if with_engine:
        engine.close()
    else:
        engine.call_soon_threadsafe(server.close)
        wait_until(lambda: server.closed)
    wait_until(lambda: not list(tmp_path.iterdir()))


def test_file_goes_with_a_client_that_is_bound(engine: Engine, tmp_path: Path) -> None:
    attach(engine, f">ipc://{tmp_path}/client")
    assert request(f"@ipc://{tmp_path}/client", "LIST") == [b"OK"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("backend", ["ipc:///no/such/directory/socket", "ipc://{}/second,ipc:///no/such/directory/s"])
def test_failed_add_leaves_no_file(engine: Engine, tmp_path: Path, backend: str) -> None:
    with pytest.raises(EndpointError, match="cannot bind"):
        engine.add("a", "streamer", frontend=f"ipc://{tmp_path}/first", backend=backend.format(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_path_is_free_at_once_after_removal(engine: Engine, connect: Connect, tmp_path: Path) -> None:
    for number in range(20):
        broker = engine.add("a", "reflector", frontend=f"ipc://{tmp_path}/again")
        client = connect(zmq.REQ, broker.frontend.endpoint)
        client.send(b"%d" % number)
        assert client.recv() == b"%d" % number
        client.close()
        engine.remove("a")


def test_relative_path_is_removed_from_another_directory(
    engine: Engine, work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.add("a", "streamer", frontend="ipc://in", backend="ipc://./out")
    assert {path.name for path in work.iterdir()} == {"in", "out"}
    monkeypatch.chdir(tmp_path)
    engine.remove("a")
    assert list(work.iterdir()) == []


def test_file_that_somebody_else_has_bound_since_stays(context: zmq.Context[Socket], tmp_path: Path) -> None:
    port = open_pull(context, f"ipc://{tmp_path}/shared")
    (tmp_path / "shared").unlink()
    with net.socket(net.AF_UNIX) as other:
        other.bind(str(tmp_path / "shared"))
        other.listen()
        port.close()
        with net.socket(net.AF_UNIX) as client:
            client.connect(str(tmp_path / "shared"))


def test_another_file_at_the_path_stays(context: zmq.Context[Socket], tmp_path: Path) -> None:
    port = open_pull(context, f"ipc://{tmp_path}/shared")
    (tmp_path / "shared").unlink()
    (tmp_path / "shared").write_text("precious")
    port.close()
    assert (tmp_path / "shared").read_text() == "precious"


def test_file_that_is_gone_already_is_no_error(context: zmq.Context[Socket], tmp_path: Path) -> None:
    port = open_pull(context, f"ipc://{tmp_path}/gone")
    (tmp_path / "gone").unlink()
    port.close()
    assert port.socket.closed


def test_wildcard_directory_that_holds_something_else_stays(context: zmq.Context[Socket], work: Path) -> None:
    port = open_pull(context, "ipc://*")
    directory = path_of(port.endpoints[0]).parent
    (directory / "precious").write_text("kept")
    port.close()
    assert [path.name for path in directory.iterdir()] == ["precious"]
    (directory / "precious").unlink()
    directory.rmdir()


def test_files_of_registered_sockets_stay(
    engine: Engine, context: zmq.Context[Socket], connect: Connect, tmp_path: Path
) -> None:
    pull, push = connect(zmq.PULL), connect(zmq.PUSH)
    pull.bind(f"ipc://{tmp_path}/mine")
    engine.register(pull, push, "streamer", name="lent")
    engine.remove("lent")
    assert (tmp_path / "mine").is_socket()


def test_listener_that_is_handed_in_keeps_its_file(
    context: zmq.Context[Socket], connect: Connect, tmp_path: Path
) -> None:
    with net.socket(net.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "systemd"))
        listener.listen()
        port = open_pull(context, f"ipc://{tmp_path}/systemd", use_fd=listener.fileno())
        connect(zmq.PUSH, f"ipc://{tmp_path}/systemd").send(b"through")
        assert port.socket.poll(DEADLINE_MS)
        port.close(linger=0)
        assert (tmp_path / "systemd").is_socket()


def test_abstract_name_has_no_file(context: zmq.Context[Socket], work: Path) -> None:
    port = open_pull(context, f"ipc://@{work}/abstract")
    assert port.files == ()
    port.close()
    assert list(work.iterdir()) == []
