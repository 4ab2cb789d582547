"""A configuration of one broker that no file has, as a command line gives it."""

from collections.abc import Mapping, Sequence

import zmq

from pollbroker.daemon.configuration import (
    DEFAULT_OPTIONS,
    BrokerConfiguration,
    Configuration,
    Defaults,
    PortConfiguration,
)
from pollbroker.daemon.problems import Place
from pollbroker.daemon.tables import DefaultsTable, EngineTable
from pollbroker.device import Device, OptionValue
from pollbroker.endpoint import parse_endpoints
from pollbroker.http_settings import parse_address


def single(
    name: str,
    device: Device,
    endpoints: Mapping[str, str | Sequence[str]],
    *,
    options: Mapping[str, Mapping[str, OptionValue]],
    transport: str | None,
    control: str | None,
    http: str | None,
    drain_timeout_s: float,
) -> Configuration:
    """A configuration of one broker.

    Arguments:
        endpoints: those of each port, by the port's name; those of `capture`, too, if there is one.
        options: the socket options of ports, by their names in lower case. Where they say nothing, `DEFAULT_OPTIONS`
            hold, as in a file.
        control: where commands are taken; None if nowhere.
        http: the host and the port at which metrics are served; None if they are not.

    Raises a `PollbrokerError` that names the broker and the port if something is wrong with them.
    """
    ports = {}
    for port, given in endpoints.items():
        of_device = {str(option).lower() for option in device.options_of(port)}
        lowest: dict[str, OptionValue] = {
            option: value for option, value in DEFAULT_OPTIONS.items() if option not in of_device
        }
        ports[port] = PortConfiguration(
            tuple(parse_endpoints(f"brokers.{name}.{port}", given)),
            lowest | dict(options.get(port, {})),
            _place("brokers", name, port),
        )
    broker = BrokerConfiguration(
        name, device.name, device, {}, ports, zmq.PUB, None, transport, None, _place("brokers", name)
    )
    broker.plan  # noqa: B018 - it is made and kept
    if http is not None:
        parse_address(http)
    taking = () if control is None else tuple(parse_endpoints("control", control))
    return Configuration(
        EngineTable(control=list(map(str, taking)), control_from_network=True, drain_timeout_s=drain_timeout_s),
        taking,
        _place("control"),
        http,
        _place("http"),
        None,
        None,
        _place("takeover"),
        {name: broker},
        (),
        Defaults(DefaultsTable(), DEFAULT_OPTIONS),
    )


def _place(*path: str) -> Place:
    return Place("", path)
