"""Models compared on the same queries: means with intervals, paired tests, checks; as tables, JSON and files."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from foretaste.dataset import Dataset
from foretaste.errors import DataError
from foretaste.evaluation import table
from foretaste.evaluation.checks import ORACLE, Comparison, Finding, findings
from foretaste.evaluation.entry import Entry
from foretaste.evaluation.intervals import bootstrap, holm, paired_test
from foretaste.evaluation.trial import CHUNK, Trial
from foretaste.query import Holdout
from foretaste.run import Log, Run, silent
from foretaste.storage import staged_file, write_json

if TYPE_CHECKING:
    import polars as pl

    from foretaste.recommender import Recommender

__all__ = ["Entry", "Leaderboard", "compare", "evaluate"]


@dataclass(frozen=True, eq=False)
class Leaderboard:
    """Models, best first by the primary metric, with all that is needed to believe the numbers, or not to."""

    entries: tuple[Entry, ...]  # those that could not take part stand last
    comparisons: tuple[Comparison, ...]  # every pair on the primary metric, the oracle left out
    checks: tuple[Finding, ...]
    dataset: Mapping[str, Any]  # JSON: name, fingerprint, counts
    protocol: Mapping[str, Any]  # JSON: how was split and judged
    leak_report: Mapping[str, Any]  # JSON
    about: Mapping[str, Any] = field(default_factory=dict)  # JSON: what made it, such as command and versions
    policies: Mapping[str, Any] = field(default_factory=dict)  # JSON: what policies of lists cost and give the best row

    @classmethod
    def of(
        cls,
        entries: Sequence[Entry],
        trial: Trial,
        *,
        dataset: Mapping[str, Any] | None = None,
        protocol: Mapping[str, Any] | None = None,
        leak_report: Mapping[str, Any] | None = None,
        about: Mapping[str, Any] | None = None,
    ) -> "Leaderboard":
        """Sort, compare and check the entries of one trial.

        Args:
            entries: As of ``trial.entry`` and ``trial.over_seeds``, or with ``why_absent``.
            trial: How they were judged.
            dataset: Name, fingerprint and counts of the data.
            protocol: JSON about the split, to stand beside how was judged; of equal names that of the trial counts.
            leak_report: As of ``LeakReport.to_json``.
            about: Anything else to keep, such as command and versions.

        Raises:
            DataError: Two entries have the same name, or are about different queries.
        """
        protocol = {**(protocol or {}), **trial.protocol()}
        if "sentences" in protocol:
            protocol["sentences"] = [*protocol["sentences"], trial.about_seen()]
        metric = str(protocol["primary_metric"])
        names = [each.name for each in entries]
        if len(set(names)) != len(names):
            raise DataError(f"Each model needs a name of its own on a leaderboard; these are {names}.")
        ranked = sorted(entries, key=lambda each: _mean(each, metric), reverse=True)
        comparisons = compare([each for each in ranked if each.metrics], metric, seed=trial.seed)
        checks = findings(ranked, comparisons, protocol, leak_report or {})
        return cls(
            tuple(ranked), tuple(comparisons), tuple(checks), dataset or {}, protocol, leak_report or {}, about or {}
        )

    @property
    def primary(self) -> str:
        """The metric by which models are ranked and compared."""
        return str(self.protocol["primary_metric"])

    def __getitem__(self, name: str) -> Entry:
        """The entry of this name."""
        for entry in self.entries:
            if entry.name == name:
                return entry
        raise KeyError(name)

    def frame(self) -> "pl.DataFrame":
        """One row per model, best first: each metric with _low and _high, over known targets with known_, and costs."""
        import polars as pl

        return pl.DataFrame(table.rows(self.entries), infer_schema_length=None)

    def to_json(self) -> dict[str, Any]:
        """The content of leaderboard.json; numbers that are not finite become null."""
        content = {
            "dataset": self.dataset,
            "protocol": self.protocol,
            "leak_report": self.leak_report,
            "models": [each.to_json() for each in self.entries],
            "comparisons": [asdict(each) for each in self.comparisons],
            "checks": [asdict(each) for each in self.checks],
            **({"about": self.about} if self.about else {}),
            **({"policies": self.policies} if self.policies else {}),
        }
        plain: dict[str, Any] = table.plain(content)
        return plain

    def csv(self) -> str:
        """The rows of ``frame()`` as comma-separated text with a header."""
        return table.csv_text(table.rows(self.entries))

    def markdown(self) -> str:
        """The table, its denominators and the findings, as Markdown."""
        return table.markdown(self.entries, self.checks, self.protocol)

    def table(self) -> str:
        """The table, its denominators and the findings, for a terminal."""
        return table.text(self.entries, self.checks, self.protocol)

    def save(self, folder: Path | str) -> None:
        """Write leaderboard.json, leaderboard.csv and leaderboard.md."""
        folder = Path(folder)
        write_json(folder / "leaderboard.json", self.to_json())
        for ending, content in (("csv", self.csv()), ("md", self.markdown())):
            with staged_file(folder / f"leaderboard.{ending}") as aside:
                aside.write_text(content, encoding="utf-8")

    def __str__(self) -> str:
        return self.table()

    def _repr_html_(self) -> str:
        return table.html(self.entries, self.checks, self.protocol)


def evaluate(
    models: Mapping[str, "Recommender"],
    holdout: Holdout,
    *,
    train: Dataset | None = None,
    k: int | Sequence[int] = (5, 10, 20),
    filter_seen: bool | None = None,
    exclude_kinds: Sequence[str] | None = None,
    max_queries: int | None = None,
    seed: int = 0,
    log: Log = silent,
    chunk: int = CHUNK,
    dataset: Mapping[str, Any] | None = None,
    protocol: Mapping[str, Any] | None = None,
    leak_report: Mapping[str, Any] | None = None,
) -> Leaderboard:
    """Judge models on a holdout by ranking the full catalogue.

    For models that do not fit into memory together, make a ``Trial`` and pass its entries to ``Leaderboard.of``.

    Args:
        models: By the names to show. One called 'oracle' knows the truth: it is shown, and is no rival to the others.
        holdout: Queries and their targets.
        train: What the models learnt from. Gives popularity, novelty, diversity, long-tail recall and the metrics
            over targets known to training; without it these are absent.
        k: Cut-offs. Models are asked for one item more than the largest, so that ties at the cut are seen.
        filter_seen: Hide what is in the history. None: as the protocol of the holdout has it.
        exclude_kinds: With the filter on, hide only what was met by events of these kinds. None: as the holdout says.
        max_queries: Judge by a random sample of this many queries, the same for all models.
        seed: Of the sample, the intervals and the tests.
        log: Told of each model when it is done.
        chunk: Queries asked at a time; bounds the memory that lists take.
        dataset: JSON about the data; by default name, fingerprint and counts of ``train``.
        protocol: JSON about the split, to stand beside how was judged.
        leak_report: As of ``LeakReport.to_json``.

    Raises:
        ConfigError: A number is out of its range.
        DataError: No query has a target, or a model does not fit the holdout.
    """
    trial = Trial.of(
        holdout,
        train=train,
        k=k,
        filter_seen=filter_seen,
        exclude_kinds=exclude_kinds,
        max_queries=max_queries,
        seed=seed,
        chunk=chunk,
    )
    if dataset is None and train is not None:
        dataset = {"name": train.name, "fingerprint": train.fingerprint, "counts": train.counts()}
    return Leaderboard.of(
        [trial.entry(name, model, log) for name, model in models.items()],
        trial,
        dataset=dataset,
        protocol=protocol,
        leak_report=leak_report,
    )


def compare(entries: Sequence[Entry], metric: str, *, seed: int = 0) -> list[Comparison]:
    """Every pair of entries on one metric, in their order; the oracle, which is no rival, is left out.

    Raises:
        DataError: Entries are about different queries.
    """
    entries = [each for each in entries if each.name != ORACLE]
    sizes = {each.name: len(each.per_query[metric]) for each in entries}
    if len(set(sizes.values())) > 1:
        raise DataError(f"Models can be compared only on the same queries; they have {sizes} of them.")
    pairs = list(combinations(entries, 2))
    if not pairs:
        return []
    differences = np.stack([a.per_query[metric] - b.per_query[metric] for a, b in pairs], axis=1)
    low, high = bootstrap(differences, seed=Run(seed).seed_of("evaluation", "differences"))
    p = paired_test(differences, seed=Run(seed).seed_of("evaluation", "flips"))
    numbers = np.stack([differences.mean(0), low, high, p, holm(p)], axis=1).tolist()
    return [
        Comparison(a.name, b.name, metric, difference, start, end, one, adjusted, len(differences))
        for (a, b), (difference, start, end, one, adjusted) in zip(pairs, numbers, strict=True)
    ]


def _mean(entry: Entry, metric: str) -> float:
    """What an entry is ranked by; below all others where it has no numbers."""
    mean = entry.metrics[metric].mean if entry.metrics else None
    return -np.inf if mean is None else mean
