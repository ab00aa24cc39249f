"""Every error raised on purpose; each text says what is wrong, where, the value, and what to do."""

import difflib
from collections.abc import Iterable

__all__ = [
    "BundleError",
    "ConfigError",
    "DataError",
    "ForetasteError",
    "MissingData",
    "TooLarge",
    "TrainingDiverged",
    "UnknownName",
    "nearest",
]


class ForetasteError(Exception):
    """The call or the data is at fault, never this library. The command line ends with code 2."""


class DataError(ForetasteError):
    """A log, a table or an array cannot be used as it is."""


class MissingData(DataError):
    """A model or a view needs something that the data does not have."""


class ConfigError(ForetasteError):
    """A setting, an option or a recipe is wrong."""


class BundleError(ForetasteError):
    """A bundle or a saved data set is torn, edited, or of a newer format."""


class TooLarge(ForetasteError):
    """The work would not fit into the memory that was granted."""


class TrainingDiverged(ForetasteError):
    """A loss became infinite or not a number."""


class UnknownName(ConfigError):
    """Nothing is called that; the nearest known name is offered."""

    def __init__(self, what: str, name: object, known: Iterable[object]) -> None:
        names = [str(each) for each in known]
        listed = ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
        super().__init__(f"Unknown {what} {name!r}{nearest(str(name), names)} There are: {listed}.")


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of a sentence that offers the most similar known name: ' - did you mean …?' or '.'."""
    by_lower = {each.lower(): each for each in known}
    close = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.5)
    return f" - did you mean {by_lower[close[0]]!r}?" if close else "."
