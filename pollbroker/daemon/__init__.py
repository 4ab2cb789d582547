"""The daemon: brokers from a file, started, changed and ended together. It needs `pip install 'pollbroker[daemon]'`."""

from pollbroker.daemon.brokers import Reloaded
from pollbroker.daemon.checking import check
from pollbroker.daemon.configuration import BrokerConfiguration, Configuration, PortConfiguration
from pollbroker.daemon.problems import ConfigurationError, Problem
from pollbroker.daemon.resolving import read_configuration
from pollbroker.daemon.running import Daemon, read_checked
from pollbroker.daemon.showing import EXAMPLE, effective, schema

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
    "effective",
    "read_checked",
    "read_configuration",
    "schema",
]
