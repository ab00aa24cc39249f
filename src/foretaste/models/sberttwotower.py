"""Two towers that read: what items are called and what is written of them takes part beside who met them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator
from torch import Tensor, nn

from foretaste.catalog import Table, Text
from foretaste.dataset import Dataset, Needs
from foretaste.eight_bit import load_arrays
from foretaste.errors import ConfigError, MissingData, UnknownName
from foretaste.history_pairs import People
from foretaste.models.twotower import COLUMNS, NET, USERS, TwoTower, TwoTowerModel, TwoTowerNet
from foretaste.nets.attention import check_heads
from foretaste.nets.embeddings import FeaturedItems
from foretaste.nets.modalities import Modalities
from foretaste.optimizers import learn_slower
from foretaste.query import Queries
from foretaste.ragged import PAD
from foretaste.recommender import About
from foretaste.run import Run
from foretaste.side_inputs import UserColumns
from foretaste.storage import part
from foretaste.text_encoder import Finetuned, TextEncoder
from foretaste.texts import cleaned, row_texts
from foretaste.train import TrainPlan, device_of
from foretaste.vocab import Vocab

__all__ = ["Reasons", "SBERTTwoTower", "SBERTTwoTowerModel"]

TEXTS = "texts"
TOLD = "told"  # the column of people in which stands what a query tells of them
ITEM_KINDS = ("events", "features", "text")
PERSON_KINDS = ("history", "texts", "features", "own")


class SBERTTwoTower(TwoTower):
    """Two towers over three kinds of knowledge: who met an item, what the catalogue says of it, what is written of it.

    An item is a vector of its own (learned from events), the mean of the vectors of its names, words and numbers
    (``item_features``), and what a pretrained sentence encoder makes of its text, projected. A person is the mean of
    the items of their history, the mean of those items' texts, together with what is written about them, their
    features and, by option, a vector of their own. On each side the kinds attend to each other, and learned weights say
    how much each counts (``Modalities``). All else is as in ``TwoTower``: the loss, the negatives, the towers.

    Text knows items that nobody has met; ``item_forgetting`` trains it for that. What is written about a person
    ("likes action movies") is read like one more text of their history, so that it need not have been there in
    training: it stands in a column of text of the table of people (``user_text_columns``), or is passed to ``told``.

    Source: the encoder is Sentence-BERT (Reimers, Gurevych, EMNLP 2019); item and person as learned fusions of
        collaborative and content vectors, and learning to do without the former, are the idea of DropoutNet (Volkovs,
        Yu, Poutanen, NeurIPS 2017). Differs: kinds are fused by attention, not by concatenation, so that any may be
        missing; by default the encoder's weights stay as they are, and every text is encoded once.
    """

    item_features: bool = True
    """Read what the catalogue says of items: categories, words, numbers."""
    heads: PositiveInt = 2
    """Of the attention between kinds."""
    encoder: str = "all-MiniLM-L6-v2"
    """A folder, or the name of a sentence encoder."""
    text_columns: tuple[str, ...] | None = None
    """What is read of items to the encoder. None: all texts, then all names that group them."""
    user_text_columns: tuple[str, ...] | None = None
    """What is read of people to the encoder. None: all texts; without any, only what is told in queries."""
    unfrozen_layers: NonNegativeInt = 0
    """How many of the encoder's last layers go on learning; 0: its weights stay as they are."""
    encoder_lr: PositiveFloat = 2e-5
    """Their learning rate, by the schedule of ``plan``."""
    encoder_batch: PositiveInt = 64
    """Texts of items that are encoded anew in each step while layers learn, drawn from those of the batch; for the
    others counts what was last made of them. Texts of people are encoded anew before each epoch."""
    item_forgetting: float = Field(default=0.2, ge=0, lt=1)
    """The chance of each item to be known by what is said of it alone in a batch."""
    history_dropout: float = Field(default=0.1, ge=0, lt=1)
    """The share of the pairs that are learned from without who else met the items of the history: from texts, and
    what else is known of people."""
    plan: TrainPlan = TrainPlan(epochs=100, lr=3e-3, patience=5)

    needs = Needs.ITEM_TEXT
    of_items: ClassVar[tuple[str, ...]] = (*TwoTower.of_items, f"net.{TEXTS}")

    @model_validator(mode="after")
    def _heads_fit(self) -> Self:
        check_heads(self.dim, self.heads)
        return self

    @property
    def required(self) -> Needs:
        return super().required | Needs.wanted({Needs.USER_FEATURES: bool(self.user_text_columns)})

    def untrained(
        self, about: About, train: Dataset, columns: UserColumns, learned_from: NDArray[np.integer], run: Run
    ) -> "SBERTTwoTowerModel":
        encoder = TextEncoder(self.encoder, str(device_of(run)))
        written = row_texts(about.catalog, self.text_columns, met=about.met)
        texts = encoder.encode(written, run.log)
        if np.isnan(texts).all():
            raise MissingData(
                f"No item of {about.data} has a text: its columns are {', '.join(about.catalog) or 'none'}. Give an "
                "item table with texts (--items), or take twotower with item_features."
            )
        silent_of = int(np.isnan(texts[:, 0]).sum())
        if silent_of:
            run.log(f"{self.called()}: {silent_of:,} of {len(texts):,} items have no text")
        net = SBERTTwoTowerNet(self, about, len(train.users), columns, learned_from, texts)
        people = Table(0) if train.catalog is None else train.catalog.users
        for name in set(self.user_text_columns or ()) - set(people):
            raise UnknownName("column", name, people)
        told = self.written_about(people)
        if any(told):
            net.people_texts = torch.from_numpy(encoder.encode(told, run.log))
        if self.unfrozen_layers:
            net.finetune(encoder.network, written, told if any(told) else ())
        return SBERTTwoTowerModel(self, about, net, run, columns, train.users)

    def written_about(self, people: Table) -> list[str]:
        """What is read of each person to the encoder; empty where nothing is. The table may lack columns."""
        chosen = tuple(people.of_kind("text")) if self.user_text_columns is None else self.user_text_columns
        there = [name for name in dict.fromkeys((*chosen, TOLD)) if name in people]
        return row_texts(people, there, setting="user_text_columns")

    def restore(self, about: About, state: Mapping[str, NDArray[Any]]) -> "SBERTTwoTowerModel":
        columns, users = UserColumns.from_arrays(part(state, COLUMNS)), Vocab.from_arrays(part(state, USERS))
        arrays = part(state, NET)
        net = SBERTTwoTowerNet(self, about, len(users), columns, np.ones(len(about.items)), arrays[TEXTS])
        if self.unfrozen_layers:
            net.finetune(TextEncoder(self.encoder).network)
        load_arrays(net, arrays)
        return SBERTTwoTowerModel(self, about, net.eval(), Run(), columns, users)


class SBERTTwoTowerNet(TwoTowerNet):
    """The towers of ``TwoTower`` over fused kinds.

    Inputs of items are (n, 2 dim): the fused vector, and behind it the projected text, zero without one.

    Args:
        texts: (items, width) what the encoder makes of each item's text; NaN = it has none.
    """

    settings: SBERTTwoTower
    texts: Tensor  # (items, width) float16; NaN = no text
    met: Tensor  # (items,) bool
    center: Tensor  # (width,) their mean, which tells no item from another
    people_texts: Tensor  # (users, width) of the users of training, while it goes on; NaN = nothing; not kept

    def __init__(
        self,
        settings: SBERTTwoTower,
        about: About,
        users: int,
        columns: UserColumns,
        learned_from: NDArray[Any],
        texts: NDArray[np.floating],
    ) -> None:
        super().__init__(settings, about, users, columns, learned_from)
        dim, width = settings.dim, texts.shape[1]
        self.register_buffer(TEXTS, torch.from_numpy(texts.astype(np.float16)))
        self.register_buffer("center", self.texts.float().nanmean(0).nan_to_num())
        self.register_buffer("people_texts", torch.empty(0, width), persistent=False)
        self.register_buffer("met", torch.from_numpy(np.array(about.met)), persistent=False)
        self.read_text = nn.Linear(width, dim)
        nn.init.normal_(self.read_text.weight, std=dim**-0.5)  # texts are of length 1, and items begin at about that
        self.encoder: Finetuned | None = None
        self._item_texts: Sequence[str] = ()
        self._people_texts: Sequence[str] = ()
        self.item_kinds = Modalities(len(ITEM_KINDS), dim, settings.heads, settings.dropout)
        self.person_kinds = Modalities(len(PERSON_KINDS), dim, settings.heads, settings.dropout)

    def finetune(self, network: Any, items: Sequence[str] = (), people: Sequence[str] = ()) -> None:
        """Let the last layers of the encoder learn.

        Args:
            items: What is read of each while that goes on; none where it is over.
            people: What is written about each; none where nothing is.
        """
        self.encoder = Finetuned(network, self.settings.unfrozen_layers)
        self._item_texts, self._people_texts = items, people
        learn_slower(self.encoder.parameters(), self.settings.encoder_lr / self.settings.plan.lr)

    def reread_items(self) -> None:
        """Encode the texts of all items with the weights as they are now."""
        if self.encoder is not None and len(self._item_texts):
            self.texts.copy_(torch.from_numpy(self.encoder.encode(self._item_texts)))

    def reread_people(self) -> None:
        """Encode what is written about people with the weights as they are now."""
        if self.encoder is not None and len(self._people_texts):
            self.people_texts.copy_(torch.from_numpy(self.encoder.encode(self._people_texts)))

    def _texts_read(self, items: Tensor) -> Tensor:
        """(n, width) of the texts of some items; a few of them are encoded now, so that the encoder learns."""
        texts = self.texts[items].float()
        if self.encoder is None or not len(self._item_texts):
            return texts
        written = _written(texts).nonzero()[:, 0]
        some = written[torch.randperm(len(written), device=written.device)[: self.settings.encoder_batch]]
        if not len(some):
            return texts
        made = self.encoder([self._item_texts[item] for item in items[some].tolist()]).float()
        self.texts[items[some]] = made.detach().to(self.texts.dtype)
        return texts.index_put((some,), made)

    def inputs(self, items: Tensor) -> Tensor:
        """(n, 2 dim) as the base has it; by chance an item is known by what is said of it alone."""
        texts, described = self._texts_read(items), self._described()[items]
        # An item of which nothing is said keeps its own: of nothing, nothing is learned.
        kept = torch.rand(len(items), device=items.device) >= self.settings.item_forgetting
        kept |= ~described & ~_written(texts)
        kinds, there = self._kinds(
            nn.functional.embedding(items, self.items.weight),
            self._said(items),
            texts,
            self.met[items] & kept,
            described,
        )
        return torch.cat([self.item_kinds(kinds, there), kinds[:, 2]], 1)

    def _whole(self, items: Tensor) -> Tensor:
        kinds, there = self.kinds_of_items(items)
        return torch.cat([self.item_kinds(kinds, there), kinds[:, 2]], 1)

    def kinds_of_items(self, items: Tensor) -> tuple[Tensor, Tensor]:
        """(n, 3, dim) what is known of some items, of each kind, and (n, 3) whether it is."""
        own = nn.functional.embedding(items, self.items.weight)
        return self._kinds(own, self._said(items), self.texts[items], self.met[items], self._described()[items])

    def item_side(self, inputs: Tensor) -> Tensor:
        return super().item_side(inputs[:, : self.settings.dim])

    def projected(self, texts: Tensor) -> Tensor:
        """(n, dim) of what the encoder makes of texts (n, width); zero where it is NaN."""
        found = self.read_text(texts.float().nan_to_num() - self.center)
        return torch.as_tensor(found * _written(texts).unsqueeze(1))

    def text_inputs(self, texts: Tensor) -> Tensor:
        """(n, 2 dim) of items of which nothing is known but a text, as the encoder has it (n, width)."""
        dim, device = self.settings.dim, texts.device
        nothing = torch.zeros(len(texts), dim, device=device)
        no = torch.zeros(len(texts), dtype=torch.bool, device=device)
        kinds, there = self._kinds(nothing, None, texts, no, no)
        return torch.cat([self.item_kinds(kinds, there), kinds[:, 2]], 1)

    def _kinds(
        self, own: Tensor, said: Tensor | None, texts: Tensor, own_there: Tensor, described: Tensor
    ) -> tuple[Tensor, Tensor]:
        text, written = self.projected(texts), _written(texts)
        named = torch.zeros_like(text) if said is None else said.to(text.dtype)
        kinds = torch.stack([own.to(text.dtype), named, text], 1)
        there = torch.stack([own_there, described, written], 1)
        return kinds * there.unsqueeze(-1), there

    def _said(self, items: Tensor) -> Tensor | None:
        return self.items.said(items) if isinstance(self.items, FeaturedItems) else None

    def _described(self) -> Tensor:
        """(items,) bool."""
        return self.items.described if isinstance(self.items, FeaturedItems) else torch.zeros_like(self.met)

    @property
    def beside(self) -> bool:
        return True  # texts

    def texts_of(self, user: Tensor) -> Tensor | None:
        return self.people_texts[user] if len(self.people_texts) else None

    def anything(self, people: People, met: Tensor) -> Tensor:
        known = super().anything(people, met) | met  # whose history is not read is known by its texts
        return known if people.texts is None else known | _written(people.texts)

    def people(self, pooled: Tensor, read: Tensor, met: Tensor, people: People) -> Tensor:
        """(rows, dim) as the base has it; ``pooled`` is (rows, 2 dim)."""
        kinds, there = self.kinds_of_people(pooled, read, met, people)
        return torch.as_tensor(self.user_tower(self.person_kinds(kinds, there)))

    def kinds_of_people(self, pooled: Tensor, read: Tensor, met: Tensor, people: People) -> tuple[Tensor, Tensor]:
        """(rows, 4, dim) what is known of each, of each kind, and (rows, 4) whether it is."""
        history, texts = pooled.chunk(2, 1)
        no = torch.zeros_like(met)
        of_texts, features, own = met & texts.detach().any(1), no, no
        if people.texts is not None:  # one more text beside those of the history, and all there is without one
            written, about = _written(people.texts), self.projected(people.texts).to(texts.dtype)
            both = torch.where(met.unsqueeze(1), (texts + about) / 2, about)
            texts, of_texts = torch.where(written.unsqueeze(1), both, texts), met | written
        named, person = torch.zeros_like(history), torch.zeros_like(history)
        if self.features is not None:
            named, features = self.features(people.features).to(history.dtype), (people.features != PAD).any(1)
        if self.users is not None:
            own = (people.user != PAD) & self.users.detach().any(1)[people.user.clamp(min=0)]
            person = nn.functional.embedding(people.user.clamp(min=0), self.users).to(history.dtype)
        kinds, there = torch.stack([history, texts, named, person], 1), torch.stack([read, of_texts, features, own], 1)
        return kinds * there.unsqueeze(-1), there


@dataclass(frozen=True, eq=False)
class Reasons:
    """Why some items suit those who ask as they do."""

    similarities: NDArray[np.float32]  # (queries, items) cosines
    item_weights: NDArray[np.float32]  # (items, 3) how much each kind counts for an item
    item_attention: NDArray[np.float32]  # (items, heads, 3, 3) what each kind attends to
    person_weights: NDArray[np.float32]  # (queries, 4)
    person_attention: NDArray[np.float32]  # (queries, heads, 4, 4)
    item_kinds: tuple[str, ...] = ITEM_KINDS
    person_kinds: tuple[str, ...] = PERSON_KINDS


class SBERTTwoTowerModel(TwoTowerModel):
    """Two towers that read, fitted. What was encoded is kept with it: the encoder is needed only for new texts."""

    settings: SBERTTwoTower
    net: SBERTTwoTowerNet

    def before_epoch(self, epoch: int) -> None:
        """What is written of people is no part of a checkpoint, so its vectors follow from the weights that are."""
        if epoch:
            self.net.reread_people()

    def calibrate(self) -> None:
        super().calibrate()
        self.net.reread_items()

    def knows_new_items(self) -> bool:
        return True

    def _with_rows(self, items: Vocab, catalog: Table) -> Self:
        """The texts of the new items are encoded."""
        fresh = np.arange(len(self.items), len(items))
        met = np.pad(self.about.met, (0, len(fresh)))
        texts = self._encoded(row_texts(catalog, self.settings.text_columns, met=met)[len(self.items) :], keep=True)
        model = super()._with_rows(items, catalog)
        model.net.texts[torch.from_numpy(fresh)] = torch.from_numpy(texts.astype(np.float16))
        model._answerable = model._known_items()
        return model

    def _known_items(self) -> NDArray[np.bool_]:
        return np.asarray(super()._known_items() | _written(self.net.texts).cpu().numpy())

    def score_texts(self, queries: Queries | Sequence[Any], texts: Sequence[str]) -> NDArray[np.float32]:
        """(queries, texts) how well items of which only a text is known would suit each; NaN as in ``query_vectors``.

        Args:
            queries: As in ``recommend``.
            texts: Free texts, such as that of an item that is yet to be bought in. An empty one has NaN.

        Raises:
            ConfigError: The encoder is not to be had.
        """
        found = self._encoded([cleaned(text) for text in texts])
        with self._answering():
            inputs = self.net.text_inputs(torch.from_numpy(found).to(self.net.read_text.weight.device))
            vectors = self.net.item_side(inputs).cpu().numpy()
        vectors[np.isnan(found[:, 0])] = np.nan
        return np.asarray(self.query_vectors(self.ask(queries).queries) @ vectors.T, np.float32)

    def told(self, queries: Queries | Sequence[Any], text: str | Sequence[str]) -> Queries:
        """The same queries, with something written about each person, such as "likes action movies".

        Args:
            text: The same for all, or one for each query.
        """
        asked = self.ask(queries).queries
        each = [text] * len(asked) if isinstance(text, str) else list(text)
        if len(each) != len(asked):
            raise ConfigError(f"{len(each)} texts are about {len(asked)} people; give one for each, or one for all.")
        table = Table(len(asked)) if asked.user_features is None else asked.user_features
        return replace(asked, user_features=table.with_column(TOLD, Text.from_list(each)))

    def reasons(self, queries: Queries | Sequence[Any], items: Sequence[Any]) -> Reasons:
        """How alike each person and each item are, and how much each kind of knowledge counts on both sides.

        Raises:
            UnknownName: An item is not in the catalogue.
        """
        asked, index = self.ask(queries).queries, self._known(items).astype(np.int64)
        history, device = self._readable(asked).history.last(self.settings.length), device_of(self._run)
        with self._answering():
            of_items = self.net.item_kinds.weights(*self.net.kinds_of_items(torch.from_numpy(index).to(device)))
            pooled, people = self._means(*self._read(history)), self.people(asked).to(device)
            met = torch.from_numpy(history.lengths > 0).to(device)
            of_people = self.net.person_kinds.weights(*self.net.kinds_of_people(pooled, met, met, people))
        similar = self.query_vectors(asked)[:, : self.settings.dim] @ self.likeness_vectors()[index].T
        shares = [each.cpu().numpy() for each in (*of_items, *of_people)]
        return Reasons(similar, shares[0], shares[1], shares[2], shares[3])

    def people(self, queries: Queries) -> People:
        people, table = super().people(queries), queries.user_features
        written = [] if table is None else self.settings.written_about(table)
        return replace(people, texts=torch.from_numpy(self._encoded(written))) if any(written) else people

    def _encoded(self, texts: Sequence[str], *, keep: bool = False) -> NDArray[np.float32]:
        """(texts, width); NaN for an empty one. What stands in queries is nobody's to keep."""
        return self._encoder.encode(texts, keep=keep) if self.net.encoder is None else self.net.encoder.encode(texts)

    @cached_property
    def _encoder(self) -> TextEncoder:
        return TextEncoder(self.settings.encoder, str(device_of(self._run)))


def _written(texts: Tensor) -> Tensor:
    """(n,) bool, is there a text?"""
    return ~texts[:, 0].isnan()
