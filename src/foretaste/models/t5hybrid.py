"""Content read by a T5 under several prompts, and fused with who met an item; people as in TwoTower."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, PositiveInt, field_validator, model_validator
from torch import Tensor, nn

from foretaste.catalog import Table
from foretaste.dataset import Dataset, Needs
from foretaste.eight_bit import load_arrays
from foretaste.errors import ConfigError, MissingData
from foretaste.models.twotower import COLUMNS, NET, USERS, TwoTower, TwoTowerModel, TwoTowerNet
from foretaste.nets.attention import check_heads
from foretaste.nets.embeddings import FeaturedItems
from foretaste.nets.modalities import Gate, Modalities
from foretaste.prompts import check_prompt, prompted, prompted_rows
from foretaste.query import Queries
from foretaste.recommender import About
from foretaste.run import Run
from foretaste.side_inputs import UserColumns
from foretaste.storage import part, prefixed
from foretaste.t5_encoder import T5Encoder
from foretaste.t5_pretraining import OwnT5, T5Size, pretrained
from foretaste.train import TrainPlan, device_of
from foretaste.vocab import Vocab

__all__ = ["AspectReasons", "T5Hybrid", "T5HybridModel"]

ASPECTS = {
    "genre": "genre: ",
    "sentiment": "sst2 sentence: ",
    "themes": "themes: ",
    "description": "summarize: ",
}
FEATURES = "features"  # what is pooled beside the aspects
TEXTS, T5 = "texts", "t5"
FLATTEST = 0.01  # of the mean variance of all numbers of a vector: what varies less is not blown up as much
WIDTH = 512  # of t5-small


class T5Hybrid(TwoTower):
    """Two towers whose items are fused from what a T5 reads of them and from who met them.

    The encoder of a T5 reads the text of an item once under each prompt of ``aspects``; the mean of its last states is
    a vector of that aspect, each number of which is brought to mean 0 and a like variance over the catalogue, and
    projected by a matrix of that aspect. With the mean of the vectors of its names, words and numbers
    (``item_features``) these are pooled by attention: they attend to each other, and learned weights say how much each
    counts (``Modalities``). What comes of it and the item's own vector, learned from events, are fused by a learned
    gate for each number (``Gate``), or by attention too. A person is the mean of the fused vectors of their history,
    and, by option, their features and a vector of their own. All else is as in ``TwoTower``: the loss, the negatives,
    the towers.

    Content knows items that nobody has met; ``item_forgetting`` trains it for that.

    Source: T5 is Raffel et al., "Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer",
        JMLR 2020; prompts before the input are those of its section 2.4, and two of the default ones stand before tasks
        that it was trained on (appendix D). Vectors as means of states are those of Ni et al., "Sentence-T5", Findings
        of ACL 2022. The gate is that of Arevalo et al., "Gated Multimodal Units for Information Fusion", 2017; that
        items learn to do without their own vectors is the idea of DropoutNet (Volkovs, Yu, Poutanen, NeurIPS 2017).
        Differs: the encoder's weights stay as they are, and the decoder is not used; one text under several prompts.
    """

    item_features: bool = True
    """Pool with the aspects what the catalogue says of items: categories, words, numbers."""
    heads: PositiveInt = 2
    """Of the attention between aspects."""
    encoder: str = "t5-small"
    """A folder, or the name of a T5."""
    aspects: dict[str, str] = Field(default=ASPECTS, min_length=1)
    """For each aspect its prompt. What is read of an item stands behind it, or, where the prompt names columns in
    braces, as in "genre: {genres}", these stand in their places."""
    text_columns: tuple[str, ...] | None = None
    """What is read under prompts that name no column. None: all texts, then all names that group the items."""
    fusion: Literal["gate", "attention"] = "gate"
    """How an item's content and its own vector become one."""
    item_forgetting: float = Field(default=0.2, ge=0, lt=1)
    """The chance of each item to be known by its content alone in a batch."""
    pretrain: bool = False
    """Where the encoder is not to be had: make a small T5 from the texts of the items, which is kept in the bundle."""
    pretrain_epochs: PositiveInt = 6
    """Each is a window of 64 tokens of up to 2,048 texts."""
    encoder_dim: PositiveInt = 128
    """Of the T5 that is made, as the next two."""
    encoder_layers: PositiveInt = 2
    encoder_heads: PositiveInt = 4
    plan: TrainPlan = TrainPlan(epochs=100, lr=3e-3, patience=5)

    needs = Needs.ITEM_TEXT
    of_items: ClassVar[tuple[str, ...]] = (*TwoTower.of_items, f"net.{TEXTS}")

    @field_validator("aspects")
    @classmethod
    def _prompts_are_whole(cls, aspects: dict[str, str]) -> dict[str, str]:
        for prompt in aspects.values():
            check_prompt(prompt)
        return aspects

    @model_validator(mode="after")
    def _heads_fit(self) -> Self:
        check_heads(self.dim, self.heads)
        return self

    def untrained(
        self, about: About, train: Dataset, columns: UserColumns, learned_from: NDArray[np.integer], run: Run
    ) -> "T5HybridModel":
        written = self.written(about.catalog, about.met)
        if not any(map(any, written)):
            raise MissingData(
                f"No item of {about.data} has a text: its columns are {', '.join(about.catalog) or 'none'}. Give an "
                "item table with texts (--items), or take twotower with item_features."
            )
        silent_of = sum(not any(texts) for texts in zip(*written, strict=True))
        if silent_of:
            run.log(f"{self.called()}: {silent_of:,} of {len(about.items):,} items have no text")
        encoder, vectors = self._read(written, run)
        net = T5HybridNet(self, about, len(train.users), columns, learned_from, np.empty((0, *vectors.shape[1:])))
        net.take_texts(vectors)
        return T5HybridModel(self, about, net, run, columns, train.users, encoder)

    def _read(self, written: Sequence[Sequence[str]], run: Run) -> tuple[T5Encoder, NDArray[np.float32]]:
        """The encoder, and (items, aspects, width) what it makes of what is written of each item, aspect by aspect."""
        encoder = T5Encoder(self.encoder, str(device_of(run)))
        try:
            return encoder, vectors_of(encoder, written, run)
        except ConfigError as error:
            if not self.pretrain:
                raise
            run.log(f"{self.called()}: {str(error).split('. ')[0]}; a small one is made")
        # A text stands there once for each prompt, which tells no more of how often words are met.
        distinct = [text for texts in written for text in texts if text]
        own = pretrained(distinct, self.own_size(), self.pretrain_epochs, run, fewest=2 * len(self.aspects))
        encoder = T5Encoder(self.encoder, str(device_of(run)), own)
        return encoder, vectors_of(encoder, written, run)

    def restore(self, about: About, state: Mapping[str, NDArray[Any]]) -> "T5HybridModel":
        columns, users = UserColumns.from_arrays(part(state, COLUMNS)), Vocab.from_arrays(part(state, USERS))
        arrays = part(state, NET)
        net = T5HybridNet(self, about, len(users), columns, np.ones(len(about.items)), arrays[TEXTS])
        load_arrays(net, arrays)
        own, run = part(state, T5), Run()
        encoder = T5Encoder(self.encoder, str(device_of(run)), OwnT5(self.own_size(), own) if own else None)
        return T5HybridModel(self, about, net.eval(), run, columns, users, encoder)

    def written(self, catalog: Table, met: NDArray[np.bool_]) -> list[list[str]]:
        """For each aspect what is read of each item; empty where there is nothing."""
        return [prompted_rows(catalog, prompt, self.text_columns, met=met) for prompt in self.aspects.values()]

    def own_size(self) -> T5Size:
        """Of the T5 that is made where there is none."""
        return T5Size(self.encoder_dim, self.encoder_layers, self.encoder_heads)

    def memory_needed(self, counts: Mapping[str, int]) -> int:
        # As they are encoded, brought to a like variance, and kept in half precision.
        return super().memory_needed(counts) + 10 * counts["items"] * len(self.aspects) * max(WIDTH, self.encoder_dim)


class T5HybridNet(TwoTowerNet):
    """The towers of ``TwoTower`` over items that are fused from content and events.

    Args:
        texts: (items, aspects, width) what ``take_texts`` made of the vectors of each item; NaN = it has no such text.
    """

    settings: T5Hybrid
    texts: Tensor  # (items, aspects, width) float16; NaN = no text
    center: Tensor  # (aspects, width) of the vectors that an encoder makes
    scale: Tensor  # (aspects, width) what they are multiplied by then
    met: Tensor  # (items,) bool

    def __init__(
        self,
        settings: T5Hybrid,
        about: About,
        users: int,
        columns: UserColumns,
        learned_from: NDArray[Any],
        texts: NDArray[np.floating],
    ) -> None:
        super().__init__(settings, about, users, columns, learned_from)
        dim, (_, aspects, width) = settings.dim, texts.shape
        self.register_buffer(TEXTS, torch.from_numpy(texts.astype(np.float16)))
        self.register_buffer("center", torch.zeros(aspects, width))
        self.register_buffer("scale", torch.ones(aspects, width))
        self.register_buffer("met", torch.from_numpy(np.array(about.met)), persistent=False)
        self.read_texts = nn.Parameter(torch.empty(aspects, width, dim))
        # Their mean over the aspects begins at about length 1, as the items' own vectors do.
        nn.init.normal_(self.read_texts, std=(aspects / dim) ** 0.5)
        self.content_kinds = Modalities(len(self.kinds), dim, settings.heads, settings.dropout)
        self.fusion = Gate(dim) if settings.fusion == "gate" else Modalities(2, dim, settings.heads, settings.dropout)

    @property
    def kinds(self) -> tuple[str, ...]:
        """What is pooled to the content of an item."""
        return (*self.settings.aspects, *([FEATURES] if isinstance(self.items, FeaturedItems) else []))

    def take_texts(self, vectors: NDArray[np.float32]) -> None:
        """Read of each item what an encoder made of it, (items, aspects, width); NaN where it has no text."""
        center = np.nan_to_num(_mean(vectors))
        variance = np.nan_to_num(_mean((vectors - center) ** 2))
        even = variance + FLATTEST * variance.mean(1, keepdims=True)
        scale = np.where(even > 0, 1 / np.sqrt(np.maximum(even, np.finfo(np.float32).tiny) * vectors.shape[2]), 0)
        self.center.copy_(torch.from_numpy(center))
        self.scale.copy_(torch.from_numpy(scale.astype(np.float32)))
        self.texts = self.even(torch.from_numpy(vectors)).half()

    def even(self, vectors: Tensor) -> Tensor:
        """(n, aspects, width) of what the encoder makes of texts: of length about 1, no number larger than others."""
        return (vectors - self.center) * self.scale

    def inputs(self, items: Tensor) -> Tensor:
        """(n, dim) as the base has it; by chance an item is known by its content alone."""
        kinds, there = self.content_of(items)
        # An item of which nothing is said keeps its own: of nothing, nothing is learned.
        kept = torch.rand(len(items), device=items.device) >= self.settings.item_forgetting
        kept |= ~there.any(1)
        own = nn.functional.embedding(items, self.items.weight)
        return self.fused(own, self.met[items] & kept, kinds, there)

    def _whole(self, items: Tensor) -> Tensor:
        own = nn.functional.embedding(items, self.items.weight)
        return self.fused(own, self.met[items], *self.content_of(items))

    def content_of(self, items: Tensor) -> tuple[Tensor, Tensor]:
        """(n, kinds, dim) what is said of some items, of each kind, and (n, kinds) whether it is."""
        kinds, there = self.projected(self.texts[items].float())
        if not isinstance(self.items, FeaturedItems):
            return kinds, there
        said = self.items.said(items).to(kinds.dtype)
        kinds, there = torch.cat([kinds, said[:, None]], 1), torch.cat([there, self.items.described[items, None]], 1)
        return kinds * there.unsqueeze(-1), there

    def projected(self, texts: Tensor) -> tuple[Tensor, Tensor]:
        """(n, aspects, dim) of texts (n, aspects, width), as ``even`` has them, and (n, aspects) which there are."""
        there = ~texts[:, :, 0].isnan()
        read = torch.einsum("naw,awd->nad", texts.nan_to_num(), self.read_texts)
        return read * there.unsqueeze(-1), there

    def fused(self, own: Tensor, own_there: Tensor, kinds: Tensor, there: Tensor) -> Tensor:
        """(n, dim) from their own vectors (n, dim), and what is said of them; zero where there is neither."""
        return torch.as_tensor(self.fusion(*self.pairs(own, own_there, kinds, there)))

    def pairs(self, own: Tensor, own_there: Tensor, kinds: Tensor, there: Tensor) -> tuple[Tensor, Tensor]:
        """(n, 2, dim) their own vectors and their content, and (n, 2) whether there is any."""
        content = self.pooled(kinds, there)
        both = torch.stack([own_there, there.any(1)], 1)
        return torch.stack([own.to(content.dtype), content], 1) * both.unsqueeze(-1), both

    def pooled(self, kinds: Tensor, there: Tensor) -> Tensor:
        """(n, dim) the content: its kinds as one vector, with as many of its features as are known."""
        if kinds.shape[1] < len(self.kinds):  # a free text has no features
            kinds, there = (nn.functional.pad(kinds, (0, 0, 0, 1)), nn.functional.pad(there, (0, 1)))
        return torch.as_tensor(self.content_kinds(kinds, there))

    def text_inputs(self, vectors: Tensor) -> Tensor:
        """(n, dim) of items of which nothing is known but texts, as the encoder has them (n, aspects, width)."""
        nobody = torch.zeros(len(vectors), dtype=torch.bool, device=vectors.device)
        nothing = torch.zeros(len(vectors), self.settings.dim, device=vectors.device)
        return self.fused(nothing, nobody, *self.projected(self.even(vectors)))

    def shares(self, items: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of some items the weights (n, kinds) and attention (n, heads, kinds, kinds) of their content, and gates.

        Gates are (n, dim): how much of each number comes from the item's own vector.
        """
        kinds, there = self.content_of(items)
        weights, attention = self.content_kinds.weights(kinds, there)
        pairs, both = self.pairs(self.items.weight[items], self.met[items], kinds, there)
        if isinstance(self.fusion, Gate):
            return weights, attention, self.fusion.shares(pairs, both)
        return weights, attention, self.fusion.weights(pairs, both)[0][:, :1].expand(-1, self.settings.dim)


@dataclass(frozen=True, eq=False)
class AspectReasons:
    """Why some items suit those who ask as they do."""

    similarities: NDArray[np.float32]  # (queries, items) cosines
    aspect_weights: NDArray[np.float32]  # (items, aspects) how much each counts for the content of an item
    aspect_attention: NDArray[np.float32]  # (items, heads, aspects, aspects) what each attends to
    gates: NDArray[np.float32]  # (items, dim) how much of each number comes from the item's own vector, not its content
    aspects: tuple[str, ...]  # their names; "features" is what the catalogue says in names, words and numbers


class T5HybridModel(TwoTowerModel):
    """Two towers over fused items, fitted. What was read is kept with it: the encoder is needed only for new texts."""

    settings: T5Hybrid
    net: T5HybridNet

    def __init__(
        self,
        settings: T5Hybrid,
        about: About,
        net: T5HybridNet,
        run: Run,
        columns: UserColumns,
        users: Vocab,
        encoder: T5Encoder,
    ) -> None:
        self.encoder = encoder
        super().__init__(settings, about, net, run, columns, users)

    @property
    def parameters(self) -> int:
        """Those of the towers, and of the T5 that was made for them."""
        own = self.encoder.own
        return super().parameters + (0 if own is None else own.parameters)

    def state(self) -> dict[str, NDArray[Any]]:
        own = self.encoder.own
        return {**super().state(), **({} if own is None else prefixed(T5, own.arrays))}

    def knows_new_items(self) -> bool:
        return True

    def _with_rows(self, items: Vocab, catalog: Table) -> Self:
        """The texts of the new items are read."""
        fresh = np.arange(len(self.items), len(items))
        met = np.pad(self.about.met, (0, len(fresh)))
        vectors = self._vectors([texts[len(self.items) :] for texts in self.settings.written(catalog, met)], keep=True)
        model = super()._with_rows(items, catalog)
        texts = model.net.even(torch.from_numpy(vectors).to(model.net.center.device)).half()
        model.net.texts[torch.from_numpy(fresh).to(texts.device)] = texts
        model._answerable = model._known_items()
        return model

    def _known_items(self) -> NDArray[np.bool_]:
        written = ~self.net.texts[:, :, 0].isnan().all(1)
        return np.asarray(super()._known_items() | written.cpu().numpy())

    def score_texts(self, queries: Queries | Sequence[Any], texts: Sequence[str]) -> NDArray[np.float32]:
        """(queries, texts) how well items of which only a text is known would suit each; NaN as in ``query_vectors``.

        Args:
            queries: As in ``recommend``.
            texts: Free texts, such as that of an item that is yet to be bought in; each is read under all prompts, in
                the place of the columns that they name. An empty one has NaN.

        Raises:
            ConfigError: The encoder is not to be had.
        """
        written = [[prompted(text, prompt) for text in texts] for prompt in self.settings.aspects.values()]
        found = self._vectors(written)
        with self._answering():
            inputs = self.net.text_inputs(torch.from_numpy(found).to(self.net.center.device))
            vectors = self.net.item_side(inputs).cpu().numpy()
        vectors[np.isnan(found[:, :, 0]).all(1)] = np.nan
        return np.asarray(self.query_vectors(self.ask(queries).queries) @ vectors.T, np.float32)

    def reasons(self, queries: Queries | Sequence[Any], items: Sequence[Any]) -> AspectReasons:
        """How alike each person and each item are, how much each aspect of an item counts, and how much who met it.

        Raises:
            UnknownName: An item is not in the catalogue.
        """
        asked, index = self.ask(queries).queries, self._known(items).astype(np.int64)
        with self._answering():
            shares = self.net.shares(torch.from_numpy(index).to(self.net.center.device))
        similar = self.query_vectors(asked)[:, : self.settings.dim] @ self.likeness_vectors()[index].T
        weights, attention, gates = (each.float().cpu().numpy() for each in shares)
        return AspectReasons(similar, weights, attention, gates, self.net.kinds)

    def _vectors(self, written: Sequence[Sequence[str]], *, keep: bool = False) -> NDArray[np.float32]:
        """(texts, aspects, width) of what is written, aspect by aspect; the encoder is not needed for nothing."""
        if any(map(any, written)):
            return vectors_of(self.encoder, written, self._run, keep=keep)
        return np.full((len(written[0]), *self.net.center.shape), np.nan, np.float32)


def vectors_of(
    encoder: T5Encoder, written: Sequence[Sequence[str]], run: Run, *, keep: bool = True
) -> NDArray[np.float32]:
    """(texts, aspects, width) of what is written of each under each aspect (aspects, texts); NaN where nothing is."""
    found = encoder.encode([text for texts in written for text in texts], run.log, keep=keep)
    return np.ascontiguousarray(found.reshape(len(written), -1, found.shape[1]).swapaxes(0, 1))


def _mean(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """(aspects, width) over the items (items, aspects, width) that have such a text; NaN where none has."""
    there = ~np.isnan(vectors[:, :, :1])
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(there, vectors, 0).sum(0) / there.sum(0), np.float32)
