"""Descriptors, sockets and memory that run out."""

import errno
from pathlib import Path
from typing import Any, ClassVar

import pytest
import zmq

from pollbroker import STREAMER, EngineError
from tests.support.deadline import wait_until
from tests.support.processes import run_apart
from tests.support.types import Connect, MakeEngine


@pytest.mark.parametrize("transport", ["tcp://127.0.0.1:*", "ipc://*", "inproc://#"])
def test_descriptor_limit_raises_and_the_engine_goes_on(implementation: Any, waiter: str, transport: str) -> None:
    script = """
        import resource, sys, time, zmq
        from pollbroker import Engine, EngineError, EndpointError, STREAMER

        pump, waiter, transport = sys.argv[1:]
        engine = Engine(pump=pump, waiter=waiter)
        engine.start()
        context = zmq.Context()
        other = engine.add("other", STREAMER, frontend="tcp://127.0.0.1:*", backend="tcp://127.0.0.1:*")
        push, pull = context.socket(zmq.PUSH), context.socket(zmq.PULL)
        push.linger = 0
        pull.rcvtimeo = 10_000
        push.connect(other.frontend.endpoints[0])
        pull.connect(other.backend.endpoints[0])
        def check():
            push.send(b"passes")
            assert pull.recv() == b"passes"
        check()
        def add(name):
            engine.add(
                name, STREAMER,
                frontend=transport.replace("#", name + "f"), backend=transport.replace("#", name + "b"),
                capture=transport.replace("#", name + "c"),
            )
        for limit in range(100, 106):
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
            added = []
            end_s = time.monotonic() + 10
            try:
                while True:
                    try:
                        add(f"a{len(added)}")
                    except EngineError:
                        # libzmq gives the descriptors of the round before back in another thread
                        if len(added) >= 3 or time.monotonic() > end_s:
                            raise
                        time.sleep(0.001)
                    else:
                        added.append(f"a{len(added)}")
            except EngineError as error:
                message = str(error)
                assert f"this process may open {limit} descriptors" in message, message
                assert message.startswith(f"brokers.a{len(added)}."), message
            except EndpointError as error:
                raise SystemExit(f"an endpoint is blamed for the limit: {error}")
            check()
            assert list(engine.brokers) == ["other", *added]
            assert all(broker.state == "running" for broker in engine.brokers.values())
            last = added.pop()
            engine.remove(last)
            for _ in range(2000):  # libzmq gives a closed socket's descriptors back in another thread
                try:
                    add(last)
                    break
                except EngineError:
                    time.sleep(0.001)
            else:
                raise SystemExit("no broker can be added after one was removed")
            check()
            for name in [last, *added]:
                engine.remove(name)
        push.close(); pull.close(); context.term()
        engine.close()
        print("lived")
    """
    assert run_apart(script, implementation.name, waiter, transport) == "lived\n"


def test_socket_limit_of_a_context_raises(make_engine: MakeEngine, connect: Connect) -> None:
    with zmq.Context() as small:
        small.set(zmq.MAX_SOCKETS, 3)
        engine = make_engine(small)
        engine.start()
        engine.add("a", STREAMER, frontend="inproc://f", backend="inproc://b")
        for _ in range(3):
            with pytest.raises(EngineError, match=r"^brokers\.b\.\w+: cannot open a socket: .*this context 3 sockets"):
                engine.add("b", STREAMER, frontend="inproc://f2", backend="inproc://b2")
        engine.remove("a")

        def succeeds() -> bool:
            try:
                engine.add("b", STREAMER, frontend="inproc://f2", backend="inproc://b2")
            except EngineError:
                return False
            return True

        wait_until(succeeds)
        engine.close()


def test_reason_of_a_socket_that_cannot_be_opened_is_libzmq_s_own(make_engine: MakeEngine) -> None:
    """The garbage collector may change the errno before pyzmq has read it."""

    class Late(zmq.Context[zmq.Socket[bytes]]):
        errors: ClassVar[list[int]] = []

        def socket(self, *arguments: Any, **options: Any) -> Any:
            if self.errors:
                raise zmq.ZMQError(self.errors.pop())
            return super().socket(*arguments, **options)

    with Late() as context:
        engine = make_engine(context)
        Late.errors = [errno.EMFILE, zmq.ENOTSOCK]
        with pytest.raises(EngineError, match="cannot open a socket: too many are open"):
            engine.add("a", STREAMER, frontend="inproc://f", backend="inproc://b")
        Late.errors = [zmq.ENOTSOCK]
        assert engine.add("a", STREAMER, frontend="inproc://f", backend="inproc://b").state == "running"
        engine.close()


@pytest.mark.slow
@pytest.mark.parametrize("transport", ["tcp", "ipc", "inproc"])
def test_message_of_256_megabytes_passes(transport: str, implementation: Any, tmp_path: Path) -> None:
    # In a process of its own, whose memory can be measured. The body is told by what stands at its ends.
    script = """
        import resource, sys, zmq
        from pollbroker import Engine, STREAMER

        transport, pump, directory = sys.argv[1:]
        size = 256 << 20
        context = zmq.Context()
        engine = Engine(context, pump=pump)
        engine.start()
        at = {"tcp": "tcp://127.0.0.1:*", "ipc": f"ipc://{directory}/%s", "inproc": "inproc://%s"}[transport]
        name = (lambda n: at % n) if "%" in at else (lambda n: at)
        broker = engine.add("a", STREAMER, frontend=name("f"), backend=name("b"))
        push, pull = context.socket(zmq.PUSH), context.socket(zmq.PULL)
        pull.rcvtimeo = 60_000
        push.connect(broker.frontend.endpoints[0])
        pull.connect(broker.backend.endpoints[0])
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        body = bytearray(size)
        body[:4], body[-4:] = b"head", b"tail"
        push.send_multipart([b"first", body, b"last"], copy=False)
        push.send(b"next")
        first, middle, last = pull.recv_multipart(copy=False)
        assert (first.bytes, last.bytes, len(middle.buffer)) == (b"first", b"last", size)
        assert (bytes(middle.buffer[:4]), bytes(middle.buffer[-4:])) == (b"head", b"tail")
        assert pull.recv() == b"next"
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / (size >> 10)
        flow = engine.statistics().brokers["a"].flows["frontend"]
        assert (flow.sent, flow.sent_frames, flow.sent_bytes) == (2, 4, size + 13), flow
        for socket in (push, pull):
            socket.close()
        engine.close()
        context.term()
        print(grown)
    """
    grown = float(run_apart(script, transport, implementation.name, str(tmp_path)))
    # The body that is sent, what the broker received, and what the consumer received.
    assert grown < (1.5 if transport == "inproc" else 3.5)
