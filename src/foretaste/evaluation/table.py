"""A leaderboard for eyes and spreadsheets: plain text, Markdown, HTML, comma-separated rows."""

import csv
import io
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from foretaste.evaluation.checks import ORACLE, Finding
from foretaste.evaluation.entry import Entry
from foretaste.evaluation.intervals import Interval

__all__ = ["FULL", "csv_text", "html", "markdown", "plain", "rows", "text", "what_is_ranked"]

FULL = "full catalogue"
BESIDE = ("hit", "recall", "mrr", "coverage", "novelty")  # shown at the cut of the primary metric


def rows(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """One flat row per model with the same columns in all; None where there is no number."""
    columns: dict[str, None] = {}
    filled = [_row(each) for each in entries]
    for row in filled:
        columns |= dict.fromkeys(row)
    # What is the same kind of thing stands together, although some rows lack some of it.
    order = sorted(columns, key=lambda name: name in ("fit_seconds", "recommend_seconds", "why_absent"))
    return [{name: plain(row.get(name)) for name in order} for row in filled]


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Comma-separated text with a header; an empty cell where there is no number."""
    out = io.StringIO()
    if rows:
        writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return out.getvalue()


def markdown(entries: Sequence[Entry], checks: Sequence[Finding], protocol: Mapping[str, Any]) -> str:
    """The compact table, its denominators and the findings, as Markdown."""
    header, body = _cells(entries, str(protocol["primary_metric"]))
    lines = ["| " + " | ".join(row).replace("\n", " ") + " |" for row in ([*header], *_escaped(body))]
    lines.insert(1, "|" + "|".join([" --- ", *[" ---: "] * (len(header) - 1)]) + "|")
    notes = [f"- {line}" for line in denominators(entries, protocol)]
    found = [f"- **{each.code}** ({each.severity}) {each.text}" for each in checks]
    return "\n".join([*lines, "", *notes, *(["", "Checks:", "", *found] if found else [])]) + "\n"


def text(entries: Sequence[Entry], checks: Sequence[Finding], protocol: Mapping[str, Any]) -> str:
    """The compact table in columns of equal width, its denominators and the findings."""
    header, body = _cells(entries, str(protocol["primary_metric"]))
    widths = [max(map(len, column)) for column in zip(header, *body, strict=True)]
    lines = []
    for row in (header, *body):
        cells = [
            cell.ljust(w) if at == 0 else cell.rjust(w) for at, (cell, w) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    lines.insert(1, "  ".join("─" * width for width in widths))
    found = [f"{each.code} {each.text}" + (" (tip)" if each.severity == "tip" else "") for each in checks]
    return "\n".join([*lines, "", *denominators(entries, protocol), *(["", *found] if found else [])])


def html(entries: Sequence[Entry], checks: Sequence[Finding], protocol: Mapping[str, Any]) -> str:
    """The compact table, its denominators and the findings, for a notebook."""
    header, body = _cells(entries, str(protocol["primary_metric"]))
    head = "".join(
        f"<th style='text-align:{'right' if at else 'left'}'>{escape(cell)}</th>" for at, cell in enumerate(header)
    )
    lines = [
        "<tr>"
        + "".join(
            f"<td style='text-align:{'right' if at else 'left'}'>{escape(cell)}</td>" for at, cell in enumerate(row)
        )
        + "</tr>"
        for row in body
    ]
    notes = "".join(f"<li>{escape(line)}</li>" for line in denominators(entries, protocol))
    found = "".join(f"<li><b>{each.code}</b> ({each.severity}) {escape(each.text)}</li>" for each in checks)
    return (
        f"<table style='font-variant-numeric:tabular-nums'><thead><tr>{head}</tr></thead>"
        f"<tbody>{''.join(lines)}</tbody></table><ul>{notes}</ul>" + (f"<ul>{found}</ul>" if found else "")
    )


def denominators(entries: Sequence[Entry], protocol: Mapping[str, Any]) -> list[str]:
    """What the numbers are over, in sentences: ranking, filter, sample, and both denominators."""
    return [
        sentence
        for sentence in (
            _about_ranking(protocol),
            _about_sample(protocol),
            _about_known(entries, protocol),
            _about_left_out(entries, protocol),
            _about_seeds(entries, str(protocol["primary_metric"])),
            *(f"{each.name} takes no part: {each.why_absent}" for each in entries if each.why_absent),
        )
        if sentence
    ]


def plain(value: Any) -> Any:
    """The value as JSON has it: NumPy's numbers as Python's, tuples as lists, None for what is not finite."""
    if isinstance(value, Mapping):
        return {str(name): plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [plain(each) for each in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _row(entry: Entry) -> dict[str, Any]:
    row: dict[str, Any] = {"model": entry.name}
    for before, metrics in (("", entry.metrics), ("known_", entry.metrics_known_targets)):
        for name, of in metrics.items():
            row[f"{before}{name}"] = of.mean
            if of.low is not None:
                row |= {f"{before}{name}_low": of.low, f"{before}{name}_high": of.high}
    row |= {f"{name}_sd_over_seeds": spread["sd"] for name, spread in entry.seed_spread.items()}
    beside = ("rating_rmse", "parameters", "peak_memory_mb", "fit_seconds", "recommend_seconds")
    row |= {name: getattr(entry, name) for name in beside}
    return row | {"why_absent": entry.why_absent}


def _cells(entries: Sequence[Entry], primary: str) -> tuple[list[str], list[list[str]]]:
    """The compact table: the primary metric with its interval, a few others at the same cut, and seconds."""
    cut = primary.split("@")[1]
    present = [each for each in entries if each.metrics]
    beside = [f"{name}@{cut}" for name in BESIDE if any(f"{name}@{cut}" in each.metrics for each in present)]
    # With one target per query, recall is hit.
    if all(np.array_equal(each.per_query[f"hit@{cut}"], each.per_query[f"recall@{cut}"]) for each in present):
        beside = [name for name in beside if not name.startswith("recall@")]
    oracle = next((each for each in present if each.name == ORACLE), None)
    known = any(each.known_per_query for each in present)
    seeds = any(each.seed_spread for each in present)
    rated = any(each.rating_rmse is not None for each in present)
    header = [
        "model",
        f"{primary} [95 % over queries]",
        *(["sd over seeds"] if seeds else []),
        *(["of oracle"] if oracle else []),
        *(["known targets only"] if known else []),
        *beside,
        *(["rating rmse"] if rated else []),
        "fit s",
        "answer s",
    ]
    body = []
    for entry in entries:
        if not entry.metrics:
            body.append([entry.name, "absent", *[""] * (len(header) - 2)])
            continue
        spread = entry.seed_spread.get(primary)
        body.append(
            [
                entry.name,
                _with_interval(entry.metrics[primary]),
                *([f"{spread['sd']:.4f} (n = {spread['n']:.0f})" if spread else ""] if seeds else []),
                *([_share(entry.metrics[primary], oracle.metrics[primary])] if oracle else []),
                *([_number(entry.metrics_known_targets[primary].mean)] if known else []),
                *(_number(entry.metrics[name].mean) if name in entry.metrics else "" for name in beside),
                *(["" if entry.rating_rmse is None else f"{entry.rating_rmse:.4f}"] if rated else []),
                _seconds(entry.fit_seconds),
                _seconds(entry.recommend_seconds),
            ]
        )
    return header, body


def _about_ranking(protocol: Mapping[str, Any]) -> str:
    seen = "seen items are hidden" if protocol.get("filter_seen") else "seen items may be offered again"
    kinds = protocol.get("exclude_kinds") or []
    if protocol.get("filter_seen") and kinds:
        seen = f"items met by {', '.join(kinds)} are hidden"
    return (
        f"{protocol['queries']:,} queries with {protocol['targets']:,} targets; {what_is_ranked(protocol)}, "
        f"ties count against the model, {seen}."
    )


def what_is_ranked(protocol: Mapping[str, Any]) -> str:
    """What lists were made of, as part of a sentence; ``ranking`` is missing from logs of early versions."""
    ranking = protocol.get("ranking", FULL)
    return f"the {FULL} is ranked" if ranking == FULL else f"only {ranking} are ranked"


def _about_sample(protocol: Mapping[str, Any]) -> str:
    without = protocol.get("queries_without_target") or 0
    left_out = f"{without:,} queries without a target are left out." if without else ""
    if not protocol.get("queries_sampled"):
        return left_out
    return f"A random sample of the {protocol['queries_given']:,} queries (seed {protocol['seed']}). {left_out}".strip()


def _about_known(entries: Sequence[Entry], protocol: Mapping[str, Any]) -> str:
    """Both denominators; nothing where they are the same."""
    outside = protocol.get("targets_outside_vocabulary") or 0
    never = protocol.get("targets_never_met_in_training") or 0
    if not outside + never:
        return ""
    metric = str(protocol["primary_metric"])
    values = ", ".join(
        f"{each.name} {_number(each.metrics_known_targets[metric].mean)}" for each in entries if each.metrics
    )
    if not protocol["queries_with_known_target"]:
        told = f"All {protocol['targets']:,} targets are unknown to training"
        if not never:
            return f"{told}: every query is a miss."
        return f"{told} ({outside:,} outside the vocabulary, {never:,} never met): only content finds any of them."
    return (
        f"{outside + never:,} targets are unknown to training ({outside:,} outside the vocabulary, "
        f"{never:,} never met). "
        f"Over all {protocol['queries']:,} queries they count as misses, unless content finds them; {metric} over the "
        f"{protocol['queries_with_known_target']:,} queries with a known target, those alone: {values}."
    )


def _about_left_out(entries: Sequence[Entry], protocol: Mapping[str, Any]) -> str:
    """The other denominator of a split that leaves queries out by its own rules; nothing where it leaves out none."""
    asked = protocol.get("denominators") or {}
    headline, whole = asked.get("headline") or 0, asked.get("with_unknown") or 0
    if whole <= headline:
        return ""
    metric = str(protocol["primary_metric"])
    values = ", ".join(
        f"{each.name} {_number((each.metrics[metric].mean or 0.0) * headline / whole)}"
        for each in entries
        if each.metrics
    )
    return (
        f"As the protocol has it, {whole - headline:,} queries whose target is unknown to training are left out; with "
        f"them as misses, over {whole:,} queries, {metric} is: {values}."
    )


def _about_seeds(entries: Sequence[Entry], metric: str) -> str:
    if not any(each.seed_spread for each in entries):
        return ""
    return (
        "The interval in brackets is over queries (95 %, bootstrap); beside it stands the standard deviation of "
        f"{metric} over seeds of the fit."
    )


def _escaped(body: Sequence[Sequence[str]]) -> list[list[str]]:
    return [[cell.replace("|", "\\|") for cell in row] for row in body]


def _with_interval(of: Interval) -> str:
    return "" if of.mean is None else f"{of.mean:.4f} [{of.low:.4f}, {of.high:.4f}]"


def _share(of: Interval, oracle: Interval) -> str:
    return f"{of.mean / oracle.mean:.0%}" if of.mean is not None and oracle.mean else ""


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.4f}" if abs(value) < 1 else f"{value:.2f}"


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}" if value < 10 else f"{value:,.0f}"
