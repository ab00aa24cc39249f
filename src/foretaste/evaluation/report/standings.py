"""The leaderboard as a table, what its numbers are over, all metrics, costs and slices."""

from collections.abc import Mapping, Sequence

from foretaste.evaluation.report.board import Board, Estimate, Row
from foretaste.evaluation.report.marks import chip, colour
from foretaste.evaluation.report.markup import Markup, column, data_table, joined, more, tag
from foretaste.evaluation.report.words import MEANINGS, count, decimal, duration
from foretaste.evaluation.table import what_is_ranked

__all__ = ["leaderboard", "slices"]

RATED = "Rating RMSE"
BESIDE = ("hit", "recall", "mrr", "coverage", "novelty")  # shown beside the primary metric, at its cut


def leaderboard(board: Board) -> list[Markup]:
    """The table with intervals, what its numbers are over, and all metrics."""
    columns = _columns(board)
    best = {
        name: max((row.metrics[name].mean for row in board.rivals if name in row.metrics), default=None)
        for name in columns
    }
    head = [column("Model", ""), column(f"{board.primary}, 95% interval", "")]
    head += [column(title) for title in _titles(board)]
    head += [column(name) for name in columns]
    head += [column(RATED)] if _rates(board) else []
    rivals = [_table_row(board, row, columns, best) for row in board.rivals]
    oracle = [_table_row(board, board.oracle, columns, {})] if board.oracle else []
    absent = [
        tag("tr", {"class": "absent"}, tag("th", {"scope": "row"}, tag("bdi", {}, row.name)),
            tag("td", {"colspan": len(head) - 1}, f"Absent: {row.why_absent or f'{board.primary} was not measured'}"))
        for row in board.absent
    ]  # fmt: skip
    notes = [tag("li", {}, sentence) for sentence in _denominators(board)]
    return [
        data_table("Leaderboard", head, (rivals, oracle, absent), "board"),
        tag("ul", {"class": "notes"}, notes) if notes else joined(),
        *(
            [more("All metrics, with intervals, and what they mean", _all_metrics(board)), *_costs(board)]
            if board.rows
            else []
        ),
    ]


def slices(board: Board) -> Markup:
    """The primary metric of each model in each slice of the queries."""
    head = [column("Model", "")]
    for name, n in board.slices.items():
        head.append(column([name, tag("small", {}, "" if n is None else f"n = {count(n)}")]))
    rows = []
    for row in board.rows:
        cells = [_number(row.slices.get(name, {}).get(board.primary)) for name in board.slices]
        rows.append(tag("tr", {}, tag("th", {"scope": "row"}, chip(row)), cells))
    return more(f"{board.primary} by slice, in numbers", data_table(f"{board.primary} by slice", head, (rows,)))


def _columns(board: Board) -> list[str]:
    """The metrics beside the primary one; recall is left out where it is the same as hit."""
    names = [f"{name}@{board.cut}" for name in BESIDE]
    shown = [name for name in names if name in board.metrics and name != board.primary]
    hit, recall = f"hit@{board.cut}", f"recall@{board.cut}"
    same = all(row.metrics.get(hit) == row.metrics.get(recall) for row in board.rows)
    return [name for name in shown if name != recall or hit not in shown or not same]


def _titles(board: Board) -> list[str]:
    """Columns that not every leaderboard needs."""
    return [
        *(["Of best possible"] if board.oracle else []),
        *(["Known targets only"] if _knows_known(board) else []),
    ]


def _has_spread(board: Board) -> bool:
    return any(board.primary in row.spread for row in board.rows)


def _knows_known(board: Board) -> bool:
    """Whether there are targets unknown to training, so that the second denominator tells something."""
    return any(row.known.get(board.primary) not in (None, row.metrics[board.primary]) for row in board.rows)


def _rates(board: Board) -> bool:
    """Whether anybody predicts ratings."""
    return any(row.rating_rmse is not None for row in board.rows)


def _table_row(board: Board, row: Row, columns: Sequence[str], best: Mapping[str, float | None]) -> Markup:
    of, first = row.metrics[board.primary], board.rivals[0] if board.rivals else row
    label = None
    if row.is_oracle:
        label = tag("span", {"class": "badge quiet"}, "best possible")
    elif row is first and len(board.rivals) > 1:
        label = tag("span", {"class": "badge good"}, "best")
    elif row is not first and board.tied(first, row):
        label = tag("span", {"class": "badge quiet"}, "tied with the best")
    extra = []
    if board.oracle:
        top = board.oracle.metrics[board.primary].mean
        extra.append(f"{of.mean / top:.0%}" if top > 0 else "–")
    if _knows_known(board):
        extra.append(decimal(row.known[board.primary].mean) if board.primary in row.known else "–")
    marked = [
        _number(row.metrics.get(name), best=name in row.metrics and row.metrics[name].mean == best.get(name))
        for name in columns
    ]
    return tag(
        "tr",
        {"class": "oracle" if row.is_oracle else "first" if row is first else None},
        tag("th", {"scope": "row"}, chip(row), label),
        tag("td", {"class": "headline"}, tag("div", {}, _bar(board, row), _headline(board, row))),
        [tag("td", {"class": "number"}, each) for each in extra],
        marked,
        tag("td", {"class": "number"}, "–" if row.rating_rmse is None else f"{row.rating_rmse:.4f}")
        if _rates(board)
        else None,
    )


def _bar(board: Board, row: Row) -> Markup:
    """The mean and its interval drawn to the scale of the whole column."""
    of = row.metrics[board.primary]
    whole = max((each.metrics[board.primary].high or each.metrics[board.primary].mean) for each in board.rows) or 1.0

    def place(value: float) -> str:
        return f"{100 * value / whole:.2f}%"

    low, high = (of.mean if end is None else end for end in (of.low, of.high))
    style = f"--mean:{place(of.mean)};--low:{place(low)};--wide:{place(high - low)};color:var({colour(row)})"
    return tag("span", {"class": "bar", "style": style, "aria-hidden": "true"}, tag("i"), tag("b"))


def _headline(board: Board, row: Row) -> Markup:
    """The mean, below it its interval and, where there are several seeds, the spread over them."""
    of, spread = row.metrics[board.primary], row.spread.get(board.primary)
    seeds = None if spread is None else f"± {spread['sd']:.4f} over {count(spread.get('n'))} seeds"
    return tag("div", {}, tag("strong", {}, decimal(of.mean)), _ends(of), tag("small", {}, seeds) if seeds else None)


def _ends(of: Estimate) -> Markup:
    if of.low is None or of.high is None:
        return joined()
    return tag("small", {}, f"{decimal(of.low)} to {decimal(of.high)}")


def _number(of: Estimate | None, *, best: bool = False) -> Markup:
    value = decimal(None if of is None else of.mean)
    return tag("td", {"class": "number"}, tag("strong", {}, value) if best else value)


def _denominators(board: Board) -> list[str]:
    """What the numbers are over, in sentences."""
    protocol, found = board.protocol, []
    n = next((row.metrics[board.primary].n for row in board.rows), None)
    if n is not None:
        targets = protocol.get("targets")
        full = f"; {what_is_ranked(protocol)}, ties count against the model" if "ranking" in protocol else ""
        found.append(f"Means are over {count(n)} queries{f' with {targets:,} targets' if targets else ''}{full}.")
    if protocol.get("queries_sampled"):
        found.append(f"The queries are a random sample of {count(protocol.get('queries_given'))}.")
    if protocol.get("queries_without_target"):
        found.append(f"{count(protocol['queries_without_target'])} queries without a target are left out.")
    if _knows_known(board):
        known = next((row.known[board.primary].n for row in board.rows if board.primary in row.known), None)
        found.append(
            "Targets unknown to training count as misses, unless content finds them; the column “known targets only” "
            "leaves them out" + (f" ({count(known)} queries)." if known is not None else ".")
        )
    if "filter_seen" in protocol:
        hidden = "hidden from the lists" if protocol["filter_seen"] else "offered again"
        found.append(f"Items that the history already holds are {hidden}.")
    if _rates(board):
        found.append(f"{RATED} is the error of the ratings predicted for the targets: the lower, the better.")
    if any(row.metrics[board.primary].low is not None for row in board.rows):
        found.append(
            "Intervals are over queries: how much the mean would move with other users asked, not other seeds."
        )
    if any(board.tied(board.rivals[0], row) for row in board.rivals[1:]):
        found.append(
            "Tied with the best: the paired test does not tell the two apart (Holm-corrected p of .05 or more)."
        )
    if _has_spread(board):
        found.append("What stands after ± is the standard deviation of the mean over seeds of the fit.")
    return found


def _all_metrics(board: Board) -> Markup:
    head = [column("Metric", ""), *(column(chip(row)) for row in board.rows)]
    bodies: dict[str, list[Markup]] = {}
    for name in board.metrics:
        cells = []
        for row in board.rows:
            of = row.metrics.get(name)
            cells.append(
                tag("td", {"class": "number"}, decimal(None if of is None else of.mean), _ends(of) if of else None)
            )
        bodies.setdefault(name.partition("@")[0], []).append(tag("tr", {}, tag("th", {"scope": "row"}, name), cells))
    meanings = [
        tag("div", {}, tag("dt", {}, name), tag("dd", {}, MEANINGS[name])) for name in bodies if name in MEANINGS
    ]
    table = data_table("All metrics", head, list(bodies.values()), "dense")
    return joined(table, tag("dl", {"class": "facts"}, meanings) if meanings else None)


def _costs(board: Board) -> list[Markup]:
    titles = ("Time to fit", "Time to answer", "Parameters", "Peak memory")
    rows = []
    for row in board.rows:
        memory = "–" if row.peak_memory_mb is None else f"{row.peak_memory_mb:,.0f} MB"
        cells = (duration(row.fit_seconds), duration(row.recommend_seconds), count(row.parameters), memory)
        rows.append(
            tag(
                "tr",
                {},
                tag("th", {"scope": "row"}, chip(row)),
                [tag("td", {"class": "number"}, each) for each in cells],
            )
        )
    table = data_table("What each model costs", [column("Model", ""), *map(column, titles)], (rows,), "costs")
    return [tag("h3", {}, "What each model costs"), table]
