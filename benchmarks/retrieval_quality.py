"""Measure graph, content and retrieval models, a row on a data set with a seed at a time, and make the page of tables.

python benchmarks/retrieval_quality.py run ROW DATA [--seed N] [--threads T] [--data-dir DIR] [--resume]
python benchmarks/retrieval_quality.py table

The rows stand in benchmarks/quality/retrieval/DATA.yaml. A run leaves
benchmarks/results/retrieval/DATA/ROW-seedN.json, and under runs/retrieval/ the model, a log, and while it lasts what it
needs to be gone on with. The page is docs/results-retrieval.md.
"""

import sys

from quality.command import Study, main

STUDY = Study("retrieval", "retrieval_quality.py", __doc__ or "")

if __name__ == "__main__":
    sys.exit(main(STUDY))
