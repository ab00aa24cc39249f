"""Which differences between models are more than chance."""

from foretaste.evaluation.checks import p_in_words
from foretaste.evaluation.report.board import Board, Pair, Row
from foretaste.evaluation.report.marks import chip
from foretaste.evaluation.report.markup import Markup, column, data_table, more, tag
from foretaste.evaluation.report.words import listed, signed

__all__ = ["comparisons"]


def comparisons(board: Board) -> list[Markup]:
    """Which differences are more than chance: in words, as a table of all against all, and pair by pair."""
    if not board.pairs:
        return [tag("p", {}, "There are no two models to compare.")]
    apart = sum(pair.told_apart for pair in board.pairs)
    words = [
        f"{apart} of {len(board.pairs)} pairs of models differ in {board.primary} by more than chance "
        "(paired test on the same queries, Holm-corrected p below .05)."
    ]
    words += [_against_the_rest(board, board.rivals[0])] if board.rivals else []
    caption = (
        "Read along a row: how much the model at its left is ahead (+, blue) or behind (−, orange) of the one at the "
        "top, with the Holm-corrected p; cells without colour cannot be told from chance."
    )
    pairs = tag("ul", {"class": "notes"}, [tag("li", {}, _in_words(pair)) for pair in board.pairs])
    return [
        *(tag("p", {}, sentence) for sentence in words if sentence),
        _matrix(board),
        tag("p", {"class": "caption"}, caption),
        more("Pair by pair, with the interval of each difference", pairs),
    ]


def _against_the_rest(board: Board, best: Row) -> str:
    """How the best model stands to the others."""
    pairs = [pair for row in board.rivals[1:] if (pair := board.pair(best.name, row.name)) is not None]
    tied = [f"{pair.b} ({_p(pair)})" for pair in pairs if not pair.told_apart]
    ahead = sorted(
        (pair for pair in pairs if pair.told_apart and pair.difference > 0), key=lambda pair: pair.difference
    )
    sentences = [f"{best.name} cannot be told apart from {listed(tied)}."] if tied else []
    if len(ahead) > 1:
        whom = "every other model" if len(ahead) == len(board.rivals) - 1 else f"{len(ahead)} others"
        sentences.append(f"{best.name} is ahead of {whom}; the closest of them is {ahead[0].b}: {_in_words(ahead[0])}")
    elif ahead:
        sentences.append(f"{best.name} is ahead of {ahead[0].b}: {_in_words(ahead[0])}")
    return " ".join(sentences)


def _in_words(pair: Pair) -> str:
    between = (
        "" if pair.low is None or pair.high is None else f", 95% interval {signed(pair.low)} to {signed(pair.high)}"
    )
    verdict = "" if pair.told_apart else "; not more than chance"
    return f"{pair.a} minus {pair.b} is {signed(pair.difference)}{between}, {_p(pair)}{verdict}."


def _p(pair: Pair) -> str:
    return "p not known" if pair.p is None else p_in_words(pair.p)


def _matrix(board: Board) -> Markup:
    """All against all: differences with their p, coloured where they are more than chance."""
    largest = max((abs(pair.difference) for pair in board.pairs), default=0.0) or 1.0
    head = [column("", ""), *(column(chip(row)) for row in board.rivals)]
    rows = []
    for row in board.rivals:
        cells = []
        for other in board.rivals:
            pair = board.pair(row.name, other.name)
            if pair is None:
                cells.append(tag("td", {"class": "number empty"}, "" if other is row else "–"))
                continue
            kind = ("ahead" if pair.difference > 0 else "behind") if pair.told_apart else "even"
            style = f"--strength:{15 + 45 * abs(pair.difference) / largest:.0f}%"
            cells.append(
                tag(
                    "td",
                    {"class": f"number {kind}", "style": style},
                    signed(pair.difference),
                    tag("small", {}, _p(pair)),
                )
            )
        rows.append(tag("tr", {}, tag("th", {"scope": "row"}, chip(row)), cells))
    return data_table("Differences between models", head, (rows,), "matrix")
