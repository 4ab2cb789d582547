"""A port at which nobody could connect is a problem: a daemon has no authenticator."""

import pytest
import zmq

from tests.daemon.conftest import Problems, StartDaemon, Write
from tests.daemon.test_running import address, streamer
from tests.support.types import Connect

PUBLIC, SECRET = (key.decode() for key in zmq.curve_keypair())

PLAIN = (
    "nobody could connect: a server of PLAIN asks an authenticator about each client, and a daemon has none; "
    "expected false"
)
CURVE = "nobody could connect: the server has no key; expected a curve_secretkey beside it"
CURVE_CLIENT = (
    "no connection could be made: a client of CURVE has a key of its own; "
    "expected a curve_publickey and a curve_secretkey beside it"
)
ENFORCED = (
    "nobody could connect: an authenticator would have to be asked about each peer, and a daemon has none; "
    "expected false"
)


@pytest.mark.parametrize(
    ("options", "key", "why"),
    [
        ("plain_server = true", "plain_server", PLAIN),
        ("plain_server = true, zap_domain = 'x'", "plain_server", PLAIN),
        ("zap_domain = 'x', zap_enforce_domain = true", "zap_enforce_domain", ENFORCED),
        pytest.param("curve_server = true", "curve_server", CURVE, marks=pytest.mark.libzmq("the wire has no CURVE")),
        pytest.param(
            f"curve_serverkey = '{'k' * 40}'",
            "curve_serverkey",
            CURVE_CLIENT,
            marks=pytest.mark.libzmq("the wire has no CURVE"),
        ),
    ],
)
def test_option_by_which_nobody_could_connect_is_a_problem_where_it_stands(
    problems: Problems, options: str, key: str, why: str
) -> None:
    backend = f"[brokers.a.backend]\nbind = 'tcp://127.0.0.1:*'\noptions = {{ {options} }}\n"
    text = f"[brokers.a]\ndevice = 'streamer'\nfrontend = 'tcp://127.0.0.1:*'\n{backend}"
    assert problems(text) == [f"brokers.toml:6: brokers.a.backend.options.{key}: {why}"]
    assert problems(f"[defaults]\noptions = {{ {options} }}\n" + streamer("a")) == [
        f"brokers.toml:2: defaults.options.{key}: {why}"
    ]


def test_option_of_a_device_by_which_nobody_could_connect_is_a_problem_of_its_port(
    problems: Problems, write: Write
) -> None:
    device = "from dataclasses import replace\nfrom pollbroker import STREAMER\n"
    write(f"{device}CLOSED = replace(STREAMER, options={{'backend': {{'plain_server': 1}}}})\n", "dev_closed.py")
    text = streamer("a").replace("'streamer'", "'dev_closed:CLOSED'")
    assert problems(text) == [f"brokers.toml:4: brokers.a.backend: option plain_server: {PLAIN}"]


@pytest.mark.parametrize(
    "options",
    [
        "plain_server = false",
        "plain_username = 'me', plain_password = 'secret', zap_domain = 'x', zap_enforce_domain = true",
        "zap_domain = 'x'",
    ],
)
def test_what_lets_peers_in_is_no_problem(problems: Problems, options: str) -> None:
    assert problems(streamer("a", more=f"options = {{ {options} }}")) == []


def test_peers_within_the_process_need_no_authenticator(problems: Problems) -> None:
    assert problems(streamer("a", "inproc://x", "inproc://y", "options = { plain_server = true }")) == []


@pytest.mark.libzmq("the wire has no CURVE")
def test_client_that_knows_the_key_of_a_curve_server_connects(
    write: Write, start_daemon: StartDaemon, connect: Connect
) -> None:
    options = f"options = {{ curve_server = true, curve_secretkey = '{SECRET}' }}"
    daemon = start_daemon(write(streamer("a", more=options)))
    public, secret = zmq.curve_keypair()
    keys = {"curve_serverkey": PUBLIC.encode(), "curve_publickey": public, "curve_secretkey": secret}
    connect(zmq.PUSH, address(daemon, "a"), **keys).send(b"through")
    assert connect(zmq.PULL, address(daemon, "a", "backend"), **keys).recv() == b"through"
