"""docs/results-ranking.md: rankers of clicks, ours and others', on the same rows."""

import json
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from scipy.stats import ttest_1samp, ttest_ind

from quality.lists_page import best_epoch, lists_about, lists_compared, lists_table
from quality.page import code_of, number
from quality.ranking_rows import ROWS, RankerRows, read_rows
from quality.results import RESULTS

__all__ = ["content", "section"]

Found = Mapping[str, Sequence[Mapping[str, Any]]]  # row -> the results of its seeds

HEAD = """# Results of rankers

Made by `python benchmarks/ranking_quality.py table` from `benchmarks/results/ranking/DATA/ROW-seedN.json`, where
settings, learning curves and costs are. Every library reads the same codes of the same rows, learns from train, chooses
its best epoch by the AUC on validation, and is judged once on test. Means and standard deviations are over seeds,
which draw weights and batches; the rows stay the same. Differences between rows are tested by Welch's t-test over
seeds. FuxiCTR's models are put together of the layers in its wheel, in the settings of the BARS leaderboard, and
trained by its own trainer. Grouped AUC is within each person's rows, weighted by how many they are. Minutes and rows/s
in these tables were taken beside other work on the same cores, and are no measure of what a library costs; under Speed
both sides work in turns.
"""
SAME = 1e-12  # a spread over seeds that is rounding
SPEED = RESULTS / "ranking_speed.json"
COLUMNS = (
    *("ranker", "seeds", "AUC", "sd", "log loss", "grouped AUC", "calibration error", "validation", "best epoch"),
    *("fit min", "train rows/s", "parameters", "measured on", "code"),
)


def content() -> str:
    names = sorted(path.stem for path in (ROWS / "ranking").glob("*.yaml"))
    parts = [section(rows, _results(rows)) for rows in map(read_rows, names)]
    if SPEED.exists():
        parts.append(speed(json.loads(SPEED.read_text(encoding="utf-8"))))
    return "\n".join([HEAD, *parts])


def speed(content: Mapping[str, Any]) -> str:
    """What ranking_speed.py measured, case by case."""
    lines = ["## Speed", "", *(f"- {each}" for each in content["protocol"])]
    for name, case in content["cases"].items():
        machine = f"{case['machine']['cpu']}, threads {case['threads']}"
        versions = ", ".join(f"{library} {case['versions'][library]}" for library in ("torch", "numpy"))
        lines += [
            "",
            f"### {name}",
            "",
            f"`{case['command']}`, {case['date'][:10]}, {machine}; {versions}, {code_of(case)}.",
            "",
        ]
        lines += _SPEED[name](case)
    return "\n".join([*lines, ""])


def _beside(case: Mapping[str, Any]) -> Iterator[str]:
    yield "| rows/s (median; least, most) | foretaste | fuxictr | ratio (least, most) | to reach |"
    yield "|---|---|---|---|---|"
    for what, goal in case["reach"].items():
        cells = [f"{each['median']:,.0f} ({each['min']:,.0f}, {each['max']:,.0f})" for each in case[what].values()]
        ratio = case[f"{what}_ratio"]
        told = "–" if ratio is None else f"{ratio['median']:.2f} ({ratio['min']:.2f}, {ratio['max']:.2f})"
        verdict = "" if ratio is None else ", reached" if ratio["median"] >= goal else ", missed"
        yield f"| {what} | {' | '.join(cells + ['–'] * (2 - len(cells)))} | {told} | {goal:g}{verdict} |"
    if "floor" not in case:  # results from before it was counted
        return
    floor = case["floor"]
    yield ""
    for what in case["reach"]:
        most = floor["flops_per_second"] / floor[what]
        shares = ", ".join(f"{who} is at {each['median'] / most:.0%}" for who, each in case[what].items())
        rate = f"{floor['flops_per_second'] / 1e9:,.0f} Gflop/s ({floor['precision']})"
        yield (
            f"- Floor of {what}: {floor[what] / 1e6:.2f} Mflop per row at {rate} would be {most:,.0f} rows/s; "
            f"{shares} of it."
        )


def _candidates(case: Mapping[str, Any]) -> Iterator[str]:
    took, goal = case["milliseconds"], case["reach"]
    verdict = "reached" if took["median"] <= goal else "missed"
    yield (
        f"{case['candidates']} candidates take {took['median']:.1f} ms ({took['min']:.1f} to {took['max']:.1f} over "
        f"{case['queries']} queries); to reach: {goal:g} ms, {verdict}."
    )


def _features(case: Mapping[str, Any]) -> Iterator[str]:
    yield "| pairs | seconds (median; least, most) |"
    yield "|---|---|"
    for pairs, took in case["seconds"].items():
        yield f"| {int(pairs):,} | {took['median']:.2f} ({took['min']:.2f}, {took['max']:.2f}) |"
    goal, most = case["reach"], list(case["seconds"].values())[-1]["median"]
    yield ""
    yield (
        f"The most pairs take {most:.1f} s; to reach: {goal['seconds']:g} s, {_verdict(most, goal['seconds'])}. Per "
        f"pair they take {case['growth']:.2f} times as long as the fewest; to reach: {goal['growth']:g}, "
        f"{_verdict(case['growth'], goal['growth'])}."
    )


def _verdict(value: float, most: float) -> str:
    return "reached" if value <= most else "missed"


_SPEED: Mapping[str, Callable[[Mapping[str, Any]], Iterator[str]]] = {
    "frappe": _beside,
    "candidates": _candidates,
    "features": _features,
}


def _results(rows: RankerRows) -> Found:
    """The results of the settings as they stand, by row."""
    found: dict[str, list[Mapping[str, Any]]] = {row: [] for row in rows.models}
    for path in sorted((RESULTS / rows.study / rows.name).glob("*-seed*.json")):
        told = json.loads(path.read_text(encoding="utf-8"))
        if told["row"] in rows.models and told["fingerprint"] == rows.fingerprint(told["row"]):
            found[told["row"]].append(told)
    return {row: results for row, results in found.items() if results}


def section(rows: RankerRows, found: Found) -> str:
    """The tables of one data set."""
    lines = [f"## {rows.name}", "", f"{rows.title}.", "", f"`python benchmarks/ranking_quality.py run ROW {rows.name}`"]
    if found and rows.shop is not None:
        lines += ["", *lists_about(next(iter(found.values()))[0]), "", *lists_table(rows, found), ""]
        lines += lists_compared(rows, found)
    elif found:
        lines += ["", *_about(next(iter(found.values()))[0]), "", *_table(found), ""]
        lines += [*_compared(rows, found), *_reached(rows, found)]
    missing = [row for row in rows.models if row not in found]
    if missing:
        lines += ["", f"- Not measured yet: {', '.join(f'`{row}`' for row in missing)}."]
    lines += [f"- Tried: {each}" for each in rows.tried]
    return "\n".join([*lines, ""])


def _about(told: Mapping[str, Any]) -> Iterator[str]:
    data = told["dataset"]
    sizes = ", ".join(
        f"{name} {count:,} rows with {data['positives'][name]:,} positives" for name, count in data["rows"].items()
    )
    yield f"Rows `{data['fingerprint']}`: {sizes}; columns {', '.join(data['columns'])}."
    yield from data["words"]


def _table(found: Found) -> Iterator[str]:
    yield f"| {' | '.join(COLUMNS)} |"
    yield "|---" * len(COLUMNS) + "|"
    for row in sorted(found, key=lambda row: -_mean(found[row], "auc")):
        results = found[row]
        aucs = [each["metrics"]["auc"] for each in results]
        epochs = [best_epoch(each) for each in results]
        speeds = [
            each["dataset"]["rows"]["train"] / statistics.median(each["epoch_seconds"])
            for each in results
            if each.get("epoch_seconds")
        ]
        cells = [
            f"`{row}`",
            str(len(results)),
            f"{statistics.mean(aucs):.5f}",
            f"{statistics.stdev(aucs):.5f}" if len(aucs) > 1 else "–",
            f"{_mean(results, 'log_loss'):.4f}",
            f"{_mean(results, 'grouped_auc'):.4f}",
            f"{_mean(results, 'calibration_error'):.4f}",
            f"{statistics.mean(each['validation']['auc'] for each in results):.5f}",
            number(statistics.mean(epochs), 0),
            f"{statistics.mean(each['fit_seconds'] for each in results) / 60:.1f}",
            f"{statistics.median(speeds):,.0f}" if speeds else "–",
            f"{results[0]['parameters']:,}" if results[0].get("parameters") else "–",
            f"{results[0]['machine']['cpu']}, threads {results[0]['machine']['threads']}",
            _code(results),
        ]
        yield f"| {' | '.join(cells)} |"


def _code(results: Sequence[Mapping[str, Any]]) -> str:
    if results[0]["by"] == "foretaste":
        return "; ".join(sorted({code_of(each) for each in results}))
    return f"{results[0]['by']} {results[0]['versions'][results[0]['by']]}"


def _mean(results: Sequence[Mapping[str, Any]], metric: str) -> float:
    return statistics.mean(each["metrics"][metric] for each in results)


def _compared(rows: RankerRows, found: Found) -> Iterator[str]:
    for first, second in rows.pairs:
        if first not in found or second not in found:
            yield f"- `{first}` is to be compared with `{second}`: not measured yet."
            continue
        ours, theirs = ([each["metrics"]["auc"] for each in found[row]] for row in (first, second))
        gap = statistics.mean(ours) - statistics.mean(theirs)
        told = f"- `{first}` has {gap:+.5f} AUC over `{second}`"
        if min(len(ours), len(theirs)) < 2:
            yield f"{told} ({len(ours)} and {len(theirs)} seeds: too few to test)."
            continue
        of_seeds = f"({len(ours)} and {len(theirs)} seeds)"
        if (spread := statistics.stdev(theirs)) < SAME:  # a library that draws nothing in these settings
            p = float(ttest_1samp(ours, theirs[0]).pvalue)
            yield f"{told}, which is the same with every seed; p {_p(p)} {of_seeds}."
            continue
        p = float(ttest_ind(ours, theirs, equal_var=False).pvalue)
        yield f"{told}, which is {gap / spread:+.1f} of the latter's standard deviations; p {_p(p)} {of_seeds}."


def _reached(rows: RankerRows, found: Found) -> Iterator[str]:
    for row, least in rows.reach.items():
        if row in found:
            mean = _mean(found[row], "auc")
            verdict = "reached" if mean >= least else f"short by {least - mean:.5f}"
            yield f"- `{row}` is to reach an AUC of {least:.4f}: it has {mean:.5f}, {verdict}."


def _p(value: float) -> str:
    return "< .001" if value < 0.001 else f"= {value:.3f}".replace("0.", ".")
