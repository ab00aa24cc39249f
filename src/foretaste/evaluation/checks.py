"""What to doubt about a leaderboard, said in words: coded findings with their numbers.

A finding of severity "issue" says that a number cannot be taken at its face, or that a model does not earn its place;
a "tip" says what to keep in mind while reading. ``CATALOGUE`` lists all codes.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from foretaste.evaluation.entry import Answers, Entry
from foretaste.evaluation.intervals import Interval, paired_test

__all__ = ["BASELINES", "CATALOGUE", "ORACLE", "Comparison", "Finding", "findings", "p_in_words"]

BASELINES = ("popular", "recentpopular", "itemknn")  # stand in every table
ALIKE_BY_DESIGN = ("popular", "recentpopular")  # one list for everybody is what they are for
ORACLE = "oracle"  # knows the truth of a simulated shop; no rival, but the upper end
SIGNIFICANT = 0.05

CATALOGUE: Mapping[str, str] = {
    "R001": "A model does not beat a baseline: the difference is not above 0 with a Holm-corrected p below .05.",
    "R002": "Coverage collapse: all lists together hold less than a tenth as many different items as people chose.",
    "R003": "All lists are nearly the same: two queries' lists share more than nine tenths of their items.",
    "R004": "The split leaks: what is to be predicted, or what came after it, stands in the training data.",
    "R005": "Validation is far above test: by a quarter, and above the interval of the test.",
    "R006": "Lists are short, or filled by the fallback instead of the model, in more than a hundredth of all cases.",
    "R007": "Scores are constant, tied at the cut in more than a twentieth of the lists, or not a number.",
    "R008": "Few queries: less than 200, or an interval wider than half of the best mean.",
    "R009": "The oracle is beaten: a model knows more than there is to know, so something leaks.",
    "R010": "The seen filter hides more than a hundredth of the targets: they are misses for every model.",
}

FEW_QUERIES = 200
MANY_HIDDEN = 0.1  # of the targets: then the protocol asks for what it forbids
LEAST_SHARE = 0.01  # below that, short lists, fallback and hidden targets move no third digit
TIED_SHARE = 0.05
ALIKE = 0.9
COLLAPSE = 0.1
FAR_ABOVE = 1.25
WIDE = 0.25  # half the width of an interval, as a share of its mean


@dataclass(frozen=True)
class Comparison:
    """Two models on the same queries: is the difference more than chance?"""

    a: str
    b: str
    metric: str
    difference: float  # mean of a minus mean of b
    low: float  # ends of the 95 % interval of the difference
    high: float
    p: float  # two-sided, of this pair alone
    p_holm: float  # corrected for the number of pairs in the leaderboard
    n: int  # queries

    def better(self, name: str) -> bool:
        """Whether ``name``, which is a or b, is better by more than chance."""
        ahead = self.difference if name == self.a else -self.difference
        return ahead > 0 and self.p_holm < SIGNIFICANT


@dataclass(frozen=True)
class Finding:
    """Something to doubt."""

    code: str
    severity: Literal["issue", "tip"]
    text: str
    model: str | None = None  # None: it is about all of them


def findings(
    entries: Sequence[Entry],
    comparisons: Sequence[Comparison],
    protocol: Mapping[str, Any],
    leak_report: Mapping[str, Any],
) -> list[Finding]:
    """All findings, issues first, by code.

    Args:
        entries: Those without numbers are passed over.
        comparisons: Of pairs on the primary metric.
        protocol: As of ``Trial.protocol``; what it lacks is not checked.
        leak_report: As of ``LeakReport.to_json``; what it lacks is not checked.
    """
    present = [each for each in entries if each.metrics]
    metric = str(protocol.get("primary_metric", "ndcg@10"))
    found = [*_leaks(leak_report), *_hidden(protocol), *_few(present, metric), *_oracle(present, metric)]
    found += _baselines(present, comparisons, metric)
    for entry in present:
        found += _validation(entry)
        if entry.answers is not None:
            found += _collapse(entry.name, entry.answers, metric, protocol)
            found += _incomplete(entry.name, entry.answers)
            found += _ties(entry.name, entry.answers, metric)
    return sorted(found, key=lambda each: (each.severity == "tip", each.code))


def p_in_words(p: float) -> str:
    """'p < .001', 'p = .004' or 'p = .31'."""
    if p < 0.001:
        return "p < .001"
    return f"p = {p:.3f}".replace("0.", ".") if p < 0.01 else f"p = {p:.2f}".replace("0.", ".")


def _baselines(entries: Sequence[Entry], comparisons: Sequence[Comparison], metric: str) -> Iterator[Finding]:
    pair_of = {frozenset((each.a, each.b)): each for each in comparisons}
    means = {each.name: each.metrics[metric].mean for each in entries}
    for name in means:
        for baseline in BASELINES:
            pair = pair_of.get(frozenset((name, baseline)))
            if name in BASELINES or pair is None or pair.better(name):
                continue
            verb = "is beaten by" if pair.better(baseline) else "does not beat"
            yield Finding(
                "R001",
                "issue",
                f"{name} {verb} {baseline} on {metric} "
                f"({means[name]:.4f} against {means[baseline]:.4f}, {p_in_words(pair.p_holm)})",
                name,
            )


def _collapse(name: str, answers: Answers, metric: str, protocol: Mapping[str, Any]) -> Iterator[Finding]:
    if name in ALIKE_BY_DESIGN:
        return
    k = metric.split("@")[1]
    if answers.overlap > ALIKE:
        yield Finding(
            "R003",
            "issue",
            f"{name} gives nearly the same list to everybody: two lists of {k} "
            f"share {answers.overlap:.0%} of their items",
            name,
        )
        return
    chosen = int(protocol.get("target_items", 0))
    attainable = min(chosen, int(protocol.get("queries", 0)) * int(k))
    if answers.shown < COLLAPSE * attainable:
        yield Finding(
            "R002",
            "issue",
            f"{name} offers only {answers.shown:,.0f} different items in all its lists of {k}; "
            f"people chose {chosen:,} different ones",
            name,
        )


def _leaks(report: Mapping[str, Any]) -> Iterator[Finding]:
    def count(key: str) -> int:
        return int(report.get(key) or 0)

    if count("own_events_later"):
        text = f"training holds {count('own_events_later'):,} events of test users later than their own target"
        yield Finding("R004", "issue", text)
    if count("duplicates"):
        text = f"{count('duplicates'):,} test targets stand in training with the same user, item and time"
        yield Finding("R004", "issue", text)
    if count("queries_others_later"):
        text = (
            f"for {count('queries_others_later'):,} of {count('test_queries'):,} queries training holds events of "
            "other people from after the target; a split by time has no such hindsight"
        )
        yield Finding("R004", "tip", text)


def _validation(entry: Entry) -> Iterator[Finding]:
    for metric, value in entry.validation.items():
        test = entry.metrics.get(metric)
        if test is None or test.mean is None or test.high is None:
            continue
        if value > FAR_ABOVE * test.mean and value > test.high:
            text = (
                f"{entry.name} has {metric} {value:.4f} on validation, but {test.mean:.4f} on test: "
                "the test is another task, or the choice fits the validation part"
            )
            yield Finding("R005", "issue", text, entry.name)


def _incomplete(name: str, answers: Answers) -> Iterator[Finding]:
    if answers.short > LEAST_SHARE:
        text = f"{name} leaves {answers.short:.1%} of its lists shorter than asked for"
        yield Finding("R006", "issue", text, name)
    if answers.fallback > LEAST_SHARE:
        text = f"{name} has no answer for {answers.fallback:.1%} of the places in its lists; popularity filled them"
        yield Finding("R006", "tip", text, name)


def _ties(name: str, answers: Answers, metric: str) -> Iterator[Finding]:
    k = metric.split("@")[1]
    if answers.not_a_number:
        text = f"{name} has scores that are not a number in {answers.not_a_number:.1%} of its lists; these are misses"
        yield Finding("R007", "issue", text, name)
    if answers.constant > TIED_SHARE:
        text = f"{name} gives all items of a list one and the same score in {answers.constant:.1%} of its lists"
        yield Finding("R007", "issue", text, name)
    elif answers.tied > TIED_SHARE:
        text = (
            f"{name} scores places {k} and {int(k) + 1} alike in {answers.tied:.1%} of its lists; "
            "ties are counted against it"
        )
        yield Finding("R007", "tip", text, name)


def _few(entries: Sequence[Entry], metric: str) -> Iterator[Finding]:
    rivals = [each for each in entries if each.name != ORACLE]
    if not rivals:
        return
    best = max(rivals, key=lambda each: each.metrics[metric].mean or 0.0)
    of: Interval = best.metrics[metric]
    if of.mean is None or of.low is None or of.high is None:
        return
    half = (of.high - of.low) / 2
    if of.n < FEW_QUERIES or half > WIDE * of.mean:
        text = (
            f"{of.n:,} queries tell little: {metric} of {best.name}, the best, is {of.mean:.4f} "
            f"with an interval of {of.low:.4f} to {of.high:.4f}"
        )
        yield Finding("R008", "tip", text)


def _oracle(entries: Sequence[Entry], metric: str) -> Iterator[Finding]:
    oracle = next((each for each in entries if each.name == ORACLE), None)
    if oracle is None:
        return
    for entry in entries:
        ahead = entry.per_query[metric] - oracle.per_query[metric]
        if entry is oracle or np.mean(ahead) <= 0:
            continue
        p = float(paired_test(ahead[:, None])[0])
        if p < SIGNIFICANT:
            text = (
                f"{entry.name} beats the oracle on {metric} ({entry.metrics[metric].mean:.4f} against "
                f"{oracle.metrics[metric].mean:.4f}, {p_in_words(p)}): something leaks"
            )
            yield Finding("R009", "issue", text, entry.name)


def _hidden(protocol: Mapping[str, Any]) -> Iterator[Finding]:
    hidden, targets = protocol.get("targets_hidden_by_seen_filter") or 0, protocol.get("targets") or 0
    if hidden > LEAST_SHARE * targets:
        text = (
            f"the seen filter hides {hidden:,} of {targets:,} targets, which stand in the history already: "
            "they are misses for every model"
        )
        yield Finding("R010", "issue" if hidden > MANY_HIDDEN * targets else "tip", text)
