"""The programs of docs/article.md, each as a process of its own."""

import re
import subprocess
import sys

import pytest

from tests.support.deadline import DEADLINE_S
from tests.support.tree import TREE

ARTICLE = TREE / "examples/article"

PRINTS = {
    "queue_device": "".join(f"x-{number}\n" for number in range(10)),
    "relay": "1 thread for 3 pairs of sockets\nanswer question 0\nanswer question 1\nanswer question 2\n",
    "forwarder": (
        "subscriptions that reach the publisher: weather\nreceived: weather today\n1 of 3 messages reached the broker\n"
    ),
    "streamer": (
        "nobody pulls: the broker is stalled, and the messages wait\n100 messages, of which the sum is 4950\n"
    ),
}


@pytest.mark.parametrize("program", PRINTS)
def test_program_of_the_article_does_what_the_page_says(program: str) -> None:
    command = [sys.executable, "-W", "error", str(ARTICLE / f"{program}.py")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, PRINTS[program], "")


def test_every_program_of_the_article_is_on_its_page_and_tested() -> None:
    programs = {path.stem for path in ARTICLE.glob("*.py")}
    assert programs == set(PRINTS)
    page = (TREE / "docs/article.md").read_text()
    assert set(re.findall(r"examples/article/(\w+)\.py", page)) == programs
