"""Everything that is wrong with a file is said at once, each where it stands, and nothing that only follows from it."""

import json
import tomllib

import pytest

from pollbroker.daemon import ConfigurationError
from tests.daemon.conftest import Problems, StartDaemon, Write
from tests.daemon.test_running import streamer
from tests.support.commands import invoke

ANY = "tcp://127.0.0.1:*"

CONTROL = "tcp://*:5558"
OPEN = f"{CONTROL}: whoever reaches this address can stop the daemon; expected ipc://path or tcp://127.0.0.1:port, or "
OPEN += "control_from_network = true"


def test_brokers_that_are_right_are_checked_together_beside_one_that_is_wrong(problems: Problems) -> None:
    text = (
        f"engine.control = '{CONTROL}'\n"
        f"[brokers.a]\ndevice = 'streamer'\nfrontned = '{ANY}'\nbackend = '{ANY}'\n"
        f"[brokers.b]\ndevice = 'streamer'\nfrontend = 'ipc://one'\nbackend = '{ANY}'\n"
        f"[brokers.c]\ndevice = 'streamer'\nfrontend = 'ipc://one'\nbackend = '{ANY}'\n"
        "[brokers.d]\ndevice = 'streamer'\nfrontend = 'inproc://d'\nbackend = '>inproc://d'\n"
    )
    assert problems(text) == [
        f"brokers.toml:1: engine.control: {OPEN}",
        "brokers.toml:4: brokers.a.frontned: unknown key; did you mean 'frontend'?",
        "brokers.toml:12: brokers.c.frontend: ipc://one: brokers.b.frontend has this address already, at "
        "brokers.toml:8; expected another",
        "brokers.toml:17: brokers.d.backend: messages would go round for ever: d.backend -> d.frontend -> d.backend",
    ]


def test_file_that_is_no_toml_leaves_the_others_to_be_checked(problems: Problems, write: Write) -> None:
    write("[", "broken.toml")
    found = problems("include = ['broken.toml']\n" + streamer("a", "inproc://x", ">inproc://x"))
    assert [line.partition(": ")[0] for line in found] == ["broken.toml:1", "brokers.toml:5"]


@pytest.mark.parametrize(
    ("options", "key"),
    [("maxmsgsize = 9223372036854775808", "maxmsgsize"), ("sndhwm = -1", "sndhwm"), ("sndhwn = 1", "sndhwn")],
)
def test_wrong_default_is_said_where_it_stands_and_hides_nothing(problems: Problems, options: str, key: str) -> None:
    text = (
        f"[defaults.options]\n{options}\n" + streamer("a", more="maxframes = 0") + streamer("b", "ipc://b", "ipc://b")
    )
    found = problems(text)
    assert [line.split(": ")[:2] for line in found] == [
        ["brokers.toml:2", f"defaults.options.{key}"],
        ["brokers.toml:7", "brokers.a.maxframes"],
        ["brokers.toml:11", "brokers.b.backend"],
    ]


@pytest.mark.parametrize(
    "text",
    [
        # What would allow the control socket may be meant.
        f"[engine]\ncontrol = '{CONTROL}'\ncontrol_from_network = 'yes'\n",
        f"[engine]\ncontrol = '{CONTROL}'\ncontrol_from_netwrok = true\n",
        f"[engine]\ncontrol = '{CONTROL}'\ncontrol_from_network = '${{NOTHING}}'\n",
        # An option may be meant that another one needs.
        "[defaults.options]\nzap_domain = 5\n" + streamer("a", more="options = { zap_enforce_domain = true }"),
        "[defaults.options]\ncurve_secretkey = 5\n" + streamer("a", more="options = { curve_server = true }"),
        "[defaults.options]\ncurve_publickey = 5\n" + streamer("a", more="options = { curve_serverkey = 'x' }"),
        # A key may be meant that has to be there.
        f"[brokers.a]\ndevice = 'streamer'\nfrontend = '{ANY}'\nbackend = {{ bnd = '{ANY}' }}\n",
        # What the environment would say is not known.
        streamer("a", "tcp://${NOTHING}:5559"),
        streamer("a", "ipc://${NOTHING}"),
        streamer("a", "ipc:///tmp/${NOTHING}") + streamer("b", "ipc:///tmp/"),
        "[engine]\ncontrol = ['ipc://c', 'tcp://${NOTHING}']\n",
        "[engine]\nhttp = '${NOTHING}'\n",
        "[brokers.a]\ndevice = '${NOTHING}'\n",
        streamer("a", more="options = { sndhwm = '${NOTHING}' }"),
        # Nor is an address that is wrong compared with others.
        "[engine]\nhttp = '9464'\n" + streamer("a"),
    ],
)  # fmt: skip
def test_what_depends_on_something_wrong_is_not_judged(problems: Problems, text: str) -> None:
    assert len(problems(text, {})) == 1


def test_everything_that_is_wrong_with_what_is_added_is_said_at_once(write: Write, start_daemon: StartDaemon) -> None:
    daemon = start_daemon(write(streamer("a", "ipc://a")))
    with pytest.raises(ConfigurationError) as caught:
        daemon.live.add((streamer("b", more="x = 1") + streamer("c", "ipc://a") + streamer("a")).encode())
    assert [(problem.line, problem.key) for problem in caught.value.problems] == [
        (5, "brokers.b.x"),
        (8, "brokers.c.frontend"),
        (11, "brokers.a"),
    ]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("plain-ü", '"plain-ü"'),
        ("a.b", '"a.b"'),
        ('say "no" \\', '"say \\"no\\" \\\\"'),
        ("ab-1_c", "ab-1_c"),
    ],
)
def test_name_is_said_as_a_file_would_have_it(problems: Problems, write: Write, name: str, shown: str) -> None:
    text = f"[brokers.{shown}]\ndevice = 'streamer'\nbackend = '{ANY}'\nfrontend = '{ANY}'\nx = 1\n"
    (found,) = problems(text)
    assert found.startswith(f"brokers.toml:5: brokers.{shown}.x: unknown key")
    assert tomllib.loads(f"[brokers.{shown}]") == {"brokers": {name: {}}}
    assert f"brokers.{shown}.x: unknown key" in invoke("check", str(write(text))).stdout
    assert json.loads(invoke("check", "--json", "brokers.toml").stdout)[0]["key"] == f"brokers.{shown}.x"


def test_value_that_is_not_ascii_is_said_as_it_is(problems: Problems) -> None:
    (found,) = problems("[engine]\npump = 'schnörkel'")
    assert found == "brokers.toml:2: engine.pump: 'schnörkel': expected 'native' or 'python'"
