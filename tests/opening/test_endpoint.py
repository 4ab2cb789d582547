"""Endpoints: malformed ones are refused, and libzmq takes all others."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import zmq
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pollbroker.binding import open_port
from pollbroker.endpoint import Endpoint, parse_endpoints
from pollbroker.errors import EndpointError
from tests.support.types import Socket

PLACE = "brokers.orders.frontend"

any_text = st.text(st.characters())
"""Lone surrogates included: they come from file names and command lines that are not UTF-8."""


def refusal(endpoints: Any) -> str:
    """Return the message with which an endpoint is refused. It begins with the place."""
    with pytest.raises(EndpointError) as caught:
        parse_endpoints(PLACE, endpoints)
    message = str(caught.value)
    assert message.startswith(f"{PLACE}: ")
    return message


def one(text: str) -> Endpoint:
    (endpoint,) = parse_endpoints(PLACE, text)
    return endpoint


@pytest.mark.parametrize(
    ("given", "bind", "address"),
    [
        ("tcp://127.0.0.1:5559", True, "tcp://127.0.0.1:5559"),
        ("@tcp://*:5559", True, "tcp://*:5559"),
        (">tcp://127.0.0.1:5559", False, "tcp://127.0.0.1:5559"),
        ("  @tcp://127.0.0.1:*\n", True, "tcp://127.0.0.1:*"),
        ("tcp://127.0.0.1:0", True, "tcp://127.0.0.1:0"),
        ("tcp://127.0.0.1:65535", True, "tcp://127.0.0.1:65535"),
        (">tcp://broker.example.org:1", False, "tcp://broker.example.org:1"),
        (">tcp://my_host-2:80", False, "tcp://my_host-2:80"),
        (">tcp://broker.example.org.:1", False, "tcp://broker.example.org.:1"),
        (f">tcp://{'h' * 63}.example:1", False, f"tcp://{'h' * 63}.example:1"),
        ("tcp://eth0:5559", True, "tcp://eth0:5559"),
        ("tcp://[::1]:5559", True, "tcp://[::1]:5559"),
        ("tcp://[::]:*", True, "tcp://[::]:*"),
        (">tcp://[fe80::1%eth0]:5559", False, "tcp://[fe80::1%eth0]:5559"),
        (">tcp://127.0.0.1:0;127.0.0.1:5559", False, "tcp://127.0.0.1:0;127.0.0.1:5559"),
        (">tcp://127.0.0.1:*;127.0.0.1:5559", False, "tcp://127.0.0.1:*;127.0.0.1:5559"),
        (">tcp://[::1]:0;[::1]:5559", False, "tcp://[::1]:0;[::1]:5559"),
        ("ipc:///tmp/some where", True, "ipc:///tmp/some where"),
        ("ipc://*", True, "ipc://*"),
        ("ipc://@abstract", True, "ipc://@abstract"),
        ("@ipc://@abstract", True, "ipc://@abstract"),
        (">inproc://a", False, "inproc://a"),
        ("inproc://a b:c;d", True, "inproc://a b:c;d"),
    ],
)
def test_good_endpoint_is_read(given: str, bind: bool, address: str) -> None:
    assert one(given) == Endpoint(address, bind)


def test_endpoint_is_written_with_its_mark() -> None:
    assert [str(e) for e in parse_endpoints(PLACE, "tcp://*:1,>tcp://h:2")] == ["@tcp://*:1", ">tcp://h:2"]


@pytest.mark.parametrize(
    "several",
    [
        "tcp://*:1, >tcp://h:2",
        ["tcp://*:1", ">tcp://h:2"],
        ("@tcp://*:1", " >tcp://h:2"),
        iter(["tcp://*:1", ">tcp://h:2"]),
    ],
)
def test_several_endpoints_keep_their_order(several: Iterable[str]) -> None:
    assert parse_endpoints(PLACE, several) == (Endpoint("tcp://*:1", True), Endpoint("tcp://h:2", False))


def test_comma_within_a_list_item_is_part_of_the_address() -> None:
    assert parse_endpoints(PLACE, ["inproc://a,b"]) == (Endpoint("inproc://a,b", True),)


PORT_TO_BIND = "port must be 0 to 65535 or *"
PORT_TO_CONNECT = "port must be 1 to 65535"


@pytest.mark.parametrize(
    "port",
    [
        *(
            "70000",
            "65536",
            "-1",
            "-0",
            "+5",
            "",
            " 5",
            "5_5",
            "\uff15\uff15",
            "\u0663",
            "\u00b2",
            "0x50",
            "1e3",
            "80.0",
        ),
        *("**", "*0", "9" * 20, "9" * 5000, "0" * 5000 + "70000"),
    ],
)
def test_bad_port_is_refused(port: str) -> None:
    assert PORT_TO_BIND in refusal([f"tcp://127.0.0.1:{port}x"])
    assert PORT_TO_BIND in refusal([f"tcp://127.0.0.1:{port}"])
    assert PORT_TO_CONNECT in refusal([f">tcp://127.0.0.1:{port}x"])
    assert PORT_TO_BIND in refusal([f">tcp://127.0.0.1:{port};127.0.0.1:5559"])


@pytest.mark.parametrize("port", ["0", "*", "00"])
def test_port_to_connect_to_must_be_known(port: str) -> None:
    assert PORT_TO_CONNECT in refusal(f">tcp://127.0.0.1:{port}")
    assert PORT_TO_CONNECT in refusal(f">tcp://127.0.0.1:0;127.0.0.1:{port}")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("", "expected transport://address, such as tcp://127.0.0.1:5559"),
        (" ", "expected transport://address"),
        ("@", "expected transport://address"),
        (">", "expected transport://address"),
        ("127.0.0.1:5559", "expected transport://address"),
        ("tcp:/127.0.0.1:5559", "expected transport://address"),
        ("tcp://*:1,", "expected transport://address"),
        (",", "expected transport://address"),
        ("udp://127.0.0.1:5559", "transport 'udp' is not known; expected tcp, ipc, inproc"),
        ("TCP://127.0.0.1:5559", "transport 'TCP' is not known"),
        ("@@tcp://127.0.0.1:5559", "transport '@tcp' is not known"),
        ("@ tcp://127.0.0.1:5559", "transport ' tcp' is not known"),
        ("://", "transport '' is not known"),
        ("tcp://", "expected tcp://host:port"),
        ("tcp://5559", "expected tcp://host:port"),
        ("tcp://:5559", "expected tcp://host:port"),
        ("tcp://127.0.0.1", "expected tcp://host:port"),
        ("tcp://::1:5559", "'::1' is neither an address nor a name; write IPv6 as [::1]"),
        ("tcp://[::1:5559", "'[::1' is neither an address nor a name"),
        ("tcp://[]:5559", "'[]' is neither an address nor a name"),
        ("tcp://[::g]:5559", "'[::g]' is neither an address nor a name"),
        ("tcp://ho st:5559", "'ho st' is neither an address nor a name"),
        ("tcp://höst:5559", "'höst' is neither an address nor a name"),
        ("tcp://host/path:5559", "'host/path' is neither an address nor a name"),
        ("tcp://user@host:5559", "'user@host' is neither an address nor a name"),
        ("tcp://-host:5559", "'-host' is neither an address nor a name"),
        (f"tcp://{'h.' * 127}h:5559", "is neither an address nor a name"),
        (f"tcp://{'h' * 64}:5559", "is neither an address nor a name"),
        (f">tcp://host.{'h' * 64}.example:5559", "is neither an address nor a name"),
        ("tcp://ho..st:5559", "'ho..st' is neither an address nor a name"),
        (">tcp://.host:5559", "'.host' is neither an address nor a name"),
        (">tcp://host..:5559", "'host..' is neither an address nor a name"),
        ("tcp://.:5559", "'.' is neither an address nor a name"),
        ("tcp://127.0.0.1:5559/", "port must be 0 to 65535 or *"),
        (">tcp://*:5559", "a host to connect to is needed; * can only be bound"),
        (">tcp://127.0.0.1:0;*:5559", "a host to connect to is needed"),
        ("tcp://127.0.0.1:0;127.0.0.1:5559", "a source address (before the semicolon) goes with connecting (>) only"),
        (">tcp://;127.0.0.1:5559", "expected tcp://host:port"),
        (">tcp://127.0.0.1:0;", "expected tcp://host:port"),
        (">tcp://127.0.0.1:0;127.0.0.1:0;127.0.0.1:5559", "is neither an address nor a name"),
        ("ipc://", "expected ipc://path"),
        (">ipc://*", "a path to connect to is needed; * can only be bound"),
        ("ipc:///" + "p" * 107, "the path is longer than 107 bytes"),
        ("ipc:///" + "ü" * 54, "the path is longer than 107 bytes"),
        ("inproc://", "expected inproc://name, the name 1 to 256 bytes"),
        ("inproc://" + "n" * 257, "expected inproc://name, the name 1 to 256 bytes"),
        ("ipc:///tmp/a\0b", "an endpoint cannot hold a NUL"),
        ("inproc://a\0", "an endpoint cannot hold a NUL"),
        ("tcp://127.0.0.1\0:5559", "an endpoint cannot hold a NUL"),
    ],
)
def test_bad_endpoint_is_refused(given: str, expected: str) -> None:
    assert expected in refusal(given)


def test_message_is_the_one_that_is_promised() -> None:
    assert refusal("tcp://127.0.0.1:70000") == (
        "brokers.orders.frontend: tcp://127.0.0.1:70000: port must be 0 to 65535 or *"
    )


@pytest.mark.parametrize("nothing", [[], (), iter(())])
def test_no_endpoint_is_refused(nothing: Iterable[str]) -> None:
    assert "no endpoint is given" in refusal(nothing)


@pytest.mark.parametrize("wrong", [5559, 1.5, object(), True, len])
def test_what_is_no_string_is_refused(wrong: object) -> None:
    assert "as strings" in refusal(wrong)
    assert "as a string" in refusal([wrong])


@pytest.mark.parametrize("wrong", [b"tcp://127.0.0.1:5559", [b"tcp://127.0.0.1:5559"], [None], [["inproc://a"]]])
def test_what_holds_no_strings_is_refused(wrong: object) -> None:
    assert "expected an endpoint" in refusal(wrong)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        (">tcp://broker.example.org:5559", "broker.example.org"),
        (">tcp://127.0.0.1:0;broker:5559", "broker"),
        (">tcp://127.0.0.1:5559", None),
        (">tcp://[::1]:5559", None),
        ("tcp://eth0:5559", None),
        (">ipc:///tmp/broker", None),
        (">inproc://broker", None),
    ],
)
def test_host_name_is_what_has_to_be_resolved(given: str, name: str | None) -> None:
    assert one(given).host_name == name


# No text whatever makes the parser raise anything but EndpointError, and what it lets pass is sound.
@given(
    text=any_text
    | st.builds(lambda head, tail: head + tail, st.sampled_from(["tcp://", ">ipc://", "inproc://"]), any_text)
)
@example(text="ipc:///tmp/\udc80")
@example(text="inproc://\ud800")
@example(text="tcp://127.0.0.1:" + "9" * 5000)
@example(text=">tcp://[::1%\udc80]:5")
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        endpoints = parse_endpoints(PLACE, text)
    except EndpointError as error:
        assert str(error).startswith(PLACE)  # noqa: PT017 - one of two good ends
        return
    for endpoint in endpoints:
        endpoint.address.encode()  # as libzmq is given it
        assert re.match(r"(?s)(tcp|ipc|inproc)://.", endpoint.address)
        assert one(str(endpoint)) == endpoint or "," in str(endpoint)


hosts = st.sampled_from(
    [
        *(
            "127.0.0.1",
            "*",
            "0.0.0.0",
            "localhost",
            "lo",
            "[::1]",
            "[::]",
            "[::1%lo]",
            "[127.0.0.1]",
            "[::ffff:127.0.0.1]",
        ),
        *(
            "127.1",
            "0",
            "1",
            "300.1.1.1",
            "255.255.255.255",
            "192.0.2.1",
            "a..b",
            "_",
            "lo.",
            "[fe80::1]",
            "127.0.0.1%lo",
        ),
        *("[::1]%lo", "[lo]", "[*]"),
    ]
) | st.text("0123456789.:[]*%", max_size=12)
ports = st.sampled_from(["*", "0", "00", "70000", "-1", "", "5_0", "65535"]) | st.integers(49152, 66000).map(str)


@st.composite
def tcp_endpoints(draw: st.DrawFn) -> str:
    """Some good, some bad; none whose name a resolver elsewhere has to be asked for."""
    connect = draw(st.booleans())
    source = f"{draw(hosts)}:{draw(ports)};" if draw(st.integers(0, 3)) == 0 else ""
    host = draw(hosts)
    return f"{'>' if connect else '@'}tcp://{source}{host}:{draw(ports)}"


# What the parser lets pass, libzmq binds at the very port that was asked for, or connects, or refuses in order.
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(text=tcp_endpoints())
@example(text="@tcp://[127.0.0.1]:*")
@example(text=">tcp://127.0.0.1:*;127.0.0.1:65535")
@example(text=">tcp://*:*;127.0.0.1:65535")
@example(text=">tcp://lo:0;127.0.0.1:65535")
def test_libzmq_takes_what_is_let_pass_over_tcp(context: zmq.Context[Socket], text: str) -> None:
    try:
        endpoint = one(text)
        port = open_port(
            context,
            where=PLACE,
            name="frontend",
            socket_type=zmq.PULL,
            endpoints=[endpoint],
            options=[(zmq.LINGER, 0)],
        )
    except EndpointError as error:
        assert str(error).startswith(PLACE)  # noqa: PT017 - one of two good ends
        return
    (real,) = port.endpoints
    port.close()
    if endpoint.bind:
        asked, got = endpoint.address.rpartition(":")[2], int(real.rpartition(":")[2])
        assert 1 <= got <= 65535
        assert asked == "*" or int(asked) in (0, got)


# The same for a path: it is bound where it says, or refused in order.
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.text(st.characters(exclude_characters="/"), min_size=1, max_size=120), bind=st.booleans())
@example(name="x" * 120, bind=True)
@example(name="\udcff", bind=True)
@example(name=".", bind=True)
def test_libzmq_takes_what_is_let_pass_over_ipc(
    context: zmq.Context[Socket], tmp_path: Path, name: str, bind: bool
) -> None:
    try:
        (endpoint,) = parse_endpoints(PLACE, [f"{'@' if bind else '>'}ipc://{tmp_path}/{name}"])
        port = open_port(
            context,
            where=PLACE,
            name="frontend",
            socket_type=zmq.PULL,
            endpoints=[endpoint],
            options=[(zmq.LINGER, 0)],
        )
    except EndpointError as error:
        assert str(error).startswith(PLACE)  # noqa: PT017 - one of two good ends
        return
    assert port.endpoints == (endpoint.address,)
    port.close()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tcp://192.0.2.1:5559", "cannot bind: .*expected an address"),
        ("tcp://no-such-interface:5559", "cannot bind: .*expected an address or an interface of this machine"),
        ("ipc:///no/such/directory/socket", "cannot bind: No such file or directory"),
        (">inproc://no-such-name-yet", None),
    ],
)
def test_endpoint_that_libzmq_refuses_raises(context: zmq.Context[Socket], text: str, expected: str | None) -> None:
    endpoint = one(text)

    def attempt() -> None:
        open_port(
            context,
            where=PLACE,
            name="frontend",
            socket_type=zmq.PULL,
            endpoints=[endpoint],
            options=[],
        ).close()

    if expected is None:
        attempt()  # libzmq lets an inproc peer come before its broker
        return
    with pytest.raises(EndpointError, match=rf"^{PLACE}: {re.escape(str(endpoint))}: {expected}"):
        attempt()
