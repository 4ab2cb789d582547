"""What the log of a daemon says that has taken the place of another, of the brokers that begin later."""

from tests.daemon.conftest import StartDaemon, Write
from tests.daemon.test_running import streamer
from tests.support.commands import Run
from tests.support.deadline import wait_until

ENGINE = "[engine]\ntakeover = 'takeover'\n"


def titanic(name: str) -> str:
    """A broker that begins when the old daemon has ended, since it has a behaviour."""
    return f"[brokers.{name}]\ndevice = 'titanic'\nfrontend = 'ipc://{name}'\nsettings = {{ path = '{name}.db' }}\n"


def test_brokers_that_begin_later_are_said_with_their_addresses(
    write: Write, start_daemon: StartDaemon, run: Run
) -> None:
    path = write(ENGINE + streamer("a", "ipc://a") + titanic("t") + titanic("u"))
    old = start_daemon(path)
    command = run("run", "--takeover", str(path))
    (ready,) = command.read_until("ready")[-1:]
    assert ready.startswith("ready  1 broker (2 more when the process has ended whose place was taken), ")
    wait_until(lambda: not old.engine.running)
    old.end()
    old.close()
    command.read_until("broker u")
    command.process.terminate()
    code, lines, stderr = command.end()
    assert (code, stderr) == (0, "")
    at = lines.index("ready  3 brokers")
    said = [line.partition("  ")[0] for line in lines[at - 4 : at]]
    assert said == ["broker t", "frontend ipc://t", "broker u", "frontend ipc://u"]
