"""The benchmarks of sequence models: what a result keeps, what tables make of it, searching, measuring in turns."""

import json
import sys
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretaste.dataset import Dataset
from foretaste.errors import ConfigError, UnknownName
from foretaste.evaluation import Trial
from foretaste.evaluation.intervals import holm, paired_test
from foretaste.experiment import load_data, split_data
from foretaste.query import Holdout, Queries
from foretaste.ragged import Ragged
from foretaste.run import Run
from foretaste.split import leave_one_out
from foretaste.split.by_item import ColdItems
from foretaste.vocab import Vocab

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))  # the scripts there import each other by name
sequence_quality = import_module("sequence_quality")
retrieval_quality = import_module("retrieval_quality")
quality_search = import_module("quality_search")
sequence_speed = import_module("sequence_speed")
sequence_speed_tables = import_module("sequence_speed_tables")
command, measure, page, results, rows, sequences_page, standings = (
    import_module(f"quality.{name}")
    for name in ("command", "measure", "page", "results", "rows", "sequences_page", "standings")
)
Worker = import_module("turns").Worker
ours = import_module("peers.foretaste_sequences")

TINY = """
title: A tiny shop
data: {shop: {users: 40, items: 64, events: 600, categories: 4}}
split: {kind: leave_one_out}
evaluation: {k: [1, 10]}
headline: [hit@10, ndcg@10]
models:
  popular: {}
  sasrec: {dim: 8, length: 10, layers: 1, plan: {epochs: 4, patience: 3}}
reach:
  best: {at_least: {ndcg@10: 2.0}}
search:
  sasrec:
    dropout: [0.1, 0.3]
    plan.lr: {low: 0.001, high: 0.01, log: true}
"""


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """A data set of rows in a folder of its own, where results and work go too."""
    (tmp_path / "rows" / "sequences").mkdir(parents=True)
    (tmp_path / "rows" / "sequences" / "tiny.yaml").write_text(TINY)
    monkeypatch.setattr(rows, "ROWS", tmp_path / "rows")
    monkeypatch.setattr(results, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(page, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(sequences_page, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(command, "WORK", tmp_path / "work")
    monkeypatch.setattr(quality_search, "OUT", tmp_path / "searches")
    monkeypatch.setattr(sequences_page, "SPEED", tmp_path / "sequence_speed.json")
    return rows.read_rows("tiny")


def run_of(row, *more):
    assert command.main(sequence_quality.STUDY, ["run", row, "tiny", *more]) == 0
    seed = int(more[more.index("--seed") + 1]) if "--seed" in more else 0
    return results.read_result(results.place_of(rows.read_rows("tiny"), row, seed))


# Rows


@pytest.mark.parametrize(
    ("study", "name"), [(study, name) for study in (rows.SEQUENCES, rows.RETRIEVAL) for name in rows.names(study)]
)
def test_the_rows_of_every_data_set_can_be_read_and_what_they_are_to_reach_is_in_the_table(study, name):
    found = rows.read_rows(name, study)
    assert found.name == name
    assert set(found.search) <= set(found.recipe.models)
    for reach in found.reach.values():
        assert set(reach.at_least) <= {*found.headline, found.ranked_by}


def test_the_fingerprint_follows_what_the_numbers_depend_on(tiny):
    same = tiny.changed("sasrec", {"layers": 1, "loss": None})
    assert same.fingerprint("sasrec") == tiny.fingerprint("sasrec"), "defaults that are spelt out change nothing"
    assert tiny.changed("sasrec", {"plan.lr": 0.01}).fingerprint("sasrec") != tiny.fingerprint("sasrec")
    other = tiny.recipe.model_copy(update={"split": tiny.recipe.split.model_copy(update={"min_history": 3})})
    assert tiny.model_copy(update={"recipe": other}).fingerprint("sasrec") != tiny.fingerprint("sasrec")


def test_what_is_misspelt_in_the_rows_is_named(tiny):
    with pytest.raises(UnknownName, match="Unknown row 'sasrc' - did you mean 'sasrec'"):
        tiny.settings("sasrc")
    with pytest.raises(UnknownName, match="Unknown data set 'tniy' - did you mean 'tiny'"):
        rows.read_rows("tniy")
    (rows.ROWS / "sequences" / "tiny.yaml").write_text(TINY.replace("dim: 8", "dmi: 8"))
    with pytest.raises(ConfigError, match=r"models\.sasrec: unknown key 'dmi'"):
        rows.read_rows("tiny")


# A result


def test_a_run_leaves_one_small_file_from_which_its_numbers_can_be_made_again(tiny, capsys):
    result = run_of("sasrec", "--seed", "3", "--data-dir", str(BENCHMARKS))
    content = result.content
    assert (content["row"], content["data"], content["seed"]) == ("sasrec", "tiny", 3)
    assert content["command"] == "python benchmarks/sequence_quality.py run sasrec tiny --seed 3", "places are left out"
    assert content["fingerprint"] == tiny.fingerprint("sasrec")
    assert content["settings"]["dim"] == 8
    training = content["training"]
    assert 1 <= training["best_epoch"] <= training["epochs"] == len(content["curve"]["validation"]) <= 4
    assert training["best_score"] == pytest.approx(max(content["curve"]["validation"]), rel=1e-5)
    assert training["fit_seconds"] > 0 and training["events_per_second"] > 0 and training["processes"] == 1
    assert content["protocol"]["sentences"] and content["machine"]["threads"] >= 1
    for metric in ("ndcg@10", "hit@1", "mrr@10", "recall@10"):
        assert result.per_query(metric).mean() == pytest.approx(content["metrics"][metric]["mean"], abs=1e-5), metric
    assert result.per_query("novelty@10") is None
    assert result.path.stat().st_size < 20_000
    assert str(result.path) in capsys.readouterr().out
    work = command.WORK / "sequences" / "tiny" / "sasrec-seed3"
    assert {each.name for each in work.iterdir()} == {"log.jsonl", "model"}


def test_a_killed_run_goes_on_to_the_same_numbers_and_counts_all_its_seconds(tiny, monkeypatch):
    whole = run_of("sasrec").content
    results.place_of(tiny, "sasrec", 0).unlink()
    real = measure.Spent.log

    def killed(self, message, numbers=None):
        real(self, message, numbers)
        if numbers and numbers.get("epoch") == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(measure.Spent, "log", killed)
        with pytest.raises(KeyboardInterrupt):
            command.main(sequence_quality.STUDY, ["run", "sasrec", "tiny"])
    work = command.WORK / "sequences" / "tiny" / "sasrec-seed0"
    (before,) = [json.loads((work / "spent.json").read_text())]
    resumed = run_of("sasrec", "--resume").content
    assert resumed["metrics"] == whole["metrics"]
    assert resumed["per_query"] == whole["per_query"]
    assert resumed["curve"]["loss"] == whole["curve"]["loss"]
    assert resumed["training"]["processes"] == 2
    assert resumed["training"]["fit_seconds"] > before["fit_seconds"]
    stamp = results.place_of(tiny, "sasrec", 0).stat().st_mtime_ns
    run_of("sasrec", "--resume")
    assert results.place_of(tiny, "sasrec", 0).stat().st_mtime_ns == stamp, "what is there is not done again"


def test_a_wrong_row_is_an_error_of_one_line_and_leaves_nothing(tiny, capsys):
    assert command.main(sequence_quality.STUDY, ["run", "sasrc", "tiny"]) == 1
    assert capsys.readouterr().err.startswith("error: Unknown row 'sasrc'")
    assert not command.WORK.exists()


@given(st.lists(st.integers(0, 65_535), max_size=50))
def test_numbers_survive_being_kept(values):
    assert results.decoded(results.encoded(np.array(values, np.int64))).tolist() == values


def test_numbers_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="these are 1 to 65536"):
        results.encoded(np.array([1, 65_536]))


def answers(targets, users=None, unknown=None):
    """A trial over 6 items, and the entry of a model that always lists items 0, 1, 2 ..."""
    count = len(targets)
    user = None if users is None else np.array(users, np.int32)
    queries = Queries(Ragged.from_lists([[5]] * count), user=user)
    holdout = Holdout(queries, Ragged.from_lists(targets), unknown=unknown, filter_seen=False)

    class Fixed:
        items = range(6)

        def recommend(self, queries, k, **how):
            width = min(k, 6)
            shape = (len(queries), width)
            lists = np.broadcast_to(np.arange(width, dtype=np.int32), shape)
            scores = np.broadcast_to(-np.arange(width, dtype=np.float32), shape)
            return SimpleNamespace(items=lists, scores=scores, source=np.zeros(shape, np.int8), sources=("fixed",))

    trial = Trial.of(holdout, k=(2, 10))
    return trial, trial.entry("fixed", Fixed())


def kept(*given, ranked_by="ndcg@10", **more):
    trial, entry = answers(*given, **more)
    content = json.loads(json.dumps({"per_query": results.kept_of_queries(entry, trial, ranked_by)}))
    return entry, results.Result(Path("result.json"), content)


def test_of_a_single_target_the_rank_is_kept_and_zero_is_farther():
    entry, result = kept([[0], [4], [2]])
    assert result.content["per_query"]["what"] == "rank"
    assert results.decoded(result.content["per_query"]["values"]).tolist() == [1, 5, 3]
    for metric in ("hit@2", "ndcg@10", "mrr@10"):
        assert result.per_query(metric).tolist() == pytest.approx(entry.per_query[metric].tolist())
    assert result.per_query("hit@20") is None, "ranks beyond the largest k are not known"
    assert result.sizes is None
    with_unknown = kept([[0], []], unknown=np.array([0, 1], np.int32))[1]
    assert results.decoded(with_unknown.content["per_query"]["values"]).tolist() == [1, 0]


@pytest.mark.parametrize("metric", ["ndcg@10", "recall@2"])
def test_of_several_targets_the_metric_that_ranks_the_rows_is_kept(metric):
    entry, result = kept([[0, 4], [3], [1, 2, 5]], ranked_by=metric)
    assert result.content["per_query"]["what"] == metric
    assert result.per_query(metric) == pytest.approx(entry.per_query[metric], abs=1 / 65_535)
    assert result.per_query("hit@10") is None
    with pytest.raises(ValueError, match=r"recall@20 is kept, so k must hold its k; it is \(2, 10\)"):
        kept([[0, 4], [3]], ranked_by="recall@20")


def test_how_often_each_user_asks_is_kept_where_somebody_asks_twice():
    assert kept([[0], [1], [2], [3]], users=[7, 7, 2, 9])[1].sizes.tolist() == [2, 1, 1]
    assert kept([[0], [1]], users=[7, 2])[1].sizes is None


# Tables


def test_users_who_ask_once_are_their_queries():
    values = np.array([0.0, 1.0, 0.5])
    assert standings.of_users(values, None) is values
    assert standings.of_users(values, np.ones(3, int)).tolist() == pytest.approx(values.tolist())


def test_the_interval_of_users_with_many_queries_is_that_of_resampled_users():
    rng = np.random.default_rng(5)
    sizes = rng.integers(1, 30, 120)
    own = rng.random(120)  # how easy a user is, so that the queries of one are alike
    values = (rng.random(sizes.sum()) < np.repeat(own, sizes)).astype(float)
    spread = standings.of_users(values, sizes)
    assert spread.mean() == pytest.approx(values.mean())
    sums = np.add.reduceat(values, np.cumsum(sizes) - sizes)
    drawn = rng.integers(0, 120, (4000, 120))
    means = sums[drawn].sum(1) / sizes[drawn].sum(1)
    assert spread.std() / np.sqrt(120) == pytest.approx(means.std(), rel=0.06)
    assert values.std() / np.sqrt(len(values)) < 0.6 * means.std(), "queries by themselves would look far too sure"


def result_of(
    row,
    seed,
    values,
    *,
    sizes=None,
    digest="d",
    fingerprint="f",
    data="tiny",
    rmse=None,
    commit=None,
    strangers=None,
    study="sequences",
    **training,
):
    """A written result with these ranks, and of strangers those of so many events."""

    def kept(ranks):
        return {
            "what": "rank",
            "within": 10,
            "queries": len(ranks),
            "queries_of_users": None if sizes is None else results.encoded(np.array(sizes)),
            "values": results.encoded(np.array(ranks)),
        }

    content = {
        "row": row,
        "data": data,
        "seed": seed,
        "fingerprint": fingerprint,
        "protocol": {"digest": digest, "queries": len(values), "sentences": ["Split somehow."], "leaks": []},
        "dataset": {"fingerprint": "abc", "counts": {"events": 600}},
        "machine": {"cpu": "a processor", "device": "cpu", "threads": 1},
        "precision": "bf16",
        "versions": {"commit": commit},
        "parameters": 100,
        "training": {"fit_seconds": 60.0, **training},
        "metrics": {},
        "rating_rmse": rmse,
        "per_query": kept(values),
        "strangers": {shown: {"metrics": {}, "per_query": kept(ranks)} for shown, ranks in (strangers or {}).items()},
    }
    path = results.place_of(rows.read_rows(data, study), row, seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def gain(rank):
    return 1 / np.log2(rank + 1) if rank else 0.0


def test_rows_are_ranked_by_the_mean_over_their_seeds_and_compared_user_by_user(tiny):
    rng = np.random.default_rng(0)
    good, bad = ([rng.integers(0, most, 200) for _ in range(2)] for most in (4, 11))
    for seed in (0, 1):
        result_of("sasrec", seed, good[seed])
        result_of("popular", seed, bad[seed])
    found = results.read_results(tiny)
    ranked = standings.standings(tiny, found)
    assert [each.row for each in ranked] == ["sasrec", "popular"]
    ours, theirs = (np.mean([[gain(rank) for rank in seed] for seed in both], axis=0) for both in (good, bad))
    assert ranked[0].mean == pytest.approx(ours.mean())
    assert ranked[0].metrics["hit@10"].mean == pytest.approx(np.mean([(each > 0).mean() for each in good]))
    assert ranked[0].metrics["ndcg@10"].low < ours.mean() < ranked[0].metrics["ndcg@10"].high
    means = [np.mean([gain(rank) for rank in seed]) for seed in good]
    assert ranked[0].spread == pytest.approx(np.std(means, ddof=1))
    (pair,) = standings.pairs(tiny, ranked)
    assert (pair.ahead, pair.behind) == ("sasrec", "popular")
    assert pair.difference == pytest.approx((ours - theirs).mean())
    assert pair.p_holm == pair.p == pytest.approx(float(paired_test((ours - theirs)[:, None])[0]))


def test_named_pairs_are_corrected_together_with_that_of_the_best(tiny):
    rng = np.random.default_rng(1)
    for row, least, most in (("sasrec", 0, 3), ("popular", 4, 11), ("other", 0, 8)):
        result_of(row, 0, rng.integers(least, most, 150))
    named = tiny.model_copy(update={"pairs": (("popular", "other"), ("popular", "absent"))})
    found = standings.pairs(named, standings.standings(named, results.read_results(tiny)))
    assert [(each.ahead, each.behind) for each in found] == [("sasrec", "other"), ("other", "popular")]
    assert [each.p_holm for each in found] == holm(np.array([each.p for each in found])).tolist()


def test_claims_are_held_against_what_is_measured(tiny):
    rng = np.random.default_rng(2)
    result_of("sasrec", 0, rng.integers(1, 4, 300))
    result_of("popular", 0, rng.integers(0, 11, 300))
    of = {"row": "sasrec", "over": "popular"}
    claims = [
        rows.Claim(words="more", metric="ndcg@10", gain=0.1, **of),
        rows.Claim(words="far more", metric="ndcg@10", gain=5.0, **of),
        rows.Claim(words="hits", metric="hit@10", gain=0.1, **of),
        rows.Claim(words="of a row that is not measured", row="ease", over="popular", metric="ndcg@10", gain=0.1),
        rows.Claim(words="of a metric that is not kept", metric="hit@50", gain=0.1, **of),
    ]
    claiming = tiny.model_copy(update={"claims": tuple(claims)})
    ranked = standings.standings(claiming, results.read_results(tiny))
    found = standings.gains(claiming, ranked)
    assert [(each.claim.words, each.verdict) for each in found] == [
        ("more", "holds"),
        ("far more", "does not hold here"),
        ("hits", "undecided"),
    ]
    ours, theirs = (each.results[0].per_query("ndcg@10") for each in ranked)
    assert found[0].share == pytest.approx(ours.mean() / theirs.mean() - 1)
    drawn = rng.integers(0, 300, (4000, 300))
    ratios = ours[drawn].mean(1) / theirs[drawn].mean(1) - 1
    assert [found[0].low, found[0].high] == pytest.approx(np.quantile(ratios, [0.025, 0.975]), rel=0.05)
    assert "| far more | `sasrec` over `popular`, ndcg@10 | +" in "\n".join(page.claimed(found))


def test_strangers_are_asked_without_a_name_after_their_latest_events(tiny, monkeypatch):
    (rows.ROWS / "sequences" / "tiny.yaml").write_text(TINY + "strangers: [1, 3]\n")
    asked = []
    recommend = measure.Model.recommend

    def noted(model, queries, *others, **more):
        asked.append(queries)
        return recommend(model, queries, *others, **more)

    monkeypatch.setattr(measure.Model, "recommend", noted)
    result = run_of("popular")
    known, *unknown = asked[-3:]
    assert known.user is not None and known.history.lengths.max() > 3
    for shown, queries in zip((1, 3), unknown, strict=True):
        assert queries.user is None and queries.user_features is None
        assert queries.history.lists() == [history[-shown:] for history in known.history.lists()]
        found = result.after(shown)
        assert found.per_query("ndcg@10").mean() == pytest.approx(found.content["metrics"]["ndcg@10"]["mean"], abs=1e-5)
    assert result.after(2) is None


def test_what_strangers_get_stands_in_a_table_of_its_own_with_its_claims(tiny):
    few = {"words": "far more for strangers", "row": "sasrec", "over": "popular", "metric": "ndcg@10", "gain": 0.5}
    claim = json.dumps({**few, "strangers": 2})
    (rows.ROWS / "sequences" / "tiny.yaml").write_text(TINY + f"strangers: [1, 2]\nclaims: [{claim}]\n")
    rng = np.random.default_rng(3)
    for row, ranks in (("sasrec", [2] * 200), ("popular", rng.integers(0, 11, 200)), ("other", [1] * 200)):
        result_of(row, 0, [5] * 200, strangers=None if row == "other" else {"1": rng.integers(0, 11, 200), "2": ranks})
    text = sequences_page.content()
    assert "| far more for strangers | `sasrec` over `popular`, ndcg@10, strangers after 2 | +" in text
    assert "| `sasrec` | " in text.split("asked without a name")[1]
    assert "- After 2: above `popular` (p < .05, Holm): `sasrec`.\n" in text
    assert "- After 1: above `popular` (p < .05, Holm): none; not above it: `sasrec`.\n" in text
    assert "`other`" not in text.split("asked without a name")[1]


def test_lists_of_withheld_items_alone_are_judged_beside_those_of_all(tiny):
    cold = TINY.replace("{kind: leave_one_out}", "{kind: cold_items, share: 0.2}\ndraws: true\nwithheld_alone: true")
    cold = cold.replace("hit@10", "recall@10").replace("popular: {}", "popular: {}\n  categorypopular: {}")
    (rows.ROWS / "sequences" / "tiny.yaml").write_text(cold)
    found = {row: run_of(row, "--seed", "1") for row in ("popular", "categorypopular")}
    of_all, alone = (
        {row: each.content["metrics"]["recall@10"]["mean"] for row, each in of.items()}
        for of in (found, {row: each.withheld_alone() for row, each in found.items()})
    )
    assert alone["categorypopular"] > of_all["categorypopular"] and alone["popular"] == of_all["popular"] == 0
    text = sequences_page.content().split("only the withheld items are offered")[1]
    assert f"| `categorypopular` | {alone['categorypopular']:.4f}" in text
    assert "- `categorypopular` is above `popular` on ndcg@10" in text


def test_rows_of_another_study_stand_beside_where_they_were_asked_the_same(tiny):
    (rows.ROWS / "retrieval").mkdir()
    content = TINY.replace("sasrec: {", "ease: {}\n  twotower: {").replace(", length: 10, layers: 1", "")
    content = content[: content.index("search:")] + "beside: sequences\n"
    (rows.ROWS / "retrieval" / "tiny.yaml").write_text(content)
    result_of("sasrec", 0, [1, 2])
    result_of("popular", 0, [1, 0])
    result_of("ease", 0, [1, 3], study="retrieval")
    here = rows.read_rows("tiny", "retrieval")
    found = results.read_results(here)
    assert {row: seeds[0].study for row, seeds in found.items()} == {"ease": "retrieval", "sasrec": "sequences"}
    assert "`sasrec`: measured for [results-sequences.md](results-sequences.md)." in page.section(here, found)
    result_of("ease", 0, [1, 3], study="retrieval", digest="other")
    with pytest.raises(ValueError, match="tiny: sequences were not judged on the same queries"):
        results.read_results(here)


def test_with_draws_each_seed_withholds_others_and_rows_are_compared_where_both_were_asked(tiny):
    drawing = rows.Rows.model_validate({**tiny.model_dump(), "draws": True})
    cold = tiny.recipe.model_copy(update={"split": ColdItems()})
    assert drawing.model_copy(update={"recipe": cold}).recipe_of(3).split.seed == 3
    assert tiny.model_copy(update={"recipe": cold}).recipe_of(3).split.seed == 0
    for seed, digest in ((0, "a"), (1, "b"), (2, "c")):
        result_of("sasrec", seed, [1] * 50, digest=digest)
        if seed:
            result_of("popular", seed, [2] * 20 + [0] * (30 + seed), digest="other" if seed == 2 else digest)
    with pytest.raises(ValueError, match="not judged on the same queries"):
        results.read_results(drawing)
    result_of("popular", 2, [0] * 50, digest="c")
    result_of("popular", 1, [2] * 50, digest="b")
    found = results.read_results(drawing)
    best, other = standings.standings(drawing, found)
    assert (best.row, best.metrics["ndcg@10"].n, other.metrics["ndcg@10"].n) == ("sasrec", 150, 100)
    assert other.mean == pytest.approx(gain(2) / 2)
    (pair,) = standings.pairs(drawing, [best, other])
    assert pair.difference == pytest.approx(1 - gain(2) / 2), "of the 100 queries that both have"


def test_the_queries_of_a_user_change_sign_together(tiny):
    # One user has nearly all queries, so there is no telling the rows apart.
    result_of("sasrec", 0, [1] * 50 + [0, 3, 0, 3], sizes=[50, 1, 1, 1, 1])
    result_of("popular", 0, [0] * 50 + [3, 0, 3, 0], sizes=[50, 1, 1, 1, 1])
    (pair,) = standings.pairs(tiny, standings.standings(tiny, results.read_results(tiny)))
    assert pair.difference > 0.9
    assert pair.p > 0.5


@pytest.mark.parametrize(
    ("other", "message"),
    [({"digest": "e"}, "not judged on the same queries"), ({"fingerprint": "g"}, "seeds of sasrec have different")],
)
def test_results_that_do_not_belong_together_are_refused(tiny, other, message):
    result_of("sasrec", 0, [1, 2])
    result_of("sasrec", 1, [1, 2], **other)
    with pytest.raises(ValueError, match=message) as caught:
        results.read_results(tiny)
    assert "sasrec-seed1.json" in str(caught.value)


def test_the_page_says_what_is_reached_what_is_short_and_what_is_not_measured(tiny):
    (rows.ROWS / "sequences" / "tiny.yaml").write_text(TINY + "pairs: [[sasrec, popular]]\n")
    text = sequences_page.content()
    assert "`sasrec` is to be compared with `popular`: not measured yet." in text
    assert "Not measured yet: `popular`, `sasrec`." in text
    assert "The best row is to reach ndcg@10 2.000: not measured yet." in text
    result_of("sasrec", 0, [1, 2, 0, 3], best_epoch=4, best_score=0.5)
    text = sequences_page.content()
    mean = np.mean([gain(rank) for rank in (1, 2, 0, 3)])
    assert f"`sasrec` has {mean:.4f}, ndcg@10 is short by {2 - mean:.4f}." in text
    (rows.ROWS / "sequences" / "tiny.yaml").write_text(TINY.replace("ndcg@10: 2.0", f"ndcg@10: {mean + 1e-5}"))
    assert f"`sasrec` has {mean:.4f}, ndcg@10 is short by less than 0.0001." in sequences_page.content()
    assert "`sasrec` was measured with other settings than those in the rows" in text
    assert "| `sasrec` | 1 | 0.7500 [" in text
    assert "Not measured yet: `popular`." in text
    assert "rating rmse" not in text
    assert "threads 1 | – |" in text
    commit = "0123456789ab-dirty"
    result_of("sasrec", 0, [1, 2, 0, 3], fingerprint=tiny.fingerprint("sasrec"), rmse=0.91, commit=commit)
    (rows.ROWS / "sequences" / "tiny.yaml").write_text(TINY.replace("ndcg@10: 2.0", "ndcg@10: 0.1"))
    text = sequences_page.content()
    assert f"`sasrec` has {mean:.4f}, reached." in text
    assert "| rating rmse |" in text and "| 0.9100 |" in text
    assert "| `0123456` + |" in text
    assert "other settings" not in text


def test_the_page_says_what_was_tried_and_how_ratings_compare_with_factorisation(tiny):
    (rows.ROWS / "sequences" / "tiny.yaml").write_text(TINY + "tried: [half of it, all of it]\n")
    kept = {"command": "python biased.py", "rmse": {"train": 1.0, "all before the targets": 0.9}}
    path = results.RESULTS / "biased_mf-tiny.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(kept))
    result_of("sasrec", 0, [1, 2, 0, 3])
    assert "error of ratings" not in sequences_page.content()
    assert "- Tried: half of it\n- Tried: all of it\n" in sequences_page.content()
    for error, verdict in ((0.89, "reached"), (0.95, "not reached")):
        result_of("sasrec", 0, [1, 2, 0, 3], rmse=error)
        assert "1.0000 of the same train and 0.9000 if it also learns" in sequences_page.content()
        assert f"`sasrec` {error:.4f}, {verdict} (`python biased.py`)." in sequences_page.content()


def test_a_measured_row_stands_in_the_table(tiny):
    content = run_of("popular").content
    text = sequences_page.content()
    assert f"| `popular` | 1 | {content['metrics']['hit@10']['mean']:.4f} [" in text
    assert content["protocol"]["digest"] in text


def test_the_page_of_results_is_what_the_kept_results_give():
    assert sequence_quality.STUDY.page.read_text(encoding="utf-8") == sequences_page.content(), (
        "run python benchmarks/sequence_quality.py table"
    )


# Searching


def test_a_search_reads_no_test_event(tiny, monkeypatch):
    loaded = load_data(tiny.recipe.data, "leave_one_out", None, Run())
    split = split_data(tiny.recipe, loaded, None)
    blind = SimpleNamespace(train=split.train, validation=split.validation, filter_seen=split.filter_seen)
    monkeypatch.setattr("foretaste.experiment.split_data", lambda *given: blind)
    train, validation = quality_search.parts_to_search(tiny, Run(), None)
    assert train is split.train
    assert validation.targets is split.validation.targets


def test_a_search_tries_the_row_first_and_goes_on_where_it_stopped(tiny, capsys):
    out = quality_search.OUT / "sequences" / "tiny" / "sasrec.jsonl"
    assert quality_search.main(["sasrec", "tiny", "--trials", "1", "--threads", "1"]) == 0
    first = out.read_text()
    assert quality_search.main(["sasrec", "tiny", "--trials", "3", "--threads", "1"]) == 0
    assert out.read_text().startswith(first)
    trials = quality_search.read_trials(out)
    assert [each["trial"] for each in trials] == [0, 1, 2]
    assert trials[0]["changes"] == {}
    for trial in trials[1:]:
        assert trial["changes"]["dropout"] in (0.1, 0.3)
        assert 0.001 <= trial["changes"]["plan.lr"] <= 0.01
        assert trial["validation"] == max(trial["scores"])
    assert "3 trials" in capsys.readouterr().out
    assert quality_search.drawn(tiny, "sasrec", 2) == trials[2]["changes"]
    assert trials[1]["changes"] != trials[2]["changes"]


def test_a_trial_that_cannot_be_fitted_is_told_and_the_search_goes_on(tiny, tmp_path):
    wrong = tiny.model_copy(update={"search": {"sasrec": {"heads": (3,)}}})
    out = tmp_path / "trials.jsonl"
    quality_search.search(wrong, "sasrec", 2, Run(), None, out)
    first, second = quality_search.read_trials(out)
    assert first["error"] is None
    assert "dim (8) must be a multiple of heads (3)" in second["error"]
    assert second["validation"] is None


def test_a_model_without_epochs_is_searched_by_its_one_score(tiny, tmp_path):
    quality_search.search(tiny, "popular", 1, Run(), None, tmp_path / "trials.jsonl")
    (trial,) = quality_search.read_trials(tmp_path / "trials.jsonl")
    assert trial["scores"] == [trial["validation"]] and trial["validation"] > 0


def test_a_trial_is_behind_when_its_best_is_below_the_median_of_the_others():
    earlier = [[0.1, 0.2, 0.3, 0.9], [0.1, 0.2, 0.4], [0.1, 0.5, 0.2], [0.6, 0.1, 0.1]]
    assert quality_search.behind([0.1, 0.2, 0.44], earlier)
    assert not quality_search.behind([0.1, 0.46, 0.2], earlier)
    assert not quality_search.behind([0.0, 0.0], earlier), "too early to tell"
    assert not quality_search.behind([0.0] * 3, earlier[:3]), "too few to compare with"


# Speed

PEER = """
import json, sys, time
order = json.loads(sys.stdin.readline())
print("a library says something")
said = {"epoch": {"seconds": 2.0, "events": 1000}, "recommend": {"all": 0.3, "vectors": 0.2, "lists": 0.1},
        "until": {"seconds": 50.0, "epochs": 3, "best": 0.01, "reached": False, "given_up": order.get("most_seconds")},
        "about": {"peak_bytes": 2**20, "class": order["settings"]["class"]}}
for line in sys.stdin:
    if line.strip() not in said:
        raise SystemExit(f"cannot {line.strip()}")
    print("@answer " + json.dumps(said[line.strip()]), flush=True)
"""


@pytest.fixture
def peer(tmp_path, monkeypatch):
    """A peer that trains 1,000 events in exactly two seconds."""
    script = tmp_path / "peer.py"
    script.write_text(PEER)
    monkeypatch.setattr(sequence_speed, "THEIRS", script)
    return script


def test_both_sides_are_measured_in_turns_and_counted_by_trained_event(peer, tmp_path, monkeypatch, capsys):
    asked = []
    real = Worker.ask
    monkeypatch.setattr(Worker, "ask", lambda self, what: asked.append((self._name, what)) or real(self, what))
    out = tmp_path / "speed.json"
    command = ["--quick", "--threads", "1", "--rounds", "2", "--only", "sasrec ml-1m", "--rectools", sys.executable]
    assert sequence_speed.main([*command, "--out", str(out)]) == 0
    sides = ["foretaste_sequences.py", "peer.py"]
    assert [name for name, what in asked if what == "epoch"] == sides * 3
    assert [name for name, what in asked if what == "recommend"] == sides * 3
    content = json.loads(out.read_text())
    case = content["cases"]["sasrec ml-1m"]
    assert case["training"]["foretaste"]["events_per_epoch"] == 1280 - 80, "each event but the first of each user"
    assert case["training"]["rectools"]["seconds_per_million_events"]["median"] == 2000
    assert len(case["raw"]["epochs"]["foretaste"]) == 3, "the first is kept, and does not count"
    ours = case["raw"]["epochs"]["foretaste"][1:]
    assert case["ratio"]["rounds"] == pytest.approx([0.002 / (each["seconds"] / each["events"]) for each in ours])
    assert case["about"]["rectools"]["class"] == "SASRecModel"
    floor = case["floor"]
    assert floor["flops_per_event"] > 3 * 2 * 2 * 12 * 16**2 / 2
    # Each of the products reads and writes at least a number for each of 16 wide states, there and twice back.
    assert floor["bytes_per_event"] > 3 * 2 * 2 * 16 * 2 * 6
    assert floor["bytes_per_second"] > 1e8
    assert set(case["answers"]["foretaste"]) == {"all", "vectors", "lists", "products"}
    text = sequence_speed_tables.markdown(content)
    assert "### sasrec ml-1m" in text and "| rectools | 500 |" in text and "to reach: 8, reached." in text
    assert "The products alone" in text and "Memory floor" in text
    assert "theirs / ours" in capsys.readouterr().out


def test_answers_and_the_way_to_a_score_are_measured_without_the_rest(peer, tmp_path):
    out = tmp_path / "speed.json"
    command = ["--quick", "--threads", "1", "--rounds", "1", "--only", "sasrec ml-1m", "--rectools", sys.executable]
    command += ["--out", str(out)]
    assert sequence_speed.main(command) == 0
    first = json.loads(out.read_text())["cases"]["sasrec ml-1m"]
    assert sequence_speed.main([*command, "--answers"]) == 0
    assert sequence_speed.main([*command, "--time-to", "0.0001", "--patience", "3"]) == 0
    case = json.loads(out.read_text())["cases"]["sasrec ml-1m"]
    assert case["training"] == first["training"]
    assert case["answers"]["foretaste"] != first["answers"]["foretaste"]
    assert case["answers_about"]["command"].endswith("--answers")
    ours, theirs = case["time_to"]["foretaste"], case["time_to"]["rectools"]
    assert ours["reached"] and theirs["given_up"] == pytest.approx(3 * ours["seconds"])
    text = sequence_speed_tables.markdown({"protocol": [], "cases": {"sasrec ml-1m": case}})
    assert "rectools: not reached in 50 s of training, 3 epochs (best 0.0100)." in text
    assert f"That is less than {ours['seconds'] / 50:.2f} of RecTools' time" in text
    assert sequence_speed.main(command) == 0
    assert json.loads(out.read_text())["cases"]["sasrec ml-1m"]["time_to"] == case["time_to"], "kept"


def until(tmp_path, capsys, score):
    """What our side tells of training up to a score on thirty people who walk along a ring of thirty items."""
    items = np.concatenate([(start + np.arange(10)) % 30 for start in range(30)])
    users, catalogue = Vocab(np.arange(30)), Vocab(np.arange(30))
    data = Dataset.from_arrays(users, catalogue, np.repeat(np.arange(30), 10), items, ordered=True)
    held = leave_one_out(data, validation_users=0)
    sequence_speed._write_events(held.train, tmp_path / "ring.npz", held.test)
    order = {"events": str(tmp_path / "ring.npz"), "threads": 1, "k": 10, "precision": "fp32", "epochs": 2}
    order |= {"model": "sasrec", "settings": {"dim": 16, "length": 10, "dropout": 0.0}, "until": score}
    ours.Side({**order, "plan": {"epochs": 25, "lr": 0.03}}).until()
    return json.loads(capsys.readouterr().out.removeprefix("@answer "))


def test_training_up_to_a_score_stops_there_and_counts_the_seconds_of_training_alone(tmp_path, capsys):
    told = until(tmp_path, capsys, 0.8)
    assert told["reached"] and told["best"] >= 0.8
    assert 2 < told["epochs"] < 25
    assert told["seconds"] == pytest.approx(sum(told["epoch_seconds"]))
    assert told["seconds"] > 0
    told = until(tmp_path, capsys, 1.1)
    assert not told["reached"]
    assert told["epochs"] == 25, "the plan counts, not the number of rounds"


def test_a_side_that_cannot_take_part_says_why(tmp_path, monkeypatch):
    absent = sequence_speed.Case("new", "ml-1m-sasrec", "no-such-model", {}, {"class": "SASRecModel"})
    monkeypatch.setattr(sequence_speed, "CASES", (absent,))
    out = tmp_path / "speed.json"
    assert sequence_speed.main(["--quick", "--threads", "1", "--out", str(out)]) == 0
    case = json.loads(out.read_text())["cases"]["new"]
    assert case["command"] == "python benchmarks/sequence_speed.py --quick --threads 1"
    assert case["absent"] == {"foretaste": "there is no model no-such-model", "rectools": "not asked for by --quick"}
    text = sequence_speed_tables.markdown({"protocol": [], "cases": {"new": case}})
    assert "foretaste: there is no model no-such-model." in text


def test_a_worker_that_fails_tells_what_it_said(peer, tmp_path):
    worker = Worker(sys.executable, peer, {"settings": {"class": "x"}}, 1, tmp_path / "errors.log")
    assert worker.ask("epoch") == {"seconds": 2.0, "events": 1000}
    with pytest.raises(RuntimeError, match=r"peer\.py ended with 1, asked for sing: cannot sing"):
        worker.ask("sing")
    worker.end()
