"""A page of results from those that are kept, so that no table is written by hand."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from foretaste.evaluation.checks import p_in_words
from foretaste.evaluation.intervals import Interval
from quality.results import RESULTS, Result, of_strangers, of_withheld_alone, read_results
from quality.rows import BEST, RETRIEVAL, SEQUENCES, Reach, Rows, names, read_rows
from quality.standings import Gain, Pair, Standing, gains, pairs, standings

SCRIPTS = {SEQUENCES: "sequence_quality.py", RETRIEVAL: "retrieval_quality.py"}


def page(study: str, head: str, further: Sequence[str] = ()) -> str:
    """The page of a study: what it is, a section per data set, and what else was measured."""
    rows = [read_rows(name, study) for name in names(study)]
    return "\n".join([head, *(section(each, read_results(each)) for each in rows), *further])


def section(rows: Rows, results: Mapping[str, Sequence[Result]]) -> str:
    ranked = standings(rows, results)
    absent = [row for row in rows.recipe.models if row not in results]
    lines = [f"## {rows.name}", "", f"{rows.title}.", ""]
    if ranked:
        lines += [*about(rows, ranked[0].results[0]), "", *table(rows, ranked), ""]
    found = [
        *reached(rows, ranked),
        *rating_floor(rows, ranked),
        *(compared(pair, ranked, rows.ranked_by) for pair in pairs(rows, ranked)),
        *changed(rows, ranked),
    ]
    unmeasured = [pair for pair in rows.pairs if not set(pair) <= set(results)]
    found += [f"`{one}` is to be compared with `{other}`: not measured yet." for one, other in unmeasured]
    if absent:
        found.append("Not measured yet: " + ", ".join(f"`{row}`" for row in absent) + ".")
    found += [f"Tried: {each}" for each in rows.tried]
    further = [*withheld_alone(rows, results), *claimed(gains(rows, ranked)), *strangers(rows, results)]
    return "\n".join([*lines, *(f"- {each}" for each in found), "", *further])


def claimed(found: Sequence[Gain]) -> list[str]:
    """What others claim of the models, beside what is measured here; nothing where nothing is claimed."""
    if not found:
        return []
    lines = ["| claimed | measured here | gain [95 %] | verdict |", "|---|---|---|---|"]
    for each in found:
        claim = each.claim
        share = f"{each.share:+.1%} [{each.low:+.1%}, {each.high:+.1%}]"
        asked = "" if claim.strangers is None else f", strangers after {claim.strangers}"
        what = f"`{claim.row}` over `{claim.over}`, {claim.metric}{asked}"
        lines.append(f"| {claim.words} | {what} | {share} | {each.verdict} |")
    return [*lines, ""]


def withheld_alone(rows: Rows, results: Mapping[str, Sequence[Result]]) -> list[str]:
    """The same queries with lists of withheld items alone, where that was asked."""
    ranked = standings(rows, of_withheld_alone(results))
    if not ranked:
        return []
    lines = ["The same models and queries, where only the withheld items are offered:", ""]
    lines += ["| model | " + " | ".join(rows.headline) + " |", "|" + "---|" * (1 + len(rows.headline))]
    for each in ranked:
        values = [with_interval(each.metrics[metric]) for metric in rows.headline]
        lines.append("| " + " | ".join([f"`{each.row}`", *values]) + " |")
    found = [compared(pair, ranked, rows.ranked_by) for pair in pairs(rows, ranked)]
    return [*lines, "", *(f"- {each}" for each in found), ""]


def strangers(rows: Rows, results: Mapping[str, Sequence[Result]]) -> list[str]:
    """What people whom nobody knows are answered after a few events, and whether that is above the baseline."""
    asked = {shown: of_strangers(results, shown) for shown in rows.strangers}
    asked = {shown: found for shown, found in asked.items() if found}
    if not asked:
        return []
    ranked = {shown: standings(rows, found) for shown, found in asked.items()}
    lines = [
        "The same targets, asked without a name after so many of the latest events (they were trained on with all "
        f"others before the target; only they are hidden): {rows.ranked_by}.",
        "",
        "| model | " + " | ".join(map(str, ranked)) + " |",
        "|" + "---|" * (1 + len(ranked)),
    ]
    for row in [each.row for each in next(iter(ranked.values()))]:
        values = [next(each for each in found if each.row == row).metrics[rows.ranked_by] for found in ranked.values()]
        lines.append(f"| `{row}` | " + " | ".join(map(with_interval, values)) + " |")
    lines.append("")
    for shown, found in ranked.items():
        lines.append(f"- After {shown}: {_over_baseline(rows, found)}")
    return [*lines, ""]


def _over_baseline(rows: Rows, ranked: Sequence[Standing]) -> str:
    others = [each.row for each in ranked if each.row != rows.baseline]
    if len(others) == len(ranked):
        return f"`{rows.baseline}`, above which all others are to be, was not asked."
    asked = rows.model_copy(update={"pairs": tuple((row, rows.baseline) for row in others)})
    found = [each for each in pairs(asked, ranked) if rows.baseline in (each.ahead, each.behind)]
    above = [each.ahead for each in found if each.behind == rows.baseline and each.p_holm < 0.05]
    rest = [row for row in others if row not in above]
    told = f"above `{rows.baseline}` (p < .05, Holm): " + (", ".join(f"`{row}`" for row in above) or "none")
    return told + (f"; not above it: {', '.join(f'`{row}`' for row in rest)}." if rest else ".")


def about(rows: Rows, result: Result) -> Iterator[str]:
    """The command, the data, and the protocol with its denominators."""
    dataset, protocol = result.content["dataset"], result.content["protocol"]
    counts = ", ".join(f"{count:,} {what.replace('_', ' ')}" for what, count in dataset["counts"].items())
    users = "" if result.sizes is None else f" of {len(result.sizes):,} users"
    yield f"`python benchmarks/{SCRIPTS[rows.study]} run ROW {rows.name} --seed N`"
    yield ""
    yield f"Data `{dataset['fingerprint']}`, split `{protocol['digest']}`: {counts}."
    yield " ".join([*protocol["sentences"], *protocol["leaks"]])
    yield f"{protocol['queries']:,} test queries{users}."
    if rows.draws:
        yield "That is of seed 0; each seed draws anew what is withheld, and rows are compared on the draws of both."


def table(rows: Rows, ranked: Sequence[Standing]) -> Iterator[str]:
    metrics = list(dict.fromkeys([*rows.headline, rows.ranked_by]))
    costs = ("validation", "best epoch", "fit min", "events/s", "peak MB", "parameters", "measured on", "code")
    errors = {each.row: mean_of([seed.content for seed in each.results], "rating_rmse") for each in ranked}
    rated = any(error is not None for error in errors.values())
    header = ["model", "seeds", *metrics, "sd", *(["rating rmse"] if rated else []), *costs]
    yield "| " + " | ".join(header) + " |"
    yield "|" + "---|" * len(header)
    for each in ranked:
        values = [with_interval(each.metrics[metric]) for metric in metrics]
        others = [number(each.spread, 4), *([number(errors[each.row], 4)] if rated else []), *costs_of(each)]
        yield "| " + " | ".join([f"`{each.row}`", str(len(each.results)), *values, *others]) + " |"


def costs_of(standing: Standing) -> list[str]:
    """Means over the seeds, and the machines."""
    training = [each.content["training"] for each in standing.results]
    machines = dict.fromkeys(machine_of(each.content) for each in standing.results)
    seconds = mean_of(training, "fit_seconds")
    return [
        number(mean_of(training, "best_score"), 4),
        number(mean_of(training, "best_epoch"), 0),
        number(None if seconds is None else seconds / 60, 1),
        number(mean_of(training, "events_per_second"), 0),
        number(mean_of(training, "peak_memory_mb"), 0),
        number(mean_of([each.content for each in standing.results], "parameters"), 0),
        "; ".join(machines),
        "; ".join(dict.fromkeys(code_of(each.content) for each in standing.results)),
    ]


def reached(rows: Rows, ranked: Sequence[Standing]) -> Iterator[str]:
    """Of each row that is to reach something, whether it does."""
    by_row = {each.row: each for each in ranked}
    for row, reach in rows.reach.items():
        standing = ranked[0] if row == BEST and ranked else by_row.get(row)
        who = "The best row" if row == BEST else f"`{row}`"
        wanted = " and ".join(f"{metric} {_goal(least)}" for metric, least in reach.at_least.items())
        printed = f" (in print: {reach.in_print})" if reach.in_print else ""
        yield f"{who} is to reach {wanted}{printed}: {verdict(standing, reach)}."


def rating_floor(rows: Rows, ranked: Sequence[Standing]) -> Iterator[str]:
    """How the ratings that rows guess compare with those of biased factorisation, where that was measured."""
    path = RESULTS / f"biased_mf-{rows.name}.json"
    rated = [each for each in ranked if mean_of([seed.content for seed in each.results], "rating_rmse") is not None]
    if not path.exists() or not rated:
        return
    content = json.loads(path.read_text(encoding="utf-8"))
    of_train, of_all = content["rmse"]["train"], content["rmse"]["all before the targets"]
    errors = {each.row: mean_of([seed.content for seed in each.results], "rating_rmse") or 0.0 for each in rated}
    told = ", ".join(f"`{row}` {error:.4f}" for row, error in errors.items())
    best = "reached" if min(errors.values()) < min(of_train, of_all) else "not reached"
    yield (
        f"The error of ratings is to be below that of biased matrix factorisation, {of_train:.4f} of the same train "
        f"and {of_all:.4f} if it also learns the validation events, which ours read as history: {told}, {best} "
        f"(`{content['command']}`)."
    )


def _goal(least: float) -> str:
    return f"{least:.3f}" if round(least, 3) == least else f"{least:.4f}"


def verdict(standing: Standing | None, reach: Reach) -> str:
    if standing is None:
        return "not measured yet"
    means = {metric: standing.metrics[metric].mean for metric in reach.at_least if metric in standing.metrics}
    if len(means) < len(reach.at_least):
        return "not among the metrics of the table"
    told = " and ".join(number(mean, 4) for mean in means.values())
    short = [
        f"{metric} is short by {_gap(least - (means[metric] or 0.0))}"
        for metric, least in reach.at_least.items()
        if (means[metric] or 0.0) < least
    ]
    return f"`{standing.row}` has {told}, " + (" and ".join(short) if short else "reached")


def _gap(lacking: float) -> str:
    return f"{lacking:.4f}" if lacking >= 0.00005 else "less than 0.0001"


def compared(pair: Pair, ranked: Sequence[Standing], metric: str) -> str:
    seeds = {each.row: len(each.results) for each in ranked}
    words = "is above" if pair.p_holm < 0.05 else "is not distinguishable from"
    return (
        f"`{pair.ahead}` {words} `{pair.behind}` on {metric}: {pair.difference:+.4f} "
        f"[{pair.low:+.4f}, {pair.high:+.4f}], {p_in_words(pair.p_holm)} "
        f"({seeds[pair.ahead]} and {seeds[pair.behind]} seeds)."
    )


def changed(rows: Rows, ranked: Sequence[Standing]) -> Iterator[str]:
    """Rows whose results are of other settings than stand in the rows today."""
    others = [each.row for each in ranked if each.results[0].study != rows.study]
    if others:
        place = f"[results-{rows.beside}.md](results-{rows.beside}.md)"
        yield f"{', '.join(f'`{row}`' for row in others)}: measured for {place}."
    for each in ranked:
        if each.row in others:
            continue
        if each.row not in rows.recipe.models:
            yield f"`{each.row}` is no longer among the rows; its settings are in its results."
        elif each.results[0].content["fingerprint"] != rows.fingerprint(each.row):
            yield f"`{each.row}` was measured with other settings than those in the rows; they are in its results."


def machine_of(content: Mapping[str, Any]) -> str:
    machine = content["machine"]
    where = machine["cpu"] if machine["device"] == "cpu" else machine["device"]
    precision = f", {content['precision']}" if content["training"].get("epochs") else ""
    return f"{where}, threads {machine['threads']}{precision}"


def code_of(content: Mapping[str, Any]) -> str:
    commit = content["versions"].get("commit")
    if commit is None:
        return "–"
    return f"`{commit[:7]}`" + (" +" if commit.endswith("-dirty") else "")


def mean_of(contents: Sequence[Mapping[str, Any]], key: str) -> float | None:
    values = [each[key] for each in contents if each.get(key) is not None]
    return float(np.mean(values)) if values else None


def with_interval(value: Interval) -> str:
    if value.mean is None:
        return "–"
    return f"{value.mean:.4f}" + ("" if value.low is None else f" [{value.low:.4f}, {value.high:.4f}]")


def number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:,.{digits}f}"
