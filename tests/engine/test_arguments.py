"""Wrong arguments, environment variables and names: the error says what was expected."""

import math
import re
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
import zmq

from pollbroker import STREAMER, ConfigError, Engine, EngineError
from pollbroker.pump import choose_implementation
from tests.support.addresses import ANY_PORT
from tests.support.bystander import Bystander
from tests.support.deadline import DEADLINE_S, wait_until
from tests.support.threads import running
from tests.support.transports import holding
from tests.support.turns import rest
from tests.support.types import Connect, MakeEngine, Socket


@pytest.mark.parametrize(
    "arguments",
    [
        {"burst_messages": 0},
        {"burst_bytes": -1},
        {"burst_messages": 1.5},
        {"burst_messages": 1 << 64},
        {"burst_messages": "many"},
        {"spin_s": -1},
        {"spin_s": 1},
        {"spin_s": math.nan},
        {"spin_s": "a while"},
        {"pump": "fast"},
        {"waiter": "asleep"},
        {"pump": 5},
    ],
)
def test_wrong_engine_argument_raises(arguments: dict[str, Any]) -> None:
    (name,) = arguments
    with pytest.raises(ConfigError, match=rf"^{name}: .*expected"):
        Engine(**arguments)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"burst_messages": 0}, "burst_messages: 0: expected a positive integer"),
        ({"burst_messages": 1 << 63}, f"burst_messages: {1 << 63}: expected a positive integer"),
        ({"burst_messages": None}, "burst_messages: None: expected a positive integer"),
        ({"burst_bytes": 0}, "burst_bytes: 0: expected a positive integer"),
        ({"burst_bytes": 1.5}, r"burst_bytes: 1\.5: expected a positive integer"),
        ({"spin_s": -0.001}, r"spin_s: -0\.001: expected 0 to 0\.01 seconds"),
        ({"spin_s": 0.0101}, r"spin_s: 0\.0101: expected 0 to 0\.01 seconds"),
        ({"spin_s": "1"}, r"spin_s: '1': expected 0 to 0\.01 seconds"),
    ],
)
def test_wrong_argument_raises_with_what_was_expected(arguments: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=f"^{told}$"):
        Engine(**arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        {"burst_messages": 1, "burst_bytes": 1},
        {"burst_messages": (1 << 63) - 1, "burst_bytes": (1 << 63) - 1},
        {"spin_s": 0},
        {"spin_s": 0.01},
    ],
)
def test_least_and_greatest_arguments_are_accepted(
    make_engine: MakeEngine, connect: Connect, arguments: dict[str, Any]
) -> None:
    engine = make_engine(**arguments)
    broker = engine.add("a", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
    connect(zmq.PUSH, broker.frontend.endpoint).send(b"passes")
    pull = connect(zmq.PULL, broker.backend.endpoint)
    wait_until(lambda: pull.poll(0), engine=engine)
    assert pull.recv() == b"passes"


@pytest.mark.parametrize("variable", ["POLLBROKER_PUMP", "POLLBROKER_WAITER"])
def test_wrong_environment_variable_raises(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "best")
    with pytest.raises(ConfigError, match=rf"^{variable}: 'best': expected"):
        Engine()


def test_missing_native_pump_raises_if_it_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("POLLBROKER_PUMP", raising=False)
    monkeypatch.setitem(sys.modules, "pollbroker.pump.native", None)
    assert choose_implementation().name == "python"
    with pytest.raises(ConfigError, match=r"^pump: the native pump cannot be loaded here: "):
        choose_implementation("native")
    monkeypatch.setenv("POLLBROKER_PUMP", "native")
    with pytest.raises(ConfigError, match=r"^POLLBROKER_PUMP: the native pump cannot be loaded here: "):
        choose_implementation()


@pytest.mark.parametrize("delay_s", [math.nan, math.inf, 1e300, 1e17])
def test_wrong_delay_never_ends_the_engine(engine: Engine, bystander: Bystander, delay_s: float) -> None:
    called = threading.Event()
    try:
        engine.call_later(delay_s, called.set)
    except ConfigError as error:
        assert "expected" in str(error)  # noqa: PT017 - to refuse it is well, and to wait for ever too
    bystander.check()
    first = threading.Event()
    engine.call_later(0, first.set)
    assert first.wait(DEADLINE_S)
    assert not called.is_set()


@pytest.mark.parametrize("delay_s", ["1", None, b"", object()])
def test_delay_must_be_a_number(engine: Engine, bystander: Bystander, delay_s: Any) -> None:
    with pytest.raises((ConfigError, TypeError)):
        engine.call_later(delay_s, print)


@pytest.mark.parametrize("call", [Engine.pause, Engine.resume, Engine.remove])
@pytest.mark.parametrize("name", ["orders", "", None, 5, b"bystander"])
def test_call_about_an_unknown_broker_raises(
    engine: Engine, bystander: Bystander, call: Callable[[Engine, Any], object], name: Any
) -> None:
    with pytest.raises(EngineError, match=rf"^no broker is named {re.escape(repr(name))}; there are: bystander"):
        call(engine, name)


def test_error_about_an_unknown_broker_lists_the_known_ones(make_engine: MakeEngine) -> None:
    engine = make_engine()
    for name, known in (("a", "none"), ("b", "a"), ("c", "a, b")):
        for call in (engine.remove, engine.pause, engine.resume, engine.broker_statistics):
            with pytest.raises(EngineError, match=rf"^no broker is named 'x'; there are: {known}$"):
                call("x")
        engine.add(name, STREAMER, frontend=ANY_PORT, backend=ANY_PORT)


def test_broker_that_cannot_be_steered_says_why(make_engine: MakeEngine, connect: Connect) -> None:
    engine = make_engine()
    context = connect(zmq.PUSH).context
    source, sink = context.socket(zmq.PULL), context.socket(zmq.PUSH)
    engine.register(source, sink, STREAMER, name="closed")
    source.close()
    for steer in (engine.pause, engine.resume):
        engine.statistics()
        with pytest.raises(
            EngineError, match=r"^brokers\.closed: it is failed: frontend: the socket was closed under the engine$"
        ):
            steer("closed")
    own: zmq.Context[Socket] = zmq.Context()
    left, right = own.socket(zmq.PULL), own.socket(zmq.PUSH)
    engine.register(left, right, STREAMER, name="ended")
    rest(engine)
    with running(own.term):
        wait_until(lambda: engine.brokers["ended"].state == "ended", engine=engine)
        with pytest.raises(EngineError, match=r"^brokers\.ended: it is ended$"):
            engine.pause("ended")
        left.close()
        right.close()
    holding(engine, connect, "leaving")
    with running(lambda: engine.remove("leaving", timeout_s=0.2)):
        wait_until(lambda: engine.brokers.get("leaving") is None or engine.brokers["leaving"].state == "removing")
        with pytest.raises(EngineError, match=r"^brokers\.leaving: it is removing$"):
            engine.pause("leaving")


def test_statistics_of_something_else_cannot_be_gone_on_with(make_engine: MakeEngine) -> None:
    engine = make_engine()
    wrong: Any = engine.statistics()
    with pytest.raises(ConfigError, match=r"^brokers\.a\.earlier: EngineStatistics.*: expected the BrokerStatistics "):
        engine.add("a", STREAMER, frontend=ANY_PORT, backend=ANY_PORT, earlier=wrong)
    assert not engine.brokers


def test_listener_that_cannot_be_called_is_refused(make_engine: MakeEngine) -> None:
    wrong: Any = 5
    with pytest.raises(ConfigError, match=r"^on_event: 5: expected a function of one argument, the event$"):
        make_engine().on_event(wrong)
