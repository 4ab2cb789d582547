"""Puts the document together from its files."""

import base64
import hashlib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Final

from pollbroker.frozen import FrozenDict

SCRIPTS: Final = ("figures.js", "dom.js", "picture.js", "table.js", "events.js", "steering.js", "main.js")
"""The parts of the script, in their order."""

PAGE_HEADERS: Final[Mapping[str, str]] = FrozenDict(
    {
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
    }
)
"""What the answer with the page says beside its policy."""


@cache
def page() -> tuple[bytes, str]:
    """The document, and the Content-Security-Policy of its answer."""
    style = "\n" + _read("page.css")
    script = '\n"use strict";\n' + "\n".join(map(_read, SCRIPTS))
    document = _read("page.html").replace("/* style */", style).replace("/* script */", script)
    policy = (
        "default-src 'none'",
        f"style-src '{_hash(style)}'",
        f"script-src '{_hash(script)}'",
        "connect-src 'self'",
        "img-src data:",  # the icon, which is a part of the document
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
    return document.encode(), "; ".join(policy)


def _read(name: str) -> str:
    return files(__package__).joinpath(name).read_text("utf-8")


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
