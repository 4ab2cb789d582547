"""What is printed of configurations: the effective one, the JSON Schema, and an example to begin with."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec
from msgspec import UnsetType
from msgspec.structs import asdict

from pollbroker.daemon.configuration import DEFAULT_OPTIONS, BrokerConfiguration, Configuration, PortConfiguration
from pollbroker.daemon.tables import FileTable, PortTable
from pollbroker.device import CAPTURE
from pollbroker.options import SECRET

HIDDEN: Final = "(hidden)"
"""What stands in the place of a secret."""

EXAMPLE: Final = f"""\
# Brokers for `pollbroker run`. `pollbroker check` says what is wrong with a file like this one.

# More files, relative to this one:
# include = ["conf.d/*.toml"]

[engine]
# For `pollbroker ctl`. Whoever reaches this socket can stop the daemon. By default it is in $RUNTIME_DIRECTORY, or in
# $XDG_RUNTIME_DIR/pollbroker, where `ctl` looks for it; [] is none.
# control = "ipc:///run/pollbroker/control"
# A status page for browsers at /, metrics for Prometheus at /metrics, and health at /livez and /readyz.
# http = "127.0.0.1:9464"
# Whoever knows this may pause, resume and drain brokers from the status page.
# http_token = "${{POLLBROKER_TOKEN}}"
# How long an end may take, to deliver the messages that the brokers still have.
drain_timeout_s = 5.0

# What holds for every port for which nothing else is said.
[defaults.options]
maxmsgsize = {DEFAULT_OPTIONS["maxmsgsize"]}  # bytes of a frame; -1 is no limit
# sndhwm = 1000  # how many messages wait for each peer

# REQ clients connect to the frontend, REP workers to the backend.
[brokers.orders]
device = "queue"
frontend = "tcp://127.0.0.1:5559"
backend = "tcp://127.0.0.1:5560"

# PUB publishers connect to the frontend, SUB subscribers to the backend. A port may be a table, too.
[brokers.prices]
device = "forwarder"
frontend = {{ bind = "tcp://127.0.0.1:5561" }}

[brokers.prices.backend]
bind = "tcp://127.0.0.1:5562"
# connect = ["tcp://other.example:5562"]
options = {{ sndhwm = 5000 }}
"""


def schema() -> dict[str, Any]:
    """The JSON Schema of a configuration file."""
    (made,), components = msgspec.json.schema_components([FileTable], ref_template="#/$defs/{name}")
    _, ports = msgspec.json.schema_components([PortTable], ref_template="#/$defs/{name}")
    port = {
        "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}, {"$ref": "#/$defs/PortTable"}]
    }
    broker = components["BrokerTable"]
    broker["additionalProperties"] = {"description": "A port of the device.", **port}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "pollbroker",
        **made,
        "$defs": {**ports, **components},
    }


def effective(configuration: Configuration) -> str:
    """The configuration with all defaults applied, as TOML. Secrets are hidden."""
    import tomli_w  # it is in the extra `daemon`, without which everything else here works

    engine = {name: value for name, value in asdict(configuration.engine).items() if not isinstance(value, UnsetType)}
    if "http_token" in engine:
        engine["http_token"] = HIDDEN
    brokers = {name: dict(_broker(broker)) for name, broker in configuration.brokers.items()}
    return tomli_w.dumps({"engine": engine, "brokers": brokers})


def _broker(broker: BrokerConfiguration) -> Iterator[tuple[str, Any]]:
    yield "device", broker.device_name
    yield "slow_peer", broker.device.slow_peer
    yield "maxframes", broker.device.maxframes
    yield "distribution", broker.device.distribution
    if broker.limits is not None:
        yield "limits", {name: value for name, value in vars(broker.limits).items() if value is not None}
    if broker.transport is not None:
        yield "transport", broker.transport
    if CAPTURE in broker.ports:
        yield "capture_type", broker.capture_type.name
    if broker.capture_prefixes is not None:
        yield "capture_prefixes", {port: prefix.decode() for port, prefix in broker.capture_prefixes.items()}
    if broker.settings:
        yield "settings", broker.settings
    for name, port in broker.ports.items():
        of_device = broker.device.options_of(name)
        yield name, dict(_port(port, {str(option).lower(): value for option, value in of_device.items()}))


def _port(port: PortConfiguration, of_device: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, bind in (("bind", True), ("connect", False)):
        addresses = [endpoint.address for endpoint in port.endpoints if endpoint.bind is bind]
        if addresses:
            yield key, addresses
    options = {**of_device, **port.options}
    yield "options", {name: _shown(name, value) for name, value in options.items()}


def _shown(name: str, value: Any) -> Any:
    if name.upper() in SECRET:
        return HIDDEN
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    return value if isinstance(value, (int, str, bool)) else [_shown(name, one) for one in value]
