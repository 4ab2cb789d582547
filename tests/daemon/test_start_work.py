"""What a start with many brokers does once, and not again and again for each of them."""

import socket
import tomllib
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest

from pollbroker import endpoint
from pollbroker.daemon import configuration, positions
from pollbroker.daemon.positions import Lines, check_depth, lines_of
from pollbroker.wire import addresses
from tests.daemon.conftest import Problems, StartDaemon, Write

NUMBER = 5

FILE = "".join(
    f"[brokers.b{number}]\ndevice = 'queue'\nfrontend = 'tcp://127.0.0.1:*'\nbackend = 'ipc://b{number}'\n"
    for number in range(NUMBER)
)


def counting(function: Callable[..., Any], name: str, calls: Counter[str]) -> Callable[..., Any]:
    """The function, whose calls are counted by a name."""

    def call(*arguments: Any, **more: Any) -> Any:
        calls[name] += 1
        return function(*arguments, **more)

    return call


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any, str], Counter[str]]:
    """Counts the calls of a function."""
    calls: Counter[str] = Counter()

    def count(where: Any, name: str) -> Counter[str]:
        monkeypatch.setattr(where, name, counting(getattr(where, name), name, calls))
        return calls

    return count


@pytest.mark.parametrize("transport", ["libzmq", "wire"])
def test_a_broker_is_understood_once(
    write: Write,
    start_daemon: StartDaemon,
    monkeypatch: pytest.MonkeyPatch,
    counted: Callable[[Any, str], Counter[str]],
    transport: str,
) -> None:
    counted(configuration, "listeners_of")
    calls = counted(positions, "lines_of")
    checks = {name: counting(check, name, calls) for name, check in endpoint._CHECKS.items()}
    monkeypatch.setattr(endpoint, "_CHECKS", checks)
    daemon = start_daemon(write(f"[defaults]\ntransport = '{transport}'\n{FILE}"))
    assert len(daemon.engine.brokers) == NUMBER
    assert calls == {"listeners_of": NUMBER, "tcp": NUMBER, "ipc": NUMBER}


def test_lines_are_looked_for_when_something_is_wrong(
    problems: Problems, counted: Callable[[Any, str], Counter[str]]
) -> None:
    calls = counted(positions, "lines_of")
    told = problems(f"{FILE}[brokers.x]\ndevice = 'queue'\nfrontend = 'tcp://x'\nbackend = 'ipc://y'\ncolour = 1\n")
    assert [one.partition(": ")[0] for one in told] == ["brokers.toml:23", "brokers.toml:25"]
    assert calls == {"lines_of": 1}


def test_key_that_is_not_there_is_where_its_table_is() -> None:
    lines = Lines("\n\n[a]\nb = 1\n")
    assert lines.line_of(("a", "b")) == 4
    assert lines.line_of(("a", "c", 0)) == 3
    assert lines.line_of(("x",)) == 1


@pytest.mark.parametrize("deep", [99, 100, 101])
@pytest.mark.parametrize("kind", ["tables", "arrays"])
def test_depth_is_what_the_lines_can_tell(deep: int, kind: str) -> None:
    text = ".".join("a" * deep) + " = 1" if kind == "tables" else f"a = {'[' * (deep - 1)}1{']' * (deep - 1)}"
    document = tomllib.loads(text)
    for check in (lambda: check_depth(document), lambda: lines_of(text)):
        with pytest.raises(RecursionError) if deep > 100 else nullcontext():
            check()


def test_numeric_address_is_not_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_up: list[str] = []
    real = socket.getaddrinfo

    def noting(host: str, *more: Any, **others: Any) -> Any:
        looked_up.append(host)
        return real(host, *more, **others)

    monkeypatch.setattr(socket, "getaddrinfo", noting)
    for address in ("tcp://127.0.0.1:5559", "tcp://*:5559"):
        addresses.parse_bound(address, ipv6=False)
        addresses.parse_connected("tcp://127.0.0.1:5559", ipv6=False)
    assert looked_up == []
    addresses.parse_bound("tcp://127.0.0.1:5559", ipv6=True)
    addresses.parse_connected("tcp://localhost:5559", ipv6=False)
    assert looked_up == ["127.0.0.1", "localhost"]


def test_numeric_address_is_what_a_look_up_says() -> None:
    found = addresses.parse_bound("tcp://127.0.0.1:5559", ipv6=False)
    ((family, _, _, _, address), *_) = socket.getaddrinfo("127.0.0.1", 5559, socket.AF_INET, socket.SOCK_STREAM)
    assert (found.family, found.sockaddr) == (family, address)
