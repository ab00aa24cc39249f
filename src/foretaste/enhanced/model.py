"""What a fitted EnhancedBERT4Rec can be asked beside recommendations: ratings, profiles, and what it attends to."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils import parametrize

from foretaste.batching import Sequences
from foretaste.catalog import Table
from foretaste.dataset import Dataset
from foretaste.enhanced.net import EnhancedNet, Seen
from foretaste.enhanced.unmet import level_of_unmet, unmet_share
from foretaste.errors import ConfigError, UnknownName
from foretaste.histories import Histories, known_or_strangers
from foretaste.query import Queries, TopK
from foretaste.ragged import PAD, Ragged
from foretaste.recommender import About
from foretaste.run import Run
from foretaste.sequential import SequenceModel, SequenceSettings, answered_together
from foretaste.side_inputs import ItemMetadata, SideInputs
from foretaste.storage import prefixed
from foretaste.train import device_of
from foretaste.vocab import Vocab

__all__ = ["Attention", "EnhancedBERT4RecModel"]

PAIRS = 1 << 18  # of queries and items, rated at a time
TASTES = 5  # names in a profile
CALIBRATED_ON = 1024  # people after whose last event the level of items never met is found


@dataclass(frozen=True, eq=False)
class Attention:
    """How the network attends, looking back only; place 0 is the start, place i the i-th event that is read."""

    tokens: tuple[str, ...]  # of the person: each feature, "person" where people have vectors of their own, "profile"
    to_person: NDArray[np.float32] | None  # (queries, heads, places, tokens); None = nothing is known of people
    to_places: NDArray[np.float32]  # (queries, heads, places, places) in the last block
    places: NDArray[np.int64]  # (queries,) how many places each query has; rows and columns beyond mean nothing


class EnhancedBERT4RecModel(SequenceModel):
    """EnhancedBERT4Rec, fitted."""

    net: EnhancedNet

    def __init__(
        self,
        settings: SequenceSettings,
        about: About,
        net: EnhancedNet,
        run: Run,
        sides: SideInputs,
        metadata: ItemMetadata | None,
    ) -> None:
        super().__init__(settings, about, net, run)
        self.sides, self.metadata = sides, metadata
        self._answerable = about.met if metadata is None else about.met | metadata.known
        self._offers_unmet = bool((self._answerable & ~about.met).any())
        self._calibration: tuple[Queries, float] | None = None  # while fitting: who asks, and the share wanted

    @property
    def parameters(self) -> int:
        return sum(weights.numel() for weights in self.net.parameters())

    def state(self) -> dict[str, NDArray[Any]]:
        return {**prefixed("net", super().state()), **prefixed("sides", self.sides.arrays())}

    def answerable(self) -> NDArray[np.bool_]:
        """(items,) those met in training, and those of which the catalogue tells something that is read."""
        return self._answerable

    def knows_new_items(self) -> bool:
        return self.metadata is not None

    def _with_rows(self, items: Vocab, catalog: Table) -> Self:
        """The new items are on the level that the stored histories ask for; without any, on that of the fit."""
        model = super()._with_rows(items, catalog)
        queries = None if self.histories is None else self.histories.queries
        if queries is not None and len(queries.history.values):
            some = np.flatnonzero(queries.history.lengths)
            some = some[np.linspace(0, len(some) - 1, min(len(some), CALIBRATED_ON)).astype(np.int64)]
            wanted = self.settings.unmet_share or unmet_share(np.bincount(queries.history.values))  # type: ignore[attr-defined]
            model._calibration = queries.take(some), wanted
            model.calibrate()
            model._calibration = None
        elif model._offers_unmet and not self._offers_unmet:  # at the fit it was found for a single one
            model.net.unmet_level -= math.log((model._answerable & ~model.about.met).sum())
        return model

    def query_vectors(self, queries: Queries) -> NDArray[np.float32]:
        """What the heads say; NaN where neither the person nor an item of the history is known.

        Where items never met are answered, one more number, 1, behind it: see ``item_vectors``.
        """
        said = self._said(queries)
        if not self._offers_unmet:
            return said
        one = np.where(np.isnan(said[:, 0]), np.nan, 1).astype(np.float32)
        return np.column_stack([said, one])

    def item_vectors(self) -> NDArray[np.float32]:
        """(items, dim), and where items never met are answered (items, dim + 1): their level, 0 for all others."""
        vectors = self.likeness_vectors()
        if not self._offers_unmet:
            return vectors
        level = np.where(self.about.met, 0, float(self.net.unmet_level)).astype(np.float32)
        return np.column_stack([vectors, level])

    def likeness_vectors(self) -> NDArray[np.float32]:
        """(items, dim) those of the network."""
        return super().item_vectors()

    def before_training(self, data: Dataset, share: float | None) -> None:
        """Keep what ``calibrate`` needs: some people with their events, and the share of items never met.

        Args:
            share: None: as many as ``unmet_share`` finds in training.
        """
        active = np.flatnonzero(data.baskets.lengths)
        some = active[np.linspace(0, len(active) - 1, min(len(active), CALIBRATED_ON)).astype(np.int64)]
        self._calibration = Queries.of_users(data, some), share or unmet_share(np.bincount(data.item))

    def after_training(self) -> None:
        """Let go of what only training reads."""
        self._calibration = None
        self.net.after_training()

    def calibrate(self) -> None:
        """Find the level of items never met: what brings their chances to the share of events they are to have.

        They take no part in the losses, so nothing else ever brings their scores down. Where everything was met, some
        items stand for those that may come, as if nobody had met them, and the level is that of a single new item.
        """
        if self._calibration is None or self.metadata is None or not self.metadata.known.any():
            return
        people, share = self._calibration
        said = torch.from_numpy(self._said(people))
        vectors, met = self.likeness_vectors()[self._answerable], self.about.met[self._answerable]
        alone = 0.0
        if not self._offers_unmet:
            strangers = self._as_never_met()
            vectors, met = np.concatenate([vectors, strangers]), np.arange(len(vectors) + len(strangers)) < len(vectors)
            alone = math.log(len(strangers))
        level = level_of_unmet(said, torch.from_numpy(vectors), torch.from_numpy(met), share)
        self.net.unmet_level.fill_(level + alone)

    def _as_never_met(self) -> NDArray[np.float32]:
        """(some, dim) the vectors that some items would have if nobody had met them."""
        known = np.flatnonzero(self.metadata.known)  # type: ignore[union-attr]
        some = known[np.linspace(0, len(known) - 1, min(len(known), CALIBRATED_ON)).astype(np.int64)]
        items = self.net.items
        with torch.inference_mode():
            vectors = items.metadata()[torch.from_numpy(some)].float().cpu()  # type: ignore[misc]
            if self.settings.item_forgetting:  # type: ignore[attr-defined]
                return np.asarray(vectors.numpy())
            like, shares = self.metadata.alike(some, np.flatnonzero(self.about.met))  # type: ignore[union-attr]
            shares = np.where(like == some[:, None], 0, shares)  # others are like a newcomer, and not itself
            shares /= shares.sum(1, keepdims=True).clip(1e-12)
            own = items.weight[torch.from_numpy(like)].float().cpu() * torch.from_numpy(shares)[..., None]
            return np.asarray((vectors + own.sum(1)).numpy())

    def ratings(self, queries: Queries | Sequence[Any], items: Sequence[Any]) -> NDArray[np.float32]:
        """(queries, items) what each person would rate each item if they met it next.

        In the units of the data and within the range of training. Everybody and every item has one: where nothing is
        known of a person it is what people rate on average, where nothing is known of an item, what the person does.

        Args:
            queries: As in ``recommend``.
            items: Identifiers.

        Raises:
            ConfigError: The model learned no ratings.
            UnknownName: An item is not in the catalogue.
        """
        index = self._known(items)
        asked = self.ask(queries).queries
        pairs = Ragged(np.tile(index, len(asked)), np.arange(len(asked) + 1) * len(index))
        return self.pair_ratings(asked, pairs).reshape(len(asked), len(index))

    def pair_ratings(self, queries: Queries, items: Ragged) -> NDArray[np.float32]:
        """(total,) the same for each query's own items.

        Args:
            items: (queries) item indices.

        Raises:
            ConfigError: The model learned no ratings.
        """
        made_of = self._told(self._readable(queries), self.net.rating_by, self.settings.dim + 1, everybody=True)
        head = self.net.ratings
        mean, deviation, low, high = head.scale.cpu().numpy()  # type: ignore[union-attr]
        bias = head.item_bias.detach().cpu().numpy()  # type: ignore[union-attr]
        vectors, row = self.likeness_vectors(), items.row_of_value()
        found = np.empty(len(row), np.float32)
        for start in range(0, len(row), PAIRS):
            pairs = slice(start, start + PAIRS)
            state, item = made_of[row[pairs]], items.values[pairs]
            found[pairs] = (state[:, :-1] * vectors[item]).sum(1) + state[:, -1] + bias[item]
        return np.asarray((mean + deviation * found).clip(low, high), np.float32)

    def recommend_for(self, user: Any, history: Sequence[Any], k: int = 10, *, filter_seen: bool = True) -> TopK:
        """What to offer a known person after this history instead of the stored one.

        Features and vector are the person's; somebody unknown is answered by the history alone and named in
        ``unknown_users``.

        Args:
            user: Identifier of a person whose history is attached.
            history: Item identifiers, oldest first; those that are unknown are left out and named.

        Raises:
            ConfigError: No histories are attached, or k is below 1.
        """
        stored = self._stored()
        index = stored.users.index([user])
        person = known_or_strangers(stored.queries, index)
        asked, unknown = Queries.of_histories(self.items, [history])
        asked = replace(asked, user=index, user_features=person.user_features)
        top = self.recommend(asked, k, filter_seen=filter_seen)
        strangers = (user,) if index[0] == PAD else ()
        return replace(top, labels=[user], unknown_users=strangers, unknown_items=tuple(unknown[0]))

    def profile(self, user: Any) -> dict[str, Any]:
        """What is known of a person and what the model makes of them.

        Returns:
            Each feature by its column, an age or group of ages as ``age_group``, None = not known; ``events``, how many
            are stored; and ``tastes``, the names of items, such as genres, that the model expects the person to like
            most, best first: by how far the scores of the items of that name lie above those of all items on average,
            in standard deviations. No tastes where the model reads no names or knows nothing of the person.

        Raises:
            ConfigError: No histories are attached.
            UnknownName: There is no history of this person.
        """
        stored = self._stored()
        index = stored.users.index([user])
        if index[0] == PAD:
            raise UnknownName("user", user, stored.users.lists())
        query = stored.queries.take(index)
        codes = self.sides.columns.codes(query.user_features, 1)[0]
        return {**self.sides.columns.told(codes), "events": len(query.history.values), "tastes": self._tastes(query)}

    def attention(self, queries: Queries | Sequence[Any]) -> Attention:
        """How the network attends to what is known of each person and to the events.

        Weights of all heads and places are held for all queries at once: ask for a few.
        """
        asked = self._readable(self.ask(queries).queries)
        sequences, features = self._read(asked)
        net, device = self.net, device_of(self._run)
        net.to(device).eval()
        with torch.inference_mode():
            seen = Seen(sequences.padded().to(device), torch.from_numpy(features).to(device))
            person, places = net.attention(seen, net.items.vectors())
        tokens = (*self.sides.columns.names, *([] if self.sides.users is None else ["person"]), "profile")
        return Attention(
            () if person is None else tokens,
            None if person is None else person.float().cpu().numpy(),
            places.float().cpu().numpy(),
            1 + sequences.lengths,
        )

    def _tastes(self, query: Queries) -> list[tuple[str, float]]:
        if self.metadata is None or not self.metadata.names:
            return []
        scores = self.score(query)[0]
        row = self.metadata.codes.row_of_value()
        counted = np.isfinite(scores)[row] & self.about.met[row]
        if not counted.any():
            return []
        scores = (scores - scores[self.about.met].mean()) / scores[self.about.met].std().clip(1e-9)
        names = self.metadata.codes.values[counted]
        count = np.bincount(names, minlength=len(self.metadata.names))
        total = np.bincount(names, weights=scores[row[counted]], minlength=len(self.metadata.names))
        mean = np.where(count > 0, total / count.clip(1), -np.inf)
        best = np.argsort(-mean, kind="stable")[: min(TASTES, int((count > 0).sum()))]
        return [(self.metadata.names[each], float(mean[each])) for each in best]

    def _said(self, queries: Queries) -> NDArray[np.float32]:
        return self._told(self._readable(queries), self.net.answer_to, self.settings.dim)

    def _read(self, queries: Queries) -> tuple[Sequences, NDArray[np.int64]]:
        """What is read of the queries: events, with the users of training, and (queries, columns) features."""
        sequences = self.settings.read(Sequences.of_queries(queries)).last(self.settings.length)
        asked = None if self.histories is None else self.histories.users
        user = self.sides.own_users(asked, queries.user, len(queries))
        return replace(sequences, user=user), self.sides.columns.codes(queries.user_features, len(queries))

    def _told(
        self, queries: Queries, tell: Callable[[Seen, Tensor], Tensor], width: int, *, everybody: bool = False
    ) -> NDArray[np.float32]:
        """(queries, width) what a function of the network says of each; NaN where nothing is known to answer from.

        Args:
            everybody: Ask for those too of whom nothing is known.
        """
        sequences, features = self._read(queries)
        known = (sequences.lengths > 0) | (features != PAD).any(1) | (sequences.user != PAD)
        asked = np.flatnonzero(known | everybody)
        answers = np.full((len(queries), width), np.nan, np.float32)
        device = device_of(self._run)
        net = self.net.to(device)
        training = net.training
        net.eval()
        # Weights of 8 bits are multiplied out once for all batches.
        with torch.inference_mode(), parametrize.cached():
            vectors = net.items.vectors()
            for rows in answered_together(asked, sequences.lengths):
                seen = Seen(sequences.take(rows).padded().to(device), torch.from_numpy(features[rows]).to(device))
                answers[rows] = tell(seen, vectors).float().cpu().numpy()
        net.train(training)
        return answers

    def _stored(self) -> Histories:
        if self.histories is None:
            raise ConfigError(
                "This model holds no histories, so it knows nobody. Attach them: model.with_histories(data)."
            )
        return self.histories
