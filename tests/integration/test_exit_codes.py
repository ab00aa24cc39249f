"""0 done, 2 the call or the data is at fault, 130 Ctrl-C: every way to end, each in one line on standard error."""

import contextlib
import json
import re
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from foretaste.cli import app, main
from foretaste.exit_codes import exit_code

Call = Callable[..., Any]


def commands() -> dict[str, Any]:
    """By what is typed; of a group of commands each of them."""
    found: dict[str, Any] = {}
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        group = getattr(command, "commands", None)
        found |= {name: command} if group is None else {f"{name} {each}": one for each, one in group.items()}
    return found


def test_the_commands_are_those_of_the_contract() -> None:
    expected = "run, datasets, validate, train, recommend, similar, evaluate, compare, doctor, rank train, rank predict"
    assert list(commands()) == expected.split(", ")


@pytest.mark.parametrize("name", commands())
def test_every_option_and_argument_has_help_with_an_example(name: str, foretaste: Call) -> None:
    for each in commands()[name].params:
        if each.name != "help":
            assert re.search(r"e\.g\. \S", each.help or ""), f"{name} {each.opts}: {each.help}"
    ended = foretaste(*name.split(), "--help")
    assert ended.code == 0
    assert f"Usage: foretaste {name}" in ended.out
    assert ended.err == ""


def test_the_list_of_commands_breaks_off_in_no_sentence(foretaste: Call) -> None:
    ended = foretaste("--help")
    assert all(name.split()[0] in ended.out for name in commands())
    assert "..." not in ended.out.partition("Commands:")[2]
    assert "..." not in foretaste("rank", "--help").out.partition("Commands:")[2]


LOG_COLUMNS = "--user-col --item-col --time-col --kind-col --value-col --session-col --ordered"
HOW = "--seed --device --threads --precision --compile --tensorboard --quiet"
OPTIONS = {
    "run": f"--models --seeds --max-queries --data-dir --out --set --resume {HOW}",
    "datasets": "--data-dir --json",
    "validate": f"--items --users {LOG_COLUMNS} --kinds --min-value --json",
    "train": "--model --out --items --users --impressions --validate-by --refit --with-histories --eight-bit --index "
    f"--set --resume {LOG_COLUMNS} --kinds --min-value {HOW}",
    "recommend": "--user --users --history --queries -k --keep-seen --exclude-kinds --only --exclude --new-items "
    f"--events --out --json --quiet {LOG_COLUMNS}",
    "similar": "--item -k --out --json",
    "evaluate": f"--events --protocol -k --keep-seen --exclude-kinds --max-queries --json --seed --quiet {LOG_COLUMNS}",
    "compare": "--metrics --json",
    "doctor": "--users --items --events --json",
    "rank train": "--out --config --tasks --validation --request-col --set --seed --device --threads --precision "
    "--tensorboard --quiet",
    "rank predict": "--out --request-col --device --threads --quiet",
}


@pytest.mark.parametrize("name", OPTIONS)
def test_the_options_are_those_of_the_contract(name: str) -> None:
    options = {each.opts[0] for each in commands()[name].params if each.opts[0].startswith("-")}
    assert options - {"--help"} == set(OPTIONS[name].split())


# What is called, and what standard error must say. LOG and BUNDLE are there; NOTHING is not.
WRONG_CALLS = {
    "no command": ("", r"Usage: foretaste .*\n"),
    "unknown command": ("similr LOG", r"No such command 'similr'. Did you mean 'similar'\?"),
    "unknown option": ("train LOG --mdel popular --out b", r"Unknown option '--mdel' - did you mean '--model'\?"),
    "unknown option with a value": ("doctor --user=3", r"Unknown option '--user' - did you mean '--users'\?"),
    "option without its value": ("train LOG --out", r"Option '--out' requires an argument"),
    "lacking option": ("train LOG --model popular", r"Missing option '--out'\. See 'foretaste train --help'"),
    "lacking argument": ("validate", "Missing argument 'events'"),
    "too many arguments": ("validate LOG LOG", "unexpected extra argument"),
    "unknown choice": (
        "train LOG --model popular --out b --validate-by lst",
        r"--validate-by: 'lst' is not one of 'last', 'time', 'none' - did you mean 'last'\?",
    ),
    "no number": ("recommend BUNDLE --user 001 -k ten", r"-k: input should be a valid integer.*\(given: 'ten'\)"),
    "k of nothing": ("recommend BUNDLE --user 001 -k 0", "k must be at least 1; it is 0"),
    "negative k": ("similar BUNDLE --item sku-100 -k -1", "k must be at least 1; it is -1"),
    "cut-off of nothing": ("evaluate BUNDLE --events LOG -k 5,0", r"-k takes whole numbers of at least 1.*'5,0'"),
    "cut-off that is no number": ("evaluate BUNDLE --events LOG -k five", r"-k takes whole numbers.*'five'"),
    "no cut-off": ("evaluate BUNDLE --events LOG -k ,", r"-k takes whole numbers"),
    "no thread": ("train LOG --model popular --out b --threads 0", r"--threads: .* 1 \(given: '0'\)"),
    "no seed": ("run demo --seeds 0", r"--seeds: .* 1 \(given: '0'\)"),
    "unknown protocol": ("evaluate BUNDLE --events LOG --protocol latr", r"'latr' is not one of .*mean 'later'"),
    "unknown model": ("train LOG --model sasrc --out b", r"Unknown model 'sasrc' - did you mean 'sasrec'\?"),
    "unknown model of a recipe": ("run demo --models ese", r"Unknown model 'ese' - did you mean 'ease'\?"),
    "no model of a recipe": ("run demo --models ,", "--models is empty"),
    "unknown recipe": ("run dmeo", r"Unknown recipe 'dmeo' - did you mean 'demo'\?"),
    "unknown recipe file": ("run tiny.yml", r"There is no file or folder tiny\.yml"),
    "unknown key": (
        "train LOG --model ease --out b --set l=3",
        r"ease: unknown key 'l' - did you mean 'l2'\? Known keys: binary",
    ),
    "unknown nested key": (
        "train LOG --model sasrec --out b --set plan.epohs=3",
        r"unknown key 'plan\.epohs' - did you mean 'epochs'\?",
    ),
    "unknown key of a recipe": (
        "run demo --set models.sasrec.dmi=3",
        r"models\.sasrec: unknown key 'dmi' - did you mean 'dim'\?",
    ),
    "unknown split": ("run demo --set split.kind=by_tim", r"unknown split\.kind 'by_tim' - did you mean 'by_time'\?"),
    "setting without a value": ("train LOG --model ease --out b --set l2", r"--set takes key=value.*this is 'l2'"),
    "setting of the wrong type": ("train LOG --model ease --out b --set l2=soft", r"l2: input should be .*'soft'"),
    "unknown file": (
        "train LOGG --model popular --out b",
        r"There is no file .*shop\.csvv - did you mean 'shop\.csv'\?",
    ),
    "unknown file of items": (
        "validate LOG COLUMNS --items LOGG",
        r"There is no file .*csvv - did you mean 'shop\.csv'\?",
    ),
    "unknown file of impressions": (
        "train LOG COLUMNS --model popular --out b --impressions LOGG",
        r"There is no file .*csvv - did you mean 'shop\.csv'\?",
    ),
    "unknown column": ("validate LOG --user-col woh", r"'woh' - did you mean 'who'\?"),
    "unknown kind": ("train LOG --model popular --out b COLUMNS --kinds view<cart", "'buy'"),
    "unknown hidden kind": (
        "recommend BUNDLE --user 001 --exclude-kinds byu",
        r"Unknown event kind 'byu' - did you mean 'buy'\?",
    ),
    "unknown item": ("similar BUNDLE --item sku-1O0", r"Unknown item 'sku-1O0' - did you mean 'sku-1.0'\?"),
    "unknown bundle": ("recommend BUNDLEE --user 001", r"There is no file or folder .* - did you mean 'itemknn'\?"),
    "no bundle": ("recommend LOG --user 001", r"shop\.csv is not a folder; a bundle is"),
    "unknown run": ("compare NOTHING", "There is no file or folder NOTHING"),
    "unknown list of users": ("recommend BUNDLE --users NOTHING", "There is no file or folder NOTHING"),
    "unknown list of items": ("recommend BUNDLE --user 001 --only NOTHING", "There is no file or folder NOTHING"),
    "new items": ("recommend BUNDLE --user 001 --new-items LOG", "This itemknn knows items by their events alone"),
    "unknown queries": ("recommend BUNDLE --queries NOTHING", "There is no file or folder NOTHING"),
    "nobody asked": ("recommend BUNDLE", "Give exactly one of --user, --users, --history, --queries; given: none"),
    "two ways of asking": ("recommend BUNDLE --user 001 --history sku-100", "given: --user, --history"),
    "unknown ending": ("recommend BUNDLE --user 001 --out a.xlsx", r"--out a\.xlsx: the ending must be \.csv or"),
    "unknown device": ("train LOG --model popular --out b COLUMNS --device gpu", "no device 'gpu'; use auto, cpu"),
    "precision of a GPU": (
        "train LOG --model popular --out b COLUMNS --device cpu --precision fp16",
        "fp16 needs a GPU",
    ),
    "half of the counts": ("doctor --users 5", "give all of --users, --items and --events"),
}


@pytest.mark.parametrize("name", WRONG_CALLS)
def test_a_wrong_call_is_2_and_says_what_was_meant(
    name: str, foretaste: Call, shop_log: Path, bundle: Path, columns: tuple[str, ...], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    line, message = WRONG_CALLS[name]
    known = {"LOG": [shop_log], "LOGG": [f"{shop_log}v"], "BUNDLE": [bundle], "BUNDLEE": [f"{bundle}n"]}
    known["COLUMNS"] = list(columns)
    arguments = [word for part in line.split() for word in known.get(part, [part])]
    ended = foretaste(*arguments)
    assert ended.code == 2
    assert ended.out == ""
    if name != "no command":
        assert re.search(message, ended.complaint), ended.err
    assert re.search(message, ended.err)
    assert list(tmp_path.iterdir()) == []


def test_a_defect_of_ours_is_raised_and_thus_1() -> None:
    def broken() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        exit_code(broken)
    with pytest.raises(RuntimeError, match="ours"):
        exit_code(lambda: _raise(RuntimeError("ours")))


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (KeyboardInterrupt(), 130, "interrupted; nothing half-written is left"),
        (MemoryError(), 2, "error: Not enough memory. 'foretaste doctor"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), 2, "error: Not enough memory"),
        (PermissionError(13, "Permission denied", "there"), 2, "error: there: Permission denied."),
        (OSError(28, "No space left on device"), 2, "error: Standard output: No space left on device."),
        (BrokenPipeError(), 0, ""),
    ],
)
def test_every_other_end_has_its_code_and_one_line(
    error: BaseException, code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(lambda: _raise(error)) == code
    said = capsys.readouterr().err
    assert said.strip().startswith(message)
    assert len(said.strip().splitlines()) <= 1


def _raise(error: BaseException) -> None:
    raise error


def test_only_results_are_on_standard_output(
    foretaste: Call, shop_log: Path, columns: tuple[str, ...], tmp_path: Path
) -> None:
    loud = foretaste("train", shop_log, "--model", "popular", "--out", tmp_path / "b", *columns)
    assert (loud.code, loud.out) == (0, f"{tmp_path / 'b'}\n")
    assert "kind: column 'behavior'" in loud.err
    quiet = foretaste("train", shop_log, "--model", "popular", "--out", tmp_path / "b", *columns, "--quiet")
    assert (quiet.code, quiet.out, quiet.err) == (0, loud.out, "")


@pytest.mark.parametrize("arguments", [("datasets",), ("datasets", "--json")])
def test_a_reader_that_has_read_enough_is_no_error(arguments: tuple[str, ...], process: Call, tmp_path: Path) -> None:
    work = process(*arguments, cwd=tmp_path)
    work.stdout.close()  # as head does
    assert work.wait(60) == 0
    assert work.stderr.read() == ""
    work.stderr.close()


def test_a_full_disk_under_standard_output_is_2(process: Call, tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        work = process("datasets", cwd=tmp_path, stdout=full)
        _, err = work.communicate(timeout=60)
    assert work.returncode == 2
    assert err == "error: Standard output: No space left on device.\n"


@pytest.fixture
def long_log(tmp_path: Path) -> Path:
    """Enough events for an epoch to take a noticeable time."""
    path = tmp_path / "log.csv"
    lines = (f"u{place * 7 % 301},i{place * place % 211},{1_700_000_000 + place}\n" for place in range(6000))
    path.write_text("user_id,item_id,timestamp\n" + "".join(lines))
    return path


def lines_until(work: subprocess.Popen[str], text: str) -> Iterator[str]:
    """The lines on standard error, up to one that holds the text."""
    for line in work.stderr or ():
        yield line
        if text in line:
            return
    raise AssertionError(f"{text!r} was never said")


def test_ctrl_c_in_a_fit_is_130_and_the_fit_goes_on_as_if_nothing_had_been(
    process: Call, foretaste: Call, long_log: Path, tmp_path: Path
) -> None:
    settings = ("--model", "sasrec", "--set", "dim=16", "--set", "plan.epochs=5", "--set", "plan.patience=null")
    work = process("train", long_log, "--out", "out/b", *settings, cwd=tmp_path)
    said = list(lines_until(work, "epoch 2/"))
    work.send_signal(signal.SIGINT)
    out, rest = work.communicate(timeout=60)
    assert (work.returncode, out) == (130, "")
    assert rest.rstrip().endswith("interrupted; nothing half-written is left. run and train go on with --resume.")
    assert "Traceback" not in "".join(said) + rest
    assert [each.name for each in (tmp_path / "out").iterdir()] == [".b-checkpoint"]

    ended = foretaste("train", long_log, "--out", tmp_path / "out/b", *settings, "--resume")
    assert ended.code == 0
    assert "resumed after epoch" in ended.err
    assert "epoch 1/" not in ended.err
    assert [each.name for each in (tmp_path / "out").iterdir()] == ["b"]
    whole = foretaste("train", long_log, "--out", tmp_path / "whole", *settings)
    assert whole.code == 0
    first, second = (
        foretaste("recommend", each, "--users", "all", "--json") for each in (tmp_path / "out/b", whole.out.strip())
    )
    assert first.json == second.json


def test_a_killed_run_goes_on_and_ends_as_one_that_was_not(process: Call, foretaste: Call, tmp_path: Path) -> None:
    recipe = tmp_path / "slow.yaml"
    recipe.write_text(
        "data: {shop: {users: 60, items: 64, events: 900, categories: 4}}\n"
        "split: {kind: leave_one_out}\n"
        "models: {ease: {}, sasrec: {dim: 16, length: 20, plan: {epochs: 12, patience: null}}}\n"
        "evaluation: {k: [5, 10]}\n"
    )
    work = process("run", recipe, "--out", "r", cwd=tmp_path)
    list(lines_until(work, "sasrec epoch 3/"))
    work.kill()
    work.communicate(timeout=60)
    assert (tmp_path / "r/models/ease/model.json").exists()
    assert not (tmp_path / "r/models/sasrec").exists()
    (tmp_path / "r/checkpoints/.sasrec-cut-off").mkdir()  # as of one that was killed while it wrote a checkpoint
    ended = foretaste("run", recipe, "--out", tmp_path / "r", "--resume")
    assert ended.code == 0
    for finished in ("popular", "recentpopular", "itemknn", "ease"):
        assert f"{finished}: already fitted" in ended.err
        assert f"{finished}: fitting" not in ended.err
    assert "resumed after epoch" in ended.err
    assert "sasrec epoch 1/" not in ended.err
    whole = foretaste("run", recipe, "--out", tmp_path / "whole")
    assert whole.code == 0
    boards = [json.loads((tmp_path / folder / "leaderboard.json").read_text()) for folder in ("r", "whole")]
    first, second = ({each["name"]: each["metrics"] for each in board["models"]} for board in boards)
    assert first == second
    assert not any(each.name.startswith(".") for each in (tmp_path / "r").rglob("*"))


@contextlib.contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """The nearest to a full disk that a test can have: nothing can be written beyond so many bytes of a file."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("what", ["train", "csv", "parquet", "run"])
def test_a_full_disk_is_2_and_leaves_nothing_half_written(
    what: str, foretaste: Call, bundle: Path, shop_log: Path, recipe: Path, columns: tuple[str, ...], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    lists = ("recommend", bundle, "--users", "all", "-k", "16", "--keep-seen", "--out")
    calls = {
        "train": (3000, "train", shop_log, "--model", "ease", "--out", out / "b", *columns),
        "csv": (700, *lists, out / "b.csv"),
        "parquet": (700, *lists, out / "b.parquet"),
        "run": (3000, "run", recipe, "--out", out / "r", "--quiet"),
    }
    size, *arguments = calls[what]
    with files_of_at_most(size):
        ended = foretaste(*arguments)
    assert (ended.code, ended.out) == (2, "")
    assert "File too large" in ended.complaint
    assert str(out) in ended.complaint
    left = {each.relative_to(out).as_posix() for each in out.rglob("*") if each.is_file()}
    assert left <= {"r/recipe.yaml", "r/log.jsonl"}


PLACES = {
    "a file": ("taken", r"taken exists and is no folder with a model\.json; it is left alone"),
    "a folder of other things": ("full", r"full exists and is no folder with a model\.json; it is left alone"),
    "below a file": ("taken/b", r"Cannot write taken/b: "),
    "nowhere": ("/proc/nowhere/b", r"Cannot write /proc/nowhere/b: "),
}


@pytest.mark.parametrize("name", PLACES)
def test_a_place_that_cannot_be_written_is_said_before_the_work(
    name: str,
    foretaste: Call,
    shop_log: Path,
    columns: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("taken").write_text("precious")
    Path("full").mkdir()
    Path("full/letter").write_text("precious")
    place, message = PLACES[name]
    ended = foretaste("train", shop_log, "--model", "popular", "--out", place, *columns)
    assert ended.code == 2
    assert re.match(message, ended.complaint)
    assert "data:" not in ended.err
    assert Path("taken").read_text() == Path("full/letter").read_text() == "precious"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["full", "taken"]


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("taken", "--out taken is a file; name a folder"),
        ("full", "--out full holds other things than a run; it is left alone"),
        ("taken/r", "Cannot write to taken/r: Not a directory"),
    ],
)
def test_a_run_never_takes_the_place_of_other_things(
    place: str, message: str, foretaste: Call, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("taken").write_text("precious")
    Path("full").mkdir()
    Path("full/letter").write_text("precious")
    ended = foretaste("run", recipe, "--out", place)
    assert ended.code == 2
    assert ended.complaint.startswith(message)
    assert Path("taken").read_text() == Path("full/letter").read_text() == "precious"


@pytest.mark.parametrize("out", ["taken/list.csv", "full", "full.csv"])
def test_a_list_that_cannot_be_written_is_2(
    out: str, foretaste: Call, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("taken").write_text("precious")
    Path("full.csv").mkdir()
    ended = foretaste("recommend", bundle, "--user", "001", "--out", out)
    assert ended.code == 2
    assert out in ended.complaint
    assert sorted(each.name for each in tmp_path.rglob("*")) == ["full.csv", "taken"]


def test_a_recipe_that_fails_on_its_data_leaves_an_earlier_run_alone(
    foretaste: Call, recipe: Path, tmp_path: Path
) -> None:
    assert foretaste("run", recipe, "--out", tmp_path / "r", "--models", "ease").code == 0
    before = {
        each: each.read_bytes() for each in (tmp_path / "r").rglob("*") if each.is_file() and each.name != "log.jsonl"
    }
    ended = foretaste("run", recipe, "--out", tmp_path / "r", "--set", "data.min_value=99")
    assert ended.code == 2
    assert "No event of simulated is left" in ended.complaint
    assert before == {each: each.read_bytes() for each in before}


@pytest.mark.parametrize("file", ["weights.safetensors", "catalog.safetensors", "histories.safetensors", "model.json"])
@pytest.mark.parametrize("harm", ["edited", "torn", "missing"])
def test_a_harmed_bundle_is_refused_with_the_file_named(
    file: str, harm: str, foretaste: Call, bundle: Path, tmp_path: Path
) -> None:
    shutil.copytree(bundle, tmp_path / "b")
    path = tmp_path / "b" / file
    content = path.read_bytes()
    middle = len(content) // 2
    if harm == "missing":
        path.unlink()
    else:
        path.write_bytes(content[:middle] if harm == "torn" else content[:middle] + b"7" + content[middle + 1 :])
    for command in (("recommend", "--history", "sku-100"), ("similar", "--item", "sku-100")):
        ended = foretaste(command[0], tmp_path / "b", *command[1:])
        assert ended.code == 2
        assert str(path) in ended.complaint or (file == "model.json" and "holds no model.json" in ended.complaint)


def test_a_bundle_of_a_newer_format_is_refused(foretaste: Call, bundle: Path, tmp_path: Path) -> None:
    shutil.copytree(bundle, tmp_path / "b")
    index = json.loads((tmp_path / "b/model.json").read_text())
    (tmp_path / "b/model.json").write_text(json.dumps({**index, "format": 99}))
    ended = foretaste("recommend", tmp_path / "b", "--user", "001")
    assert ended.code == 2
    assert re.search(r"model\.json has format 99; this version reads \d+\. Update Foretaste", ended.complaint)


def test_the_script_and_the_module_are_the_same_command(process: Call, tmp_path: Path) -> None:
    work = process("doctor", "--nonsense", cwd=tmp_path)
    _, err = work.communicate(timeout=60)
    assert work.returncode == 2
    assert err.startswith("error: Unknown option '--nonsense'")
    assert main(["doctor", "--nonsense"]) == 2


def test_help_is_quick(process: Call, tmp_path: Path) -> None:
    began = time.monotonic()
    work = process("--help", cwd=tmp_path)
    out, _ = work.communicate(timeout=60)
    assert "Usage: foretaste" in out
    assert time.monotonic() - began < 5  # seconds; torch alone takes more on a busy core
