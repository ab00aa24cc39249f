"""Measure rankers of clicks, ours and others', a row on a table with a seed at a time, and make the page of tables.

python benchmarks/ranking_quality.py run ROW DATA [--seed N] [--threads T] [--data-dir DIR] [--resume]
python benchmarks/ranking_quality.py table

The rows stand in benchmarks/quality/ranking/DATA.yaml. Other libraries run in environments of their own, which are made
in benchmarks/.venvs. A run leaves benchmarks/results/ranking/DATA/ROW-seedN.json. The page is docs/results-ranking.md.
"""

import sys

from quality.command import Study, main

STUDY = Study("ranking", "ranking_quality.py", __doc__ or "", "quality.ranking_rows", "quality.ranking_measure")

if __name__ == "__main__":
    sys.exit(main(STUDY))
