"""Devices in threads: one thread for all of them, and what is better than in pyzmq."""

import gc
import logging
import threading

import pytest
import zmq

from pollbroker import DeviceError, EngineError
from pollbroker.devices import ThreadDevice
from tests.devices.conftest import LOCAL, MakeDevice
from tests.support.addresses import bind
from tests.support.deadline import DEADLINE_S, wait_until
from tests.support.processes import run_apart
from tests.support.threads import in_thread, started_since
from tests.support.types import Connect, Socket


def engine_threads() -> list[threading.Thread]:
    """The threads of the devices' engines."""
    return [thread for thread in threading.enumerate() if thread.name == "pollbroker-devices"]


def start_streamer(make_ours: MakeDevice, **options: int) -> tuple[ThreadDevice, str, str]:
    """Start a device from a PULL to a PUSH socket; it, and the addresses of the two."""
    device = make_ours("ThreadDevice", zmq.STREAMER, zmq.PULL, zmq.PUSH)
    for name, value in options.items():
        device.setsockopt_out(getattr(zmq, name), value)
    addresses = [f"{LOCAL}:{device.bind_in_to_random_port(LOCAL)}", f"{LOCAL}:{device.bind_out_to_random_port(LOCAL)}"]
    device.start()
    return device, addresses[0], addresses[1]


def test_all_devices_share_one_thread(make_ours: MakeDevice, connect: Connect) -> None:
    before = threading.enumerate()
    devices = [start_streamer(make_ours) for _ in range(20)]
    assert len(started_since(before)) == 1
    assert {device.launcher.ident for device, *_ in devices} == {engine_threads()[0].ident}
    for _, source, sink in devices:
        connect(zmq.PUSH, source).send(b"passes")
        assert connect(zmq.PULL, sink).recv() == b"passes"


def test_thread_ends_with_the_last_device(make_ours: MakeDevice) -> None:
    devices = [start_streamer(make_ours)[0] for _ in range(3)]
    (thread,) = engine_threads()
    for device in devices[:2]:
        device.stop()
        assert device.done
        assert thread.is_alive()
    devices[2].stop()
    assert not thread.is_alive()
    start_streamer(make_ours)
    assert len(engine_threads()) == 1


def test_thread_ends_when_the_context_of_all_devices_ends(
    make_ours: MakeDevice, device_context: zmq.Context[Socket], caplog: pytest.LogCaptureFixture
) -> None:
    devices = [start_streamer(make_ours)[0] for _ in range(3)]
    steerable = make_ours("ThreadProxySteerable", zmq.PULL, zmq.PUSH, zmq.PUB, zmq.PAIR)
    steerable.start()
    (thread,) = engine_threads()
    in_thread(device_context.term).result(DEADLINE_S)
    thread.join(DEADLINE_S)
    assert not thread.is_alive()
    assert all(device.done and device.statistics().state == "ended" for device in (*devices, steerable))
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_join_ends_a_device_whose_sockets_were_closed_under_it(make_ours: MakeDevice) -> None:
    """As by the `destroy` of a context, which closes them before it terminates the context."""
    device, *_ = start_streamer(make_ours)
    for _ in range(2):
        assert device.statistics().state == "running"  # the second answer comes from a thread that had nothing to do
    for socket in device._sockets:
        socket.close(linger=0)
    device.join(DEADLINE_S)
    assert device.done


def test_device_outlives_the_context_of_another(make_ours: MakeDevice, connect: Connect) -> None:
    _, source, sink = start_streamer(make_ours)
    other: zmq.Context[Socket] = zmq.Context()
    ending = ThreadDevice(zmq.QUEUE, zmq.ROUTER, zmq.DEALER)
    ending.context_factory = lambda: other
    ending.start()
    in_thread(other.term).result(DEADLINE_S)
    ending.join(DEADLINE_S)
    assert ending.done
    connect(zmq.PUSH, source).send(b"passes")
    assert connect(zmq.PULL, sink).recv() == b"passes"


def test_device_that_nobody_keeps_goes_on(make_ours: MakeDevice, connect: Connect) -> None:
    context: zmq.Context[Socket] = zmq.Context()
    device = ThreadDevice(zmq.STREAMER, zmq.PULL, zmq.PUSH)
    device.context_factory = lambda: context
    source, sink = device.bind_in_to_random_port(LOCAL), device.bind_out_to_random_port(LOCAL)
    device.start()
    del device
    gc.collect()
    connect(zmq.PUSH, f"{LOCAL}:{source}").send(b"passes")
    assert connect(zmq.PULL, f"{LOCAL}:{sink}").recv() == b"passes"
    in_thread(context.term).result(DEADLINE_S)


# -- errors come from start() ------------------------------------------------------------------------------------------


def test_start_raises_what_is_wrong_with_an_address(make_ours: MakeDevice, connect: Connect) -> None:
    taken = bind(connect(zmq.PULL))
    device = make_ours("ThreadDevice", zmq.STREAMER, zmq.PULL, zmq.PUSH)
    device.bind_in(taken)
    with pytest.raises(zmq.ZMQError, match="Address already in use") as raised:
        device.start()
    assert raised.value.errno == zmq.EADDRINUSE
    assert device.done
    wait_until(lambda: not engine_threads())


def test_device_that_failed_to_start_can_be_started_again(make_ours: MakeDevice, connect: Connect) -> None:
    other = connect(zmq.PULL)
    taken = bind(other)
    device = make_ours("ThreadDevice", zmq.STREAMER, zmq.PULL, zmq.PUSH)
    device.bind_in(taken)
    with pytest.raises(zmq.ZMQError):
        device.start()
    other.close()

    def starts() -> bool:
        try:
            device.start()
        except zmq.ZMQError:  # libzmq frees the address soon, in a thread of its own
            return False
        return True

    wait_until(starts)
    assert not device.done


def test_sockets_between_which_nothing_can_pass_are_refused(make_ours: MakeDevice) -> None:
    with pytest.raises(DeviceError, match="nothing can pass between sockets of the types PUB and PUSH"):
        make_ours("ThreadDevice", zmq.QUEUE, zmq.PUB, zmq.PUSH).start()


def test_monitor_that_cannot_send_is_refused(make_ours: MakeDevice) -> None:
    with pytest.raises(DeviceError, match="monitor: a PULL socket cannot send"):
        make_ours("ThreadProxy", zmq.ROUTER, zmq.DEALER, zmq.PULL).start()


def test_running_device_cannot_be_started(make_ours: MakeDevice) -> None:
    device, *_ = start_streamer(make_ours)
    with pytest.raises(EngineError, match="running already"):
        device.start()


def test_device_is_joined_after_it_was_started(make_ours: MakeDevice) -> None:
    with pytest.raises(RuntimeError, match="before it is started"):
        make_ours("ThreadDevice", zmq.STREAMER, zmq.PULL, zmq.PUSH).join()


# -- stop and statistics -----------------------------------------------------------------------------------------------


def test_stopped_device_frees_its_addresses_and_starts_again(make_ours: MakeDevice, connect: Connect) -> None:
    device, source, sink = start_streamer(make_ours)
    device.stop()
    assert device.statistics().state == "removed"
    device.stop()

    def starts() -> bool:
        try:
            device.start()
        except zmq.ZMQError:  # as above
            return False
        return True

    wait_until(starts)
    connect(zmq.PUSH, source).send(b"passes")
    assert connect(zmq.PULL, sink).recv() == b"passes"


def test_stop_offers_what_the_device_holds(make_ours: MakeDevice, connect: Connect) -> None:
    device, source, sink = start_streamer(make_ours)
    connect(zmq.PUSH, source).send(b"held")
    wait_until(lambda: device.statistics().flows["frontend"].held)
    stopped = in_thread(lambda: device.stop(timeout_s=DEADLINE_S))
    assert connect(zmq.PULL, sink).recv() == b"held"
    stopped.result(DEADLINE_S)
    assert device.statistics().flows["frontend"].sent == 1


def test_statistics_count_what_has_passed(make_ours: MakeDevice, connect: Connect) -> None:
    device, source, sink = start_streamer(make_ours)
    connect(zmq.PUSH, source).send_multipart([b"two", b"frames"])
    connect(zmq.PULL, sink).recv_multipart()
    flow = device.statistics().flows["frontend"]
    assert (flow.received, flow.sent, flow.sent_frames, flow.sent_bytes) == (1, 1, 2, 9)


def test_device_that_has_not_run_has_no_statistics(make_ours: MakeDevice) -> None:
    with pytest.raises(EngineError, match="has not run yet"):
        make_ours("ThreadDevice", zmq.STREAMER, zmq.PULL, zmq.PUSH).statistics()


def test_stop_ends_a_device_of_another_thread(make_ours: MakeDevice) -> None:
    device = make_ours("Device", zmq.STREAMER, zmq.PULL, zmq.PUSH)
    returned = in_thread(device.start)
    wait_until(lambda: device._broker is not None)
    device.stop()
    assert device.done
    assert returned.result(DEADLINE_S) is None
    assert device.statistics().state == "removed"


def test_slow_reader_of_one_device_holds_up_no_other(make_ours: MakeDevice, connect: Connect) -> None:
    full, source, _ = start_streamer(make_ours)  # nobody pulls from it
    _, other_source, other_sink = start_streamer(make_ours)
    connect(zmq.PUSH, source).send(b"held")
    wait_until(lambda: full.statistics().flows["frontend"].state == "stalled")
    connect(zmq.PUSH, other_source).send(b"passes")
    assert connect(zmq.PULL, other_sink).recv() == b"passes"


# -- the process -------------------------------------------------------------------------------------------------------


def test_program_ends_that_terminates_its_context() -> None:
    run_apart("""
        import zmq
        from pollbroker.devices import ThreadMonitoredQueue
        queue = ThreadMonitoredQueue(zmq.ROUTER, zmq.DEALER)
        queue.bind_in_to_random_port("tcp://127.0.0.1")
        queue.start()
        zmq.Context.instance().term()
        queue.join()
        assert queue.done
    """)


def test_program_ends_while_daemons_run() -> None:
    run_apart("""
        import zmq
        from pollbroker.devices import ThreadDevice
        device = ThreadDevice(zmq.QUEUE, zmq.ROUTER, zmq.DEALER)
        device.bind_in_to_random_port("tcp://127.0.0.1")
        device.start()
    """)


def test_program_waits_for_a_device_that_is_not_a_daemon() -> None:
    told = run_apart("""
        import threading, zmq
        from pollbroker.devices import ThreadDevice
        daemon, other = ThreadDevice(zmq.QUEUE, zmq.ROUTER, zmq.DEALER), ThreadDevice(zmq.QUEUE, zmq.ROUTER, zmq.DEALER)
        other.daemon = False
        daemon.start()
        other.start()
        assert (daemon.launcher.daemon, other.launcher.daemon) == (True, False)

        def end():
            main.join()
            print("the main thread has ended, the device has", "ended" if other.done else "not")
            other.stop()

        main = threading.main_thread()
        threading.Thread(target=end, daemon=True).start()
    """)
    assert told == "the main thread has ended, the device has not\n"


def test_fork_has_an_engine_of_its_own() -> None:
    run_apart("""
        import os, warnings, zmq
        from pollbroker.devices import ThreadDevice
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads, which is the point here

        def start():
            device = ThreadDevice(zmq.STREAMER, zmq.PULL, zmq.PUSH)
            addresses = [f"tcp://127.0.0.1:{device.bind_in_to_random_port('tcp://127.0.0.1')}"]
            addresses += [f"tcp://127.0.0.1:{device.bind_out_to_random_port('tcp://127.0.0.1')}"]
            device.start()
            return device, *addresses

        def check(source, sink):
            context = zmq.Context()
            push, pull = context.socket(zmq.PUSH), context.socket(zmq.PULL)
            push.linger, pull.rcvtimeo = 0, 10_000
            push.connect(source)
            pull.connect(sink)
            push.send(b"passes")
            assert pull.recv() == b"passes"
            context.destroy()

        device, *addresses = start()
        check(*addresses)
        child = os.fork()
        if not child:
            assert not device.launcher.is_alive()
            device.join()
            own, *addresses = start()
            check(*addresses)
            own.stop()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        check(*addresses)
        device.stop()
    """)
