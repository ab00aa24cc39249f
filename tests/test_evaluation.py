"""Intervals, tests, checks, and the leaderboard from fake models to files."""

import csv
import json
from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pytest

from foretaste.dataset import Dataset
from foretaste.errors import ConfigError, DataError
from foretaste.evaluation import CATALOGUE, Entry, Leaderboard, Trial, evaluate
from foretaste.evaluation.checks import Comparison, findings, p_in_words
from foretaste.evaluation.intervals import GROUPS, Interval, bootstrap, holm, intervals, paired_test
from foretaste.evaluation.ratings import rating_error, target_values
from foretaste.query import Holdout, Queries, TopK
from foretaste.ragged import PAD, Ragged
from foretaste.split import leave_one_out
from foretaste.vocab import Vocab

QUERIES, ITEMS = 300, 50


@dataclass
class Fake:
    """Answers from a fixed table of scores (queries, items); the k best, ties by index."""

    items: Vocab
    table: np.ndarray
    sources: tuple[str, ...] = ("fake", "popularity")
    asked: int = 0
    most_asked: int = 0
    last_k: int = 0

    def recommend(self, queries, k=10, *, filter_seen=True, exclude_kinds=(), items=None, exclude=None):
        row = queries.user
        self.asked, self.most_asked, self.last_k = self.asked + len(row), max(self.most_asked, len(row)), k
        scores = self.table[row].astype(np.float32)
        if filter_seen:
            scores[queries.history.row_of_value(), queries.history.values] = -np.inf
        width = min(k, scores.shape[1])
        best = np.argsort(-scores, axis=1, kind="stable")[:, :width]
        values = np.take_along_axis(scores, best, axis=1)
        found = np.where(values == -np.inf, PAD, best).astype(np.int32)
        source = np.where(found == PAD, PAD, 0).astype(np.int8)
        return TopK(found, values, source, self.sources, self.items)


class World:
    """300 people with a history of two items and one target; models that know more or less of the target."""

    def __init__(self, seed=0):
        rng = np.random.default_rng(seed)
        self.vocab = Vocab.from_ids(range(ITEMS))
        chosen = np.stack([rng.permutation(ITEMS - 5)[:3] for _ in range(QUERIES)])
        self.target = chosen[:, 2]
        users = np.arange(QUERIES)
        history = Ragged.from_lists(chosen[:, :2])
        self.train = Dataset.from_arrays(
            Vocab.from_ids(range(QUERIES)), self.vocab, np.repeat(users, 2), history.values, ordered=True
        )
        self.holdout = Holdout(
            Queries(history, user=users.astype(np.int32)),
            Ragged.from_lists(self.target[:, None]),
            slices={"first half": users < QUERIES // 2, "nobody": users < 0},
        )
        self.rng = rng

    def model(self, knowledge, **settings):
        """Random scores to which ``knowledge`` is added at the target."""
        table = self.rng.random((QUERIES, ITEMS))
        table[np.arange(QUERIES), self.target] += knowledge
        return Fake(self.vocab, table, **settings)

    def popular(self):
        return Fake(self.vocab, np.tile(np.bincount(self.train.item, minlength=ITEMS), (QUERIES, 1)))


@pytest.fixture(scope="module")
def world():
    return World()


@pytest.fixture(scope="module")
def board(world):
    models = {"itemknn": world.model(0.15), "weak": world.model(0.1), "strong": world.model(0.9)}
    return evaluate(models, world.holdout, train=world.train)


# ── intervals ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(3)
    values = (rng.random((150, 400)) < 0.3).astype(float)  # 400 experiments of 150 queries each
    low, high = bootstrap(values, samples=500)
    assert 0.92 <= np.mean((low <= 0.3) & (high >= 0.3)) <= 0.97


def test_interval_is_as_wide_as_theory_says():
    values = np.random.default_rng(1).normal(size=(5000, 1))
    low, high = bootstrap(values)
    assert (high - low)[0] == pytest.approx(2 * 1.96 / np.sqrt(5000), rel=0.08)


def test_interval_over_many_queries_resamples_groups_and_stays_as_wide():
    values = np.random.default_rng(1).normal(size=(3 * GROUPS + 7, 1))
    low, high = bootstrap(values, samples=400)
    assert (high - low)[0] == pytest.approx(2 * 1.96 / np.sqrt(len(values)), rel=0.15)
    assert low[0] < values.mean() < high[0]


def test_missing_values_do_not_count():
    rng = np.random.default_rng(2)
    values = rng.random(400)
    gaps = values.copy()
    gaps[::2] = np.nan
    found = intervals({"all": values, "half": gaps, "none": np.full(400, np.nan)})
    assert found["half"].n == 200
    assert found["half"].mean == pytest.approx(values[1::2].mean())
    assert found["half"].high - found["half"].low > 1.2 * (found["all"].high - found["all"].low)
    assert found["none"] == Interval(None, None, None, 0)


def test_same_seed_same_interval():
    values = np.random.default_rng(0).random((50, 2))
    np.testing.assert_array_equal(bootstrap(values, seed=4), bootstrap(values, seed=4))
    assert not np.array_equal(bootstrap(values, seed=4), bootstrap(values, seed=5))


def test_interval_of_nothing_is_refused():
    with pytest.raises(DataError, match="at least one query"):
        bootstrap(np.empty((0, 1)))
    assert intervals({"a": np.empty(0)})["a"].n == 0


# ── tests ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_p_is_uniform_where_nothing_differs():
    differences = np.random.default_rng(7).normal(size=(80, 1000))
    p = paired_test(differences, flips=2000)
    for level in (0.05, 0.25, 0.5, 0.75):
        assert np.mean(p <= level) == pytest.approx(level, abs=0.04)


def test_p_of_few_differences_is_exact():
    # All five on one side: only 2 of the 32 ways to choose signs are as extreme. Zeros change nothing.
    assert paired_test(np.array([[1.0], [2], [3], [4], [5], [0], [0]]))[0] == 2 / 32


def test_p_of_equal_models_is_one():
    assert paired_test(np.zeros((30, 2))).tolist() == [1, 1]


def test_p_of_a_clear_difference_goes_below_what_flips_can_resolve():
    clear = np.random.default_rng(0).normal(0.5, 1, size=(2000, 1))
    p = paired_test(clear)[0]
    assert 0 < p < 1e-20
    faint = np.random.default_rng(0).normal(0.06, 1, size=(2000, 1))
    assert 1e-4 < paired_test(faint)[0] < 0.2


def test_p_does_not_depend_on_which_model_comes_first():
    differences = np.random.default_rng(1).normal(0.1, 1, size=(300, 1))
    assert paired_test(differences)[0] == paired_test(-differences)[0]


def test_p_over_many_queries_flips_groups():
    rng = np.random.default_rng(5)
    size = 2 * GROUPS
    differences = np.stack([rng.normal(size=size), rng.normal(0.05, 1, size=size)], axis=1)
    p = paired_test(differences, flips=500)
    assert p[0] > 0.001
    assert p[1] < 1e-6


def test_holm_by_hand():
    np.testing.assert_allclose(holm(np.array([0.01, 0.04, 0.03, 0.005])), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm(np.array([0.9, 0.8])), [1, 1])
    assert holm(np.empty(0)).tolist() == []


# ── a trial ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_better_model_stands_first(board):
    assert [each.name for each in board.entries] == ["strong", "itemknn", "weak"]
    assert board["strong"].metrics["hit@20"].mean > 0.9


def test_one_item_more_than_the_largest_k_is_asked_for(world):
    model = world.model(0.1)
    evaluate({"a": model}, world.holdout, k=(3, 7))
    assert model.last_k == 8


def test_chunks_do_not_change_the_answer(world):
    model = world.model(0.4)
    whole = Trial.of(world.holdout, train=world.train).entry("a", model)
    chunked = Trial.of(world.holdout, train=world.train, chunk=7).entry("a", replace(model, most_asked=0))
    for name, values in whole.per_query.items():
        np.testing.assert_array_equal(values, chunked.per_query[name], err_msg=name)
    assert whole.metrics == chunked.metrics
    assert whole.answers == chunked.answers


def test_no_more_than_a_chunk_is_asked_at_a_time(world):
    model = world.model(0.4)
    evaluate({"a": model}, world.holdout, chunk=64)
    assert (model.most_asked, model.asked) == (64, QUERIES)


def test_constant_scorer_gets_nothing_in_every_metric(world):
    board = evaluate({"same": Fake(world.vocab, np.ones((QUERIES, ITEMS)))}, world.holdout)
    assert all(each.mean == 0 for name, each in board["same"].metrics.items() if name[0] not in "cg")
    assert "same gives all items of a list one and the same score in 100.0% of its lists" in texts(board)


def texts(board):
    return [each.text for each in board.checks]


def test_scores_alone_do_not_hide_a_whole_small_catalogue():
    # Four items, all tied, k above the catalogue: every target stands at the last place, not beyond the list.
    vocab = Vocab.from_ids(range(4))
    queries = Queries(Ragged.empty(2), user=np.arange(2, dtype=np.int32))
    holdout = Holdout(queries, Ragged.from_lists([[0], [3]]))
    board = evaluate({"same": Fake(vocab, np.ones((2, 4)))}, holdout, k=(4, 10))
    assert board["same"].metrics["mrr@10"].mean == 0.25
    assert board["same"].answers.short == 0
    # Exactly as many items as are asked for: k + 1 = 4.
    exact = evaluate({"same": Fake(vocab, np.ones((2, 4)))}, holdout, k=3)
    assert exact["same"].metrics["hit@3"].mean == 0


def test_sample_is_the_same_for_all_models_and_said(world):
    board = evaluate({"a": world.model(0), "b": world.model(0)}, world.holdout, max_queries=40, seed=3)
    assert board.protocol["queries"] == 40
    assert board.protocol["queries_given"] == QUERIES
    assert board.protocol["queries_sampled"] is True
    assert "A random sample of the 300 queries (seed 3)" in board.table()
    again = Trial.of(world.holdout, max_queries=40, seed=3).holdout.queries.user
    np.testing.assert_array_equal(again, Trial.of(world.holdout, max_queries=40, seed=3).holdout.queries.user)
    assert not np.array_equal(again, Trial.of(world.holdout, max_queries=40, seed=4).holdout.queries.user)


def test_sample_larger_than_the_holdout_is_all_of_it(world):
    board = evaluate({"a": world.model(0)}, world.holdout, max_queries=10_000)
    assert board.protocol["queries"] == QUERIES
    assert board.protocol["queries_sampled"] is False


def test_queries_without_target_are_left_out_and_said(world):
    targets = Ragged.from_lists([[] if row < 10 else [item] for row, item in enumerate(world.target)])
    board = evaluate({"a": world.model(0.9)}, replace(world.holdout, targets=targets))
    assert board.protocol["queries"] == QUERIES - 10
    assert "10 queries without a target are left out." in board.table()


def test_holdout_without_targets_is_refused(world):
    empty = replace(world.holdout, targets=Ragged.empty(QUERIES))
    with pytest.raises(DataError, match="None of the 300 queries of 'test' has a target"):
        evaluate({"a": world.model(0)}, empty)


def test_unknown_targets_are_misses_and_both_denominators_are_printed(world):
    unknown = np.zeros(QUERIES, np.int32)
    unknown[:100] = 1
    targets = Ragged.from_lists([[] if row < 100 else [item] for row, item in enumerate(world.target)])
    holdout = replace(world.holdout, targets=targets, unknown=unknown)
    perfect = world.model(5.0)
    board = evaluate({"a": perfect}, holdout)
    assert board["a"].metrics["hit@10"] == Interval(pytest.approx(2 / 3), *bounds(board, "hit@10"), 300)
    assert board["a"].metrics_known_targets["hit@10"] == Interval(1, 1, 1, 200)
    assert "100 targets are unknown to training (100 outside the vocabulary, 0 never met)" in board.table()
    assert "over the 200 queries with a known target" in board.table()
    assert board.to_json()["models"][0]["metrics_known_targets"]["ndcg@10"]["mean"] == 1


def bounds(board, metric):
    return board["a"].metrics[metric].low, board["a"].metrics[metric].high


def test_targets_never_met_in_training_are_not_known(world):
    # Items 45 to 49 are never met; a content model may still find them, and then earns the hit.
    target = world.target.copy()
    target[:30] = 47
    holdout = replace(world.holdout, targets=Ragged.from_lists(target[:, None]))
    table = np.random.default_rng(0).random((QUERIES, ITEMS))
    table[:30, 47] += 2
    board = evaluate({"content": Fake(world.vocab, table)}, holdout, train=world.train)
    assert board.protocol["targets_never_met_in_training"] == 30
    assert board["content"].per_query["hit@10"][:30].all()
    assert board["content"].metrics_known_targets["hit@10"].n == 270
    assert "they count as misses, unless content finds them" in board.table()


def test_where_no_target_was_met_in_training_it_is_not_said_that_all_are_misses(world):
    holdout = replace(world.holdout, targets=Ragged.from_lists([[47]] * QUERIES))
    table = np.zeros((QUERIES, ITEMS))
    table[:, 47] = 1
    board = evaluate({"content": Fake(world.vocab, table)}, holdout, train=world.train)
    assert board["content"].metrics["hit@10"].mean == 1
    assert "All 300 targets are unknown to training (0 outside the vocabulary, 300 never met): only content finds" in (
        board.table()
    )


def test_known_targets_are_all_targets_where_all_are_known(board):
    assert board["strong"].metrics_known_targets["ndcg@10"] == board["strong"].metrics["ndcg@10"]
    assert "unknown to training" not in board.table()


def test_slices_have_their_own_means_and_numbers(board):
    strong = board["strong"]
    half = strong.slices["first half"]["ndcg@10"]
    assert half.n == 150
    assert half.mean == pytest.approx(strong.per_query["ndcg@10"][:150].mean())
    assert half.low < half.mean < half.high
    assert strong.slices["nobody"]["ndcg@10"] == Interval(None, None, None, 0)


def test_list_metrics_stand_beside_the_accuracy(world):
    board = evaluate({"popular": world.popular(), "strong": world.model(0.9)}, world.holdout, train=world.train)
    popular, strong = board["popular"].metrics, board["strong"].metrics
    assert popular["coverage@10"].mean < strong["coverage@10"].mean
    assert popular["arp@10"].mean > strong["arp@10"].mean
    assert popular["novelty@10"].mean < strong["novelty@10"].mean
    assert popular["gini@10"].mean > strong["gini@10"].mean
    assert popular["long_tail_recall@5"].mean < strong["long_tail_recall@5"].mean
    assert 0 < strong["diversity@10"].mean <= 1
    assert popular["coverage@10"].low is None


def test_without_training_data_what_needs_it_is_absent(world):
    metrics = evaluate({"a": world.model(0)}, world.holdout)["a"].metrics
    assert "coverage@10" in metrics
    assert not [name for name in metrics if name.startswith(("novelty", "arp", "diversity", "long_tail"))]


def test_seen_filter_that_hides_targets_is_found(world):
    seen = Ragged.from_lists(world.holdout.queries.history.padded(2)[:, :1])
    board = evaluate({"a": world.model(0)}, replace(world.holdout, targets=seen))
    assert board.protocol["targets_hidden_by_seen_filter"] == QUERIES
    assert ("R010", "issue") in [
        (each.code, each.severity) for each in board.checks
    ]  # all of them: the protocol is wrong
    kept = evaluate({"a": world.model(0)}, replace(world.holdout, targets=seen), filter_seen=False)
    assert kept.protocol["targets_hidden_by_seen_filter"] is None
    assert "seen items may be offered again" in kept.table()


def test_the_holdout_says_whether_seen_items_are_hidden(world):
    repeats = replace(world.holdout, targets=world.holdout.queries.history.last(1), filter_seen=False)
    models = {"a": Fake(world.vocab, -np.tile(np.arange(ITEMS), (QUERIES, 1)))}
    board = evaluate(models, repeats)
    assert board.protocol["filter_seen"] is False
    assert board["a"].metrics["hit@20"].mean > 0
    assert evaluate(models, repeats, filter_seen=True)["a"].metrics["hit@20"].mean == 0


def test_sentences_say_what_was_hidden_whatever_the_split_proposes(world):
    trial = Trial.of(world.holdout, filter_seen=False)
    split = {"filter_seen": True, "sentences": ["Test: the last event."]}
    board = Leaderboard.of([trial.entry("a", world.model(0))], trial, protocol=split)
    assert board.protocol["sentences"] == [
        "Test: the last event.",
        "Items of a query's history may be in its list: repeats count.",
    ]
    by_kind = Trial.of(world.holdout, exclude_kinds=["buy"])
    assert by_kind.about_seen() == "Items of a query's history that were met by buy are hidden from its list."


def test_kinds_cannot_be_hidden_with_the_filter_off(world):
    with pytest.raises(ConfigError, match=r"exclude_kinds \(buy\) narrows what the seen filter hides, but .* is off"):
        Trial.of(replace(world.holdout, filter_seen=False), exclude_kinds=["buy"])


def test_k_far_above_the_catalogue_takes_no_more_memory(world):
    board = evaluate({"a": world.model(0.5)}, world.holdout, k=[ITEMS, 10**12])
    means = {name: of.mean for name, of in board["a"].metrics.items()}
    assert means["hit@1000000000000"] == means[f"hit@{ITEMS}"] == 1
    assert means["ndcg@1000000000000"] == means[f"ndcg@{ITEMS}"]


def test_queries_that_the_split_leaves_out_are_misses_in_the_other_denominator(world):
    trial = Trial.of(world.holdout)
    split = {"denominators": {"headline": QUERIES, "with_unknown": 2 * QUERIES}}
    board = Leaderboard.of([trial.entry("a", world.model(0.9))], trial, protocol=split)
    half = board["a"].metrics["ndcg@10"].mean / 2
    assert f"300 queries whose target is unknown to training are left out; with them as misses, over 600 queries, "\
        f"ndcg@10 is: a {half:.4f}." in board.table()  # fmt: skip


def test_model_with_other_items_is_refused(world):
    other = Fake(Vocab.from_ids(range(ITEMS + 1)), np.ones((QUERIES, ITEMS + 1)))
    with pytest.raises(DataError, match="a knows 51 items, the training data 50"):
        evaluate({"a": other}, world.holdout, train=world.train)
    small = Fake(Vocab.from_ids(range(10)), np.ones((QUERIES, 10)))
    with pytest.raises(DataError, match="a knows 10 items, but item 44 is a target"):
        evaluate({"a": small}, world.holdout)


def test_number_out_of_range_is_refused(world):
    with pytest.raises(ConfigError, match="max_queries must be at least 1; it is 0"):
        evaluate({}, world.holdout, max_queries=0)
    with pytest.raises(ConfigError, match="k must be whole numbers"):
        evaluate({}, world.holdout, k=(0,))


def test_log_tells_of_each_model(world):
    told = []
    evaluate({"a": world.model(0.5)}, world.holdout, log=lambda message, numbers=None: told.append((message, numbers)))
    assert told[0][0].startswith("a: ndcg@10 0.")
    assert set(told[0][1]) == {"ndcg@10", "recommend_seconds"}


# ── seeds ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_seeds_are_averaged_per_query_and_their_spread_is_named(world):
    trial = Trial.of(world.holdout, train=world.train)
    seeds = [replace(trial.entry("a", world.model(0.5)), fit_seconds=seconds) for seconds in (1.0, 2.0, 6.0)]
    joined = trial.over_seeds(seeds)
    means = [each.metrics["ndcg@10"].mean for each in seeds]
    assert joined.metrics["ndcg@10"].mean == pytest.approx(np.mean(means))
    assert joined.seed_spread["ndcg@10"] == {"sd": pytest.approx(np.std(means, ddof=1)), "n": 3}
    assert joined.metrics["coverage@10"].mean == pytest.approx(
        np.mean([each.metrics["coverage@10"].mean for each in seeds])
    )
    assert joined.fit_seconds == 3
    assert joined.slices["first half"]["ndcg@10"].n == 150
    board = Leaderboard.of([joined], trial)
    assert "sd over seeds" in board.table()
    assert "(n = 3)" in board.table()
    assert "The interval in brackets is over queries" in board.table()


def test_one_seed_is_the_entry_itself(world):
    trial = Trial.of(world.holdout)
    entry = trial.entry("a", world.model(0))
    assert trial.over_seeds([entry]) is entry


def test_seeds_of_different_models_are_not_joined(world):
    with pytest.raises(ConfigError, match="one model only"):
        Trial.of(world.holdout).over_seeds([Entry("a"), Entry("b")])


# ── comparisons and checks ───────────────────────────────────────────────────────────────────────────────────────────


def test_every_pair_is_compared_once(board):
    assert {(each.a, each.b) for each in board.comparisons} == {
        ("strong", "itemknn"),
        ("strong", "weak"),
        ("itemknn", "weak"),
    }
    first = board.comparisons[0]
    assert first.difference == pytest.approx(
        np.mean(board["strong"].per_query["ndcg@10"] - board["itemknn"].per_query["ndcg@10"])
    )
    assert 0 < first.low < first.difference < first.high
    assert first.p_holm >= first.p
    assert first.better("strong")
    assert not first.better("itemknn")


def test_entries_about_different_queries_are_not_compared(world):
    trial = Trial.of(world.holdout)
    other = Trial.of(world.holdout, max_queries=10)
    with pytest.raises(DataError, match="only on the same queries"):
        Leaderboard.of([trial.entry("a", world.model(0)), other.entry("b", world.model(0))], trial)


def test_names_on_a_leaderboard_differ(world):
    with pytest.raises(DataError, match="a name of its own"):
        Leaderboard.of([Entry("a", why_absent="x"), Entry("a", why_absent="y")], Trial.of(world.holdout))


def test_model_that_does_not_beat_a_baseline_is_named_with_p(board):
    text = next(each.text for each in board.checks if each.code == "R001" and each.model == "weak")
    assert text.startswith("weak does not beat itemknn on ndcg@10 (0.")
    assert ", p = ." in text or ", p = 1.00)" in text
    assert not [each for each in board.checks if each.code == "R001" and each.model == "strong"]


def test_absent_model_stands_last_and_says_why(world):
    trial = Trial.of(world.holdout)
    why = "it needs TIMES; the log has none."
    board = Leaderboard.of([Entry("recentpopular", why_absent=why), trial.entry("a", world.model(0))], trial)
    assert [each.name for each in board.entries] == ["a", "recentpopular"]
    assert f"recentpopular takes no part: {why}" in board.table()
    assert board.to_json()["models"][1]["metrics"] == {}
    assert board.comparisons == ()


def test_oracle_is_shown_but_no_rival(world):
    models = {"oracle": world.model(0.9), "a": world.model(0.4), "popular": world.popular()}
    board = evaluate(models, world.holdout)
    assert board.entries[0].name == "oracle"
    assert {each.a for each in board.comparisons} | {each.b for each in board.comparisons} == {"a", "popular"}
    assert "of oracle" in board.table()
    assert "100%" in board.table()
    assert "R009" not in [each.code for each in board.checks]


def test_beaten_oracle_means_a_leak(world):
    board = evaluate({"oracle": world.model(0.3), "a": world.model(0.9)}, world.holdout)
    finding = next(each for each in board.checks if each.code == "R009")
    assert finding.model == "a"
    assert "a beats the oracle on ndcg@10" in finding.text
    assert "p < .001" in finding.text


def test_one_list_for_everybody_is_found_but_not_held_against_popular(world):
    same = np.tile(np.arange(ITEMS, 0, -1), (QUERIES, 1))
    models = {"lazy": Fake(world.vocab, same), "popular": Fake(world.vocab, same)}
    board = evaluate(models, world.holdout, filter_seen=False)
    assert [each.model for each in board.checks if each.code == "R003"] == ["lazy"]
    assert "share 100% of their items" in next(each.text for each in board.checks if each.code == "R003")


def test_coverage_collapse_is_found():
    rng = np.random.default_rng(0)
    vocab = Vocab.from_ids(range(500))
    target = rng.integers(0, 500, QUERIES)
    queries = Queries(Ragged.empty(QUERIES), user=np.arange(QUERIES, dtype=np.int32))
    table = rng.random((QUERIES, 500)) + 5 * (np.arange(500) < 15)
    board = evaluate({"narrow": Fake(vocab, table)}, Holdout(queries, Ragged.from_lists(target[:, None])))
    assert "narrow offers only 15 different items" in next(each.text for each in board.checks if each.code == "R002")


def test_leaks_of_the_split_are_repeated(world):
    report = {"own_events_later": 3, "duplicates": 0, "queries_others_later": 120, "test_queries": 300}
    board = evaluate({"a": world.model(0.9)}, world.holdout, leak_report=report)
    found = [(each.severity, each.text) for each in board.checks if each.code == "R004"]
    assert found[0] == ("issue", "training holds 3 events of test users later than their own target")
    assert found[1][0] == "tip"
    assert "for 120 of 300 queries" in found[1][1]
    assert board.to_json()["leak_report"] == report


def test_validation_far_above_test_is_found(world):
    trial = Trial.of(world.holdout)
    entry = trial.entry("a", world.model(0.3))
    far = Leaderboard.of([replace(entry, validation={"ndcg@10": 0.9})], trial)
    near = Leaderboard.of([replace(entry, validation={"ndcg@10": entry.metrics["ndcg@10"].mean * 1.02})], trial)
    assert "a has ndcg@10 0.9000 on validation" in next(each.text for each in far.checks if each.code == "R005")
    assert "R005" not in [each.code for each in near.checks]


def test_short_lists_and_fallback_are_found(world):
    table = world.rng.random((QUERIES, ITEMS))
    table[:30, 5:] = -np.inf
    board = evaluate({"a": Fake(world.vocab, table)}, world.holdout)
    assert "a leaves 10.0% of its lists shorter than asked for" in [each.text for each in board.checks]
    filled = evaluate({"a": Fake(world.vocab, table, sources=("popularity",))}, world.holdout)
    assert any("popularity filled them" in each.text for each in filled.checks)


def test_ties_at_the_cut_are_found(world):
    table = np.floor(world.rng.random((QUERIES, ITEMS)) * 8)
    codes = {each.code: each for each in evaluate({"coarse": Fake(world.vocab, table)}, world.holdout).checks}
    assert "coarse scores places 10 and 11 alike" in codes["R007"].text
    assert codes["R007"].severity == "tip"


def test_scores_that_are_not_numbers_are_found(world):
    board = evaluate({"a": Fake(world.vocab, np.full((QUERIES, ITEMS), np.nan))}, world.holdout, filter_seen=False)
    assert any("not a number in 100.0% of its lists" in each.text for each in board.checks)
    assert board["a"].metrics["hit@20"].mean == 0


def test_few_queries_are_found(world):
    board = evaluate({"a": world.model(0.5)}, world.holdout, max_queries=20)
    assert "20 queries tell little" in next(each.text for each in board.checks if each.code == "R008")


def test_issues_come_before_tips_and_every_code_is_in_the_catalogue(world):
    report = {"queries_others_later": 1, "test_queries": 2, "duplicates": 5}
    board = evaluate({"a": world.model(0), "popular": world.popular()}, world.holdout, leak_report=report)
    severities = [each.severity for each in board.checks]
    assert severities == sorted(severities)
    assert {each.code for each in board.checks} <= set(CATALOGUE)
    assert list(CATALOGUE) == [f"R{number:03}" for number in range(1, 11)]


def test_baseline_that_beats_a_model_is_said_to():
    entries = [
        Entry(name, metrics={"ndcg@10": Interval(mean, 0, 1, 9)}) for name, mean in (("popular", 0.3), ("a", 0.1))
    ]
    pair = Comparison("popular", "a", "ndcg@10", 0.2, 0.1, 0.3, 0.001, 0.004, 9)
    found = findings(entries, [pair], {"primary_metric": "ndcg@10"}, {})
    assert found[0].text == "a is beaten by popular on ndcg@10 (0.1000 against 0.3000, p = .004)"


@pytest.mark.parametrize(
    ("p", "words"), [(1e-9, "p < .001"), (0.004, "p = .004"), (0.31, "p = .31"), (0.1, "p = .10"), (1.0, "p = 1.00")]
)
def test_p_in_words(p, words):
    assert p_in_words(p) == words


# ── as files and tables ──────────────────────────────────────────────────────────────────────────────────────────────


def test_json_has_the_published_shape(board, world):
    content = json.loads(json.dumps(board.to_json(), allow_nan=False))
    assert list(content) == ["dataset", "protocol", "leak_report", "models", "comparisons", "checks"]
    assert content["dataset"] == {
        "name": "events",
        "fingerprint": world.train.fingerprint,
        "counts": world.train.counts(),
    }
    model = content["models"][0]
    assert set(model["metrics"]["ndcg@10"]) == {"mean", "low", "high", "n"}
    for metric in ("precision", "recall", "hit", "ndcg", "mrr", "map"):
        assert {f"{metric}@{k}" for k in (5, 10, 20)} <= set(model["metrics"])
    assert {"name", "settings", "slices", "fit_seconds", "recommend_seconds", "parameters", "peak_memory_mb"} <= set(
        model
    )
    assert {"a", "b", "metric", "difference", "low", "high", "p", "p_holm", "n"} == set(content["comparisons"][0])
    assert {"code", "severity", "text", "model"} == set(content["checks"][0])


def test_numbers_that_are_not_finite_become_null(world):
    trial = Trial.of(world.holdout)
    entry = replace(trial.entry("a", world.model(0)), fit_seconds=float("nan"), curve=({"loss": np.float32("inf")},))
    model = Leaderboard.of([entry], trial).to_json()["models"][0]
    assert model["fit_seconds"] is None
    assert model["curve"] == [{"loss": None}]


def test_what_the_caller_adds_is_kept(world):
    board = evaluate({"a": world.model(0)}, world.holdout, dataset={"name": "x"}, protocol={"kind": "last", "k": "?"})
    assert board.to_json()["dataset"] == {"name": "x"}
    assert board.protocol["kind"] == "last"
    assert board.protocol["k"] == [5, 10, 20]


def test_saved_folder_holds_json_csv_and_markdown(board, tmp_path):
    board.save(tmp_path / "run")
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        "leaderboard.csv",
        "leaderboard.json",
        "leaderboard.md",
    ]
    assert json.loads((tmp_path / "run" / "leaderboard.json").read_text()) == board.to_json()
    rows = list(csv.DictReader((tmp_path / "run" / "leaderboard.csv").read_text().splitlines()))
    assert [row["model"] for row in rows] == ["strong", "itemknn", "weak"]
    assert float(rows[0]["ndcg@10"]) == board["strong"].metrics["ndcg@10"].mean


def test_frame_has_a_row_per_model_with_interval_columns(board):
    frame = board.frame()
    assert frame["model"].to_list() == ["strong", "itemknn", "weak"]
    assert {"ndcg@10", "ndcg@10_low", "ndcg@10_high", "known_ndcg@10", "coverage@10", "fit_seconds"} <= set(
        frame.columns
    )


def test_tables_show_metric_interval_and_protocol(board):
    strong = board["strong"].metrics["ndcg@10"]
    shown = f"{strong.mean:.4f} [{strong.low:.4f}, {strong.high:.4f}]"
    for text in (board.table(), board.markdown(), board._repr_html_(), str(board)):
        assert shown in text
        assert "300 queries with 300 targets; the full catalogue is ranked" in text
        assert "weak does not beat itemknn" in text
    assert board.markdown().startswith("| model | ndcg@10 [95 % over queries] | hit@10 |")


def test_names_cannot_break_a_table(world):
    trial = Trial.of(world.holdout)
    board = Leaderboard.of([trial.entry("<b>a|b</b>", world.model(0))], trial)
    assert "<b>a" not in board._repr_html_()
    assert "a\\|b" in board.markdown()


def test_unknown_row_is_a_key_error(board):
    with pytest.raises(KeyError):
        board["nobody"]


def test_evaluation_names_are_loaded_when_asked_for():
    import foretaste.evaluation as evaluation

    assert all(getattr(evaluation, name) is not None for name in evaluation.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        evaluation.nothing  # noqa: B018


def test_ratings_are_judged_where_the_model_predicts_them_and_the_log_has_them(shop):
    holdout = leave_one_out(shop).test
    values = target_values(shop, holdout)
    rater = SimpleNamespace(pair_ratings=lambda queries, items: np.full(len(items.values), 3, np.float32))
    found = rating_error(rater, shop, holdout, print)
    assert found == pytest.approx(np.sqrt(np.nanmean((values - 3.0) ** 2)))
    assert rating_error(SimpleNamespace(), shop, holdout, print) is None
    assert rating_error(rater, replace(shop, value=None), holdout, print) is None
    said = []

    def refuse(queries, items):
        raise ConfigError("the head is off")

    assert rating_error(SimpleNamespace(pair_ratings=refuse), shop, holdout, said.append) is None
    assert said == ["no ratings are judged: the head is off"]


def test_the_error_of_ratings_stands_in_the_table_where_a_model_predicts_them(world, board, tmp_path):
    assert "rating rmse" not in board.table()
    trial = Trial.of(world.holdout, train=world.train)
    strong, weak = (trial.entry(name, world.model(known)) for name, known in (("strong", 0.9), ("weak", 0.1)))
    rated = trial.over_seeds([replace(strong, rating_rmse=0.75), replace(strong, rating_rmse=1.25)])
    assert rated.rating_rmse == 1.0
    both = Leaderboard.of([rated, weak], trial)
    lines = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in both.markdown().splitlines() if "|" in line
    ]
    place = next(line for line in lines if "model" in line).index("rating rmse")
    assert [next(line for line in lines if line[0] == name)[place] for name in ("strong", "weak")] == ["1.0000", ""]
    both.save(tmp_path)
    rows = list(csv.DictReader((tmp_path / "leaderboard.csv").read_text().splitlines()))
    assert [row["rating_rmse"] for row in rows] == ["1.0", ""]
