"""The speed of retrieval models: sides in turns, the arithmetic of tables, every kind of case at a tiny size."""

import json
import sys
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path[:0] = [str(BENCHMARKS), str(BENCHMARKS / "peers")]  # the scripts there import each other by name
retrieval_speed = import_module("retrieval_speed")
tables = import_module("retrieval_speed_tables")
results, retrieval_page = import_module("quality.results"), import_module("quality.retrieval_page")
ours = import_module("foretaste_training")
Worker = import_module("turns").Worker

PEER = """
import json, sys
order = json.loads(sys.stdin.readline())
said = {"epoch": {"seconds": 4.0, "pairs": 512, "steps": order["steps"], "steps_of_epoch": 10},
        "about": {"peak_bytes": 2**20, "versions": {"recbole": "0"}, "settings": order["settings"]}}
for line in sys.stdin:
    print("@answer " + json.dumps(said[line.strip()]), flush=True)
"""
ABOUT = {"command": "python x", "date": "2026-01-01T00:00:00", "threads": 1, "machine": {"cpu": "a CPU", "cores": 2}}
ABOUT |= {"versions": {"commit": "0123456789ab", "torch": "2", "faiss-cpu": None}, "absent": {}}


def quick(tmp_path, case, *more):
    out = tmp_path / "speed.json"
    command = ["--quick", "--threads", "1", "--rounds", "1", "--only", case, "--out", str(out), *more]
    assert retrieval_speed.main(command) == 0
    return json.loads(out.read_text())


def row(pairs_per_second, pairs=1000.0, drawing=0.01):
    """What is kept of a side that trains so fast, in steps of 100 pairs, 10 of 20 of them."""
    step = {each: 100 / pairs_per_second for each in ("median", "min", "max")}
    return {
        "pairs": pairs,
        "steps": 10,
        "steps_of_epoch": 20,
        "pairs_per_second": dict.fromkeys(("median", "min", "max"), pairs_per_second),
        "step_seconds": step,
        "epoch_seconds": {each: 20 * seconds for each, seconds in step.items()},
        "shares": {"drawing": dict.fromkeys(("median", "min", "max"), drawing)},
    }


def shown(case):
    return tables.markdown({"protocol": ["Honestly."], "cases": {"a case": {**ABOUT, **case}}})


# Training


def test_both_sides_take_as_many_steps_in_turns(tmp_path, monkeypatch, capsys):
    peer, asked, real = tmp_path / "peer.py", [], Worker.ask
    peer.write_text(PEER)
    monkeypatch.setattr(retrieval_speed, "THEIRS", peer)
    monkeypatch.setattr(Worker, "ask", lambda self, what: asked.append((self._name, what)) or real(self, what))
    content = quick(tmp_path, "lightgcn gowalla 2048", "--recbole", sys.executable)
    assert [name for name, what in asked if what == "epoch"] == ["foretaste_training.py", "peer.py"] * 2
    case = content["cases"]["lightgcn gowalla 2048"]
    epochs = case["raw"]["epochs"]
    steps = retrieval_speed.QUICK_STEPS
    assert [each["pairs"] for each in epochs["foretaste"]] == [steps * 256] * 2
    assert {each["steps"] for side in epochs.values() for each in side} == {steps}
    measured = epochs["foretaste"][1]
    assert case["ratio"]["rounds"] == [pytest.approx((4 / 512) / (measured["seconds"] / measured["pairs"]))]
    assert 0 < measured["drawing"] < measured["seconds"] and measured["shuffling"] < measured["seconds"]
    assert case["training"]["recbole"]["epoch_seconds"]["median"] == 4.0 / steps * 10, "of the whole epoch"
    assert case["about"]["foretaste"]["settings"]["loss"] == "bpr"
    assert case["about"]["recbole"]["settings"] == {"embedding_size": 8, "n_layers": 3, "train_batch_size": 256}
    assert case["floor"]["sparse_seconds_per_step"] > 0 and case["floor"]["torch_sparse_seconds_per_step"] > 0
    assert "times as fast as RecBole's" in capsys.readouterr().out
    monkeypatch.setattr(retrieval_page, "SPEED", tmp_path / "speed.json")
    monkeypatch.setattr(results, "RESULTS", tmp_path / "none")
    page = retrieval_page.content()
    assert "## Speed" in page and "### lightgcn gowalla 2048" in page


def test_a_model_alone_is_held_against_its_floor(tmp_path):
    content = quick(tmp_path, "twotower gowalla 1024")
    case = content["cases"]["twotower gowalla 1024"]
    floor = case["floor"]
    # Two sides of 8 numbers, forward and twice back, against at least half of 60 items, which the pairs share.
    assert floor["flops_per_pair"] > 3 * 2 * 8 * 30
    assert 0 < floor["gathered_bytes_per_pair"] < floor["bytes_per_pair"]
    assert floor["optimizer_bytes_per_pair"] == 7 * 4 * case["about"]["foretaste"]["parameters"] / 256
    assert "To reach: 300,000 interactions/s, missed by" in tables.markdown(content)


@dataclass(frozen=True)
class Counted:
    """A case that finds how often it was measured."""

    name: str
    found: list

    def measured(self, given):
        self.found.append(given.rounds)
        training = {"foretaste": row(len(self.found))}
        floor = {"sparse_seconds_per_step": 1.0, "torch_sparse_seconds_per_step": 1.0}
        goals = {"reach": None, "least_pairs_per_second": None, "ratio": None, "absent": {"recbole": "away"}}
        about = {"foretaste": {"peak_bytes": 0}}
        return {"kind": "training", **goals, "training": training, "floor": floor, "about": about}


def test_a_case_measured_again_takes_the_place_of_the_old_one(tmp_path, monkeypatch):
    monkeypatch.setattr(retrieval_speed, "CASES", (Counted("one", []), Counted("other", [])))
    first = quick(tmp_path, "one")["cases"]
    both = quick(tmp_path, "other")["cases"]
    assert both["one"] == first["one"]
    again = quick(tmp_path, "one")
    assert again["cases"]["other"] == both["other"]
    assert again["cases"]["one"]["training"] == {"foretaste": row(2)}
    assert (
        again["cases"]["one"]["command"]
        == "python benchmarks/retrieval_speed.py --quick --threads 1 --rounds 1 --only one"
    )
    assert "recbole: away." in tables.markdown(again)


def test_what_is_trained_is_told_beside_what_it_is_to_reach():
    ratio = {"median": 2.4, "min": 2.0, "max": 2.5, "rounds": [2.0, 2.4, 2.5]}
    about = {"peak_bytes": 2**21, "versions": {"recbole": "1.2.1", "torch": "2"}}
    floor = {"sparse_seconds_per_step": 0.5, "torch_sparse_seconds_per_step": 1.5}
    case = {"kind": "training", "ratio": ratio, "reach": 3.0, "least_pairs_per_second": None, "floor": floor}
    training = {"foretaste": row(100, drawing=0.06), "recbole": row(50)}
    text = shown({**case, "about": {"foretaste": about, "recbole": about}, "training": training})
    assert "`python x`, 2026-01-01, a CPU, 2 cores, threads 1.\ntorch 2, `0123456`." in text
    assert "| foretaste | 100 | 100 | 100 | 1,000.0 | 20.0 | 2 | 10 of 20 |" in text
    assert "to reach: 3, missed by 20.0%. There: recbole 1.2.1, torch 2." in text
    assert "takes 6.00% of the epoch (6.00% to 6.00%); to reach: at most 5%, missed by 20.0%." in text
    assert "500.0 ms of a step, 10.0 s of an epoch; ours takes 2.00 times as long." in text
    assert "Torch's own sparse products would take 3.00 times as long as these." in text


def test_the_floor_of_products_and_of_memory_adds_up():
    floor = {"flops_per_pair": 1e6, "flops_per_second": 1e9, "bytes_per_second": 1e9, "precision": "fp32"}
    floor |= {"gathered_bytes_per_pair": 2e5, "optimizer_bytes_per_pair": 8e5, "bytes_per_pair": 4e6}
    case = {"kind": "training", "ratio": None, "reach": None, "least_pairs_per_second": 80.0, "floor": floor}
    text = shown({**case, "about": {"foretaste": {"peak_bytes": 0}}, "training": {"foretaste": row(100)}})
    assert "1.00 Mflop per pair at 1 Gflop/s (fp32) would be 1,000 pairs/s; 200.0 kB of histories and 800.0 kB" in text
    assert "would be 1,000 pairs/s; one after the other 500 pairs/s, of which ours reaches 20%." in text
    assert "move 4,000 kB per pair, which would be 250 pairs/s." in text
    assert "To reach: 80 interactions/s, reached." in text


def test_the_first_batches_of_an_epoch_are_no_more_than_there_are():
    assert list(ours.FirstBatches([1, 2, 3], 2)) == [1, 2]
    assert list(ours.FirstBatches([1, 2, 3], None)) == list(ours.FirstBatches([1, 2, 3], 9)) == [1, 2, 3]


# The other kinds


def test_growing_is_told_per_edge_and_memory_by_what_learning_adds(tmp_path, monkeypatch):
    user, item = retrieval_speed.simulated_edges(400, 60, 40)
    assert len(np.unique(user * 40 + item)) == len(user) == 400
    (case,) = (each for each in retrieval_speed.CASES if each.name == "graphsage edges")
    monkeypatch.setattr(retrieval_speed, "CASES", (replace(case, times=(1, 2)),))
    content = quick(tmp_path, "graphsage edges")["cases"]["graphsage edges"]
    assert [each["pairs"] for each in content["training"].values()] == [200, 400]
    assert all(each["peak_bytes"] >= each["resident_bytes"] > 0 for each in content["about"].values())
    training = {"1x": row(100, 1000.0), "4x": row(80, 4000.0)}
    memory = {who: {"resident_bytes": 2**20 * base, "peak_bytes": 2**20 * peak} for who, base, peak in MEMORY}
    text = shown({"kind": "growth", "training": training, "about": memory})
    assert "| 1,000 (1x) | 20.00 | 20.00 | 20.00 | 10,000.0 | 10 | 110 | 100 |" in text
    assert (
        "4 times the edges take 1.25 times as long per edge; to reach: at most 1.1 (linear), missed by 13.6%." in text
    )
    assert "The peak grows by 15 MB, 5,243 bytes per added edge;" in text
    assert "is 1.05 times as much; to reach: at most 1.1, reached." in text


MEMORY = (("1x", 10, 110), ("4x", 20, 125))


def test_an_index_is_held_against_the_faster_exact_search(tmp_path):
    case = quick(tmp_path, "index million")["cases"]["index million"]
    rows, built = case["raw"], case["build"]
    assert built["kind"] == "hnsw" and built["indexed"] <= 300 and case["about"]["queries"] == 40
    assert case["ratio"]["rounds"] == [each["index"] / max(each["flat"], each["products"]) for each in rows]
    assert 0.9 < case["about"]["recall"] <= 1
    about = {**case["about"], "recall": 0.98}
    text = shown({**case, "about": about, "ratio": {"median": 15.0, "min": 14.0, "max": 16.0, "rounds": [15.0]}})
    assert "recall@10 of the index is 0.9800; to reach: 0.98, reached." in text
    assert "(median of 1, 14.0 to 16.0); to reach: 20, missed by 25.0%." in text
    assert f"{built['indexed']:,} items are in the index" in text and "| index |" in text


@pytest.mark.slow
def test_texts_are_encoded_once_and_found_by_later_fits(tmp_path):
    case = quick(tmp_path, "sberttwotower ml-100k")["cases"]["sberttwotower ml-100k"]
    assert case["first"]["distinct_texts"] == case["first"]["encoded_texts"] == 4, "of six, two alike and one empty"
    assert [each["encoded_texts"] for each in case["later"]] == [0]


def test_whether_texts_were_encoded_once_is_told():
    once = {"seconds": [{"texts_ready": 9.0, "learning_begins": 10.0}] * 2, "distinct_texts": 3, "encoded_texts": 3}
    later = {"seconds": [{"texts_ready": 0.5, "learning_begins": 2.0}, {"texts_ready": 1.2, "learning_begins": 1.3}]}
    later |= {"distinct_texts": 3, "encoded_texts": 0, "most_often_encoded": 0}
    case = {"kind": "texts", "most_seconds": 1.0, "first": {**once, "most_often_encoded": 1}, "later": [later] * 3}
    text = shown(case)
    assert (
        "| new process | 0.50 | 0.50 | 2.00 | 2.00 |" in text
        and "| empty cache | 9.00 | 9.00 | 10.00 | 10.00 |" in text
    )
    assert "to reach: each once and never again, reached." in text
    assert "after 0.50 s (new process); to reach: 1 s, reached." in text
    assert "after 1.20 s (same process); to reach: 1 s, missed by 20.0%." in text
    twice = {**case, "later": [{**later, "encoded_texts": 1}]}
    assert "to reach: each once and never again, missed." in shown(twice)
