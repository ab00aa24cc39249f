"""What every model shares: settings that fit, models that answer anybody, and the filters and fallback of an answer."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from foretaste.catalog import Catalog, Table
from foretaste.dataset import Dataset, EventKinds, Needs
from foretaste.errors import ConfigError, DataError, UnknownName
from foretaste.fallback import fill_by_popularity
from foretaste.histories import Asked, Histories, known_or_strangers
from foretaste.query import Holdout, Queries, TopK
from foretaste.ragged import PAD, Ragged
from foretaste.run import Log, Run, warned
from foretaste.vocab import Vocab

if TYPE_CHECKING:
    import torch

__all__ = ["CHUNK_BYTES", "FALLBACK", "About", "Answer", "Model", "Recommender", "Settings", "hidden_of"]

# Items, their scores, and which part answered, as in a ``TopK``.
Answer = tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.int8]]
FALLBACK = "popularity"
# How much memory the scores of one chunk of queries may take. Beyond 32 MiB glibc gives the memory back to the system
# after each chunk, and taking it anew costs a fifth of the whole time (benchmarks: evaluation_speed).
CHUNK_BYTES = 32 * 2**20


class Recommender(Protocol):
    """Anything that answers queries: one model, or a cascade of several."""

    @property
    def items(self) -> Vocab: ...

    def recommend(
        self,
        queries: Queries,
        k: int = 10,
        *,
        filter_seen: bool = True,
        exclude_kinds: Sequence[str] = (),
        items: Sequence[Any] | None = None,
        exclude: Sequence[Any] | None = None,
    ) -> TopK: ...


class Settings(BaseModel, ABC):
    """The settings of a model, frozen; ``fit`` returns the fitted model."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    needs: ClassVar[Needs] = Needs.NOTHING
    iterative: ClassVar[bool] = False  # validation chooses something, such as the best of its epochs
    by_vectors: ClassVar[bool] = False  # scores are inner products of vectors, so they can be indexed

    @property
    def required(self) -> Needs:
        """What these settings read of a dataset: ``needs``, and what an option adds to it."""
        return self.needs

    def for_epochs(self, epochs: int) -> Self:
        """The same settings with a fixed number of epochs, to refit on all data; only iterative models have any."""
        return self

    def fit(self, train: Dataset, validation: Holdout | None = None, run: Run | None = None) -> "Model":
        """Learn from ``train``.

        Args:
            validation: Where given, iterative models choose their best epoch by its NDCG@10 and stop early.
            run: Seed, device, threads, log; what changes how we fit, not what.

        Raises:
            MissingData: ``train`` lacks something that the model needs.
            DataError: ``train`` has no events.
        """
        train.require(self.required, type(self).__name__)
        if not len(train):
            raise DataError(f"{train.name} has no events to fit {type(self).__name__} on.")
        return self._fit(train, validation, run or Run())

    @abstractmethod
    def _fit(self, train: Dataset, validation: Holdout | None, run: Run) -> "Model": ...

    of_items: ClassVar[tuple[str, ...]] = ()
    """The arrays of a state that have a row for each item, for a model that knows items never met by what is said of
    them; what these rows hold then is 0."""

    @abstractmethod
    def restore(self, about: "About", state: Mapping[str, NDArray[Any]]) -> "Model":
        """The fitted model whose ``state()`` this is."""

    def memory_needed(self, counts: Mapping[str, int]) -> int:
        """Roughly how many bytes a fit takes at its peak, beyond the data, from counts of users, items and events."""
        return 16 * counts["events"]

    @classmethod
    def called(cls) -> str:
        """The name on the command line and the leaderboard: the class name in lower case."""
        return cls.__name__.lower()


@dataclass(frozen=True, eq=False)
class About:
    """What every fitted model knows of the data it was fitted on."""

    items: Vocab
    kinds: EventKinds
    popularity: NDArray[np.float32]  # (items,) summed weights of each item's events
    met: NDArray[np.bool_]  # (items,) whether training met the item at all
    catalog: Table  # what is known of the items: titles to show
    data: str = "events"  # the name of the data
    fingerprint: str = ""  # of the data that it was fitted on

    @classmethod
    def of(cls, train: Dataset) -> Self:
        popularity = np.bincount(train.item, weights=train.weights(), minlength=len(train.items))
        return cls(
            train.items,
            train.kinds,
            popularity.astype(np.float32),
            np.bincount(train.item, minlength=len(train.items)) > 0,
            Table(len(train.items)) if train.catalog is None else train.catalog.items,
            train.name,
            train.fingerprint,
        )

    def titles(self) -> list[str] | None:
        return Catalog(self.catalog, Table(0)).titles()


class Model(ABC):
    """A fitted model. It can always answer, for anybody."""

    def __init__(self, settings: Settings, about: About) -> None:
        self.settings = settings
        self.about = about
        self.histories: Histories | None = None
        self.training: dict[str, Any] = {}  # learning curve and best epoch, where there are epochs
        self.metrics: dict[str, Any] = {}  # measured quality, if known, kept in the bundle

    @property
    def items(self) -> Vocab:
        return self.about.items

    @property
    def name(self) -> str:
        return self.settings.called()

    @property
    def parameters(self) -> int:
        """How many numbers the model holds."""
        return int(sum(array.size for array in self.state().values()))

    @property
    def sources(self) -> tuple[str, ...]:
        """What may answer, as ``TopK.source`` counts it."""
        return self.name, FALLBACK

    @abstractmethod
    def state(self) -> dict[str, NDArray[Any]]:
        """The arrays that, with settings and ``about``, are the model."""

    @abstractmethod
    def _scores(self, queries: Queries) -> "torch.Tensor":
        """(queries, items) float32; -inf or NaN where the model has no answer. May be overwritten by the caller."""

    def answerable(self) -> NDArray[np.bool_]:
        """(items,) those of which the model knows something, so it reads and offers them; those met in training."""
        return self.about.met

    def similar_items(self, items: Sequence[Any], k: int = 10) -> TopK:
        """For each item the k most alike in the eyes of this model, itself left out.

        Raises:
            UnknownName: An item is not in the catalogue.
            ConfigError: The model knows no likeness between items.
        """
        raise ConfigError(f"{self.name} knows no likeness between items; itemknn, ease, als and all networks do.")

    def with_histories(self, data: Dataset, log: Log = warned) -> Self:
        """This model with the histories of all users in ``data``, so that users can be asked for by their ids.

        Items that are not in the model's catalogue are left out of the histories.

        Args:
            log: Gets how many events were left out, if any.

        Raises:
            UnknownName: An event is of a kind that the model was not fitted on.
        """
        queries = Queries.of_users(data)
        queries = replace(queries, kinds=self._own_kinds(queries.kinds, data.kinds.names))
        theirs = queries.history.values
        items = self.items.index(data.items.lists())[theirs] if len(theirs) else theirs
        known = items != PAD
        if not known.all():
            log(
                f"{data.name}: {(~known).sum():,} of {len(known):,} events are left out of the histories, because the "
                f"model's catalogue lacks their items, such as {data.items[int(theirs[~known][0])]!r}"
            )
        queries = replace(queries, history=queries.history.with_values(items)).where(known)
        model = copy.copy(self)
        model.histories = Histories(data.users, queries)
        return model

    def with_items(
        self, table: Any, events: Dataset | None = None, *, key: str | None = None, log: Log = warned
    ) -> Self:
        """This model with items that it has never met, known by what a table says of them; nothing is learned.

        Args:
            table: A path, a folder, a glob or a frame with a row per item; its columns are read as those of the
                catalogue that the model was fitted with. Items that the model knows already stay as they are.
            events: Newer events, in which the new items may stand, appended to the stored histories.
            key: The column of identifiers; by default guessed from its name.
            log: Gets what was read, and what was left out.

        Raises:
            ConfigError: The model knows items by their events alone.
            DataError: The table cannot be read, or not as the catalogue was.
        """
        from foretaste.answers import with_newer_events
        from foretaste.events.tables import read_new_items

        if not self.knows_new_items():
            raise ConfigError(
                f"This {self.name} knows items by their events alone. Items never met are known, where the model was "
                "fitted with an item table, to twotower and graphsage with item_features, sberttwotower, t5hybrid, "
                "enhancedbert4rec with item metadata, categorypopular and textsimilarity."
            )
        items, catalog = read_new_items(table, self.items, self.about.catalog, key=key, log=log)
        model = self._with_rows(items, catalog)
        silent_of = int((~model.answerable()[len(self.items) :]).sum())
        if silent_of:
            log(f"{silent_of:,} of {len(items) - len(self.items):,} new items have nothing that the model can read")
        return model if events is None else with_newer_events(model, events, log)  # type: ignore[return-value]

    def after_newer_events(self) -> Self:
        """This model after newer events came to its histories; by default they change nothing else."""
        return self

    def knows_new_items(self) -> bool:
        """Whether an item that training never met is known by what the catalogue says of it."""
        return False

    def _with_rows(self, items: Vocab, catalog: Table) -> Self:
        """This model with further items behind its own."""
        fresh = len(items) - len(self.items)
        about = replace(
            self.about,
            items=items,
            popularity=np.pad(self.about.popularity, (0, fresh)),
            met=np.pad(self.about.met, (0, fresh)),
            catalog=catalog,
        )
        grown = {*self.settings.of_items, *(f"{name}.scales" for name in self.settings.of_items)}
        state = {
            name: np.pad(array, [(0, fresh), *[(0, 0)] * (array.ndim - 1)]) if name in grown else array
            for name, array in self.state().items()
        }
        model = self.settings.restore(about, state)
        model.histories, model.training, model.metrics = self.histories, self.training, self.metrics
        if hasattr(self, "_run"):
            model._run = self._run  # type: ignore[attr-defined]  # it answers where this one does
        return model  # type: ignore[return-value]

    def ask(self, who: Queries | Sequence[Any]) -> Asked:
        """Queries from what people pass: queries, known users' ids, or histories as lists of item ids, oldest first."""
        if isinstance(who, Queries):
            return Asked(who, self._labels(who))
        if isinstance(who, (str, bytes)):
            raise ConfigError(f"Pass a list of users or of histories; this is the text {who!r}.")
        lists = [isinstance(each, (list, tuple, np.ndarray)) for each in who]
        if any(lists) and not all(lists):
            raise ConfigError(
                "Pass users or histories, not both in one list: histories are lists of items, users are ids."
            )
        if all(lists):
            queries, unknown = Queries.of_histories(self.items, who)
            strange = [item for row in unknown for item in row] + self.unread(queries)
            return Asked(queries, range(len(who)), unknown_items=strange)
        return self._ask_users(who)

    def recommend(
        self,
        queries: Queries | Sequence[Any],
        k: int = 10,
        *,
        filter_seen: bool = True,
        exclude_kinds: Sequence[str] = (),
        items: Sequence[Any] | None = None,
        exclude: Sequence[Any] | None = None,
    ) -> TopK:
        """The best k items for each query.

        Places that the model cannot fill, such as all of them for an empty history, are filled by popularity;
        ``source`` says which. Their scores lie below all of the model's.

        Args:
            queries: Queries, ids of known users, or histories as lists of item ids, oldest first.
            k: Length of the lists; more than there are items gives all there are.
            filter_seen: Do not offer what is in the history.
            exclude_kinds: With ``filter_seen``, hide only items met by events of these kinds.
            items: Offer only these. None: the whole catalogue.
            exclude: Never offer these.

        Raises:
            ConfigError: k is below 1, a kind is unknown, or users and histories are mixed.
            UnknownName: ``items`` or ``exclude`` names an item that is not in the catalogue.
        """
        if k < 1:
            raise ConfigError(f"k must be at least 1; it is {k}.")
        asked = self.ask(queries)
        offered = self._offered(items, exclude)
        hidden = self._hidden(asked.queries, filter_seen, exclude_kinds)
        found, scores, source = self._answered(asked.queries, min(k, len(self.items)), hidden, offered)
        return TopK(
            found,
            scores,
            source,
            self.sources,
            self.items,
            labels=asked.labels,
            unknown_users=tuple(asked.unknown_users),
            unknown_items=tuple(asked.unknown_items),
        )

    def settings_to_refit(self) -> Settings:
        """The settings with what validation chose in them, to fit again on more data with nothing held out."""
        return self.settings.for_epochs(int(self.training["best_epoch"])) if self.settings.iterative else self.settings

    def save(self, folder: Path | str) -> None:
        """Write the model as a bundle: JSON and safetensors, with checksums."""
        from foretaste.bundle import save

        save(self, Path(folder))

    def _answered(self, queries: Queries, k: int, hidden: Ragged | None, offered: NDArray[np.bool_] | None) -> Answer:
        """The best k items of each query, by the scores of all items.

        Args:
            hidden: (queries) items not to be offered to each. None: none.
            offered: (items,) those that may be offered at all. None: all.
        """
        scores_of = self._scorer(queries)
        answers = (
            self._best(scores_of(chunk), k, None if hidden is None else hidden.take(chunk), offered)
            for chunk in self._chunks(len(queries))
        )
        found, scores, source = map(np.concatenate, zip(_nothing(k), *answers, strict=True))
        return found, scores, source

    def _scorer(self, queries: Queries) -> "Callable[[slice], torch.Tensor]":
        """From a chunk of the queries to its scores; a model that can do some of the work once for all does it here."""
        return lambda chunk: self._scores(queries.take(chunk))

    def _best(self, scores: "torch.Tensor", k: int, hidden: Ragged | None, offered: NDArray[np.bool_] | None) -> Answer:
        """The answer to a chunk of queries from its scores, which are overwritten."""
        from foretaste.topk import best, mask_scores

        mask_scores(scores, hidden, offered)
        found, values = best(scores, k)
        source = np.where(found == PAD, PAD, 0).astype(np.int8)
        lacking = np.flatnonzero(found[:, -1] == PAD)
        if len(lacking):
            fill_by_popularity(self.about.popularity, lacking, found, values, source, hidden, offered)
        return found, values, source

    def _offered(self, items: Sequence[Any] | None, exclude: Sequence[Any] | None) -> NDArray[np.bool_] | None:
        if items is None and exclude is None:
            return None
        offered = np.full(len(self.items), items is None)
        if items is not None:
            offered[self._known(items)] = True
        if exclude is not None:
            offered[self._known(exclude)] = False
        return offered

    def _known(self, items: Sequence[Any]) -> NDArray[np.int32]:
        """Indices of items that must be in the catalogue."""
        index = self.items.index(items)
        if (index == PAD).any():
            raise UnknownName("item", items[int(np.argmax(index == PAD))], self.items.lists())
        return index

    def _hidden(self, queries: Queries, filter_seen: bool, exclude_kinds: Sequence[str]) -> Ragged | None:
        return hidden_of(queries, self.about.kinds, filter_seen, exclude_kinds)

    def _chunks(self, queries: int) -> Iterator[slice]:
        """Parts of the queries whose scores fit into CHUNK_BYTES; at the least one query at a time."""
        size = max(1, CHUNK_BYTES // (4 * max(1, len(self.items))))
        for start in range(0, queries, size):
            yield slice(start, min(start + size, queries))

    def _own_kinds(self, kinds: NDArray[np.int8] | None, names: Sequence[str]) -> NDArray[np.int8] | None:
        """Event kinds, numbered as in other data, as this model numbers them; None where it knows no kinds."""
        own = self.about.kinds.names
        if kinds is None or own == EventKinds().names:
            return None
        for kind in np.unique(kinds).tolist():
            if names[kind] not in own:
                raise UnknownName("event kind", names[kind], own)
        return np.array([own.index(name) if name in own else PAD for name in names], np.int8)[kinds]

    def _readable(self, queries: Queries) -> Queries:
        """The queries with only those items in their histories of which the model knows something."""
        known = self.answerable()[queries.history.values]
        return queries if known.all() else queries.where(known)

    def unread(self, queries: Queries) -> list[int | str]:
        """The items of the histories that are in the catalogue, but of which the model knows nothing."""
        items = queries.history.values
        return self.items.lookup(items[~self.answerable()[items]])

    def _labels(self, queries: Queries) -> Sequence[Any]:
        if queries.user is None or self.histories is None or len(queries.user) != len(queries):
            return range(len(queries))
        users = self.histories.users
        return [users[user] if 0 <= user < len(users) else None for user in queries.user.tolist()]

    def _ask_users(self, users: Sequence[Any]) -> Asked:
        if self.histories is None:
            raise ConfigError(
                "This model holds no histories, so users cannot be asked for by their ids. "
                "Pass histories, or attach them: model.with_histories(data)."
            )
        index = self.histories.users.index(users)
        queries = known_or_strangers(self.histories.queries, index)
        unknown = [user for user, at in zip(users, index, strict=True) if at == PAD]
        return Asked(queries, list(users), unknown_users=unknown)


def hidden_of(
    queries: Queries, kinds: EventKinds, filter_seen: bool, exclude_kinds: Sequence[str] = ()
) -> Ragged | None:
    """(queries) the items of each history that are not to be offered; None: none are hidden.

    Args:
        kinds: Those that ``queries.kinds`` counts in.
        exclude_kinds: Hide only what was met by events of these kinds.

    Raises:
        UnknownName: There is no such kind.
        ConfigError: The histories have no kinds.
    """
    if not filter_seen:
        return None
    if not exclude_kinds:
        return queries.history
    for kind in exclude_kinds:
        if kind not in kinds.names:
            raise UnknownName("event kind", kind, kinds.names)
    if queries.kinds is None:
        raise ConfigError("Items can be hidden by event kind only where histories have kinds; these have none.")
    hide = [kinds.names.index(kind) for kind in exclude_kinds]
    return queries.history.where(np.isin(queries.kinds, hide))


def _nothing(width: int) -> Answer:
    return np.empty((0, width), np.int32), np.empty((0, width), np.float32), np.empty((0, width), np.int8)
