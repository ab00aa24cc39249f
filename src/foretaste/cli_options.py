"""The options that several commands share, and the lists that stand in one option."""

from pathlib import Path
from typing import Annotated

import typer

from foretaste.console import Console
from foretaste.errors import ConfigError
from foretaste.run import Precision, Run

__all__ = [
    "AsJson",
    "Compile",
    "Cutoffs",
    "DataDir",
    "Device",
    "Events",
    "ItemCol",
    "Items",
    "K",
    "KindCol",
    "Kinds",
    "MinValue",
    "Ordered",
    "Out",
    "PrecisionOption",
    "Quiet",
    "Seed",
    "SessionCol",
    "Set",
    "Shown",
    "TensorBoard",
    "Threads",
    "TimeCol",
    "UserCol",
    "Users",
    "ValueCol",
    "names_of",
    "numbers_of",
    "run_of",
    "split_list",
]

Events = Annotated[
    str,
    typer.Argument(help="A log: file, folder or glob of CSV, TSV, JSON lines or Parquet, e.g. 'logs/*.csv.gz'."),
]
Items = Annotated[
    str | None, typer.Option("--items", help="A table of items, e.g. items.csv with item_id,title,category.")
]
Shown = Annotated[
    str | None,
    typer.Option("--impressions", help="Lists that were shown, e.g. shown.csv with request_id,user_id,item_id,click."),
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
    bool,
    typer.Option("--compile", help="Compile networks first, a minute or two, e.g. for a long fit on a GPU."),
]
TensorBoard = Annotated[
    Path | None, typer.Option("--tensorboard", help="A folder for curves of losses and validation, e.g. curves/try-1.")
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Say nothing but errors and results, e.g. in a cron job.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text, e.g. for jq.")]
K = Annotated[int, typer.Option("-k", help="Length of each list, e.g. 20.")]
Cutoffs = Annotated[str, typer.Option("-k", help="Cut-offs of the metrics, e.g. 5,10,20.")]
Set = Annotated[list[str] | None, typer.Option("--set", help="A setting, e.g. dim=128; may be repeated.")]
DataDir = Annotated[Path | None, typer.Option(help="Where published data lies, e.g. ./data. Default: FORETASTE_DATA.")]
Out = Annotated[Path | None, typer.Option("--out", help="Where to write, e.g. recommendations.csv or .parquet.")]


def split_list(text: str | None) -> list[str]:
    """The parts of a list with commas, without space around them; empty ones are left out. None: no parts."""
    return [part.strip() for part in (text or "").split(",") if part.strip()]


def names_of(text: str, option: str) -> list[str]:
    """The names in a list with commas.

    Raises:
        ConfigError: There is none.
    """
    names = split_list(text)
    if not names:
        raise ConfigError(f"{option} is empty; give at least one name.")
    return names


def numbers_of(text: str) -> tuple[int, ...]:
    """The cut-offs in a list with commas.

    Raises:
        ConfigError: One is not a whole number of at least 1, or there is none.
    """
    numbers = tuple(int(part) for part in split_list(text) if part.isascii() and part.isdigit())
    if len(numbers) < len(split_list(text)) or min(numbers, default=0) < 1:
        raise ConfigError(f"-k takes whole numbers of at least 1, as in 5,10,20; this is {text!r}.")
    return numbers


def run_of(
    console: Console, seed: int, device: str, threads: int | None, precision: Precision, compiled: bool = False
) -> Run:
    """How a command computes, as its options say.

    Raises:
        ConfigError: The device, the precision or a compiler is not to be had.
    """
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
