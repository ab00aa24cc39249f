"""GraphSAGE (Hamilton, Ying, Leskovec, "Inductive Representation Learning on Large Graphs", NeurIPS 2017)."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator
from torch import Tensor, nn

from foretaste.dataset import Dataset, Needs
from foretaste.eight_bit import arrays_of, load_arrays
from foretaste.iterative import IterativeSettings
from foretaste.losses import sampled_softmax
from foretaste.mishaps import weights_explained
from foretaste.nets.attention import check_heads
from foretaste.nets.embeddings import FeaturedItems
from foretaste.nets.sage import ITEMS, MOST_HEARD, PLACES, USERS, Kind, MeetingGraph, Neighbors, SageLayers, Withheld
from foretaste.nets.towers import FeatureEmbedding, ItemBias, with_one
from foretaste.pairs import PairBatches, Pairs
from foretaste.query import Holdout, Queries
from foretaste.ragged import PAD, Ragged, groups_within
from foretaste.recommender import About
from foretaste.run import Run
from foretaste.sampling import Negatives
from foretaste.scoring import VectorModel
from foretaste.sequential import item_embedding
from foretaste.side_inputs import UserColumns
from foretaste.storage import part, prefixed
from foretaste.train import TrainPlan, device_of
from foretaste.vocab import Vocab

__all__ = ["GraphSAGE", "GraphSAGEModel"]

NET, COLUMNS, KNOWN, HEARD = "net", "user_columns", "known_users", "heard"
DESCRIBED_TOGETHER = 1 << 16  # users whose features are looked up at a time


class GraphSAGE(IterativeSettings):
    """Vectors made of what is known of a node of the graph of who met what, and of a sample of its neighbourhood.

    An item brings a vector of its own and, by option, what the catalogue says of it; a person brings, by option, what
    is known of them and a vector of their own, and by default nothing: they are who they are by what they met. In each
    layer every node takes up what its neighbours are (``SageLayer``); users and items have layers of their own. What
    answers is the cosine of the last vectors of a person and an item. Anybody is answered from their history, whose
    items are their neighbours, and an item that nobody met by what is said of it.

    Trained on pairs of a user and an item, each against the items of the other pairs of the batch and ``negatives``
    drawn ones, with logits corrected as in ``TwoTower``. In the tree of a pair, and in that of its item, the edges of
    this item that are in the batch do not exist, so that nobody is found by having been there. What a step looks at
    is bounded by its batch and the fan-outs, whatever the graph.

    To answer, nothing is drawn: all neighbours are heard, or 1,000 spread evenly over those of who has more; of a
    history the latest 1,000 events. What is kept of the graph is only what each item hears in each layer, (items,
    layers, dim); the edges and the users are not. An item that comes later hears nothing, or, where newer events come
    with it, those who met it; the items of training go on hearing what they heard.

    Source: algorithm 2, on the graph of Ying et al., "Graph Convolutional Neural Networks for Web-Scale Recommender
        Systems" (PinSage), KDD 2018; the softmax as in Yi et al., RecSys 2019. Differs: users and items have weights
        of their own and an own vector is among the inputs; a layer begins as a sum (see ``SageLayer``); neighbours are
        drawn without repetition; a batch's edges are hidden; the loss is a softmax where the papers have a binary one
        and a margin. PinSage draws by random walks and weighs by visits; here neighbours are uniform.
    """

    dim: PositiveInt = 64
    fanouts: tuple[PositiveInt, ...] = Field(default=(10, 5), min_length=1)
    """How many neighbours are drawn, while training, of a node, of each of these, and so on; as many layers."""
    aggregator: Literal["mean", "attention"] = "mean"
    """What is made of the neighbours' vectors."""
    heads: PositiveInt = 2
    """Of the aggregator attention."""
    item_bias: bool = False
    """Let an item say beside its vector how likely it is for anybody; else cosines alone must know what is popular."""
    hidden: tuple[PositiveInt, ...] = ()
    """Widths of the hidden layers of the network in each layer; without any it is a matrix."""
    dropout: float = Field(default=0.2, ge=0, lt=1)
    """Within the hidden layers."""
    item_features: bool = False
    """Add to each item's vector what the catalogue says of it: categories, words, numbers. Needs item features."""
    item_forgetting: float = Field(default=0.2, ge=0, lt=1)
    """With ``item_features``, the chance of each item to be known by what is said of it alone in a batch."""
    user_features: bool = False
    """Read what is known of people: names, codes, ages. Needs user features."""
    user_embedding: bool = False
    """Add a learned vector of the user; who was not met in training has none."""
    user_dropout: float = Field(default=0.5, ge=0, lt=1)
    """The share of the pairs that are learned from without the user's vector, like those of strangers."""
    history_dropout: float = Field(default=0.1, ge=0, lt=1)
    """The share of the pairs that are learned from without a history, like those of newcomers; only where something
    else is known of people."""
    temperature: PositiveFloat = 0.1
    """The loss sees cosines divided by this."""
    negatives: PositiveInt | None = None
    """Drawn for a batch beside its own items; None: as many as the batch has pairs."""
    negatives_alpha: NonNegativeFloat = 0.0
    """They are drawn by popularity to this power."""
    batch_size: PositiveInt | None = None
    """Pairs per step. None: a hundredth of an epoch, at least 256 and at most 4,096. The edges of a batch are hidden
    from it, so one that is a large part of all edges learns from a thinner graph."""
    plan: TrainPlan = TrainPlan(epochs=100, lr=3e-3, patience=5)

    lighter = "batch_size, fanouts or dim"
    of_items = (f"{NET}.items.weight", HEARD)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.aggregator == "attention":
            check_heads(self.dim, self.heads)
        return self

    @property
    def required(self) -> Needs:
        return self.needs | Needs.wanted(
            {Needs.ITEM_FEATURES: self.item_features, Needs.USER_FEATURES: self.user_features}
        )

    def _fit(self, train: Dataset, validation: Holdout | None, run: Run) -> "GraphSAGEModel":
        about, people = About.of(train), None if train.catalog is None else train.catalog.users
        columns = UserColumns.needed(train, "user_features") if self.user_features else UserColumns({})
        met = train.matrix(binary=True)
        torch.manual_seed(run.seed_of("graphsage", "weights"))
        with weights_explained("graphsage"):
            net = GraphSAGENet(self, about, columns, MeetingGraph(met), columns.codes(people, len(train.users)))
        model = GraphSAGEModel(self, about, net, run, columns, train.users)
        user, item = met.nonzero()
        size = self.batch_size or int(np.clip(len(user) // 100, 256, 4096))
        self.learn(
            model,
            net,
            lambda epoch: PairBatches(user, item, size, run.rng("graphsage", "batches", epoch)),
            net.losses,
            train,
            validation,
            run,
            calibrate=model.hear,
        )
        return model

    def restore(self, about: About, state: Mapping[str, NDArray[Any]]) -> "GraphSAGEModel":
        columns, users = UserColumns.from_arrays(part(state, COLUMNS)), Vocab.from_arrays(part(state, KNOWN))
        net = GraphSAGENet(
            self,
            about,
            columns,
            MeetingGraph.empty(len(users), len(about.items)),
            np.empty((0, len(columns)), np.int64),
        )
        load_arrays(net, part(state, NET))
        return GraphSAGEModel(self, about, net.eval(), Run(), columns, users, state[HEARD])

    def memory_needed(self, counts: Mapping[str, int]) -> int:
        vectors = counts["items"] + (counts["users"] if self.user_embedding else 0)
        # A batch has as many trees of users, and at most twice as many of items.
        drawn = 3 * (self.batch_size or 4096) * int(np.cumprod(self.fanouts).sum())
        answers = 3 * (counts["users"] + counts["items"]) + len(self.fanouts) * counts["items"]
        # Weights, gradient, two moments, the best copy; the trees; the layers over all nodes; the graph, both ways.
        return 4 * self.dim * (5 * vectors + 3 * drawn + answers) + 60 * drawn + 24 * counts["events"] + 2**26


class GraphSAGENet(nn.Module):
    """What nodes bring in, the layers over the graph, and the loss of a batch of pairs.

    Args:
        graph: That is learned from.
        codes: (users, features) what is known of each user of the graph; PAD = missing.
    """

    def __init__(
        self, settings: GraphSAGE, about: About, columns: UserColumns, graph: MeetingGraph, codes: NDArray[np.int64]
    ) -> None:
        super().__init__()
        self.settings, self.graph = settings, graph
        # The graph of a restored model has no edges, and nothing is drawn by it.
        self._in_batch = Negatives(np.maximum(graph.degrees(ITEMS).numpy(), 1e-300), 1.0)
        self._negatives = Negatives(about.popularity, settings.negatives_alpha, among=about.met)
        self.items = item_embedding(about, settings.dim, settings.item_features)
        for table in self.items.parameters():  # those of features too
            nn.init.normal_(table, std=settings.dim**-0.5)
        with torch.no_grad():  # nothing is learned of the rest, so nothing is made up either
            self.items.weight[torch.from_numpy(~about.met)] = 0
        own = settings.user_embedding
        self.users = nn.Parameter(torch.zeros(graph.counts[USERS], settings.dim)) if own else None
        sizes = [len(names) for names in columns.names.values()]
        self.features = FeatureEmbedding(sizes, settings.dim) if sizes else None
        self.codes: Tensor
        self.register_buffer("codes", torch.from_numpy(codes), persistent=False)
        heads = settings.heads if settings.aggregator == "attention" else None
        self.layers = SageLayers(settings.dim, len(settings.fanouts), heads, settings.hidden, settings.dropout)
        self.bias = ItemBias(settings.dim, settings.temperature) if settings.item_bias else None

    def losses(self, batch: Pairs) -> dict[str, Tensor]:
        settings, user, device = self.settings, batch.anchor, batch.positive.device
        count = settings.negatives or len(batch)
        there = torch.cat([batch.positive, self._negatives.draw(count, device)])
        items, others = torch.unique(there, return_inverse=True)
        withheld = Withheld(user, batch.positive, self._forgotten())
        reads = self._chances(len(batch), settings.history_dropout) if self.knows_people else None
        people = self.graph.tree(USERS, user, self._fanouts(USERS), withheld, batch.positive, reads)
        offered = self.graph.tree(ITEMS, items, self._fanouts(ITEMS), withheld, items)
        visited = torch.cat([offered.met(USERS), people.met(USERS)])
        read = torch.cat([items, offered.met(ITEMS), people.met(ITEMS)])
        inputs = {
            USERS: self._some(USERS, visited, None),
            ITEMS: self._some(ITEMS, read, withheld.forgotten),
        }
        stranger = user.masked_fill(~self._chances(len(batch), settings.user_dropout), PAD)
        codes = self.codes[user]
        somebody = (people.hops[0].lengths > 0) | self.anything(stranger, codes)
        states = self.layers(people, self.people(stranger, codes), inputs)[somebody]
        table, row_of = inputs[ITEMS]
        brought = nn.functional.embedding(row_of[items], table)
        vectors = self.layers(offered, brought, inputs)
        if self.bias is not None:
            states, vectors = with_one(states), self.bias(vectors, brought)
        expected = self.log_odds(items, len(batch), count)
        positive = others[: len(batch)][somebody]
        loss = sampled_softmax(states / settings.temperature, vectors, positive, others, expected)
        return {"in-batch softmax": loss}

    @property
    def knows_people(self) -> bool:
        """Is anything known of anybody beside a history?"""
        return self.users is not None or self.features is not None

    def people(self, user: Tensor, codes: Tensor) -> Tensor:
        """(rows, dim) what people bring in.

        Args:
            user: (rows,) users of training; PAD = strangers.
            codes: (rows, features); PAD = missing.
        """
        vectors = self.items.weight.new_zeros(len(user), self.settings.dim)
        if self.users is not None:
            own = nn.functional.embedding(user.clamp(min=0), self.users)
            vectors = vectors + own * (user != PAD).unsqueeze(1).to(own.dtype)
        if self.features is not None:
            vectors = vectors + self.features(codes)
        return vectors

    def anything(self, user: Tensor, codes: Tensor) -> Tensor:
        """(rows,) bool, is anything known of each beside a history? The arguments are those of ``people``."""
        known = torch.zeros_like(user, dtype=torch.bool)
        if self.users is not None and len(self.users):  # the vectors of those who met nothing in training stay zero
            known |= (user != PAD) & self.users.detach().any(1)[user.clamp(min=0)]
        if self.features is not None:
            known |= (codes != PAD).any(1)
        return known

    def log_odds(self, items: Tensor, pairs: int, drawn: int) -> Tensor:
        """(n,) the logarithm of how often each of these items is expected among what a batch compares with."""
        here = items.to("cpu")
        expected = torch.logaddexp(self._in_batch.log_odds(pairs)[here], self._negatives.log_odds(drawn)[here])
        return expected.to(items.device)

    @torch.no_grad()
    def heard(self) -> Tensor:
        """(items, layers, dim) what items hear of the graph, by which they answer."""
        users = torch.arange(self.graph.counts[USERS], device=self.codes.device)
        brought = [self.people(some, self.codes[some]) for some in torch.split(users, DESCRIBED_TOGETHER)]
        return self.layers.heard_by_items(self.graph, torch.cat(brought), self.items.vectors())

    def _fanouts(self, kind: Kind) -> tuple[int, ...]:
        """Those of a tree; of users who bring nothing in, none need be drawn where the tree ends."""
        fanouts = self.settings.fanouts
        ends_with_users = (len(fanouts) % 2 == 0) == (kind == USERS)
        return (*fanouts[:-1], 0) if ends_with_users and not self.knows_people else fanouts

    def _forgotten(self) -> Tensor | None:
        """(items,) bool, those that this batch knows only by what is said of them."""
        if not isinstance(self.items, FeaturedItems):
            return None
        return ~self._chances(len(self.items.weight), self.settings.item_forgetting) & self.items.described

    def _chances(self, count: int, dropout: float) -> Tensor:
        """(count,) bool, what is kept."""
        return torch.rand(count, device=self.codes.device) >= dropout

    def _some(self, kind: Kind, nodes: Tensor, forgotten: Tensor | None) -> tuple[Tensor, Tensor]:
        """What some nodes bring in, each computed once, and (nodes of the kind,) where it stands."""
        there = torch.zeros(self.graph.counts[kind], dtype=torch.bool, device=nodes.device)
        there[nodes] = True
        needed = there.nonzero()[:, 0]
        if kind == USERS:
            return self.people(needed, self.codes[needed]), there.cumsum(0) - 1
        vectors = nn.functional.embedding(needed, self.items.weight)
        if isinstance(self.items, FeaturedItems) and forgotten is not None:
            vectors = vectors * ~forgotten[needed].unsqueeze(1)
            vectors = vectors + self.items.said(needed)
        return vectors, there.cumsum(0) - 1


class GraphSAGEModel(VectorModel):
    """The layers, fitted, and what each item hears of the graph; users of training are known by their identifiers."""

    settings: GraphSAGE

    def __init__(
        self,
        settings: GraphSAGE,
        about: About,
        net: GraphSAGENet,
        run: Run,
        columns: UserColumns,
        users: Vocab,
        heard: NDArray[np.float32] | None = None,
    ) -> None:
        super().__init__(settings, about)
        self.net, self.columns, self.users = net, columns, users
        self._run = run
        shape = len(about.items), len(settings.fanouts), settings.dim
        self._heard = np.zeros(shape, np.float32) if heard is None else heard
        self._answerable = about.met | self._heard.any((1, 2))
        if isinstance(net.items, FeaturedItems):
            self._answerable |= net.items.described.cpu().numpy()
        self._states: list[Tensor] | None = None  # of items after each layer, once they are asked for

    def hear(self) -> None:
        """While fitting: work out what items hear, by the weights as they are now."""
        with self._answering():
            self._heard = self.net.heard().float().cpu().numpy()
        self._states = None

    @property
    def parameters(self) -> int:
        return sum(weights.numel() for weights in self.net.parameters())

    def state(self) -> dict[str, NDArray[Any]]:
        users = self.users if self.settings.user_embedding else Vocab(np.empty(0, np.int64))
        return {
            **prefixed(NET, arrays_of(self.net)),
            **prefixed(COLUMNS, self.columns.arrays()),
            **prefixed(KNOWN, users.arrays()),
            HEARD: self._heard,
        }

    def answerable(self) -> NDArray[np.bool_]:
        """(items,) those met in training or by newer events, and with ``item_features`` those that are described."""
        return self._answerable

    def knows_new_items(self) -> bool:
        return isinstance(self.net.items, FeaturedItems)

    @contextmanager
    def _answering(self) -> Iterator[torch.device]:
        device, training = device_of(self._run), self.net.training
        self.net.to(device).eval()
        with torch.inference_mode():
            yield device
        self.net.train(training)

    def item_states(self) -> list[Tensor]:
        """The vectors (items, dim) of items after 0, 1, ... layers."""
        if self._states is None:
            with self._answering() as device:
                heard = torch.from_numpy(self._heard).to(device)
                self._states = self.net.layers.item_states(self.net.items.vectors(), heard)
        return self._states

    def item_vectors(self) -> NDArray[np.float32]:
        states = self.item_states()
        if self.net.bias is None:
            return np.asarray(states[-1].cpu().numpy())
        with self._answering():
            return np.asarray(self.net.bias(states[-1], states[0]).cpu().numpy())

    def likeness_vectors(self) -> NDArray[np.float32]:
        return self.item_vectors()[:, : self.settings.dim]  # without what makes items likely for anybody

    def query_vectors(self, queries: Queries) -> NDArray[np.float32]:
        """Of length 1, with ``item_bias`` a 1 behind it.

        NaN for a query of whom nothing is known: no item met in training, no feature, no own vector.
        """
        found = self._user_states(queries, self.item_states()[:-1])
        return found if self.net.bias is None else with_one(torch.from_numpy(found)).numpy()

    def after_newer_events(self) -> Self:
        """Items that training never met hear who met them by now."""
        return self if self.histories is None or self.about.met.all() else self._hearing(self.histories.queries)

    def _hearing(self, queries: Queries) -> Self:
        """This model, in which items that training never met hear the people who ask; all others stay as they are."""
        newcomers, device = np.flatnonzero(~self.about.met), device_of(self._run)
        met = queries.matrix(len(self.items))[:, newcomers]
        asking = np.flatnonzero(np.diff(met.indptr))
        everyone = torch.arange(len(newcomers), device=device)
        neighbors = MeetingGraph(met[asking]).to(device).spread(ITEMS, everyone, MOST_HEARD)
        model = copy.copy(self)
        model._heard = self._heard.copy()
        for number in range(len(self.settings.fanouts)):
            model._states = None  # what people are in a layer depends on what the new items heard in those before
            items = model.item_states()
            people = torch.from_numpy(np.nan_to_num(model._user_states(queries.take(asking), items[:number])))
            with self._answering():
                heard = self.net.layers.heard_by(ITEMS, number, items[number][newcomers], people.to(device), neighbors)
            model._heard[newcomers, number] = heard.cpu().numpy()
        model._states = None
        model._answerable = self._answerable | model._heard.any((1, 2))
        return model.indexed_like(model.index)

    def _user_states(self, queries: Queries, items: Sequence[Tensor]) -> NDArray[np.float32]:
        """(queries, dim) people after as many layers as there are states of items; NaN where nothing is known."""
        history = self._met(self._readable(queries))
        codes = self.columns.codes(queries.user_features, len(queries))
        user = np.full(len(queries), PAD, np.int32)
        if queries.user is not None and self.settings.user_embedding:
            user = self.users.renumbered(queries.user, None if self.histories is None else self.histories.users)
        vectors = np.full((len(queries), self.settings.dim), np.nan, np.float32)
        with self._answering() as device:
            told = [_indices(each, device) for each in (user, codes)]
            asked = np.flatnonzero((history.lengths > 0) | self.net.anything(*told).cpu().numpy())
            # Of similar length, because attention pads to the longest.
            asked = asked[np.argsort(history.lengths[asked], kind="stable")]
            for rows in groups_within(asked, history.lengths + 1, PLACES):
                read = history.take(rows)
                met = Neighbors(_indices(read.values, device), _indices(read.offsets, device))
                own = self.net.people(*(each[_indices(rows, device)] for each in told))
                vectors[rows] = self.net.layers.user_states(own, met, items)[-1].float().cpu().numpy()
        return vectors

    def _met(self, queries: Queries) -> Ragged:
        """The items of each history, each once and in an order that is always the same; of long ones the latest."""
        met = Queries(queries.history.last(MOST_HEARD)).matrix(len(self.items))
        return Ragged(met.indices, met.indptr.astype(np.int64))


def _indices(array: NDArray[np.integer], device: torch.device) -> Tensor:
    return torch.from_numpy(array.astype(np.int64)).to(device)
