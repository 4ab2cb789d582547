"""A fork: the child cannot use the engine, and the parent's goes on."""

import os
from typing import Any

import pytest

from pollbroker import EngineError
from pollbroker.wire.served import why_not_built
from tests.support.processes import run_apart
from tests.support.types import MakeEngine


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_fork_cannot_use_the_engine_and_the_parent_goes_on(implementation: Any, waiter: str) -> None:
    script = """
        import os, sys, warnings, zmq
        from pollbroker import Engine, EngineError, STREAMER
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads, which is the point here

        engine = Engine(pump=sys.argv[1], waiter=sys.argv[2])
        engine.start()
        broker = engine.add("a", STREAMER, frontend="tcp://127.0.0.1:*", backend="tcp://127.0.0.1:*")
        context = zmq.Context()
        push, pull = context.socket(zmq.PUSH), context.socket(zmq.PULL)
        push.linger = 0
        pull.rcvtimeo = 10_000
        push.connect(broker.frontend.endpoints[0])
        pull.connect(broker.backend.endpoints[0])
        def check():
            push.send(b"passes")
            assert pull.recv() == b"passes"
        check()
        child = os.fork()
        if child == 0:
            told = 0
            calls = [
                engine.run, engine.start, engine.step, engine.stop, engine.statistics, engine.fileno, engine.close,
                engine.next_timer_s, engine.drain, engine.__enter__,
                lambda: engine.pause("a"), lambda: engine.remove("a"), lambda: engine.resume("a"),
                lambda: engine.call_later(0, print), lambda: engine.call_soon_threadsafe(print),
                lambda: engine.add_reader(0, print), lambda: engine.remove_reader(0), lambda: engine.on_close(print),
                lambda: engine.add("b", STREAMER, frontend="inproc://f", backend="inproc://b"),
            ]
            for call in calls:
                try:
                    call()
                except EngineError as error:
                    told += "cannot be used in its fork" in str(error)
            os._exit(0 if told == len(calls) else 1)
        assert os.waitpid(child, 0)[1] == 0
        check()
        # A child that ends as programs do, with the engine among what is torn down.
        child = os.fork()
        if child == 0:
            del engine, broker
            import gc; gc.collect()
            with Engine() as engine:  # the child may have an engine of its own
                engine.add("a", STREAMER, frontend="tcp://127.0.0.1:*", backend="tcp://127.0.0.1:*")
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        check()
        assert engine.statistics().brokers["a"].state == "running"
        push.close(); pull.close(); context.term()
        engine.close()
        print("parent went on")
    """
    assert run_apart(script, implementation.name, waiter) == "parent went on\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.skipif(why_not_built() is not None, reason="needs the wire")
def test_child_that_drops_an_engine_leaves_the_connections_of_the_parent() -> None:
    """No thread runs the engine, so that nothing else in the child refers to it. Both have the same epoll set."""
    script = """
        import gc, os
        from pollbroker import STREAMER, Engine
        from tests.support.addresses import endpoint
        from tests.support.deadline import wait_until
        from tests.support.wire_ports import peer_count
        from tests.wire.zmtp import connect_raw, greeting, ready

        engine = Engine()
        broker = engine.add("a", STREAMER, frontend="tcp://127.0.0.1:*", backend="tcp://127.0.0.1:*", transport="wire")
        here = connect_raw(endpoint(broker.frontend))
        here.send(greeting() + ready("PUSH"))
        consumer = connect_raw(endpoint(broker.backend))
        consumer.send(greeting() + ready("PULL"))
        for name in ("frontend", "backend"):
            wait_until(lambda: peer_count(engine, broker, name) == 1)
        child = os.fork()
        if child == 0:
            del engine, broker
            gc.collect()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        late = connect_raw(endpoint(broker.frontend))
        late.send(greeting() + ready("PUSH"))
        wait_until(lambda: peer_count(engine, broker) == 2)
        for producer in (here, late):
            producer.send_message(b"passes")
        wait_until(lambda: engine.statistics().brokers["a"].flows["frontend"].sent == 2, engine=engine)
        for peer in (here, late, consumer):
            peer.close()
        engine.close()
        print("parent went on")
    """
    assert run_apart(script) == "parent went on\n"


def test_call_in_a_forked_child_names_the_process_of_the_engine(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make_engine()
    here = os.getpid()
    with monkeypatch.context() as child:
        child.setattr(os, "getpid", lambda: 1)
        for call in (engine.statistics, engine.step, engine.run, engine.start, engine.stop, engine.close):
            with pytest.raises(
                EngineError, match=rf"^this engine belongs to process {here}, and cannot be used in its fork 1$"
            ):
                call()
    assert engine.statistics().brokers == {}


# Such a child may make an engine of its own, as a device of `pollbroker.devices` in a process does.
@pytest.mark.parametrize("lock", ["pollbroker.claims.CLAIMS._lock", "pollbroker.telling._FUTURES"])
def test_fork_is_not_left_with_a_lock_that_another_thread_held(lock: str) -> None:
    script = """
        import os, threading, warnings
        import pollbroker.claims, pollbroker.telling
        from pollbroker import Engine, STREAMER
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads, which is the point here

        held, forking = threading.Event(), threading.Event()

        def hold():
            with LOCK:
                held.set()
                forking.wait()

        thread = threading.Thread(target=hold)
        thread.start()
        held.wait()
        os.register_at_fork(before=forking.set)  # is called first, as the last that was registered
        child = os.fork()
        if not child:
            with Engine() as engine:
                engine.add("a", STREAMER, frontend="tcp://127.0.0.1:*", backend="tcp://127.0.0.1:*").remove()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        thread.join()
    """
    run_apart(script.replace("LOCK", lock))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize(("ends", "status"), [("sys.exit(7)", 7), ("raise ValueError('own')", 1)])
def test_child_can_leave_the_block_of_its_parents_engine(ends: str, status: int) -> None:
    script = f"""
        import os, sys
        from pollbroker import STREAMER, Engine
        with Engine() as engine:
            engine.add("a", STREAMER, frontend="inproc://f", backend="inproc://b")
            reader, writer = os.pipe()
            child = os.fork()
            if child == 0:
                os.dup2(writer, 2)
                {ends}
            os.close(writer)
            with open(reader) as told:
                said = told.read()
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == {status}, said
            assert "EngineError" not in said, said
            assert engine.statistics().brokers["a"].state == "running"
        print("parent went on")
    """
    assert run_apart(script) == "parent went on\n"
