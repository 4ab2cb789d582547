"""A message that a device held at its end is lost, and the log says so once, however the device ended."""

import logging
import signal
import sys

import gevent
import pytest
import zmq

import pollbroker.devices
import pollbroker.devices.green
from tests.devices.conftest import LOCAL, MakeDevice
from tests.support.addresses import bind
from tests.support.deadline import DEADLINE_S, wait_until
from tests.support.processes import run_apart
from tests.support.threads import in_thread
from tests.support.types import Connect, Socket

LOST = "brokers.streamer-1: closed with 1 messages undelivered"


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the log warns of."""
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def ready_to_hold(connect: Connect) -> tuple[Socket, Socket]:
    """A PULL that has a message to read, and a PUSH whose messages nobody takes."""
    source, sink = connect(zmq.PULL), connect(zmq.PUSH)
    bind(sink)
    connect(zmq.PUSH, bind(source)).send(b"held")
    assert source.poll(int(DEADLINE_S * 1000))
    return source, sink


def test_command_that_ends_a_function_tells_what_is_lost(connect: Connect, caplog: pytest.LogCaptureFixture) -> None:
    source, sink = ready_to_hold(connect)
    control = connect(zmq.REP)
    client = connect(zmq.REQ, bind(control))
    running = in_thread(lambda: pollbroker.devices.proxy_steerable(source, sink, None, control))

    def is_held() -> bool:
        client.send(b"STATISTICS")
        return int.from_bytes(client.recv_multipart()[0], sys.byteorder) == 1  # received at the frontend

    wait_until(is_held)
    client.send(b"TERMINATE")
    assert running.result(DEADLINE_S) == 0
    assert warnings(caplog) == [LOST]


def test_function_that_holds_nothing_warns_of_nothing(connect: Connect, caplog: pytest.LogCaptureFixture) -> None:
    source, sink, control = connect(zmq.PULL), connect(zmq.PUSH), connect(zmq.PAIR)
    client = connect(zmq.PAIR, bind(control))
    running = in_thread(lambda: pollbroker.devices.proxy_steerable(source, sink, None, control))
    client.send(b"TERMINATE")
    assert running.result(DEADLINE_S) == 0
    assert warnings(caplog) == []


def test_interrupted_function_tells_what_is_lost() -> None:
    told = run_apart(f"""
        import logging, os, sys, threading, zmq
        from pollbroker.devices import proxy_steerable
        logging.basicConfig(stream=sys.stdout, format="%(message)s", level=logging.WARNING)
        context = zmq.Context()
        pull, push, pusher, control, client = (
            context.socket(kind) for kind in (zmq.PULL, zmq.PUSH, zmq.PUSH, zmq.REP, zmq.REQ)
        )
        pull.bind("inproc://source")
        pusher.connect("inproc://source")
        control.bind("inproc://control")
        client.connect("inproc://control")
        pusher.send(b"held")

        def interrupt():
            received = b""
            while not any(received):
                client.send(b"STATISTICS")
                received, *_ = client.recv_multipart()
            os.kill(os.getpid(), {int(signal.SIGINT)})

        thread = threading.Thread(target=interrupt)
        thread.start()
        try:
            proxy_steerable(pull, push, None, control)
        except KeyboardInterrupt:
            print("interrupted")
        thread.join()
        context.destroy(linger=0)
    """)
    assert told == f"{LOST}\ninterrupted\n"


@pytest.mark.parametrize("end", ["stop", "context"])
def test_device_in_a_thread_tells_what_is_lost(
    end: str,
    make_ours: MakeDevice,
    device_context: zmq.Context[Socket],
    connect: Connect,
    caplog: pytest.LogCaptureFixture,
) -> None:
    device = make_ours("ThreadDevice", zmq.STREAMER, zmq.PULL, zmq.PUSH)
    source = device.bind_in_to_random_port(LOCAL)
    device.start()
    connect(zmq.PUSH, f"{LOCAL}:{source}").send(b"held")
    wait_until(lambda: device.statistics().flows["frontend"].held)
    if end == "stop":
        device.stop(timeout_s=0.0)
    else:
        in_thread(device_context.term).result(DEADLINE_S)
        device.join(DEADLINE_S)
    assert warnings(caplog) == [LOST]


def test_greenlet_that_is_killed_tells_what_is_lost(connect: Connect, caplog: pytest.LogCaptureFixture) -> None:
    source, sink = ready_to_hold(connect)

    def program() -> None:
        hub = gevent.get_hub()
        try:
            greenlet = gevent.spawn(pollbroker.devices.green.device, zmq.STREAMER, source, sink)
            with gevent.Timeout(DEADLINE_S):
                while source.poll(0):
                    gevent.sleep(0)
            greenlet.kill()
        finally:
            hub.destroy(destroy_loop=True)

    in_thread(program).result(2 * DEADLINE_S)
    assert warnings(caplog) == [LOST]
