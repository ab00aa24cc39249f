"""docs/results-retrieval.md: the study of graph, content and retrieval models, and their speed."""

import json

import retrieval_speed_tables

from quality.page import page
from quality.results import RESULTS
from quality.rows import RETRIEVAL

SPEED = RESULTS / "retrieval_speed.json"
HEAD = """# Results of graph, content and retrieval models

Made by `python benchmarks/retrieval_quality.py table` from `benchmarks/results/retrieval/DATA/ROW-seedN.json`
(settings, learning curve, costs and a number per query are in there) and from `retrieval_speed.json` in
`benchmarks/results`. The whole catalogue is ranked, ties count against the model. Epochs, weights, and whatever was
searched, were chosen on a validation part that was cut from train; then the row was fitted on all of train. Means over
seeds; in brackets 95 % bootstrap intervals over users, each with the mean over the seeds; sd is that of the metric that
ranks the rows. Tests between rows flip the signs of users' differences, Holm-corrected over the pairs of a data set.
Seconds are of the machines named. Code is the commit that fitted a row, with + where some file differed from it.
"""


def content() -> str:
    further = []
    if SPEED.exists():
        further.append(retrieval_speed_tables.markdown(json.loads(SPEED.read_text(encoding="utf-8"))))
    return page(RETRIEVAL, HEAD, further)
