"""How a run looks: everything beside the results, in lines where there is no terminal, and again as JSON lines."""

import io
import json
import sys
from pathlib import Path

import pytest

from foretaste import console as module
from foretaste.console import Console
from foretaste.errors import ConfigError


def test_messages_go_to_standard_error_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    with Console() as console:
        console.log("fitted [bold] :smile: https://x " + "long " * 60)
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == "fitted [bold] :smile: https://x " + "long " * 60 + "\n"


def test_quiet_says_nothing_and_still_keeps_the_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Console(quiet=True, log_file=tmp_path / "log.jsonl") as console:
        console.log("epoch 1", {"loss": 0.5, "score": float("nan")})
        console.log("übrig")
        console.progress("sasrec", 1, 2, "fast")
    assert capsys.readouterr() == ("", "")
    first, second = map(json.loads, (tmp_path / "log.jsonl").read_text(encoding="utf-8").splitlines())
    assert (first["message"], first["numbers"]) == ("epoch 1", {"loss": 0.5, "score": None})
    assert second["message"] == "übrig"
    assert "numbers" not in second
    assert second["time"] >= first["time"] > 1_700_000_000


def test_a_log_is_gone_on_with(tmp_path: Path) -> None:
    for message in ("first", "second"):
        with Console(quiet=True, log_file=tmp_path / "log.jsonl") as console:
            console.log(message)
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["message"] for line in lines] == ["first", "second"]


def test_without_a_terminal_progress_is_a_line_now_and_then_with_the_time_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 100.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    with Console() as console:
        for done in range(0, 101, 10):
            console.progress("sasrec", done * 1000, 100_000, "9,000 events/s")
            now += 4.0
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "sasrec: 30,000/100,000 9,000 events/s, 0:00:28 left"
    assert len(lines) == 3, "one in ten seconds, and none for the end"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_in_a_terminal_progress_is_a_bar_that_goes_away(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with Console() as console:
        console.progress("sasrec", 10, 100, "9,000 events/s")
        console.log("epoch 1")
        console.progress("als", 100, 100, "")
    shown = terminal.getvalue()
    assert "sasrec" in shown
    assert "9,000 events/s" in shown
    assert "epoch 1" in shown
    assert "\x1b[2K" in shown.split("epoch 1")[1], "the line of the bar is erased"


class Broken(io.StringIO):
    def __init__(self, error: OSError) -> None:
        super().__init__()
        self.error = error

    def write(self, text: str) -> int:
        raise self.error


@pytest.mark.parametrize("error", [BrokenPipeError(32, "Broken pipe"), OSError(28, "No space left on device")])
def test_the_work_goes_on_where_nobody_listens(error: OSError, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "stderr", Broken(error))
    with Console(log_file=tmp_path / "log.jsonl") as console:
        for number in range(3):
            console.log(f"epoch {number}")
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 3


def test_the_log_file_is_closed_when_the_work_fails(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), Console(quiet=True, log_file=tmp_path / "log.jsonl") as console:
        console.log("begun")
        raise ZeroDivisionError
    assert "begun" in (tmp_path / "log.jsonl").read_text()


def test_numbers_of_epochs_become_curves(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with Console(quiet=True, curves=tmp_path / "curves") as console:
        console.log("sasrec: fitting")
        console.log("resumed after epoch 1", {"epoch": 1.0})
        for epoch in (1, 2):
            console.log(
                f"sasrec epoch {epoch}/2: loss", {"epoch": float(epoch), "loss": 1.0 / epoch, "validation": 0.1 * epoch}
            )
        console.log("sasrec epoch 1/2: loss", {"epoch": 1.0, "loss": 7.0})
    found = EventAccumulator(str(tmp_path / "curves"))
    found.Reload()
    assert sorted(found.Tags()["scalars"]) == ["sasrec 2/loss", "sasrec/loss", "sasrec/validation"]
    assert [(each.step, each.value) for each in found.Scalars("sasrec/loss")] == [(1, 1.0), (2, 0.5)]
    assert [(each.step, each.value) for each in found.Scalars("sasrec 2/loss")] == [(1, 7.0)]


def test_curves_name_what_they_need(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ConfigError, match=r"pip install 'foretaste\[track\]'"):
        Console(curves=tmp_path)
