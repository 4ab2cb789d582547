"""Socket options by name: what is set, and what is refused before or by libzmq."""

import re
from typing import Any

import pytest
import zmq
from hypothesis import example, given
from hypothesis import strategies as st

from pollbroker import FILTER, QUEUE, STREAMER, Engine
from pollbroker.broker import working_broker
from pollbroker.errors import ConfigError
from pollbroker.options import _BYTES, _LONG, FITTING, RANGES, parse_options, set_options
from tests.support.deadline import wait_until
from tests.support.processes import run_apart
from tests.support.types import Connect, Socket

PLACE = "brokers.orders.frontend"


def refusal(options: dict[Any, Any]) -> str:
    """Return the message with which options are refused. It begins with the place."""
    with pytest.raises(ConfigError) as caught:
        parse_options(PLACE, options)
    message = str(caught.value)
    assert message.startswith(f"{PLACE}: ")
    return message


@pytest.mark.parametrize(
    ("name", "given", "option", "value"),
    [
        ("sndhwm", 5000, zmq.SNDHWM, 5000),
        ("RCVHWM", 0, zmq.RCVHWM, 0),
        ("MaxMsgSize", -1, zmq.MAXMSGSIZE, -1),
        ("maxmsgsize", 1 << 40, zmq.MAXMSGSIZE, 1 << 40),
        ("tcp_keepalive", True, zmq.TCP_KEEPALIVE, 1),
        ("ipv6", False, zmq.IPV6, 0),
        ("routing_id", "orders", zmq.ROUTING_ID, b"orders"),
        ("identity", b"orders", zmq.IDENTITY, b"orders"),
        ("linger", -1, zmq.LINGER, -1),
    ],
)
def test_option_is_found_by_name(name: str, given: object, option: int, value: object) -> None:
    assert parse_options(PLACE, {name: given}) == [(option, value)]


def test_options_keep_their_order() -> None:
    assert [o.name for o, _ in parse_options(PLACE, {"sndhwm": 1, "linger": 2, "rcvhwm": 3})] == [
        "SNDHWM",
        "LINGER",
        "RCVHWM",
    ]


@pytest.mark.parametrize("topics", [["a", b"b"], ("a", b"b"), iter(["a", b"b"])])
def test_repeatable_option_may_have_several_values(topics: object) -> None:
    assert parse_options(PLACE, {"subscribe": topics}) == [(zmq.SUBSCRIBE, b"a"), (zmq.SUBSCRIBE, b"b")]


def test_repeatable_option_may_have_one_value() -> None:
    assert parse_options(PLACE, {"subscribe": "ab"}) == [(zmq.SUBSCRIBE, b"ab")]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("sendhwm", "did you mean 'sndhwm'?"),
        ("max_msg_size", "did you mean 'maxmsgsize'?"),
        ("ZMQ_SNDHWM", "did you mean 'sndhwm'?"),
        ("no such thing at all", "is not a socket option"),
        ("", "is not a socket option"),
        (5, "5 is not a socket option"),
        (None, "is not a socket option"),
    ],
)
def test_unknown_option_is_refused(name: object, hint: str) -> None:
    message = refusal({name: 1})
    assert "is not a socket option" in message
    assert hint in message


@pytest.mark.parametrize("name", ["fd", "events", "type", "rcvmore", "last_endpoint", "mechanism", "thread_safe"])
def test_read_only_option_is_refused(name: str) -> None:
    assert f"option {name}: this option can only be read" in refusal({name: 1})


@pytest.mark.parametrize("name", ["sndtimeo", "RCVTIMEO"])
def test_timeout_is_refused_since_the_engine_never_waits(name: str) -> None:
    assert f"option {name}: it would have no effect, since the engine never waits in a send or a receive" in refusal(
        {name: 100}
    )


@pytest.mark.parametrize("value", ["5", b"5", 5.0, None, [5], {}])
def test_integer_is_expected(value: object) -> None:
    assert f"option sndhwm: {value!r}: expected an integer" in refusal({"sndhwm": value})


@pytest.mark.parametrize("value", [5, None, 1.5, ["a"], True])
def test_bytes_are_expected(value: object) -> None:
    assert "option routing_id: " in refusal({"routing_id": value})
    assert "expected bytes or a string" in refusal({"routing_id": value})


def test_each_of_several_values_is_checked() -> None:
    assert "option subscribe: 5: expected bytes or a string" in refusal({"subscribe": ["a", 5]})


@pytest.mark.parametrize("value", [1 << 31, -(1 << 31) - 1, 1 << 200])
def test_integer_out_of_range_is_refused(value: int) -> None:
    assert "expected an integer of 32 bits" in refusal({"sndhwm": value})


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("sndhwm", -5, "0 or more"),
        ("linger", -2, "-1 or more"),
        ("maxmsgsize", -2, "-1 or more"),
        ("immediate", 2, "0 or 1"),
        ("router_mandatory", -1, "0 or 1"),
        ("tcp_keepalive", 2, "-1 to 1"),
        ("heartbeat_ttl", 6_553_600, "0 to 6553599"),
        ("multicast_hops", 0, "1 or more"),
        ("only_first_subscribe", 2, "0 or 1"),
        ("reconnect_stop", 8, "0 to 7"),
    ],
)
def test_value_out_of_an_options_range_is_refused(name: str, value: int, expected: str) -> None:
    assert refusal({name: value}).endswith(f"option {name}: {value}: expected {expected}")


# What the table of ranges takes, libzmq takes too, at a socket that has the option.
@pytest.mark.parametrize("name", RANGES)
def test_bounds_of_a_range_are_taken_by_libzmq(context: zmq.Context[Socket], name: str) -> None:
    kind = max(FITTING.get(name, {zmq.ROUTER}))
    for value in RANGES[name]:
        if value is not None:
            options = {name: value, "zap_domain": b"here"} if name == "ZAP_ENFORCE_DOMAIN" else {name: value}
            set_options(PLACE, context.socket(kind), parse_options(PLACE, options))


def test_every_integer_that_libzmq_takes_has_a_range(context: zmq.Context[Socket]) -> None:
    def is_taken(option: zmq.SocketOption) -> bool:
        kind = max(FITTING.get(option.name) or {zmq.ROUTER})
        try:
            set_options(PLACE, context.socket(kind), parse_options(PLACE, {option.name: 1}))
        except ConfigError:
            return False
        return True

    assert [one.name for one in zmq.SocketOption if one.name not in RANGES and is_taken(one)] == []


@pytest.mark.parametrize("value", [1 << 64, -(1 << 63) - 1])
def test_long_integer_out_of_range_is_refused(value: int) -> None:
    assert "expected an integer of 64 bits" in refusal({"maxmsgsize": value})


def test_text_that_utf8_cannot_write_is_refused() -> None:
    assert "option routing_id" in refusal({"routing_id": "\udc80"})


def test_conflate_is_refused_since_it_cuts_messages_to_their_last_frame() -> None:
    assert "option conflate" in refusal({"conflate": 1})


# Whatever is given by whatever name, it is parsed or refused with ConfigError, and libzmq takes it or refuses it so.
@given(
    kind=st.sampled_from([zmq.ROUTER, zmq.DEALER, zmq.PULL, zmq.PUSH, zmq.SUB, zmq.PUB, zmq.XSUB, zmq.XPUB, zmq.PAIR]),
    name=st.sampled_from([option.name for option in zmq.SocketOption]) | st.text(max_size=5),
    value=st.one_of(
        st.integers(),
        st.integers(-2, 2),
        st.sampled_from([-(1 << 31), (1 << 31) - 1, (1 << 63) - 1, -(1 << 63), 1 << 63]),
        st.text(st.characters(), max_size=300),
        st.binary(max_size=300),
        st.floats(),
        st.none(),
        st.lists(st.binary() | st.integers() | st.none(), max_size=3),
    ),
)
@example(kind=zmq.PULL, name="AFFINITY", value=-1)
def test_any_option_is_set_or_refused(kind: int, name: str, value: object) -> None:
    with zmq.Context() as context, context.socket(kind) as socket:
        try:
            set_options(PLACE, socket, parse_options(PLACE, {name: value}))
        except ConfigError as error:
            assert str(error).startswith(f"{PLACE}: ")  # noqa: PT017 - one of two good ends
        socket.close(linger=0)


def test_options_reach_the_sockets(engine: Engine) -> None:
    broker = engine.add(
        "orders",
        QUEUE,
        frontend="inproc://orders-frontend",
        backend="inproc://orders-backend",
        capture="inproc://orders-capture",
        frontend_options={"rcvhwm": 7, "maxmsgsize": 1000},
        backend_options={"SNDHWM": 8, "linger": 5},
        capture_options={"sndhwm": 9},
    )
    read: dict[str, object] = {}
    engine.call_soon_threadsafe(
        lambda: read.update(
            rcvhwm=working_broker(broker).port("frontend").socket.get(zmq.RCVHWM),
            maxmsgsize=working_broker(broker).port("frontend").socket.get(zmq.MAXMSGSIZE),
            sndhwm=working_broker(broker).port("backend").socket.get(zmq.SNDHWM),
            linger=working_broker(broker).port("backend").socket.get(zmq.LINGER),
            capture=working_broker(broker).ports[2].socket.get(zmq.SNDHWM),
            done=True,
        )
    )
    wait_until(lambda: "done" in read)
    assert read == {"rcvhwm": 7, "maxmsgsize": 1000, "sndhwm": 8, "linger": 5, "capture": 9, "done": True}


def test_options_of_the_device_give_way_to_the_callers(engine: Engine, connect: Connect) -> None:
    broker = engine.add(
        "news",
        FILTER,
        frontend="tcp://127.0.0.1:*",
        backend="tcp://127.0.0.1:*",
        frontend_options={"SUBSCRIBE": ["sport", b"weather"]},
    )
    assert broker.backend is not None
    publisher = connect(zmq.PUB, broker.frontend.endpoints[0])
    subscriber = connect(zmq.SUB, broker.backend.endpoints[0], subscribe=b"")

    def arrives() -> bool:
        publisher.send(b"politics")
        publisher.send(b"weather")
        return bool(subscriber.poll(1))

    wait_until(arrives)
    publisher.send(b"sport")
    taken = []
    while b"sport" not in taken:
        taken.append(subscriber.recv())
    assert set(taken) == {b"weather", b"sport"}


@pytest.mark.parametrize(
    ("port", "options", "expected"),
    [
        ("frontend", {"subscribe": b""}, "option subscribe: libzmq refuses b'' for a PULL socket"),
        ("frontend", {"router_mandatory": 1}, "option router_mandatory: libzmq refuses 1 for a PULL socket"),
        ("backend", {"sndhwm": -5}, "option sndhwm: -5: expected 0 or more"),
        ("backend", {"xpub_nodrop": 1}, "option xpub_nodrop: libzmq refuses 1 for a PUSH socket"),
        ("capture", {"sndhvm": 5}, "'sndhvm' is not a socket option; did you mean 'sndhwm'?"),
        ("backend", {"curve_secretkey": "too short"}, "option curve_secretkey: libzmq refuses"),
    ],
)
def test_unfit_option_is_refused_by_add_and_nothing_is_left(
    engine: Engine, port: str, options: dict[str, Any], expected: str
) -> None:
    endpoints = {name: f"inproc://orders-{name}" for name in ("frontend", "backend", "capture")}
    for _ in range(3):
        with pytest.raises(ConfigError, match=rf"^brokers.orders.{port}: {re.escape(expected)}"):
            engine.add("orders", STREAMER, **endpoints, **{f"{port}_options": options})  # type: ignore[arg-type]
    assert not engine.brokers
    engine.add("orders", STREAMER, **endpoints)  # type: ignore[arg-type]


PUBLIC, SECRET = zmq.curve_keypair()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"zap_enforce_domain": 1}, "option zap_enforce_domain: expected a zap_domain beside it"),
        ({"curve_server": 1}, "option curve_server: nobody could connect: .* expected a curve_secretkey beside it"),
        (
            {"curve_serverkey": PUBLIC},
            "option curve_serverkey: .* expected a curve_publickey and a curve_secretkey beside it",
        ),
        (
            {"curve_serverkey": PUBLIC, "curve_secretkey": SECRET},
            "option curve_serverkey: .* expected a curve_publickey beside it",
        ),
    ],
)
def test_option_without_one_that_it_needs_is_refused(engine: Engine, options: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConfigError, match=rf"^brokers.orders.frontend: {expected}$"):
        engine.add("orders", STREAMER, frontend="inproc://f", backend="inproc://b", frontend_options=options)
    assert not engine.brokers


@pytest.mark.parametrize(
    "options",
    [
        {"zap_enforce_domain": 0},
        {"curve_server": 0},
        {"curve_server": 1, "curve_secretkey": SECRET},
        {"curve_serverkey": PUBLIC, "curve_publickey": PUBLIC, "curve_secretkey": SECRET},
    ],
)
def test_option_with_those_that_it_needs_is_accepted(engine: Engine, options: dict[str, Any]) -> None:
    engine.add("orders", STREAMER, frontend="inproc://f", backend="inproc://b", frontend_options=options)


@pytest.mark.parametrize("options", [5, "sndhwm", [("sndhwm", 5)], {"sndhwm"}])
def test_options_that_are_no_mapping_are_refused(engine: Engine, options: Any) -> None:
    with pytest.raises(ConfigError, match=r"^brokers\.orders\.frontend: .*expected"):
        engine.add("orders", STREAMER, frontend="inproc://f", backend="inproc://b", frontend_options=options)
    assert not engine.brokers


def live_through(script: str) -> None:
    """Run a script in a process of its own: what makes libzmq abort would end the whole test run."""
    assert run_apart(script).endswith("lived\n")


@pytest.mark.parametrize(
    "options",
    [
        {"use_fd": 999},
        {"affinity": -1},
        {"affinity": 1 << 62},
        {"backlog": -1},
        {"handshake_ivl": 1, "heartbeat_ivl": 1, "heartbeat_timeout": 1, "heartbeat_ttl": 1},
        {"socks_proxy": "127.0.0.1:1"},
        {"bindtodevice": "no-such-device"},
        {"tos": 1 << 30},
        {"sndbuf": 1, "rcvbuf": 1, "in_batch_size": 1, "out_batch_size": 1},
    ],
    ids=lambda options: next(iter(options)),
)
def test_odd_option_never_ends_the_process(options: dict[str, int]) -> None:
    script = f"""
import zmq
from pollbroker import Engine, STREAMER, PollbrokerError
with Engine() as engine, zmq.Context() as context:
    other = engine.add("other", STREAMER, frontend="tcp://127.0.0.1:*", backend="tcp://127.0.0.1:*")
    try:
        odd = engine.add(
            "odd", STREAMER, frontend="tcp://127.0.0.1:*", backend="tcp://127.0.0.1:*", frontend_options={options!r}
        )
    except PollbrokerError as error:
        print(error)
        odd = None
    for broker in (odd, other):
        if broker is not None:
            with context.socket(zmq.PUSH) as push, context.socket(zmq.PULL) as pull:
                push.linger = 0
                pull.rcvtimeo = 500 if broker is odd else 10_000
                push.connect(broker.frontend.endpoints[0])
                pull.connect(broker.backend.endpoints[0])
                push.send(b"passes")
                try:
                    assert pull.recv() == b"passes"
                except zmq.Again:
                    assert broker is odd
print("lived")
"""
    live_through(script)


# Such a server aborts the process when its first client comes.
def test_plain_server_that_enforces_no_domain_is_refused_or_lives() -> None:
    live_through("""
import zmq
from pollbroker import Engine, STREAMER, PollbrokerError
with Engine() as engine, zmq.Context() as context:
    try:
        broker = engine.add(
            "a", STREAMER, frontend="tcp://127.0.0.1:*", backend="tcp://127.0.0.1:*",
            frontend_options={"plain_server": 1, "zap_enforce_domain": 1},
        )
    except PollbrokerError as error:
        print(error)
    else:
        with context.socket(zmq.PUSH) as push:
            push.linger = 0
            push.plain_username = push.plain_password = b"a"
            monitor = push.get_monitor_socket()
            push.connect(broker.frontend.endpoints[0])
            for _ in range(4):
                monitor.poll(500) and monitor.recv_multipart()
            push.disable_monitor()
print("lived")
""")


# pyzmq knows the kind of each option too, but does not say it in public.
def test_kinds_of_options_are_those_that_pyzmq_knows() -> None:
    for option in zmq.SocketOption:
        kind = option._opt_type.name
        assert ((option.name in _BYTES), (option.name in _LONG)) == (kind == "bytes", kind == "int64"), option.name
