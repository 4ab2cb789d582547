"""The code on the pages of docs/ runs, with real sockets, and leaves none open; the reference has every public name.

`.ci/run` builds the site, in which warnings are errors: a link between pages that leads nowhere, a docstring that
Sphinx cannot read. Here is what that build does not see.
"""

import doctest
import gc
import importlib
import os
import re
import subprocess
import sys
import threading
import unittest
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import zmq
from sybil import Document
from sybil.parsers.myst import PythonCodeBlockParser, SkipParser

from pollbroker import BrokerState, Engine, FlowStatistics
from pollbroker.pump import FlowState
from tests.support.deadline import DEADLINE_MS, wait_until
from tests.support.processes import run_apart
from tests.support.tree import TREE

DOCS = TREE / "docs"
PAGES = sorted(page for page in DOCS.rglob("*.md") if "_build" not in page.parts)
INSTALL = ".venv/bin/pip install -e '.[docs]'"
BUILD = ".venv/bin/python -m sphinx -W --keep-going docs docs/_build/html"

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
DESCRIBED = re.compile(r"^\.\. auto(?:class|data|function|exception):: ([\w.]+)", re.MULTILINE)

PARSERS = (PythonCodeBlockParser(doctest_optionflags=doctest.ELLIPSIS), SkipParser())


def code_blocks(page: Path, language: str) -> list[str]:
    """The pieces of code on a page that are marked as of this language."""
    return [code for marked, code in BLOCK.findall(page.read_text()) if marked == language]


@contextmanager
def nothing_left_open() -> Iterator[None]:
    """Fail if a socket or an engine's thread is there at the end that was not there in the beginning."""

    def open_sockets() -> set[int]:
        gc.collect()
        return {id(one) for one in gc.get_objects() if isinstance(one, zmq.Socket) and not one.closed}

    def engine_threads() -> set[threading.Thread]:
        return {thread for thread in threading.enumerate() if thread.name.startswith("pollbroker")}

    sockets, threads = open_sockets(), engine_threads()
    yield
    assert open_sockets() <= sockets
    assert engine_threads() <= threads


def run_code(document: Document) -> None:
    """Run the code of a page from top to bottom, but for what the page says is not run."""
    document.namespace["__name__"] = "page"  # the module of what is defined there
    try:
        for example in document:
            with suppress(unittest.SkipTest):
                example.evaluate()
    except BaseException:
        give_back(document.namespace)
        raise


def give_back(namespace: dict[str, Any]) -> None:
    """Close what a page that failed in the middle has left open, so that no other test is held up."""
    for one in list(namespace.values()):
        if isinstance(one, Engine):
            one.close(timeout_s=0)
    for one in list(namespace.values()):
        if isinstance(one, zmq.Context):
            one.destroy(linger=0)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_code_on_the_page_runs_and_leaves_nothing_open(page: Path) -> None:
    with nothing_left_open():
        run_code(Document.parse(str(page), *PARSERS))


@pytest.mark.parametrize("page", ["howto/embed.md", "howto/migrate.md"])
def test_code_for_gevent_runs_in_a_process_of_its_own(page: str) -> None:
    (code,) = re.findall(
        r'^<!-- skip: next "gevent\'s hub would stay in this process" -->\n```python\n(.*?)^```$',
        (DOCS / page).read_text(),
        re.MULTILINE | re.DOTALL,
    )
    assert run_apart(code) == ""


def test_wrong_answer_on_a_page_fails(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```python\n>>> 1 + 1\n3\n```\n")
    with pytest.raises(AssertionError, match="Expected:\n    3\nGot:\n    2"):
        run_code(Document.parse(str(page), *PARSERS))


def test_page_that_leaves_a_socket_open_fails(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```python\nimport zmq\ncontext = zmq.Context()\nkept = context.socket(zmq.PULL)\n```\n")
    document = Document.parse(str(page), *PARSERS)
    with pytest.raises(AssertionError), nothing_left_open():
        run_code(document)
    give_back(document.namespace)


def test_code_that_is_not_run_says_why() -> None:
    reasons = [
        (page.name, reason) for page in PAGES for reason in re.findall(r"skip: (?:next|start)(.*)-->", page.read_text())
    ]
    assert [(name, reason) for name, reason in reasons if not re.fullmatch(r' ".+" ', reason)] == []


@pytest.mark.slow
def test_commands_of_the_steering_page_do_what_it_says(tmp_path: Path) -> None:
    (script,) = code_blocks(DOCS / "howto/steer.md", "sh")
    first, *others = script.splitlines()
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    broker = subprocess.Popen(
        first.removesuffix("&").split(),
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_until(lambda: (tmp_path / "orders.ctl").exists() or broker.poll() is not None)
        printed = [
            subprocess.run(
                line.split(),
                cwd=tmp_path,
                env=environment,
                capture_output=True,
                text=True,
                check=True,
                timeout=DEADLINE_MS / 1000,
            ).stdout
            for line in others
        ]
        output, complaint = broker.communicate(timeout=DEADLINE_MS / 1000)
    finally:
        broker.kill()
        broker.communicate(timeout=DEADLINE_MS / 1000)
    assert (broker.returncode, complaint) == (0, "")
    assert "ending  TERMINATE" in output
    listed, paused, stats, resumed, statistics, terminated = printed
    assert listed == "orders\n"
    assert (paused, resumed, terminated) == ("done\n",) * 3
    assert '"state": "paused"' in stats
    assert statistics.startswith("frontend received  0 frames, 0 bytes\n")


def test_tutorial_installs_as_the_readme_does() -> None:
    (script,) = code_blocks(DOCS / "tutorial.md", "sh")
    install, doctor = script.splitlines()
    readme = (TREE / "README.md").read_text()
    assert f"{install} && .venv/bin/pollbroker demo" in readme.splitlines()
    assert doctor == ".venv/bin/pollbroker doctor"


@pytest.mark.parametrize(
    "package",
    [
        "pollbroker",
        "pollbroker.asyncio",
        "pollbroker.control",
        "pollbroker.devices",
        "pollbroker.devices.green",
        "pollbroker.gevent",
        "pollbroker.rpc",
        "pollbroker.rpc.asyncio",
        "pollbroker.testing",
        "pollbroker.trio",
    ],
)
def test_reference_has_every_public_name(package: str) -> None:
    described = {name for page in (DOCS / "reference").glob("*.md") for name in DESCRIBED.findall(page.read_text())}
    public = {f"{package}.{name}" for name in importlib.import_module(package).__all__}
    elsewhere = {"pollbroker.testing.DEVICES", "pollbroker.testing.Device", "pollbroker.testing.Route"}
    assert public - described - elsewhere - {"pollbroker.testing.SocketType"} == set()
    assert {name for name in described if name.rpartition(".")[0] == package} <= public


def test_statistics_page_has_every_counter() -> None:
    page = (DOCS / "reference/statistics.md").read_text()
    flow = page[page.index("FlowStatistics()") : page.index("BrokerStatistics()")]
    described = re.findall(r"^ +\.\. auto(?:attribute|property):: (\w+)$", flow, re.MULTILINE)
    assert sorted(described) == sorted([*(field.name for field in fields(FlowStatistics)), "dropped"])


def test_page_of_control_has_every_state() -> None:
    page = (DOCS / "control.md").read_text()
    told = [set(re.findall(r"`(\w+)`", row)) for row in re.findall(r"^\| `state` \| (.+) \|$", page, re.MULTILINE)]
    assert told == [set(map(str, BrokerState)), {state.name.lower() for state in FlowState}]


def test_command_on_the_page_is_the_one_that_is_checked() -> None:
    session = (TREE / "noxfile.py").read_text().partition("def docs(")[2].partition("\n@nox.session")[0]
    assert code_blocks(DOCS / "index.md", "sh") == [f"{INSTALL}\n{BUILD}\n"]
    assert ", ".join(f'"{word}"' for word in BUILD.split()[1:]) in session
