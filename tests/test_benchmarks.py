"""Each benchmark runs in its small form, alone and without peers, and leaves a result that can be read."""

import json
import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import run_benchmarks

    return run_benchmarks


def quick(runner: ModuleType, name: str, out: Path) -> dict[str, Any]:
    assert runner.main(["--quick", "--only", name, "--out", str(out)]) == 0
    return json.loads((out / f"{name}.json").read_text(encoding="utf-8"))


def test_a_result_says_what_was_measured_where_and_how_and_without_a_peer_stands_alone(
    runner: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = quick(runner, "evaluation_speed", tmp_path)
    assert result["benchmark"] == "evaluation_speed"
    assert result["quick"] is True
    assert result["command"] == "python benchmarks/run_benchmarks.py --only evaluation_speed --quick"
    assert result["machine"]["cores"] >= 1
    assert result["versions"]["numpy"] == np.__version__
    assert re.fullmatch(r"[0-9a-f]{12}(-dirty)?", result["versions"]["commit"] or "0" * 12)
    assert all(sentence.endswith(".") for sentence in result["protocol"])
    assert "quick: 300 queries, 500 items" in capsys.readouterr().out
    assert result["results"]["peer"]["absent"] == "not asked for by --quick"
    (case,) = result["results"]["cases"]
    assert set(case["seconds"]) == {"foretaste"}
    assert len(case["raw"]["foretaste"][0]["seconds"]["lists"]) == 2
    assert "ratios" not in case


def test_scale_measures_every_stage_at_every_size(
    runner: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["measuring"], "WORK", tmp_path / "work")
    monkeypatch.setattr(runner.BENCHMARKS["scale"], "QUICK_SIZES", (2_000, 6_000))
    monkeypatch.setattr(runner.BENCHMARKS["scale"], "BOUND", 4 * 2**30)
    results = quick(runner, "scale", tmp_path)["results"]
    first, second = results["runs"]
    assert [first["events"], second["events"]] == [first["rows_read"], second["rows_read"]] == [2_000, 6_000]
    stages = ["read_events", "save", "open", "split by_time", "split leave_one_out", "fit Popular", "fit ItemKNN"]
    assert [stage["stage"] for stage in second["stages"]] == stages
    assert all(stage["rows_per_second"] > 0 and stage["peak_bytes"] > 0 for stage in second["stages"])
    assert first["csv"]["rows_per_second"] > 0
    assert set(second["growth"]) == {"seconds_per_added_million", "bytes_per_added_row"}
    assert results["within_bound"] is True
    assert list((tmp_path / "work").iterdir()) == []


def test_slow_computation_agrees_with_the_evaluation(
    runner: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FORETASTE_DATA", raising=False)
    (split,) = quick(runner, "reference", tmp_path)["results"]["splits"].values()
    for model, check in split["cross_check"].items():
        assert check["different_ranks"] == 0
        assert check["means"]["ndcg@10"] == pytest.approx(split["models"][model]["ndcg@10"], abs=1e-12)


def test_what_was_not_held_is_told_by_the_exit_code(
    runner: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = SimpleNamespace(PROTOCOL=("Nothing.",), measure=lambda quick: {"held": False}, tables=str)
    monkeypatch.setattr(runner, "BENCHMARKS", {"failing": failing})
    assert runner.main(["--quick", "--out", str(tmp_path)]) == 1
    assert json.loads((tmp_path / "failing.json").read_text())["results"] == {"held": False}


def test_a_peer_that_cannot_be_installed_says_why(
    runner: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measuring = sys.modules["measuring"]
    refusal = SimpleNamespace(returncode=1, stderr="ERROR: No matching distribution found for nothing==9")
    monkeypatch.setattr(measuring, "VENVS", tmp_path)
    monkeypatch.setattr(measuring, "HERE", tmp_path / "benchmarks")
    monkeypatch.setattr(measuring.venv, "create", lambda folder, with_pip: None)
    monkeypatch.setattr(measuring.subprocess, "run", lambda *command, **settings: refusal)
    with pytest.raises(measuring.PeerAbsent, match=r"could not install nothing==9: ERROR: No matching distribution"):
        measuring.Peer("nothing", ("nothing==9",)).python()


def test_the_page_of_results_is_what_the_kept_leaderboards_give(runner: ModuleType) -> None:
    import tables

    assert tables.PAGE.read_text(encoding="utf-8") == tables.page(), "run python benchmarks/tables.py"


def test_the_page_says_where_a_recipe_has_moved_on_since_it_was_measured(runner: ModuleType) -> None:
    import tables

    board = json.loads((tables.KEPT / "ml-100k.json").read_text(encoding="utf-8"))
    assert list(tables.since("ml-100k", board)) == []
    rows = {row["name"]: row for row in board["models"]}
    rows["ease"]["settings"]["l2"] += 1
    board["models"].remove(rows["als"])
    assert list(tables.since("ml-100k", board)) == [
        "`ease` has other settings in the recipe today than when this was measured.",
        "`als` is in the recipe today, and was not when this was measured.",
    ]
    assert tables.holds({"plan": {"lr": 1, "average": None}}, {"plan": {"lr": 1}}), "a setting that is new says nothing"
    assert not tables.holds({"plan": {"lr": 1}}, {"plan": {"lr": 2}})
    assert tables.holds({"examples": None}, {"examples": "shown"}), "the fit chose it"
    assert not tables.holds({"examples": "both"}, {"examples": "shown"})
