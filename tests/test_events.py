"""Any event log: formats, guessed columns, times, kinds, identifiers, values, further columns."""

import csv
import gzip
import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from foretaste.catalog import Category, Number, Text, Time, Vector
from foretaste.dataset import Dataset
from foretaste.errors import ConfigError, DataError, UnknownName
from foretaste.events import Columns, inspect_events, read_events, validate_events
from foretaste.events.formats import open_parts

ROWS = [("ann", "tea", 1_700_000_000), ("bob", "cup", 1_700_000_100), ("ann", "pot", 1_700_000_050)]
LINES = "user_id,item_id,timestamp\n" + "".join(f"{u},{i},{t}\n" for u, i, t in ROWS)


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def histories(data: Dataset) -> dict[object, list[object]]:
    return {data.users[user]: data.items.lookup(row) for user, row in enumerate(data.baskets)}


def said(source: object, **options: object) -> list[str]:
    messages: list[str] = []
    read_events(source, log=lambda message, numbers=None: messages.append(message), **options)
    return messages


EXPECTED = {"ann": ["tea", "pot"], "bob": ["cup"]}


def frame() -> pl.DataFrame:
    return pl.DataFrame(ROWS, schema=["user_id", "item_id", "timestamp"], orient="row")


def as_json() -> str:
    return "".join(json.dumps({"user_id": u, "item_id": i, "timestamp": t}) + "\n" for u, i, t in ROWS)


def as_parquet() -> bytes:
    buffer = io.BytesIO()
    frame().write_parquet(buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("pack", ["", ".gz", ".zst"])
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("log.csv", LINES.encode()),
        ("log.tsv", LINES.replace(",", "\t").encode()),
        ("log.txt", LINES.replace(",", ";").encode()),
        ("log.dat", LINES.replace(",", "|").encode()),
        ("log.jsonl", as_json().encode()),
        ("log.parquet", as_parquet()),
    ],
)
def test_every_format_gives_the_same_events(tmp_path: Path, name: str, content: bytes, pack: str) -> None:
    packed = {"": lambda each: each, ".gz": gzip.compress, ".zst": lambda each: pa.Codec("zstd").compress(each, True)}
    data = read_events(write(tmp_path / (name + pack), packed[pack](content)))
    assert histories(data) == EXPECTED
    assert data.time.tolist() == [1_700_000_000_000, 1_700_000_050_000, 1_700_000_100_000]


@pytest.mark.parametrize(
    "source",
    [frame(), frame().lazy(), frame().to_arrow(), frame().to_pandas(), pd.DataFrame(frame().to_dict(as_series=False))],
    ids=["polars", "lazy", "arrow", "pandas", "pandas objects"],
)
def test_frames_give_the_same_events(source: object) -> None:
    assert histories(read_events(source)) == EXPECTED


def test_a_folder_and_a_glob_are_read_as_one_log(tmp_path: Path) -> None:
    for number, (user, item, time) in enumerate(ROWS):
        write(tmp_path / f"part-{number}.csv", f"user_id,item_id,timestamp\n{user},{item},{time}\n")
    write(tmp_path / "_SUCCESS", "")
    assert histories(read_events(tmp_path)) == EXPECTED
    assert histories(read_events(str(tmp_path / "part-*.csv"))) == EXPECTED


def test_files_of_a_folder_must_have_the_same_columns(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", LINES)
    write(tmp_path / "b.csv", LINES.replace("item_id", "movie"))
    with pytest.raises(DataError, match=r"b\.csv and .*a\.csv do not have the same columns.*item_id, movie"):
        read_events(tmp_path)


@pytest.mark.parametrize(
    ("header", "columns"),
    [
        ("visitorid,itemid,timestamp,event,rating", "visitorid itemid timestamp event rating"),
        ("reviewerID,asin,unixReviewTime,behavior,overall", "reviewerID asin unixReviewTime behavior overall"),
        (
            "Customer ID,Product-Id,Event Time,event_type,Quantity",
            "Customer ID|Product-Id|Event Time|event_type|Quantity",
        ),
        ("userId,movieId,ts,Action,stars", "userId movieId ts Action stars"),
        ("uid,sku,datetime,kind,score", "uid sku datetime kind score"),
    ],
)
def test_common_names_are_guessed_and_said(tmp_path: Path, header: str, columns: str) -> None:
    path = write(tmp_path / "log.csv", f"{header}\n1,2,1700000000,view,3\n")
    names = columns.split("|" if "|" in columns else None)
    text = "\n".join(said(path))
    for role, name in zip(("user", "item", "time", "kind", "value"), names, strict=True):
        assert f"{role}: column {name!r}" in text


def test_the_catalogue_key_of_amazon_is_preferred_and_the_other_named(tmp_path: Path) -> None:
    path = write(tmp_path / "log.csv", "user_id,asin,parent_asin\nu,a,p\n")
    assert "item: column 'parent_asin' (not 'asin')" in said(path)


def test_given_columns_win(tmp_path: Path) -> None:
    path = write(tmp_path / "log.csv", "who,what,user_id\na,b,c\n")
    data = read_events(path, columns=Columns(user="who", item="what"))
    assert (data.users.lists(), data.items.lists()) == (["a"], ["b"])
    assert data.columns["user_id"].kind == "category"


def test_a_given_column_that_is_not_there_offers_the_nearest(tmp_path: Path) -> None:
    path = write(tmp_path / "log.csv", LINES)
    with pytest.raises(UnknownName, match=r"Unknown column of .*'itemid' - did you mean 'item_id'\?"):
        read_events(path, columns=Columns(item="itemid"))


def test_one_column_cannot_be_two_things(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'user_id' is given for two things"):
        read_events(write(tmp_path / "log.csv", LINES), columns=Columns(user="user_id", item="user_id"))


def test_sessions_serve_as_users_where_there_are_none(tmp_path: Path) -> None:
    path = write(tmp_path / "log.csv", "session_id,item_id\n7,a\n7,b\n8,a\n")
    assert read_events(path, ordered=True).users.lists() == [7, 8]
    assert any("each session counts as one" in each for each in said(path))


@pytest.mark.parametrize(
    ("lines", "value", "time"),
    [
        ("1 10\n2 11\n", False, False),
        ("1 10 5\n2 11 4\n", True, False),
        ("1 10 881250949\n2 11 881250950\n", False, True),
        ("1 10 5 881250949\n2 11 4 881250950\n", True, True),
    ],
)
@pytest.mark.parametrize("delimiter", [" ", "\t", ","])
def test_numbers_without_a_header_are_told_apart(
    tmp_path: Path, lines: str, value: bool, time: bool, delimiter: str
) -> None:
    data = read_events(write(tmp_path / "u.data", lines.replace(" ", delimiter)))
    assert (data.value is not None, data.time is not None) == (value, time)
    assert (data.users.lists(), data.items.lists()) == ([1, 2], [10, 11])


MOMENT = 1_425_550_210_000


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("1425550210", "seconds since 1970"),
        ("1425550210.0", "seconds since 1970"),
        ("1425550210000", "milliseconds since 1970"),
        ("1425550210000000", "microseconds since 1970"),
        ("1425550210000000000", "nanoseconds since 1970"),
        ("2015-03-05T10:10:10", "ISO text"),
        ("2015-03-05T10:10:10Z", "ISO text"),
        ("2015-03-05 10:10:10.000", "ISO text"),
        ("2015-03-05T11:10:10+01:00", "ISO text"),
        ("2015-03-05 10:10:10 UTC", "ISO text"),
        ("2015/03/05 10:10:10", "dates written as"),
        ("3/5/2015 10:10:10", "dates written as %m/%d/%Y"),
        ("05.03.2015 10:10:10", "dates written as %d.%m.%Y"),
        ("Thu Mar 05 10:10:10 +0000 2015", "dates written as"),
    ],
)
def test_times_are_read_in_every_notation_and_the_unit_is_said(tmp_path: Path, text: str, unit: str) -> None:
    path = write(tmp_path / "log.csv", f"user,item,time\na,b,{text}\n")
    assert read_events(path).time.tolist() == [MOMENT]
    assert any(each.startswith("time: column 'time'") and unit in each for each in said(path))


def test_iso_times_may_differ_in_their_precision(tmp_path: Path) -> None:
    texts = ["2015-03-05T10:10:10Z", "2015-03-05T10:10:10.5Z", "2015-03-05 10:10:11", "2015-03-06"]
    path = write(tmp_path / "log.csv", "user,item,time\n" + "".join(f"a,b,{each}\n" for each in texts))
    assert (read_events(path).time - MOMENT).tolist() == [0, 500, 1000, 49_790_000]


def test_dates_written_as_one_number_are_dates(tmp_path: Path) -> None:
    path = write(tmp_path / "log.csv", "user,item,date\na,b,20150305\na,c,20150306\n")
    assert np.diff(read_events(path).time).tolist() == [86_400_000]


@pytest.mark.parametrize(("last", "notation", "days"), [("1/13/2020", "%m/%d/%Y", 8), ("13/1/2020", "%d/%m/%Y", 9)])
def test_day_and_month_are_told_apart_by_all_rows(tmp_path: Path, last: str, notation: str, days: int) -> None:
    early = "".join(f"a,b{n},1/5/2020\n" for n in range(3000)) if notation == "%m/%d/%Y" else "a,b,4/1/2020\n" * 3000
    path = write(tmp_path / "log.csv", f"user,item,date\n{early}a,z,{last}\n")
    time = read_events(path).time
    assert (time[-1] - time[0]) == days * 86_400_000
    assert any(f"dates written as {notation}" in each for each in said(path))


def test_dates_that_could_be_either_are_said(tmp_path: Path) -> None:
    path = write(tmp_path / "log.csv", "user,item,date\na,b,3/4/2020\n")
    assert any("%m/%d/%Y (just as well %d/%m/%Y" in each for each in said(path))


def test_a_given_unit_wins(tmp_path: Path) -> None:
    path = write(tmp_path / "log.csv", "user,item,time\na,b,5\n")
    assert read_events(path, time_unit="ms").time.tolist() == [5]
    with pytest.raises(ConfigError, match="Unknown unit of times 'sec'"):
        read_events(path, time_unit="sec")


def test_without_times_the_order_means_something_only_if_it_is_stated(tmp_path: Path) -> None:
    path = write(tmp_path / "log.csv", "user,item\na,z\na,b\n")
    assert read_events(path, ordered=True).ordered
    assert not read_events(path).ordered
    assert "time: there is no column of times; their order means nothing" in said(path)


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (["7", "12", "-3"], [-3, 7, 12]),
        (["7", "007"], ["007", "7"]),
        (["7", "x"], ["7", "x"]),
        (["7", str(2**63)], ["7", str(2**63)]),
        ([str(2**63 - 1), "1"], [1, 2**63 - 1]),
        (["1e3", "2"], ["1e3", "2"]),
        (["+5", "6"], ["+5", "6"]),
        (["17850.0", "3.0"], [3, 17850]),
        (["1.5", "3.0"], ["1.5", "3.0"]),
        (["B", "a", "é", "😀"], ["B", "a", "é", "😀"]),
    ],
)
def test_identifiers_stay_what_they_were(tmp_path: Path, ids: list[str], expected: list[object]) -> None:
    path = write(tmp_path / "log.csv", "user,item\n" + "".join(f"{each},1\n" for each in ids))
    assert read_events(path).users.lists() == expected


def test_integers_of_one_file_become_text_with_the_text_of_another(tmp_path: Path) -> None:
    write(tmp_path / "1.csv", "user,item\n7,1\n12,1\n")
    write(tmp_path / "2.csv", "user,item\n007,1\nx,1\n12,1\n")
    data = read_events(tmp_path)
    assert data.users.lists() == ["007", "12", "7", "x"]
    assert np.diff(data.offsets).tolist() == [1, 2, 1, 1]


def test_mixed_identifiers_of_json_become_text(tmp_path: Path) -> None:
    path = write(tmp_path / "log.jsonl", '{"user": 1, "item": "a"}\n{"user": "x", "item": "a"}\n')
    assert read_events(path).users.lists() == ["1", "x"]


def test_whole_numbers_of_a_float_column_are_integers() -> None:
    source = pl.DataFrame({"user": [17850.0, None, 5.0], "item": ["a", "b", "c"]})
    data, report = inspect_events(source)
    assert data.users.lists() == [5, 17850]
    assert [(each.code, each.count, each.lines) for each in report.repairs] == [("F010", 1, [2])]


def test_kinds_are_ordered_by_the_funnel(tmp_path: Path) -> None:
    events = ["transaction", "view", "addtocart", "view"]
    path = write(tmp_path / "log.csv", "user,item,event\n" + "".join(f"a,b,{each}\n" for each in events))
    data = read_events(path)
    assert data.kinds.names == ("view", "addtocart", "transaction")
    assert data.kinds.weights == (1.0, 2.0, 3.0)
    assert data.kind.tolist() == [2, 0, 1, 0]


def test_unknown_kinds_are_ordered_by_how_rare_they_are(tmp_path: Path) -> None:
    events = ["zip"] * 3 + ["zap"] * 2 + ["zot"]
    path = write(tmp_path / "log.csv", "user,item,event\n" + "".join(f"a,b,{each}\n" for each in events))
    assert read_events(path).kinds.names == ("zip", "zap", "zot")
    assert any("the rarest is the strongest" in each for each in said(path))


@pytest.mark.parametrize(
    ("kinds", "weights"),
    [
        ("view < buy", (1.0, 2.0)),
        ("view=0.5 < buy=10", (0.5, 10.0)),
        (["view", "buy"], (1.0, 2.0)),
        ({"view": 1, "buy": 7}, (1.0, 7.0)),
    ],
)
def test_given_kinds_keep_their_order_and_weights(tmp_path: Path, kinds: object, weights: tuple[float, ...]) -> None:
    path = write(tmp_path / "log.csv", "user,item,event\na,b,buy\na,c,view\n")
    data = read_events(path, kinds=kinds)
    assert (data.kinds.names, data.kinds.weights) == (("view", "buy"), weights)


@pytest.mark.parametrize(
    ("kinds", "message"),
    [
        ("veiw < buy", "'view' - did you mean 'veiw'"),
        ("view < view", "'view' is empty or stands twice"),
        ("view=x < buy", "weight of event kind 'view' is 'x'"),
        ("view=0 < buy", "weight of event kind 'view' is '0'"),
    ],
)
def test_wrong_kinds_are_named(tmp_path: Path, kinds: str, message: str) -> None:
    path = write(tmp_path / "log.csv", "user,item,event\na,b,buy\na,c,view\n")
    with pytest.raises((DataError, UnknownName), match=message):
        read_events(path, kinds=kinds)


def test_kinds_without_a_column_of_them_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no column of them"):
        read_events(write(tmp_path / "log.csv", LINES), kinds="view < buy")


def test_a_column_with_too_many_values_is_no_kind(tmp_path: Path) -> None:
    path = write(tmp_path / "log.csv", "user,item,action\n" + "".join(f"a,b,did {n}\n" for n in range(200)))
    data = read_events(path)
    assert data.kind is None
    assert "action" in data.columns
    with pytest.raises(DataError, match="'action' has 200 distinct values"):
        read_events(path, columns=Columns(kind="action"))


def test_values_are_kept_and_min_value_counts_what_it_leaves_out(tmp_path: Path) -> None:
    path = write(tmp_path / "log.csv", "user,item,rating\na,b,5\na,c,2.5\na,d,\nb,b,4\n")
    np.testing.assert_array_equal(read_events(path).value, np.array([5, 2.5, np.nan, 4], np.float32))
    data, report = inspect_events(path, min_value=4)
    assert data.value.tolist() == [5, 4]
    assert data.items.lists() == ["b"]
    assert [(each.code, each.count, each.lines) for each in report.repairs] == [("F015", 2, [3, 4])]


def test_min_value_without_values_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no column of values to compare with 4"):
        read_events(write(tmp_path / "log.csv", LINES), min_value=4)


def test_sessions_are_kept_and_rows_without_one_get_their_own(tmp_path: Path) -> None:
    data, report = inspect_events(write(tmp_path / "log.csv", "user,item,session\na,b,x\na,c,\na,d,x\na,e,\n"))
    session = data.session.tolist()
    assert session[0] == session[2]
    assert len({session[0], session[1], session[3]}) == 3
    assert [(each.code, each.lines) for each in report.repairs] == [("F016", [3, 5])]


def test_further_columns_are_typed_and_stand_beside_their_events(tmp_path: Path) -> None:
    header = "user,item,time,device,price,seen,review,place\n"
    rows = [
        f'u{n % 7},i{n % 5},{1000 - n},{["phone", "desk"][n % 2]},{n / 4},2020-01-{n % 28 + 1:02},"so good, {n}!",\n'
        for n in range(100)
    ]
    data = read_events(write(tmp_path / "log.csv", header + "".join(rows)))
    n = 1000 - data.time // 1000
    device, price, seen, review = (data.columns[name] for name in ("device", "price", "seen", "review"))
    assert isinstance(device, Category)
    assert device.lists() == [["phone", "desk"][each % 2] for each in n]
    assert isinstance(price, Number)
    assert price.values.tolist() == (n / 4).tolist()
    assert isinstance(seen, Time)
    assert isinstance(review, Text)
    assert review.lists() == [f"so good, {each}!" for each in n]
    assert data.columns["place"].lists() == [None] * 100


def test_lists_of_numbers_are_vectors(tmp_path: Path) -> None:
    path = write(tmp_path / "log.jsonl", '{"user": 2, "item": 1, "h": [1, 2]}\n{"user": 1, "item": 1, "h": [3, 4]}\n')
    column = read_events(path).columns["h"]
    assert isinstance(column, Vector)
    assert column.lists() == [[3, 4], [1, 2]]


def test_numbers_that_turn_out_to_be_text_stay_as_written(tmp_path: Path) -> None:
    write(tmp_path / "1.csv", "user,item,code\na,b,007\n")
    write(tmp_path / "2.csv", "user,item,code\nb,b,x1\n")
    assert read_events(tmp_path).columns["code"].lists() == ["007", "x1"]


def test_a_key_that_comes_late_in_json_is_a_column(tmp_path: Path) -> None:
    rows = [{"user": n % 50, "item": 1, "note": "x" * 50} for n in range(6000)] + [{"user": 51, "item": 1, "late": 2.5}]
    path = write(tmp_path / "log.jsonl", "\n".join(map(json.dumps, rows)))
    late = read_events(path).columns["late"].values
    assert late[-1] == 2.5
    assert np.isnan(late[:-1]).all()


def test_columns_of_a_part_are_read_alone(tmp_path: Path) -> None:
    for path in (write(tmp_path / "a.csv", LINES), write(tmp_path / "a.parquet", as_parquet())):
        (part,) = open_parts(path)
        assert [frame.columns for frame in part.batches(["item_id"])] == [["item_id"]]


def test_the_report_has_the_agreed_form(tmp_path: Path) -> None:
    path = write(tmp_path / "log.csv", "user,item,event,time\na,b,view,1700000000\na,b,view,1700000000\n,b,view,5\n")
    report = validate_events(path)
    found = report.to_json()
    assert list(found) == ["rows", "users", "items", "span", "kinds", "problems", "repairs"]
    assert (found["rows"], found["users"], found["items"], found["kinds"]) == (2, 1, 1, {"view": 2})
    assert found["span"] == ["2023-11-14T22:13:20Z", "2023-11-14T22:13:20Z"]
    assert found["repairs"][0] == {
        "code": "F010",
        "count": 1,
        "lines": [4],
        "what": "rows without a user were left out",
        "do": "Fill them in, or name another column: --user-col.",
    }
    assert [(each["code"], each["lines"]) for each in found["problems"]][:2] == [("E001", [3]), ("E005", [3])]
    json.dumps(found, allow_nan=False)
    assert "E001 1 rows equal an earlier row in every column; they are kept (line 3)." in report.text()


def test_the_report_list_gets_the_report(tmp_path: Path) -> None:
    reports: list[object] = []
    read_events(write(tmp_path / "log.csv", LINES), report=reports)
    assert [each.rows for each in reports] == [3]


def test_lines_name_the_file_where_there_are_several(tmp_path: Path) -> None:
    write(tmp_path / "1.csv", "user,item\na,b\nb,b\n")
    write(tmp_path / "2.csv", "user,item\na,c\n,b\na,\n")
    repairs = validate_events(tmp_path).repairs
    assert [(each.code, each.lines) for each in repairs] == [("F010", [3]), ("F011", [4])]
    assert "2.csv" in repairs[0].what


def test_lines_are_right_after_quoted_newlines_and_empty_lines(tmp_path: Path) -> None:
    content = 'user,item,note\na,b,"one\ntwo\nthree"\n\n\n,b,x\na,"c\nd",y\n,e,z\n'
    assert validate_events(write(tmp_path / "log.csv", content)).repairs[0].lines == [7, 10]


@pytest.mark.parametrize("header", ["user,item,note\n", "\n\nuser,item,note\n"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_lines_are_right_in_a_plain_file(tmp_path: Path, header: str, end: str) -> None:
    content = (header + "a,b,x\n" * 5 + ",b,y\n" + "a,b,x\n" * 3 + ",,\n").replace("\n", end)
    start = header.count("\n")
    assert validate_events(write(tmp_path / "log.csv", content)).repairs[0].lines == [start + 6, start + 10]


def test_equal_rows_that_differ_in_one_further_column_are_no_duplicates(tmp_path: Path) -> None:
    rows = ["a,b,5,x,1\n", "a,b,5,x,2\n", "a,c,5,x,1\n", "a,b,5,y,1\n", "a,b,5,x,1\n"]
    report = validate_events(write(tmp_path / "log.csv", "user,item,time,device,page\n" + "".join(rows)))
    assert [(each.count, each.lines) for each in report.problems if each.code == "E001"] == [(1, [6])]


def test_duplicates_are_found_without_times(tmp_path: Path) -> None:
    report = validate_events(write(tmp_path / "log.csv", "user,item\na,x\na,y\na,x\nb,x\na,x\n"))
    assert [(each.count, each.lines) for each in report.problems if each.code == "E001"] == [(2, [4, 6])]


def test_strange_times_are_problems_and_are_kept(tmp_path: Path) -> None:
    future = int((datetime.now(UTC) + timedelta(days=3)).timestamp())
    times = [*range(1_700_000_000, 1_700_000_009), -5, future, 1_000_000_000]
    path = write(tmp_path / "log.csv", "user,item,time\n" + "".join(f"a,b{n},{t}\n" for n, t in enumerate(times)))
    report = validate_events(path)
    assert report.rows == 12
    found = {each.code: each.lines for each in report.problems}
    assert (found["E002"], found["E003"], found["E004"]) == ([11], [12], [11, 12, 13])


MISSING_WORDS = ("null", "nan", "none", "n/a", "<na>")
text_ids = st.text(st.characters(exclude_categories=("Cs", "Cc"), include_characters="\n\t"), min_size=1, max_size=8)
usual_ids = text_ids.filter(lambda each: each.strip() == each and each.lower() not in (*MISSING_WORDS, r"\n"))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(usual_ids, usual_ids), min_size=1, max_size=12))
def test_any_identifiers_survive_csv(tmp_path: Path, pairs: list[tuple[str, str]]) -> None:
    path = tmp_path / "log.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("user", "item"), *pairs])
    data = read_events(path, ordered=True)
    expected: dict[str, list[str]] = {}
    for user, item in pairs:
        expected.setdefault(user, []).append(item)
    found = {str(user): [str(item) for item in row] for user, row in histories(data).items()}
    assert found == expected


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(0, 5)), min_size=1, max_size=30), st.randoms())
def test_row_order_does_not_matter_where_times_differ(pairs: list[tuple[int, int]], random: object) -> None:
    rows = [(user, item, 1_700_000_000 + place) for place, (user, item) in enumerate(pairs)]
    shuffled = list(rows)
    random.shuffle(shuffled)
    first, second = (
        read_events(pl.DataFrame(each, schema=["user", "item", "time"], orient="row")) for each in (rows, shuffled)
    )
    assert first.fingerprint == second.fingerprint


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5), st.integers(0, 2)), min_size=1, max_size=30))
def test_ties_keep_the_order_of_the_log(rows: list[tuple[int, int, int]]) -> None:
    data = read_events(pl.DataFrame(rows, schema=["user", "item", "time"], orient="row"))
    expected = sorted(rows, key=lambda row: (row[0], row[2]))
    assert [(data.users[u], data.items[i]) for u, i in zip(data.user, data.item, strict=True)] == [
        (user, item) for user, item, _ in expected
    ]
