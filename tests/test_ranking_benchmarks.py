"""The benchmark of rankers: the rows that every library reads, what a result keeps, and the page made of it."""

import json
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from foretaste.errors import UnknownName
from foretaste.run import Run

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))  # the scripts there import each other by name
MODULES = ("click_data", "list_data", "lists_page", "ranking_measure", "ranking_page", "ranking_rows")
click_data, list_data, lists_page, ranking_measure, ranking_page, ranking_rows = (
    import_module(f"quality.{name}") for name in MODULES
)
frappe_clicks = import_module("frappe_clicks").frappe_clicks

TINY = {
    "study": "ranking",
    "name": "tiny",
    "title": "A tiny table",
    "models": {
        "dcnv2": {"settings": {"dim": 4, "hidden": [8], "batch_size": 64, "plan": {"epochs": 4}}},
        "other": {"by": "lightgbm", "settings": {"rounds": 3}},
    },
    "pairs": [["dcnv2", "other"]],
    "reach": {"dcnv2": 0.5},
}


def tiny_clicks() -> object:
    """A click comes where two codes agree; the last code of each column is not in train."""
    rng = np.random.default_rng(0)
    parts = {}
    for name, rows, codes in (("train", 600, 5), ("validation", 200, 5), ("test", 200, 6)):
        table = rng.integers(0, codes, (rows, 2))
        parts[name] = click_data.Part(table, (table[:, 0] == table[:, 1]).astype(np.int8), table[:, 0])
    return click_data.Clicks.of(("left", "right"), parts, ("Drawn by chance.",))


def test_codes_are_numbered_by_train():
    clicks = tiny_clicks()
    assert clicks.sizes == [6, 6]
    assert clicks.parts["train"].codes.min() == 1
    assert set(np.unique(clicks.parts["test"].codes)) == set(range(6))  # 0 stands for the code that is new
    examples, order = clicks._examples("test")
    part = clicks.parts["test"]
    names = examples.column("left").lists()
    assert [None if code == 0 else str(code) for code in part.codes[order, 0].tolist()] == names
    assert examples.labels["click"].tolist() == part.labels[order].tolist()
    arrays = clicks.arrays()
    assert arrays["train.codes"].shape == (600, 2)
    assert arrays["sizes"].tolist() == [6, 6]


def test_a_row_is_measured_and_told(tmp_path, monkeypatch):
    monkeypatch.setattr(ranking_measure, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(ranking_page, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(ranking_measure, "clicks_of", lambda name, folder, run: tiny_clicks())
    rows = ranking_rows.RankerRows(**TINY)
    for seed in (0, 1):
        run = Run(seed=seed, device="cpu", threads=1)
        path = ranking_measure.measured(rows, "dcnv2", run, tmp_path, tmp_path / f"work{seed}", "command")
        told = json.loads(path.read_text())
        assert told["metrics"]["auc"] > 0.6
        assert len(told["curve"]) == 4
        assert told["dataset"]["positives"]["train"] == int(tiny_clicks().parts["train"].labels.sum())
    other = {
        **told,
        "row": "other",
        "by": "lightgbm",
        "fingerprint": rows.fingerprint("other"),
        "curve": [0.6, 0.7, 0.65],
    }
    other["versions"] = {"lightgbm": "1.2.3"}
    for seed, value in ((0, 0.5), (1, 0.52)):
        other["metrics"] = {**told["metrics"], "auc": value}
        ranking_measure.place_of(rows, "other", seed).write_text(json.dumps({**other, "seed": seed}))
    page = ranking_page.section(rows, ranking_page._results(rows))
    assert "| `dcnv2` | 2 |" in page
    assert "| `other` | 2 | 0.51000 | 0.01414 |" in page
    assert "lightgbm 1.2.3" in page
    assert "`dcnv2` has +" in page and "AUC over `other`" in page and "(2 and 2 seeds)" in page
    assert "to reach an AUC of 0.5000" in page and "reached." in page
    for seed in (0, 1):
        other["metrics"] = {**told["metrics"], "auc": 0.5}
        ranking_measure.place_of(rows, "other", seed).write_text(json.dumps({**other, "seed": seed}))
    page = ranking_page.section(rows, ranking_page._results(rows))
    assert "AUC over `other`, which is the same with every seed; p " in page
    changed = ranking_rows.RankerRows(
        **{**TINY, "models": {"dcnv2": {"settings": {"dim": 8}}}, "pairs": [], "reach": {}}
    )
    assert "Not measured yet: `dcnv2`." in ranking_page.section(changed, ranking_page._results(changed))


def test_every_table_has_rows_that_can_be_read():
    for path in (BENCHMARKS / "quality" / "ranking").glob("*.yaml"):
        rows = ranking_rows.read_rows(path.stem)
        assert (path.stem in click_data.TABLES) == (rows.shop is None)
        for row, told in rows.models.items():
            assert told.by != "foretaste" or told.ranker()
            assert rows.fingerprint(row)
        assert {row for pair in rows.pairs for row in pair} <= {*rows.models, *rows.sums}
        assert {row for members in rows.sums.values() for row in members} <= set(rows.models)
        assert set(rows.reach) <= set(rows.models)
    with pytest.raises(UnknownName, match="frape"):
        ranking_rows.read_rows("frape")


@pytest.mark.data
def test_frappe_is_put_together_as_it_was(published):
    parts = frappe_clicks(published / "frappe")
    assert {name: len(labels) for name, (_, labels) in parts.items()} == {
        "train": 202_027, "validation": 57_722, "test": 28_860,
    }  # fmt: skip
    assert sum(int(labels.sum()) for _, labels in parts.values()) == 96_203
    codes, clicks = parts["train"]
    had = {tuple(pair) for part in parts.values() for pair in part[0][part[1] == 1][:, :2].tolist()}
    assert not any(tuple(pair) in had for pair in codes[clicks == 0][:, :2].tolist())
    assert max(int(part[0].max()) for part in parts.values()) == 5381


@pytest.mark.data
def test_people_held_out_are_in_one_part(published):
    clicks = click_data.clicks_of("frappe-users", published, Run(0))
    people = [set(clicks.parts[name].lists.tolist()) for name in click_data.PARTS]
    assert not people[0] & people[1] and not people[0] & people[2] and not people[1] & people[2]
    assert (clicks.parts["test"].codes[:, 0] == 0).all()


@pytest.mark.data
def test_ratings_are_split_by_time(published):
    clicks = click_data.clicks_of("ml-100k-time", published, Run(0))
    assert sum(len(part) for part in clicks.parts.values()) == 100_000
    assert 0.65 < len(clicks.parts["train"]) / 100_000 < 0.75
    assert clicks.columns[:2] == ("user", "item")
    assert (clicks.parts["train"].codes > 0).all()


def test_the_page_tells_what_is_fast_and_what_is_not():
    about = {
        "command": "python benchmarks/ranking_speed.py", "date": "2026-11-23T00:00:00", "threads": 1,
        "machine": {"cpu": "a processor"}, "versions": {"torch": "2", "numpy": "2", "commit": "abcdef0123"},
    }  # fmt: skip
    told = {"median": 100.0, "min": 90.0, "max": 110.0}
    ratio = {"median": 2.5, "min": 2.0, "max": 3.0}
    cases = {
        "frappe": {
            **about, **{key: {"foretaste": told, "fuxictr": told} for key in ("training", "answering")},
            "training_ratio": ratio, "answering_ratio": ratio, "reach": {"training": 2.0, "answering": 5.0},
            "floor": {"training": 2e6, "answering": 1e6, "flops_per_second": 4e8, "precision": "fp32"},
        },
        "candidates": {**about, "milliseconds": told, "candidates": 500, "queries": 60, "reach": 5.0},
        "features": {**about, "seconds": {"10": ratio, "40": ratio}, "growth": 1.3,
                     "reach": {"seconds": 60.0, "growth": 1.1}},
    }  # fmt: skip
    page = ranking_page.speed({"protocol": ["How."], "cases": cases})
    assert "| training | 100 (90, 110) | 100 (90, 110) | 2.50 (2.00, 3.00) | 2, reached |" in page
    assert "| answering | 100 (90, 110) | 100 (90, 110) | 2.50 (2.00, 3.00) | 5, missed |" in page
    assert "2.00 Mflop per row at 0 Gflop/s (fp32) would be 200 rows/s; foretaste is at 50%, fuxictr is at 50%" in page
    assert "500 candidates take 100.0 ms" in page and "5 ms, missed" in page
    assert "60 s, reached" in page and "1.1, missed" in page
    cases["frappe"] |= {"training": {"foretaste": told}, "training_ratio": None}
    assert "| training | 100 (90, 110) | – | – | 2 |" in ranking_page.speed({"protocol": [], "cases": cases})


SHOP = {
    "study": "ranking",
    "name": "tiny-shop",
    "title": "A tiny shop",
    "shop": {"users": 60, "items": 80, "events": 2000},
    "models": {
        row: {"settings": {"dim": 4, "hidden": [8], "batch_size": 256, "plan": {"epochs": 2}, **told}}
        for row, told in {"multi": {}, "one": {"tasks": {"click": {}}}, "two": {"tasks": {"purchase": {}}}}.items()
    },
    "sums": {"alone": ["one", "two"]},
    "pairs": [["multi", "alone"]],
}


def test_lists_of_a_shop_are_in_order_of_time_and_know_nothing_later():
    lists = list_data.lists_of(ranking_rows.RankerRows(**SHOP).shop, Run(0, "cpu", 1))
    about = lists.about()
    assert about["lists"]["train"] > about["lists"]["validation"] > about["lists"]["test"] > 10
    assert set(about["positives"]) == {"click", "addtocart", "purchase"}
    parts = [lists.examples(name) for name in click_data.PARTS]
    assert all((np.diff(part.request) >= 0).all() for part in parts)
    times = [part.requests["context now"].values for part in parts]
    assert times[0].max() < times[1].min() and times[1].max() < times[2].min()
    again = list_data.lists_of(ranking_rows.RankerRows(**SHOP).shop, Run(0, "cpu", 1)).about()
    assert again == about


def test_rankers_of_several_tasks_are_measured_and_told(tmp_path, monkeypatch):
    monkeypatch.setattr(ranking_measure, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(ranking_page, "RESULTS", tmp_path / "results")
    rows = ranking_rows.RankerRows(**SHOP)
    for seed in (0, 1):
        for row in rows.models:
            run = Run(seed=seed, device="cpu", threads=1)
            told = json.loads(ranking_measure.measured(rows, row, run, None, tmp_path / row, "command").read_text())
            assert set(told["metrics"]) == {"multi": {"click", "addtocart", "purchase"}, "one": {"click"},
                                            "two": {"purchase"}}[row]  # fmt: skip
    found = ranking_page._results(rows)
    clicks = lists_page.with_sums(rows, found)["alone"][1]["metrics"]["click"]
    assert clicks == found["one"][1]["metrics"]["click"]
    assert lists_page.auc_of(found["one"][0], "mean") is None
    page = ranking_page.section(rows, found)
    assert "| `multi` | 2 |" in page and "| `alone` | 2 |" in page
    assert "`multi` against `alone`, AUC: click " in page and "[" in page and "addtocart –; purchase" in page
    assert "says nothing" in page
