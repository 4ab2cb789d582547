"""The frame of a long reply: it grows in memory that libzmq is given as it is."""

import pytest
import zmq

from pollbroker import Engine
from pollbroker.control import attach, growing
from pollbroker.control.growing import GrowingFrame, can_send_as_it_is
from tests.support.addresses import ANY_PORT, bind
from tests.support.deadline import DEADLINE_MS, wait_until
from tests.support.memory import growth_bytes
from tests.support.types import Connect, Socket

PARTS = (b"a", b"", b"bc" * 50_000, b"d" * 300_000, b"e")


def sockets(context: zmq.Context[Socket], connect: Connect) -> tuple[Socket, Socket]:
    """A PAIR that sends, and the one that receives."""
    sender = context.socket(zmq.PAIR)
    return sender, connect(zmq.PAIR, bind(sender))


def test_frame_arrives_as_it_grew(context: zmq.Context[Socket], connect: Connect) -> None:
    sender, receiver = sockets(context, connect)
    assert can_send_as_it_is(sender)
    frame = GrowingFrame()
    for part in PARTS:
        frame.extend(part)
    assert len(frame) == sum(map(len, PARTS))
    assert sender.poll(DEADLINE_MS, zmq.POLLOUT)
    sender.send(b"OK", zmq.SNDMORE)
    frame.send_last(sender)
    del frame
    assert receiver.recv_multipart() == [b"OK", b"".join(PARTS)]


def test_empty_frame_is_sent(context: zmq.Context[Socket], connect: Connect) -> None:
    sender, receiver = sockets(context, connect)
    wait_until(lambda: sender.poll(0, zmq.POLLOUT))
    GrowingFrame().send_last(sender)
    assert receiver.recv_multipart() == [b""]


def test_frame_that_cannot_be_sent_raises_what_pyzmq_would_raise(context: zmq.Context[Socket]) -> None:
    sender = context.socket(zmq.PUSH)  # without a peer
    frame = GrowingFrame()
    frame.extend(b"lost")
    with pytest.raises(zmq.ZMQError) as caught:
        frame.send_last(sender)
    assert caught.value.errno == zmq.EAGAIN
    sender.close(0)


MEBIBYTE = b"x" * (1 << 20)


def send_large(sender: Socket) -> None:
    frame = GrowingFrame()
    frame.extend(MEBIBYTE)
    frame.send_last(sender)


def test_frames_are_freed_when_they_were_sent(context: zmq.Context[Socket], connect: Connect) -> None:
    """A hundred of them have a hundred mebibytes."""
    sender, receiver = sockets(context, connect)

    def once() -> None:
        assert sender.poll(DEADLINE_MS, zmq.POLLOUT)
        send_large(sender)
        assert len(receiver.recv()) == len(MEBIBYTE)

    assert growth_bytes(once) < 10 << 20


def test_frames_are_freed_when_they_were_refused(context: zmq.Context[Socket]) -> None:
    sender = context.socket(zmq.PUSH)  # without a peer

    def once() -> None:
        with pytest.raises(zmq.ZMQError):
            send_large(sender)

    assert growth_bytes(once) < 10 << 20
    sender.close(0)


def test_frame_that_is_not_sent_is_freed(monkeypatch: pytest.MonkeyPatch) -> None:
    freed: list[int] = []

    libc = growing._libc

    class Noting:
        realloc = libc.realloc

        def free(self, address: int) -> None:
            freed.append(address)
            libc.free(address)

    monkeypatch.setattr(growing, "_libc", Noting())
    frame = GrowingFrame()
    frame.extend(b"x")
    del frame
    assert len(freed) == 1


def test_reply_of_many_brokers_is_sent_without_a_copy(
    engine: Engine, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy of two megabytes would keep the engine from its brokers for a millisecond."""
    sent: list[int] = []
    send_last = GrowingFrame.send_last

    def noting(frame: GrowingFrame, socket: object) -> None:
        sent.append(len(frame))
        send_last(frame, socket)

    monkeypatch.setattr(GrowingFrame, "send_last", noting)
    engine.add("a", "streamer", frontend=ANY_PORT, backend=ANY_PORT)
    client = connect(zmq.DEALER, *attach(engine, ANY_PORT).endpoints)
    client.send(b"STATS")
    status, document = client.recv_multipart()
    assert status == b"OK"
    assert sent == [len(document)]
