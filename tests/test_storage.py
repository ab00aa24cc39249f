"""Files: whole or not at all, and never without noticing that one was changed."""

import contextlib
import json
import subprocess
import sys

import numpy as np
import pytest

from foretaste.errors import BundleError, ForetasteError
from foretaste.storage import (
    checksum,
    part,
    prefixed,
    read_arrays,
    read_json,
    sealed,
    staged_file,
    staged_folder,
    write_arrays,
    write_json,
    write_sealed,
)


def test_a_folder_appears_only_when_it_is_whole(tmp_path):
    with pytest.raises(RuntimeError, match="half way"), staged_folder(tmp_path / "new", marker="m") as aside:
        (aside / "m").write_text("1")
        raise RuntimeError("half way")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_replacement_leaves_the_old_folder(tmp_path):
    with staged_folder(tmp_path / "kept", marker="m") as aside:
        (aside / "m").write_text("old")
    with pytest.raises(RuntimeError, match="half way"), staged_folder(tmp_path / "kept", marker="m") as aside:
        (aside / "m").write_text("new")
        raise RuntimeError("half way")
    assert (tmp_path / "kept" / "m").read_text() == "old"
    assert [each.name for each in tmp_path.iterdir()] == ["kept"]


def test_a_folder_of_the_same_kind_and_an_empty_one_are_replaced(tmp_path):
    (tmp_path / "place").mkdir()
    for content in ("first", "second"):
        with staged_folder(tmp_path / "place", marker="m") as aside:
            (aside / "m").write_text(content)
        assert (tmp_path / "place" / "m").read_text() == content
    assert [each.name for each in tmp_path.iterdir()] == ["place"]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_is_not_ours_is_left_alone(tmp_path, kind):
    place = tmp_path / "mine"
    if kind == "folder":
        place.mkdir()
        (place / "x").write_text("x")
    else:
        place.write_text("x")
    complaint = "mine exists and is no folder with a m; it is left alone"
    with pytest.raises(ForetasteError, match=complaint), staged_folder(place, marker="m"):
        pass
    assert place.exists()


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(ForetasteError, match=r"Cannot write .*file/below: "),
        staged_folder(tmp_path / "file" / "below", marker="m"),
    ):
        pass
    with pytest.raises(ForetasteError, match=r"Cannot write .*file/below: "), staged_file(tmp_path / "file" / "below"):
        pass
    with pytest.raises(ForetasteError, match="it is a folder"), staged_file(tmp_path):
        pass


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from foretaste.errors import ForetasteError
from foretaste.storage import staged_folder, write_arrays, write_json
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
for write in (lambda path: write_arrays(path, {"a": np.zeros(9999)}), lambda path: write_json(path, ["x"] * 9999)):
    try:
        with staged_folder(Path(sys.argv[1]) / "out", marker="m") as aside:
            write(aside / "m")
    except ForetasteError as error:
        print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on file sizes")
def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path):
    done = subprocess.run([sys.executable, "-c", FULL_DISK, tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("Cannot write ") and "File too large" in line for line in lines)
    assert list(tmp_path.iterdir()) == []


def test_json_comes_back_and_nan_is_refused(tmp_path):
    write_json(tmp_path / "a.json", {"häh": [1, None, "🛒"]})
    assert read_json(tmp_path / "a.json") == {"häh": [1, None, "🛒"]}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "b.json", {"x": float("nan")})
    assert [each.name for each in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe"])
def test_torn_files_are_named(tmp_path, content):
    path = tmp_path / "torn"
    path.write_bytes(content)
    for read in (read_json, read_arrays):
        with pytest.raises(BundleError, match="torn cannot be read"):
            read(path)
        with pytest.raises(BundleError, match="gone cannot be read"):
            read(tmp_path / "gone")


def test_arrays_of_every_shape_come_back(tmp_path):
    arrays = {
        "fortran": np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3)),
        "empty": np.empty((0, 3), np.int32),
        "strided": np.arange(10)[::2],
        "bytes": np.arange(3, dtype=np.uint8),
        "flags": np.array([True, False]),
    }
    write_arrays(tmp_path / "a.safetensors", arrays)
    again = read_arrays(tmp_path / "a.safetensors")
    assert set(again) == set(arrays)
    for name, array in arrays.items():
        assert again[name].dtype == array.dtype
        assert np.array_equal(again[name], array)


def test_names_with_a_prefix_are_found_by_it():
    arrays = {**prefixed("user", {"a": np.zeros(1)}), **prefixed("users", {"b": np.ones(1)})}
    assert list(part(arrays, "user")) == ["a"]
    assert list(part(arrays, "users")) == ["b"]


def test_a_seal_breaks_at_any_change(tmp_path):
    path = tmp_path / "index.json"
    write_sealed(path, {"name": "café", "numbers": [1, 2.5, -0.0, 1e-30], "pair": (1, 2), "none": None})
    assert sealed(path)
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with contextlib.suppress(BundleError):
            assert not sealed(path), place
    path.write_bytes(whole.replace(b"\n", b"\r\n"))
    assert not sealed(path)
    path.write_text(json.dumps(json.loads(whole)))
    assert not sealed(path)


def test_checksums_tell_files_apart(tmp_path):
    for name, content in {"a": b"1", "b": b"1", "c": b"2"}.items():
        (tmp_path / name).write_bytes(content)
    a, b, c = (checksum(tmp_path / name) for name in "abc")
    assert a == b != c
