"""The pages say what the results of record say, and answers are taken over into the record whole or not at all."""

import dataclasses
import json
from pathlib import Path

import pytest

from bench.goals import GRID
from bench.merge import RefusedError, merge
from bench.pages.facts import Facts, NotMeasuredError
from bench.pages.render import PAGES, RECORD, record, render_pages, write_pages
from bench.peers.table import NATIVE, PROXY
from bench.question import Case, Cell, Goal, Plan, Question, Sample
from bench.questions.table import QUESTIONS
from bench.results import CaseResult, CellResult, Origin, QuestionResult, Results, Verdict, read_results, write_results
from bench.work import Work
from tests.support.bench import PLAN
from tests.support.tree import TREE

OLD = Origin("2030-01-02T00:00:00+00:00", {"processor": "Old", "cores": 2, "load_average_1min": 0.5}, {})
NEW = Origin("2031-01-02T00:00:00+00:00", {"processor": "New", "cores": 4}, {"pollbroker": "1 (abc)"})


def cell(label: str, rates: list[float], costs: list[float], error: str | None = None) -> CellResult:
    """A cell in which `zmq.proxy` has 1 of each in every round, and pollbroker what is given."""
    ours: list[Sample] = [{"rate_per_s": rate, "cpu_ns": cost} for rate, cost in zip(rates, costs, strict=True)]
    theirs: list[Sample] = [{"rate_per_s": 1.0, "cpu_ns": 1.0} for _ in rates]
    cases = [CaseResult(peer.name, peer.name, {}, samples) for peer, samples in ((NATIVE, ours), (PROXY, theirs))]
    cases[0].error = error
    goal = Verdict("faster", 1.0, True, rates)
    return CellResult(label, dataclasses.asdict(PLAN), cases, [goal])


def answer(name: str, *cells: CellResult, origin: Origin = OLD) -> QuestionResult:
    return QuestionResult(name, name, "", ["rate_per_s", "cpu_ns"], origin, 10.0, 11.0, list(cells))


def results(*answers: QuestionResult) -> Results:
    return Results("latest", 10.0 * len(answers), 11.0 * len(answers), True, list(answers))


def question(name: str) -> Question:
    """A question of one cell of two cases, which is never asked here."""

    def measure(case: Case, plan: Plan) -> Sample:
        raise AssertionError("asked")

    cases = tuple(Case.of(peer, Work("streamer")) for peer in (NATIVE, PROXY))
    goals = (Goal("rate_per_s", NATIVE.name, PROXY.name, 1.0, at_least=True),)
    return Question(name, name, ("rate_per_s",), lambda quick: (Cell("one", cases, PLAN, goals),), measure)


def test_pages_have_the_figures_of_the_results_of_record() -> None:
    for page, text in render_pages(record()).items():
        assert page.read_text() == text, f"{page.name} is behind the results: python -m bench.pages"


def test_another_figure_in_the_results_is_another_page(tmp_path: Path) -> None:
    for page in PAGES:
        (tmp_path / page).parent.mkdir(exist_ok=True)
        (tmp_path / page).write_text((TREE / page).read_text())
    told = record()
    assert write_pages(told, tmp_path) == []
    for sample in (
        next(question for question in told.questions if question.name == "streamer-rate").cells[1].cases[0].samples
    ):
        sample["rate_per_s"] *= 7
    assert write_pages(told, tmp_path) == [tmp_path / page for page in PAGES]
    assert write_pages(told, tmp_path) == []


def test_page_that_lost_its_place_for_figures_is_an_error(tmp_path: Path) -> None:
    for page in PAGES:
        (tmp_path / page).parent.mkdir(exist_ok=True)
        (tmp_path / page).write_text("no place here\n")
    with pytest.raises(ValueError, match=r"README\.md: expected once: <!-- made by"):
        write_pages(record(), tmp_path)


def test_cells_that_are_slower_or_cost_more_are_counted_by_their_medians() -> None:
    facts = Facts(
        results(
            answer("a", cell("1", [2.0, 0.5, 4.0], [1.0, 0.5, 0.5]), cell("2", [0.5, 0.5, 8.0], [2.0, 2.0, 0.1])),
            answer("b", cell("3", [1.0, 1.0, 1.0], [1.1, 1.1, 1.1])),
        )
    )
    both = facts.compared()
    assert (both.cells, both.slower, both.costlier) == (3, 1, 2)
    one = facts.compared(["a"])
    assert (one.cells, one.rate, one.slower, one.costlier) == (2, "1.00 (0.50 to 5.66)", 1, 1)
    assert facts.goals() == (2, 3)


def test_figures_are_told_as_median_and_span() -> None:
    facts = Facts(results(answer("a", cell("1", [2e6, 1e6, 4e6], [1.0] * 3), cell("2", [5e6] * 3, [1.0] * 3))))
    assert facts.ratio(["a", "2"], "cpu_ns") == "1.00"
    assert facts.value(["a", "1"], "rate_per_s") == "2,000 (1,000 to 4,000)"
    assert facts.only(["a", "1"], "rate_per_s") == "2,000"
    assert facts.span([["a", "1"], ["a", "2"]], "rate_per_s") == "2,000 to 5,000"
    assert facts.case_span(["a", "1"], "rate_per_s") == "0.0010 to 2,000"
    assert facts.ratio_span(["a"], "rate_per_s", ["2"]) == "5,000,000 to 5,000,000"


@pytest.mark.parametrize(
    ("place", "case", "message"),
    [
        (["b", "1"], NATIVE.name, "b: not asked; python -m bench --question b does"),
        (["a", "2"], NATIVE.name, "a: no cell '2'"),
        (["a", "1"], "nobody", "1: no case 'nobody'"),
    ],
)
def test_figure_that_was_not_measured_raises(place: list[str], case: str, message: str) -> None:
    facts = Facts(results(answer("a", cell("1", [1.0], [1.0]))))
    with pytest.raises(NotMeasuredError, match=message):
        facts.ratio(place, "rate_per_s", case)
    with pytest.raises(NotMeasuredError, match=message):
        facts.value(place, "rate_per_s", case)


def test_every_answer_has_its_origin() -> None:
    told = Facts(results(answer("a"), answer("b", origin=NEW), answer("c"))).origins()
    assert [line.partition(":")[0] for line in told] == ["`b`", "all other questions"]
    assert "pollbroker 1 (abc) on 2 January 2031, New with 4 cores" in told[0]
    assert "load average 0.5" in told[1]
    (alone,) = Facts(results(answer("a"))).origins()
    assert alone.startswith("pollbroker")


def test_merged_answer_replaces_the_old_one_and_keeps_its_origin() -> None:
    known = {name: question(name) for name in ("a", "b")}
    before = results(answer("a", cell("one", [1.0, 1.0], [1.0, 1.0])), answer("b", cell("one", [1.0, 1.0], [1.0, 1.0])))
    run = results(answer("a", cell("one", [3.0, 3.0], [1.0, 1.0]), origin=NEW))
    merged = merge(before, run, known)
    assert [(one.name, one.origin) for one in merged.questions] == [("a", NEW), ("b", OLD)]
    assert merged.questions[0].cells[0].cases[0].values("rate_per_s") == [3.0, 3.0]
    assert merged.questions[1] == before.questions[1]
    assert (merged.name, merged.took_s) == ("latest", 22.0)


def test_goals_over_several_questions_are_judged_again() -> None:
    known = {name: question(name) for name in GRID}
    before = results(*(answer(name, cell("one", [1.0, 1.0], [1.0, 1.0])) for name in GRID))
    run = results(answer(GRID[0], cell("one", [16.0, 16.0], [1.0, 1.0]), origin=NEW))
    (overall,) = merge(before, run, known).goals
    assert overall.values == pytest.approx([2.0, 2.0])


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (results(answer("a", cell("other", [1.0, 1.0], [1.0, 1.0]))), "a: the cells, cases and rounds are not"),
        (results(answer("z", cell("one", [1.0, 1.0], [1.0, 1.0]))), "z: there is no such question"),
        (results(answer("a", cell("one", [1.0], [1.0], error="it died"))), "it died"),
        (dataclasses.replace(results(answer("a")), complete=False), "the run was interrupted"),
    ],
)
def test_answer_that_is_less_than_whole_is_not_merged(run: Results, message: str) -> None:
    with pytest.raises(RefusedError, match=message):
        merge(results(answer("a")), run, {"a": question("a")})


def test_answer_with_other_rounds_is_not_merged(tmp_path: Path) -> None:
    run = results(answer("a", cell("one", [1.0, 1.0], [1.0, 1.0])))
    write_results(run, tmp_path / "run.json")
    assert merge(results(), read_results(tmp_path / "run.json"), {"a": question("a")}).questions == run.questions
    run.questions[0].cells[0].plan = {**run.questions[0].cells[0].plan, "rounds": 3}
    with pytest.raises(RefusedError, match="the cells, cases and rounds are not"):
        merge(results(), run, {"a": question("a")})


def test_record_has_an_answer_and_an_origin_for_every_question() -> None:
    told = json.loads(RECORD.read_text())
    assert [one["name"] for one in told["questions"]] == list(QUESTIONS)
    assert all(one["origin"]["versions"]["pollbroker"] for one in told["questions"])
    assert told["complete"]
