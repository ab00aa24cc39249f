"""The plots, as what plotly.js reads. Colours stand in them as names of CSS variables; the page puts in the values."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from foretaste.evaluation.report.board import Board, Estimate, Row
from foretaste.evaluation.report.marks import colour
from foretaste.evaluation.report.traces import Spec, in_words, label_positions, layout, points, safe, top
from foretaste.evaluation.report.words import count, decimal, duration

__all__ = ["Figure", "Panel", "figures"]

SIDE_BY_SIDE = (
    "ndcg",
    "hit",
    "recall",
    "mrr",
    "map",
    "long_tail_recall",
)  # metrics that are worth a panel each, at the primary cut
MOST_PANELS = 4
TARGETS = ("head target", "tail target", "warm target", "cold target")  # the order of these slices
HISTORY = "history "  # how the names of slices by length of history begin
# Ticks of an axis of durations, in seconds.
TICKS = {0.001: "1 ms", 0.01: "10 ms", 0.1: "0.1 s", 1: "1 s", 10: "10 s", 60: "1 min", 600: "10 min", 3600: "1 h",
         36_000: "10 h", 360_000: "100 h"}  # fmt: skip
SHORTEST = 0.001  # a logarithm needs more than 0 seconds
AIR = 0.07  # share of an axis that is left free before its first mark
DOTS = 40  # with more epochs than this, a learning curve is a line without dots
TALL = 340  # CSS pixels of a panel with two numerical axes


@dataclass(frozen=True)
class Panel:
    """One pair of axes."""

    name: str  # its id on the page
    spec: Spec
    height: int  # CSS pixels
    label: str  # what it shows, for those who cannot see it


@dataclass(frozen=True)
class Figure:
    """One or more panels that are read together."""

    title: str
    caption: str
    panels: tuple[Panel, ...]
    legend: tuple[Row, ...] = ()  # the models in it, where they are not named beside their marks
    wide: bool = False


def figures(board: Board) -> list[Figure]:
    """All plots that the leaderboard has numbers for."""
    if not board.rows:
        return []
    drawn = (_by_metric(board), _by_coverage(board), _by_time(board), _by_history(board), _by_target(board),
             _policies(board), _learning(board))  # fmt: skip
    return [figure for figure in drawn if figure is not None]


def _by_metric(board: Board) -> Figure:
    panels = []
    for name in _worth_a_panel(board):
        shown = [row for row in board.rows if name in row.metrics]
        data = []
        for row in reversed(shown):  # the vertical axis points up
            of = row.metrics[name]
            data.append(
                points(row, [of.mean], [safe(row.name)], spread=[of], along="x", hover=[f"{name} {in_words(of)}"])
            )
        axes = layout(x=name, y=None)
        end = top([row.metrics[name] for row in shown])
        axes["xaxis"] |= {"range": [-end * AIR / 3, end], "nticks": 7}
        axes["yaxis"] |= {"type": "category", "showgrid": False, "ticksuffix": " "}
        told = "; ".join(f"{row.name} {in_words(row.metrics[name])}" for row in shown)
        panels.append(
            Panel(f"plot-metric-{name}", {"data": data, "layout": axes}, 84 + 32 * len(shown), f"{name}: {told}")
        )
    caption = "Further right is better; the line through a mark is the 95% interval of the mean over queries" + (
        ", and the hollow diamond is the oracle, the best possible." if board.oracle else "."
    )
    return Figure("Accuracy by metric", caption, tuple(panels), wide=len(panels) > 1)


def _worth_a_panel(board: Board) -> list[str]:
    """The primary metric and others at its cut; one that equals another in all models is left out."""
    chosen: dict[tuple[float | None, ...], str] = {}
    for name in (board.primary, *(f"{metric}@{board.cut}" for metric in SIDE_BY_SIDE)):
        values = tuple(row.metrics[name].mean if name in row.metrics else None for row in board.rows)
        if any(value is not None for value in values):
            chosen.setdefault(values, name)
    return list(chosen.values())[:MOST_PANELS]


def _by_coverage(board: Board) -> Figure | None:
    name = f"coverage@{board.cut}"
    rows = [row for row in board.rows if name in row.metrics]
    if not rows:
        return None
    shares = [row.metrics[name].mean for row in rows]
    end = min(1.02, top([row.metrics[name] for row in rows]))
    begin = -AIR * end  # room for the label of a model that shows nearly nothing
    across = [(each - begin) / (end - begin) for each in shares]
    spec, label = _against(board, rows, shares, across, lambda value: f"{value:.1%}", name)
    spec["layout"]["xaxis"] |= {"range": [begin, end], "tickformat": ".0%", "nticks": 7}
    caption = (
        "Further up is more accurate, further right shows more of the catalogue to somebody: the upper right corner "
        "is the place to be."
    )
    return Figure("Accuracy against coverage", caption, (Panel("plot-coverage", spec, TALL, label),))


def _by_time(board: Board) -> Figure | None:
    rows = [row for row in board.rows if row.fit_seconds is not None]
    if not rows:
        return None
    seconds = [max(row.fit_seconds or 0.0, SHORTEST) for row in rows]
    begin, end = _ends_in_ticks(seconds)
    spec, label = _against(
        board, rows, seconds, [(math.log10(each) - begin) / (end - begin) for each in seconds], duration, "time to fit"
    )
    ticks = {"tickvals": list(TICKS), "ticktext": list(TICKS.values())}
    spec["layout"]["xaxis"] |= {"type": "log", "range": [begin, end], **ticks}
    caption = (
        "Further up is more accurate, further left is faster to fit; equal steps along the horizontal axis multiply "
        "the time."
    )
    return Figure("Accuracy against training time", caption, (Panel("plot-time", spec, TALL, label),))


def _ends_in_ticks(seconds: Sequence[float]) -> tuple[float, float]:
    """Ends of a logarithmic axis (as powers of 10) that has a tick on both sides of all durations."""
    low, high = min(seconds), max(seconds)
    first = max((tick for tick in TICKS if tick <= low), default=low)
    last = min((tick for tick in TICKS if tick >= high and tick > first), default=10 * high)
    margin = AIR * math.log10(last / first)
    return math.log10(first) - 1.5 * margin, math.log10(last) + margin


def _by_history(board: Board) -> Figure | None:
    names = [name for name in board.slices if name.startswith(HISTORY)]
    caption = (
        "From left to right more is known of the users when asking; lines through marks are 95% intervals, which are "
        "wide where the number of queries n is small."
    )
    spec, label, rows = _by_slice(board, names, linked=True)
    spec["layout"]["xaxis"]["title"]["text"] = "events in the history"
    return Figure("By length of history", caption, (Panel("plot-history", spec, TALL, label),), rows) if names else None


def _by_target(board: Board) -> Figure | None:
    others = [name for name in board.slices if not name.startswith(HISTORY)]
    names = sorted(others, key=lambda name: TARGETS.index(name) if name in TARGETS else len(TARGETS))
    caption = (
        "Head targets are the most popular items that make up half of the training events, tail targets the others, "
        "cold ones were never met in training: a model that follows popularity alone falls to zero in the tail."
    )
    spec, label, rows = _by_slice(board, names, linked=False)
    title = "By popularity of the target"
    return Figure(title, caption, (Panel("plot-popularity", spec, TALL, label),), rows) if names else None


def _by_slice(board: Board, names: Sequence[str], *, linked: bool) -> tuple[Spec, str, tuple[Row, ...]]:
    """The primary metric in each slice, the models side by side within it; in words too; and which models these are."""
    rows = [row for row in board.rows if any(board.primary in row.slices.get(name, {}) for name in names)]
    data, told, shown = [], [], []
    for at, row in enumerate(rows):
        places = [place for place, name in enumerate(names) if board.primary in row.slices.get(name, {})]
        found = [row.slices[names[place]][board.primary] for place in places]
        shown += found
        beside = (at - (len(rows) - 1) / 2) * 0.66 / max(len(rows), 2)
        hover = [f"{safe(names[place])}: {in_words(each)}" for place, each in zip(places, found, strict=True)]
        across = [place + beside for place in places]
        means = [each.mean for each in found]
        data.append(points(row, across, means, spread=found, along="y", hover=hover, linked=linked))
        values = ", ".join(f"{names[place]} {decimal(each.mean)}" for place, each in zip(places, found, strict=True))
        told.append(f"{row.name}: {values}")
    axes = layout(x=None, y=board.primary)
    axes["yaxis"] |= {"range": [-top(shown) * AIR / 2, top(shown)]}  # marks at 0 stand clear of the names below
    axes["xaxis"] |= {
        "range": [-0.5, len(names) - 0.5],
        "showgrid": False,
        "tickvals": list(range(len(names))),
        "tickangle": 0,
        "tickfont": {"size": 11, "color": "--soft"},
        "ticktext": [_tick(board, name) for name in names],
    }
    # Hairlines between the slices, since the models of one stand side by side.
    axes["shapes"] = [
        {"type": "line", "x0": at + 0.5, "x1": at + 0.5, "y0": 0, "y1": 1, "yref": "paper", "layer": "below",
         "line": {"color": "--line", "width": 1}}
        for at in range(len(names) - 1)
    ]  # fmt: skip
    return {"data": data, "layout": axes}, f"{board.primary} by slice. {'; '.join(told)}", tuple(rows)


def _tick(board: Board, name: str) -> str:
    n = board.slices[name]
    called = safe(name.removeprefix(HISTORY)).replace(" ", "<br>")
    return called if n is None else f"{called}<br>n={count(n)}"


def _policies(board: Board) -> Figure | None:
    """Accuracy against what each policy is for, a line per aim from weak to strong."""
    told: Sequence[Mapping[str, Any]] = board.policies.get("points") or ()
    if len(told) < 2:
        return None
    cut = next(iter(told[0]["metrics"])).partition("@")[2]
    aims = {name: Row(name, place) for place, name in enumerate(dict.fromkeys(each["aim"] for each in told[1:]))}
    panels = []
    for metric, better in (("diversity", "more"), ("miscalibration", "less"), ("gini", "less")):
        panel = _against_aim(f"{metric}@{cut}", f"ndcg@{cut}", better, told, aims)
        if panel is not None:
            panels.append(panel)
    of = board.policies.get("calibrated_by")
    calibrated = f", miscalibration how far its mix of {of} is from that of the history" if of else ""
    caption = (
        f"The best {board.policies.get('candidates')} items of {board.policies.get('row')} for each of "
        f"{count(board.policies.get('queries'))} queries, chosen from by each aim, weak to strong; all lines begin "
        f"where nothing is aimed at. Diversity is how unlike the items of a list are{calibrated}, and gini how "
        "unequally places go to the items of the catalogue."
    )
    return Figure(
        "What list policies give and cost", caption, tuple(panels), tuple(aims.values()), wide=len(panels) > 1
    )


def _against_aim(
    x: str, y: str, better: str, tried: Sequence[Mapping[str, Any]], aims: Mapping[str, Row]
) -> Panel | None:
    told = [each for each in tried if all((each["metrics"].get(name) or {}).get("mean") is not None for name in (x, y))]
    if len(told) < 2 or told[0]["aim"] is not None:
        return None
    data, words = [], []
    for aim, row in aims.items():
        line = [told[0], *(each for each in told if each["aim"] == aim)]
        heights = [Estimate(**each["metrics"][y]) for each in line]
        across = [each["metrics"][x]["mean"] for each in line]
        hover = [
            f"strength {each['strength']:g}<br>{x} {decimal(at)}<br>{y} {in_words(of)}"
            for each, at, of in zip(line, across, heights, strict=True)
        ]
        data.append(points(row, across, [of.mean for of in heights], spread=[], along="y", hover=hover, linked=True))
        gained = f"from {decimal(across[0])} to {decimal(across[-1])}"
        words.append(f"{aim} {gained}, {y} {decimal(heights[0].mean)} to {decimal(heights[-1].mean)}")
    axes = layout(x=f"{x} ({better} is better)", y=y)
    axes["yaxis"] |= {"rangemode": "tozero", "nticks": 6}
    axes["xaxis"] |= {"nticks": 6}
    return Panel(f"plot-policy-{x}", {"data": data, "layout": axes}, TALL, f"{y} against {x}: {'; '.join(words)}")


def _learning(board: Board) -> Figure | None:
    panels = [panel for row in board.rows for panel in _curves(row)]
    if not panels:
        return None
    caption = (
        "Loss (what training makes smaller) should fall, validation (what the epoch is chosen by) should rise and "
        "then level off; the ring marks the best epoch, whose weights are kept."
    )
    return Figure("Learning curves", caption, tuple(panels), wide=len(panels) > 1)


def _curves(row: Row) -> Iterator[Panel]:
    """The loss of a model, and its validation where it was validated."""
    for key in ("loss", "validation"):
        steps = [each for each in row.curve if each.get(key) is not None]
        if not steps:
            continue
        epochs, values = [each["epoch"] for each in steps], [each[key] for each in steps]
        line = {
            "type": "scatter",
            "mode": "lines+markers" if len(steps) <= DOTS else "lines",
            "x": epochs,
            "y": values,
            "line": {"color": colour(row), "width": 2},
            "marker": {"color": colour(row), "size": 5},
            "customdata": [_about_epoch(each) for each in steps],
            "hovertemplate": f"epoch %{{x}}<br>{key} %{{y:.4f}}%{{customdata}}<extra></extra>",
            "cliponaxis": False,
        }
        axes = layout(x="epoch", y=f"{safe(row.name)}: {key}")
        axes["xaxis"] |= {"rangemode": "tozero", "nticks": 8}
        axes["yaxis"] |= {"nticks": 6}
        best = [_ringed(each, key) for each in steps if each["epoch"] == row.best_epoch]
        told = f"{row.name}: {key} from {decimal(values[0])} in epoch {epochs[0]:g} to {decimal(values[-1])} in epoch "
        told += f"{epochs[-1]:g}" + (f"; best epoch {row.best_epoch:g}" if best else "")
        yield Panel(f"plot-{key}-{row.name}", {"data": [line, *best], "layout": axes}, 280, told)


def _about_epoch(step: Mapping[str, Any]) -> str:
    took = f"<br>{duration(step['seconds'])}" if step.get("seconds") is not None else ""
    speed = step.get("events_per_second")
    return took + (f"<br>{count(speed)} events/s" if speed is not None else "")


def _ringed(step: Mapping[str, Any], key: str) -> Spec:
    return {
        "type": "scatter",
        "mode": "markers+text",
        "x": [step["epoch"]],
        "y": [step[key]],
        "marker": {"symbol": "circle-open", "size": 14, "color": "--ink", "line": {"width": 2, "color": "--ink"}},
        "text": [f"epoch {step['epoch']:g}"],
        "textposition": "top center" if key == "loss" else "bottom center",
        "textfont": {"color": "--ink", "size": 12},
        "cliponaxis": False,
        "hoverinfo": "skip",
    }


def _against(
    board: Board,
    rows: Sequence[Row],
    x: Sequence[float],
    across: Sequence[float],
    words: Callable[[float], str],
    what: str,
) -> tuple[Spec, str]:
    """The primary metric of each model against something else, each mark named; the plot, and what it shows in words.

    Args:
        x: Where each model stands.
        across: The same as shares of the axis, 0 to 1.
        words: From a value of x to words.
        what: What x is.
    """
    means = [row.metrics[board.primary] for row in rows]
    end = top(means)
    positions = label_positions([row.name for row in rows], across, means, end)
    data, told = [], []
    for row, place, mean, position in zip(rows, x, means, positions, strict=True):
        hover = f"{board.primary} {in_words(mean)}<br>{what} {words(place)}"
        named = {"mode": "markers+text", "text": [safe(row.name)], "textposition": position}
        trace = points(row, [place], [mean.mean], spread=[mean], along="y", hover=[hover])
        data.append(trace | named | {"textfont": {"color": "--ink", "size": 12}})
        told.append(f"{row.name} {decimal(mean.mean)} at {words(place)}")
    axes = layout(x=what, y=board.primary)
    axes["yaxis"] |= {"range": [0, end], "nticks": 8}
    return {"data": data, "layout": axes}, f"{board.primary} against {what}: {'; '.join(told)}"
