"""What is made of the answers of a run: their file, the summary, and the plots."""

import dataclasses
import json
import sys
from pathlib import Path

import pytest

from bench.peers.table import NATIVE, NONE, POLLER, PROXY
from bench.plots.panels import bar_panels, line_panels
from bench.plots.table import IDLE, MARK, PAIRS, SIZE, SPIN
from bench.plots.write import MatplotlibMissingError, write_plots
from bench.question import Sample
from bench.report import summary_markdown, with_spread
from bench.results import LOAD, CaseResult, CellResult, Origin, QuestionResult, Spread, read_results, write_results
from bench.run import judge
from bench.work import Work
from tests.bench.answers import FASTER, ORIGIN, answer, rates, run_of


def grid_answer() -> QuestionResult:
    """Three sizes of two transports, three peers."""
    cells = []
    for transport in ("tcp", "ipc"):
        for size in (16, 1024, 1 << 20):
            work = Work("streamer", transport=transport, size=size)
            cases = [rates(peer, 1e6, 2e6, 3e6, work=work) for peer in (NATIVE, PROXY, NONE)]
            cells.append(CellResult(f"{transport} {size}", {"rounds": 3}, cases))
    cells[0].goals.append(judge(FASTER, cells[0]))
    return answer("grid", *cells)


def peers_answer() -> QuestionResult:
    cases = [rates(peer, rate) for peer, rate in ((NATIVE, 1e6), (PROXY, 7e5), (POLLER, 1e5), (NONE, 2e6))]
    return answer("peers", CellResult("tcp 64 B", {"rounds": 1}, cases))


def test_results_survive_their_file(tmp_path: Path) -> None:
    results = run_of(grid_answer(), peers_answer())
    results.questions[0].cells[0].cases[0].error = "lost"
    write_results(results, tmp_path / "r.json")
    assert read_results(tmp_path / "r.json") == results
    assert [path.name for path in tmp_path.iterdir()] == ["r.json"]


def test_file_has_one_line_for_each_case_and_each_goal(tmp_path: Path) -> None:
    results = run_of(grid_answer(), peers_answer())
    write_results(results, tmp_path / "r.json")
    lines = (tmp_path / "r.json").read_text().splitlines()
    cells = [cell for question in results.questions for cell in question.cells]
    for name, parts in (("peer", [case for cell in cells for case in cell.cases]), ("bound", [*results.verdicts()])):
        told = [json.loads(line.rstrip(",")) for line in lines if f'"{name}"' in line]
        assert len(told) == len(parts) > 1


def test_summary_names_machine_versions_and_every_goal() -> None:
    results = run_of(grid_answer())
    summary = summary_markdown(results)
    assert "A processor" in summary
    assert "| libzmq | 4 |" in summary
    assert "| overall |  | over all \\| of it | >= 1.4 | 1.50 (1.30 to 1.60) | yes |" in summary
    assert f"| grid | tcp 16 | {FASTER} | >= 1.5 | 1.00 | no |" in summary
    assert "1 of 2 goals reached" in summary


def test_summary_names_every_machine_and_commit_with_the_questions_that_are_its_own() -> None:
    results = run_of(answer("a"), answer("b"), answer("c"))
    later = Origin("2030-02-02T02:02:02+00:00", {"processor": "Another", "cores": 8}, {"libzmq": "4"})
    results.questions[1].origin = later
    # The load of the machine is another with each question of one run.
    results.questions[2].origin = dataclasses.replace(ORIGIN, machine={**ORIGIN.machine, LOAD: 3.5})
    assert results.origins() == [(ORIGIN, ["a", "c"]), (later, ["b"])]
    summary = summary_markdown(results)
    assert "| questions | a, c |\n| began | 2030-01-01T00:00:00+00:00 |\n| processor | A processor |" in summary
    assert "| questions | b |\n| began | 2030-02-02T02:02:02+00:00 |\n| processor | Another |" in summary


@pytest.mark.parametrize(
    ("value", "shown"), [(0, "0"), (0.0123, "0.012"), (0.98, "0.98"), (12.34, "12.3"), (1234.5, "1,234")]
)
def test_figures_are_shown_to_about_three_digits(value: float, shown: str) -> None:
    assert with_spread(Spread(value, value, value)) == (shown, "")


def test_lines_are_drawn_along_the_axis_that_the_work_varies_along() -> None:
    grid = grid_answer()
    panels = line_panels(grid, SIZE, "rate_per_s")
    assert [panel.title for panel in panels] == ["tcp", "ipc"]
    assert [line.label for line in panels[0].lines] == [NATIVE.name, PROXY.name, NONE.name]
    assert [point.x for point in panels[0].lines[0].points] == [16, 1024, 1 << 20]
    assert panels[0].lines[0].points[0].spread == Spread(2e6, 1e6, 3e6)
    assert line_panels(grid, PAIRS, "rate_per_s") == []
    assert line_panels(peers_answer(), SIZE, "rate_per_s") == []


def test_case_that_several_cells_have_in_common_is_no_line() -> None:
    cells = [CellResult(label, {}, [rates(NONE, 1e6)]) for label in ("few workers", "many workers")]
    assert line_panels(answer("brokers", *cells), SIZE, "rate_per_s") == []


def test_idle_pairs_are_counted_with_the_busy_ones() -> None:
    cases = []
    for idle in (0, 999):
        sample: Sample = {"p50_us": 100.0 + idle}
        cases.append(CaseResult(f"p, {idle}", "p", {"size": 64, "pairs": 1, "idle_pairs": idle}, [sample]))
    (panel,) = line_panels(answer("round-trip", CellResult("", {}, cases)), IDLE, "p50_us")
    assert [(line.label, [point.x for point in line.points]) for line in panel.lines] == [("p", [1, 1000])]


def test_knob_that_was_left_alone_has_no_place_on_its_axis() -> None:
    works = [Work("streamer", mark=mark) for mark in (10, 1000)]
    works += [Work("streamer", engine={"spin_s": spin_s}) for spin_s in (0.0, 0.0001)]
    cells = [CellResult(f"{work}", {}, [rates(NATIVE, 1e6, work=work)]) for work in (Work("streamer"), *works)]
    question = answer("knobs", *cells)
    for axis, places in ((MARK, [10, 1000]), (SPIN, [0, pytest.approx(100)])):
        (panel,) = line_panels(question, axis, "rate_per_s")
        assert (panel.title, [[point.x for point in line.points] for line in panel.lines]) == ("", [places])


def test_bars_are_drawn_where_enough_brokers_are_compared() -> None:
    assert [len(panel.lines) for panel in bar_panels(peers_answer(), "rate_per_s", 3)] == [4]
    assert bar_panels(grid_answer(), "rate_per_s", 3) == []


def test_plots_are_written_for_the_data_that_is_there_and_no_other(tmp_path: Path) -> None:
    stale = tmp_path / "latest-grid-cpu-by-size.png"
    stale.touch()
    written = write_plots(run_of(grid_answer(), peers_answer()), tmp_path)
    assert {path.name for path in written} == {"latest-grid-rate-by-size.png", "latest-peers-peers.png"}
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in written)
    assert not stale.exists()


def test_run_without_matplotlib_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.axes", None)
    monkeypatch.delitem(sys.modules, "bench.plots.draw", raising=False)
    with pytest.raises(MatplotlibMissingError, match=r"pip install 'pollbroker\[bench\]'"):
        write_plots(run_of(grid_answer()), tmp_path)
