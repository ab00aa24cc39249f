"""A ranker from a plain table: its best epoch and its quality from lists held out, then all of the table."""

import math
from collections.abc import Mapping

from foretaste.rank.dcnv2 import DCNv2, DCNv2Model
from foretaste.rank.metrics import task_metrics
from foretaste.rank.table import PlainTable
from foretaste.run import Run

__all__ = ["HELD_OUT", "fit_table", "metrics_table"]

HELD_OUT = 0.1  # of the lists
SHOWN = ("auc", "grouped_auc", "log_loss", "average_precision", "calibration_error", "ndcg@10")


def fit_table(settings: DCNv2, table: PlainTable, validation: PlainTable | None, run: Run) -> DCNv2Model:
    """The ranker, with what was measured on lists that it had not seen in ``metrics``.

    Args:
        validation: Lists to choose the epoch by. None: a tenth of the table's own, the latest where it tells times;
            the ranker is then fitted once more, on all of the table, for as many epochs as were best.
    """
    if validation is not None:
        model = settings.fit(table.examples, validation.examples, run)
        model.metrics = task_metrics(validation.examples, model.predict(validation.examples))
        return model
    learned, held_out = table.split(HELD_OUT, run.seed)
    if len(learned) < 2:
        run.log("too few lists to hold one out and learn from the others; the epochs are those of the plan")
        return settings.fit(table.examples, None, run)
    run.log(f"{len(held_out):,} of {len(table.examples):,} rows are held out to choose the epoch")
    tried = settings.fit(learned, held_out, run.of_part("epochs"))
    metrics = task_metrics(held_out, tried.predict(held_out))
    epochs = int(tried.training["best_epoch"])
    run.log(f"best epoch {epochs}; fitted once more on all rows")
    model = settings.for_epochs(epochs).fit(table.examples, None, run.of_part("whole"))
    model.metrics, model.training = metrics, {**model.training, "chosen": tried.training}
    return model


def metrics_table(metrics: Mapping[str, Mapping[str, float]]) -> tuple[list[str], list[list[str]]]:
    """Header and rows to print: a row per task."""
    header = ["task", "rows", "positives", *SHOWN]
    rows = [
        [task, f"{told['examples']:,.0f}", f"{told['positives']:,.0f}", *(_shown(told[name]) for name in SHOWN)]
        for task, told in metrics.items()
    ]
    return header, rows


def _shown(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.4f}"
