"""docs/results-sequences.md: the study of sequence models, people never met, 8-bit weights, and speed."""

import json
from collections.abc import Mapping
from typing import Any

import sequence_speed_tables

from foretaste.evaluation.checks import p_in_words
from foretaste.evaluation.intervals import Interval
from quality.page import page, with_interval
from quality.results import RESULTS
from quality.rows import SEQUENCES

METRIC = "ndcg@10"
SPEED = RESULTS / "sequence_speed.json"
HEAD = """# Results of sequence models

Made by `python benchmarks/sequence_quality.py table` from `benchmarks/results/sequences/DATA/ROW-seedN.json`
(settings, learning curve, costs and the rank of every target are in there) and from `cold_users-DATA.json`,
`eight_bit-DATA-ROW.json` and `sequence_speed.json` in `benchmarks/results`. The whole catalogue is ranked, ties count
against the model. Epochs, and whatever was searched, were chosen on validation. Means over seeds; in brackets 95 %
bootstrap intervals over users, each with the mean over the seeds; sd is that of ndcg@10 over seeds. Tests between
rows flip the signs of users' differences, Holm-corrected over the pairs of a data set. Seconds are of the machines
named. Code is the commit that fitted a row, with + where some file differed from it, and – where a result is older
than that this is kept.
"""


def content() -> str:
    further = []
    for name, told in (("cold_users", cold_users), ("eight_bit", eight_bit)):
        found = sorted(RESULTS.glob(f"{name}-*.json"))
        further += [told(json.loads(path.read_text(encoding="utf-8"))) for path in found]
    if SPEED.exists():
        further.append(sequence_speed_tables.markdown(json.loads(SPEED.read_text(encoding="utf-8"))))
    return page(SEQUENCES, HEAD, further)


def cold_users(content: Mapping[str, Any]) -> str:
    """The section of people whom training never met, from what cold_users.py found."""
    data, shown = content["data"], list(next(iter(content["rows"].values())))
    lines = [f"## People never met in training: {data['name']}", "", f"`{content['command']}`", "", content["protocol"]]
    lines += ["", f"ndcg@10 of {content['people']:,} people by the number of events shown:", ""]
    lines += ["| model | " + " | ".join(shown) + " |", "|" + "---|" * (1 + len(shown))]
    for name, of in content["rows"].items():
        values = [
            with_interval(Interval(*(of[each][METRIC][end] for end in ("mean", "low", "high")), 0)) for each in shown
        ]
        lines.append(f"| {name} | " + " | ".join(values) + " |")
    lines.append("")
    for pair in content["ndcg@10 differences"]:
        ahead, behind = pair["pair"]
        share = pair["mean"] / content["rows"][behind][str(pair["shown"])][METRIC]["mean"]
        lines.append(
            f"- {ahead} against {behind}, {pair['shown']} shown: {pair['mean']:+.4f} "
            f"[{pair['low']:+.4f}, {pair['high']:+.4f}], {share:+.0%}, {p_in_words(pair['p_holm'])} (Holm)."
        )
    lines.append("- Claimed of the enhanced model over the plain one: 25 % more for new people.")
    return "\n".join([*lines, ""])


def eight_bit(content: Mapping[str, Any]) -> str:
    """The section of what 8-bit weights cost, from what eight_bit.py found."""
    found = content["results"]
    whole, small = found["rows"]["float32"], found["rows"]["int8"]
    loss = found["loss"]
    return (
        f"## 8-bit weights: {found['model']} on {found['data']}\n\n`{content['command']}`\n\n"
        f"- {METRIC} over {found['queries']:,} queries: {whole[METRIC]['mean']:.4f} in float32, "
        f"{small[METRIC]['mean']:.4f} in int8; lost {loss[METRIC]:.5f} [{loss['low']:.5f}, {loss['high']:.5f}]; "
        f"{found['shared_of_10']:.2f} of 10 items are the same.\n"
        f"- Weights: {whole['weights_bytes'] / 2**20:.2f} MiB and {small['weights_bytes'] / 2**20:.2f} MiB. They are "
        "multiplied out before they are used, so an answer takes no less time.\n"
    )
