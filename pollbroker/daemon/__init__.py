"""The daemon: the brokers of a configuration, started, changed and ended together. Metrics over HTTP, and `effective`,
need `pip install 'pollbroker[daemon]'`."""

from pollbroker.daemon.brokers import Reloaded
from pollbroker.daemon.checking import check, checked, read_checked
from pollbroker.daemon.configuration import BrokerConfiguration, Configuration, PortConfiguration
from pollbroker.daemon.problems import ConfigurationError, Problem
from pollbroker.daemon.resolving import read_configuration
from pollbroker.daemon.running import Daemon
from pollbroker.daemon.showing import EXAMPLE, effective, schema
from pollbroker.daemon.single import single

__all__ = [
    "EXAMPLE",
    "BrokerConfiguration",
    "Configuration",
    "ConfigurationError",
    "Daemon",
    "PortConfiguration",
    "Problem",
    "Reloaded",
    "check",
    "checked",
    "effective",
    "read_checked",
    "read_configuration",
    "schema",
    "single",
]
