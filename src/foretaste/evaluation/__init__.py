"""Evaluation that one can believe: full ranking, ties against the model, intervals, paired tests, checks in words."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from foretaste.evaluation.checks import CATALOGUE, Comparison, Finding
    from foretaste.evaluation.entry import Answers, Entry
    from foretaste.evaluation.intervals import Interval
    from foretaste.evaluation.leaderboard import Leaderboard, evaluate
    from foretaste.evaluation.trial import Trial

__all__ = [
    "CATALOGUE",
    "Answers",
    "Comparison",
    "Entry",
    "Finding",
    "Interval",
    "Leaderboard",
    "Trial",
    "evaluate",
]

_HOME = {
    "CATALOGUE": "checks",
    "Comparison": "checks",
    "Finding": "checks",
    "Answers": "entry",
    "Entry": "entry",
    "Interval": "intervals",
    "Leaderboard": "leaderboard",
    "evaluate": "leaderboard",
    "Trial": "trial",
}


def __getattr__(name: str) -> Any:
    # Found when asked for, so that models may use the metrics without loading all of the evaluation.
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
