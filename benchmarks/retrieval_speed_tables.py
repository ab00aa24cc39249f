"""The numbers of retrieval_speed.py, for a terminal and for the page of results."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple

from measuring import table

DRAWING = 0.05  # of an epoch, at most
LINEAR = 1.1  # times as long per edge, and times the memory that learning takes, at most


class Shown(NamedTuple):
    """A table and the sentences under it."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    sentences: Sequence[str]


def text(name: str, case: Mapping[str, Any]) -> str:
    """The numbers of one case for a terminal."""
    shown = SHOWN[case["kind"]](case)
    absent = [f"{who}: {why}" for who, why in case["absent"].items()]
    return "\n".join([table(name, shown.header, shown.rows), *absent, *shown.sentences, ""])


def markdown(content: Mapping[str, Any]) -> str:
    """The section of the page of results."""
    lines = ["## Speed", "", *(f"- {sentence}" for sentence in content["protocol"]), ""]
    for name, case in content["cases"].items():
        shown = SHOWN[case["kind"]](case)
        lines += [f"### {name}", "", *about(case), ""]
        lines += ["| " + " | ".join(shown.header) + " |", "|" + "---|" * len(shown.header)]
        lines += ["| " + " | ".join(row) + " |" for row in shown.rows]
        lines += ["", *(f"- {each}" for each in shown.sentences), ""]
    return "\n".join(lines)


def about(case: Mapping[str, Any]) -> Iterator[str]:
    """The command, the machine, the versions and the data."""
    where, commit = case["machine"], case["versions"]["commit"]
    libraries = ", ".join(f"{name} {each}" for name, each in case["versions"].items() if name != "commit" and each)
    code = "" if commit is None else f", `{commit[:7]}`" + (" +" if commit.endswith("-dirty") else "")
    machine = f"{where['cpu']}, {where['cores']} cores, threads {case['threads']}"
    yield f"`{case['command']}`, {case['date'][:10]}, {machine}."
    yield f"{libraries}{code}."
    if "fingerprint" in case.get("data", {}):
        data = case["data"]
        yield f"{data['name']} `{data['fingerprint']}`: {data['events']:,} events, {data['items']:,} items."
    yield from (f"{who}: {why}." for who, why in case["absent"].items())


def verdict(found: float, goal: float, *, most: bool = False) -> str:
    """Whether a number is at least, or at most, what it is to be, and by how much it misses that."""
    if found <= goal if most else found >= goal:
        return "reached"
    return f"missed by {abs(found / goal - 1):.1%}"


def _training(case: Mapping[str, Any]) -> Shown:
    header = ("who", "pairs/s (median)", "min", "max", "ms per step", "s per epoch", "peak MB", "steps")
    rows = [
        (
            who,
            *_spread(row["pairs_per_second"]),
            f"{1000 * row['step_seconds']['median']:,.1f}",
            f"{row['epoch_seconds']['median']:,.1f}",
            f"{case['about'][who]['peak_bytes'] / 2**20:,.0f}",
            f"{row['steps']:,} of {row['steps_of_epoch']:,}",
        )
        for who, row in case["training"].items()
    ]
    return Shown(header, rows, list(_training_sentences(case)))


def _training_sentences(case: Mapping[str, Any]) -> Iterator[str]:
    ours, ratio, floor = case["training"]["foretaste"], case["ratio"], case["floor"]
    rate = ours["pairs_per_second"]["median"]
    if ratio:
        used = ", ".join(f"{name} {each}" for name, each in case["about"]["recbole"]["versions"].items())
        yield (
            f"Per pair ours is {ratio['median']:.2f} times as fast as RecBole's (median of {len(ratio['rounds'])}, "
            f"{ratio['min']:.2f} to {ratio['max']:.2f}); to reach: {case['reach']:g}, "
            f"{verdict(ratio['median'], case['reach'])}. There: {used}."
        )
    if case["least_pairs_per_second"]:
        least = case["least_pairs_per_second"]
        yield f"To reach: {least:,.0f} interactions/s, {verdict(rate, least)}."
    drawing = ours["shares"]["drawing"]
    yield (
        f"Drawing negatives takes {drawing['median']:.2%} of the epoch ({drawing['min']:.2%} to {drawing['max']:.2%}); "
        f"to reach: at most {DRAWING:.0%}, {verdict(drawing['median'], DRAWING, most=True)}."
    )
    yield _sparse_floor(ours, floor) if "sparse_seconds_per_step" in floor else _dense_floor(rate, floor)


def _sparse_floor(ours: Mapping[str, Any], floor: Mapping[str, Any]) -> str:
    bare, step = floor["sparse_seconds_per_step"], ours["step_seconds"]["median"]
    return (
        f"Sparse floor: the sparse products alone take {1000 * bare:,.1f} ms of a step, "
        f"{bare * ours['steps_of_epoch']:,.1f} s of an epoch; ours takes {step / bare:.2f} times as long. Torch's own "
        f"sparse products would take {floor['torch_sparse_seconds_per_step'] / bare:.2f} times as long as these."
    )


def _dense_floor(rate: float, floor: Mapping[str, Any]) -> str:
    products = floor["flops_per_pair"] / floor["flops_per_second"]
    gathered, optimized, moved = (
        floor[f"{what}bytes_per_pair"] / floor["bytes_per_second"] for what in ("gathered_", "optimizer_", "")
    )
    least = products + gathered + optimized
    read, updated, everything = (floor[f"{what}bytes_per_pair"] / 1e3 for what in ("gathered_", "optimizer_", ""))
    return (
        f"Floor: {floor['flops_per_pair'] / 1e6:.2f} Mflop per pair at {floor['flops_per_second'] / 1e9:,.0f} Gflop/s "
        f"({floor['precision']}) would be {1 / products:,.0f} pairs/s; {read:,.1f} kB of histories and "
        f"{updated:,.1f} kB of AdamW at {floor['bytes_per_second'] / 1e9:,.1f} GB/s would be "
        f"{1 / (gathered + optimized):,.0f} pairs/s; one after the other {1 / least:,.0f} pairs/s, of which ours "
        f"reaches {rate * least:.0%}. All operations together move {everything:,.0f} kB per pair, which would be "
        f"{1 / moved:,.0f} pairs/s."
    )


def _growth(case: Mapping[str, Any]) -> Shown:
    header = ("edges", "s per epoch (median)", "min", "max", "us per edge", "MB before", "peak MB", "MB of learning")
    rows = []
    for who, row in case["training"].items():
        memory = case["about"][who]
        held = memory["peak_bytes"] - memory["resident_bytes"]
        rows.append(
            (
                f"{row['pairs']:,.0f} ({who})",
                *(f"{row['epoch_seconds'][each]:,.2f}" for each in ("median", "min", "max")),
                f"{1e6 / row['pairs_per_second']['median']:,.1f}",
                *(f"{each / 2**20:,.0f}" for each in (memory["resident_bytes"], memory["peak_bytes"], held)),
            )
        )
    return Shown(header, rows, list(_growth_sentences(case)))


def _growth_sentences(case: Mapping[str, Any]) -> Iterator[str]:
    names = list(case["training"])
    small, large = names[0], names[-1]
    rates = [case["training"][who]["pairs_per_second"]["median"] for who in (small, large)]
    edges = [case["training"][who]["pairs"] for who in (small, large)]
    longer = rates[0] / rates[1]
    yield (
        f"{edges[1] / edges[0]:g} times the edges take {longer:.2f} times as long per edge; to reach: at most "
        f"{LINEAR:g} (linear), {verdict(longer, LINEAR, most=True)}."
    )
    memory = [case["about"][who] for who in (small, large)]
    peaks = [each["peak_bytes"] for each in memory]
    held = [each["peak_bytes"] - each["resident_bytes"] for each in memory]
    added, more = peaks[1] - peaks[0], held[1] / max(held[0], 1)
    yield (
        f"The peak grows by {added / 2**20:,.0f} MB, {added / (edges[1] - edges[0]):,.0f} bytes per added edge; what "
        f"learning takes beside what was there before is {more:.2f} times as much; to reach: at most {LINEAR:g}, "
        f"{verdict(more, LINEAR, most=True)}."
    )


def _texts(case: Mapping[str, Any]) -> Shown:
    header = ("fit", "texts ready, s (median)", "max", "learning begins, s (median)", "max")
    fits = {
        "empty cache": [case["first"]["seconds"][0]],
        "new process": [each["seconds"][0] for each in case["later"]],
        "same process": [each["seconds"][1] for each in case["later"]],
    }
    rows = [
        (name, *(f"{pick([each[what] for each in seconds]):,.2f}" for what in MOMENTS for pick in (median, max)))
        for name, seconds in fits.items()
    ]
    ready = {name: median([each["texts_ready"] for each in seconds]) for name, seconds in fits.items()}
    return Shown(header, rows, list(_texts_sentences(case, ready)))


MOMENTS = ("texts_ready", "learning_begins")


def _texts_sentences(case: Mapping[str, Any], ready: Mapping[str, float]) -> Iterator[str]:
    first, most = case["first"], case["most_seconds"]
    again = sum(each["encoded_texts"] for each in case["later"])
    once = first["encoded_texts"] == first["distinct_texts"] and first["most_often_encoded"] == 1 and not again
    yield (
        f"Of {first['distinct_texts']:,} distinct texts the encoder read {first['encoded_texts']:,}, none more than "
        f"{first['most_often_encoded']} time, and in later fits {again:,}; to reach: each once and never again, "
        f"{'reached' if once else 'missed'}."
    )
    for where in ("new process", "same process"):
        yield (
            f"From the cache the texts are ready after {ready[where]:.2f} s ({where}); to reach: {most:g} s, "
            f"{verdict(ready[where], most, most=True)}."
        )


def _index(case: Mapping[str, Any]) -> Shown:
    header = ("way", "queries/s (median)", "min", "max", "ms per query")
    rows = [
        (way, *_spread(spread, 1), f"{1000 / spread['median']:,.3f}")
        for way, spread in case["queries_per_second"].items()
    ]
    return Shown(header, rows, list(_index_sentences(case)))


def _index_sentences(case: Mapping[str, Any]) -> Iterator[str]:
    learned, built, about, ratio = case["learn"], case["build"], case["about"], case["ratio"]
    losses = f", loss {learned['losses'][0]:.3f} in the first epoch and {learned['losses'][-1]:.3f} in the last"
    yield (
        f"Learned in {learned['seconds']:,.0f} s from {learned['events']:,} simulated events "
        f"(`{learned['fingerprint']}`) of {learned['users']:,} users with {learned['items']:,} items{losses}. "
        f"{built['indexed']:,} items are in the index, which took {built['seconds']:,.0f} s ({built['kind']}, effort "
        f"{built['effort']}); peak {about['peak_bytes'] / 2**20:,.0f} MB."
    )
    hits = about["hits"]
    yield (
        f"The ten best hold the event withheld for {hits['exact']:.4f} of {about['queries']:,} users by the exact "
        f"search, {hits['index']:.4f} by the index, {hits['popular']:.4f} by popularity."
    )
    recall, least = about["recall"], case["least_recall"]
    yield f"recall@10 of the index is {recall:.4f}; to reach: {least:g}, {verdict(recall, least)}."
    yield (
        f"It answers {ratio['median']:.1f} times as many queries a second as the faster exact way (median of "
        f"{len(ratio['rounds'])}, {ratio['min']:.1f} to {ratio['max']:.1f}); to reach: {case['reach']:g}, "
        f"{verdict(ratio['median'], case['reach'])}."
    )


def _spread(spread: Mapping[str, float], digits: int = 0) -> tuple[str, ...]:
    return tuple(f"{spread[each]:,.{digits}f}" for each in ("median", "min", "max"))


SHOWN: Mapping[str, Callable[[Mapping[str, Any]], Shown]] = {
    "training": _training,
    "growth": _growth,
    "texts": _texts,
    "index": _index,
}
