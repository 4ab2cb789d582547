"""Completion: what the shells are answered, and in a real bash what stands on the line after the tabulator key."""

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from pollbroker.cli import main
from pollbroker.cli.completion import SHELLS
from pollbroker.cli.listing import LISTING
from pollbroker.standard_devices import DEVICES
from tests.support.commands import invoke
from tests.support.deadline import DEADLINE_S


def answers(shell: str, *typed: str) -> list[str]:
    """What the script of a shell is answered for these words, of which the last is to be completed: the values."""
    line = " ".join(["pollbroker", *typed])
    word = typed[-1] if shell == "fish" else str(len(typed))
    asked = {"COMP_WORDS": line, "COMP_LINE": line, "COMP_CWORD": word}
    environment = asked | {"_POLLBROKER_COMPLETE": f"{shell}_complete"}
    result = CliRunner().invoke(main, [], env=environment, prog_name="pollbroker")
    assert (result.exit_code, result.stderr) == (0, "")
    lines = list(filter(None, result.stdout.splitlines()))
    return lines[1::3] if shell == "zsh" else [line.split(",")[1].split("\t")[0] for line in lines]


@pytest.mark.parametrize("shell", SHELLS)
def test_commands_are_completed(shell: str) -> None:
    assert answers(shell, "c") == ["check", "clone", "completion", "ctl"]
    assert answers(shell, "") == sorted(LISTING)


@pytest.mark.parametrize("shell", SHELLS)
def test_names_of_devices_are_completed(shell: str) -> None:
    assert answers(shell, "fuzz", "--device", "f") == ["forwarder", "filter"]
    assert set(answers(shell, "fuzz", "--device", "")) == set(DEVICES)


@pytest.mark.parametrize("shell", SHELLS)
def test_commands_of_control_are_completed_behind_an_endpoint(shell: str) -> None:
    assert answers(shell, "ctl", "tcp://127.0.0.1:5561", "pa") == ["PAUSE"]
    assert answers(shell, "ctl", "pa") == ["PAUSE"]
    assert answers(shell, "ctl", "pause", "pa") == []
    assert answers(shell, "ctl", "tcp://127.0.0.1:5561", "pause", "pa") == []


@pytest.mark.parametrize("shell", SHELLS)
def test_options_are_completed(shell: str) -> None:
    assert answers(shell, "queue", "--tr") == ["--transport"]
    assert answers(shell, "queue", "--transport", "w") == ["wire"]


@pytest.mark.parametrize("command", ["run", "check", "show"])
def test_files_are_completed_by_the_shell_itself(command: str) -> None:
    environment = {"_POLLBROKER_COMPLETE": "bash_complete", "COMP_LINE": f"pollbroker {command} bro"}
    result = CliRunner().invoke(main, [], env=environment, prog_name="pollbroker")
    assert (result.exit_code, result.stdout) == (0, "file,bro\n")


@pytest.mark.parametrize("shell", SHELLS)
def test_script_is_printed_and_a_shell_accepts_it(shell: str, tmp_path: Path) -> None:
    result = invoke("completion", shell)
    assert result.exit_code == 0
    assert "_POLLBROKER_COMPLETE" in result.stdout
    program = shutil.which(shell)
    if program is not None:
        script = tmp_path / "script"
        script.write_text(result.stdout)
        subprocess.run([program, "-n", str(script)], check=True, timeout=DEADLINE_S)


def test_unknown_shell_is_refused() -> None:
    result = invoke("completion", "tcsh")
    assert result.exit_code == 2
    assert "tcsh" in result.stderr


def test_completion_of_commands_does_not_import_them() -> None:
    with main.make_context("pollbroker", ["--help"], resilient_parsing=True) as context:
        items = main.shell_complete(context, "q")
    assert [(item.value, item.help) for item in items] == [("queue", LISTING["queue"].text)]


class Terminal:
    """A bash in a terminal of its own."""

    def __init__(self, home: Path) -> None:
        bash = shutil.which("bash")
        assert bash is not None
        self._master, slave = pty.openpty()
        command = home / "pollbroker"
        command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m pollbroker "$@"\n')
        command.chmod(0o755)
        environment = os.environ | {"PATH": f"{home}{os.pathsep}{os.environ['PATH']}", "TERM": "dumb", "PS1": "$ "}
        self._process = subprocess.Popen(
            [bash, "--norc", "--noprofile", "-i"],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=home,
            env=environment,
            start_new_session=True,
        )
        os.close(slave)

    def type(self, text: str, until: str) -> str:
        """Type some keys. Return what the terminal shows then, once it shows `until`."""
        os.write(self._master, text.encode())
        shown, give_up_s = "", time.monotonic() + DEADLINE_S
        while until not in shown:
            remaining_s = give_up_s - time.monotonic()
            assert remaining_s > 0, f"{until!r} was not shown, but {shown!r}"
            if select.select([self._master], [], [], remaining_s)[0]:
                shown += os.read(self._master, 4096).decode()
        return shown

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._master)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed here")
def test_a_real_bash_completes_behind_a_colon_and_files(tmp_path: Path) -> None:
    (tmp_path / "brokers.toml").touch()
    terminal = Terminal(tmp_path)
    try:
        terminal.type('eval "$(pollbroker completion bash)"; echo "read"y\n', "\nready")
        terminal.type("pollbroker ctl tcp://127.0.0.1:5561 PAU\t", "5561 PAUSE ")
        terminal.type("\x15pollbroker check bro\t", "check brokers.toml ")
        terminal.type("\x15pollbroker last\t", "pollbroker last-value ")
    finally:
        terminal.close()
