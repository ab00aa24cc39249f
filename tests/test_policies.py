"""Policies: greedy choices equal to their definitions, and rules that hold or say so."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foretaste.catalog import Categories, Category, Number, Table
from foretaste.errors import ConfigError, UnknownName
from foretaste.evaluation import Leaderboard, Trial
from foretaste.evaluation.lists import ItemVectors, item_vectors
from foretaste.evaluation.report import write_report
from foretaste.models import EASE
from foretaste.policies import DPP, MMR, AtMost, Calibrated, MustInclude, Never, OnlyFrom, Policy
from foretaste.policies.aims import shares_of
from foretaste.policies.shelf import names_of_items
from foretaste.policies.tradeoff import STRENGTHS, miscalibration, tradeoff
from foretaste.query import TopK
from foretaste.ragged import PAD, Ragged
from foretaste.simulate import Shop, simulate
from foretaste.split import leave_one_out
from foretaste.vocab import Vocab

ITEMS = Vocab(np.arange(100, 112))
GENRES = ["a", "a", "a", "a", "b", "b", "b", "b", "c", "c", "c", "c"]
CATALOG = Table(
    12,
    {
        "genre": Category.from_list(GENRES),
        "tags": Categories.from_lists([["x"], ["x", "y"], ["y"], [], *[["z"]] * 8]),
        "price": Number(np.ones(12)),
    },
)
ONE_HOT = ItemVectors(np.eye(3, dtype=np.float32)[[GENRES.index(each) // 4 for each in GENRES]], np.ones(12, bool), "g")


def candidates(rows, scores=None):
    items = np.array(rows, np.int32)
    if scores is None:
        scores = np.tile(np.linspace(1, 0, items.shape[1]), (len(items), 1))
    scores = np.where(items == PAD, -np.inf, scores).astype(np.float32)
    source = np.where(items == PAD, PAD, 0).astype(np.int8)
    return TopK(items, scores, source, ("model", "popularity"), ITEMS)


def chosen(policy, rows, k, *, scores=None, history=None, vectors=ONE_HOT, said=None):
    history = Ragged.from_lists([[]] * len(rows)) if history is None else history
    log = (lambda message, numbers=None: said.append(message)) if said is not None else (lambda *told: None)
    top = policy.fitted(ITEMS, CATALOG, vectors).choose(candidates(rows, scores), history, k, log)
    assert (np.diff(top.scores[:, : (top.items != PAD).sum(1).min()], axis=1) < 0).all()
    return top


def test_without_aim_and_rules_the_order_stays():
    top = chosen(Policy(), [[3, 1, 7, 9, 0]], 3)
    assert top.items.tolist() == [[3, 1, 7]]
    assert top.columns["relevance"].tolist() == [[1.0, 0.75, 0.5]]
    assert top.source.tolist() == [[0, 0, 0]]


WORLD = st.tuples(
    st.permutations(range(8)).map(lambda order: order[:6]),
    st.lists(st.floats(0, 1), min_size=6, max_size=6).map(lambda each: sorted(each, reverse=True)),
    st.integers(0, 2**16),
    st.floats(0.05, 0.95),
)


def random_vectors(seed):
    values = np.abs(np.random.default_rng(seed).normal(size=(12, 4))).astype(np.float32)
    return ItemVectors(values / np.linalg.norm(values, axis=1, keepdims=True), np.ones(12, bool), "random")


def scaled(scores):
    low, high = min(scores), max(scores)
    return [(each - low) / (high - low) if high > low else 1.0 for each in scores]


@settings(max_examples=40)
@given(WORLD)
def test_mmr_is_its_definition_item_by_item(world):
    items, scores, seed, diversity = world
    vectors = random_vectors(seed)
    scores = np.array(scores, np.float32)
    relevance = dict(zip(items, scaled(scores.tolist()), strict=True))
    expected = []
    while len(expected) < 4:

        def gain(item, above=tuple(expected)):
            nearest = max((float(vectors.values[item] @ vectors.values[other]) for other in above), default=0.0)
            return (1 - diversity) * relevance[item] - diversity * nearest

        left = [item for item in items if item not in expected]
        expected.append(max(left, key=gain))
        best = sorted((gain(item, tuple(expected[:-1])) for item in left), reverse=True)
        if len(best) > 1 and best[0] - best[1] < 1e-5:
            return  # a tie, which rounding decides
    top = chosen(Policy(aim=MMR(diversity=diversity)), [items], 4, scores=scores[None], vectors=vectors)
    assert top.items[0].tolist() == expected


@settings(max_examples=40)
@given(WORLD)
def test_dpp_takes_what_adds_most_to_the_determinant(world):
    items, scores, seed, diversity = world
    vectors = random_vectors(seed)
    scores = np.array(scores, np.float32)
    quality = np.exp((1 - diversity) / (2 * diversity) * np.array(scaled(scores.tolist())))
    if quality.max() > 1e4:
        return  # digits run out
    own = vectors.values[items].astype(np.float64)
    kernel = quality[:, None] * (own @ own.T) * quality
    np.fill_diagonal(kernel, quality**2)
    taken = []
    while len(taken) < 3:  # vectors of four numbers span no more than four
        left = [place for place in range(6) if place not in taken]
        volumes = sorted((np.linalg.det(kernel[np.ix_([*taken, each], [*taken, each])]), each) for each in left)
        if volumes[-1][0] - volumes[-2][0] < 1e-6 * volumes[-1][0]:
            return
        taken.append(volumes[-1][1])
    top = chosen(Policy(aim=DPP(diversity=diversity)), [items], 3, scores=scores[None], vectors=vectors)
    assert top.items[0].tolist() == [items[each] for each in taken]


def test_dpp_puts_equals_last():
    top = chosen(Policy(aim=DPP(diversity=0.5)), [[0, 1, 2, 4, 8]], 5)
    assert sorted(top.items[0, :3].tolist()) == [0, 4, 8]
    assert top.items[0, 3:].tolist() == [1, 2]


def test_calibrated_lists_have_the_mix_of_the_history():
    history = Ragged.from_lists([[0, 1, 4, 8], [4, 5, 6, 7], []])
    rows = [[1, 2, 3, 5, 6, 9, 10, 11]] * 3
    top = chosen(Policy(aim=Calibrated(column="genre", strength=1.0)), rows, 4, history=history)
    genres = [[GENRES[item] for item in row] for row in top.items.tolist()]
    assert sorted(genres[0]) == ["a", "a", "b", "c"]
    assert genres[1][:2] == ["b", "b"]
    assert top.items[2].tolist() == [1, 2, 3, 5]  # nothing to be like


def divergence(listed, wanted):
    """Steck's KL with a hundredth of p in q."""
    found = 0.0
    for genre in "abc":
        p = wanted.count(genre) / len(wanted)
        q = 0.99 * listed.count(genre) / len(listed) + 0.01 * p
        found += p * math.log(p / q) if p else 0.0
    return found


def test_calibration_is_its_definition():
    history, items, strength = Ragged.from_lists([[0, 1, 2, 4, 8]]), [3, 0, 5, 9, 1, 6, 10], 0.6
    scores = np.linspace(1, 0, 7)
    expected: list[int] = []
    for _ in range(4):
        left = [place for place in range(7) if items[place] not in expected]
        gains = [
            (1 - strength) * scores[place]
            - strength * divergence([GENRES[each] for each in [*expected, items[place]]], ["a", "a", "a", "b", "c"])
            for place in left
        ]
        expected.append(items[left[int(np.argmax(gains))]])
    top = chosen(
        Policy(aim=Calibrated(column="genre", strength=strength)), [items], 4, scores=scores[None], history=history
    )
    assert top.items[0].tolist() == expected


@given(st.permutations(range(12)), st.integers(1, 3), st.integers(1, 12), st.sampled_from([None, MMR(), DPP()]))
def test_quotas_hold_or_give_way_and_say_so(order, count, k, aim):
    said = []
    top = chosen(Policy(aim=aim, rules=[AtMost(column="genre", count=count)]), [order], k, said=said)
    listed = [GENRES[item] for item in top.items[0].tolist()]
    assert len(set(top.items[0].tolist())) == k
    if k <= 3 * count:
        assert max(map(listed.count, listed)) <= count
        assert said == []
    else:
        assert max(map(listed[: 3 * count].count, listed)) <= count  # as long as it could
        rule = f"policy: at most {count} of each genre"
        assert said == [f"{rule}: nothing else was left, so {k - 3 * count} places were filled beyond it"]


def test_an_item_of_several_names_counts_for_each():
    top = chosen(Policy(rules=[AtMost(column="tags", count=1)]), [[1, 0, 2, 3, 4]], 3)
    assert top.items.tolist() == [[1, 3, 4]]  # x and y are taken by the first; one has no tags at all


def test_two_quotas_hold_together():
    rules = [AtMost(column="genre", count=2), AtMost(column="tags", count=1)]
    assert chosen(Policy(rules=rules), [[0, 1, 2, 3, 4, 5]], 3).items.tolist() == [[0, 2, 4]]


def test_what_may_never_stand_there_does_not_and_lists_may_be_short():
    said = []
    rules = [Never(items=[103]), OnlyFrom(items=[103, 101, 107])]
    top = chosen(Policy(rules=rules), [[3, 1, 7, 9], [1, 2, 4, PAD]], 3, said=said)
    assert top.items.tolist() == [[1, 7, PAD], [1, PAD, PAD]]
    assert top.scores[0].tolist() == [3, 2, -np.inf]
    assert top.source[1].tolist() == [0, PAD, PAD]
    assert said == ["policy: 2 of 2 lists are short: the rules leave too few candidates"]


def test_what_must_be_there_is_in_the_last_places_unless_met():
    top = chosen(
        Policy(rules=[MustInclude(items=[107, 110])]), [[0, 1, 2, 7, 3], [7, 0, 1, 2, 3], [0, 1, 2, 3, 4]], 4,
        history=Ragged.from_lists([[], [], [10]]),
    )  # fmt: skip
    assert top.items.tolist() == [[0, 1, 7, 10], [7, 0, 1, 10], [0, 1, 2, 7]]
    assert top.sources == ("model", "popularity", "policy")
    assert top.source.tolist() == [[0, 0, 0, 2], [0, 0, 0, 2], [0, 0, 0, 2]]


def test_too_much_that_must_be_there_is_told():
    said = []
    rules = [MustInclude(items=[104, 105, 106]), Never(items=[105])]
    top = chosen(Policy(rules=rules), [[0, 1]], 1, said=said)
    assert top.items[0, 0] in (4, 6)
    assert said == ["policy: 1 of 1 lists have no room for all that they must include"]


def test_names_that_are_not_there_are_refused():
    for rules, error, words in (
        ([Never(items=[999])], UnknownName, "'?999"),
        ([AtMost(column="brand", count=1)], UnknownName, "'brand'"),
        ([AtMost(column="price", count=1)], ConfigError, "'price' is a column of number"),
    ):
        with pytest.raises(error, match=words):
            Policy(rules=rules).fitted(ITEMS, CATALOG, ONE_HOT)
    with pytest.raises(UnknownName, match="'brand'"):
        Policy(aim=Calibrated(column="brand")).fitted(ITEMS, CATALOG, ONE_HOT)
    with pytest.raises(ValueError, match="count"):
        AtMost(column="genre", count=0)
    with pytest.raises(ValueError, match="less than or equal to 1"):
        Policy(aim={"kind": "mmr", "diversity": 2})


def test_queries_are_answered_alone_as_together():
    rng = np.random.default_rng(0)
    rows = [rng.permutation(12)[:8].tolist() for _ in range(20)]
    policy = Policy(aim=MMR(diversity=0.6), rules=[AtMost(column="genre", count=2)])
    together = chosen(policy, rows, 5).items
    for row in range(20):
        assert chosen(policy, [rows[row]], 5).items[0].tolist() == together[row].tolist()


def test_no_queries_no_lists():
    top = (
        Policy(aim=MMR())
        .fitted(ITEMS, CATALOG, ONE_HOT)
        .choose(candidates(np.empty((0, 4), np.int32)), Ragged.empty(0), 3)
    )
    assert top.items.shape == (0, 3)


def test_what_is_wanted_twice_stands_there_once():
    rules = [MustInclude(items=[107]), MustInclude(items=[107, 110])]
    assert chosen(Policy(rules=rules), [[0, 1, 2, 3]], 4).items.tolist() == [[0, 1, 7, 10]]


def test_nothing_to_choose_from_is_an_empty_list():
    top = chosen(Policy(aim=MMR()), np.empty((2, 0), np.int32), 3, history=Ragged.from_lists([[], []]))
    assert (top.items == PAD).all()


def test_how_far_a_list_is_from_the_mix_of_the_history():
    shares = shares_of(names_of_items(CATALOG, "genre"))
    history = Ragged.from_lists([[0, 1, 4], [8], [], [5]])
    items = np.array([[2, 5, 6], [9, 10, PAD], [0, 1, 2], [PAD, PAD, PAD]], np.int32)
    found = miscalibration(items, history, shares)
    p, q = np.array([2 / 3, 1 / 3]), np.array([1 / 3, 2 / 3])
    smooth = 0.99 * q + 0.01 * p
    assert found[0] == pytest.approx((p * np.log(p / smooth)).sum())
    assert found[1] == pytest.approx(0.0)
    assert np.isnan(found[2:]).all()


@pytest.fixture(scope="module")
def tried():
    world = simulate(Shop(users=120, items=64, events=2400, categories=4))
    parts = leave_one_out(world.data, target_kinds=["view"])
    trial = Trial.of(parts.test, train=parts.final, k=(5, 10))
    model = EASE().fit(parts.final)
    aims = (MMR(), DPP(), Calibrated(column="category"))
    vectors = item_vectors(parts.final)
    return trial, model, tradeoff(model, trial, model.about.catalog, vectors, aims)


def test_policies_are_tried_from_weak_to_strong(tried):
    trial, model, found = tried
    points = found["points"]
    assert [(each["aim"], each["strength"]) for each in points] == [
        (None, 0.0), *((aim, strength) for aim in ("mmr", "dpp", "calibrated") for strength in STRENGTHS),
    ]  # fmt: skip
    alone = trial.entry("ease", model)
    for metric in ("ndcg@10", "diversity@10", "coverage@10", "gini@10"):
        assert points[0]["metrics"][metric]["mean"] == pytest.approx(alone.metrics[metric].mean)
    told = {aim: [each["metrics"] for each in points if each["aim"] == aim] for aim in ("mmr", "dpp", "calibrated")}
    begun = points[0]["metrics"]
    for aim in ("mmr", "dpp"):
        assert told[aim][2]["diversity@10"]["mean"] > begun["diversity@10"]["mean"] + 0.03
    far = [each["miscalibration@10"]["mean"] for each in (begun, *told["calibrated"])]
    assert far == sorted(far, reverse=True)
    assert found["calibrated_by"] == "category"


def test_the_report_draws_what_policies_cost(tried, tmp_path):
    trial, model, found = tried
    board = Leaderboard.of([trial.entry("ease", model)], trial)
    board = replace(board, policies={"row": "ease", **found})
    write_report(tmp_path / "report.html", board.to_json(), title="policies")
    page = (tmp_path / "report.html").read_text()
    assert "What list policies give and cost" in page
    for metric in ("diversity@10", "miscalibration@10", "gini@10"):
        assert f'id="plot-policy-{metric}"' in page
    write_report(tmp_path / "plain.html", replace(board, policies={}).to_json(), title="none")
    assert "What list policies" not in (tmp_path / "plain.html").read_text()


def test_a_quota_keeps_room_for_what_must_come():
    said = []
    # Items 0 and 1 are of one genre; 1 must come, and stands last.
    rules = [AtMost(column="genre", count=1), MustInclude(items=[ITEMS[1]])]
    top = chosen(Policy(rules=rules), [[0, 4, 8, 1]], 3, said=said)
    assert sorted(top.items[0].tolist()) == [1, 4, 8]
    assert said == []
    top = chosen(Policy(rules=rules), [[0, 2, 1, 3]], 2, said=said)
    assert 1 in top.items[0].tolist()
    assert "nothing else was left, so 1 places" in said[0]


def test_a_dpp_of_no_diversity_is_the_order_of_relevance():
    assert chosen(Policy(aim=DPP().at(0.0)), [[0, 1, 4, 8]], 4).items[0].tolist() == [0, 1, 4, 8]
    for diversity in (1e-6, 1e-3):  # what is the very same as another one still comes last
        assert chosen(Policy(aim=DPP().at(diversity)), [[0, 1, 4, 8]], 4).items[0].tolist() == [0, 4, 8, 1]
