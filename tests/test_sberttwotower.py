"""Two towers that read: what text tells of items never met, of texts alone, of people; and the fusion by hand."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch

from foretaste import load
from foretaste.catalog import Catalog, Category, Table, Text, Time
from foretaste.dataset import Dataset
from foretaste.encoders import cache_folder
from foretaste.errors import ConfigError, MissingData, UnknownName
from foretaste.models import SBERTTwoTower
from foretaste.nets.modalities import Modalities
from foretaste.optimizers import optimizer_of, set_rate
from foretaste.query import Holdout, Queries
from foretaste.ragged import Ragged
from foretaste.run import Run, silent
from foretaste.text_encoder import TextEncoder
from foretaste.train import TrainPlan
from foretaste.vocab import Vocab

RUN = Run(seed=1, device="cpu", precision="fp32")
COOKING = ["a book on baking bread", "pasta at home", "soups for the winter", "the art of sauces", "cakes and tarts"]
SPACE = ["rockets to the moon", "the red planet", "life of an astronaut", "black holes explained", "stars and galaxies"]
NEVER = ["how to roast vegetables", "a history of telescopes"]  # no word in common with the rest but the smallest
READING = SBERTTwoTower(
    **{"dim": 16, "batch_size": 64, "dropout": 0.0, "item_forgetting": 0.5},
    plan=TrainPlan(epochs=30, lr=0.01),
)


def library(users: int = 80, told: bool = False) -> Dataset:
    """Half of the people read about cooking, half about space; two books were never read."""
    rng = np.random.default_rng(3)
    kind = np.arange(users) % 2
    item = np.concatenate([5 * each + rng.permutation(5)[:4] for each in kind])
    table = Table(12, {"title": Text.from_list([*COOKING, *SPACE, *NEVER])})
    about = ["loves to cook", "looks at the sky"]
    people = Table(users, {"about": Text.from_list([about[each] for each in kind])} if told else {})
    log = Dataset.from_arrays(
        *(Vocab(np.arange(users)), Vocab(np.arange(12)), np.repeat(np.arange(users), 4), item),
        catalog=Catalog(table, people),
    )
    return log


@pytest.fixture(scope="module")
def model():
    return READING.fit(library(), run=RUN)


def histories(*rows) -> Queries:
    return Queries(Ragged.from_lists(list(rows)))


def test_items_never_met_are_known_by_what_is_written_of_them(model):
    found = model.recommend(histories([0, 1, 2, 3, 4], [5, 6, 7, 8, 9]), 1)
    assert found.items.ravel().tolist() == [10, 11]
    assert model.answerable().all()


def test_texts_can_be_ranked_that_are_of_no_item(model):
    scores = model.score_texts(histories([0, 1], [6, 8], []), ["grilling fish", "the first landing on Mars", ""])
    assert scores[0, 0] > scores[0, 1] and scores[1, 1] > scores[1, 0]
    assert np.isnan(scores[:, 2]).all() and np.isnan(scores[2]).all()


def test_people_are_known_by_what_is_written_about_them_though_training_had_none(model):
    nobody = model.told(histories([], []), ["wants to learn how to cook", "dreams of flying to other planets"])
    found = model.recommend(nobody, 3).items
    assert set(found[0].tolist()) <= {0, 1, 2, 3, 4, 10}
    assert set(found[1].tolist()) <= {5, 6, 7, 8, 9, 11}
    with pytest.raises(ConfigError, match="2 texts are about 1 people"):
        model.told(histories([0]), ["a", "b"])


def test_of_what_is_said_in_queries_nothing_is_kept(model):
    def kept():
        return {path: path.stat().st_size for path in cache_folder().rglob("*")}

    before = kept()
    model.recommend(model.told(histories([0]), "has been ill and is in need of light meals"), 3)
    model.score_texts(histories([0]), ["a book that nobody is to know of yet"])
    assert kept() == before
    model.with_items(pl.DataFrame({"item_id": [70], "title": ["a book that is here to stay"]}), log=silent)
    assert len(kept()) == len(before) + 1


def test_what_is_written_of_people_is_learned_from():
    model = READING.model_copy(update={"history_dropout": 0.3}).fit(library(told=True), run=RUN)
    table = Table(2, {"about": Text.from_list(["loves to cook", "looks at the sky"])})
    found = model.recommend(Queries(Ragged.empty(2), user_features=table), 4)
    assert set(found.items[0].tolist()) <= {0, 1, 2, 3, 4, 10}
    assert set(found.items[1].tolist()) <= {5, 6, 7, 8, 9, 11}
    assert (found.source == 0).all()


def test_what_is_read_of_people_can_be_chosen():
    data = library(told=True)
    people = data.catalog.users.with_column("address", Text.from_list([f"{each} Moon Street" for each in range(80)]))
    people = people.with_column("job", Category.from_list([("cook", "pilot")[each % 2] for each in range(80)]))
    data = replace(data, catalog=replace(data.catalog, users=people.with_column("since", Time(np.arange(80)))))

    def read(asked=people, **changes):
        return READING.model_copy(update=changes).written_about(asked)[0]

    assert read() == "loves to cook. 0 Moon Street"
    assert read(user_text_columns=("about",)) == "loves to cook"
    assert read(user_text_columns=("job", "about")) == "job: cook. loves to cook"
    assert read(user_text_columns=()) == ""
    told = Table(1, {"told": Text.from_list(["tired"]), "address": Text.from_list(["Moon Street"])})
    assert read(told, user_text_columns=("about",)) == "tired"  # what a query tells is read, whatever else is

    def fit(*columns):
        return READING.model_copy(update={"user_text_columns": columns}).for_epochs(1).fit(data, run=RUN)

    np.testing.assert_array_equal(
        fit("about").item_vectors(), READING.for_epochs(1).fit(library(told=True), run=RUN).item_vectors()
    )
    assert not len(fit().net.people_texts)
    with pytest.raises(UnknownName, match="Unknown column 'abuot' - did you mean 'about'"):
        fit("abuot")
    with pytest.raises(ConfigError, match="user_text_columns: 'since' is a column of time"):
        fit("since")
    with pytest.raises(MissingData, match="USER_FEATURES"):
        READING.model_copy(update={"user_text_columns": ("about",)}).fit(library(), run=RUN)


def test_reasons_are_shares_of_what_is_there(model):
    asked = histories([0, 1], [])
    reasons = model.reasons(asked, [0, 10])
    np.testing.assert_allclose(reasons.similarities[0], model.score(asked)[0, [0, 10]], rtol=1e-5)
    assert np.isnan(reasons.similarities[1]).all()
    np.testing.assert_allclose(reasons.item_weights.sum(1), 1, rtol=1e-5)
    own = reasons.item_kinds.index("events")
    assert reasons.item_weights[0, own] > 0 and reasons.item_weights[1, own] == 0  # nobody met item 10
    np.testing.assert_allclose(reasons.person_weights[0].sum(), 1, rtol=1e-5)
    assert (reasons.person_weights[1] == 0).all()
    assert reasons.item_attention.shape == (2, 2, 3, 3)
    assert (reasons.item_attention[1, :, :, own] == 0).all()


def test_new_items_are_read_and_kept(model, tmp_path):
    arrivals = pl.DataFrame({"item_id": [70, 71], "title": ["stews and curries", None]})
    grown = model.with_items(arrivals, log=silent)
    assert grown.answerable()[12:].tolist() == [True, False]
    found = grown.recommend(histories([0, 1, 2, 3, 4]), 2).items[0].tolist()
    assert set(found) == {10, 12}
    indexed = model.with_index("flat").with_items(arrivals, log=silent)
    regular = histories([0, 1, 2, 3, 4])
    np.testing.assert_array_equal(indexed.recommend(regular, 3).items, grown.recommend(regular, 3).items)
    grown.save(tmp_path / "bundle")
    again = load(tmp_path / "bundle")
    np.testing.assert_array_equal(
        again.recommend(histories([0, 6]), 5).items, grown.recommend(histories([0, 6]), 5).items
    )
    assert again.knows_new_items()


def test_the_last_layers_of_the_encoder_can_learn_at_a_rate_of_their_own(tmp_path):
    settings = READING.model_copy(
        update={"unfrozen_layers": 1, "encoder_batch": 4, "encoder_lr": 1e-3, "plan": TrainPlan(epochs=2, lr=0.01)}
    )
    tuned = settings.fit(library(told=True), run=RUN)
    before = TextEncoder("all-MiniLM-L6-v2").network
    changed = {
        name.split("encoder.layer.")[1].split(".")[0]
        for (name, old), new in zip(before.named_parameters(), tuned.net.encoder.network.parameters(), strict=True)
        if not torch.equal(old.cpu(), new)
    }
    assert changed == {"5"}  # of six
    np.testing.assert_allclose(tuned.net.texts.float(), tuned.net.encoder.encode([*COOKING, *SPACE, *NEVER]), atol=1e-3)
    tuned.save(tmp_path / "bundle")
    again, asked = load(tmp_path / "bundle"), histories([0, 1], [6, 8])
    np.testing.assert_allclose(again.score_texts(asked, ["fish"]), tuned.score_texts(asked, ["fish"]), atol=1e-5)
    assert not np.allclose(tuned.net.encoder.encode(["fish"]), before.encode(["fish"]), atol=1e-3)
    groups = optimizer_of(settings.plan, tuned.net.parameters())
    set_rate(groups, 0.01)
    assert {group["lr"]: len(group["params"]) > 0 for group in groups.param_groups} == {0.01: True, 0.001: True}
    silent_of = settings.model_copy(update={"user_text_columns": ()}).fit(library(told=True), run=RUN)
    assert not len(silent_of.net.people_texts)
    with pytest.raises(ConfigError, match="unfrozen_layers is 7; the encoder has 6 layers"):
        settings.model_copy(update={"unfrozen_layers": 7}).fit(library(), run=RUN)


def test_a_resumed_fit_of_an_encoder_that_learns_is_as_if_it_had_never_stopped(tmp_path):
    data, plan = library(told=True), TrainPlan(epochs=3, lr=0.01, average=0.9)
    settings = READING.model_copy(
        update={"unfrozen_layers": 1, "encoder_batch": 4, "encoder_lr": 1e-3, "dropout": 0.2, "plan": plan}
    )
    people = Queries.of_users(data, np.arange(6))
    validation = Holdout(people, Ragged.from_lists([[item] for item in (1, 6, 2, 7, 3, 8)]))

    def stop(message, numbers=None):
        if numbers and numbers.get("epoch") == 3:
            raise InterruptedError

    run = replace(RUN, checkpoints=tmp_path / "c", resume=True)
    with pytest.raises(InterruptedError):
        settings.fit(data, validation, replace(run, log=stop))
    resumed, whole = settings.fit(data, validation, run), settings.fit(data, validation, RUN)
    # The best weights may be of an epoch before, so the loss of the last is looked at too.
    assert resumed.training["curve"][2]["loss"] == whole.training["curve"][2]["loss"]
    kept = resumed.state()
    assert all(np.array_equal(kept[part], array, equal_nan=True) for part, array in whole.state().items())


def test_without_any_text_it_is_refused_and_texts_that_are_the_same_are_no_error():
    data = library()
    empty = replace(data, catalog=Catalog(Table(12, {"title": Text.from_list([""] * 12)}), Table(80)))
    with pytest.raises(MissingData, match="No item of events has a text: its columns are title"):
        READING.fit(empty, run=RUN)
    same = replace(data, catalog=Catalog(Table(12, {"title": Text.from_list(["a book"] * 11 + [""])}), Table(80)))
    said = []
    fitted = READING.for_epochs(1).fit(same, run=replace(RUN, log=lambda message, numbers=None: said.append(message)))
    assert "sberttwotower: 1 of 12 items have no text" in said
    assert fitted.answerable().tolist() == [True] * 11 + [False]


def test_a_model_is_the_same_whether_its_texts_were_encoded_before_or_not(tmp_path, monkeypatch):
    short, known = READING.for_epochs(1), library()
    first = short.fit(known, run=RUN)
    monkeypatch.setenv("FORETASTE_CACHE", str(tmp_path))
    second = short.fit(known, run=RUN)  # here the encoder is loaded, which draws weights before it reads them
    np.testing.assert_array_equal(first.item_vectors(), second.item_vectors())


def test_kinds_are_fused_as_it_is_written():
    torch.manual_seed(0)
    fusion = Modalities(3, 8, 2, 0.0).eval()
    for each in fusion.parameters():
        torch.nn.init.normal_(each, std=0.5)
    vectors = torch.randn(2, 3, 8)
    there = torch.tensor([[True, False, True], [False, False, False]])
    found = fusion(vectors, there)
    assert (found[1] == 0).all()
    x = vectors[0, [0, 2]]
    read = fusion.norm(vectors[0] + fusion.kinds)[[0, 2]]
    q, k, v = fusion.queries(read), fusion.keys(read), fusion.values(read)
    heads = [slice(0, 4), slice(4, 8)]
    mixed = torch.cat([(q[:, h] @ k[:, h].T / 2).softmax(1) @ v[:, h] for h in heads], 1)
    attended = x + fusion.out(mixed)
    kinds = fusion.kinds[[0, 2]]
    weights = fusion.weigh(fusion.hidden(fusion.weighed_norm(attended + kinds)).tanh()).softmax(0)
    torch.testing.assert_close(found[0], (weights * attended).sum(0), rtol=1e-4, atol=1e-5)


def test_fusion_begins_as_the_mean_of_what_is_there_and_the_rest_does_not_matter():
    fusion, vectors = Modalities(3, 8, 2, 0.0), torch.randn(4, 3, 8)
    there = torch.tensor([[True, True, False]] * 4)
    torch.testing.assert_close(fusion(vectors, there), vectors[:, :2].mean(1))
    other = vectors.clone()
    other[:, 2] = 100
    torch.testing.assert_close(fusion(other, there), fusion(vectors, there))
