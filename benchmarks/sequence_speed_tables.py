"""The numbers of sequence_speed.py, for a terminal and for the page of results."""

from collections.abc import Mapping
from typing import Any

from measuring import table

ANSWERS = {"all": 1 / 3, "lists": 0.1}  # of RecTools' time, at most
TIME_TO = 0.2


def text(name: str, case: Mapping[str, Any]) -> str:
    """The numbers of one case for a terminal."""
    if "training" not in case:
        return f"{name}: {'; '.join(case['absent'].values())}\n"
    header = ("who", "events/s", "min", "max", "s per million", "peak MB", "threads")
    lines = [table(name, header, list(_rows(case)))]
    if case["ratio"]:
        lines.append(f"theirs / ours: {case['ratio']['median']:.2f} (to reach: {case['reach']})")
    lines += [f"{who}: {stages}" for who, stages in _answer_lines(case)]
    lines.append(_floor_words(case))
    return "\n".join([*lines, ""])


def markdown(content: Mapping[str, Any]) -> str:
    """The section of the page of results."""
    lines = ["## Speed", "", *(f"- {sentence}" for sentence in content["protocol"]), ""]
    for name, case in content["cases"].items():
        lines += [f"### {name}", "", *_about_case(case), ""]
        if "training" not in case:
            continue
        header = ("who", "events/s (median)", "min", "max", "s per million events", "peak MB", "threads")
        lines += ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
        lines += ["| " + " | ".join(row) + " |" for row in _rows(case)]
        lines += ["", *(f"- {each}" for each in _conclusions(case)), ""]
    return "\n".join(lines)


def _about_case(case: Mapping[str, Any]) -> list[str]:
    data, where = case["data"], case["machine"]
    told = [f"`{case['command']}`, {case['date'][:10]}, {where['cpu']}, {where['cores']} cores."]
    told.append(f"{data['name']} `{data['fingerprint']}`: {data['events']:,} events, {data['items']:,} items.")
    told += [f"{who}: {why}." for who, why in case["absent"].items()]
    return told


def _rows(case: Mapping[str, Any]) -> list[tuple[str, ...]]:
    return [
        (
            who,
            *(f"{row['events_per_second'][each]:,.0f}" for each in ("median", "min", "max")),
            f"{row['seconds_per_million_events']['median']:.1f}",
            f"{case['about'][who]['peak_bytes'] / 2**20:,.0f}",
            str(case["threads"]),
        )
        for who, row in case["training"].items()
    ]


def _conclusions(case: Mapping[str, Any]) -> list[str]:
    told = []
    if case["ratio"]:
        ratio = case["ratio"]
        ours, theirs = (case["training"][who]["events_per_epoch"] for who in ("foretaste", "rectools"))
        told.append(
            f"Per trained event ours is {ratio['median']:.1f} times as fast (median of {len(ratio['rounds'])}, "
            f"{ratio['min']:.1f} to {ratio['max']:.1f}); to reach: {case['reach']:g}, "
            f"{_whether(ratio['median'] >= case['reach'])}. "
            f"An epoch trains {ours:,.0f} events here, {theirs:,.0f} there."
        )
    if case["least_events_per_second"]:
        least, rate = case["least_events_per_second"], case["training"]["foretaste"]["events_per_second"]["median"]
        told.append(f"To reach: {least:,.0f} events/s, {_whether(rate >= least)}.")
    told += [f"recommend, {who}: {stages}." for who, stages in _answer_lines(case)]
    if len(case["answers"]) == 2:
        ours, theirs = case["answers"]["foretaste"], case["answers"]["rectools"]
        share = {stage: ours[stage]["median"] / theirs[stage]["median"] for stage in theirs}
        shares = ", ".join(f"{stage} {each:.2f}" for stage, each in share.items())
        wanted = ", ".join(f"{stage} {most:.2f} ({_whether(share[stage] <= most)})" for stage, most in ANSWERS.items())
        told.append(f"Of RecTools' time ours takes: {shares}; to reach: {wanted}.")
        if "products" in ours:
            floor = ours["products"]["median"] / theirs["lists"]["median"]
            told.append(f"The products alone, which exact lists cannot do without, take {floor:.2f} of its lists.")
    return [*told, *_until_words(case.get("time_to", {})), _floor_words(case)]


def _whether(reached: bool) -> str:
    return "reached" if reached else "not reached"


def _until_words(until: Mapping[str, Any]) -> list[str]:
    sides = [who for who in ("foretaste", "rectools") if who in until]
    told = [
        f"Up to validation ndcg@10 {until['validation_ndcg@10']}, {who}: {_reached_words(until[who])}." for who in sides
    ]
    if len(sides) == 2 and until["foretaste"]["reached"]:
        least = "" if until["rectools"]["reached"] else "less than "
        share = until["foretaste"]["seconds"] / until["rectools"]["seconds"]
        told.append(
            f"That is {least}{share:.2f} of RecTools' time; to reach: {TIME_TO:.2f}, {_whether(share <= TIME_TO)} "
            f"(`{until['command']}`)."
        )
    return told


def _answer_lines(case: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [
        (who, ", ".join(f"{stage} {spread['median'] * 1000:,.0f} ms" for stage, spread in stages.items()))
        for who, stages in case["answers"].items()
    ]


def _reached_words(reached: Mapping[str, Any]) -> str:
    words = f"{reached['seconds']:.0f} s of training, {reached['epochs']} epochs"
    return words if reached["reached"] else f"not reached in {words} (best {reached['best']:.4f})"


def _floor_words(case: Mapping[str, Any]) -> str:
    floor, rate = case["floor"], case["training"]["foretaste"]["events_per_second"]["median"]
    most = floor["flops_per_second"] / floor["flops_per_event"]
    told = (
        f"Arithmetic floor: {floor['flops_per_event'] / 1e6:.2f} Mflop per event at "
        f"{floor['flops_per_second'] / 1e9:,.0f} Gflop/s ({floor['precision']}) would be {most:,.0f} events/s; "
        f"ours is at {rate / most:.1%} of it."
    )
    if "bytes_per_event" not in floor:  # results from before it was counted
        return told
    most = floor["bytes_per_second"] / floor["bytes_per_event"]
    return (
        f"{told} Memory floor: {floor['bytes_per_event'] / 1e3:,.0f} kB per event at "
        f"{floor['bytes_per_second'] / 1e9:,.1f} GB/s would be {most:,.0f} events/s; "
        f"ours is at {rate / most:.1%} of it."
    )
