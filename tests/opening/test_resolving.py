"""Host names that do not resolve: to bind to one is an error, to connect to one is a warning."""

import logging
import re
import shutil
import socket as net
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import zmq

from pollbroker import STREAMER, EndpointError, Engine
from tests.support.accounts import flow_of
from tests.support.addresses import endpoint
from tests.support.bystander import Bystander
from tests.support.deadline import wait_until
from tests.support.processes import run_apart
from tests.support.types import Connect


def test_unresolved_name_to_bind_is_an_error(engine: Engine, bystander: Bystander) -> None:
    with pytest.raises(
        EndpointError,
        match=r"^brokers\.a\.frontend: @tcp://no-such-name\.invalid:5559: cannot bind: .*a name that resolves to one",
    ):
        engine.add("a", STREAMER, frontend="tcp://no-such-name.invalid:5559", backend="inproc://b")


def test_unresolved_name_to_connect_to_is_a_warning(
    engine: Engine, bystander: Bystander, caplog: pytest.LogCaptureFixture
) -> None:
    name = "no-such-name.invalid"
    engine.add("a", STREAMER, frontend=f">tcp://{name}:5559", backend="inproc://b")
    wait_until(lambda: caplog.records)
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("pollbroker", logging.WARNING)
    assert record.getMessage().startswith(f"brokers.a.frontend: >tcp://{name}:5559: {name} does not resolve (")
    assert engine.brokers["a"].state == "running"


def test_resolved_name_to_connect_to_is_no_warning(
    engine: Engine, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    pull = connect(zmq.PULL)
    port = pull.bind_to_random_port("tcp://127.0.0.1")
    engine.add("a", STREAMER, frontend="inproc://f", backend=f">tcp://localhost:{port}")
    wait_until(lambda: not any(thread.name == "pollbroker-resolve" for thread in threading.enumerate()))
    assert not caplog.records


def test_peer_that_comes_later_is_connected(engine: Engine, bystander: Bystander, connect: Connect) -> None:
    with net.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    broker = engine.add("a", STREAMER, frontend="tcp://127.0.0.1:*", backend=f">tcp://localhost:{port}")
    push = connect(zmq.PUSH, endpoint(broker.frontend))
    push.send(b"early")
    # A socket of libzmq queues it for the connection that is to be made; a wire port leaves it at the source.
    wait_until(lambda: flow_of(engine, "a").received or flow_of(engine, "a").state == "stalled")
    pull = connect(zmq.PULL)
    pull.bind(f"tcp://127.0.0.1:{port}")
    assert pull.recv() == b"early"


_RESOLVER = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
/* The name resolves as soon as the file is there. */
int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **found) {
    int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
    real = dlsym(RTLD_NEXT, "getaddrinfo");
    if (node && !strcmp(node, "late.invalid")) {
        if (access(getenv("LATE_NAME_FILE"), F_OK)) return EAI_NONAME;
        node = "127.0.0.1";
    }
    return real(node, service, hints, found);
}
"""


@pytest.mark.skipif(
    not shutil.which("cc") or not sys.platform.startswith("linux"), reason="needs a C compiler, and Linux"
)
def test_connection_is_made_once_the_name_resolves(tmp_path: Path, implementation: Any) -> None:
    library, source, resolves = tmp_path / "resolver.so", tmp_path / "resolver.c", tmp_path / "resolves"
    source.write_text(_RESOLVER)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    script = """
        import logging, os, sys, threading, zmq
        from pathlib import Path
        from pollbroker import Engine, STREAMER

        warned = threading.Event()
        class Handler(logging.Handler):
            def emit(self, record):
                print(record.getMessage())
                warned.set()
        logging.getLogger("pollbroker").addHandler(Handler())
        with zmq.Context() as context, context.socket(zmq.PULL) as pull, Engine(pump=sys.argv[1]) as engine:
            pull.rcvtimeo = 10_000
            port = pull.bind_to_random_port("tcp://127.0.0.1")
            broker = engine.add("a", STREAMER, frontend="tcp://127.0.0.1:*", backend=f">tcp://late.invalid:{port}")
            with context.socket(zmq.PUSH) as push:
                push.connect(broker.frontend.endpoints[0])
                push.send(b"early")
                assert warned.wait(10)
                assert not pull.poll(50)
                Path(os.environ["LATE_NAME_FILE"]).touch()
                assert pull.recv() == b"early"
        print("connected")
    """
    lines = run_apart(
        script, implementation.name, env={"LD_PRELOAD": str(library), "LATE_NAME_FILE": str(resolves)}
    ).splitlines()
    assert len(lines) == 2
    assert re.match(r"brokers\.a\.backend: >tcp://late\.invalid:\d+: late\.invalid does not resolve \(", lines[0])
    assert lines[1] == "connected"
