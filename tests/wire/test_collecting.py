"""What becomes of the wire's ports when the garbage collector frees an engine that nobody has closed."""

from tests.support.processes import run_apart


def test_engine_that_is_collected_ends_its_connections() -> None:
    """The ports of an engine, its brokers and what watches their connections refer to each other in cycles."""
    script = """
        import gc
        import weakref

        from pollbroker import QUEUE, Engine
        from pollbroker.wire import native
        from tests.support.addresses import ANY_PORT, endpoint
        from tests.support.deadline import wait_until
        from tests.support.wire_ports import wire_port
        from tests.wire.zmtp import RawListener, connect_raw, greeting, ready

        def collect_an_engine(*, events):
            engine = Engine()
            reader = engine.events() if events else None
            with RawListener() as worker:
                broker = engine.add("a", QUEUE, frontend=ANY_PORT, backend=f">{worker.address}", transport="wire")
                with connect_raw(endpoint(broker.frontend)) as client, worker.accept() as accepted:
                    client.send(greeting() + ready("DEALER"))
                    accepted.send(greeting() + ready("DEALER"))
                    for name in ("frontend", "backend"):
                        wait_until(lambda: wire_port(broker, name).peer_count == 1, engine=engine)
                    seen = weakref.ref(engine)
                    del engine, reader, broker
                    gc.collect()
                    assert seen() is None
                    client.read_to_the_end()
                    accepted.read_to_the_end()

        for number in range(30):
            collect_an_engine(events=number % 2)
        print([thing for thing in gc.get_objects() if type(thing).__module__ == native.__name__])
    """
    assert run_apart(script) == "[]\n"
