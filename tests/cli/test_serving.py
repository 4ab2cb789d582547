"""Commands that run a broker: what they print, and what they move."""

import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
import zmq
from click.testing import CliRunner

from pollbroker import DEVICES, Behaviour, BehaviourError, Device
from pollbroker.broker import working_broker
from pollbroker.cli import devices
from pollbroker.cli.arguments import gathered, socket_option
from pollbroker.cli.describing import describe_daemon, describe_wire_ports, peers_of
from pollbroker.cli.signals import EndingSignals
from pollbroker.daemon import Daemon
from tests.support.addresses import ANY_PORT, bind
from tests.support.commands import ENDING_SIGNALS, Run, invoke
from tests.support.deadline import wait_until
from tests.support.types import Connect


@pytest.mark.parametrize("ending", ENDING_SIGNALS)
def test_a_queue_carries_requests_until_a_signal_ends_it_in_order(
    run: Run, connect: Connect, ending: signal.Signals
) -> None:
    command = run("queue", ANY_PORT, ANY_PORT)
    addresses = command.addresses()
    client = connect(zmq.REQ, addresses["frontend"])
    worker = connect(zmq.REP, addresses["backend"])
    client.send(b"question")
    worker.send(worker.recv() + b"!")
    assert client.recv() == b"question!"
    command.process.send_signal(ending)
    code, lines, stderr = command.end()
    assert (code, stderr) == (0, "")
    assert lines[-4] == f"ending  {ending.name}"
    # A message has the routing id (5 bytes) and the empty frame of a REQ before its body.
    assert lines[-3].startswith("frontend -> backend  1 received, 1 sent, 13 bytes")
    assert lines[-2] == "backend -> frontend  1 received, 1 sent, 14 bytes"
    assert lines[-1] == "ended  1 broker, 2 received, 2 sent, 0 left"


@pytest.mark.parametrize("name", DEVICES)
def test_each_device_says_its_addresses_and_who_connects(run: Run, name: str, tmp_path: Path) -> None:
    device = DEVICES[name]
    ports = list(device.ports)
    stored = ["--path", str(tmp_path / "requests.db")] if name == "titanic" else []
    command = run(name.replace("_", "-"), *[ANY_PORT for _ in ports], *stored)
    lines = command.read_until("ready")
    assert lines[0].removesuffix(", wire ports") == f"broker {name}  {name}"
    assert lines[-1].startswith("ready  1 broker, ")
    for port, line in zip(ports, lines[1:-1], strict=True):
        peers = peers_of(device, port)
        said, address, text = line.split(" ", 2)
        assert said == port
        assert address.startswith("tcp://127.0.0.1:")
        assert not address.endswith("*")
        assert text == f" {peers} connect here"
    command.process.terminate()
    assert command.end()[0] == 0


def test_an_endpoint_may_be_connected_and_several_given(run: Run, connect: Connect, tmp_path: Path) -> None:
    puller = connect(zmq.PULL)
    address = bind(puller)
    command = run("streamer", f"ipc://{tmp_path}/in,@tcp://0.0.0.0:*", f">{address}", "--name", "relay")
    lines = command.read_until("ready")
    assert lines[0].removesuffix(", wire ports") == "broker relay  streamer"
    assert lines[1] == f"frontend ipc://{tmp_path}/in  PUSH pushers connect here"
    everywhere = lines[2].split(" ")[1]
    port = everywhere.removeprefix("tcp://0.0.0.0:")
    assert lines[2].startswith(
        f"frontend {everywhere}  PUSH pushers connect here: tcp://127.0.0.1:{port} from this machine, tcp://"
    )
    assert lines[3] == f"backend {address}  connects to PULL pullers that are bound there"
    connect(zmq.PUSH, f"tcp://127.0.0.1:{port}").send(b"through")
    assert puller.recv() == b"through"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--transport", "wire"), "wire ports"),
        (("--transport", "wire", "--capture", ANY_PORT), "wire ports"),
        (("--transport", "libzmq"), "streamer"),
    ],
)
def test_the_ports_are_of_the_transport_that_was_asked_for(
    run: Run, connect: Connect, arguments: tuple[str, ...], said: str
) -> None:
    command = run("streamer", ANY_PORT, ANY_PORT, *arguments)
    lines = command.read_until("ready")
    assert lines[0].endswith(said)
    frontend, backend = (line.split()[1] for line in lines[1:3])
    connect(zmq.PUSH, frontend).send(b"through")
    assert connect(zmq.PULL, backend).recv() == b"through"
    command.process.terminate()
    code, lines, stderr = command.end()
    assert (code, stderr) == (0, "")
    assert lines[-2].startswith("frontend -> backend  1 received, 1 sent, 7 bytes")


def test_ports_of_the_wire_are_named_where_not_all_are() -> None:
    assert describe_wire_ports({"frontend": "wire", "backend": "libzmq"}) == ", wire ports: frontend"
    assert describe_wire_ports({}) == ""


def test_an_endpoint_that_the_wire_does_not_serve_is_one_line() -> None:
    result = invoke("streamer", "inproc://in", ANY_PORT, "--transport", "wire")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (
        "pollbroker: brokers.streamer.frontend: transport 'wire': the wire has no endpoints of inproc://; expected "
        "'auto' or 'libzmq'\n"
    )


def test_a_capture_socket_gets_a_copy(run: Run, connect: Connect) -> None:
    command = run("streamer", ANY_PORT, ANY_PORT, "--capture", ANY_PORT)
    addresses = command.addresses()
    pusher = connect(zmq.PUSH, addresses["frontend"])
    puller = connect(zmq.PULL, addresses["backend"])
    watcher = connect(zmq.SUB, addresses["capture"], subscribe=b"")

    def is_captured() -> bool:
        pusher.send(b"seen")
        assert puller.recv() == b"seen"
        return bool(watcher.poll(10))

    wait_until(is_captured)  # its subscription takes its time
    assert watcher.recv() == b"seen"


def test_a_filter_lets_its_topics_pass_whatever_their_bytes(run: Run, connect: Connect) -> None:
    command = run("filter", ANY_PORT, ANY_PORT, "--topic", "a", "--topic", b"\xff")
    addresses = command.addresses()
    publisher = connect(zmq.PUB, addresses["frontend"])
    subscriber = connect(zmq.SUB, addresses["backend"], subscribe=b"")

    def arrives() -> bool:
        for topic in (b"b-unwanted", b"a-wanted", b"\xff-wanted"):
            publisher.send(topic)
        return bool(subscriber.poll(10))

    wait_until(arrives)
    assert {subscriber.recv(), subscriber.recv()} == {b"a-wanted", b"\xff-wanted"}


@pytest.mark.libzmq("a wire port does not tell its options")
def test_options_reach_the_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    found: dict[str, object] = {}

    def look(daemon: Daemon, signals: EndingSignals, **rest: Any) -> int:
        daemon.start()
        broker = daemon.engine.brokers["queue"]
        for port in working_broker(broker).ports:
            found[port.name] = (port.socket.sndhwm, port.socket.rcvhwm, port.socket.linger, port.socket.maxmsgsize)
        found["policy"] = broker.device.slow_peer
        found["drain"] = daemon.configuration.engine.drain_timeout_s
        daemon.close()
        return 7

    monkeypatch.setattr(devices, "serve", look)
    options = "--hwm 5 --sndhwm 6 --backend-option RcvHwm=0x7 --frontend-option linger=8 --slow-peer wait --drain 9"
    options += " --frontend-option maxmsgsize=9"
    result = invoke("queue", ANY_PORT, ANY_PORT, *options.split())
    assert result.exit_code == 7
    mib = 1 << 20
    assert found == {"frontend": (6, 5, 8, 9), "backend": (6, 7, 1000, 64 * mib), "policy": "wait", "drain": 9.0}


def test_the_policy_for_slow_peers_is_asked_only_where_it_has_an_effect() -> None:
    options = {name: [p.name for p in devices.device_command(device).params] for name, device in DEVICES.items()}
    of_routes = [name for name, device in DEVICES.items() if device.behaviour is None]
    assert [name for name in of_routes if "slow_peer" in options[name]] == ["queue", "reflector"]
    assert [name for name in of_routes if "topic" in options[name]] == ["filter"]


class Limited(Behaviour):
    """Sends nothing.

    Arguments:
        limit: how many
            messages it takes.
        wait_s: how long
            it waits.
        keep_s: how long it keeps. None: for ever.
        policy: `first` or `last`.
        loud: if it says more.
        ready: a frame.
        choose: a function.
    """

    peers: ClassVar[Mapping[str, str]] = {"backend": "REQ workers"}

    def __init__(
        self,
        *,
        limit: int = 10,
        wait_s: float | None = None,
        keep_s: float | None = 60.0,
        policy: Literal["first", "last"] = "first",
        loud: bool = False,
        ready: bytes | None = None,
        choose: Callable[[], int] | None = None,
    ) -> None:
        if limit < 1:
            raise BehaviourError(f"Limited: limit is {limit}: expected a positive number")
        self.settings = (limit, wait_s, keep_s, policy, loud, ready, choose)

    def on_message(self, port: str, frames: list[bytes]) -> None:
        raise AssertionError("nobody sends anything")


LIMITED = Device("limited", zmq.ROUTER, zmq.ROUTER, behaviour=Limited)


def test_settings_of_a_behaviour_are_options_of_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[object] = []

    def look(daemon: Daemon, signals: EndingSignals, **rest: Any) -> int:
        daemon.start()
        broker = daemon.engine.brokers["limited"]
        assert broker.device.behaviour is not None
        behaviour = broker.device.behaviour()
        assert isinstance(behaviour, Limited)
        found.append(behaviour.settings)
        assert any("REQ workers connect here" in line for line in describe_daemon(daemon, reloads=False))
        daemon.close()
        return 0

    monkeypatch.setattr(devices, "serve", look)
    command = devices.device_command(LIMITED)
    runner = CliRunner()
    assert runner.invoke(command, [ANY_PORT, ANY_PORT]).exit_code == 0
    options = ["--limit", "3", "--wait-s", "2.5", "--keep-s", "inf", "--policy", "last", "--loud", "--ready", "\x01ok"]
    result = runner.invoke(command, [ANY_PORT, ANY_PORT, *options])
    assert result.exit_code == 0
    assert found == [(10, None, 60.0, "first", False, None, None), (3, 2.5, None, "last", True, b"\x01ok", None)]
    for wrong in ("nan", "never", "-inf"):
        result = runner.invoke(command, [ANY_PORT, ANY_PORT, "--keep-s", wrong])
        assert (result.exit_code, f"{wrong!r}: expected seconds, or inf" in result.output) == (2, True)
    text = " ".join(runner.invoke(command, ["--help"]).output.split())
    assert "--limit INTEGER how many messages it takes. [default: 10]" in text
    assert "--wait-s SECONDS how long it waits." in text
    assert "--keep-s SECONDS how long it keeps. inf: for ever. [default: 60.0]" in text
    assert "--choose" not in text


def test_wrong_setting_is_one_line() -> None:
    with pytest.raises(BehaviourError, match="Limited: limit is 0: expected a positive number"):
        CliRunner().invoke(
            devices.device_command(LIMITED), [ANY_PORT, ANY_PORT, "--limit", "0"], catch_exceptions=False
        )


def test_a_socket_option_is_an_integer_where_one_is_expected() -> None:
    pairs = tuple(
        map(socket_option, ["sndhwm=5", "tcp_keepalive=0x1", "plain_username=5", "SNDHWM=6", "routing_id=a=b"])
    )
    assert pairs[2] == ("plain_username", "5")
    assert gathered(pairs) == {"sndhwm": [5, 6], "tcp_keepalive": 1, "plain_username": "5", "routing_id": "a=b"}
