"""The command line: thin commands that parse, call and print. Results go to standard output, all else beside it."""

import csv
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from foretaste.console import Console
from foretaste.errors import ConfigError, DataError
from foretaste.exit_codes import exit_code
from foretaste.run import Precision, Run

__all__ = ["app", "main"]

NAMED = 10  # unknown ids that are named one by one

app = typer.Typer(
    name="foretaste",
    help="From an event log to what each person will want next.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Events = Annotated[
    str,
    typer.Argument(help="A log: file, folder or glob of CSV, TSV, JSON lines or Parquet, e.g. 'logs/*.csv.gz'."),
]
Items = Annotated[
    str | None, typer.Option("--items", help="A table of items, e.g. items.csv with item_id,title,category.")
]
Users = Annotated[str | None, typer.Option("--users", help="A table of users, e.g. users.csv with user_id,age,region.")]
UserCol = Annotated[str | None, typer.Option(help="Column of users, e.g. visitorid. Default: guessed.")]
ItemCol = Annotated[str | None, typer.Option(help="Column of items, e.g. asin. Default: guessed.")]
TimeCol = Annotated[str | None, typer.Option(help="Column of times, e.g. unixReviewTime. Default: guessed.")]
KindCol = Annotated[str | None, typer.Option(help="Column of event kinds, e.g. behavior. Default: guessed.")]
ValueCol = Annotated[str | None, typer.Option(help="Column of ratings or quantities, e.g. overall. Default: guessed.")]
SessionCol = Annotated[str | None, typer.Option(help="Column of sessions, e.g. session_id. Default: guessed.")]
Kinds = Annotated[
    str | None, typer.Option(help="Kinds, weakest first, e.g. 'view < addtocart < transaction' or 'view=1 < buy=5'.")
]
MinValue = Annotated[float | None, typer.Option(help="Keep only events with at least this value, e.g. 4.")]
Ordered = Annotated[
    bool, typer.Option("--ordered", help="Without times, the rows of a user still stand in order, e.g. playlists.")
]
Seed = Annotated[int, typer.Option(help="Seed of every random draw, e.g. 7.")]
Device = Annotated[str, typer.Option(help="Where to compute, e.g. cpu, cuda or cuda:1.")]
Threads = Annotated[int | None, typer.Option(help="Threads to compute with, e.g. 2. Default: as torch chooses.", min=1)]
PrecisionOption = Annotated[Precision, typer.Option(help="Precision of the arithmetic, e.g. bf16; fp16 on a GPU only.")]
Compile = Annotated[
    bool, typer.Option("--compile", help="Compile networks first: a minute or two, worth it for e.g. an hour on a GPU.")
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Say nothing but errors and results, e.g. in a cron job.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text, e.g. for jq.")]
K = Annotated[int, typer.Option("-k", help="Length of each list, e.g. 20.")]
Cutoffs = Annotated[str, typer.Option("-k", help="Cut-offs of the metrics, e.g. 5,10,20.")]
Set = Annotated[list[str] | None, typer.Option("--set", help="A setting, e.g. dim=128; may be repeated.")]
DataDir = Annotated[Path | None, typer.Option(help="Where published data lies, e.g. ./data. Default: FORETASTE_DATA.")]
Out = Annotated[Path | None, typer.Option("--out", help="Where to write, e.g. recommendations.csv or .parquet.")]


@app.command("run")
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
    quiet: Quiet = False,
) -> None:
    """Split, fit, judge and report: everything that a recipe says, into one run directory."""
    from foretaste.experiment import carry_out, prepare
    from foretaste.recipe import read_recipe

    overrides = list(settings or [])
    overrides += [] if seeds is None else [f"evaluation.seeds={seeds}"]
    overrides += [] if max_queries is None else [f"evaluation.max_queries={max_queries}"]
    plan = read_recipe(recipe, overrides)
    plan = plan if models is None else plan.narrowed(_names(models, "--models"))
    out = out or Path("runs") / plan.name
    prepare(out)
    with Console(quiet=quiet, log_file=out / "log.jsonl") as console:
        run = _run(console, seed, device, threads, precision, compiled)
        board = carry_out(plan, out, run, data_dir=data_dir, resume=resume, command=_command_line())
        print(board.table())
        print(f"\nreport: {out / 'report.html'}")


@app.command("datasets")
def datasets_command(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """List the published data sets: counts, licence, and whether they are here."""
    from foretaste.sources import describe_sources

    rows = describe_sources(data_dir)
    if as_json:
        print(json.dumps([{**vars(row), "folder": str(row.folder)} for row in rows], indent=1, ensure_ascii=False))
        return
    _print_table(
        ["name", "present", "counts", "licence"],
        [[row.name, "yes" if row.present else "no", row.counts, row.licence] for row in rows],
    )


@app.command("validate")
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
    quiet: Quiet = False,
) -> None:
    """Fit one model on a log and write it as a bundle."""
    from foretaste.events import Columns, read_events
    from foretaste.fitting import train_bundle
    from foretaste.recipe import model_of
    from foretaste.storage import check_place

    chosen = model_of(model, settings or [])
    check_place(out, marker="model.json")  # before a long log is read
    columns = Columns(user_col, item_col, time_col, kind_col, value_col, session_col)
    with Console(quiet=quiet) as console:
        run = _run(console, seed, device, threads, precision, compiled)
        data = read_events(
            events, items=items, users=users, columns=columns, kinds=kinds, min_value=min_value, ordered=ordered,
            log=console.log,
        )  # fmt: skip
        console.log(f"data: {data!r}")
        train_bundle(
            chosen, data, out, run, by=validate_by, refit=refit, histories=with_histories, eight_bit=eight_bit,
            resume=resume,
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

    _check_ending(out)
    with Console(quiet=quiet) as console:
        model = _loaded(bundle)
        if events is not None:
            columns = Columns(user_col, item_col, time_col, kind_col, value_col, session_col)
            model = with_newer_events(model, read_newer_events(model, events, columns, ordered, console.log))
        asked = _asked(model, user, users, history, queries)
        if asked.unknown_users:
            console.log(f"unknown users, answered with what is popular: {_listed(asked.unknown_users)}")
        if asked.unknown_items:
            console.log(f"left out of the histories, as the model does not know them: {_listed(asked.unknown_items)}")
        if asked.unknown_features:
            named = [f"{feature} {name!r}" for feature, name in asked.unknown_features]
            console.log(f"features that the stored users do not have count as missing: {_listed(named)}")
        if asked.reordered:
            console.log(f"histories that were put in order of time, by line: {_listed(asked.reordered)}")
        top = model.recommend(
            asked.queries,
            k,
            filter_seen=not keep_seen,
            exclude_kinds=_split(exclude_kinds) if exclude_kinds else (),
            items=None if only is None else read_items(model, only),
            exclude=None if exclude is None else read_items(model, exclude),
        )
    _give(replace(top, labels=asked.labels), model, out, as_json)


@app.command("similar")
def similar_command(
    bundle: Annotated[Path, typer.Argument(help="A bundle that train --out wrote, e.g. bundles/shop.")],
    item: Annotated[list[str], typer.Option(help="An item, e.g. sku-9; may be repeated.")],
    k: K = 10,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """The items that the model finds most alike."""
    _check_ending(out)
    model = _loaded(bundle)
    _give(model.similar_items(item, k), model, out, as_json, who="like_item")


@app.command("evaluate")
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

    cutoffs = _numbers(k)
    with Console(quiet=quiet) as console:
        model = _loaded(bundle)
        columns = Columns(user_col, item_col, time_col, kind_col, value_col, session_col)
        test = read_newer_events(model, events, columns, ordered, console.log)
        board = judge_bundle(
            model, test, protocol, cutoffs, not keep_seen, _split(exclude_kinds) if exclude_kinds else (), max_queries,
            Run(seed=seed, log=console.log),
        )  # fmt: skip
    print(json.dumps(board.to_json(), indent=1, ensure_ascii=False) if as_json else board.table())


@app.command("compare")
def compare_command(
    runs: Annotated[list[Path], typer.Argument(help="Run directories, e.g. runs/a runs/b.")],
    metrics: Annotated[
        str | None, typer.Option(help="Metrics to show, e.g. ndcg@10,recall@20. Default: what the runs rank by.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Put the leaderboards of several runs side by side, and say which are not comparable."""
    from foretaste.comparison import compare_runs

    compared = compare_runs(runs, () if metrics is None else _names(metrics, "--metrics"))
    print(json.dumps(compared.to_json(), indent=1, ensure_ascii=False) if as_json else compared.text())


@app.command("doctor")
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


def _run(console: Console, seed: int, device: str, threads: int | None, precision: Precision, compiled: bool) -> Run:
    import torch

    from foretaste.computing import check_compiler
    from foretaste.train import device_of, precision_of

    if threads is not None:
        torch.set_num_threads(threads)
    run = Run(seed, device, threads, precision, compiled, log=console.log, progress=console.progress)
    precision_of(run)  # a device that is not there shows now
    if compiled:
        check_compiler(device_of(run))
    return run


def _asked(model: Any, user: list[str] | None, users: str | None, history: str | None, queries: Path | None) -> Any:
    """What the options ask; exactly one way of asking must be given."""
    from foretaste.answers import asked_by_users
    from foretaste.histories import Asked
    from foretaste.storage import read_ids

    options = {"--user": user, "--users": users, "--history": history, "--queries": queries}
    given = [name for name, value in options.items() if value is not None]
    if len(given) != 1:
        raise ConfigError(f"Give exactly one of {', '.join(options)}; given: {', '.join(given) or 'none'}.")
    if queries is not None:
        return _asked_in_file(model, queries)
    if history is not None:
        fields = next(csv.reader([history], skipinitialspace=True), [])
        asked = model.ask([[item.strip() for item in fields if item.strip()]])
        return Asked(asked.queries, [None], unknown_items=asked.unknown_items)
    if model.histories is None:
        raise ConfigError("This bundle holds no histories, so it knows no users. Ask by --history, or train it again.")
    if users == "all":
        return model.ask(model.histories.users.lists())
    return asked_by_users(model, user if user is not None else read_ids(Path(str(users))))


def _asked_in_file(model: Any, path: Path) -> Any:
    from foretaste.answers import queries_of_json
    from foretaste.storage import check_exists

    try:
        if str(path) == "-":
            return queries_of_json(model, sys.stdin, "standard input")
        check_exists(path)
        with path.open(encoding="utf-8-sig") as lines:
            return queries_of_json(model, lines, str(path))
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text: {error}. Save it as UTF-8.") from error


def _give(top: Any, model: Any, out: Path | None, as_json: bool, who: str = "user_id") -> None:
    """Write or print an answer."""
    from foretaste.answer_files import write_frame

    frame = top.frame().rename({"user_id": who})
    if out is not None:
        write_frame(frame, out)
    if as_json:
        print(frame.write_json())
    elif out is None:
        titles = model.about.titles()
        rows = [[_shown(value) for value in row] for row in frame.iter_rows()]
        header = frame.columns
        if titles is not None:
            places = model.items.index(frame["item_id"].to_list())
            rows = [[*row, titles[place]] for row, place in zip(rows, places, strict=True)]
            header = [*header, "title"]
        _print_table(header, rows)


def _check_ending(out: Path | None) -> None:
    if out is not None and out.suffix.lower() not in (".csv", ".parquet"):
        raise ConfigError(f"--out {out}: the ending must be .csv or .parquet.")


def _shown(value: Any) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def _print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(cell) for cell in column) for column in zip(header, *rows, strict=True)]
    for row in (header, *rows):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _names(text: str, option: str) -> list[str]:
    names = _split(text)
    if not names:
        raise ConfigError(f"{option} is empty; give at least one name.")
    return names


def _numbers(text: str) -> tuple[int, ...]:
    numbers = tuple(int(part) for part in _split(text) if part.isascii() and part.isdigit())
    if len(numbers) < len(_split(text)) or min(numbers, default=0) < 1:
        raise ConfigError(f"-k takes whole numbers of at least 1, as in 5,10,20; this is {text!r}.")
    return numbers


def _listed(ids: Sequence[Any]) -> str:
    """The distinct ids, the first few by name."""
    names = [repr(each) for each in dict.fromkeys(ids)]
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED:,} more" if len(names) > NAMED else "")


def _command_line() -> str:
    import shlex

    return shlex.join(["foretaste", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
