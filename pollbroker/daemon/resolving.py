"""From the files of a configuration to its brokers: each key is checked where it stands, and defaults are applied."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import msgspec
import zmq
from msgspec import UnsetType
from msgspec.structs import asdict

from pollbroker.daemon import devices
from pollbroker.daemon.configuration import (
    DEFAULT_OPTIONS,
    BrokerConfiguration,
    Configuration,
    Defaults,
    PortConfiguration,
)
from pollbroker.daemon.converting import convert_alone, convert_table, given
from pollbroker.daemon.placed_options import PlacedOptions, apart, joined, read_options, without_incomplete
from pollbroker.daemon.positions import KeyPath
from pollbroker.daemon.problems import ConfigurationError, Place, Problem, shown_key
from pollbroker.daemon.sources import Source, read_sources, read_text
from pollbroker.daemon.successors import check_path
from pollbroker.daemon.tables import (
    BrokerTable,
    DefaultsTable,
    EngineTable,
    FileTable,
    Options,
    PortTable,
    PortValue,
)
from pollbroker.device import CAPTURE, Device
from pollbroker.endpoint import Endpoint, parse_endpoints
from pollbroker.errors import ConfigError, EndpointError, PollbrokerError, describe_error
from pollbroker.http_settings import check_token, parse_address
from pollbroker.limits import Limits

_WHERE: Final = "?"
"""The place in errors of the library, in whose stead a problem has its own."""

ADDED: Final = "standard input"
"""What stands in the place of a file's name in problems with brokers that are added."""

_BROKER_KEYS: Final = frozenset(BrokerTable.__struct_fields__)


def read_configuration(path: Path, environment: Mapping[str, str] | None = None) -> Configuration:
    """Read a configuration. Nothing is opened, but devices of the user's own are imported.

    Raises `ConfigurationError`, with everything that is wrong.
    """
    configuration, problems = read_what_is_right(path, environment)
    if problems:
        raise ConfigurationError(problems)
    return configuration


def read_what_is_right(path: Path, environment: Mapping[str, str] | None = None) -> tuple[Configuration, list[Problem]]:
    """Read a configuration as `read_configuration` does, without what is wrong: keys, and the brokers that have any.
    Return what is wrong, too."""
    problems: list[Problem] = []
    sources = read_sources(path, os.environ if environment is None else environment, problems)
    devices.make_importable(path.parent)
    return _Resolving(sources, problems, Defaults(DefaultsTable(), DEFAULT_OPTIONS)).resolve(path), problems


def read_added(toml: bytes, configuration: Configuration) -> tuple[dict[str, BrokerConfiguration], list[Problem]]:
    """Read brokers that are to be added to those of a configuration, with its defaults. They are on standard input of
    somebody, so that they include nothing and take nothing from the environment.

    Returns those that are right, and everything that is wrong with the others.
    """
    problems: list[Problem] = []
    source = read_text(ADDED, toml, problems)
    if source is not None:
        for key in source.data.keys() - {"brokers"}:
            problems.append(source.place((key,)).problem("only brokers can be added; expected [brokers.NAME]"))
        if not source.data.get("brokers") and not problems:
            problems.append(Problem(ADDED, 0, "", "there is no broker; expected [brokers.NAME]"))
    resolving = _Resolving([] if source is None else [source], problems, configuration.defaults)
    return resolving.brokers(), problems


class _Resolving:
    """One reading of a configuration. What is wrong is added to `problems`."""

    def __init__(self, sources: list[Source], problems: list[Problem], defaults: Defaults) -> None:
        self._problems = problems
        self._sources = sources
        self._defaults = defaults.table
        self._lowest = joined(dict(defaults.options), defaults.option_places)
        """The socket options of every port for which neither its device nor its broker says anything."""
        self._lacks_defaults = False
        """True if something is wrong with `[defaults]`, so that an option may be missing here."""

    def resolve(self, path: Path) -> Configuration:
        nowhere = Place(str(path), ())
        engine, control = EngineTable(), tuple[Endpoint, ...]()
        http: str | None = None
        token: str | None = None
        takeover: str | None = None
        control_place = Place(str(path), ("engine", "control"))
        http_place = takeover_place = nowhere
        for source in self._sources:
            others = {key: value for key, value in source.data.items() if key not in ("engine", "defaults", "brokers")}
            convert_table(source, (), others, FileTable, self._problems)
        for source, table in self._only_one("engine"):
            found = convert_table(
                source, ("engine",), self._without_bad_token(source, table), EngineTable, self._problems
            )
            if found is not None:
                engine = self._with_doubtful_control(source, found)
                control_place = source.place(("engine", "control"))
                control = self._endpoints(source, ("engine", "control"), given(found.control, ()))
                http_place, takeover_place = source.place(("engine", "http")), source.place(("engine", "takeover"))
                http = self._checked(parse_address, found.http, http_place)
                token = self._checked(check_token, found.http_token, source.place(("engine", "http_token")))
                takeover = self._checked(check_path, found.takeover, takeover_place)
        for source, table in self._only_one("defaults"):
            before = len(self._problems)
            defaults = convert_table(source, ("defaults",), table, DefaultsTable, self._problems)
            self._defaults = defaults or self._defaults
            self._lowest |= self._options(source, ("defaults", "options"), self._defaults.options)
            self._lacks_defaults = len(self._problems) > before
        brokers = self.brokers()
        files = [source.name for source in self._sources]
        of_all = Defaults(self._defaults, *apart(self._lowest))
        return Configuration(
            engine, control, control_place, http, http_place, token, takeover, takeover_place, brokers, files, of_all
        )  # fmt: skip

    def _checked(self, check: Callable[[str], object], value: str | UnsetType, place: Place) -> str | None:
        """The value, unless it is missing, or a function raises `ConfigError` since it is wrong."""
        if isinstance(value, UnsetType):
            return None
        try:
            check(value)
        except ConfigError as error:
            self._problems.append(place.problem(str(error).removeprefix(f"{place.path[-1]}: ")))
            return None
        return value

    def _with_doubtful_control(self, source: Source, table: EngineTable) -> EngineTable:
        """The table of the engine, which allows every control socket if it may be that a key that is wrong would."""
        key = ("engine", "control_from_network")
        wrong = {problem.key for problem in self._problems if problem.file == source.name}
        misspelt = source.data["engine"].keys() - set(EngineTable.__struct_fields__)
        if misspelt or shown_key(key) in wrong:
            return msgspec.structs.replace(table, control_from_network=True)
        return table

    def _without_bad_token(self, source: Source, table: object) -> object:
        """The table of the engine, without a token that is not a text: other problems repeat what was found."""
        if not isinstance(table, dict) or isinstance(table.get("http_token", ""), str):
            return table
        self._problems.append(source.place(("engine", "http_token")).problem("expected a text"))
        return {key: value for key, value in table.items() if key != "http_token"}

    def _only_one(self, section: str) -> list[tuple[Source, object]]:
        """The section in the one file that has it."""
        having = [source for source in self._sources if section in source.data]
        for source in having[1:]:
            first = having[0].place((section,))
            self._problems.append(source.place((section,)).problem(f"this table is at {first} already; expected one"))
        return [(source, source.data[section]) for source in having[:1]]

    def brokers(self) -> dict[str, BrokerConfiguration]:
        """The brokers of all sources, by name."""
        found: dict[str, BrokerConfiguration] = {}
        places: dict[str, Place] = {}
        for source in self._sources:
            tables = source.data.get("brokers", {})
            if not isinstance(tables, dict):
                self._problems.append(source.place(("brokers",)).problem("expected a table of brokers by name"))
                continue
            for name, table in tables.items():
                place = source.place(("brokers", name))
                if name in places:
                    self._problems.append(
                        place.problem(f"this broker is defined at {places[name]} already; expected another name")
                    )
                    continue
                places[name] = place
                broker = self._broker(source, place, name, table)
                if broker is not None:
                    found[name] = broker
        return found

    def _broker(self, source: Source, place: Place, name: str, table: object) -> BrokerConfiguration | None:
        if not name or not name.isprintable():
            self._problems.append(place.problem("expected a name that is not empty and can be printed"))
            return None
        path = place.path
        before = len(self._problems)
        is_known = not any(one[: len(path)] == path for one in source.unresolved)
        device = self._device(source, (*path, "device"), table)
        ports = () if device is None else tuple(device.ports)
        keys = table if isinstance(table, dict) else {}
        unknown_ports = [key for key in keys if key not in _BROKER_KEYS] if device is None else ports
        made = convert_table(source, path, table, BrokerTable, self._problems, unknown_ports)
        if made is None or device is None:
            return None
        resolved = self._configured(source, path, device, made)
        prefixes = self._prefixes(source, (*path, "capture_prefixes"), device, made)
        shared = self._options(source, (*path, "options"), made.options)
        configured = {}
        for port in ports:
            if port in _BROKER_KEYS:
                self._problems.append(place.problem(f"its device has a port {port!r}, which means something else here"))
            elif port in keys:
                configured[port] = self._port(source, (*path, port), keys[port], shared, device)
            elif keys.keys() <= {*_BROKER_KEYS, *ports}:  # otherwise a key is misspelt, which may be this one
                text = f"the key {port!r} is missing: the device {device.name} has a {port}"
                self._problems.append(place.problem(text))
        if CAPTURE in keys:
            configured[CAPTURE] = self._port(source, (*path, CAPTURE), keys[CAPTURE], {}, device)
        transport = given(made.transport, given(self._defaults.transport, None))
        if len(self._problems) > before or resolved is None or not is_known:
            return None
        broker = BrokerConfiguration(
            name, made.device, resolved, given(made.settings, {}), configured,
            zmq.SocketType[made.capture_type], prefixes, transport, self._limits(made), place,
        )  # fmt: skip
        try:
            broker.plan  # noqa: B018 - it is made and kept
        except PollbrokerError as error:
            self._problems.append(problem_of(broker, str(error)))
            return None
        return broker

    def _device(self, source: Source, path: KeyPath, table: object) -> Device | None:
        name = table.get("device") if isinstance(table, dict) else None
        if not isinstance(name, str) or path in source.unresolved:
            return None  # this is reported with the other keys of the table
        try:
            return devices.find(name)
        except PollbrokerError as error:
            self._problems.append(source.place(path).problem(str(error)))
            return None

    def _configured(self, source: Source, path: KeyPath, device: Device, table: BrokerTable) -> Device | None:
        """The device with what the table says of it."""
        settings = given(table.settings, {})
        at = (*path, "settings")
        try:
            slow_peer = given(table.slow_peer, given(self._defaults.slow_peer, device.slow_peer))
            maxframes = given(table.maxframes, given(self._defaults.maxframes, device.maxframes))
            distribution = given(table.distribution, given(self._defaults.distribution, device.distribution))
            made = device
            if (slow_peer, maxframes, distribution) != (device.slow_peer, device.maxframes, device.distribution):
                made = replace(device, slow_peer=slow_peer, maxframes=maxframes, distribution=distribution)
            if not settings:
                return made
            lax = {name for name in settings if (*at, name) in source.from_environment}
            return made.with_settings(**devices.settings_from(made, settings, lax))
        except Exception as error:  # noqa: BLE001 - a behaviour of the user's may raise anything at a setting
            text = str(error) if isinstance(error, PollbrokerError) else describe_error(error)
            named = [name for name in settings if f"{name} is " in text or f"no setting {name}" in text]
            at = (*at, named[0]) if named else at
            self._problems.append(source.place(at if settings else path).problem(text))
            return None

    def _limits(self, table: BrokerTable) -> Limits | None:
        """Those of the table, and for the others those of `[defaults]`; None if neither has any."""
        asked: dict[str, int] = {}
        for limits in (self._defaults.limits, table.limits):
            if not isinstance(limits, UnsetType):
                asked |= {name: value for name, value in asdict(limits).items() if not isinstance(value, UnsetType)}
        return Limits(**asked) if asked else None

    def _prefixes(self, source: Source, path: KeyPath, device: Device, table: BrokerTable) -> dict[str, bytes] | None:
        prefixes = given(table.capture_prefixes, None)
        if prefixes is None:
            return None
        if device.behaviour is not None:
            text = "the messages of a behaviour come from no one port; expected no prefixes"
            self._problems.append(source.place(path).problem(text))
        for port in prefixes:
            if port not in device.ports:
                text = f"the device {device.name} has no {port}; its ports are: {', '.join(device.ports)}"
                self._problems.append(source.place((*path, port)).problem(text))
        return {port: prefix.encode() for port, prefix in prefixes.items()}

    def _port(
        self, source: Source, path: KeyPath, value: object, shared: PlacedOptions, device: Device
    ) -> PortConfiguration:
        table = convert_alone(source, path, value, PortValue, self._problems)
        port = str(path[-1])
        of_device = {str(name).lower() for name in device.options_of(port)}
        placed = {name: one for name, one in self._lowest.items() if name not in of_device} | shared
        endpoints: tuple[Endpoint, ...] = ()
        if isinstance(table, PortTable):
            placed |= self._options(source, (*path, "options"), table.options)
            for key, mark in (("bind", "@"), ("connect", ">")):
                endpoints += self._endpoints(source, (*path, key), given(getattr(table, key), ()), mark)
            if not endpoints and isinstance(value, dict) and value.keys() <= {"options"}:  # otherwise one is misspelt
                self._problems.append(source.place(path).problem("expected the key 'bind' or 'connect', or both"))
        elif isinstance(table, (str, list)):
            endpoints = self._endpoints(source, path, table)
            if not endpoints and not table:
                self._problems.append(source.place(path).problem("expected an endpoint such as tcp://127.0.0.1:5559"))
        if self._lacks_defaults:
            placed = without_incomplete(placed)
        options, places = apart(placed)
        return PortConfiguration(endpoints, options, source.place(path), places)

    def _options(self, source: Source, path: KeyPath, options: Options | UnsetType) -> PlacedOptions:
        return read_options(source, path, given(options, {}), self._problems)

    def _endpoints(
        self, source: Source, path: KeyPath, value: str | Sequence[str], mark: str = ""
    ) -> tuple[Endpoint, ...]:
        """The endpoints of a key. With a `mark` each is bound (`@`) or connected (`>`)."""
        found: list[Endpoint] = []
        for number, text in enumerate([value] if isinstance(value, str) else value):
            at = path if isinstance(value, str) else (*path, number)
            if at in source.unresolved:
                continue
            for one in text.split(","):
                try:
                    if mark and one.strip()[:1] in ("@", ">"):
                        raise EndpointError(f"{one.strip()}: expected an address without a mark, since the key says it")
                    found += parse_endpoints(_WHERE, [mark + one.strip()])
                except EndpointError as error:
                    self._problems.append(source.place(at).problem(str(error).removeprefix(f"{_WHERE}: ")))
        return tuple(found)


def problem_of(broker: BrokerConfiguration, text: str) -> Problem:
    """What the engine says of a broker, at the key of the port or of the option that it names."""
    for name, port in broker.ports.items():
        prefix = f"brokers.{broker.name}.{name}: "
        if text.startswith(prefix):
            return port.problem(text.removeprefix(prefix))
    return broker.place.problem(text.removeprefix(f"brokers.{broker.name}: "))
