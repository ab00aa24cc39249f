"""The command line: thin commands that parse, call and print. Results go to standard output, all else beside it."""

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from foretaste.ann import IndexKind
from foretaste.cli_answers import check_ending, listed, print_table, queries_asked, write_answer
from foretaste.cli_options import (
    AsJson,
    Compile,
    Cutoffs,
    DataDir,
    Device,
    Events,
    ItemCol,
    Items,
    K,
    KindCol,
    Kinds,
    MinValue,
    Ordered,
    Out,
    PrecisionOption,
    Quiet,
    Seed,
    SessionCol,
    Set,
    Shown,
    TensorBoard,
    Threads,
    TimeCol,
    UserCol,
    Users,
    ValueCol,
    names_of,
    numbers_of,
    run_of,
    split_list,
)
from foretaste.cli_rank import rank_app
from foretaste.console import Console
from foretaste.exit_codes import exit_code
from foretaste.run import Run

__all__ = ["app", "main"]

app = typer.Typer(
    name="foretaste",
    help="From an event log to what each person will want next.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(rank_app, name="rank")


@app.command("run", short_help="Split, fit, judge and report, as a recipe says.")
def run_command(
    recipe: Annotated[str, typer.Argument(help="A recipe by name, e.g. demo or ml-1m, or a YAML file.")],
    models: Annotated[str | None, typer.Option(help="Only these models, e.g. sasrec,ease.")] = None,
    seeds: Annotated[int | None, typer.Option(help="Fit each model with so many seeds, e.g. 3.", min=1)] = None,
    max_queries: Annotated[
        int | None, typer.Option(help="Judge by a sample of so many queries, e.g. 1000.", min=1)
    ] = None,
    data_dir: DataDir = None,
    out: Annotated[Path | None, typer.Option(help="The run directory, e.g. runs/try-1. Default: runs/NAME.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="A setting of the recipe, e.g. models.sasrec.dim=128; repeatable.")
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Go on where an interrupted run stopped, e.g. after Ctrl-C; finished models are kept."
        ),
    ] = False,
    seed: Seed = 0,
    device: Device = "auto",
    threads: Threads = None,
    precision: PrecisionOption = "auto",
    compiled: Compile = False,
    tensorboard: TensorBoard = None,
    quiet: Quiet = False,
) -> None:
    """Split, fit, judge and report: everything that a recipe says, into one run directory."""
    from foretaste.experiment import carry_out, prepare
    from foretaste.recipe import read_recipe

    overrides = list(settings or [])
    overrides += [] if seeds is None else [f"evaluation.seeds={seeds}"]
    overrides += [] if max_queries is None else [f"evaluation.max_queries={max_queries}"]
    plan = read_recipe(recipe, overrides)
    plan = plan if models is None else plan.narrowed(names_of(models, "--models"))
    out = out or Path("runs") / plan.name
    prepare(out)
    with Console(quiet=quiet, log_file=out / "log.jsonl", curves=tensorboard) as console:
        run = run_of(console, seed, device, threads, precision, compiled)
        board = carry_out(plan, out, run, data_dir=data_dir, resume=resume, command=_command_line())
        print(board.table())
        print(f"\nreport: {out / 'report.html'}")


@app.command("datasets", short_help="List the published data sets, and which are here.")
def datasets_command(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """List the published data sets: counts, licence, and whether they are here."""
    from foretaste.sources import describe_sources

    rows = describe_sources(data_dir)
    if as_json:
        print(json.dumps([{**vars(row), "folder": str(row.folder)} for row in rows], indent=1, ensure_ascii=False))
        return
    print_table(
        ["name", "present", "counts", "licence"],
        [[row.name, "yes" if row.present else "no", row.counts, row.licence] for row in rows],
    )


@app.command("validate", short_help="Say what a log holds and what is wrong with it.")
def validate_command(
    events: Events,
    items: Items = None,
    users: Users = None,
    user_col: UserCol = None,
    item_col: ItemCol = None,
    time_col: TimeCol = None,
    kind_col: KindCol = None,
    value_col: ValueCol = None,
    session_col: SessionCol = None,
    kinds: Kinds = None,
    min_value: MinValue = None,
    ordered: Ordered = False,
    as_json: AsJson = False,
) -> None:
    """Say what a log holds and what is wrong with it, with line numbers and what to do."""
    from foretaste.events import Columns, validate_events

    columns = Columns(user_col, item_col, time_col, kind_col, value_col, session_col)
    report = validate_events(
        events, items=items, users=users, columns=columns, kinds=kinds, min_value=min_value, ordered=ordered
    )
    print(json.dumps(report.to_json(), indent=1, ensure_ascii=False) if as_json else report.text())


@app.command("train")
def train_command(
    events: Events,
    model: Annotated[
        str, typer.Option(help="A model, e.g. sasrec, or a YAML file of settings that says 'model: sasrec'.")
    ],
    out: Annotated[Path, typer.Option(help="The bundle to write, e.g. bundles/shop.")],
    items: Items = None,
    users: Users = None,
    impressions: Shown = None,
    user_col: UserCol = None,
    item_col: ItemCol = None,
    time_col: TimeCol = None,
    kind_col: KindCol = None,
    value_col: ValueCol = None,
    session_col: SessionCol = None,
    kinds: Kinds = None,
    min_value: MinValue = None,
    ordered: Ordered = False,
    validate_by: Annotated[
        Literal["last", "time", "none"] | None,
        typer.Option(
            help="Held out to choose the epoch, e.g. last (event of each user), time (the last tenth) or none."
        ),
    ] = None,
    eight_bit: Annotated[
        bool,
        typer.Option("--eight-bit", help="Keep a network's weights in 8 bits: a quarter of the size, e.g. for an app."),
    ] = False,
    index: Annotated[
        IndexKind | None,
        typer.Option(help="Keep an index of the items and search lists in it, e.g. auto, flat, hnsw or ivf (FAISS)."),
    ] = None,
    refit: Annotated[
        bool,
        typer.Option("--refit", help="Then fit the chosen number of epochs on everything, e.g. before going live."),
    ] = False,
    with_histories: Annotated[
        bool, typer.Option(help="Store the users' histories in the bundle, so that e.g. recommend --user u17 works.")
    ] = True,
    settings: Set = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the checkpoint of an interrupted fit, e.g. after Ctrl-C.")
    ] = False,
    seed: Seed = 0,
    device: Device = "auto",
    threads: Threads = None,
    precision: PrecisionOption = "auto",
    compiled: Compile = False,
    tensorboard: TensorBoard = None,
    quiet: Quiet = False,
) -> None:
    """Fit one model on a log and write it as a bundle."""
    from foretaste.events import Columns, read_events, read_impressions
    from foretaste.fitting import train_bundle
    from foretaste.recipe import model_of
    from foretaste.storage import check_place

    chosen = model_of(model, settings or [])
    check_place(out, marker="model.json")  # before a long log is read
    columns = Columns(user_col, item_col, time_col, kind_col, value_col, session_col)
    with Console(quiet=quiet, curves=tensorboard) as console:
        run = run_of(console, seed, device, threads, precision, compiled)
        data = read_events(
            events, items=items, users=users, columns=columns, kinds=kinds, min_value=min_value, ordered=ordered,
            log=console.log,
        )  # fmt: skip
        if impressions is not None:
            data = read_impressions(impressions, data, log=console.log)
        console.log(f"data: {data!r}")
        train_bundle(
            chosen, data, out, run, by=validate_by, refit=refit, histories=with_histories, eight_bit=eight_bit,
            index=index, resume=resume,
        )  # fmt: skip
    print(out)


@app.command("recommend")
def recommend_command(
    bundle: Annotated[Path, typer.Argument(help="A bundle that train --out wrote, e.g. bundles/shop.")],
    user: Annotated[list[str] | None, typer.Option(help="A known user, e.g. u17; may be repeated.")] = None,
    users: Annotated[str | None, typer.Option(help="Users, e.g. all, or a file with one per line.")] = None,
    history: Annotated[
        str | None,
        typer.Option(help="Items met so far, oldest first, e.g. sku-9,sku-4; quote those with commas as CSV does."),
    ] = None,
    queries: Annotated[
        Path | None,
        typer.Option(help='JSON lines such as {"history": ["sku-9"]}, e.g. queries.jsonl, or - for standard input.'),
    ] = None,
    k: K = 10,
    keep_seen: Annotated[
        bool, typer.Option("--keep-seen", help="Offer also what is in the history, e.g. for groceries.")
    ] = False,
    exclude_kinds: Annotated[
        str | None, typer.Option(help="Of what is in the history hide only what was met by these kinds, e.g. buy.")
    ] = None,
    only: Annotated[
        Path | None, typer.Option(help="Offer only the items in this file, one per line, e.g. in-stock.txt.")
    ] = None,
    exclude: Annotated[
        Path | None, typer.Option(help="Never offer the items in this file, one per line, e.g. withdrawn.txt.")
    ] = None,
    new_items: Annotated[
        str | None,
        typer.Option(help="A table of items that the model has never met, known by --item-col, e.g. arrivals.csv."),
    ] = None,
    events: Annotated[
        str | None, typer.Option(help="Newer events to append to the stored histories, e.g. today.csv.")
    ] = None,
    user_col: UserCol = None,
    item_col: ItemCol = None,
    time_col: TimeCol = None,
    kind_col: KindCol = None,
    value_col: ValueCol = None,
    session_col: SessionCol = None,
    ordered: Ordered = False,
    out: Out = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """The best items for known users, for histories, or for queries."""
    from foretaste.answers import read_items, read_newer_events, with_newer_events
    from foretaste.events import Columns

    check_ending(out)
    with Console(quiet=quiet) as console:
        model = _loaded(bundle)
        if new_items is not None:
            model = model.with_items(new_items, key=item_col, log=console.log)
        if events is not None:
            columns = Columns(user_col, item_col, time_col, kind_col, value_col, session_col)
            model = with_newer_events(model, read_newer_events(model, events, columns, ordered, console.log))
        asked = queries_asked(model, user, users, history, queries)
        if asked.unknown_users:
            console.log(f"unknown users, answered with what is popular: {listed(asked.unknown_users)}")
        if asked.unknown_items:
            console.log(f"left out of the histories, as the model does not know them: {listed(asked.unknown_items)}")
        if asked.unknown_features:
            named = [f"{feature} {name!r}" for feature, name in asked.unknown_features]
            console.log(f"features that the stored users do not have count as missing: {listed(named)}")
        if asked.reordered:
            console.log(f"histories that were put in order of time, by line: {listed(asked.reordered)}")
        top = model.recommend(
            asked.queries,
            k,
            filter_seen=not keep_seen,
            exclude_kinds=split_list(exclude_kinds),
            items=None if only is None else read_items(model, only),
            exclude=None if exclude is None else read_items(model, exclude),
        )
    write_answer(replace(top, labels=asked.labels), model, out, as_json)


@app.command("similar")
def similar_command(
    bundle: Annotated[Path, typer.Argument(help="A bundle that train --out wrote, e.g. bundles/shop.")],
    item: Annotated[list[str], typer.Option(help="An item, e.g. sku-9; may be repeated.")],
    k: K = 10,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """The items that the model finds most alike."""
    check_ending(out)
    model = _loaded(bundle)
    write_answer(model.similar_items(item, k), model, out, as_json, who="like_item")


@app.command("evaluate", short_help="Judge a bundle by events that it has not seen.")
def evaluate_command(
    bundle: Annotated[Path, typer.Argument(help="A bundle that train --out wrote, e.g. bundles/shop.")],
    events: Annotated[str, typer.Option(help="A log of test events, e.g. next-week.csv.")],
    protocol: Annotated[
        Literal["later", "last"],
        typer.Option(
            help="What is asked, e.g. later: all test events, from stored histories; last: each user's last test event."
        ),
    ] = "later",
    k: Cutoffs = "5,10,20",
    keep_seen: Annotated[
        bool, typer.Option("--keep-seen", help="Offer also what is in the history, e.g. for groceries.")
    ] = False,
    exclude_kinds: Annotated[
        str | None, typer.Option(help="Of what is in the history hide only what was met by these kinds, e.g. buy.")
    ] = None,
    max_queries: Annotated[
        int | None, typer.Option(help="Judge by a sample of so many queries, e.g. 1000.", min=1)
    ] = None,
    user_col: UserCol = None,
    item_col: ItemCol = None,
    time_col: TimeCol = None,
    kind_col: KindCol = None,
    value_col: ValueCol = None,
    session_col: SessionCol = None,
    ordered: Ordered = False,
    seed: Seed = 0,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Judge a bundle by events that it has not seen, beside popularity."""
    from foretaste.answers import read_newer_events
    from foretaste.events import Columns
    from foretaste.fitting import judge_bundle

    cutoffs = numbers_of(k)
    with Console(quiet=quiet) as console:
        model = _loaded(bundle)
        columns = Columns(user_col, item_col, time_col, kind_col, value_col, session_col)
        test = read_newer_events(model, events, columns, ordered, console.log)
        board = judge_bundle(
            model, test, protocol, cutoffs, not keep_seen, split_list(exclude_kinds), max_queries,
            Run(seed=seed, log=console.log),
        )  # fmt: skip
    print(json.dumps(board.to_json(), indent=1, ensure_ascii=False) if as_json else board.table())


@app.command("compare", short_help="Put the leaderboards of runs side by side.")
def compare_command(
    runs: Annotated[list[Path], typer.Argument(help="Run directories, e.g. runs/a runs/b.")],
    metrics: Annotated[
        str | None, typer.Option(help="Metrics to show, e.g. ndcg@10,recall@20. Default: what the runs rank by.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Put the leaderboards of several runs side by side, and say which are not comparable."""
    from foretaste.comparison import compare_runs

    compared = compare_runs(runs, () if metrics is None else names_of(metrics, "--metrics"))
    print(json.dumps(compared.to_json(), indent=1, ensure_ascii=False) if as_json else compared.text())


@app.command("doctor", short_help="Say what this machine can do, and what a run takes.")
def doctor_command(
    users: Annotated[int | None, typer.Option(help="Users of the run to predict, e.g. 100000.", min=1)] = None,
    items: Annotated[int | None, typer.Option(help="Items of the run to predict, e.g. 50000.", min=1)] = None,
    events: Annotated[int | None, typer.Option(help="Events of the run to predict, e.g. 10000000.", min=1)] = None,
    as_json: AsJson = False,
) -> None:
    """Versions, devices, threads and memory; with counts, the memory that each model would take."""
    from foretaste.doctor import examine

    report = examine(users, items, events)
    print(json.dumps(report.to_json(), indent=1) if as_json else report.text())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line. 0 done; 2 the call or the data is at fault; 130 Ctrl-C; a defect of ours raises."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    # Read once, when torch loads. Its threads otherwise spin while they wait for each other, which beside other work
    # on the same cores slows everything down several times.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

    def work() -> None:
        command = typer.main.get_command(app)
        with command.make_context(app.info.name, given) as context:
            command.invoke(context)

    return exit_code(work)


def _loaded(bundle: Path) -> Any:
    from foretaste.bundle import load
    from foretaste.storage import check_exists

    check_exists(bundle)
    return load(bundle)


def _command_line() -> str:
    import shlex

    return shlex.join(["foretaste", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
