"""Configuration files that are garbage: each is a list of problems, and a reload of one changes nothing."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pollbroker.daemon import EXAMPLE, ConfigurationError, Daemon, read_checked
from tests.daemon.conftest import StartDaemon, Write
from tests.support.addresses import ANY_PORT

# -- files that were right once ----------------------------------------------------------------------------------------

VALID = (
    EXAMPLE
    + f"""
[brokers.more]
device = "queue"
frontend = ["{ANY_PORT}", ">tcp://127.0.0.1:9", "ipc://more"]
backend = {{ bind = "ipc://@more", options = {{ sndhwm = 7, identity = "x" }} }}
capture = "inproc://capture"
slow_peer = "wait"
maxframes = 7

[brokers.jobs]
device = "balancer"
frontend = "{ANY_PORT}"
backend = "{ANY_PORT}"
settings = {{ policy = "least_loaded", max_wait_s = 5.0 }}
limits = {{ connections = 7 }}

[defaults.limits]
handshakes = 7
"""
)

_PIECES = st.sampled_from(
    [
        '"', "'", '"""', "'''", "[", "]", "{", "}", "[[", "]]", ",", "=", ".", "#", "\n", "\r", "\0", " ", "-1", "0",
        "1e999", "nan", "true", "1979-05-27", "9223372036854775808", "${HOME}", "${", "$${", "@", ">", "ipc://",
        "tcp://*:*", "inproc://", "brokers", "include", "engine", "defaults", "options", "settings",
        "\ufeff", "\ud7ff", "\\u0000", "\\", "é",
    ]
).map(str.encode)  # fmt: skip


@st.composite
def _mutated(draw: st.DrawFn) -> bytes:
    """A file that is right but for some places, in which bytes were removed, added, repeated or changed."""
    raw = bytearray(VALID.encode())
    for _ in range(draw(st.integers(1, 5))):
        at = draw(st.integers(0, len(raw) - 1))
        length = draw(st.integers(0, 40))
        piece = draw(st.one_of(_PIECES, st.binary(max_size=8), st.just(bytes(raw[at : at + length])), st.just(b"")))
        raw[at : at + draw(st.integers(0, length))] = piece
        if not raw:
            break
    return bytes(raw)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("garbage")


def problems_of(path: Path, lines: int) -> bool:
    """True if there are problems. Each has a file, a line that is there, and a text of one line."""
    try:
        read_checked(path, {"HOME": "/nowhere"})
    except ConfigurationError as error:
        problems = error.problems
    else:
        return False
    assert problems
    for problem in problems:
        assert problem.file
        assert 0 <= problem.line <= lines
        assert problem.text
        assert len(str(problem).splitlines()) == 1
    return True


# Whatever has become of a file that was right, there is a configuration or a list of problems.
@given(raw=_mutated())
@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])
def test_damaged_file_is_a_configuration_or_a_list_of_problems(directory: Path, raw: bytes) -> None:
    path = directory / "brokers.toml"
    path.write_bytes(raw)
    problems_of(path, raw.count(b"\n") + 1)


def test_file_that_the_damage_is_done_to_is_right(directory: Path) -> None:
    path = directory / "right.toml"
    path.write_text(VALID)
    assert not problems_of(path, VALID.count("\n") + 1)


# -- reloads -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def daemon(write: Write, start_daemon: StartDaemon) -> Iterator[Daemon]:
    """A daemon with two brokers, to which nothing may happen."""
    text = f"[brokers.a]\ndevice = 'streamer'\nfrontend = '{ANY_PORT}'\nbackend = '{ANY_PORT}'\n"
    daemon = start_daemon(write(text + text.replace("a]", "b]")))
    before = daemon.engine.brokers
    yield daemon
    assert daemon.engine.brokers == before
    assert all(broker.state == "running" for broker in before.values())


# A reload of a file that is wrong changes nothing, and says why.
@given(raw=st.one_of(_mutated(), st.binary(min_size=1, max_size=60)))
@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
def test_reload_of_garbage_changes_nothing(daemon: Daemon, raw: bytes) -> None:
    Path("brokers.toml").write_bytes(raw + b"\n[brokers.wrong]\ndevice = 1\n")
    before = daemon.configuration
    done = daemon.reload()
    assert done.problems
    assert (done.added, done.changed, done.removed) == ((), (), ())
    assert daemon.configuration == before


@pytest.mark.parametrize("kind", ["directory", "missing", "not readable", "no text"])
def test_reload_of_what_is_no_file_changes_nothing(daemon: Daemon, kind: str) -> None:
    path = Path("brokers.toml")
    path.unlink()
    if kind == "directory":
        path.mkdir()
    elif kind == "not readable":
        path.symlink_to("/proc/self/mem")  # which cannot be read from its beginning
    elif kind == "no text":
        path.write_bytes(random.Random(7).randbytes(100_000))
    (problem, *_) = daemon.reload().problems
    assert problem.file == "brokers.toml"
