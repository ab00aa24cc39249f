"""Runs side by side, and the warnings where they must not be compared."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from foretaste.comparison import compare_runs
from foretaste.errors import BundleError, DataError, UnknownName


def board(folder: Path, means: dict[str, float | None], **protocol: Any) -> Path:
    folder.mkdir()
    models = [
        {"name": name, "settings": {}, "metrics": {"ndcg@10": {"mean": mean, "low": mean, "high": mean, "n": 9}}}
        for name, mean in means.items()
    ]
    models.append({"name": "absent", "settings": {}, "metrics": {}})
    content = {
        "dataset": {"fingerprint": protocol.pop("fingerprint", "f")},
        "protocol": {"digest": "d", "filter_seen": True, "exclude_kinds": [], "queries": 9, **protocol},
        "models": models,
    }
    (folder / "leaderboard.json").write_text(json.dumps(content))
    return folder


def test_rows_of_all_runs_stand_together_best_first(tmp_path: Path) -> None:
    first = board(tmp_path / "a", {"popular": 0.1, "ease": 0.3})
    second = board(tmp_path / "b", {"als": 0.2, "none": None})
    compared = compare_runs([first, second], ["ndcg@10"])
    assert [row["model"] for row in compared.rows] == ["ease", "als", "popular", "none"]
    assert compared.warnings == ()
    lines = compared.text().splitlines()
    assert lines[0].split() == ["run", "model", "ndcg@10"]
    assert lines[1].split() == [str(first), "ease", "0.3000", "[0.3000,", "0.3000]"]
    assert lines[-1].split() == [str(second), "none", "-"]
    assert compared.to_json()["rows"][0]["metrics"]["ndcg@10"]["mean"] == 0.3


@pytest.mark.parametrize(
    ("change", "warnings"),
    [
        ({"fingerprint": "g"}, ["different data"]),
        ({"digest": "e"}, ["split differently"]),
        ({"queries": 8}, ["judged differently"]),
        ({"filter_seen": False}, ["judged differently"]),
        ({"exclude_kinds": ["buy"]}, ["judged differently"]),
        ({"fingerprint": "g", "digest": "e", "queries": 8}, ["different data", "judged differently"]),
    ],
)
def test_what_forbids_to_compare_is_said(change: dict[str, Any], warnings: list[str], tmp_path: Path) -> None:
    compared = compare_runs(
        [board(tmp_path / "a", {"x": 0.1}), board(tmp_path / "b", {"x": 0.1}, **change)], ["ndcg@10"]
    )
    assert len(compared.warnings) == len(warnings)
    for said, wanted in zip(compared.warnings, warnings, strict=True):
        assert wanted in said
        assert f"warning: {said}" in compared.text()


def test_what_is_no_run_is_named(tmp_path: Path) -> None:
    run = board(tmp_path / "run", {"x": 0.1})
    with pytest.raises(DataError, match=r"There is no file or folder .*rnu - did you mean 'run'"):
        compare_runs([tmp_path / "rnu"], ["ndcg@10"])
    with pytest.raises(DataError, match=r"is no run directory: it holds no leaderboard\.json"):
        compare_runs([tmp_path], ["ndcg@10"])
    with pytest.raises(UnknownName, match="Unknown metric 'ndgc@10' - did you mean 'ndcg@10'"):
        compare_runs([run], ["ndgc@10"])
    (run / "leaderboard.json").write_text("[]")
    with pytest.raises(DataError, match="is not a leaderboard"):
        compare_runs([run], ["ndcg@10"])
    (run / "leaderboard.json").write_text("{")
    with pytest.raises(BundleError, match=r"leaderboard\.json cannot be read"):
        compare_runs([run], ["ndcg@10"])
    for content in (
        '{"dataset": {}, "protocol": {}, "models": [{}]}',
        '{"dataset": {}, "protocol": {}, "models": [{"name": "x", "settings": {}, "metrics": {"ndcg@10": {}}}]}',
        '{"dataset": [], "protocol": {}, "models": []}',
    ):
        (run / "leaderboard.json").write_text(content)
        with pytest.raises(DataError, match="is not a leaderboard as a run writes it"):
            compare_runs([run], ["ndcg@10"])


def test_samples_of_different_seeds_are_not_comparable(tmp_path: Path) -> None:
    runs = [board(tmp_path / str(seed), {"x": 0.1}, queries_sampled=True, seed=seed) for seed in (0, 1)]
    (warning,) = compare_runs(runs, ["ndcg@10"]).warnings
    assert "different samples of the queries" in warning
    assert compare_runs(runs[:1], ["ndcg@10"]).warnings == ()


def test_rows_of_runs_on_the_same_queries_are_tested_query_by_query(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    low = rng.random(400)
    first = board(tmp_path / "a", {"popular": 0.5})
    second = board(tmp_path / "b", {"ease": 0.6})
    pl.DataFrame({"popular ndcg@10": low}).write_parquet(first / "queries.parquet")
    pl.DataFrame({"ease ndcg@10": low + 0.1}).write_parquet(second / "queries.parquet")
    compared = compare_runs([first, second], ["ndcg@10"])
    (test,) = compared.tests
    assert (test["best"], test["other"]) == (f"{second} ease", f"{first} popular")
    assert test["difference"] == pytest.approx(0.1)
    assert test["p_holm"] < 0.001
    assert "+0.1000 ndcg@10, p < .001 (paired, Holm)" in compared.text()


def test_the_runs_say_by_what_they_are_sorted_where_no_metric_is_named(tmp_path: Path) -> None:
    assert compare_runs([board(tmp_path / "a", {"ease": 0.3}, primary_metric="ndcg@10")], []).metrics == ("ndcg@10",)
