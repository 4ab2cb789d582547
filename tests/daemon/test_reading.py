"""What is wrong with a file is said with its place, what was found and what was expected; all of it at once."""

import tomllib
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pollbroker.daemon import ConfigurationError, read_configuration
from pollbroker.daemon.configuration import DEFAULT_OPTIONS
from pollbroker.settings import settings_of
from tests.daemon.conftest import Problems, Write

STREAMER = 'device = "streamer"\nfrontend = "tcp://127.0.0.1:*"\nbackend = "tcp://127.0.0.1:*"\n'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x = 1", "1: x: unknown key; expected one of include, engine, defaults, brokers"),
        ("[engines]", "1: engines: unknown key; did you mean 'engine'?"),
        ("[engine]\nburst_messages = 0", "2: engine.burst_messages: 0: expected an integer >= 1"),
        (
            "[engine]\nburst_messages = 9223372036854775808",
            "2: engine.burst_messages: 9223372036854775808: expected an integer <= 9223372036854775807",
        ),
        ("[engine]\nburst_messages = '1'", "2: engine.burst_messages: '1': expected an integer"),
        ("[engine]\nspin_s = nan", "2: engine.spin_s: nan: expected a number"),
        ("[engine]\nwaiter = 'flt'", "2: engine.waiter: 'flt': expected 'nested' or 'flat'; did you mean 'flat'?"),
        ("engine = 5", "1: engine: 5: expected a table"),
        ("[engine]\ncontrol = 'tcp://x'", "2: engine.control: tcp://x: expected tcp://host:port"),
        (
            "[engine]\nhttp_token = 'short'",
            "2: engine.http_token: expected 16 characters or more, all printable ASCII, without spaces",
        ),
        ("[engine]\nhttp_token = 1234567890123456", "2: engine.http_token: expected a text"),
        (
            "[engine]\nhttp = '*:9464'",
            "2: engine.http: '*:9464': expected 0.0.0.0 or [::] for every address of this machine",
        ),
        ("[engine]\nhttp = '9464'", "2: engine.http: '9464': expected a host and a port, such as '127.0.0.1:9464'"),
        ("[engine]\ntakeover = ''", "2: engine.takeover: '': expected the path of a socket file, of at most 107 bytes"),
        (
            "[engine]\ntakeover = '@name'",
            "2: engine.takeover: '@name': expected the path of a socket file, of at most 107 bytes",
        ),
        (
            "[engine]\ntakeover = '*'",
            "2: engine.takeover: '*': expected the path of a socket file, of at most 107 bytes",
        ),
        (
            f"[engine]\ntakeover = '/{100 * 'x'}/y'",
            f"2: engine.takeover: '/{100 * 'x'}/y': expected the path of a socket file, of at most 107 bytes",
        ),
        (
            "[engine]\ntakeover = '.'",
            "2: engine.takeover: '.': expected the path of a socket file, of at most 107 bytes",
        ),
        (
            '[engine]\ntakeover = "a\\u0000b"',
            "2: engine.takeover: 'a\\x00b': expected the path of a socket file, of at most 107 bytes",
        ),
        (
            f"[engine]\ntakeover = '/{107 * 'x'}'",
            f"2: engine.takeover: '/{107 * 'x'}': expected the path of a socket file, of at most 107 bytes",
        ),
        ("brokers = 1", "1: brokers: expected a table of brokers by name"),
        ("[brokers]\na = 1", "2: brokers.a: 1: expected a table"),
        ("[brokers.a]\n", "1: brokers.a: the key 'device' is missing"),
        ('[brokers."\\n"]\n', '1: brokers."\\U0000000a": expected a name that is not empty and can be printed'),
        (f"[brokers.a]\n{STREAMER}frontned = 'x'", "5: brokers.a.frontned: unknown key; did you mean 'frontend'?"),
        (
            "[brokers.a]\ndevice = 'streamer'\nfrontend = 'tcp://*:*'",
            "1: brokers.a: the key 'backend' is missing: the device streamer has a backend",
        ),
        ("[brokers.a]\ndevice = 5", "2: brokers.a.device: 5: expected a text"),
        (f"[brokers.a]\n{STREAMER}capture = 1.5", "5: brokers.a.capture: 1.5: expected a text or a table or a list"),
        (f"[brokers.a]\n{STREAMER}capture = ['inproc://a', 2]", "5: brokers.a.capture[1]: 2: expected a text"),
        (
            f"[brokers.a]\n{STREAMER}capture = []",
            "5: brokers.a.capture: expected an endpoint such as tcp://127.0.0.1:5559",
        ),
        (
            f"[brokers.a]\n{STREAMER}capture = {{}}",
            "5: brokers.a.capture: expected the key 'bind' or 'connect', or both",
        ),
        (
            f"[brokers.a]\n{STREAMER}capture.bind = '>tcp://h:1'",
            "5: brokers.a.capture.bind: >tcp://h:1: expected an address without a mark, since the key says it",
        ),
        (
            f"[brokers.a]\n{STREAMER}capture.connect = ['tcp://h:1', 'tcp://*:2']",
            "5: brokers.a.capture.connect[1]: >tcp://*:2: a host to connect to is needed; * can only be bound",
        ),
        (
            f"[brokers.a]\n{STREAMER}[brokers.a.options]\nsndhwn = 1",
            "6: brokers.a.options.sndhwn: 'sndhwn' is not a socket option; did you mean 'sndhwm'?",
        ),
        (
            f"[brokers.a]\n{STREAMER}options = {{ sndhwm = -1 }}",
            "5: brokers.a.options.sndhwm: -1: expected 0 or more",
        ),
        (
            f"[brokers.a]\n{STREAMER}options = {{ sndhwm = 1.5 }}",
            "5: brokers.a.options.sndhwm: 1.5: expected true or false or an integer or a text or a list",
        ),
        (
            f"[brokers.a]\n{STREAMER}options = {{ sndhwm = 1, SNDHWM = 2 }}",
            "5: brokers.a.options.SNDHWM: this option is there already; expected it once",
        ),
        (
            f"[brokers.a]\n{STREAMER}limits = {{ connections = 9223372036854775808 }}",
            "5: brokers.a.limits.connections: 9223372036854775808: expected an integer <= 9223372036854775807",
        ),
        (
            "[defaults]\nlimits = { connections = 9223372036854775808 }",
            "2: defaults.limits.connections: 9223372036854775808: expected an integer <= 9223372036854775807",
        ),
        ("[defaults.options]\nlinger = 'x'", "2: defaults.options.linger: 'x': expected an integer"),
        (
            f"[brokers.a]\n{STREAMER}options = {{ zap_enforce_domain = 1 }}",
            "5: brokers.a.options.zap_enforce_domain: expected a zap_domain beside it",
        ),
        (
            f"[brokers.a]\n{STREAMER}settings = {{ x = 1 }}",
            "5: brokers.a.settings: the device streamer has no behaviour, and so no settings",
        ),
        (
            f"[brokers.a]\n{STREAMER.replace('streamer', 'balancer')}settings = {{ max_wait = 1 }}",
            "5: brokers.a.settings.max_wait: device balancer: its behaviour has no setting max_wait; did you mean "
            "'max_wait_s'?",
        ),
        (
            f"[brokers.a]\n{STREAMER.replace('streamer', 'balancer')}[brokers.a.settings]\n\nmax_wait_s = -1",
            "7: brokers.a.settings.max_wait_s: Balancer: max_wait_s is -1: expected a number of seconds above 0, or "
            "None (inf in a file)",
        ),
        (
            f"[brokers.a]\n{STREAMER}capture = 'inproc://c'\ncapture_prefixes = {{ x = 'y' }}",
            "6: brokers.a.capture_prefixes.x: the device streamer has no x; its ports are: frontend, backend",
        ),
        (
            "[brokers.a]\ndevice='streamer'\nfrontend='inproc://a'\nbackend='tcp://*:*'\ntransport='wire'",
            "3: brokers.a.frontend: transport 'wire': the wire has no endpoints of inproc://; expected 'auto' or "
            "'libzmq'",
        ),
        ("a = ", "1: not valid TOML: Invalid value (column 5)"),
        ("a = '''", "1: not valid TOML: Unterminated string"),
        ("a = 1\na = 2", "2: not valid TOML: Cannot overwrite a value (column 6)"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_place(problems: Problems, text: str, expected: str) -> None:
    found = problems(text)
    if "not valid TOML" in expected:  # the words are tomllib's
        assert len(found) == 1
        assert found[0].startswith(f"brokers.toml:{expected[:24]}"[:30])
    else:
        assert found == [f"brokers.toml:{expected}"]


def test_everything_that_is_wrong_is_said_at_once(problems: Problems) -> None:
    text = (
        "[engine]\nx = 1\n[brokers.a]\ndevice = 'streamr'\n[brokers.b]\ndevice = 'queue'\nfrontend = 'x'\nbackend = 5\n"
    )
    found = problems(text)
    assert [line.split(":")[1] for line in found] == ["2", "4", "7", "8"]


def test_text_that_is_not_utf_8_is_said_with_its_line(problems: Problems) -> None:
    assert problems(b"# one\n# \xff") == ["brokers.toml:2: byte 0xff: expected text in UTF-8"]


@pytest.mark.parametrize("text", ["a = " + "[" * 100_000, "a = " + "9" * 5000, "a." * 2000 + "b = 1"])
def test_document_that_python_cannot_hold_is_a_problem(problems: Problems, text: str) -> None:
    assert problems(text)


# -- devices of the user's own -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("device", "source", "expected"),
    [
        ("dev_1:NAME", "import nothing_of_this_name", "'dev_1:NAME': cannot import 'dev_1': ModuleNotFoundError: No"),
        ("dev_2:NAME", "raise SystemExit(3)", "'dev_2:NAME': cannot import 'dev_2': SystemExit: 3"),
        ("dev_3:NAME", "NAMED = 1", "'dev_3:NAME': dev_3 has no 'NAME'; did you mean 'NAMED'?"),
        ("dev_4:NAME", "NAME = 1", "'dev_4:NAME' is of the type int; expected a Device"),
        ("dev_5:", "", "'dev_5:': dev_5 has no ''"),
        ("queu", "", "'queu' is not a device"),
    ],
)
def test_device_that_cannot_be_used_is_a_problem(
    problems: Problems, write: Write, device: str, source: str, expected: str
) -> None:
    write(source, f"{device.partition(':')[0]}.py")
    (found,) = problems(f"[brokers.a]\n\ndevice = '{device}'")
    assert found.startswith(f"brokers.toml:3: brokers.a.device: {expected}")


def test_device_beside_the_file_is_found(write: Write) -> None:
    write("from pollbroker import STREAMER as MINE", "conf/dev_6.py")
    path = write(f"[brokers.a]\n{STREAMER.replace('streamer', 'dev_6:MINE')}", "conf/brokers.toml")
    assert read_configuration(path).brokers["a"].device.name == "streamer"


# -- the environment ---------------------------------------------------------------------------------------------------


def test_variables_stand_for_texts_and_numbers(write: Write) -> None:
    path = write(
        f"[brokers.a]\n{STREAMER.replace('127.0.0.1', '${HOST}')}maxframes = '${{N}}'\n"
        "options = { sndhwm = '${N}', plain_username = '${N}$${N}' }"
    )
    broker = read_configuration(path, {"HOST": "127.0.0.2", "N": "7"}).brokers["a"]
    assert broker.ports["frontend"].endpoints[0].address == "tcp://127.0.0.2:*"
    assert broker.device.maxframes == 7
    options = broker.ports["frontend"].options
    assert (options["sndhwm"], options["plain_username"]) == (7, "7${N}")


def test_variable_that_is_not_set_is_a_problem(problems: Problems) -> None:
    text = f"[brokers.a]\n{STREAMER}transport = '${{TRANSPROT}}'"
    assert problems(text, {"TRANSPORT": "wire"})[0] == (
        "brokers.toml:5: brokers.a.transport: ${TRANSPROT}: no variable of this name is set; did you mean 'TRANSPORT'?"
    )


def test_reference_that_names_nothing_is_a_problem(problems: Problems) -> None:
    found = problems("[engine]\ncontrol = 'ipc://${a b}'")
    assert found[0] == "brokers.toml:2: engine.control: '${a b}': expected ${NAME}, or $${ for a literal ${"


# -- include -----------------------------------------------------------------------------------------------------------


def test_included_files_are_read_in_the_order_of_their_names(write: Write) -> None:
    for name in ("b", "a"):
        write(f"[brokers.{name}]\n{STREAMER}", f"conf.d/{name}.toml")
    configuration = read_configuration(write("include = ['conf.d/*.toml', 'none/*.toml']"))
    assert list(configuration.brokers) == ["a", "b"]
    assert list(configuration.files) == ["brokers.toml", "conf.d/a.toml", "conf.d/b.toml"]


def test_included_file_may_include_others(write: Write) -> None:
    write("include = ['c.toml']", "conf.d/b.toml")
    write(f"[brokers.c]\n{STREAMER}", "conf.d/c.toml")
    assert list(read_configuration(write("include = ['conf.d/b.toml']")).brokers) == ["c"]


def test_circle_of_includes_is_a_problem(problems: Problems, write: Write) -> None:
    write("include = ['../brokers.toml']", "conf.d/b.toml")
    assert problems("include = ['conf.d/b.toml']") == [
        "conf.d/b.toml:1: include[0]: '../brokers.toml' includes conf.d/../brokers.toml, which includes this file; "
        "expected no circle"
    ]


def test_broker_that_is_defined_twice_is_a_problem_that_names_both_places(problems: Problems, write: Write) -> None:
    write(f"\n[brokers.a]\n{STREAMER}", "conf.d/b.toml")
    assert problems(f"include = ['conf.d/*']\n[brokers.a]\n{STREAMER}") == [
        "conf.d/b.toml:2: brokers.a: this broker is defined at brokers.toml:2 already; expected another name"
    ]


def test_engine_in_two_files_is_a_problem_that_names_both_places(problems: Problems, write: Write) -> None:
    write("[engine]", "conf.d/b.toml")
    assert problems("include = ['conf.d/*']\n[engine]") == [
        "conf.d/b.toml:1: engine: this table is at brokers.toml:2 already; expected one"
    ]


def test_file_that_is_not_there_is_a_problem_and_a_pattern_without_files_is_none(problems: Problems) -> None:
    assert problems("include = ['none.toml']") == ["brokers.toml:1: include[0]: 'none.toml': there is no such file"]
    assert problems("include = ['none-*.toml']") == []


@pytest.mark.parametrize("pattern", ["conf.d/*.toml", "conf.d/a.toml"])
def test_link_that_leads_to_itself_is_a_problem(problems: Problems, tmp_path: Path, pattern: str) -> None:
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "a.toml").symlink_to("a.toml")
    (found,) = problems(f"include = ['{pattern}']")
    assert found in (
        "conf.d/a.toml: cannot be read: Too many levels of symbolic links",
        "brokers.toml:1: include[0]: 'conf.d/a.toml': there is no such file",
    )


def test_file_that_is_a_link_to_itself_is_a_problem(write: Write) -> None:
    path = write("")
    path.unlink()
    path.symlink_to(path)
    with pytest.raises(ConfigurationError, match=r"brokers\.toml: cannot be read: Too many levels of symbolic links"):
        read_configuration(path)


@pytest.mark.parametrize("pattern", ["", "\\u0000", "**a", "[", "/", "."])
def test_pattern_that_names_nothing_raises_nothing(problems: Problems, pattern: str) -> None:
    for line in problems(f'include = ["{pattern}"]'):
        assert line.startswith("brokers.toml:1: include[0]: ")


# -- what a broker comes to --------------------------------------------------------------------------------------------


def test_options_of_the_port_come_before_those_of_broker_device_and_defaults(write: Write) -> None:
    path = write(
        "[defaults.options]\nsndhwm = 1\nrcvhwm = 1\nmaxmsgsize = 10\nlinger = 1\n"
        "[brokers.a]\ndevice = 'forwarder'\nfrontend = 'tcp://127.0.0.1:*'\noptions = { sndhwm = 2, RcvHwm = 2 }\n"
        "[brokers.a.backend]\nbind = 'tcp://127.0.0.1:*'\noptions.rcvhwm = 3\n"
    )
    broker = read_configuration(path).brokers["a"]
    frontend, backend = broker.ports["frontend"].options, broker.ports["backend"].options
    assert frontend == {**DEFAULT_OPTIONS, "sndhwm": 2, "rcvhwm": 2, "maxmsgsize": 10, "linger": 1}
    # The device forwarder limits subscriptions itself.
    assert backend == {"sndhwm": 2, "rcvhwm": 3, "linger": 1, "handshake_ivl": DEFAULT_OPTIONS["handshake_ivl"]}


def test_port_is_a_text_a_list_or_a_table(write: Write) -> None:
    path = write(
        "[brokers.a]\ndevice = 'streamer'\nfrontend = 'tcp://*:1, >tcp://h:2'\nbackend = ['@ipc://a', '>inproc://b']\n"
        "capture = { bind = 'tcp://*:3', connect = ['tcp://h:4'] }"
    )
    ports = read_configuration(path).brokers["a"].ports
    assert [[str(one) for one in port.endpoints] for port in ports.values()] == [
        ["@tcp://*:1", ">tcp://h:2"],
        ["@ipc://a", ">inproc://b"],
        ["@tcp://*:3", ">tcp://h:4"],
    ]


def test_settings_that_are_bytes_are_texts_in_the_file(write: Write) -> None:
    path = write(
        f"[brokers.a]\n{STREAMER.replace('streamer', 'balancer')}settings = {{ ready = 'GO', max_workers = 3 }}"
    )
    behaviour = read_configuration(path).brokers["a"].device.behaviour
    assert behaviour is not None
    assert getattr(behaviour, "settings", None) == {"ready": b"GO", "max_workers": 3}


# -- garbage -----------------------------------------------------------------------------------------------------------

_WORDS = st.sampled_from(
    [
        "engine", "defaults", "brokers", "include", "a", "device", "frontend", "backend", "capture", "options",
        "settings", "bind", "connect", "sndhwm", "subscribe", "transport", "slow_peer", "maxframes", "control",
        "capture_prefixes", "capture_type", "spin_s", "é", "", "a.b", "\n",
    ]
)  # fmt: skip
_TEXTS = st.sampled_from(
    [
        "queue", "streamer", "filter", "balancer", "os:path", "nothing:X", ":", "tcp://127.0.0.1:*", ">tcp://h:1", "@",
        ",", "", "ipc://", "tcp://*:99999", "${HOME}", "${", "$${", "${NOT SET}", "\x00", "*", "../*", "a" * 300, "é",
        "inproc://x", "tcp://[::1]:0",
    ]
)  # fmt: skip
_VALUES = st.recursive(
    st.one_of(
        _TEXTS, st.integers(), st.booleans(), st.floats(), st.datetimes(), st.dates(), st.text(max_size=3),
        st.sampled_from([1 << 64, -(1 << 70)]),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(_WORDS, inner, max_size=4)),
    max_leaves=12,
)  # fmt: skip
_BROKERS = st.dictionaries(
    _WORDS,
    st.one_of(
        _VALUES,
        st.fixed_dictionaries(
            {"device": st.sampled_from(["queue", "streamer", "filter", "balancer", "clone"])},
            optional={
                "frontend": _VALUES,
                "backend": _VALUES,
                "capture": _VALUES,
                "options": st.dictionaries(
                    st.sampled_from(["sndhwm", "subscribe", "linger", "plain_password"]), _VALUES
                ),
                "settings": st.dictionaries(st.sampled_from(["max_wait_s", "ready", "policy", "x"]), _VALUES),
                "maxframes": _VALUES,
                "slow_peer": _VALUES,
                "capture_prefixes": _VALUES,
            },
        ),
    ),
    max_size=3,
)
_DOCUMENTS = st.fixed_dictionaries(
    {}, optional={"brokers": st.one_of(_BROKERS, _VALUES), "engine": _VALUES, "defaults": _VALUES, "include": _VALUES}
)


def _read(directory: Path, raw: bytes) -> None:
    """Read it; what is wrong has a file, a line and, if it is about a key, that key, on one line each."""
    path = directory / "brokers.toml"
    path.write_bytes(raw)
    lines = raw.count(b"\n") + 1
    try:
        read_configuration(path, {"HOME": "/nowhere"})
    except ConfigurationError as error:
        problems = error.problems
    else:
        return
    assert problems
    for problem in problems:
        assert problem.file
        assert 0 <= problem.line <= lines
        assert len(str(problem).splitlines()) == 1
        assert problem.key or problem.line == 0 or "TOML" in problem.text or "UTF-8" in problem.text


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("garbage")


# Whatever values the keys have, there is a list of problems or a configuration.
@given(document=_DOCUMENTS)
@example(document={"brokers": {"a": {"device": "queue", "capture_prefixes": {"x": 0}}}})
@example(
    document={"brokers": {"a": {"device": "streamer", "frontend": {"bind": 5}, "options": {"subscribe": {"x": 1}}}}}
)
def test_no_value_raises_anything_but_problems(directory: Path, document: dict[str, object]) -> None:
    tomli_w = pytest.importorskip("tomli_w")
    try:
        text = tomli_w.dumps(document)
        tomllib.loads(text)
    except (ValueError, TypeError):  # tomli_w writes what TOML does not have, such as years of one digit
        return
    _read(directory, text.encode())


# Whatever bytes a file holds, there is a list of problems or a configuration.
@given(
    st.one_of(
        st.binary(max_size=60),
        st.lists(st.sampled_from([*"[]{}=.,#\"'\n\\ ab1-", '"""', "'''", "[[", "brokers", "é"]), max_size=40).map(
            lambda parts: "".join(parts).encode()
        ),
    )
)
def test_no_bytes_raise_anything_but_problems(directory: Path, raw: bytes) -> None:
    _read(directory, raw)


def test_secrets_are_not_repeated(problems: Problems) -> None:
    key = "secret-of-the-wrong-length"
    text = f"[brokers.a]\n{STREAMER}options = {{ curve_secretkey = '{key}', plain_password = 123456 }}"
    found = problems(text)
    assert found
    assert not [line for line in found if key in line or "123456" in line]
    (first, *_) = problems(f"[brokers.a]\n{STREAMER}options = {{ curve_secretkey = '{key}' }}\n")
    assert "brokers.a.options.curve_secretkey: libzmq refuses the value" in first
    assert key not in first


def test_inf_is_a_setting_without_a_limit(write: Write) -> None:
    text = "[brokers.a]\ndevice = 'majordomo'\nfrontend = 'tcp://127.0.0.1:*'\nsettings = { request_expiry_s = inf }"
    device = read_configuration(write(text)).brokers["a"].device
    assert device.behaviour is not None
    assert settings_of(device.behaviour)["request_expiry_s"].default is None
