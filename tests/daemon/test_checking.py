"""What is wrong with the brokers of a file together, and what is wrong on this machine."""

import resource
from collections.abc import Iterator

import pytest

from pollbroker.daemon import addresses, check, read_configuration
from tests.daemon.conftest import Problems, Write
from tests.support.descriptors import descriptors, opened_since


def streamer(name: str, frontend: str, backend: str, more: str = "") -> str:
    return f"[brokers.{name}]\ndevice = 'streamer'\nfrontend = '{frontend}'\nbackend = '{backend}'\n{more}\n"


ANY = "tcp://127.0.0.1:*"


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("tcp://127.0.0.1:5559", "tcp://127.0.0.1:5559", True),
        ("tcp://127.0.0.1:5559", "tcp://127.0.0.1:5560", False),
        ("tcp://127.0.0.1:5559", "tcp://127.0.0.2:5559", False),
        ("tcp://127.0.0.1:5559", "tcp://localhost:05559", True),
        ("tcp://*:5559", "tcp://127.0.0.1:5559", True),
        ("tcp://0.0.0.0:5559", "tcp://127.0.0.1:5559", True),
        ("tcp://*:5559", "tcp://0.0.0.0:5559", True),
        ("tcp://*:5559", "tcp://eth0:5559", True),
        ("tcp://*:5559", "tcp://[::1]:5559", False),
        ("tcp://[::]:5559", "tcp://[::1]:5559", True),
        ("tcp://[::]:5559", "tcp://127.0.0.1:5559", True),
        ("tcp://[::1]:5559", "tcp://[0:0::1]:5559", True),
        ("tcp://[::ffff:127.0.0.1]:5559", "tcp://127.0.0.1:5559", True),
        ("ipc:///tmp/a", "ipc:///tmp/../tmp/a", True),
        ("ipc://@a", "ipc://a", False),
        ("ipc://*", "ipc://*", False),
        ("inproc://a", "inproc://a", True),
        ("inproc://a", "ipc://a", False),
        (ANY, ANY, False),
        ("tcp://127.0.0.1:0", "tcp://127.0.0.1:0", False),
    ],
)
def test_one_address_for_two_is_known_however_it_is_written(first: str, second: str, same: bool) -> None:
    bounds = addresses.parse(first), addresses.parse(second)
    assert all(one is None for one in bounds) or None not in bounds
    for one, other in (bounds, bounds[::-1]):
        assert (one is not None and other is not None and one.takes(other)) is same


def test_every_address_of_ipv6_has_those_of_ipv4_and_ipv6() -> None:
    every = addresses.parse("tcp://*:1", ipv6=True)
    assert every is not None
    for address in ("tcp://[::1]:1", "tcp://127.0.0.1:1"):
        one = addresses.parse(address)
        assert one is not None
        assert every.takes(one)
        assert one.takes(every)


@pytest.mark.parametrize("transport", ["wire", "libzmq"])
@pytest.mark.parametrize("host", ["a..b", "x" * 70])
def test_name_that_no_host_can_have_is_a_problem(problems: Problems, host: str, transport: str) -> None:
    """Looking it up raises UnicodeError."""
    (found,) = problems(streamer("a", f"tcp://{host}:*", ANY, f"transport = '{transport}'"))
    assert found.startswith(f"brokers.toml:3: brokers.a.frontend: tcp://{host}:*: {host!r} is neither an address nor")


def test_two_brokers_on_one_address_are_a_problem_that_names_both_places(problems: Problems) -> None:
    assert problems(streamer("a", "tcp://*:5559", ANY) + streamer("b", ANY, "tcp://127.0.0.1:5559")) == [
        "brokers.toml:9: brokers.b.backend: tcp://127.0.0.1:5559: brokers.a.frontend has this address already, at "
        "brokers.toml:3; expected another"
    ]


def test_broker_on_the_address_of_the_control_socket_is_a_problem(problems: Problems) -> None:
    (found,) = problems("[engine]\ncontrol = 'ipc://c'\n" + streamer("a", "ipc://c", ANY))
    assert found.startswith("brokers.toml:5: brokers.a.frontend: ipc://c: the control socket has this address already")


@pytest.mark.parametrize(
    ("engine", "port", "found"),
    [
        (
            "control = 'tcp://127.0.0.1:5559'\nhttp = '127.0.0.1:5559'",
            ANY,
            "3: engine.http: 127.0.0.1:5559: the control socket has this address already, at brokers.toml:2",
        ),
        (
            "control = ['tcp://127.0.0.1:5559', 'tcp://localhost:5559']",
            ANY,
            "2: engine.control: tcp://localhost:5559: the control socket has this address already, at brokers.toml:2",
        ),
        (
            "control = 'ipc://x'\ntakeover = './x'",
            ANY,
            "3: engine.takeover: ./x: the control socket has this address already, at brokers.toml:2",
        ),
        (
            "control = []\ntakeover = 'x'",
            "ipc://x",
            "6: brokers.a.frontend: ipc://x: the socket for successors has this address already, at brokers.toml:3",
        ),
    ],
)
def test_servers_that_share_an_address_are_a_problem(problems: Problems, engine: str, port: str, found: str) -> None:
    assert problems(f"[engine]\n{engine}\n{streamer('a', port, ANY)}") == [f"brokers.toml:{found}; expected another"]


def test_capture_port_that_takes_the_address_of_its_own_broker_is_a_problem(problems: Problems) -> None:
    (found,) = problems(streamer("a", "inproc://x", ANY, "capture = 'inproc://x'"))
    assert "brokers.a.capture: inproc://x: brokers.a.frontend has this address already" in found


# -- circles -----------------------------------------------------------------------------------------------------------


def test_chain_that_leads_back_to_its_beginning_is_a_problem(problems: Problems) -> None:
    text = streamer("a", "tcp://*:1001", ">tcp://127.0.0.1:1002") + streamer(
        "b", "tcp://*:1002", ">tcp://localhost:1001"
    )
    assert problems(text) == [
        "brokers.toml:4: brokers.a.backend: messages would go round for ever: "
        "a.backend -> b.frontend -> b.backend -> a.frontend -> a.backend"
    ]


def test_broker_that_connects_to_itself_is_a_problem(problems: Problems) -> None:
    (found,) = problems(streamer("a", "inproc://x", ">inproc://x"))
    assert found.endswith("messages would go round for ever: a.backend -> a.frontend -> a.backend")


def test_each_circle_is_a_problem(problems: Problems) -> None:
    found = problems(streamer("a", "inproc://x", ">inproc://x") + streamer("b", "inproc://y", ">inproc://y"))
    assert len(found) == 2


def test_capture_port_that_feeds_its_own_broker_is_a_circle(problems: Problems) -> None:
    (found,) = problems(streamer("a", "inproc://x", ANY, "capture = '>inproc://x'\ncapture_type = 'PUSH'"))
    assert found.endswith("messages would go round for ever: a.capture -> a.frontend -> a.capture")


@pytest.mark.parametrize(
    "text",
    [
        # A chain.
        streamer("a", ANY, "inproc://x") + streamer("b", ">inproc://x", ANY),
        # Two ways from one broker to another.
        streamer("a", ANY, ">inproc://x") + streamer("b", "inproc://x,inproc://y", ANY) + streamer("c", ANY, ">inproc://y"),
        streamer("a", ANY, ">inproc://b,>inproc://c")
        + streamer("b", "inproc://b", ">inproc://d")
        + streamer("c", "inproc://c", ">inproc://d")
        + streamer("d", "inproc://d", ANY),
        # Replies go back the way of their requests.
        "[brokers.a]\ndevice='queue'\nfrontend='inproc://a'\nbackend='>inproc://b'\n"
        "[brokers.b]\ndevice='queue'\nfrontend='inproc://b'\nbackend='>inproc://r'\n"
        "[brokers.r]\ndevice='reflector'\nfrontend='inproc://r'",
        # Two balancers know each other, and decide for themselves.
        "[brokers.a]\ndevice='balancer'\nfrontend='inproc://a'\nbackend='>inproc://b'\n"
        "[brokers.b]\ndevice='balancer'\nfrontend='inproc://b'\nbackend='inproc://c'\n",
    ],
)  # fmt: skip
def test_brokers_that_are_connected_without_a_circle_are_right(problems: Problems, text: str) -> None:
    assert problems(text) == []


# -- this machine ------------------------------------------------------------------------------------------------------


@pytest.fixture
def few_descriptors() -> Iterator[int]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (400, hard))
    yield 400
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.libzmq("a wire port has no descriptor of its own")
def test_more_ports_than_descriptors_are_a_problem(problems: Problems, few_descriptors: int) -> None:
    enough = "".join(streamer(f"b{number}", ANY, ANY) for number in range(50))
    assert problems(enough) == []
    (found,) = problems("".join(streamer(f"b{number}", ANY, ANY) for number in range(100)))
    assert found == (
        "brokers.toml: brokers: 200 ports need about 640 descriptors, before a peer connects, and this process may "
        "open 400; expected a higher limit (ulimit -n)"
    )


@pytest.mark.parametrize(
    ("endpoint", "problem"),
    [
        ("tcp://*:5558", True),
        ("tcp://0.0.0.0:*", True),
        ("tcp://192.0.2.1:5558", True),
        ("tcp://[::]:5558", True),
        ("tcp://127.0.0.1:5558", False),
        ("tcp://localhost:5558", False),
        ("tcp://lo:5558", False),
        ("tcp://[::1]:*", False),
        ("ipc://control", False),
        (">tcp://192.0.2.1:5558", False),
    ],
)
def test_control_socket_that_other_machines_reach_is_a_problem(
    problems: Problems, endpoint: str, problem: bool
) -> None:
    found = problems(f"[engine]\ncontrol = '{endpoint}'")
    assert [line[:33] for line in found] == ["brokers.toml:2: engine.control: " + endpoint[0]] * problem
    assert problems(f"[engine]\ncontrol = '{endpoint}'\ncontrol_from_network = true") == []


@pytest.mark.libzmq("the option is one of its own")
@pytest.mark.parametrize(
    ("text", "place"),
    [
        (streamer("a", ANY, ANY, "options = { subscribe = 'x' }"), "5: brokers.a.options.subscribe: "),
        (
            streamer("a", ANY, ANY) + "[defaults.options]\nsndhwm = 1\nsubscribe = 'x'",
            "8: defaults.options.subscribe: ",
        ),
        (
            "[brokers.a]\ndevice = 'streamer'\nbackend = 'inproc://b'\n[brokers.a.frontend]\nbind = 'inproc://f'\n"
            "options = { subscribe = 'x' }",
            "6: brokers.a.frontend.options.subscribe: ",
        ),
    ],
)
def test_option_that_libzmq_refuses_for_the_socket_is_a_problem_where_it_stands(
    problems: Problems, text: str, place: str
) -> None:
    assert f"brokers.toml:{place}libzmq refuses b'x' for a PULL socket: Invalid argument" in problems(text)


def test_coroutine_handler_is_a_problem(problems: Problems, write: Write) -> None:
    write(
        "from dataclasses import replace\nfrom pollbroker import STREAMER, Route\n"
        "async def later(message):\n    return message\n"
        "NAME = replace(STREAMER, routes=[Route('frontend', 'backend', later)])\n",
        "dev_coroutine.py",
    )
    (found,) = problems(streamer("a", ANY, ANY).replace("'streamer'", "'dev_coroutine:NAME'"))
    assert "via is a coroutine function, which needs a loop of asyncio or trio" in found


def test_checking_leaves_nothing_open(write: Write) -> None:
    configuration = read_configuration(write(streamer("a", ANY, ANY) + streamer("b", ANY, ANY)))
    assert check(configuration) == []
    before = descriptors()
    assert check(configuration) == []
    assert not opened_since(before)
