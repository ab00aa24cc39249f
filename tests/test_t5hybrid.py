"""A T5 that reads items: what is hidden from it, prompts, how aspects and events are fused, and what texts tell."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
import torch
from pydantic import ValidationError
from transformers import AutoTokenizer, T5Config, T5ForConditionalGeneration

from foretaste import load
from foretaste.catalog import Catalog, Categories, Table, Text, Time
from foretaste.dataset import Dataset
from foretaste.encoders import cache_folder
from foretaste.errors import ConfigError, MissingData, UnknownName
from foretaste.models import T5Hybrid
from foretaste.nets.modalities import Gate, Modalities
from foretaste.prompts import prompted, prompted_rows
from foretaste.query import Queries
from foretaste.ragged import Ragged
from foretaste.run import Run, silent
from foretaste.t5_encoder import T5Encoder
from foretaste.t5_pretraining import OwnT5, SpanBatches, T5Size, pretrained, spans_hidden, tokenizer_of
from foretaste.train import TrainPlan
from foretaste.vocab import Vocab

RUN = Run(seed=1, device="cpu", precision="fp32")
# A T5 made of these knows words alone, so that like texts share some.
COOKING = ["bread from the oven", "soup in a pot", "bread and soup", "the pot and the oven", "dinner from a pot"]
SPACE = [
    "a rocket to the moon",
    "the stars and the moon",
    "rocket and stars",
    "planet of the stars",
    "moon of a planet",
]
NEVER = ["dinner of bread", "rocket to a planet"]
TITLES = [*COOKING, *SPACE, *NEVER]
TINY = T5Size(dim=16, layers=1, heads=2)
READING = T5Hybrid(
    **{"dim": 16, "batch_size": 64, "dropout": 0.0, "item_forgetting": 0.5, "item_features": False},
    **{"encoder": "./none", "pretrain": True, "pretrain_epochs": 1, "encoder_dim": 32, "encoder_layers": 1},
    plan=TrainPlan(epochs=30, lr=0.01),
)
BRIEFLY = READING.for_epochs(1)


def library(users: int = 80, titles=TITLES) -> Dataset:
    """Half of the people read about cooking, half about space; two books were never read."""
    rng = np.random.default_rng(3)
    kind = np.arange(users) % 2
    item = np.concatenate([5 * each + rng.permutation(5)[:4] for each in kind])
    return Dataset.from_arrays(
        *(Vocab(np.arange(users)), Vocab(np.arange(12)), np.repeat(np.arange(users), 4), item),
        catalog=Catalog(Table(12, {"title": Text.from_list(titles)}), Table(users)),
    )


def histories(*rows) -> Queries:
    return Queries(Ragged.from_lists(list(rows)))


def logged(said) -> Run:
    return replace(RUN, log=lambda message, numbers=None: said.append(message))


@pytest.fixture(scope="module")
def model():
    return READING.fit(library(), run=RUN)


@pytest.fixture(scope="module")
def named(tmp_path_factory):
    """The folder of a small T5 with random weights, as others publish theirs."""
    folder = tmp_path_factory.mktemp("t5")
    own = pretrained(TITLES, TINY, 1, RUN)
    own.network.save_pretrained(folder)
    own.tokenizer.save_pretrained(folder)
    return folder


# What is hidden from a T5.

SENTINELS = range(100, 200)


def reassembled(inputs, targets) -> list[int]:
    """The text: each sentinel of the inputs stands for what is written behind it in the targets."""
    hidden, at = {}, None
    for token in targets[:-1]:
        at = token if token in SENTINELS else at
        hidden.setdefault(at, []).extend([] if token in SENTINELS else [token])
    return [each for token in inputs[:-1] for each in (hidden[token] if token in SENTINELS else [token])]


@pytest.mark.parametrize("length", [2, 3, 7, 20, 64, 500])
def test_what_is_read_and_what_is_written_make_up_the_text(length):
    tokens = np.arange(1000, 1000 + length)
    for seed in range(20):
        inputs, targets = spans_hidden(tokens, SENTINELS, np.random.default_rng(seed))
        assert inputs[-1] == targets[-1] == 1  # the end
        assert reassembled(inputs.tolist(), targets.tolist()) == tokens.tolist()
        read = [token for token in inputs if token in SENTINELS]
        written = [token for token in targets if token in SENTINELS]
        assert read == list(range(100, 100 + len(read)))
        assert written == [*read, 100 + len(read)] == [*read, targets[-2]]
        hidden = len(targets) - 1 - len(written)
        assert hidden == max(1, round(0.15 * length))
        assert len(read) == max(1, round(hidden / 3))
        assert not any(a in SENTINELS and b in SENTINELS for a, b in pairwise(inputs))


def test_spans_are_anywhere_and_of_any_length():
    drawn = [spans_hidden(np.arange(1000, 1040), SENTINELS, np.random.default_rng(seed)) for seed in range(400)]
    places = np.array([1000 + index in targets for _, targets in drawn for index in range(40)]).reshape(400, 40).mean(0)
    assert places[[0, -1]].min() > 0.02  # the first and the last are of fewer spans
    assert places[2:-2].min() > 0.1 and places.max() < 0.22
    lengths = {int(np.flatnonzero(targets == 101)[0]) - 1 for _, targets in drawn}
    assert lengths == {1, 2, 3, 4, 5}  # six tokens in two spans


def test_an_epoch_is_bounded_and_padded_and_the_same_when_asked_again():
    texts = Ragged.from_lists([list(range(1000, 1000 + length)) for length in (1, 5, 300)])
    batches = SpanBatches(texts, SENTINELS, np.random.default_rng(0))
    assert sum(len(batch) for batch in batches) == 1024
    starts = set()
    for batch in batches:
        for inputs, targets in zip(batch.inputs.tolist(), batch.targets.tolist(), strict=True):
            read, written = [each for each in inputs if each != 0], [each for each in targets if each != -100]
            text = reassembled(read, written)
            assert len(text) in (5, 64)
            assert text == list(range(text[0], text[0] + len(text)))
            starts.add(text[0])
    assert len(starts) > 150  # windows of the long one begin anywhere
    assert torch.equal(batches[3].inputs, batches[3].inputs)
    many = Ragged.from_lists([[1000, 1001]] * 5000)
    assert sum(len(batch) for batch in SpanBatches(many, SENTINELS, np.random.default_rng(0))) == 2048
    assert len(SpanBatches(Ragged.from_lists([[7]]), SENTINELS, np.random.default_rng(0))) == 0


def test_words_are_cut_into_pieces_that_texts_share():
    tokenizer = tokenizer_of(TITLES)
    assert tokenizer.to_str() == tokenizer_of(TITLES).to_str()
    assert [tokenizer.token_to_id(each) for each in ("<pad>", "</s>", "<unk>", "<extra_id_0>", "<extra_id_99>")] == [
        *(0, 1, 2, 3, 102)
    ]
    assert tokenizer.encode("Rocket").tokens == ["▁rocket", "</s>"]
    assert len(tokenizer.encode("dinners").tokens) > 2
    assert tokenizer.encode("\U0001f600").tokens[-2:] == ["<unk>", "</s>"]


def test_a_made_t5_is_decided_by_its_seed_and_found_on_disk(tmp_path, monkeypatch):
    said, begun = [], torch.get_rng_state()
    monkeypatch.setenv("FORETASTE_CACHE", str(tmp_path / "a"))
    first = pretrained(TITLES, TINY, 2, logged(said))
    losses = [float(line.split("loss ")[1].split(",")[0]) for line in said if " loss " in line]
    assert len(losses) == 2 and losses[1] < losses[0] - 0.2
    found = pretrained(TITLES, TINY, 2, logged(said))
    assert len(said) == 3  # what it is made from, and two epochs; then nothing
    monkeypatch.setenv("FORETASTE_CACHE", str(tmp_path / "b"))
    again, other = pretrained(TITLES, TINY, 2, RUN), pretrained(TITLES, TINY, 2, replace(RUN, seed=2))
    assert first.digest() == found.digest() == again.digest() != other.digest()
    assert torch.equal(begun, torch.get_rng_state())
    for path in (tmp_path / "b" / "t5").iterdir():
        path.write_bytes(b"torn")
    assert pretrained(TITLES, TINY, 2, RUN).digest() == first.digest()


def test_the_decoder_is_kept(model):
    own = model.encoder.own
    network = OwnT5(own.size, dict(own.arrays)).network
    assert isinstance(network, T5ForConditionalGeneration)
    tokens = torch.tensor([own.tokenizer("bread and <extra_id_0>")["input_ids"]])
    assert network.generate(tokens, max_new_tokens=4).shape[0] == 1


# Prompts.


def test_a_prompt_stands_before_what_a_row_says_or_around_its_columns():
    table = Table(
        3,
        {
            "title": Text.from_list(["Ran", "<i>Ikiru</i>", ""]),
            "genres": Categories.from_lists([["drama", "war"], [], []]),
            "since": Time(np.zeros(3, np.int64)),
        },
    )
    assert prompted_rows(table, "plot: ", ["title"]) == ["plot: Ran", "plot: Ikiru", ""]
    assert prompted_rows(table, "{title} is {genres}!") == ["Ran is drama, war!", "Ikiru is !", ""]
    assert prompted_rows(table, "genre: {genres} {{}}") == ["genre: drama, war {}", "", ""]
    with pytest.raises(UnknownName, match="Unknown column 'genre' - did you mean 'genres'"):
        prompted_rows(table, "{genre}")
    with pytest.raises(ConfigError, match="'since' is a column of time"):
        prompted_rows(table, "{since}")
    assert prompted("<b>A</b> film", "plot: ") == "plot: A film"
    assert prompted("A film", "{title} is {genres}!") == "A film is !"
    assert prompted("", "plot: ") == prompted(" ", "{title}") == ""


@pytest.mark.parametrize("prompt", ["{", "}", "{}", "{a:5}", "{a!r}"])
def test_a_prompt_with_other_braces_is_refused(prompt):
    with pytest.raises(ValidationError, match="the prompt"):
        T5Hybrid(aspects={"a": prompt})


def test_without_an_aspect_nothing_can_be_read():
    with pytest.raises(ValidationError, match="aspects"):
        T5Hybrid(aspects={})


# Encoding.


def test_a_text_is_the_mean_of_its_states_whatever_stands_beside_it(named, tmp_path, monkeypatch):
    monkeypatch.setenv("FORETASTE_CACHE", str(tmp_path))
    encoder = T5Encoder(str(named))
    texts = ["bread", "", "rocket to the moon and to the stars " * 100, "bread and soup"]
    found = encoder.encode(texts)
    assert found.shape == (4, 16) and np.isnan(found[1]).all()
    tokens = torch.tensor([AutoTokenizer.from_pretrained(named)("bread and soup")["input_ids"]])
    assert tokens[0, -1] == 1
    whole = T5ForConditionalGeneration.from_pretrained(named).eval()
    with torch.no_grad():
        states = whole.get_encoder()(input_ids=tokens).last_hidden_state[0]
    np.testing.assert_allclose(found[3], states.mean(0), rtol=1e-4, atol=1e-5)
    again = T5Encoder(str(named))
    np.testing.assert_array_equal(again.encode(["bread and soup", "bread"]), found[[3, 0]])
    assert "_loaded" not in vars(again)
    monkeypatch.setenv("FORETASTE_CACHE", str(tmp_path / "other"))
    np.testing.assert_allclose(T5Encoder(str(named)).encode(["bread"])[0], found[0], rtol=1e-4, atol=1e-5)


def test_a_cache_that_cannot_be_written_is_said_and_no_more(named, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FORETASTE_CACHE", str(tmp_path / "file"))
    said = []
    found = T5Encoder(str(named)).encode(["bread"], lambda message, numbers=None: said.append(message))
    assert np.isfinite(found).all()
    assert said[-1].startswith("what was encoded is not kept: Cannot write")
    assert pretrained(["bread and soup"], TINY, 1, logged(said)).size == TINY
    assert said[-1].startswith("the T5 is not kept for another fit: Cannot write")


def test_a_tokenizer_of_another_is_refused(named, tmp_path):
    for path in named.iterdir():
        if "tokenizer" not in path.name:
            (tmp_path / path.name).symlink_to(path)
    T5ForConditionalGeneration(
        T5Config(vocab_size=500, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2, decoder_start_token_id=0)
    ).save_pretrained(tmp_path / "large")
    with pytest.raises(ConfigError, match=r"There is no T5 '.*': its tokenizer has \d+ pieces and its network 500"):
        T5Encoder(str(tmp_path / "large")).encode(["bread"])


@pytest.mark.data
def test_the_published_tokenizer_is_read(published, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(published / "t5-tokenizer")
    T5ForConditionalGeneration(
        T5Config(vocab_size=32128, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2, decoder_start_token_id=0)
    ).save_pretrained(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).symlink_to(published / "t5-tokenizer" / name)
    encoder = T5Encoder(str(tmp_path))
    found = encoder.encode(["summarize: a war film", "summarize: a love story"])
    assert found.shape == (2, 8) and not np.array_equal(found[0], found[1])
    assert encoder.tokenizer("summarize: a war film")["input_ids"] == tokenizer("summarize: a war film")["input_ids"]
    assert encoder.tokenizer.convert_ids_to_tokens(32099) == "<extra_id_0>"


def test_a_t5_that_is_not_to_be_had_says_how_to_get_one(tmp_path, monkeypatch):
    monkeypatch.setattr("foretaste.encoders.hub_answers", lambda: False)
    lacking = BRIEFLY.model_copy(update={"pretrain": False, "encoder": "t5-none"})
    expected = r"There is no T5 't5-none': it is not on this machine, and the Hugging Face hub .* or set pretrain: true"
    with pytest.raises(ConfigError, match=expected):
        lacking.fit(library(), run=RUN)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"There is no T5 '.*empty': .*Give a folder that holds one"):
        lacking.model_copy(update={"encoder": str(tmp_path / "empty")}).fit(library(), run=RUN)
    with pytest.raises(ConfigError, match=r"'./none': there is no such folder, and the hub has no such names"):
        lacking.model_copy(update={"encoder": "./none"}).fit(library(), run=RUN)
    said = []
    BRIEFLY.model_copy(update={"encoder": "t5-none"}).fit(library(), run=logged(said))
    reason = "it is not on this machine, and the Hugging Face hub cannot be reached"
    assert said[0] == f"t5hybrid: There is no T5 't5-none': {reason}; a small one is made"


def test_a_t5_that_is_to_be_had_is_taken_though_one_might_be_made(named, tmp_path):
    model = BRIEFLY.model_copy(update={"encoder": str(named)}).fit(library(), run=RUN)
    assert model.encoder.own is None
    assert model.net.texts.shape == (12, 4, 16)
    model.save(tmp_path / "bundle")
    again, asked = load(tmp_path / "bundle"), histories([0, 1], [6, 8])
    kept = set(cache_folder().rglob("*"))
    np.testing.assert_array_equal(again.score_texts(asked, ["soup"]), model.score_texts(asked, ["soup"]))
    assert set(cache_folder().rglob("*")) == kept  # of queries nothing is kept


# Fusion.


def test_a_gate_mixes_number_by_number_as_it_is_written():
    torch.manual_seed(0)
    gate, vectors = Gate(3), torch.randn(4, 2, 3)
    there = torch.tensor([[True, True], [True, False], [False, True], [False, False]])
    vectors *= there.unsqueeze(-1)
    torch.testing.assert_close(gate(vectors, there)[0], vectors[0].mean(0))  # at first
    torch.nn.init.normal_(gate.gate.weight)
    torch.nn.init.normal_(gate.gate.bias)
    found, share = gate(vectors, there), gate.shares(vectors, there)
    g = torch.sigmoid(gate.gate.weight @ torch.cat([vectors[0, 0], vectors[0, 1]]) + gate.gate.bias)
    torch.testing.assert_close(share[0], g)
    torch.testing.assert_close(found[0], g * vectors[0, 0] + (1 - g) * vectors[0, 1])
    torch.testing.assert_close(found[1], vectors[1, 0])
    torch.testing.assert_close(found[2], vectors[2, 1])
    assert (found[3] == 0).all()
    assert share[1:].tolist() == [[1.0] * 3, [0.0] * 3, [0.0] * 3]


def test_aspects_are_pooled_by_attention_and_then_fused_with_the_own_vector(model):
    net, items = model.net, torch.tensor([0, 10])
    with torch.no_grad():
        kinds, there = net.content_of(items)
        expected = torch.einsum("aw,awd->ad", net.texts[0].float(), net.read_texts)
        torch.testing.assert_close(kinds[0], expected, rtol=1e-4, atol=1e-5)
        assert there.all()
        weights, attention, gates = net.shares(items)
        pool = net.content_kinds
        read = pool.norm(kinds[0] + pool.kinds)
        q, k, v = pool.queries(read), pool.keys(read), pool.values(read)
        heads = [slice(0, 8), slice(8, 16)]
        shares = [(q[:, h] @ k[:, h].T / 8**0.5).softmax(1) for h in heads]
        torch.testing.assert_close(attention[0], torch.stack(shares), rtol=1e-4, atol=1e-5)
        attended = kinds[0] + pool.out(torch.cat([s @ v[:, h] for s, h in zip(shares, heads, strict=True)], 1))
        hidden = pool.hidden(pool.weighed_norm(attended + pool.kinds)).tanh()
        torch.testing.assert_close(weights[0], pool.weigh(hidden).softmax(0)[:, 0], rtol=1e-4, atol=1e-5)
        content = weights[0] @ attended
        fused = gates[0] * net.items.weight[0] + (1 - gates[0]) * content
        torch.testing.assert_close(net.whole_inputs(items)[0], fused, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(
            net.whole_inputs(items)[1], net.pooled(*net.content_of(items))[1], rtol=1e-4, atol=1e-5
        )


def test_numbers_are_brought_to_a_like_variance_and_what_does_not_vary_is_not_blown_up(model):
    net = READING.for_epochs(1).fit(library(), run=RUN).net
    rng = np.random.default_rng(0)
    vectors = (rng.normal(size=(12, 4, 32)) * np.linspace(1, 100, 32) + 7).astype(np.float32)
    vectors[:, :, 5] = 3
    vectors[:, 1] = 2  # an aspect under which all say the same
    vectors[4] = np.nan
    net.take_texts(vectors)
    texts = net.texts.float()
    assert texts[4].isnan().all()
    rest = texts[[row for row in range(12) if row != 4]]
    np.testing.assert_allclose(rest.mean(0), 0, atol=1e-2)
    np.testing.assert_allclose(rest[:, 0].square().sum(1).mean(), 1, atol=0.15)
    assert rest[:, 0, 10:].var(0).max() < 2 * rest[:, 0, 10:].var(0).min()
    assert (rest[:, :, 5] == 0).all() and (rest[:, 1] == 0).all()


# What it is for.


def test_items_never_met_are_known_by_what_is_written_of_them(model):
    found = model.recommend(histories([0, 1, 2, 3, 4], [5, 6, 7, 8, 9]), 1)
    assert found.items.ravel().tolist() == [10, 11]
    assert model.answerable().all()


@pytest.mark.parametrize("changes", [{"fusion": "attention"}, {"item_features": True}, {"user_embedding": True}])
def test_it_is_so_under_other_settings(changes):
    model = READING.model_copy(update=changes).fit(library(), run=RUN)
    found = model.recommend(histories([0, 1, 2, 3, 4], [5, 6, 7, 8, 9]), 1)
    assert found.items.ravel().tolist() == [10, 11]
    scores = model.score_texts(histories([0, 1], [6, 8]), ["soup and bread", "stars and a rocket"])
    assert scores[0, 0] > scores[0, 1] and scores[1, 1] > scores[1, 0]
    gates = model.reasons([[0]], [0, 10]).gates
    assert (gates[0] > 0).all() and (gates[1] == 0).all()


def test_texts_can_be_ranked_that_are_of_no_item(model):
    scores = model.score_texts(histories([0, 1], [6, 8], []), ["soup for dinner", "stars and a rocket", ""])
    assert scores[0, 0] > scores[0, 1] and scores[1, 1] > scores[1, 0]
    assert np.isnan(scores[:, 2]).all() and np.isnan(scores[2]).all()
    alone = model.score_texts([[0, 1]], ["<p>soup for   dinner</p>"])
    np.testing.assert_allclose(alone[0, 0], scores[0, 0], rtol=1e-4)
    assert model.score_texts([[0]], []).shape == (1, 0)


def test_reasons_are_shares_of_what_is_there(model):
    asked = histories([0, 1], [])
    reasons = model.reasons(asked, [0, 10])
    np.testing.assert_allclose(reasons.similarities[0], model.score(asked)[0, [0, 10]], rtol=1e-5)
    assert np.isnan(reasons.similarities[1]).all()
    assert reasons.aspects == ("genre", "sentiment", "themes", "description")
    np.testing.assert_allclose(reasons.aspect_weights.sum(1), 1, rtol=1e-5)
    np.testing.assert_allclose(reasons.aspect_attention.sum(-1), 1, rtol=1e-5)
    assert reasons.aspect_attention.shape == (2, 2, 4, 4) and reasons.gates.shape == (2, 16)
    assert (reasons.gates[1] == 0).all()  # nobody met item 10
    with pytest.raises(UnknownName, match="Unknown item 99"):
        model.reasons(asked, [99])


def test_new_items_are_read_and_a_bundle_needs_no_other_file(model, tmp_path, monkeypatch):
    arrivals = pl.DataFrame({"item_id": [70, 71], "title": ["soup and bread from the pot", None]})
    grown = model.with_items(arrivals, log=silent)
    assert grown.answerable()[12:].tolist() == [True, False]
    assert set(grown.recommend(histories([0, 1, 2, 3, 4]), 2).items[0].tolist()) == {10, 12}
    grown.save(tmp_path / "bundle")
    monkeypatch.setenv("FORETASTE_CACHE", str(tmp_path / "nothing"))
    again, asked = load(tmp_path / "bundle"), histories([0, 6], [1, 12])
    np.testing.assert_array_equal(again.recommend(asked, 5).items, grown.recommend(asked, 5).items)
    assert "_loaded" not in vars(again.encoder)  # to answer, nothing is encoded
    texts = ["a pot of bread", "moon"]
    np.testing.assert_allclose(again.score_texts(asked, texts), grown.score_texts(asked, texts), rtol=1e-4, atol=1e-5)
    more = pl.DataFrame({"item_id": [80], "title": ["stars over the planet"]})
    assert again.with_items(more, log=silent).recommend(histories([5, 6, 7, 8, 9, 11]), 1).items.tolist() == [[14]]


def test_an_index_holds_what_was_read_of_new_items(model):
    pytest.importorskip("faiss")
    arrivals = pl.DataFrame({"item_id": [70], "title": ["soup and bread from the pot"]})
    indexed = model.with_index("flat").with_items(arrivals, log=silent)
    asked = histories([0, 1, 2, 3, 4], [5, 6])
    expected = model.with_items(arrivals, log=silent).recommend(asked, 6)
    np.testing.assert_array_equal(indexed.recommend(asked, 6).items, expected.items)


def test_the_same_seed_makes_the_same_model_whether_it_is_found_on_disk_or_made(tmp_path, monkeypatch):
    states = []
    for folder in ("a", "a", "b"):
        monkeypatch.setenv("FORETASTE_CACHE", str(tmp_path / folder))
        states.append(BRIEFLY.fit(library(), run=RUN).state())
    for state in states[1:]:
        assert state.keys() == states[0].keys()
        assert all(np.array_equal(state[name], states[0][name], equal_nan=True) for name in state)


def test_an_aspect_may_be_lacking_and_without_any_text_it_is_refused():
    data = library(titles=[*TITLES[:11], ""])
    genres = Categories.from_lists([["food"]] * 5 + [["space"]] * 5 + [[], []])
    data = replace(data, catalog=replace(data.catalog, items=data.catalog.items.with_column("genres", genres)))
    aspects = {"genre": "genre: {genres}", "description": "summarize: {title}"}
    said = []
    model = BRIEFLY.model_copy(update={"aspects": aspects}).fit(data, run=logged(said))
    assert "t5hybrid: 1 of 12 items have no text" in said
    assert model.answerable().tolist() == [True] * 11 + [False]
    weights = model.reasons([[0]], [0, 10, 11]).aspect_weights
    assert (weights[0] > 0).all()
    np.testing.assert_allclose(weights[1:], [[0, 1], [0, 0]])
    with pytest.raises(MissingData, match="No item of events has a text: its columns are title"):
        BRIEFLY.fit(library(titles=[""] * 12), run=RUN)


def test_pooled_aspects_begin_as_their_mean():
    pool, vectors = Modalities(4, 8, 2, 0.0), torch.randn(3, 4, 8)
    there = torch.tensor([[True, True, False, True]] * 3)
    torch.testing.assert_close(pool(vectors, there), vectors[:, [0, 1, 3]].mean(1))
