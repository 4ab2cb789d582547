"""`pollbroker fuzz`: what it tries, what it finds, and how it is run again."""

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner

import pollbroker.testing
import pollbroker.testing.fuzzing as fuzzing
from pollbroker import DEVICES, STREAMER
from pollbroker.cli import main
from pollbroker.pump.behaviours import BehaviourRun
from pollbroker.testing.drawing import scenario_of_seed
from tests.mutants.breaking import in_place
from tests.support.kit import FORGETFUL


def test_fuzz_tries_seeds_and_says_so() -> None:
    result = CliRunner().invoke(main, ["fuzz", "--seeds", "60", "--jobs", "1", "--first", "5", "--device", "queue"])
    assert result.exit_code == 0, result.output
    assert result.output.startswith("60 seeds in ")
    assert result.output.endswith("0 failed\n")


def test_fuzz_ends_when_the_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    class Clock:
        now_s = 0.0

        def monotonic(self) -> float:
            return self.now_s

    clock = Clock()
    monkeypatch.setattr(fuzzing, "time", clock)
    tried = []
    for progress in fuzzing.fuzz(minutes=1, jobs=1):
        tried.append(progress.seeds)
        clock.now_s = 60.0
    # What a process has been given by then it ends.
    assert tried[-1] == 100
    assert len(tried) <= 2


def test_fuzz_names_what_failed_and_how_to_run_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def found(**_: Any) -> Iterator[fuzzing.Progress]:
        yield fuzzing.Progress(50, (fuzzing.Finding(17, "InvariantViolation: order: on purpose"),))

    monkeypatch.setattr(fuzzing, "fuzz", found)
    result = CliRunner().invoke(main, ["fuzz", "--device", "streamer"])
    assert result.exit_code == 1
    assert "seed 17: InvariantViolation: order: on purpose" in result.output
    assert "pollbroker fuzz --replay 17 --device streamer" in result.output


def test_replay_shows_the_shortest_schedule_that_fails() -> None:
    kept = CliRunner().invoke(main, ["fuzz", "--replay", "3"])
    assert (kept.exit_code, kept.output) == (0, "seed 3: every promise was kept\n")
    with in_place(FORGETFUL):
        seed = fuzzing.check_seeds(0, 20, "streamer")[0].seed
        broken = CliRunner().invoke(main, ["fuzz", "--replay", str(seed), "--device", "streamer"])
        scenario = fuzzing.shortest_failing(seed, "streamer")
    assert broken.exit_code == 1
    assert "InvariantViolation" in broken.output
    expression = broken.output.partition("the shortest schedule that fails:\n")[2]
    assert (
        eval(expression, {name: getattr(pollbroker.testing, name) for name in pollbroker.testing.__all__}) == scenario
    )
    assert 1 <= len(scenario.steps) < len(scenario_of_seed(seed, STREAMER).steps)


@pytest.mark.parametrize("device", [name for name, one in DEVICES.items() if one.behaviour is not None])
def test_replay_of_a_device_with_a_behaviour_tells_when_every_promise_was_kept(device: str) -> None:
    result = CliRunner().invoke(main, ["fuzz", "--replay", "0", "--device", device])
    assert (result.exit_code, result.output) == (0, "seed 0: every promise was kept\n")


def test_replay_runs_what_failed_with_the_behaviour_that_the_seed_has_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    def given_twice(run: BehaviourRun, port: str, frames: list[bytes]) -> None:
        for _ in range(2):
            run._call(run.behaviour.on_message, port, list(frames), given=1)

    monkeypatch.setattr(BehaviourRun, "message", given_twice)
    finding = next(one for one in fuzzing.check_seeds(0, 40) if one.seed % 4 == 3)
    result = CliRunner().invoke(main, ["fuzz", "--replay", str(finding.seed)])
    assert result.exit_code == 1
    assert result.output.startswith(f"seed {finding.seed}: {finding.account}\n")


def test_seeds_that_fail_are_found() -> None:
    with in_place(FORGETFUL):
        findings = fuzzing.check_seeds(0, 20, "streamer")
    assert findings
    assert all("InvariantViolation" in finding.account for finding in findings)


def test_fuzz_without_hypothesis_says_what_to_install() -> None:
    program = "import sys; sys.modules['hypothesis'] = None; from pollbroker.cli import main; main(['fuzz'])"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 1
    assert "hypothesis is not installed" in result.stderr
    assert "pip install 'pollbroker[testing]'" in result.stderr
    assert "Traceback" not in result.stderr
