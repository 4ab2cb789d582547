"""The status page as a document: it is whole, and its answer allows nothing else."""

import base64
import hashlib
import re
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPMessage
from pathlib import Path

import pytest

from pollbroker import Engine
from pollbroker.metrics import page, serve_metrics
from pollbroker.metrics.page.assembling import SCRIPTS
from tests.support.deadline import DEADLINE_S

FILES = Path(page.__file__).parent


@pytest.fixture
def engine() -> Iterator[Engine]:
    """One is enough: the pump and the waiter make no difference here."""
    with Engine() as running:
        yield running


@pytest.fixture
def answer(engine: Engine) -> tuple[int, HTTPMessage, str]:
    """The status, the headers and the document."""
    with serve_metrics(engine, "127.0.0.1:0") as server:
        connection = HTTPConnection(server.address, timeout=DEADLINE_S)
        try:
            connection.request("GET", "/")
            found = connection.getresponse()
            return found.status, found.headers, found.read().decode()
        finally:
            connection.close()


def policy_of(headers: HTTPMessage) -> dict[str, str]:
    return dict(one.split(" ", 1) for one in headers["Content-Security-Policy"].split("; "))


def test_page_is_one_document_that_nobody_stores_or_frames(answer: tuple[int, HTTPMessage, str]) -> None:
    status, headers, document = answer
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert document.startswith("<!doctype html>")
    assert document.endswith("</html>\n")


def test_policy_allows_the_style_and_the_script_of_the_page_alone(answer: tuple[int, HTTPMessage, str]) -> None:
    _, headers, document = answer
    policy = policy_of(headers)
    for tag in ("style", "script"):
        (text,) = re.findall(rf"<{tag}>(.*?)</{tag}>", document, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert policy[f"{tag}-src"] == f"'sha256-{digest}'"
    assert policy["default-src"] == policy["base-uri"] == policy["form-action"] == policy["frame-ancestors"] == "'none'"
    assert policy["connect-src"] == "'self'"
    assert policy["require-trusted-types-for"] == "'script'"


def test_page_names_no_other_place(answer: tuple[int, HTTPMessage, str]) -> None:
    document = answer[2]
    elsewhere = set(re.findall(r"(?:[a-z]+:)?//[\w.-]+\.[a-z]+[^\s\"'`]*", document))
    assert elsewhere == {"http://www.w3.org/2000/svg"}  # the name of a language, which nobody asks for
    assert not re.findall(r"<(?:link|img|iframe|object|script)[^>]* (?:src|href)=\"(?!data:)", document)
    assert "style=" not in document
    assert not re.findall(r"\son\w+=", document)


def test_every_file_of_the_page_is_part_of_it(answer: tuple[int, HTTPMessage, str]) -> None:
    document = answer[2]
    parts = {path.name: path.read_text() for path in FILES.iterdir() if path.suffix in (".js", ".css")}
    assert set(parts) == {*SCRIPTS, "page.css"}
    for text in parts.values():
        assert text in document
    assert "/* style */" not in document
    assert "/* script */" not in document


def test_script_never_makes_markup_of_text() -> None:
    for name in SCRIPTS:
        text = (FILES / name).read_text()
        for way in (
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "localStorage",
            "cookie",
        ):
            assert way not in text, f"{name}: {way}"
