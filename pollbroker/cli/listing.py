"""What `pollbroker --help` says of each command, and where the command is defined.

The texts are here, and not only with the commands, so that help and completion need not import all commands, and with
them pyzmq: that takes several times as long as all the rest. A test compares these texts with those of the commands.
"""

from collections.abc import Mapping
from importlib import import_module
from typing import Final, NamedTuple

import click


class Listed(NamedTuple):
    """A command, before it is imported."""

    text: str
    """What the command does, in one line: the `short_help` of the command."""
    module: str
    """The module that defines the command under its own name, with `_` for `-`, or `DEVICES_MODULE`."""


DEVICES_MODULE: Final = "pollbroker.cli.devices"
"""This module makes the command of each device."""


def _device(text: str) -> Listed:
    return Listed(f"Run a {text}.", DEVICES_MODULE)


LISTING: Final[Mapping[str, Listed]] = {
    "balancer": _device("balancer (ROUTER to ROUTER)"),
    "check": Listed("Say what is wrong with a configuration file.", "pollbroker.cli.daemon"),
    "clone": _device("clone (ROUTER to PUB to SUB)"),
    "completion": Listed("Print what makes a shell complete the commands.", "pollbroker.cli.completion"),
    "ctl": Listed("Steer a running engine, or read its statistics.", "pollbroker.cli.ctl"),
    "demo": Listed("Compare brokers with zmq.proxy under traffic.", "pollbroker.cli.demo.command"),
    "doctor": Listed("Show what is installed here, and check that it works.", "pollbroker.cli.doctor"),
    "filter": _device("filter (SUB to PUB)"),
    "forwarder": _device("forwarder (XSUB to XPUB)"),
    "fuzz": Listed("Look for a schedule that breaks a promise.", "pollbroker.cli.fuzz"),
    "init": Listed("Print an example of a configuration file.", "pollbroker.cli.daemon"),
    "last-value": _device("last_value (SUB to XPUB)"),
    "majordomo": _device("majordomo (ROUTER)"),
    "paranoid-pirate": _device("paranoid_pirate (ROUTER to ROUTER)"),
    "patched": Listed("Run another program on pollbroker's devices.", "pollbroker.cli.patched"),
    "queue": _device("queue (ROUTER to DEALER)"),
    "reflector": _device("reflector (ROUTER)"),
    "run": Listed("Run the brokers of a configuration file.", "pollbroker.cli.daemon"),
    "schema": Listed("Print the JSON Schema of configuration files.", "pollbroker.cli.daemon"),
    "sharder": _device("sharder (ROUTER to DEALER to DEALER to DEALER)"),
    "show": Listed("Print a configuration with all defaults.", "pollbroker.cli.daemon"),
    "streamer": _device("streamer (PULL to PUSH)"),
    "titanic": _device("titanic (ROUTER)"),
    "top": Listed("Watch the brokers of a running engine, live.", "pollbroker.cli.top.command"),
}
"""Every command, by its name."""


def load(name: str) -> click.Command | None:
    """Import the command of a name. Returns None if there is none."""
    if name not in LISTING:
        return None
    module = import_module(LISTING[name].module)
    command = module.command_of(name) if module.__name__ == DEVICES_MODULE else getattr(module, name.replace("-", "_"))
    assert isinstance(command, click.Command)
    return command
