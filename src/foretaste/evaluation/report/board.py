"""The content of leaderboard.json, read with care: whatever is optional may be missing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from foretaste.evaluation.checks import ORACLE

__all__ = ["Board", "Estimate", "Pair", "Row"]

NOTHING: Mapping[str, Any] = {}


@dataclass(frozen=True)
class Estimate:
    """A mean and its 95 % interval over n queries; the ends are None where the value is one of all lists together."""

    mean: float
    low: float | None = None
    high: float | None = None
    n: int | None = None


@dataclass(frozen=True)
class Row:
    """A model on the leaderboard."""

    name: str
    place: int | None = None  # what its colour and mark follow from; None: it has none
    metrics: Mapping[str, Estimate] = field(default_factory=dict)
    known: Mapping[str, Estimate] = field(default_factory=dict)  # over targets known to training
    slices: Mapping[str, Mapping[str, Estimate]] = field(default_factory=dict)
    spread: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  # metric -> sd, n seeds
    settings: Mapping[str, Any] = field(default_factory=dict)
    curve: Sequence[Mapping[str, Any]] = ()
    best_epoch: int | None = None
    fit_seconds: float | None = None
    recommend_seconds: float | None = None
    parameters: int | None = None
    peak_memory_mb: float | None = None
    rating_rmse: float | None = None  # of the ratings predicted for the targets
    why_absent: str | None = None

    @property
    def is_oracle(self) -> bool:
        """Whether it knows the truth of a simulated shop: no rival, but the upper end."""
        return self.name == ORACLE


@dataclass(frozen=True)
class Pair:
    """A comparison: is the difference a − b more than chance?"""

    a: str
    b: str
    metric: str
    difference: float
    low: float | None
    high: float | None
    p: float | None  # corrected for the number of pairs where that is known

    @property
    def told_apart(self) -> bool:
        return self.p is not None and self.p < 0.05

    def seen_from(self, name: str) -> "Pair":
        """The same with ``name`` as a."""
        if name == self.a:
            return self
        low = None if self.high is None else -self.high
        high = None if self.low is None else -self.low
        return Pair(self.b, self.a, self.metric, -self.difference, low, high, self.p)


@dataclass(frozen=True)
class Board:
    """A leaderboard to be shown."""

    primary: str  # the metric by which models are ranked, such as ndcg@10
    rivals: tuple[Row, ...]  # best first
    oracle: Row | None
    absent: tuple[Row, ...]
    pairs: tuple[Pair, ...]  # on the primary metric
    checks: Sequence[Mapping[str, Any]]
    dataset: Mapping[str, Any]
    protocol: Mapping[str, Any]
    leaks: Mapping[str, Any]
    versions: Mapping[str, Any]
    about: Mapping[str, Any]  # how it came about, versions apart: command, created, machine, seeds ...
    policies: Mapping[str, Any]  # what policies of lists cost and give one of the rows

    @classmethod
    def of(cls, leaderboard: Mapping[str, Any]) -> Self:
        """Read the content of leaderboard.json."""
        protocol = leaderboard.get("protocol") or NOTHING
        about = leaderboard.get("about") or NOTHING
        models = [each for each in leaderboard.get("models") or () if each.get("name") is not None]
        measured = sorted(str(each["name"]) for each in models if _estimates(each.get("metrics")))
        # In order of the names, so that a model keeps its colour from run to run, whichever is best.
        places = {name: place for place, name in enumerate(name for name in measured if name != ORACLE)}
        rows = [_row(each, places.get(str(each["name"]))) for each in models]
        primary = _primary(protocol, rows)
        present = [row for row in rows if primary in row.metrics]
        return cls(
            primary,
            tuple(sorted((row for row in present if not row.is_oracle), key=lambda row: -row.metrics[primary].mean)),
            next((row for row in present if row.is_oracle), None),
            tuple(row for row in rows if primary not in row.metrics),
            tuple(pair for pair in map(_pair, leaderboard.get("comparisons") or ()) if pair.metric == primary),
            leaderboard.get("checks") or (),
            leaderboard.get("dataset") or NOTHING,
            protocol,
            leaderboard.get("leak_report") or NOTHING,
            about.get("versions") or NOTHING,
            {name: value for name, value in about.items() if name != "versions" and value is not None},
            leaderboard.get("policies") or NOTHING,
        )

    @property
    def rows(self) -> tuple[Row, ...]:
        """The rivals, then the oracle."""
        return self.rivals if self.oracle is None else (*self.rivals, self.oracle)

    @property
    def cut(self) -> str:
        """The cut-off of the primary metric, such as '10'."""
        return self.primary.partition("@")[2]

    @property
    def metrics(self) -> list[str]:
        """The names of all metrics that any model has, in order of appearance."""
        return list(dict.fromkeys(name for row in self.rows for name in row.metrics))

    @property
    def slices(self) -> dict[str, int | None]:
        """The slices with the primary metric, and how many queries each holds."""
        found: dict[str, int | None] = {}
        for row in self.rows:
            for name, metrics in row.slices.items():
                if self.primary in metrics:
                    found.setdefault(name, metrics[self.primary].n)
        return found

    def pair(self, a: str, b: str) -> Pair | None:
        """The comparison of two models, seen from the first."""
        return next((pair.seen_from(a) for pair in self.pairs if {pair.a, pair.b} == {a, b}), None)

    def tied(self, a: Row, b: Row) -> bool:
        """Whether the test cannot tell two models apart; false where they were not compared."""
        pair = self.pair(a.name, b.name)
        return pair is not None and not pair.told_apart


def _primary(protocol: Mapping[str, Any], rows: Sequence[Row]) -> str:
    metrics = list(dict.fromkeys(name for row in rows for name in row.metrics))
    wanted = str(protocol.get("primary_metric") or "ndcg@10")
    return wanted if wanted in metrics or not metrics else next(
        (name for name in metrics if name.startswith("ndcg@")), metrics[0]
    )  # fmt: skip


def _row(model: Mapping[str, Any], place: int | None) -> Row:
    curve = [each for each in model.get("curve") or () if each.get("epoch") is not None]
    return Row(
        str(model["name"]),
        place,
        _estimates(model.get("metrics")),
        _estimates(model.get("metrics_known_targets")),
        {str(name): _slice(content) for name, content in (model.get("slices") or NOTHING).items()},
        {name: each for name, each in (model.get("seed_spread") or NOTHING).items() if each.get("sd") is not None},
        model.get("settings") or NOTHING,
        curve,
        model.get("best_epoch") or _best_epoch(curve),
        model.get("fit_seconds"),
        model.get("recommend_seconds"),
        model.get("parameters"),
        model.get("peak_memory_mb"),
        model.get("rating_rmse"),
        model.get("why_absent"),
    )


def _estimates(metrics: Mapping[str, Any] | None) -> dict[str, Estimate]:
    return {
        str(name): Estimate(each["mean"], each.get("low"), each.get("high"), each.get("n"))
        for name, each in (metrics or NOTHING).items()
        if isinstance(each, Mapping) and each.get("mean") is not None
    }


def _slice(content: Mapping[str, Any]) -> dict[str, Estimate]:
    """A slice is a mapping of metrics, which may stand beside the number of queries or be everything there is."""
    inner = content.get("metrics")
    return _estimates(inner if isinstance(inner, Mapping) else content)


def _best_epoch(curve: Sequence[Mapping[str, Any]]) -> int | None:
    judged = [each for each in curve if each.get("validation") is not None]
    return max(judged, key=lambda each: float(each["validation"]))["epoch"] if judged else None


def _pair(content: Mapping[str, Any]) -> Pair:
    p = content.get("p_holm")
    return Pair(
        str(content["a"]),
        str(content["b"]),
        str(content["metric"]),
        float(content["difference"]),
        content.get("low"),
        content.get("high"),
        content.get("p") if p is None else p,
    )
