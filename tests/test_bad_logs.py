"""Every way in which a log can be bad: one clear sentence, or a counted repair."""

import gzip
import io
import json
import random
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from foretaste.errors import DataError
from foretaste.events import inspect_events, read_events

GOOD = "user_id,item_id,timestamp\n" + "".join(f"u{n % 7},i{n % 5},{1_700_000_000 + n}\n" for n in range(60))


def parquet(frame: pl.DataFrame | None = None) -> bytes:
    buffer = io.BytesIO()
    (pl.read_csv(io.StringIO(GOOD)) if frame is None else frame).write_parquet(buffer)
    return buffer.getvalue()


def noise(size: int) -> bytes:
    return random.Random(7).randbytes(size)


ERRORS = {
    "empty": ("log.csv", b"", r"log\.csv is empty"),
    "blank": ("log.csv", b"\n \n", r"log\.csv is empty"),
    "empty gzip": ("log.csv.gz", gzip.compress(b""), r"log\.csv\.gz is empty"),
    "header only": ("log.csv", b"user_id,item_id\n", r"log\.csv has a header and no events"),
    "header only, no newline": ("log.csv", b"user_id,item_id", r"log\.csv has a header and no events"),
    "no rows in Parquet": ("log.parquet", parquet(pl.DataFrame({"user": [], "item": []})), "a header and no events"),
    "no user": (
        "log.csv",
        b"who,item_id\na,b\n",
        r"no column that looks like the user; it has who.*--user-col",
    ),
    "no item": ("log.csv", b"user_id,what\na,b\n", r"no column that looks like the item; .*--item-col"),
    "no header": ("log.csv", b"A1,B0,5.0,1318896000\n", r"line 1 is data \(A1,B0,5\.0,1318896000\), not a header"),
    "five columns, no header": ("u.user", b"1,2,3,4,5\n", "line 1 is data"),
    "a column twice": ("log.csv", b"user,item,user\na,b,c\n", r"line 1 names the column 'user' twice"),
    "one column": ("log.csv", b"user item\na b\n", r"line 1 has a single column, 'user item'"),
    "double colons": ("log.dat", b"1::2::5::97\n", r"split by '::'.*by a tab"),
    "many long rows": ("log.csv", b"user,item\n" + b"a,b\n" * 5 + b"a,b,c\n" * 5, r"5 of 10 rows do not have 2 fields"),
    "many short rows": ("log.csv", b"user,item\n" + b"a,b\n" * 5 + b"a\n" * 5, r"5 of 10 rows .*the first is line 7"),
    "open quote": ("log.csv", b'user,item\na,b\nc,"d\ne,f\n', r"log\.csv line 3 opens a quote that is never closed"),
    "open quote, no newline": ("log.csv", b'user,item\na,b\nc,"d\ne,f', r"line 3 opens a quote"),
    "random bytes": ("log.csv", noise(5000), r"log\.csv is no text: it begins with b"),
    "few random bytes": ("log.csv", noise(40), r"log\.csv is no text"),
    "random bytes as Parquet": ("log.parquet", noise(5000), r"log\.parquet is no Parquet file"),
    "random bytes as gzip": ("log.csv.gz", noise(5000), r"log\.csv\.gz is not packed as its name says"),
    "text as gzip": ("log.csv.gz", GOOD.encode(), r"not packed as its name says \(\.gz\)"),
    "broken gzip": ("log.csv.gz", gzip.compress(GOOD.encode())[:-30], r"log\.csv\.gz is torn or damaged"),
    "damaged gzip": ("log.csv.gz", gzip.compress(GOOD.encode())[:-8] + b"12345678", r"log\.csv\.gz is torn or damaged"),
    "broken Zstandard": (
        "log.csv.zst",
        pa.Codec("zstd").compress(noise(9000).hex().encode(), True)[:-300],
        r"log\.csv\.zst is torn or damaged",
    ),
    "truncated Parquet": ("log.parquet", parquet()[:-20], r"log\.parquet is torn or damaged"),
    "Parquet with a hole": ("log.parquet", b"PAR1" + bytes(200) + parquet()[204:], r"log\.parquet is torn or damaged"),
    "broken gzip of Parquet": ("log.parquet.gz", gzip.compress(parquet())[:-30], r"is torn or damaged"),
    "broken gzip of JSON": ("log.jsonl.gz", gzip.compress(b'{"user":1,"item":2}\n' * 99)[:-9], r"is torn or damaged"),
    "zip": ("log.zip", b"PK\x03\x04" + bytes(30), r"is a zip archive"),
    "JSON list": ("log.json", b'[{"user": 1}]', r"begins with '\['"),
    "broken JSON": ("log.json", b'{"user": 1,\n"item": 2}\n', r"line 1 is no JSON object"),
    "much broken JSON": ("log.json", b'{"user":1,"item":2}\n' * 5 + b"oops\n" * 5, r"5 of 10 lines .*first is line 6"),
    "all users missing": ("log.csv", b"user,item\n,a\n,b\n", r"No event of .*log\.csv is left: 2 rows without a user"),
    "no readable time": (
        "log.csv",
        b"user,item,time\na,b,soon\n",
        r"'time' has no times .*, such as 'soon'",
    ),
    "all times missing": ("log.csv", b"user,item,time\na,b,\n", r"No event .* is left: 1 rows without a time"),
    "lists as identifiers": ("log.json", b'{"user":[1],"item":2}\n', r"Column 'user' holds List.*identifies nothing"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_a_log_that_cannot_be_read_is_named_in_one_sentence(tmp_path: Path, name: str) -> None:
    file, content, message = ERRORS[name]
    path = tmp_path / file
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_events(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("evnts.csv", r"There is no file .*evnts\.csv - did you mean 'events\.csv'\?"),
        ("nowhere/events.csv", r"There is no file .*events\.csv\."),
        ("*.parquet", r"No file matches .*\*\.parquet"),
        ("folder", r"folder is a folder without files in it"),
    ],
)
def test_a_missing_file_is_named(tmp_path: Path, source: str, message: str) -> None:
    (tmp_path / "events.csv").write_text(GOOD)
    (tmp_path / "folder").mkdir()
    with pytest.raises(DataError, match=message):
        read_events(tmp_path / source)


def test_an_empty_path_is_not_the_working_folder() -> None:
    with pytest.raises(DataError, match="The path of the log is empty"):
        read_events("")


def test_something_that_is_no_log_is_named() -> None:
    with pytest.raises(DataError, match="this is 'int'"):
        read_events(5)


HEAD = "user,item,time,note\n"
OK = "a,x,1700000000,n\nb,y,1700000001,n\nb,x,1700000002,n\n" * 4

REPAIRS = {
    "byte order mark": (b"\xef\xbb\xbf" + (HEAD + OK).encode(), 12, []),
    "CRLF": ((HEAD + OK).replace("\n", "\r\n").encode(), 12, []),
    "CR": ((HEAD + OK).replace("\n", "\r").encode(), 12, []),
    "no newline at the end": ((HEAD + OK).encode().rstrip(), 12, []),
    "spaces in the header": (("user , item, time ,note\n" + OK).encode(), 12, []),
    "upper case": ((HEAD.upper() + OK).encode(), 12, []),
    "quoted header": (('"user","item","time","no\nte"\n' + OK + ",x,1,n\n").encode(), 12, [("F010", 1, [15])]),
    "latin-1": ((HEAD + OK + "caf\xe9,x,1700000003,\xfcber\n").encode("latin-1"), 13, [("F001", 1, [14])]),
    "one broken character": (
        (HEAD + OK + "é,x,1700000003,n\n").encode() + b"b,\xe9,1700000003,n\n",
        14,
        [("F001", 1, [15])],
    ),
    "UTF-16": ((HEAD + OK).encode("utf-16"), 12, [("F006", 12, [1])]),
    "short row": ((HEAD + OK + "a,x,1700000003\n").encode(), 13, [("F002", 1, [14])]),
    "row without an item": ((HEAD + OK + "a\n").encode(), 12, [("F002", 1, [14]), ("F011", 1, [14])]),
    "row ending in commas": ((HEAD + OK + "a,x,1700000003,n,,\n").encode(), 13, [("F003", 1, [14])]),
    "long row": ((HEAD + OK + "a,x,1700000003,n,m\n" + OK).encode(), 24, [("F004", 1, [14])]),
    "long row after quoted newlines": (
        (HEAD + 'a,x,1700000003,"n\nn"\n' + OK + "a,x,1700000003,n,m\n" + OK).encode(),
        25,
        [("F004", 1, [16])],
    ),
    "repeated header": (
        (HEAD + OK + HEAD + OK + "a,x\n").encode(),
        24,
        [("F002", 1, [27]), ("F005", 1, [14]), ("F012", 1, [27])],
    ),
    "null user": ((HEAD + OK + ",x,1700000003,n\nnull,x,1700000003,n\n").encode(), 12, [("F010", 2, [14, 15])]),
    "NaN item": ((HEAD + OK + "a,NaN,1700000003,n\n").encode(), 12, [("F011", 1, [14])]),
    "null time": ((HEAD + OK + "a,x,,n\na,x,null,n\n").encode(), 12, [("F012", 2, [14, 15])]),
    "NaN time": ((HEAD + OK + "a,x,NaN,n\n").encode(), 12, [("F012", 1, [14])]),
    "infinite time": ((HEAD + OK + "a,x,inf,n\na,x,-Infinity,n\n").encode(), 12, [("F012", 2, [14, 15])]),
    "gigantic time": ((HEAD + OK + f"a,x,{10**30},n\na,x,{2**63 - 1},n\n").encode(), 12, [("F012", 2, [14, 15])]),
    "unreadable time": ((HEAD + OK + "a,x,soon,n\n").encode(), 12, [("F012", 1, [14])]),
    "mixed notations of time": ((HEAD + OK + "a,x,2023-11-14,n\n").encode(), 12, [("F012", 1, [14])]),
    "quotes in a value": ((HEAD + OK + 'a,5" pipe,1700000003,"he said ""x"""\n').encode(), 13, []),
    "empty lines": ((HEAD + "\n" + OK + "\n\n" + OK + "\n").encode(), 24, []),
    "emoji": ((HEAD + OK + "😀,👩‍👩‍👧,1700000003,n\n").encode(), 13, []),
    "unsorted": ((HEAD + "\n".join(reversed(OK.split("\n")[:3])) + "\n").encode(), 3, []),
}


@pytest.mark.parametrize("name", REPAIRS)
def test_every_repair_is_counted_with_its_lines(tmp_path: Path, name: str) -> None:
    content, rows, repairs = REPAIRS[name]
    path = tmp_path / "log.csv"
    path.write_bytes(content)
    messages: list[str] = []
    data, report = inspect_events(path, log=lambda message, numbers=None: messages.append(message))
    assert len(data) == rows
    assert [(each.code, each.count, each.lines) for each in report.repairs] == repairs
    assert all(each.text() in messages for each in report.repairs)


def test_latin_1_is_read_as_it_was_meant(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_bytes("user,item\ncaf\xe9,stra\xdfe\nb,c\n".encode("latin-1"))
    data = read_events(path)
    assert data.users.lists() == ["b", "café"]
    assert data.items.lists() == ["c", "straße"]


def test_broken_lines_of_json_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    good = [json.dumps({"user": 1, "item": n, "more": {"a": n}}) for n in range(20)]
    path.write_bytes(
        b"\xef\xbb\xbf" + "\n".join([*good[:5], "", "{torn", *good[5:]]).encode() + b'\n{"user": "\xe9", "item": 1}\n'
    )
    data, report = inspect_events(path)
    assert len(data) == 21
    assert data.users.lists() == ["1", "é"]
    assert [(each.code, each.lines) for each in report.repairs] == [("F001", [23]), ("F007", [7])]
    assert data.columns["more"].lists()[0] == '{"a": 0}'


def test_identifiers_of_a_pandas_frame_may_be_mixed() -> None:
    source = pd.DataFrame({"user": [1, "x", None], "item": [1, 2, 3]})
    data, report = inspect_events(source)
    assert data.users.lists() == ["1", "x"]
    assert [(each.code, each.lines) for each in report.repairs] == [("F010", [3])]


def test_times_of_a_frame_may_be_missing() -> None:
    source = pd.DataFrame({"user": [1, 2], "item": [1, 2], "time": pd.to_datetime(["2020-01-01", None])})
    data, report = inspect_events(source)
    assert data.time.tolist() == [1_577_836_800_000]
    assert [(each.code, each.lines) for each in report.repairs] == [("F012", [2])]


def test_gigantic_identifiers_stay_text(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text(f"user,item\n{10**40},{'x' * 10_000}\n1,2\n")
    data = read_events(path)
    assert data.users.lists() == ["1", str(10**40)]
    assert data.items.lists() == ["2", "x" * 10_000]


def test_unsigned_identifiers_beyond_64_bits_stay_what_they_were() -> None:
    source = pl.DataFrame({"user": pl.Series([2**64 - 1, 3], dtype=pl.UInt64), "item": [1, 2]})
    assert read_events(source).users.lists() == ["18446744073709551615", "3"]


@pytest.mark.parametrize("content", ["user,item\na,b\n", "user,item,time\n1,2,1700000000\n"])
def test_one_event_of_one_user_is_a_log(tmp_path: Path, content: str) -> None:
    path = tmp_path / "log.csv"
    path.write_text(content)
    data, report = inspect_events(path)
    assert (len(data), len(data.users), len(data.items)) == (1, 1, 1)
    assert {"E006", "E007", "E011", "E012"} <= {each.code for each in report.problems}


def test_mostly_integer_identifiers_and_spaces_are_told(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("user,item\n1,a\n2,b \n3,a\nx7,a\n")
    problems = {each.code: each for each in inspect_events(path)[1].problems}
    assert (problems["E009"].count, problems["E009"].example) == (1, "user 'x7'")
    assert (problems["E010"].count, problems["E010"].example) == (1, "item 'b '")


def test_values_that_are_no_numbers_are_not_given(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("user,item,rating\na,b,5\na,c,good\na,d,inf\na,e,\n")
    data, report = inspect_events(path)
    np.testing.assert_array_equal(data.value, [5, np.nan, np.nan, np.nan])
    assert [(each.code, each.lines) for each in report.repairs] == [("F014", [3, 4])]


def test_a_row_far_into_a_log_is_found(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    rows = "".join(f"u{n % 1000},{n % 77},{1_700_000_000 + n}\n" for n in range(40_000))
    path.write_text("user,item,time\n" + rows + "u1,5,1700000000,9\n" + rows + "u2,,5\n")
    data, report = inspect_events(path)
    assert len(data) == 80_000
    assert [(each.code, each.lines) for each in report.repairs] == [("F004", [40_002]), ("F011", [80_003])]
