"""The commands of the ranker on plain tables of impressions."""

from pathlib import Path
from typing import Annotated

import typer

from foretaste.cli_answers import check_ending, print_table
from foretaste.cli_options import Device, PrecisionOption, Quiet, Seed, Set, TensorBoard, Threads, run_of, split_list
from foretaste.console import Console

__all__ = ["rank_app"]

rank_app = typer.Typer(
    help="Train a ranker on a table of impressions, and ask it.", no_args_is_help=True, rich_markup_mode=None
)

Impressions = Annotated[
    str,
    typer.Argument(
        help="A table with a row per shown item: file, folder or glob of CSV, JSON lines or Parquet, e.g. shown.csv."
    ),
]
RequestCol = Annotated[
    str | None, typer.Option(help="Column that says which rows were one list, e.g. request_id. Default: guessed.")
]


@rank_app.command("train", short_help="Fit DCN-v2 on a table of impressions.")
def train_command(
    table: Impressions,
    out: Annotated[Path, typer.Option(help="The bundle to write, e.g. bundles/ranker.")],
    config: Annotated[
        Path | None, typer.Option(help="Settings as YAML, e.g. ranker.yaml with groups, tasks, dim and plan.")
    ] = None,
    tasks: Annotated[
        str | None, typer.Option(help="Columns of labels, 0, 1 or empty, e.g. click,purchase. Default: guessed.")
    ] = None,
    validation: Annotated[
        str | None,
        typer.Option(help="A table to choose the epoch by, e.g. next-day.csv. Default: a tenth of the lists."),
    ] = None,
    request_col: RequestCol = None,
    settings: Set = None,
    seed: Seed = 0,
    device: Device = "auto",
    threads: Threads = None,
    precision: PrecisionOption = "auto",
    tensorboard: TensorBoard = None,
    quiet: Quiet = False,
) -> None:
    """Fit DCN-v2 on a table of impressions and write it as a bundle; prints its quality on lists held out."""
    from foretaste.rank.dcnv2 import DCNv2
    from foretaste.rank.saved import INDEX, save_ranker
    from foretaste.rank.table import PlainTable
    from foretaste.rank.training import fit_table, metrics_table
    from foretaste.recipe import read_yaml, validated, with_overrides
    from foretaste.storage import check_place

    content = with_overrides({} if config is None else read_yaml(config), settings or [])
    if tasks is not None:
        known = content.get("tasks")
        known = known if isinstance(known, dict) else {}  # what else stands there is the other option's to judge
        content["tasks"] = {task: known.get(task, {}) for task in split_list(tasks)}
    chosen = validated(DCNv2, content, "ranker" if config is None else str(config))
    check_place(out, marker=INDEX)
    with Console(quiet=quiet, curves=tensorboard) as console:
        run = run_of(console, seed, device, threads, precision)
        labels = None if chosen.tasks is None else list(chosen.tasks)
        given = PlainTable.read(table, tasks=labels, request=request_col, groups=chosen.groups, log=console.log)
        judged = None
        if validation is not None:
            judged = PlainTable.read(validation, tasks=labels, request=request_col, groups=chosen.groups)
        model = fit_table(chosen, given, judged, run)
        save_ranker(model, out)
    print_table(*metrics_table(model.metrics))
    print(out)


@rank_app.command("predict", short_help="Add a chance per task to a table.")
def predict_command(
    bundle: Annotated[Path, typer.Argument(help="A bundle that rank train --out wrote, e.g. bundles/ranker.")],
    table: Impressions,
    out: Annotated[Path, typer.Option(help="Where to write, e.g. scored.csv or .parquet.")],
    request_col: RequestCol = None,
    device: Device = "auto",
    threads: Threads = None,
    quiet: Quiet = False,
) -> None:
    """Write a table with a column more for each task, the chance that it comes; prints the quality where labels are."""
    from foretaste.answer_files import write_frame
    from foretaste.rank.metrics import task_metrics
    from foretaste.rank.saved import load_ranker
    from foretaste.rank.table import PlainTable
    from foretaste.rank.training import metrics_table
    from foretaste.storage import check_exists

    check_ending(out)
    check_exists(bundle)
    with Console(quiet=quiet) as console:
        model = load_ranker(bundle, run_of(console, 0, device, threads, "fp32"))
        given = PlainTable.read(table, tasks=list(model.tasks), request=request_col, fields=model.fields)
        predicted = model.predict(given.examples)
        write_frame(given.with_chances(predicted), out)
        metrics = task_metrics(given.examples, predicted)
    if metrics:
        print_table(*metrics_table(metrics))
    print(out)
