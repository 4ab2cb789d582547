"""What the pages take from the code when they are built, so that it cannot fall behind: directives and hooks.

- `socket-options`: a table of the socket options that pollbroker takes, with the range of each.
- `configuration-keys`: a table of the keys of a structure of `pollbroker.daemon.tables`.
- Docstrings of classes and functions are read as napoleon reads them ("Arguments:"). Those of attributes are plain
  text: napoleon would take the words before their first colon for a type.
- A constant that `pollbroker` exports has its docstring in the module that defines it, where autodoc does not look.
- A relative link that leads out of `docs/` leads to the repository.
"""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.ext.napoleon.docstring import GoogleDocstring
from sphinx.pycode import ModuleAnalyzer
from sphinx.util.docutils import SphinxDirective
from zmq import SocketOption

from pollbroker.daemon import tables
from pollbroker.errors import ConfigError
from pollbroker.options import RANGES, parse_options

REPOSITORY: Final = "https://github.com/pollbroker/pollbroker/blob/main/"
TREE: Final = Path(__file__).parents[2]
LINK_OUT: Final = re.compile(r"(?<=[^!]\[)([^\]]*)\]\(((?:\.\./)+[^)\s]+)\)")
"""A Markdown link (not a picture) to a path that begins with `../`."""


def _is_taken(name: str, value: object) -> bool:
    try:
        parse_options("", {name: value})
    except ConfigError:
        return False
    return True


def describe_options() -> Iterator[tuple[str, str]]:
    """Every option that pollbroker takes, in lower case, and which values."""
    for option in sorted(SocketOption, key=lambda one: one.name):
        name = option.name
        least, most = RANGES.get(name, (-1, None))
        if _is_taken(name, b"bytes"):
            yield name.lower(), "bytes, or text in UTF-8"
        elif _is_taken(name, least):
            if name in RANGES:
                values = f"{least} or more" if most is None else f"{least} to {most:,}"
                values = "0 or 1" if (least, most) == (0, 1) else values
            else:
                values = "an integer, where libzmq was built with this option"
            yield name.lower(), f"{values} (64 bits)" if _is_taken(name, 1 << 40) else values


class SocketOptions(SphinxDirective):
    """A table of the socket options."""

    def run(self) -> list[nodes.Node]:
        rows = [f"| `{name}` | {values} |" for name, values in describe_options()]
        return self.parse_text_to_nodes("\n".join(["| option | values |", "| --- | --- |", *rows]))


def describe_keys(structure: str) -> Iterator[tuple[str, str, str, str]]:
    """Each key of a table of a configuration file: its name, its type, its default, and what it means."""
    table = getattr(tables, structure)
    described = msgspec.json.schema_components([table])[1][structure]["properties"]
    for field in msgspec.structs.fields(table):
        kind = " or ".join(dict.fromkeys(_kinds(described[field.name])))
        has_default = not isinstance(field.default, (msgspec.UnsetType, type(msgspec.NODEFAULT)))
        default = f"`{json.dumps(field.default)}`" if has_default else "required" if field.required else ""
        yield field.name, kind, default, described[field.name]["description"]


def _kinds(schema: dict[str, Any]) -> Iterator[str]:
    """The types that a JSON Schema allows, in the words of TOML."""
    if "anyOf" in schema:
        for one in schema["anyOf"]:
            yield from _kinds(one)
    elif "enum" in schema:
        yield from (f'`"{one}"`' for one in schema["enum"])
    elif "$ref" in schema:
        yield "a table"
    elif schema.get("type") == "array":
        yield "a list of texts"
    elif schema.get("type") in ("integer", "number"):
        bounds = [f"{word} {schema[key]:,}" for key, word in (("minimum", "from"), ("maximum", "to")) if key in schema]
        yield " ".join([{"integer": "an integer", "number": "a number"}[schema["type"]], *bounds])
    else:
        yield {"string": "a text", "boolean": "true or false", "object": "a table"}[schema["type"]]


class ConfigurationKeys(SphinxDirective):
    """A table of the keys of a structure."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        rows = [
            f"| `{name}` | {kind} | {default} | {text} |"
            for name, kind, default, text in describe_keys(self.arguments[0])
        ]
        return self.parse_text_to_nodes("\n".join(["| key | value | default | |", "| --- | --- | --- | --- |", *rows]))


def read_docstring(app: Sphinx, what: Any, name: str, obj: Any, options: Any, lines: list[str]) -> None:  # noqa: ARG001
    """Have autodoc understand the sections of a docstring."""
    if what in ("class", "exception", "function", "method"):
        lines[:] = GoogleDocstring(lines, what=what, name=name, obj=obj, options=options).lines()


def find_docstring_of_constant(
    app: Sphinx,  # noqa: ARG001 - as all of these hooks
    what: str,
    name: str,
    obj: Any,
    options: Any,  # noqa: ARG001
    lines: list[str],
) -> None:
    """Have autodoc take the docstring of a re-exported constant from the module that defines it."""
    if what not in ("data", "type"):
        return
    short = name.rpartition(".")[2]
    found: list[str] = []
    for module in sorted(one for one in sys.modules if one.split(".")[0] == "pollbroker"):
        if getattr(sys.modules[module], short, None) is obj and getattr(sys.modules[module], "__file__", None):
            found = found or ModuleAnalyzer.for_module(module).find_attr_docs().get(("", short), [])
    lines[:] = found


def lead_links_out_of_docs_to_the_repository(app: Sphinx, docname: str, source: list[str]) -> None:
    """Give a link to a file that is no page of the documentation the address at which the repository shows it."""
    docs = Path(app.srcdir)
    folder = (docs / docname).parent

    def lead(match: re.Match[str]) -> str:
        target = (folder / match[2].partition("#")[0]).resolve()
        if target.is_relative_to(docs.resolve()) or not target.exists():
            return match[0]
        return f"{match[1]}]({REPOSITORY}{target.relative_to(TREE.resolve())})"

    source[0] = LINK_OUT.sub(lead, source[0])


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.add_directive("socket-options", SocketOptions)
    app.add_directive("configuration-keys", ConfigurationKeys)
    app.connect("autodoc-process-docstring", read_docstring)
    app.connect("autodoc-process-docstring", find_docstring_of_constant)
    app.connect("source-read", lead_links_out_of_docs_to_the_repository)
    return {"parallel_read_safe": True}
