"""Measure sequence models, a row on a data set with a seed at a time, and make the page of tables.

python benchmarks/sequence_quality.py run ROW DATA [--seed N] [--threads T] [--data-dir DIR] [--resume]
python benchmarks/sequence_quality.py table

The rows stand in benchmarks/quality/sequences/DATA.yaml. A run leaves
benchmarks/results/sequences/DATA/ROW-seedN.json, and under runs/sequences/ the model, a log, and while it lasts what it
needs to be gone on with. The page is docs/results-sequences.md.
"""

import sys

from quality.command import Study, main

STUDY = Study("sequences", "sequence_quality.py", __doc__ or "")

if __name__ == "__main__":
    sys.exit(main(STUDY))
