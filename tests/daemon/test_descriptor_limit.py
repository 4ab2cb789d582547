"""Connections use up the descriptors of a daemon: it says so, is not ready, serves those that it has, and recovers."""

import errno
import logging
import os
import resource
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from http.client import HTTPException
from pathlib import Path

import pytest
import zmq

from pollbroker.daemon.descriptor_watch import DescriptorWatch
from pollbroker.descriptors import SPARE_DESCRIPTORS
from pollbroker.engine import Engine
from pollbroker.metrics.connections import CONNECTIONS_MOST
from tests.daemon.conftest import StartDaemon, Write
from tests.support.addresses import ANY_PORT
from tests.support.commands import Command, Run, invoke
from tests.support.deadline import wait_until
from tests.support.http import ask
from tests.support.types import Connect, Socket

LEFT = 40
"""How many descriptors are left to a daemon that serves."""

LIBZMQ_THREADS = "ZMQbg/"
"""How the names of libzmq's own threads begin."""

FEW = "16 descriptors or fewer are left: this process may open"


def streamer(transport: str, frontend: str = ANY_PORT) -> str:
    ports = f"frontend = '{frontend}'\nbackend = '{ANY_PORT}'\n"
    return f"[brokers.a]\ndevice = 'streamer'\n{ports}transport = '{transport}'\n"


def number_of_descriptors(process: int) -> int:
    return len(list(Path(f"/proc/{process}/fd").iterdir()))


def used_cpu_s(process: int) -> dict[str, float]:
    """The CPU time that each thread of a process has used."""
    used = {}
    for task in Path(f"/proc/{process}/task").iterdir():
        before, _, after = (task / "stat").read_text().rpartition(")")
        fields = after.split()
        used[f"{before.partition('(')[2]} {task.name}"] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return used


@pytest.fixture
def strangers() -> Iterator[ExitStack]:
    """Connections that say nothing."""
    with ExitStack() as made:
        yield made


def fill(strangers: ExitStack, address: str, is_full: Callable[[], bool]) -> None:
    """Open connections until the daemon accepts none any more."""
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    for _ in range(2 * LEFT):
        if address.startswith("ipc://"):
            one = strangers.enter_context(socket.socket(socket.AF_UNIX))
            one.connect(address.removeprefix("ipc://"))
        else:
            strangers.enter_context(socket.create_connection((host, int(port))))
    wait_until(is_full)


def check_served(pusher: Socket, puller: Socket) -> None:
    for number in range(100):
        pusher.send(b"%d" % number)
        assert puller.recv() == b"%d" % number


@pytest.mark.parametrize(
    ("transport", "kind"),
    [("libzmq", "tcp"), ("wire", "tcp"), ("wire", "ipc")],  # libzmq aborts the process when it cannot accept over ipc
)
def test_daemon_without_descriptors_says_so_serves_on_and_recovers(
    run: Run, write: Write, connect: Connect, strangers: ExitStack, transport: str, kind: str
) -> None:
    frontend = ANY_PORT if kind == "tcp" else "ipc://frontend"
    command = run(
        "run", str(write("[engine]\ncontrol = 'ipc://control'\nhttp = '127.0.0.1:0'\n" + streamer(transport, frontend)))
    )
    addresses, process = command.addresses(), command.process.pid
    pusher, puller = connect(zmq.PUSH, addresses["frontend"]), connect(zmq.PULL, addresses["backend"])
    check_served(pusher, puller)
    limit = number_of_descriptors(process) + LEFT
    resource.prlimit(process, resource.RLIMIT_NOFILE, (limit, limit))
    full = limit if transport == "libzmq" else limit - SPARE_DESCRIPTORS
    fill(strangers, addresses["frontend"], lambda: number_of_descriptors(process) >= full)

    assert command.process.stderr is not None
    first = command.process.stderr.readline().decode()
    assert first == f"pollbroker: {FEW} {limit} (ulimit -n); ports of the wire accept no connection until others end\n"
    if transport == "wire":  # the thread of libzmq may have taken the descriptors that the HTTP server had kept
        wait_until(lambda: is_told(addresses["http"], 503, f"{FEW} {limit} (ulimit -n)\n"))
        assert invoke("ctl", "ipc://control", "LIST").stdout == "a\n"  # libzmq would end the process if none was left
    check_served(pusher, puller)
    check_does_not_spin(command)
    strangers.close()
    wait_until(lambda: is_told(addresses["http"], 200, "ok\n"))
    check_served(connect(zmq.PUSH, addresses["frontend"]), puller)
    command.process.terminate()
    code, _, stderr = command.end()
    assert code == 0
    assert stderr.splitlines()[-1] == "pollbroker: more than 32 descriptors are left again"


def test_connections_over_http_leave_their_descriptors_to_control(run: Run, write: Write, strangers: ExitStack) -> None:
    """libzmq would end the process if none was left for who connects to the control socket."""
    command = run("run", str(write("[engine]\ncontrol = 'ipc://control'\nhttp = '127.0.0.1:0'\n" + streamer("wire"))))
    http, process = command.addresses()["http"], command.process.pid
    limit = number_of_descriptors(process) + LEFT
    resource.prlimit(process, resource.RLIMIT_NOFILE, (limit, limit))
    host, _, port = http.rpartition(":")
    for _ in range(CONNECTIONS_MOST):
        strangers.enter_context(socket.create_connection((host, int(port))))
    wait_until(lambda: number_of_descriptors(process) >= limit - SPARE_DESCRIPTORS)
    for _ in range(3):
        assert invoke("ctl", "ipc://control", "LIST").stdout == "a\n"
    strangers.close()
    wait_until(lambda: is_told(http, 200, "ok\n"))
    assert invoke("ctl", "ipc://control", "LIST").stdout == "a\n"


def test_whoever_asks_for_events_leaves_the_daemon_ready(run: Run, write: Write) -> None:
    # The wire's ports have no monitors.
    ports = f"frontend = '{ANY_PORT}'\nbackend = '{ANY_PORT}'\ntransport = 'libzmq'\n"
    brokers = "".join(f"[brokers.b{number}]\ndevice = 'streamer'\n{ports}" for number in range(30))
    command = run("run", str(write("[engine]\ncontrol = []\nhttp = '127.0.0.1:0'\n" + brokers)))
    http, process = command.addresses()["http"], command.process.pid
    limit = number_of_descriptors(process) + 80
    resource.prlimit(process, resource.RLIMIT_NOFILE, (limit, limit))
    ask(http, "/eventz")
    assert command.process.stderr is not None
    first = command.process.stderr.readline().decode()
    assert "there are no events of its connections: 48 descriptors or fewer are left" in first
    assert number_of_descriptors(process) < limit - 2 * SPARE_DESCRIPTORS
    assert ask(http, "/readyz") == (200, "ok\n")


def is_told(http: str, status: int, text: str) -> bool:
    """Whether that is what is answered. Other connections may have taken every descriptor or every place just now."""
    with suppress(OSError, HTTPException):
        return ask(http, "/readyz") == (status, text)
    return False


def check_does_not_spin(command: Command) -> None:
    """None of its threads uses up a core. Those of libzmq do, which tries to accept again and again."""
    before = used_cpu_s(command.process.pid)
    with pytest.raises(subprocess.TimeoutExpired):
        command.process.wait(timeout=1)
    used = {name: used_s - before.get(name, 0.0) for name, used_s in used_cpu_s(command.process.pid).items()}
    assert max(used_s for name, used_s in used.items() if not name.startswith(LIBZMQ_THREADS)) < 0.5


@pytest.fixture
def leave() -> Iterator[Callable[[int], None]]:
    """Leaves so many descriptors to this process, and all at the end of the test."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    kept: list[int] = []

    def set_left(number: int) -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        resource.setrlimit(resource.RLIMIT_NOFILE, (number_of_descriptors(os.getpid()) + number + 100, hard))
        with suppress(OSError):  # none is left
            while True:
                kept.append(os.open(os.devnull, os.O_RDONLY))
        for _ in range(number):
            os.close(kept.pop())

    yield set_left
    for descriptor in kept:
        os.close(descriptor)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_file_is_refused_while_too_few_are_left_to_try_options(
    write: Write, start_daemon: StartDaemon, leave: Callable[[int], None]
) -> None:
    """libzmq would abort the process when a socket is made for that."""
    daemon = start_daemon(write(streamer("libzmq")))
    before = daemon.engine.brokers
    write(streamer("libzmq") + "options = { sndhwm = 7 }\n")
    leave(5)
    (problem, *_) = daemon.reload().problems
    assert "its options cannot be tried: Too many open files: fewer than 16 descriptors are left" in problem.text
    leave(0)
    (problem, *_) = daemon.reload().problems
    assert "Too many open files" in problem.text
    assert daemon.engine.brokers == before


def test_shortage_is_told_once_and_is_over_when_there_are_enough(
    engine: Engine, leave: Callable[[int], None], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    watch = DescriptorWatch(engine)
    watch.look()
    assert (list(watch.why_not_ready()), caplog.messages) == ([], [])
    for left in (0, 0, 3):
        leave(left)
        watch.look()
        (reason,) = watch.why_not_ready()
        assert reason.startswith(FEW)
        assert len(caplog.messages) == 1
    leave(20)
    watch.look()
    assert len(list(watch.why_not_ready())) == 1
    leave(40)
    watch.look()
    assert list(watch.why_not_ready()) == []
    assert len(caplog.messages) == 2


def test_watch_goes_on_after_a_look_that_has_failed(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = 0

    def fail_once() -> bool:
        nonlocal looks
        looks += 1
        if looks == 1:
            raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
        return False

    monkeypatch.setattr("pollbroker.daemon.descriptor_watch.EVERY_S", 0.001)
    monkeypatch.setattr("pollbroker.daemon.descriptor_watch.are_descriptors_few", fail_once)
    engine.call_soon_threadsafe(DescriptorWatch(engine).start)
    wait_until(lambda: looks > 1)
