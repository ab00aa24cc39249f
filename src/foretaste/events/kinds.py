"""The order and the weights of event kinds: as the user names them, or inferred."""

from collections.abc import Mapping, Sequence

from foretaste.dataset import EventKinds
from foretaste.errors import DataError, UnknownName

__all__ = ["MOST_KINDS", "KindsGiven", "order_kinds", "parse_kinds"]

KindsGiven = str | Sequence[str] | Mapping[str, float]

MOST_KINDS = 100  # a column with more distinct values does not hold kinds of event

# How far down the funnel a shop's usual events stand.
FUNNEL = {
    name: stage
    for stage, names in enumerate(
        (
            "impression show exposure",
            "view pv pageview detail detailview productview viewitem browse visit listen play watch",
            "click clk",
            "fav favorite favourite like wish wishlist bookmark save collect addtowishlist",
            "cart addtocart addcart basket addtobasket atc",
            "checkout begincheckout",
            "buy purchase transaction order sale bought paid conversion",
        )
    )
    for name in names.split()
}


def parse_kinds(given: KindsGiven) -> EventKinds:
    """The kinds that a user names, weakest first; weights not given are 1, 2, 3 ….

    Raises:
        DataError: A name is empty or stands twice, or a weight is no positive number.
    """
    if isinstance(given, Mapping):
        pairs: list[tuple[str, str | float | None]] = list(given.items())
    else:
        pairs = [_pair(each) for each in (given.split("<") if isinstance(given, str) else given)]
    names, weights = [], []
    for place, (name, weight) in enumerate(pairs, 1):
        try:
            number = float(place if weight is None else weight)
        except ValueError:
            number = float("nan")
        if not name or name in names:
            raise DataError(f"Event kinds {given!r}: {name!r} is empty or stands twice. Write: view < cart < buy.")
        if not 0 < number < float("inf"):
            raise DataError(f"The weight of event kind {name!r} is {weight!r}. Give a positive number: {name}=2.")
        names.append(name)
        weights.append(number)
    return EventKinds(tuple(names), tuple(weights))


def order_kinds(counts: Mapping[str, int], given: KindsGiven | None) -> tuple[EventKinds, str]:
    """The kinds of a log in their order, and a sentence about it.

    Args:
        counts: How many events there are of each kind that occurs.

    Raises:
        UnknownName: A kind that occurs is not among those given.
    """
    if given is None:
        names = _inferred(counts)
        kinds = EventKinds(tuple(names), tuple(float(place) for place in range(1, len(names) + 1)))
        known = all(_plain(name) in FUNNEL for name in names)
        how = "guessed from their names" if known else "guessed: the rarest is the strongest"
        return kinds, f"kinds: {_written(kinds)} ({how})"
    kinds = parse_kinds(given)
    for name in counts:
        if name not in kinds.names:
            raise UnknownName("event kind of the log (not in the given order)", name, kinds.names)
    absent = [name for name in kinds.names if name not in counts]
    return kinds, f"kinds: {_written(kinds)}, as given" + (f"; the log has no {', '.join(absent)}" if absent else "")


def _pair(text: str) -> tuple[str, str | None]:
    name, equals, weight = text.rpartition("=")
    return (name.strip(), weight.strip()) if equals else (text.strip(), None)


def _inferred(counts: Mapping[str, int]) -> list[str]:
    """Known names by their stage; each other one before the first that is rarer."""
    order = sorted((name for name in counts if _plain(name) in FUNNEL), key=lambda name: FUNNEL[_plain(name)])
    for name in sorted((name for name in counts if _plain(name) not in FUNNEL), key=lambda name: (-counts[name], name)):
        place = next((place for place, other in enumerate(order) if counts[other] < counts[name]), len(order))
        order.insert(place, name)
    return order


def _plain(name: str) -> str:
    return "".join(each for each in name.lower() if each.isalnum())


def _written(kinds: EventKinds) -> str:
    return " < ".join(f"{name}={weight:g}" for name, weight in zip(kinds.names, kinds.weights, strict=True))
