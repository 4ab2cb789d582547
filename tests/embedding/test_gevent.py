"""What `pollbroker.gevent` has beyond other environments: greenlets of one thread, with and without monkey patching."""

import textwrap

import pytest

from pollbroker.wire.served import why_not_built
from tests.support.processes import run_apart

HEAD = """
    import threading
    import gevent, zmq, zmq.green
    from dataclasses import replace
    from pollbroker import STREAMER, EngineError, Route
    from pollbroker.gevent import Engine

    PORTS = {"frontend": "tcp://127.0.0.1:*", "backend": "tcp://127.0.0.1:*"}
    context = zmq.green.Context()

    def connected(kind, endpoint):
        socket = context.socket(kind)
        socket.linger = 0
        socket.connect(endpoint)
        return socket

    def held(engine, name="holding"):
        # With a handler, it holds a message at ports of either kind.
        routes = [Route("frontend", "backend", via=lambda frames: frames)]
        broker = engine.add(name, replace(STREAMER, routes=routes), **PORTS)
        push = connected(zmq.PUSH, broker.frontend.endpoint)
        push.send(b"held")
        while not broker.statistics().flows["frontend"].held:
            gevent.sleep(0.001)
        return broker
"""


@pytest.fixture(params=["plain", "patched"])
def patch(request: pytest.FixtureRequest) -> str:
    """How a program begins: with or without gevent's patches."""
    return "from gevent import monkey; monkey.patch_all()\n" if request.param == "patched" else ""


def run_greenlets(patch: str, script: str) -> list[str]:
    """What a script prints that runs in a process of its own."""
    # gevent patches `ssl`, which it warns of if something has imported that before; nothing has.
    return run_apart(patch + textwrap.dedent(HEAD) + textwrap.dedent(script)).splitlines()


def test_traffic_and_removal_in_one_thread(patch: str) -> None:
    script = """
        with Engine() as engine:
            broker = engine.add("a", STREAMER, **PORTS)
            push, pull = connected(zmq.PUSH, broker.frontend.endpoint), connected(zmq.PULL, broker.backend.endpoint)
            gevent.spawn(lambda: [push.send(b"%d" % number) for number in range(1000)])
            assert [pull.recv() for _ in range(1000)] == [b"%d" % number for number in range(1000)]
            assert engine.drain() == ()
            address = broker.frontend.endpoint
            for _ in range(5):
                engine.remove("a")
                engine.add("a", STREAMER, frontend=address, backend="tcp://127.0.0.1:*")
            print(threading.active_count(), engine.statistics().waiter)
        print(engine.closed, engine.context.closed)
    """
    assert run_greenlets(patch, script) == ["1 nested", "True True"]


def test_whoever_waits_lets_others_run_and_may_be_killed(patch: str) -> None:
    script = """
        with Engine() as engine:
            broker = held(engine)
            removal = gevent.spawn(broker.remove, timeout_s=3600.0)
            draining = gevent.spawn(engine.drain, 3600.0)
            while broker.state != "removing":
                gevent.sleep(0.001)
            gevent.killall([removal, draining])
            print(broker.state)
            print(connected(zmq.PULL, broker.backend.endpoint).recv())
            print(engine.wait_for(broker.removed).state)
            broker = held(engine, "again")
            closing = gevent.spawn(engine.close, timeout_s=3600.0)
            while broker.state != "removing":
                gevent.sleep(0.001)
            closing.kill()
            print(engine.closed, broker.state, broker.remove().flows["frontend"].held)
    """
    assert run_greenlets(patch, script) == ["removing", "b'held'", "removed", "True removed 1"]


def test_greenlet_that_ends_at_the_beginning_of_its_block_leaves_no_engine(patch: str) -> None:
    script = """
        import sys
        engine, entered = Engine(), []
        gevent.spawn(sys.exit)  # which is raised in this greenlet as soon as another one may run
        try:
            with engine:
                entered.append(True)
        except SystemExit:
            print(entered, engine.running, engine.closed)
    """
    assert run_greenlets(patch, script) == ["[] False True"]


def test_greenlet_that_is_killed_while_it_closes_leaves_no_engine(patch: str) -> None:
    script = """
        engine, entered = Engine(), []

        def use():
            with engine:
                entered.append(True)

        using = gevent.spawn(use)
        gevent.sleep(0)
        using.kill()  # it waits until the engine's greenlet has ended
        print(entered, engine.running, engine.closed)
    """
    assert run_greenlets(patch, script) == ["[True] False True"]


def test_engine_can_be_closed_while_a_greenlet_steps_it(patch: str) -> None:
    script = """
        engine = Engine()

        def use():
            try:
                while True:
                    engine.step(None)
            except EngineError as error:
                print(error)

        using = gevent.spawn(use)
        gevent.sleep(0)
        engine.close()
        using.join()
        print(engine.closed)
    """
    assert run_greenlets(patch, script) == ["the engine is closed", "True"]


def test_block_of_an_engine_that_runs_already_leaves_it_running(patch: str) -> None:
    script = """
        with Engine() as engine:
            try:
                with engine:
                    print("entered")
            except EngineError as error:
                print(error, engine.running, engine.closed)
    """
    assert run_greenlets(patch, script) == ["the engine is running already True False"]


def test_greenlet_that_waits_for_a_flush_leaves_the_turns_to_that_of_the_engine(patch: str) -> None:
    script = """
        with Engine() as engine:
            broker = held(engine)
            flushing = gevent.spawn(engine.pause_and_flush, 3600.0)
            while broker.state != "paused":
                gevent.sleep(0.001)
            turning = []
            for number in range(1, 51):
                engine.call_later(0, lambda: turning.append(gevent.getcurrent()))
                while len(turning) < number:
                    gevent.sleep(0)
            print(flushing in turning, len(set(turning)))
            print(connected(zmq.PULL, broker.backend.endpoint).recv(), flushing.get())
    """
    assert run_greenlets(patch, script) == ["False 1", "b'held' ()"]


@pytest.mark.skipif(why_not_built() is not None, reason="only ports of the wire can move")
def test_hand_over_lets_others_run(patch: str) -> None:
    script = """
        import socket
        from pollbroker import HandOverError
        ours, theirs = socket.socketpair()
        with ours, Engine() as engine:
            broker = engine.add("a", STREAMER, **PORTS, transport="wire")
            gevent.spawn_later(0.01, theirs.close)
            try:
                engine.hand_over(ours, timeout_s=3600.0)
            except HandOverError:
                print(broker.state)
    """
    assert run_greenlets(patch, script) == ["running"]


def test_run_in_this_greenlet_can_be_killed_and_run_again(patch: str) -> None:
    script = """
        engine = Engine()
        running = gevent.spawn(engine.run)
        broker = engine.add("a", STREAMER, **PORTS)
        running.kill()
        print(engine.running)
        push, pull = connected(zmq.PUSH, broker.frontend.endpoint), connected(zmq.PULL, broker.backend.endpoint)
        push.send(b"x")
        engine.start()
        print(pull.recv(), engine.running)
        engine.stop()
        engine.wait_stopped()
        engine.close()
        print(engine.running, engine.closed)
    """
    assert run_greenlets(patch, script) == ["False", "b'x' True", "False True"]


def test_timers_and_sockets_of_others_are_served_between_two_turns_of_a_busy_engine(patch: str) -> None:
    script = """
        from gevent import socket

        ours, theirs = socket.socketpair()
        with ours, theirs, Engine(burst_messages=1) as engine:
            broker = engine.add("a", STREAMER, frontend_options={"rcvhwm": 0}, backend_options={"sndhwm": 0}, **PORTS)
            push, pull = connected(zmq.PUSH, broker.frontend.endpoint), connected(zmq.PULL, broker.backend.endpoint)
            most = {}

            def wait_for(what, wait):
                for _ in range(5):
                    before = engine.statistics().turns
                    wait()
                    most[what] = max(most.get(what, 0), engine.statistics().turns - before)

            def read():
                theirs.send(b"x")
                ours.recv(1)

            broker.pause()
            for _ in range(1000):
                push.send(b"x")
            while not push.getsockopt(zmq.EVENTS) & zmq.POLLOUT:
                gevent.sleep(0)
            broker.resume()
            while not broker.statistics().flows["frontend"].sent:
                gevent.sleep(0)
            wait_for("timer", lambda: gevent.sleep(1e-9))
            wait_for("socket", read)
            assert broker.statistics().flows["frontend"].sent < 1000, "the engine had nothing to do any more"
            assert max(most.values()) <= 50, most  # libev looks at the clock when it likes; 1,000 would be starvation
            print(*most)
            while pull.recv() and broker.statistics().flows["frontend"].sent < 1000:
                pass
    """
    assert run_greenlets(patch, script) == ["timer socket"]


def test_sockets_of_zmq_green_miss_no_event_and_are_the_callers_again(patch: str) -> None:
    script = """
        with Engine() as engine:
            pairs = []
            for _ in range(10):
                source, sink = context.socket(zmq.PULL), context.socket(zmq.PUSH)
                for socket in (source, sink):
                    socket.linger = 0
                    socket.bind("tcp://127.0.0.1:*")
                broker = engine.register(source, sink)
                pusher = connected(zmq.PUSH, source.get_string(zmq.LAST_ENDPOINT))
                puller = connected(zmq.PULL, sink.get_string(zmq.LAST_ENDPOINT))
                pairs.append((source, sink, broker, pusher, puller))
            for number in range(50):
                for *_, pusher, _ in pairs:
                    pusher.send(b"%d" % number)
                for *_, puller in pairs:
                    assert puller.recv() == b"%d" % number
            for source, sink, broker, pusher, puller in pairs:
                broker.remove()
                pusher.send(b"for the caller")
                assert source.recv() == b"for the caller"
                sink.send(b"from the caller")
                print(puller.recv().decode())
    """
    assert run_greenlets(patch, script) == ["from the caller"] * 10


@pytest.mark.parametrize("error", ["SystemExit(7)", "KeyboardInterrupt()"])
def test_what_ends_a_program_is_raised_in_the_main_greenlet(patch: str, error: str) -> None:
    script = f"""
        def end():
            raise {error}

        try:
            with Engine() as engine:
                engine.call_later(0.01, end)
                gevent.sleep(3600)
        except BaseException as raised:
            print(repr(raised), engine.closed)
    """
    assert run_greenlets(patch, script) == [f"{error} True"]


def test_ctrl_c_ends_the_engine_between_two_turns(patch: str) -> None:
    script = """
        import os, signal
        try:
            with Engine() as engine:
                engine.call_later(0.01, os.kill, os.getpid(), signal.SIGINT)
                gevent.sleep(3600)
        except KeyboardInterrupt:
            print(engine.closed, signal.getsignal(signal.SIGINT) is signal.default_int_handler)
    """
    assert run_greenlets(patch, script) == ["True True"]


def test_engine_says_what_has_ended_it_if_a_time_limit_is_over_in_a_handler(patch: str) -> None:
    """A `gevent.Timeout` is no `Exception`."""
    script = """
        def slow(frames):
            with gevent.Timeout(0.01):
                gevent.sleep(60)

        engine = Engine()
        engine.start()
        routes = (Route("frontend", "backend", via=slow),)
        broker = engine.add("a", replace(STREAMER, routes=routes), **PORTS)
        connected(zmq.PUSH, broker.frontend.endpoint).send(b"x")
        while engine.running:
            gevent.sleep(0.001)
        try:
            engine.close()
        except EngineError as error:
            print(error)
        print(engine.closed)
    """
    assert run_greenlets(patch, script) == ["the engine's thread was ended by Timeout: 0.01 seconds", "True"]
