"""The simulation itself: clock, poller, descriptors, meddling, the truth, and a context's end."""

import os
import select

import pytest
import zmq

from pollbroker.testing.simulation import SimContext, SimFrame, SimNetwork, SimSocket, WouldAbort, WouldBlockForever
from tests.support.simulation import Pair, fill


def is_readable(descriptor: int) -> bool:
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    return bool(poller.poll(0))


# The clock and the poller
def test_time_passes_only_when_the_test_says_so(network: SimNetwork) -> None:
    network.clock.advance(1.5)
    assert network.clock() == network.clock() == 1.5
    with pytest.raises(ValueError, match="at least 0 s"):
        network.clock.advance(-1)


def test_poller_lets_time_pass_where_a_real_one_would_sleep(network: SimNetwork) -> None:
    poller = network.poller()
    assert poller.poll(0) == []
    assert poller.poll(250) == []
    assert network.clock() == 0.25
    assert not poller.asleep


def test_poller_that_nothing_would_wake_says_that_it_is_asleep(network: SimNetwork, pair: Pair) -> None:
    push, pull = pair(zmq.PUSH, zmq.PULL)
    poller = network.poller()
    poller.register(pull, zmq.POLLIN)
    assert poller.poll() == []
    assert poller.asleep
    push.send(b"x")
    assert poller.poll() == [(pull, zmq.POLLIN)]
    assert not poller.asleep


def test_poller_reports_in_the_order_of_registration(network: SimNetwork, pair: Pair) -> None:
    push, pull = pair(zmq.PUSH, zmq.PULL)
    push.send(b"x")
    poller = network.poller()
    poller.register(push, zmq.POLLOUT)
    poller.register(pull, zmq.POLLIN | zmq.POLLOUT)
    assert poller.poll(0) == [(push, zmq.POLLOUT), (pull, zmq.POLLIN)]
    poller.modify(push, zmq.POLLIN)
    assert poller.poll(0) == [(pull, zmq.POLLIN)]
    poller.unregister(pull)
    with pytest.raises(KeyError):
        poller.unregister(pull)


def test_poller_watches_real_descriptors(network: SimNetwork, pair: Pair) -> None:
    push, pull = pair(zmq.PUSH, zmq.PULL)
    poller = network.poller()
    poller.register(int(pull.fd), zmq.POLLIN)
    assert poller.poll(0) == [(pull.fd, zmq.POLLIN)]  # the connection
    assert pull.events == 0
    assert poller.poll(0) == []
    push.send(b"x")
    assert poller.poll(0) == [(pull.fd, zmq.POLLIN)]


def test_poller_raises_for_a_closed_socket_and_an_ended_one(network: SimNetwork, world: SimContext) -> None:
    closed, ended = network.context().socket(zmq.PULL), world.socket(zmq.PULL)
    for socket in (closed, ended):
        poller = network.poller()
        poller.register(socket, zmq.POLLIN)
        if socket is closed:
            socket.close()
        else:
            world.shutdown()
        with pytest.raises(zmq.ZMQError) as raised:
            poller.poll(0)
        assert raised.value.errno == (zmq.ENOTSOCK if socket is closed else zmq.ETERM)


# Descriptors
def test_descriptor_is_readable_while_commands_wait(pair: Pair) -> None:
    push, pull = pair(zmq.PUSH, zmq.PULL)
    assert is_readable(pull.fd)
    assert pull.events == 0
    assert not is_readable(pull.fd)
    push.send(b"x")
    push.send(b"y")
    assert is_readable(pull.fd)
    assert pull.recv() == b"x"
    assert not is_readable(pull.fd)  # a receive that has found nothing processes commands before it looks again


def test_descriptor_is_closed_with_the_socket(pair: Pair) -> None:
    _, pull = pair(zmq.PUSH, zmq.PULL)
    descriptor = int(pull.fd)
    pull.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


# Messages
def test_water_marks_of_both_ends_are_added_up(pair: Pair, network: SimNetwork) -> None:
    network.processes_in_send = 1.0
    push, pull = pair(zmq.PUSH, zmq.PULL, sndhwm=2, rcvhwm=3)
    assert fill(push) == 5
    for _ in range(3):
        pull.recv()
    assert fill(push) == 3


def test_writer_hears_of_room_when_half_is_read(pair: Pair, network: SimNetwork) -> None:
    network.processes_in_send = 1.0
    push, pull = pair(zmq.PUSH, zmq.PULL, sndhwm=4, rcvhwm=4)
    assert fill(push) == 8
    for _ in range(3):
        pull.recv()
    assert not push.can_send()
    assert fill(push) == 0
    pull.recv()
    assert push.can_send()
    assert fill(push) == 4


def test_send_that_would_wait_fails_instead(pair: Pair) -> None:
    push, pull = pair(zmq.PUSH, zmq.PULL, sndhwm=1, rcvhwm=1)
    fill(push)
    with pytest.raises(WouldBlockForever, match="PUSH-1: this send would wait"):
        push.send(b"x")
    for _ in range(2):
        pull.recv()
    with pytest.raises(WouldBlockForever, match="PULL-2: this recv would wait"):
        pull.recv()


def test_timeout_lets_time_pass(pair: Pair, network: SimNetwork) -> None:
    _, pull = pair(zmq.PUSH, zmq.PULL)
    pull.rcvtimeo = 30
    with pytest.raises(zmq.Again):
        pull.recv()
    assert network.clock() == 0.03


def test_receive_without_copy_gives_frames_that_know_what_follows(pair: Pair) -> None:
    push, pull = pair(zmq.PUSH, zmq.PULL)
    push.send_multipart([b"a", memoryview(b"b"), SimFrame(b"c")])
    frames = pull.recv_multipart(copy=False)
    assert [(bytes(frame), frame.more) for frame in frames] == [(b"a", True), (b"b", True), (b"c", False)]
    with pytest.raises(TypeError, match="expected bytes"):
        push.send("text")


def test_what_was_written_can_be_read_after_the_writer_left(pair: Pair) -> None:
    push, pull = pair(zmq.PUSH, zmq.PULL)
    push.send(b"whole")
    push.send(b"begun", zmq.SNDMORE)
    push.close()
    assert pull.unread() == [[b"whole"]]
    assert pull.recv() == b"whole"
    with pytest.raises(zmq.Again):
        pull.recv(zmq.DONTWAIT)


def test_rest_of_a_message_is_swallowed_when_its_reader_left(pair: Pair) -> None:
    push, pull = pair(zmq.PUSH, zmq.PULL)
    push.send(b"begun", zmq.SNDMORE)
    pull.close()
    assert push.events & zmq.POLLOUT  # libzmq goes on taking the rest
    push.send(b"rest", zmq.DONTWAIT)
    assert push.lost_with_peers == 1
    with pytest.raises(zmq.Again):
        push.send(b"next", zmq.DONTWAIT)


def test_connection_may_come_before_the_bind(world: SimContext) -> None:
    dealer, router = world.socket(zmq.DEALER), world.socket(zmq.ROUTER)
    dealer.routing_id = b"early"
    dealer.connect("inproc://late")
    dealer.send(b"x")
    router.bind("inproc://late")
    assert router.recv_multipart() == [b"early", b"x"]


def test_what_libzmq_would_not_survive_is_an_error(world: SimContext) -> None:
    router, binder = world.socket(zmq.ROUTER), world.socket(zmq.DEALER)
    router.connect("inproc://late")
    router.disconnect("inproc://late")
    assert not router.can_receive()
    router.getsockopt(zmq.EVENTS)
    with pytest.raises(WouldAbort, match=r"ctx\.cpp"):
        binder.bind("inproc://late")


def test_option_without_a_model_is_refused(world: SimContext) -> None:
    with pytest.raises(NotImplementedError, match="CONFLATE"):
        world.socket(zmq.PULL).setsockopt(zmq.CONFLATE, 1)
    with pytest.raises(zmq.ZMQError, match="Invalid argument"):
        world.socket(zmq.PULL).setsockopt(zmq.SUBSCRIBE, b"")


@pytest.mark.parametrize(
    ("verb", "address", "errno"),
    [
        ("bind", "inproc://taken", zmq.EADDRINUSE),
        ("bind", "nonsense", zmq.EINVAL),
        ("connect", "tcp://127.0.0.1:1", zmq.EPROTONOSUPPORT),
        ("disconnect", "inproc://nowhere", 2),
    ],
)
def test_wrong_address_is_refused(world: SimContext, verb: str, address: str, errno: int) -> None:
    world.socket(zmq.PULL).bind("inproc://taken")
    with pytest.raises(zmq.ZMQError) as raised:
        getattr(world.socket(zmq.PULL), verb)(address)
    assert raised.value.errno == errno


# Meddling
def test_meddler_acts_before_each_operation_of_a_watched_socket(network: SimNetwork, pair: Pair) -> None:
    push, pull = pair(zmq.PUSH, zmq.PULL)
    seen: list[tuple[str, str]] = []

    def meddle(socket: SimSocket, operation: str) -> None:
        seen.append((socket.name, operation))
        push.send(b"meddled")
        pull.getsockopt(zmq.EVENTS)  # does not call the meddler again

    pull.watched = True
    network.meddle = meddle
    assert pull.recv() == b"meddled"
    assert pull.events == zmq.POLLIN
    push.send(b"x")  # not watched
    assert seen == [("PULL-2", "recv"), ("PULL-2", "events")]
    assert network.operations == 2


def test_meddler_may_close_the_socket_that_it_is_called_for(network: SimNetwork, pair: Pair) -> None:
    push, _ = pair(zmq.PUSH, zmq.PULL)
    push.watched = True
    network.meddle = lambda socket, _: socket.close()
    with pytest.raises(zmq.ZMQError) as raised:
        push.send(b"x")
    assert raised.value.errno == zmq.ENOTSOCK


# The truth
def test_truth_looks_past_commands_and_leaves_them(pair: Pair) -> None:
    push, pull = pair(zmq.PUSH, zmq.PULL, sndhwm=1, rcvhwm=1)
    push.send(b"x")
    assert pull.can_receive()
    assert is_readable(pull.fd)
    fill(push)
    assert not push.can_send()
    pull.recv()
    assert push.can_send()


def test_truth_of_a_router_depends_on_the_routing_id(pair: Pair) -> None:
    dealer, router = pair(zmq.DEALER, zmq.ROUTER, sndhwm=1, rcvhwm=1)
    router.router_mandatory = 1
    dealer.send(b"x")
    name = router.recv_multipart()[0]
    assert router.can_send(name)
    assert not router.can_send(b"nobody")
    for _ in range(2):
        router.send_multipart([name, b"x"])
    assert not router.can_send(name)
    assert not router.can_send()


def test_router_counts_what_it_swallows(pair: Pair) -> None:
    _, router = pair(zmq.DEALER, zmq.ROUTER)
    router.send_multipart([b"nobody", b"x"])
    router.send(b"alone")
    assert router.dropped_in_silence == 2


def test_publisher_counts_what_each_full_subscriber_missed(pair: Pair) -> None:
    subscriber, publisher = pair(zmq.SUB, zmq.XPUB, sndhwm=1, rcvhwm=1)
    subscriber.setsockopt(zmq.SUBSCRIBE, b"")
    assert publisher.recv() == b"\1"
    for _ in range(5):
        publisher.send(b"x")
    assert publisher.dropped_in_silence == 3


def test_publisher_that_does_not_drop_says_pollout_and_refuses(pair: Pair) -> None:
    subscriber, publisher = pair(zmq.SUB, zmq.XPUB, sndhwm=1, rcvhwm=1)
    subscriber.setsockopt(zmq.SUBSCRIBE, b"a")
    publisher.xpub_nodrop = 1
    publisher.recv()
    for _ in range(2):
        publisher.send(b"a")
    assert publisher.events == zmq.POLLOUT
    assert not publisher.can_send(b"a")
    assert publisher.can_send(b"b")
    with pytest.raises(zmq.Again):
        publisher.send(b"a", zmq.DONTWAIT)


def test_sender_is_told_what_left_with_its_peer(pair: Pair) -> None:
    push, pull = pair(zmq.PUSH, zmq.PULL)
    for _ in range(3):
        push.send(b"x")
    pull.recv()
    pull.close()
    assert push.events == 0
    assert push.lost_with_peers == 2


# The end
def test_shutdown_is_heard_of_and_then_refuses(world: SimContext, pair: Pair) -> None:
    push, pull = pair(zmq.PUSH, zmq.PULL)
    push.send(b"x")
    assert pull.events == zmq.POLLIN
    assert not is_readable(pull.fd)
    world.shutdown()
    assert is_readable(pull.fd)
    assert pull.recv(zmq.DONTWAIT) == b"x"  # libzmq too: the command has not been processed
    for _ in range(2):
        with pytest.raises(zmq.ContextTerminated):
            pull.recv(zmq.DONTWAIT)
    with pytest.raises(zmq.ContextTerminated):
        world.socket(zmq.PUSH)
    with pytest.raises(RuntimeError, match="PUSH-1, PULL-2"):
        world.term()
    push.close()
    pull.close()
    world.term()
    assert world.closed


def test_network_closes_everything_and_may_do_so_twice(network: SimNetwork, pair: Pair) -> None:
    sockets = pair(zmq.DEALER, zmq.ROUTER)
    network.close()
    network.close()
    assert all(socket.closed for socket in sockets)


def test_same_seed_gives_the_same_run() -> None:
    def run(seed: int) -> list[int]:
        with SimNetwork(seed) as network:
            context = network.context()
            push, pull = context.socket(zmq.PUSH), context.socket(zmq.PULL)
            push.set_hwm(1)
            pull.set_hwm(1)
            pull.bind("inproc://x")
            push.connect("inproc://x")
            taken = []
            for _ in range(50):
                taken.append(fill(push))
                while pull.poll():
                    pull.recv()
            return taken

    assert run(1) == run(1)
    assert len({tuple(run(seed)) for seed in range(5)}) > 1
