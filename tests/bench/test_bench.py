"""The bench without its speed: the statistics, the goals, the runs, and the table of questions."""

import asyncio
import dataclasses
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import zmq
from click.testing import CliRunner

import bench.command
import bench.machine
from bench.child import ChildError
from bench.command import chosen_questions, name_of
from bench.goals import OVERALL_GOALS
from bench.machine import describe_versions
from bench.peers.poller_loop import BURST_MESSAGES, drain
from bench.peers.poller_loop_single import move_one
from bench.peers.table import NATIVE, POLLER, PROXY
from bench.question import FIGURES, Case, Cell, Goal, OverallGoal, Plan, Question, Sample
from bench.questions.table import QUESTIONS
from bench.results import CaseResult, CellResult, Spread, Verdict, read_results
from bench.rig import Rig
from bench.run import PlannedQuestion, ask, judge, judge_overall, plan_run
from bench.ticks import TICK_S, Ticks
from bench.work import Assignment, LoadSample, ProcessSample, Work
from pollbroker.errors import NoAnswerError
from tests.bench.answers import FASTER, answer, rates, run_of
from tests.support.bench import PLAN


def fake_question(measure: Iterator[Sample | BaseException], taken: list[str]) -> Question:
    """A question of one cell, two peers, two rounds; it takes its samples from an iterator."""

    def next_sample(case: Case, plan: Plan) -> Sample:
        taken.append(case.label)
        sample = next(measure)
        if isinstance(sample, BaseException):
            raise sample
        return sample

    cell = Cell("cell", tuple(Case.of(peer, Work("streamer")) for peer in (NATIVE, PROXY)), PLAN, (FASTER,))
    return Question("fake", "A fake", ("rate_per_s",), lambda quick: (cell,), next_sample, start_s=0.7)


def ask_fake(samples: list[Sample | BaseException]) -> tuple[CellResult, list[str]]:
    taken: list[str] = []
    asked = plan_run([fake_question(iter(samples), taken)], quick=False, rounds=None)
    (result,) = ask(asked[0], [], begin=lambda description: None, done=lambda estimated_s: None)
    return result, taken


def test_spread_is_the_median_with_the_lowest_and_the_highest() -> None:
    assert Spread.of([3.0, 1.0, 2.0, 9.0]) == Spread(2.5, 1.0, 9.0)
    assert Spread.of([]) is None


def test_cases_are_measured_in_alternation() -> None:
    _, taken = ask_fake([{"rate_per_s": 1.0}] * 4)
    assert taken == [NATIVE.name, PROXY.name, NATIVE.name, PROXY.name]


def test_ratio_is_taken_within_each_round() -> None:
    result, _ = ask_fake([{"rate_per_s": rate} for rate in (10.0, 5.0, 90.0, 30.0)])
    (verdict,) = result.goals
    assert verdict.values == [2.0, 3.0]
    assert verdict.spread == Spread(2.5, 2.0, 3.0)
    assert verdict.reached


def test_case_that_failed_is_recorded_and_left_out_of_the_remaining_rounds() -> None:
    result, taken = ask_fake([{"rate_per_s": 1.0}, ChildError("lost\nits head"), {"rate_per_s": 2.0}])
    assert taken == [NATIVE.name, PROXY.name, NATIVE.name]
    assert [case.error for case in result.cases] == [None, "lost\nits head"]
    assert [len(case.samples) for case in result.cases] == [2, 0]
    assert not result.goals[0].reached
    assert run_of(answer("fake", result)).failures() == [f"fake: cell: {PROXY.name}: lost: its head"]


@pytest.mark.parametrize("error", [ConnectionResetError("lost"), NoAnswerError("nothing")])
def test_case_that_raises_something_unforeseen_is_recorded_too_and_the_others_go_on(error: Exception) -> None:
    result, taken = ask_fake([{"rate_per_s": 1.0}, error, {"rate_per_s": 2.0}])
    assert taken == [NATIVE.name, PROXY.name, NATIVE.name]
    assert [case.error for case in result.cases] == [None, f"{type(error).__name__}: {error}"]


def test_goal_without_another_case_is_a_bound_for_the_figure_itself() -> None:
    cell = CellResult("cell", {}, [rates(NATIVE, 4.0, 5.0, 6.0)])
    assert judge(Goal("rate_per_s", NATIVE.name, None, 5.0, at_least=False), cell).reached
    assert not judge(Goal("rate_per_s", NATIVE.name, None, 4.9, at_least=False), cell).reached


def test_goal_for_a_figure_is_not_reached_if_a_round_has_no_answer() -> None:
    goal = Goal("rate_per_s", NATIVE.name, None, 5.0, at_least=False)
    case = CaseResult(NATIVE.name, NATIVE.name, {}, samples=[{"rate_per_s": 1.0}, {}])
    cell = CellResult("a cell", {}, [case])
    assert judge(goal, replace(cell, cases=[replace(case, samples=case.samples[:1])])).reached
    assert not judge(goal, cell).reached


@pytest.mark.parametrize("counts", [True, False])
def test_traffic_beside_the_one_that_is_measured_has_to_flow(counts: bool) -> None:
    class Standing:
        def ask(self) -> None:
            pass

        def sample(self) -> ProcessSample:
            return ProcessSample(0.0, 0.0, 0, 0, loads=(LoadSample(5, 0, 0),))

    rig = Rig(NATIVE, Work("queue"))
    rig._beside = [(Standing(), counts)]  # type: ignore[list-item]
    if counts:
        with pytest.raises(ChildError, match="the traffic beside the one that is measured stands still"):
            rig.window(0, 0)
    else:
        rig.window(0, 0)


@pytest.mark.parametrize(("bound", "sometimes"), [(2.5, True), (3.5, False)])
def test_goal_that_some_rounds_reached_is_not_reached_by_them(bound: float, sometimes: bool) -> None:
    verdict = Verdict("goal", bound, True, [1.0, 2.0, 3.0])
    assert (verdict.reached, verdict.reached_sometimes) == (False, sometimes)


def test_overall_goal_is_the_geometric_mean_over_all_cells_within_each_round() -> None:
    goal = OverallGoal(("a", "b"), "rate_per_s", NATIVE.name, PROXY.name, 1.4, at_least=True)
    twice = CellResult("1", {}, [rates(NATIVE, 2.0, 8.0, 5.0), rates(PROXY, 1.0, 1.0, 1.0)])
    half = CellResult("2", {}, [rates(NATIVE, 1.0, 1.0), rates(PROXY, 2.0, 2.0)])
    other = CellResult("3", {}, [rates(POLLER, 1.0)])  # without both cases: no part of the grid
    verdict = judge_overall(goal, [answer("a", twice), answer("b", half, other)])
    assert verdict is not None
    assert verdict.values == pytest.approx([1.0, 2.0])
    assert verdict.reached
    assert "2 cells" in verdict.goal


def test_overall_goal_has_no_answer_where_a_cell_has_none() -> None:
    goal = OverallGoal(("a",), "rate_per_s", NATIVE.name, PROXY.name, 1.4, at_least=True)
    good, failed = (CellResult("", {}, [rates(NATIVE, 9.0), rates(PROXY, *per_s)]) for per_s in ([1.0], []))
    verdict = judge_overall(goal, [answer("a", good, failed)])
    assert verdict is not None
    assert (verdict.values, verdict.reached) == ([], False)


def test_overall_goal_is_left_out_where_a_question_was_not_asked() -> None:
    assert judge_overall(OVERALL_GOALS[0], [answer("a")]) is None


def test_cell_that_stood_still_makes_the_mean_zero() -> None:
    goal = OverallGoal(("a",), "rate_per_s", NATIVE.name, PROXY.name, 1.4, at_least=True)
    cells = [CellResult("", {}, [rates(NATIVE, rate), rates(PROXY, 1.0)]) for rate in (0.0, 9.0)]
    verdict = judge_overall(goal, [answer("a", *cells)])
    assert verdict is not None
    assert verdict.values == [0.0]


def test_knobs_are_the_brokers_alone(tmp_path: Path) -> None:
    work = Work("streamer", mark=10, io_threads=2, engine={"burst_messages": 5})
    brokers = work.deployment("a.module", tmp_path)
    assert (brokers.high_water_mark, brokers.io_threads, brokers.engine) == (10, 2, {"burst_messages": 5})
    assert work.load("backend", (), tmp_path) == Work("streamer").load("backend", (), tmp_path)
    told = Assignment.from_json(json.loads(json.dumps(dataclasses.asdict(Assignment(brokers))))).brokers
    assert told is not None
    assert (told.io_threads, told.engine) == (brokers.io_threads, brokers.engine)


@pytest.mark.parametrize(
    ("names", "quick", "rounds", "name"),
    [
        ([], False, None, "latest"),
        ([], True, None, "quick"),
        (["a"], False, None, "a"),
        (["a", "b"], True, 9, "quick-a+b-9-rounds"),
        (["a", "b", "c", "d"], False, None, "4-questions"),
        ([], False, 3, "3-rounds"),
    ],
)
def test_only_the_whole_bench_is_called_latest(names: list[str], quick: bool, rounds: int | None, name: str) -> None:
    assert name_of(names, quick=quick, rounds=rounds) == name


def run_command(monkeypatch: pytest.MonkeyPatch, output: Path, samples: list[Sample | BaseException]) -> int:
    monkeypatch.setattr(bench.command, "QUESTIONS", {"fake": fake_question(iter(samples), [])})
    monkeypatch.setattr(bench.command, "library_path", lambda: None)
    return CliRunner().invoke(bench.command.main, ["--output", str(output)]).exit_code


def test_whole_run_writes_its_samples_and_its_summary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_command(monkeypatch, tmp_path, [{"rate_per_s": 1.0}] * 4) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"latest.json", "latest.md"}
    results = read_results(tmp_path / "latest.json")
    assert results.complete
    assert results.estimated_s == pytest.approx(4 * (0.7 + 0.1 + 0.2))
    assert [len(case.samples) for case in results.questions[0].cells[0].cases] == [2, 2]
    assert results.questions[0].origin.machine["cores"]
    assert "pollbroker" in results.questions[0].origin.versions


def test_run_that_could_not_measure_something_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_command(monkeypatch, tmp_path, [ChildError("lost"), *([{"rate_per_s": 1.0}] * 2)]) == 1
    assert (tmp_path / "latest.json").exists()


def test_broken_off_run_keeps_what_it_has_and_leaves_the_last_whole_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "latest.json").write_text("the last whole one")
    question = fake_question(iter([*([{"rate_per_s": 1.0}] * 5), KeyboardInterrupt()]), [])
    monkeypatch.setattr(bench.command, "QUESTIONS", {"one": question, "two": question})
    monkeypatch.setattr(bench.command, "library_path", lambda: None)
    assert CliRunner().invoke(bench.command.main, ["--output", str(tmp_path)]).exit_code == 1
    assert (tmp_path / "latest.json").read_text() == "the last whole one"
    kept = read_results(tmp_path / "latest.partial.json")
    assert not kept.complete
    assert [len(case.samples) for case in kept.questions[0].cells[0].cases] == [2, 2]
    assert [len(case.samples) for case in kept.questions[1].cells[0].cases] == [1, 0]


def test_quick_run_gives_up_rounds_until_it_fits_and_keeps_one_of_each() -> None:
    question = fake_question(iter([]), [])
    long = [question] * 20
    asked = plan_run(long, quick=True, rounds=None)
    assert {cell.plan for one in asked for cell in one.cells} == {dataclasses.replace(PLAN, rounds=1)}
    assert {cell.plan.rounds for one in plan_run(long, quick=False, rounds=None) for cell in one.cells} == {2}
    assert {cell.plan.rounds for one in plan_run(long, quick=True, rounds=7) for cell in one.cells} == {7}


def test_quick_run_of_many_questions_shortens_its_windows() -> None:
    asked = plan_run([fake_question(iter([]), [])] * 30, quick=True, rounds=None)
    (plan,) = {cell.plan for one in asked for cell in one.cells}
    assert sum(one.estimated_s for one in asked) == pytest.approx(50)
    assert plan.window_s == pytest.approx(2 * plan.warm_up_s)
    assert plan.window_s < PLAN.window_s


def test_time_to_start_is_the_plans_own_where_it_has_one() -> None:
    case = Case.of(NATIVE, Work("streamer"))
    cell = Cell("", (case,), Plan(rounds=2, warm_up_s=0.1, window_s=0.2, start_s=5.0))
    assert PlannedQuestion(fake_question(iter([]), []), (cell,)).estimated_s == pytest.approx(2 * 5.3)


def test_whole_quick_run_takes_less_than_a_minute_by_its_own_estimate() -> None:
    asked = plan_run(chosen_questions(QUESTIONS.values(), (), quick=True), quick=True, rounds=None)
    assert sum(one.estimated_s for one in asked) < 60


def test_question_that_no_whole_quick_run_has_time_for_is_asked_when_it_is_named() -> None:
    short = fake_question(iter([]), [])
    long = dataclasses.replace(short, name="long", in_whole_quick_run=False)
    for names, quick, expected in (
        ((), True, [short]), ((), False, [short, long]), (("long",), True, [long]), (("long",), False, [long]),
    ):  # fmt: skip
        assert chosen_questions((short, long), names, quick=quick) == expected


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git, as .ci/run does")
def test_commit_is_called_edited_when_what_is_measured_was_and_not_for_its_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*arguments: str) -> None:
        author = ("-c", "user.name=somebody", "-c", "user.email=somebody@example.org")
        subprocess.run(["git", "-C", str(tmp_path), *author, *arguments], check=True, capture_output=True, timeout=60)

    files = ("pollbroker/loop.py", "bench/results/latest.json", "bench/pages/speed.md", "README.md")
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("before\n")
    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "before")
    monkeypatch.setattr(bench.machine, "CHECKOUT", tmp_path)
    for name in files[1:]:
        (tmp_path / name).write_text("after\n")
    assert re.fullmatch(r".* \([0-9a-f]{7,}\)", describe_versions()["pollbroker"])
    (tmp_path / files[0]).write_text("after\n")
    assert re.fullmatch(r".* \([0-9a-f]{7,}, edited\)", describe_versions()["pollbroker"])


class FakeSocket:
    """A socket with so many messages in it, which keeps what is sent to it."""

    def __init__(self, messages: int = 0) -> None:
        self.messages = [[b"%d" % number] for number in range(messages)]

    def recv_multipart(self, flags: int = 0) -> list[bytes]:
        if not self.messages:
            raise zmq.Again
        return self.messages.pop(0)

    def send_multipart(self, message: list[bytes]) -> None:
        self.messages.append(message)


@pytest.mark.parametrize(
    ("move", "waiting", "moved"),
    [(drain, 3, 3), (drain, BURST_MESSAGES + 1, BURST_MESSAGES), (move_one, 3, 1)],
)
def test_poller_loop_drains_its_socket_and_the_single_one_takes_one_message(
    move: Callable[[Any, Any], None], waiting: int, moved: int
) -> None:
    source, sink = FakeSocket(waiting), FakeSocket()
    move(source, sink)
    assert sink.messages == FakeSocket(waiting).messages[:moved]
    assert len(source.messages) == waiting - moved


class LoopEndedError(Exception):
    """A loop of the test has made its last tick."""


class FakeLoop:
    """A clock, and a sleep that takes so many seconds more than it is asked to. After the last one the loop ends."""

    def __init__(self, *late_s: float) -> None:
        self.now_s = 100.0
        self.late_s = [*late_s]

    def clock(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        if not self.late_s:
            raise LoopEndedError
        self.now_s += seconds + self.late_s.pop(0)

    async def sleep_in_task(self, seconds: float) -> None:
        self.sleep(seconds)


@pytest.mark.parametrize("in_task", [True, False])
def test_ticks_tell_how_late_they_were_since_they_were_asked_last(in_task: bool) -> None:
    loop = FakeLoop(*[0.001] * 97, *[0.004] * 4)
    ticks = Ticks(loop.clock)

    def run() -> None:
        with pytest.raises(LoopEndedError):
            asyncio.run(ticks.run(loop.sleep_in_task)) if in_task else ticks.run_blocking(loop.sleep)

    run()
    assert loop.now_s == pytest.approx(100.0 + 101 * TICK_S + 97 * 0.001 + 4 * 0.004)
    assert ticks.late_ms() == pytest.approx({"p50": 1.0, "p99": 4.0})
    loop.late_s = [0.002, 0.002]
    run()
    assert ticks.late_ms() == pytest.approx({"p50": 2.0, "p99": 2.0})
    assert ticks.late_ms() == {}


@pytest.mark.parametrize("name", [*QUESTIONS])
@pytest.mark.parametrize("quick", [True, False])
def test_question_is_well_formed(name: str, quick: bool) -> None:
    question = QUESTIONS[name]
    cells = question.cells(quick)
    assert question.name == name
    assert cells
    assert set(question.figures) <= set(FIGURES)
    assert len({cell.label for cell in cells}) == len(cells), "cells with the same label"
    for cell in cells:
        labels = [case.label for case in cell.cases]
        assert len(set(labels)) == len(labels), f"{cell.label}: cases with the same label"
        for goal in cell.goals:
            assert goal.figure in FIGURES
            assert {goal.of, goal.to or goal.of} <= set(labels), f"{cell.label}: {goal} names a case that is not there"


@pytest.mark.parametrize("name", [*QUESTIONS])
def test_full_question_has_at_least_five_rounds(name: str) -> None:
    for cell in QUESTIONS[name].cells(False):
        # Thousands of pairs take longer to bring up than to measure: five rounds of them would be minutes of starting.
        # And a million messages are most of a minute.
        is_long = any(case.work.pairs > 1000 or case.work.limit >= 1_000_000 for case in cell.cases)
        assert cell.plan.rounds >= (3 if is_long else 5), cell.label


def test_overall_goals_name_questions_that_exist() -> None:
    for goal in OVERALL_GOALS:
        assert goal.figure in FIGURES
        assert set(goal.questions) <= set(QUESTIONS)
