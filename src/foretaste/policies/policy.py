"""A policy: an aim and rules, carried out place by place over the candidates of a list."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from scipy.sparse import csr_matrix

from foretaste.catalog import Table
from foretaste.errors import UnknownName
from foretaste.evaluation.lists import ItemVectors
from foretaste.policies.aims import Aim, Calibrated, Pursuit, by_relevance
from foretaste.policies.rules import AtMost, MustInclude, Never, OnlyFrom, Rule
from foretaste.policies.shelf import Shelf, names_of_items, relevance_of
from foretaste.query import TopK
from foretaste.ragged import PAD, Ragged
from foretaste.run import Log, silent
from foretaste.vocab import Vocab

__all__ = ["FittedPolicy", "Policy"]

CHUNK_NUMBERS = 1 << 23  # of vectors of candidates, at a time


class Policy(BaseModel):
    """The settings of a policy; ``fitted`` makes one of a catalogue."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    aim: Aim | None = None
    """What the list is chosen for beside relevance. None: for relevance alone."""
    rules: tuple[Rule, ...] = ()

    def fitted(self, items: Vocab, catalog: Table, vectors: ItemVectors) -> "FittedPolicy":
        """The policy for a catalogue.

        Args:
            vectors: By which items are alike.

        Raises:
            UnknownName: A rule or the aim names an item or a column that is not there.
            ConfigError: A column that is counted holds no categories.
        """
        allowed = np.ones(len(items), bool)
        quotas: list[tuple[AtMost, csr_matrix]] = []
        wanted: list[int] = []
        for rule in self.rules:
            match rule:
                case AtMost():
                    quotas.append((rule, names_of_items(catalog, rule.column)))
                case Never():
                    allowed[_known(items, rule.items)] = False
                case OnlyFrom():
                    within = np.zeros(len(items), bool)
                    within[_known(items, rule.items)] = True
                    allowed &= within
                case MustInclude():
                    wanted += _known(items, rule.items).tolist()
        if isinstance(self.aim, Calibrated):
            names_of_items(catalog, self.aim.column)  # so that a column that is not there is said now
        return FittedPolicy(
            self, items, catalog, vectors, allowed, quotas, np.array(list(dict.fromkeys(wanted)), np.int32)
        )


@dataclass(frozen=True, eq=False)
class FittedPolicy:
    """A policy that can choose."""

    settings: Policy
    items: Vocab
    catalog: Table
    vectors: ItemVectors
    allowed: NDArray[np.bool_]  # (items,) by the rules that look at one item
    quotas: Sequence[tuple[AtMost, csr_matrix]]  # and (items, names) what each counts
    wanted: NDArray[np.int32]  # items that stand in every list

    def choose(
        self,
        candidates: TopK,
        history: Ragged,
        k: int,
        log: Log = silent,
        *,
        offered: NDArray[np.bool_] | None = None,
    ) -> TopK:
        """The lists, best first.

        What the scores were stands in the column ``relevance``; the scores themselves are places, counted from the
        end, so that they fall. Where rules leave too few candidates, quotas give way and then lists stay short; the
        log says which, and how often.

        Args:
            candidates: Best first, more than k of each query.
            history: (queries) what each has met; it is not offered by a rule either.
            offered: (items,) those that may be offered at all. None: all.
        """
        if not candidates.items.shape[1]:
            candidates = _with_a_place(candidates)
        said = _Said(log, len(candidates))
        chosen = np.full((len(candidates), k), PAD, np.int64)  # places among the candidates
        pool, scores = self._with_wanted(candidates, history, offered)
        size = max(1, CHUNK_NUMBERS // self._width(pool.shape[1]))
        for start in range(0, len(pool), size):
            rows = slice(start, min(start + size, len(pool)))
            shelf = Shelf(pool[rows], relevance_of(pool[rows], scores[rows]), history.take(rows))
            chosen[rows] = self._chosen(shelf, k, said)
        said.finish()
        return _lists(candidates, pool, scores, chosen)

    def _with_wanted(
        self, candidates: TopK, history: Ragged, offered: NDArray[np.bool_] | None
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """The candidates, and behind them what must be in every list and is not among them."""
        if not len(self.wanted):
            return candidates.items, candidates.scores
        there = (candidates.items[:, :, None] == self.wanted).any(1)
        met = np.zeros_like(there)
        row = history.row_of_value()
        for place, item in enumerate(self.wanted.tolist()):
            met[row[history.values == item], place] = True
        if offered is not None:
            met |= ~offered[self.wanted]
        more = np.where(there | met, PAD, self.wanted).astype(np.int32)
        lowest = np.where(np.isfinite(candidates.scores), candidates.scores, np.inf).min(1, initial=np.inf)
        lowest = np.where(np.isfinite(lowest), lowest, 0.0)
        scores = np.where(more == PAD, -np.inf, lowest[:, None]).astype(np.float32)
        return np.concatenate([candidates.items, more], 1), np.concatenate([candidates.scores, scores], 1)

    def _chosen(self, shelf: Shelf, k: int, said: "_Said") -> NDArray[np.int64]:
        """(queries, k) places among the candidates, in the order of the list; PAD where nothing is left."""
        pursuit = self._pursuit(shelf)
        free = (shelf.items != PAD) & self.allowed[shelf.items]
        must = free & np.isin(shelf.items, self.wanted)
        quotas = [_Quota(rule.count, names, shelf.items, must) for rule, names in self.quotas]
        chosen = np.full((len(shelf), k), PAD, np.int64)
        row = np.arange(len(shelf))
        for place in range(k):
            left = k - place
            # The last places are for what must be there, once no others are left for it.
            now = np.where((must.sum(1) >= left)[:, None], must, free)
            fits = now & np.all([np.ones(now.shape, bool), *(quota.fits() for quota in quotas)], axis=0)
            stuck = ~fits.any(1) & now.any(1)
            if stuck.any():
                said.gave_way(self.quotas, int(stuck.sum()))
                fits[stuck] = now[stuck]
            any_left = fits.any(1)
            best = np.where(fits, pursuit.gains(), -np.inf).argmax(1)
            chosen[any_left, place] = best[any_left]
            pursuit.take(best)
            free[row, best] = must[row, best] = False
            for quota in quotas:
                quota.take(best, any_left)
        said.short(int((chosen == PAD).any(1).sum()))
        said.missed(int(must.any(1).sum()))
        return chosen

    def _pursuit(self, shelf: Shelf) -> Pursuit:
        aim = self.settings.aim
        return by_relevance(shelf) if aim is None else aim.pursued(shelf, self.catalog, self.vectors)

    def _width(self, candidates: int) -> int:
        """How many numbers are held for a query."""
        aim, names = self.settings.aim, sum(names.shape[1] for _, names in self.quotas)
        own = 1 if aim is None else self.vectors.values.shape[1]
        if isinstance(aim, Calibrated):
            own = names_of_items(self.catalog, aim.column).shape[1]
        return max(1, candidates * own + names)


class _Quota:
    """How much of each name stands in the lists so far, of at most so much; what must come counts from the beginning.

    Args:
        must: (queries, candidates) those that must come.
    """

    def __init__(self, count: int, names: csr_matrix, items: NDArray[np.int32], must: NDArray[np.bool_]) -> None:
        self._count, self._shape, self._must = count, items.shape, must.ravel()
        known = np.flatnonzero(items.ravel() != PAD)
        owned = names[items.ravel()[known]]
        self._candidate = np.repeat(known, np.diff(owned.indptr))  # which candidate, of all queries, has which name
        self._name = owned.indices
        self._used = np.zeros((len(items), names.shape[1]), np.int32)
        self._add(self._must)

    def fits(self) -> NDArray[np.bool_]:
        """(queries, candidates) those of which no name is full."""
        own = self._must[self._candidate]  # is counted itself
        full = self._used[self._candidate // self._shape[1], self._name] >= self._count + own
        blocked = np.zeros(self._shape, bool)
        blocked.ravel()[self._candidate[full]] = True
        return ~blocked

    def take(self, candidate: NDArray[np.int64], there: NDArray[np.bool_]) -> None:
        """Count a candidate (queries,) of each query for which there is one."""
        taken = np.zeros(self._shape, bool)
        taken[np.flatnonzero(there), candidate[there]] = True
        self._add(taken.ravel() & ~self._must)

    def _add(self, candidates: NDArray[np.bool_]) -> None:
        mine = candidates[self._candidate]
        np.add.at(self._used, (self._candidate[mine] // self._shape[1], self._name[mine]), 1)


@dataclass
class _Said:
    """What the rules could not do, told once for all lists."""

    log: Log
    lists: int
    found: Counter[str] = field(default_factory=Counter)

    def gave_way(self, quotas: Sequence[tuple[AtMost, csr_matrix]], count: int) -> None:
        rules = " and ".join(str(rule) for rule, _ in quotas)
        self.found[f"{rules}: nothing else was left, so {{count:,}} places were filled beyond it"] += count

    def short(self, count: int) -> None:
        self.found["{count:,} of {lists:,} lists are short: the rules leave too few candidates"] += count

    def missed(self, count: int) -> None:
        self.found["{count:,} of {lists:,} lists have no room for all that they must include"] += count

    def finish(self) -> None:
        for sentence, count in self.found.items():
            if count:
                self.log(f"policy: {sentence.format(count=count, lists=self.lists)}")


def _lists(candidates: TopK, pool: NDArray[np.int32], scores: NDArray[np.float32], chosen: NDArray[np.int64]) -> TopK:
    """The chosen candidates as an answer."""
    there, row = chosen != PAD, np.arange(len(chosen))[:, None]
    items = np.where(there, pool[row, chosen], PAD).astype(np.int32)
    own = there & (chosen < candidates.items.shape[1])
    at = np.where(own, chosen, 0)
    sources = candidates.sources if own[there].all() else (*candidates.sources, "policy")
    source = np.where(own, candidates.source[row, at], len(sources) - 1)
    places = np.arange(chosen.shape[1], 0, -1, dtype=np.float32)
    columns = {
        name: np.where(own, values[row, at], np.nan if values.dtype.kind == "f" else 0)
        for name, values in candidates.columns.items()
    }
    relevance = np.where(there, scores[row, np.where(there, chosen, 0)], np.nan)
    return TopK(
        items,
        np.where(there, places, -np.inf).astype(np.float32),
        np.where(there, source, PAD).astype(np.int8),
        sources,
        candidates.vocab,
        labels=candidates.labels,
        columns={**columns, "relevance": relevance},
        unknown_users=candidates.unknown_users,
        unknown_items=candidates.unknown_items,
    )


def _with_a_place(candidates: TopK) -> TopK:
    """Candidates of which there are none, with an empty place, so that it can be asked for."""
    nothing = np.full((len(candidates), 1), PAD)
    return replace(
        candidates,
        items=nothing.astype(np.int32),
        scores=np.full((len(candidates), 1), -np.inf, np.float32),
        source=nothing.astype(np.int8),
        columns={},
    )


def _known(items: Vocab, named: Sequence[int | str]) -> NDArray[np.int32]:
    index = items.index(list(named))
    if (index == PAD).any():
        raise UnknownName("item", named[int(np.argmax(index == PAD))], items.lists())
    return index
