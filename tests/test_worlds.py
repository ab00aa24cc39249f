"""Each family of models is right in its own world, and simpler ones cannot be."""

from functools import cache

import pytest
import worlds

from foretaste.models import (
    ALS,
    EASE,
    HSTU,
    MODELS,
    BERT4Rec,
    CategoryPopular,
    EnhancedBERT4Rec,
    GraphSAGE,
    GRU4Rec,
    Hybrid,
    Item2Vec,
    ItemKNN,
    LightGCN,
    Popular,
    RecentPopular,
    SASRec,
    SBERTTwoTower,
    T5Hybrid,
    TextSimilarity,
    TwoStage,
    TwoTower,
)
from foretaste.run import Run
from foretaste.train import TrainPlan

RUN = Run(seed=1, device="cpu", precision="fp32")
NET = SASRec(dim=32, length=8, layers=1, dropout=0.0, batch_tokens=512, plan=TrainPlan(epochs=30, lr=0.01))
MASKED = BERT4Rec(
    **{"dim": 32, "length": 8, "layers": 1, "dropout": 0.0, "batch_tokens": 256},
    **{"last_share": 0.5, "masks_per_epoch": 2, "plan": TrainPlan(epochs=30, lr=0.004)},
)
KNOWING = EnhancedBERT4Rec(
    dim=32, length=8, layers=1, dropout=0.0, batch_tokens=512, plan=TrainPlan(epochs=30, lr=0.01)
)
GATED = HSTU(dim=32, length=8, layers=1, dropout=0.0, batch_tokens=512, plan=TrainPlan(epochs=30, lr=0.01))
RECURRENT = GRU4Rec(dim=32, length=8, dropout=0.0, batch_tokens=512, plan=TrainPlan(epochs=30, lr=0.01))
GRAPH = LightGCN(
    dim=16, batch_size=64, loss="bpr", similarity="dot", temperature=1.0, plan=TrainPlan(epochs=20, lr=0.01)
)
TOLD = TwoTower(
    **{"dim": 16, "item_features": True, "user_features": True, "batch_size": 64},
    **{"dropout": 0.0, "plan": TrainPlan(epochs=30, lr=0.02)},
)
SAMPLED = GraphSAGE(dim=16, fanouts=(5, 3), batch_size=64, plan=TrainPlan(epochs=20, lr=0.01))
TOLD_IN_GRAPH = SAMPLED.model_copy(update={"item_features": True, "user_features": True})
# Who reads what is said of items, each with what it is that it must read.
READ_TEXTS = SBERTTwoTower(
    **{"dim": 16, "batch_size": 64, "dropout": 0.0, "item_forgetting": 0.5}, plan=TrainPlan(epochs=30, lr=0.01)
)
OF_TEXTS = {
    "textsimilarity by words": TextSimilarity(by="words"),
    "textsimilarity by encoder": TextSimilarity(),
    "sberttwotower": READ_TEXTS,
    "t5hybrid": T5Hybrid(
        **{"dim": 16, "batch_size": 64, "dropout": 0.0, "item_forgetting": 0.5, "encoder": "./none", "pretrain": True},
        **{"pretrain_epochs": 1, "encoder_dim": 32, "encoder_layers": 1, "plan": TrainPlan(epochs=30, lr=0.01)},
    ),
    "twotower": TOLD.model_copy(update={"user_features": False}),
    "graphsage": SAMPLED.model_copy(update={"item_features": True}),
}
OF_MEANINGS = ("textsimilarity by encoder", "sberttwotower")
NETS = {"sasrec": NET, "hstu": GATED, "bert4rec": MASKED, "gru4rec": RECURRENT, "enhancedbert4rec": KNOWING}
COLLABORATIVE = {
    "itemknn": ItemKNN(neighbors=20),
    "ease": EASE(l2=1.0),
    "als": ALS(dim=2, epochs=20),  # the board has two sorts of people, hence two dimensions
    "lightgcn": GRAPH,
    "graphsage": SAMPLED,
    "twotower": TwoTower(dim=8, batch_size=128, plan=TrainPlan(epochs=15, lr=0.02)),
    "sberttwotower": SBERTTwoTower(  # titles say nothing, so there is nothing to forget items for
        **{"dim": 8, "batch_size": 128, "item_forgetting": 0.0}, plan=TrainPlan(epochs=15, lr=0.02)
    ),
    "t5hybrid": T5Hybrid(  # likewise
        **{"dim": 8, "batch_size": 128, "item_forgetting": 0.0, "plan": TrainPlan(epochs=15, lr=0.02)},
        **{"encoder": "./none", "pretrain": True, "pretrain_epochs": 1, "encoder_dim": 16, "encoder_layers": 1},
    ),
    "item2vec": Item2Vec(dim=8, subsample=None, plan=TrainPlan(epochs=20, lr=0.02)),
}
COLLABORATIVE["hybrid"] = Hybrid(models={"ease": EASE(l2=1.0), "als": COLLABORATIVE["als"]})
ALL = {"popular": Popular(), "recentpopular": RecentPopular(), **COLLABORATIVE, **NETS}
ALL["textsimilarity"] = TextSimilarity(by="words")
ALL["twostage"] = TwoStage(
    sources={"ease": EASE(l2=1.0), "popular": Popular()}, ranker={"dim": 4, "hidden": (8,), "plan": {"epochs": 3}}
)
ALL["bert4rec"] = MASKED.for_epochs(6)  # where nothing is to be learned from order, a few suffice

checkerboard = cache(worlds.checkerboard)
cycle = cache(worlds.cycle)
lopsided = cache(worlds.lopsided)
bridges = cache(worlds.bridges)
twins = cache(worlds.twins)


@pytest.mark.parametrize("name", COLLABORATIVE)
def test_on_the_checkerboard_collaborative_models_are_always_right(name):
    assert checkerboard().hit_rate(COLLABORATIVE[name].fit(checkerboard().train, run=RUN)) == 1.0


@pytest.mark.parametrize("name", ["popular", "textsimilarity"])
def test_on_the_checkerboard_popularity_and_content_are_lost(name):
    assert checkerboard().hit_rate(ALL[name].fit(checkerboard().train)) < 0.1


@pytest.mark.parametrize("name", NETS)
def test_on_the_cycle_a_sequence_model_knows_the_next(name):
    assert cycle().hit_rate(NETS[name].fit(cycle().train, run=RUN)) > 0.95


@pytest.mark.parametrize("name", ["popular", "itemknn", "ease", "als"])
def test_on_the_cycle_models_without_order_do_not(name):
    assert cycle().hit_rate(ALL[name].fit(cycle().train, run=RUN)) < 0.6


# "categorypopular" needs names of items, and here there are none.
@pytest.mark.parametrize("name", [name for name in MODELS if name not in ("popular", "categorypopular")])
def test_where_there_is_only_popularity_to_learn_popular_is_not_beaten(name):
    world = lopsided()
    best = world.expected_hits(Popular().fit(world.train), k=5)
    assert world.expected_hits(ALL[name].fit(world.train, run=RUN), k=5) <= best + 1e-9  # sums in another order


def test_where_there_is_only_popularity_to_learn_popular_is_as_good_as_can_be():
    world = lopsided()
    assert world.expected_hits(Popular().fit(world.train), k=5) == pytest.approx(float(sum(sorted(world.odds)[-5:])))


@pytest.mark.parametrize("settings", [TOLD, TOLD_IN_GRAPH], ids=lambda each: each.called())
def test_without_order_too_newcomers_are_known_by_their_club_and_new_items_by_their_genre(settings):
    both = worlds.clubs()
    model = settings.fit(both.newcomers.train, run=RUN)
    club = model.recommend(both.newcomers.queries, 5).items // 6
    assert club.tolist() == [[0] * 5, [1] * 5]
    assert both.regulars.hit_rate(model) == 1.0


def test_newcomers_are_known_by_their_club_and_new_items_by_their_genre():
    both = worlds.clubs()
    model = KNOWING.fit(both.newcomers.train, run=RUN)
    assert both.newcomers.hit_rate(model) == 1.0
    assert both.regulars.hit_rate(model) == 1.0


@pytest.mark.parametrize(
    "name", [name for name in ALL if name not in ("enhancedbert4rec", "sberttwotower", "t5hybrid", "textsimilarity")]
)
def test_of_newcomers_and_new_items_models_of_events_alone_know_nothing(name):
    both = worlds.clubs()
    model = ALL[name].fit(both.newcomers.train, run=RUN)
    assert both.newcomers.hit_rate(model) <= 0.5
    assert both.regulars.hit_rate(model) == 0.0


def test_when_fashion_changes_recent_popularity_follows_and_popularity_does_not():
    world = worlds.fashion()
    assert world.hit_rate(RecentPopular().fit(world.train)) == 1.0
    assert world.hit_rate(RecentPopular(half_life_days=None, window_days=7).fit(world.train)) == 1.0
    assert world.hit_rate(Popular().fit(world.train)) == 0.0


@pytest.mark.parametrize("settings", [GRAPH, SAMPLED, COLLABORATIVE["twotower"]], ids=lambda each: each.called())
def test_over_bridges_a_graph_finds_what_nobody_met_together(settings):
    assert bridges().hit_rate(settings.fit(bridges().train, run=RUN), k=2) > 0.9


@pytest.mark.parametrize("name", ["popular", "recentpopular", "itemknn", "ease", "als", "hybrid"])
def test_over_bridges_models_of_what_was_met_together_find_nothing(name):
    assert bridges().hit_rate(ALL[name].fit(bridges().train, run=RUN), k=2) == 0


@pytest.mark.parametrize("name", OF_TEXTS)
def test_a_twin_that_nobody_met_is_known_by_the_same_text(name):
    assert twins("text").hit_rate(OF_TEXTS[name].fit(twins("text").train, run=RUN)) == 1.0


@pytest.mark.parametrize("name", OF_TEXTS)
def test_a_twin_in_other_words_is_known_to_who_understands_them(name):
    rate = twins("meaning").hit_rate(OF_TEXTS[name].fit(twins("meaning").train, run=RUN))
    assert rate == 1.0 if name in OF_MEANINGS else rate <= 0.25  # some are met by chance


@pytest.mark.parametrize(
    "settings", [CategoryPopular(), OF_TEXTS["twotower"], OF_TEXTS["graphsage"]], ids=lambda each: each.called()
)
def test_a_twin_that_nobody_met_is_known_by_the_same_names(settings):
    assert twins("names").hit_rate(settings.fit(twins("names").train, run=RUN)) == 1.0


@pytest.mark.parametrize("name", [name for name in ALL if name not in (*OF_TEXTS, "textsimilarity")])
def test_of_a_twin_that_nobody_met_models_of_events_know_nothing(name):
    assert twins("text").hit_rate(ALL[name].fit(twins("text").train, run=RUN)) == 0.0


@pytest.mark.parametrize("name", ["twotower", "graphsage"])
def test_nor_do_those_that_could_read_but_were_not_told_to(name):
    assert twins("text").hit_rate(COLLABORATIVE[name].fit(twins("text").train, run=RUN)) == 0.0
