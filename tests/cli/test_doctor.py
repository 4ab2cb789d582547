"""`pollbroker doctor`."""

import os
import re
import resource
import subprocess
import sys
import textwrap

import pytest
import zmq

from pollbroker import Engine, __version__
from pollbroker.cli import doctor
from pollbroker.endpoint import parse_endpoints
from pollbroker.errors import EndpointError
from tests.support.addresses import ANY_PORT
from tests.support.commands import invoke
from tests.support.deadline import DEADLINE_S
from tests.support.descriptors import descriptors, opened_since


def test_doctor_tells_versions_and_tests_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("POLLBROKER_PUMP", raising=False)
    monkeypatch.delenv("POLLBROKER_WAITER", raising=False)
    result = invoke("doctor")
    assert (result.exit_code, result.stderr) == (0, "")
    facts = dict(line.split(maxsplit=1) for line in result.stdout.splitlines())
    assert facts["pollbroker"] == __version__
    assert facts["libzmq"] == zmq.zmq_version()
    assert facts["pyzmq"] == zmq.__version__
    assert facts["pump"].startswith("native")
    assert facts["waiter"].startswith("nested")
    assert facts["wire"].startswith("it was built, and serves tcp:// and ipc://")
    assert str(resource.getrlimit(resource.RLIMIT_NOFILE)[0]) in facts["descriptors"]
    assert facts["transports"] == ", ".join(["tcp", *["ipc"] * zmq.has("ipc"), "inproc"])
    assert facts["mechanisms"].startswith("null, plain")
    assert ("curve" in facts["mechanisms"]) is zmq.has("curve") is ("curve" not in facts["missing"])
    assert facts["self-test"].startswith("one message")


@pytest.mark.parametrize(
    ("version", "refused"),
    [((4, 3, 2), True), ((4, 3, 3), False), ((4, 10, 0), False), ((3, 9, 9), True), ((5, 0, 0), False)],
)
def test_a_libzmq_before_4_3_3_is_refused(version: tuple[int, ...], refused: bool) -> None:
    assert (doctor.refuse_libzmq(version) is not None) is refused


def test_doctor_says_so_and_exits_with_1_if_libzmq_is_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "OLDEST_LIBZMQ", (99, 0, 0))
    result = invoke("doctor")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"pollbroker: libzmq {zmq.zmq_version()} is too old: expected 99.0.0 or newer")
    assert result.stderr.count("\n") == 1


def test_doctor_explains_the_pump() -> None:
    not_built = ModuleNotFoundError("No module named 'pollbroker.pump.native'", name="pollbroker.pump.native")
    broken = ImportError("undefined symbol:\n zmq_msg_recv")
    assert doctor.explain_pump("native", None, None) == "native, the faster of the two"
    assert doctor.explain_pump("python", "python", None) == "python, as POLLBROKER_PUMP says"
    assert "no working C compiler at install" in doctor.explain_pump("python", None, not_built)
    assert "free-threaded Python" in doctor.explain_pump("python", None, not_built, free_threaded=True)
    assert doctor.explain_pump("python", None, broken).endswith("cannot be loaded: undefined symbol: zmq_msg_recv")


def test_doctor_explains_the_wire() -> None:
    built = "it was built, and serves tcp:// and ipc://; "
    assert doctor.explain_wire(None, None) == built + "used for each port that it can serve"
    assert doctor.explain_wire(None, "wire") == built + "POLLBROKER_TRANSPORT is wire"
    assert doctor.explain_wire("the wire was not built: no\n module", None) == "the wire was not built: no module"


def test_doctor_names_the_transports_that_endpoints_take_and_no_other() -> None:
    result = invoke("doctor")
    facts = dict(line.split(maxsplit=1) for line in result.stdout.splitlines())
    for transport in facts["transports"].split(", "):
        parse_endpoints("here", f"{transport}://127.0.0.1:5559")
    for transport in ("tipc", "pgm", "epgm", "norm", "vmci", "ws", "wss", "udp"):
        with pytest.raises(EndpointError, match=f"transport {transport!r} is not known"):
            parse_endpoints("here", f"{transport}://127.0.0.1:5559")


def test_doctor_says_what_this_libzmq_was_built_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zmq, "has", lambda ability: ability != "ipc" and ability != "gssapi")
    facts = dict(line.split(maxsplit=1) for line in invoke("doctor").stdout.splitlines())
    assert facts["transports"] == "tcp, inproc"
    assert facts["mechanisms"] == "null, plain, curve"
    assert facts["missing"] == "ipc, gssapi"


def test_doctor_says_why_the_native_pump_cannot_be_loaded() -> None:
    script = """
        import ctypes
        from pollbroker.cli import main

        class Hidden(ctypes.CDLL):
            def __getattr__(self, name):
                if name.startswith("zmq_"):
                    raise AttributeError(name)
                return super().__getattr__(name)

        ctypes.CDLL = Hidden
        main(["doctor"])
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        env={name: value for name, value in os.environ.items() if name != "POLLBROKER_PUMP"},
    )
    assert (done.returncode, done.stderr) == (0, "")
    (pump,) = (line for line in done.stdout.splitlines() if line.startswith("pump "))
    assert pump.startswith("pump        python: the native one cannot be loaded: ")
    assert re.search(r"has no symbol zmq_\w+: this build of pyzmq hides its libzmq$", pump)


def test_doctor_explains_the_waiter() -> None:
    assert doctor.explain_waiter("nested", None, "epoll").startswith("nested, on epoll")
    assert doctor.explain_waiter("flat", "flat", "epoll") == "flat, as POLLBROKER_WAITER says"
    assert doctor.explain_waiter("flat", None, "select").endswith("select, cannot be polled itself")


@pytest.mark.parametrize(
    ("descriptors", "used", "sockets", "brokers"),
    [(1024, 24, 65535, 250), (10, 20, 65535, 0), (resource.RLIM_INFINITY, 24, 1000, 500), (1 << 30, 0, 65535, 32767)],
)
def test_doctor_counts_the_brokers_that_fit(descriptors: int, used: int, sockets: int, brokers: int) -> None:
    assert doctor.count_brokers(descriptors, used, sockets) == brokers


@pytest.mark.parametrize(
    ("descriptors", "used", "at_the_wire"),
    [
        (1024, 24, "500 at ports of the wire, less one for every 2 peers"),
        (10, 20, "0 at ports of the wire, less one for every 2 peers"),
        (resource.RLIM_INFINITY, 24, "any number at ports of the wire"),
    ],
)
def test_doctor_says_how_many_brokers_fit_at_ports_of_either_kind(
    descriptors: int, used: int, at_the_wire: str
) -> None:
    brokers = doctor.count_brokers(descriptors, used, 1000)
    at_libzmq = f"{brokers} brokers at ports of libzmq, less one for every 4 peers"
    assert doctor.describe_brokers(descriptors, used, 1000, has_wire=True) == f"{at_libzmq}; {at_the_wire}"
    assert doctor.describe_brokers(descriptors, used, 1000, has_wire=False) == at_libzmq


@pytest.mark.parametrize("transport", ["libzmq", "wire"])
def test_a_broker_takes_as_many_descriptors_as_the_doctor_says(transport: str) -> None:
    with Engine() as engine:
        engine.add("first", "queue", frontend=ANY_PORT, backend=ANY_PORT, transport=transport)
        before = descriptors()
        for number in range(5):
            engine.add(f"queue-{number}", "queue", frontend=ANY_PORT, backend=ANY_PORT, transport=transport)
        opened = len(opened_since(before))
    fit = doctor.describe_brokers(len(before) + opened, len(before), 65535, has_wire=True)
    at = {"libzmq": "5 brokers at ports of libzmq", "wire": "; 5 at ports of the wire"}
    assert at[transport] in fit
