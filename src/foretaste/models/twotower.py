"""Two towers: a network for people and one for items, trained against the other items of a batch."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn

from foretaste.dataset import Dataset, Needs
from foretaste.eight_bit import arrays_of, load_arrays
from foretaste.errors import DataError, MissingData
from foretaste.history_pairs import HistoryPairBatches, HistoryPairs, People
from foretaste.iterative import IterativeSettings
from foretaste.losses import sampled_softmax
from foretaste.mishaps import weights_explained
from foretaste.nets.embeddings import FeaturedItems
from foretaste.nets.tasks import TaskHeads, Tasks, item_names
from foretaste.nets.towers import FeatureEmbedding, ItemBias, Tower, distinct, mean_of_rows, unit, with_one
from foretaste.query import Holdout, Queries
from foretaste.ragged import PAD, Ragged
from foretaste.recommender import About
from foretaste.run import Run
from foretaste.sampling import Negatives
from foretaste.sequential import item_embedding
from foretaste.side_inputs import UserColumns
from foretaste.storage import part, prefixed
from foretaste.task_answers import TaskAnswers
from foretaste.train import TrainPlan, device_of
from foretaste.vocab import Vocab

__all__ = ["TwoTower", "TwoTowerModel", "TwoTowerNet"]

ANSWERED_TOGETHER = 8192  # queries
PUT_TOGETHER = 4096  # items whose inputs are worked out at a time
HARD_FROM = 100  # of the best items that a person has not met, hard negatives are drawn
USERS, COLUMNS, NET = "known_users", "user_columns", "net"


class TwoTower(IterativeSettings):
    """The score of a person and an item is the cosine of what two networks make of them.

    The person's side is the mean of the vectors of the items of their history, with (by option) a vector of their own
    and what is known of them; the item's side is a vector per item, with (by option) what the catalogue says of it.
    To either a network of ``hidden`` layers adds its part. Trained by the softmax of each pair's positive item against
    the positive items of the other pairs and ``negatives`` drawn ones, each logit corrected by the logarithm of how
    often its item was to be expected among them (Yi et al., "Sampling-Bias-Corrected Neural Modeling for Large Corpus
    Item Recommendations", RecSys 2019, eq. 5); ``hard_negatives`` adds to those of the batch, for each pair, some of
    the hundred best items that the person has not met, looked up anew before each epoch.

    The item that is to be found is left out of the history that it is looked for with; ``in_order`` gives a history
    only what came before it. Of somebody of whom nothing is known then, nothing is learned. Reading a history as a mean
    of vectors, so that anybody can ask, is that of Covington et al., "Deep Neural Networks for YouTube
    Recommendations", RecSys 2016, section 3.2.

    Differs from these: both towers begin as the plain vectors, which their layers learn to change; the positive's own
    logit is not corrected, as it is always present; the expected counts are known from the data, not estimated from
    the stream; the history has the same item vectors as the item's side.
    """

    dim: PositiveInt = 64
    item_bias: bool = False
    """Let an item say beside its vector how likely it is for anybody; else cosines alone must know what is popular."""
    hidden: tuple[PositiveInt, ...] = ()
    """Widths of the hidden layers of each tower."""
    dropout: float = Field(default=0.2, ge=0, lt=1)
    """Within the hidden layers."""
    length: PositiveInt = 200
    """How many events of a history are read: the latest ones; without ``in_order``, while training, any."""
    in_order: bool = False
    """Learn from what came before each event alone. Needs order."""
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
    hard_negatives: NonNegativeInt = 0
    """For each pair; they cost a look at the whole catalogue per epoch and person."""
    tasks: Tasks = Tasks()
    """What else is learned from the same vectors, and how much it counts: ratings, likes, categories, content."""
    batch_size: PositiveInt | None = None
    """Pairs per step. None: a hundredth of an epoch, at least 1,024 and at most 8,192."""
    plan: TrainPlan = TrainPlan(epochs=100, lr=3e-3, patience=5)

    of_items: ClassVar[tuple[str, ...]] = (
        "net.items.weight",
        "net.tasks.rating.item_bias",
        "net.tasks.sentiment.item_bias",
    )

    @property
    def required(self) -> Needs:
        return (
            self.needs
            | Needs.wanted(
                {
                    Needs.ORDER: self.in_order,
                    Needs.ITEM_FEATURES: self.item_features,
                    Needs.USER_FEATURES: self.user_features,
                }
            )
            | Needs.wanted({Needs.ITEM_FEATURES: self.tasks.of_names, Needs.VALUES: self.tasks.of_values})
        )

    def _fit(self, train: Dataset, validation: Holdout | None, run: Run) -> "TwoTowerModel":
        about, people = About.of(train), None if train.catalog is None else train.catalog.users
        columns = UserColumns.needed(train, "user_features") if self.user_features else UserColumns({})
        pairs, name = self._pairs(train), self.called()
        torch.manual_seed(run.seed_of(name, "weights"))
        with weights_explained(name):
            model = self.untrained(about, train, columns, np.bincount(train.item[pairs]), run)
        net = model.net
        if net.tasks is not None and train.value is not None:
            net.tasks.measure(train.value)
        codes = columns.codes(people, len(train.users))
        size = self.batch_size or int(np.clip(len(pairs) // 100, 1024, 8192))

        def batches(epoch: int) -> HistoryPairBatches:
            model.before_epoch(epoch)
            rng = run.rng(name, "batches", epoch)
            hard = model.best_unmet(train) if self.hard_negatives and epoch else None
            return HistoryPairBatches(self, train, pairs, codes, size, hard, rng)

        self.learn(model, net, batches, net.losses, train, validation, run, calibrate=model.calibrate)
        for task, measured in model.tasks_measured().items():
            run.log(f"{name}: {task} {measured:.4f}", {task: measured})
            model.training[task] = measured
        return model

    def untrained(
        self, about: About, train: Dataset, columns: UserColumns, learned_from: NDArray[np.integer], run: Run
    ) -> "TwoTowerModel":
        """The model with random weights; torch is seeded.

        Args:
            learned_from: How many pairs have each item, up to the last that any has.
        """
        net = TwoTowerNet(self, about, len(train.users), columns, learned_from)
        return TwoTowerModel(self, about, net, run, columns, train.users)

    def _pairs(self, train: Dataset) -> NDArray[np.int64]:
        """The events that are learned from: each user and item once, or, in order, all but the first of each user."""
        if self.in_order:
            pairs = np.setdiff1d(np.arange(len(train)), train.offsets[:-1])
            if not len(pairs):
                raise DataError(f"{train.name} has no user with two events, so TwoTower has nothing to predict.")
            return pairs
        met = train.user.astype(np.int64) * len(train.items) + train.item
        return np.asarray(np.unique(met, return_index=True)[1])

    def restore(self, about: About, state: Mapping[str, NDArray[Any]]) -> "TwoTowerModel":
        columns, users = UserColumns.from_arrays(part(state, COLUMNS)), Vocab.from_arrays(part(state, USERS))
        net = TwoTowerNet(self, about, len(users), columns, np.ones(len(about.items)))
        load_arrays(net, part(state, NET))
        return TwoTowerModel(self, about, net.eval(), Run(), columns, users)

    def memory_needed(self, counts: Mapping[str, int]) -> int:
        vectors = counts["items"] + (counts["users"] if self.user_embedding else 0)
        batch = self.batch_size or 8192
        # Weights, gradient, two moments, the best copy; the histories of a batch; a chunk of logits.
        hard = 9 * HARD_FROM * counts["users"] if self.hard_negatives else 0
        batches = 16 * batch * self.length + 24 * counts["events"]
        return 4 * self.dim * (5 * vectors + 6 * batch) + batches + hard + 2**26


class TwoTowerNet(nn.Module):
    """The vectors of items and users, and the two towers over them.

    Args:
        learned_from: How many pairs have each item, up to the last that any has.
    """

    def __init__(
        self,
        settings: TwoTower,
        about: About,
        users: int,
        columns: UserColumns,
        learned_from: NDArray[np.integer] | NDArray[np.floating],
    ) -> None:
        super().__init__()
        self.settings = settings
        counts = np.zeros(len(about.items))
        counts[: len(learned_from)] = learned_from
        self._in_batch = Negatives(counts, 1.0)
        self._negatives = Negatives(about.popularity, settings.negatives_alpha, among=about.met)
        self.items = item_embedding(about, settings.dim, settings.item_features)
        for table in self.items.parameters():  # those of features too
            nn.init.normal_(table, std=settings.dim**-0.5)
        with torch.no_grad():  # nothing is learned of the rest, so nothing is made up either
            self.items.weight[torch.from_numpy(~about.met)] = 0
        self.users = nn.Parameter(torch.zeros(users, settings.dim)) if settings.user_embedding else None
        sizes = [len(names) for names in columns.names.values()]
        self.features = FeatureEmbedding(sizes, settings.dim) if sizes else None
        self.item_tower = Tower(settings.dim, 0, settings.hidden, settings.dropout)
        self.user_tower = Tower(settings.dim, 0, settings.hidden, settings.dropout)
        self.bias = ItemBias(settings.dim, settings.temperature) if settings.item_bias else None
        self.tasks = None
        if settings.tasks.any:
            nothing: tuple[Ragged, Sequence[str]] = Ragged.empty(len(about.items)), ()
            has, names = item_names(about.catalog, about.met) if settings.tasks.of_names else nothing
            if settings.tasks.of_names and not names:
                raise MissingData(
                    f"tasks: no column of the items of {about.data} groups them by names, so there are no categories "
                    f"to learn: {', '.join(about.catalog) or 'none'}. Give an item table with some, or leave it out."
                )
            self.tasks = TaskHeads(settings.dim, settings.tasks, has, len(names))

    def losses(self, batch: HistoryPairs) -> dict[str, Tensor]:
        settings, device = self.settings, batch.positive.device
        count = settings.negatives or len(batch)
        drawn = self._negatives.draw(count, device)
        # Only what the batch meets is put through the towers, so a step does not grow with the catalogue.
        met = torch.cat([batch.history, batch.positive, drawn, batch.hard])
        needed, place = distinct(met, len(self.items.weight))
        history, others = torch.split(place, [len(batch.history), len(met) - len(batch.history)])
        inputs = self.inputs(needed)
        strange = torch.rand(len(batch), device=device) < settings.user_dropout
        people = People(batch.user.masked_fill(strange, PAD), batch.features, self.texts_of(batch.user))
        pooled, met = mean_of_rows(inputs, history, batch.offsets), batch.offsets.diff() > 0
        read = met
        if self.beside:
            read = met & (torch.rand(len(batch), device=device) >= settings.history_dropout)
        somebody = read | self.anything(people, met)
        states = self.person_side(self.people(pooled, read, met, people)[somebody])
        # And only what it compares with, not all that stands in histories, is put through the item's side.
        offered, others = distinct(others, len(needed))
        hard = torch.bincount(others[len(batch) + count :], minlength=len(offered))
        expected = self.log_odds(needed[offered], len(batch), count, hard)
        positive = others[: len(batch)][somebody]
        items = self.item_side(nn.functional.embedding(offered, inputs))
        losses = {"in-batch softmax": sampled_softmax(states / settings.temperature, items, positive, others, expected)}
        if self.tasks is not None:
            dim = settings.dim  # without the bias
            shared = states[:, :dim], items[positive, :dim]
            losses |= self.tasks.losses(*shared, needed[offered[positive]], batch.value[somebody])
        return losses

    def inputs(self, items: Tensor) -> Tensor:
        """(n, dim) what these items bring into the tower; some of them by chance only what is said of them."""
        if not isinstance(self.items, FeaturedItems):
            return torch.as_tensor(self.items(items))
        known = torch.rand(len(items), 1, device=items.device) >= self.settings.item_forgetting
        known |= ~self.items.described[items].unsqueeze(1)  # of which nothing is said: of nothing, nothing is learned
        said = self.items.said(items)
        return said + nn.functional.embedding(items, self.items.weight) * known.to(said.dtype)

    def log_odds(self, items: Tensor, pairs: int, drawn: int, hard: Tensor) -> Tensor:
        """(n,) the logarithm of how often each of these items is expected among what a batch compares with.

        Args:
            hard: (n,) how often each is a hard negative, which is certain.
        """
        here = items.to("cpu")
        expected = torch.logaddexp(self._in_batch.log_odds(pairs)[here], self._negatives.log_odds(drawn)[here])
        return torch.logaddexp(expected.to(items.device), hard.float().log())

    @property
    def beside(self) -> bool:
        """Is anything read of people beside what they met?"""
        return self.users is not None or self.features is not None

    def texts_of(self, user: Tensor) -> Tensor | None:
        """(rows, width) what is said of users of training in words; None: it is not read."""
        return None

    def anything(self, people: People, met: Tensor) -> Tensor:
        """(rows,) bool, is anything known of each beside what they met?

        Args:
            met: (rows,) bool, whether there is a history.
        """
        known = torch.zeros_like(met)
        if self.users is not None:  # the vectors of those who met nothing in training stay zero
            known |= (people.user != PAD) & self.users.detach().any(1)[people.user.clamp(min=0)]
        if self.features is not None:
            known |= (people.features != PAD).any(1)
        return known

    def people(self, pooled: Tensor, read: Tensor, met: Tensor, people: People) -> Tensor:
        """(rows, dim) the side of people, not yet of length 1.

        Args:
            pooled: (rows, width) the means of the inputs of their histories.
            read: (rows,) bool, whether their histories are read ...
            met: (rows,) ... and whether they have any.
        """
        pooled = pooled * read.unsqueeze(1).to(pooled.dtype)
        if self.users is not None:
            own = nn.functional.embedding(people.user.clamp(min=0), self.users)
            pooled = pooled + own * (people.user != PAD).unsqueeze(1).to(own.dtype)
        if self.features is not None:
            pooled = pooled + self.features(people.features)
        return torch.as_tensor(self.user_tower(pooled))

    def person_side(self, people: Tensor) -> Tensor:
        """(rows, dim) of length 1; with ``item_bias`` a 1 behind it."""
        return unit(people) if self.bias is None else with_one(unit(people))

    def item_side(self, inputs: Tensor) -> Tensor:
        """(n, dim) of length 1, of inputs (n, width); with ``item_bias`` that number behind it."""
        vectors = self.item_tower(inputs)
        return unit(vectors) if self.bias is None else self.bias(unit(vectors), vectors)

    def whole_inputs(self, items: Tensor) -> Tensor:
        """(n, width) what some items bring into the towers to answer, where nothing is forgotten."""
        return torch.cat([self._whole(few) for few in torch.split(items, PUT_TOGETHER)])

    def _whole(self, items: Tensor) -> Tensor:
        own = nn.functional.embedding(items, self.items.weight)
        return own + self.items.said(items) if isinstance(self.items, FeaturedItems) else own

    def item_vectors(self) -> Tensor:
        """(items, dim) of length 1; with ``item_bias`` that number behind it."""
        every = torch.arange(len(self.items.weight), device=self.items.weight.device)
        return torch.cat([self.item_side(self._whole(few)) for few in torch.split(every, PUT_TOGETHER)])


class TwoTowerModel(TaskAnswers):
    """Two towers, fitted; it knows the users of training by their outside identifiers."""

    settings: TwoTower

    def __init__(
        self, settings: TwoTower, about: About, net: TwoTowerNet, run: Run, columns: UserColumns, users: Vocab
    ) -> None:
        super().__init__(settings, about)
        self.net, self.columns, self.users = net, columns, users
        self._run = run
        self._answerable = self._known_items()
        self._item_vectors: NDArray[np.float32] | None = None  # of all items, once they are asked for

    @property
    def tasks(self) -> TaskHeads | None:
        return self.net.tasks

    @property
    def parameters(self) -> int:
        return sum(weights.numel() for weights in self.net.parameters())

    def state(self) -> dict[str, NDArray[Any]]:
        users = self.users if self.settings.user_embedding else Vocab(np.empty(0, np.int64))
        return {
            **prefixed(NET, arrays_of(self.net)),
            **prefixed(COLUMNS, self.columns.arrays()),
            **prefixed(USERS, users.arrays()),
        }

    def before_epoch(self, epoch: int) -> None:
        """While fitting: bring what a checkpoint does not hold up to the weights. By default nothing."""

    def calibrate(self) -> None:
        """While fitting: work out what answers need beside the weights, which have just changed."""
        self._item_vectors = None

    def answerable(self) -> NDArray[np.bool_]:
        """(items,) those met in training, and with ``item_features`` those of which the catalogue says something."""
        return self._answerable

    def _known_items(self) -> NDArray[np.bool_]:
        if not isinstance(self.net.items, FeaturedItems):
            return self.about.met
        return np.asarray(self.about.met | self.net.items.described.cpu().numpy())

    def knows_new_items(self) -> bool:
        return isinstance(self.net.items, FeaturedItems)

    def best_unmet(self, train: Dataset) -> NDArray[np.int32]:
        """(users, at most 100) the best items that each user of training has not met, as the weights are now."""
        met = self.items.lookup(np.flatnonzero(self.about.met))  # of others nothing is known that could be unlearned
        found = self.recommend(Queries.of_users(train), HARD_FROM, items=met)
        return np.where(found.source == 0, found.items, PAD)

    @contextmanager
    def _answering(self) -> Iterator[None]:
        training = self.net.training
        self.net.to(device_of(self._run)).eval()
        with torch.inference_mode():
            yield
        self.net.train(training)

    def item_vectors(self) -> NDArray[np.float32]:
        if self._item_vectors is not None and not self.net.training:
            return self._item_vectors
        with self._answering():
            vectors = np.asarray(self.net.item_vectors().cpu().numpy())
        self._item_vectors = None if self.net.training else vectors  # in training they change with each step
        return vectors

    def likeness_vectors(self) -> NDArray[np.float32]:
        return self.item_vectors()[:, : self.settings.dim]  # without what makes items likely for anybody

    def query_vectors(self, queries: Queries) -> NDArray[np.float32]:
        """Of length 1, with ``item_bias`` a 1 behind it.

        NaN for a query of whom nothing is known: no item met in training, no feature, no own vector.
        """
        readable = self._readable(queries)
        history = readable.history.last(self.settings.length)
        vectors = np.full((len(queries), self.settings.dim + self.settings.item_bias), np.nan, np.float32)
        device = device_of(self._run)
        with self._answering():
            people, met = self.people(queries).to(device), torch.from_numpy(history.lengths > 0).to(device)
            asked = np.flatnonzero((met | self.net.anything(people, met)).cpu().numpy())
            table, places = self._read(history.take(asked))
            for start in range(0, len(asked), ANSWERED_TOGETHER):
                some = slice(start, start + ANSWERED_TOGETHER)
                rows = asked[some]
                pooled, there = self._means(table, places.take(some)), torch.from_numpy(rows).to(device)
                found = self.net.people(pooled, met[there], met[there], people.take(there))
                vectors[rows] = self.net.person_side(found).cpu().numpy()
        return vectors

    def _read(self, history: Ragged) -> tuple[Tensor, Ragged]:
        """What the items of some histories bring in, each put through once, and where each item of a history stands."""
        items, places = np.unique(history.values, return_inverse=True)
        table = self.net.whole_inputs(torch.from_numpy(items.astype(np.int64)).to(device_of(self._run)))
        return table, history.with_values(places)

    def _means(self, table: Tensor, places: Ragged) -> Tensor:
        """(rows, width) the means of the rows of a table (any, width) that stand in each history."""
        read, offsets = (torch.from_numpy(each.astype(np.int64)) for each in (places.values, places.offsets))
        return mean_of_rows(table, read.to(table.device), offsets.to(table.device))

    def people(self, queries: Queries) -> People:
        """What is known of those who ask, beside their histories."""
        codes = self.columns.codes(queries.user_features, len(queries))
        user = np.full(len(queries), PAD, np.int32)
        if queries.user is not None and self.settings.user_embedding:
            user = self.users.renumbered(queries.user, None if self.histories is None else self.histories.users)
        return People(*(torch.from_numpy(each.astype(np.int64)) for each in (user, codes)))
