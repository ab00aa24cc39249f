"""Every line of bad input, from outside: one clear line and exit code 2, or a stated, counted repair and a bundle."""

import gzip
import io
import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

Call = Callable[..., Any]
HEAD = "user_id,item_id,timestamp\n"
SECONDS = 1_700_000_000
MODELS = {
    "popular": (),
    "recentpopular": (),
    "itemknn": (),
    "ease": (),
    "als": ("--set", "dim=4"),
    "sasrec": ("--set", "dim=8", "--set", "length=10", "--set", "plan.epochs=1"),
}


def rows(count: int = 60) -> str:
    draw = random.Random(1)
    return "".join(f"u{draw.randrange(9)},i{draw.randrange(8)},{SECONDS + 60 * place}\n" for place in range(count))


GOOD = HEAD + rows()


def parquet() -> bytes:
    buffer = io.BytesIO()
    times = range(SECONDS, SECONDS + 100)
    pl.DataFrame({"user_id": ["a", "b"] * 50, "item_id": ["x", "y"] * 50, "timestamp": times}).write_parquet(buffer)
    return buffer.getvalue()


def torn(content: bytes) -> bytes:
    return content[: len(content) // 2]


# File, content, and what the one line must say.
REFUSED = {
    "empty file": ("log.csv", b"", r"log\.csv is empty\. Give"),
    "blank file": ("log.csv", b"\n\n \n", r"log\.csv is empty"),
    "header only": ("log.csv", HEAD.encode(), r"log\.csv has a header and no events\. Give"),
    "missing column": ("log.csv", b"user_id,timestamp\na,1\n", r"log\.csv has no column .* item; .* --item-col"),
    "no column of users": ("log.csv", b"item_id,timestamp\na,1\n", r"log\.csv has no column .* user; .* --user-col"),
    "no readable time": (
        "log.csv",
        f"{HEAD}a,x,soon\nb,y,later\n".encode(),
        "no times that can be read, such as 'soon'",
    ),
    "only infinite times": (
        "log.csv",
        f"{HEAD}a,x,inf\nb,y,-inf\n".encode(),
        r"No event of .*log\.csv is left: 2 rows",
    ),
    "only null ids": (
        "log.csv",
        f"{HEAD},x,1\n,y,2\n".encode(),
        r"No event of .*log\.csv is left: 2 rows without a user",
    ),
    "wrong delimiter": ("log.csv", GOOD.replace(",", "::").encode(), r"log\.csv line 1 is split by '::'"),
    "no delimiter": ("log.csv", b"hello\nworld\n", r"log\.csv line 1 has a single column, 'hello'"),
    "broken gzip": ("log.csv.gz", gzip.compress(GOOD.encode())[:-20], r"log\.csv\.gz is torn or damaged .* again"),
    "no gzip": ("log.csv.gz", GOOD.encode(), r"log\.csv\.gz is not packed as its name says"),
    "truncated Parquet": ("log.parquet", torn(parquet()), r"log\.parquet is torn or damaged"),
    "no Parquet": ("log.parquet", GOOD.encode(), r"log\.parquet is no Parquet file"),
    "random bytes": ("log.csv", random.Random(2).randbytes(3000), r"log\.csv is no text"),
    "random bytes as Parquet": ("log.parquet", random.Random(2).randbytes(3000), r"log\.parquet is no Parquet file"),
    "one JSON list": (
        "log.json",
        b'[{"user_id": 1, "item_id": 2}]',
        r"log\.json begins with '\['.* one JSON object per line",
    ),
    "mostly short rows": (
        "log.csv",
        f"{HEAD}{rows(9)}{'a' * 3}\n".encode() + b"a\n" * 9,
        r"of \d+ rows do not have 3 fields",
    ),
    "open quote": (
        "log.csv",
        f'{HEAD}a,"x,1\n{rows()}'.encode(),
        r"log\.csv line 2 opens a quote that is never closed",
    ),
}


@pytest.mark.parametrize("command", ["validate", "train"])
@pytest.mark.parametrize("name", REFUSED)
def test_a_log_that_cannot_be_used_is_2_in_one_line(name: str, command: str, foretaste: Call, tmp_path: Path) -> None:
    file, content, message = REFUSED[name]
    (tmp_path / file).write_bytes(content)
    options = ("--model", "popular", "--out", tmp_path / "b") if command == "train" else ()
    ended = foretaste(command, tmp_path / file, *options)
    assert (ended.code, ended.out) == (2, "")
    assert re.search(message, ended.complaint), ended.err
    assert [each.name for each in tmp_path.iterdir()] == [file]


# Content, the codes that validate must report, and the number of events that are left.
REPAIRED = {
    "null time": (f"{GOOD}a,x,\n", {"F012": 1}, 60),
    "NaN time": (f"{GOOD}a,x,NaN\n", {"F012": 1}, 60),
    "infinite time": (f"{GOOD}a,x,inf\na,x,-inf\n", {"F012": 2}, 60),
    "gigantic time": (f"{GOOD}a,x,{'9' * 40}\n", {"F012": 1}, 60),
    "negative time": (f"{GOOD}u1,i1,-5\n", {"E002": 1}, 61),
    "far-future time": (f"{GOOD}u1,i1,99999999999\n", {"E003": 1}, 61),
    "null user": (f"{GOOD},i1,{SECONDS}\n", {"F010": 1}, 60),
    "null item": (f"{GOOD}u1,,{SECONDS}\n", {"F011": 1}, 60),
    "mixed id types": (
        HEAD + "".join(f"{n % 7},x{n % 5},{SECONDS + n}\n" for n in range(40)) + f"abc,x1,{SECONDS}\n",
        {"E009": 1},
        41,
    ),
    "duplicate rows": (GOOD + rows(), {"E001": 60}, 120),
    "ties in time": (f"{GOOD}u1,i1,{SECONDS}\nu1,i2,{SECONDS}\n", {"E005": None}, 62),
    "short row": (f"{GOOD}a,x\n", {"F002": 1, "F012": 1}, 60),
    "long row": (f"{GOOD}a,x,{SECONDS},9,9\n", {"F004": 1}, 60),
    "latin-1": (f"{GOOD}josé,café,{SECONDS}\n".encode("latin-1"), {"F001": 1}, 61),
    "BOM and CRLF": (b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode(), {}, 60),
    "semicolons": (GOOD.replace(",", ";"), {}, 60),
    "unsorted": (HEAD + "".join(reversed(rows().splitlines(keepends=True))), {}, 60),
    "odd ids": (
        GOOD
        + "".join(
            f'"a,b","say ""hi""",{SECONDS + n}\n😀,"two\nlines",{SECONDS + n}\n"\'; --",🍎,{SECONDS + n}\n'
            for n in (1, 2)
        ),
        {},
        66,
    ),
    "gigantic integers": (
        HEAD + "".join(f"{10**25 + n % 3},{10**30 + n % 4},{SECONDS + n}\n" for n in range(24)),
        {},
        24,
    ),
    "the largest integers": (
        HEAD + "".join(f"{2**63 - 1 - n % 3},{-(2**63) + n % 4},{SECONDS + n}\n" for n in range(24)),
        {},
        24,
    ),
    "gigantic text": (f"{GOOD}{'u' * 50_000},{'i' * 50_000},{SECONDS}\n", {}, 61),
}


@pytest.mark.parametrize("name", REPAIRED)
def test_a_log_that_can_be_mended_is_mended_counted_and_used(name: str, foretaste: Call, tmp_path: Path) -> None:
    content, codes, left = REPAIRED[name]
    path = tmp_path / "log.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    report = foretaste("validate", path, "--json")
    assert report.code == 0
    assert report.json["rows"] == left
    found = {each["code"]: each for each in report.json["problems"] + report.json["repairs"]}
    for code, count in codes.items():
        assert count in (None, found[code]["count"])
        assert found[code]["what"] and found[code]["do"]
    assert all(each["code"].startswith("F") for each in report.json["repairs"])
    if not any(code.startswith("F") for code in codes):
        assert report.json["repairs"] == []

    bundle = tmp_path / "b"
    trained = foretaste("train", path, "--model", "itemknn", "--out", bundle)
    assert trained.code == 0
    for code in codes:
        assert code in trained.err or code == "E005"
    assert f"{left:,} events" in trained.err
    answered = foretaste("recommend", bundle, "--users", "all", "--keep-seen", "--json")
    assert answered.code == 0
    assert len({row["user_id"] for row in answered.json}) == report.json["users"]
    assert sorted(each.name for each in tmp_path.iterdir()) == ["b", "log.csv"]


TINY = {
    "one event": HEAD + f"a,x,{SECONDS}\n",
    "one user": HEAD + "".join(f"a,i{n % 5},{SECONDS + n}\n" for n in range(20)),
    "one item": HEAD + "".join(f"u{n % 5},x,{SECONDS + n}\n" for n in range(20)),
    "one event each": HEAD + "".join(f"u{n},i{n % 3},{SECONDS + n}\n" for n in range(9)),
    "two events": HEAD + f"a,x,{SECONDS}\na,y,{SECONDS + 1}\n",
    "one time": HEAD + "".join(f"u{n % 5},i{n % 4},{SECONDS}\n" for n in range(20)),
}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", TINY)
def test_a_tiny_log_ends_in_a_bundle_that_answers_or_in_one_clear_line(
    name: str, model: str, foretaste: Call, tmp_path: Path
) -> None:
    path, bundle = tmp_path / "log.csv", tmp_path / "b"
    path.write_text(TINY[name])
    ended = foretaste("train", path, "--model", model, "--out", bundle, *MODELS[model])
    if ended.code == 2:
        assert model == "sasrec", "all others can learn from any event"
        assert re.search(r"log\.csv has no user with two events", ended.complaint)
        assert not bundle.exists()
        return
    assert ended.code == 0, ended.err
    items = {row.split(",")[1] for row in TINY[name].splitlines()[1:]}
    everything = foretaste("recommend", bundle, "--users", "all", "--keep-seen", "-k", "999", "--json")
    assert everything.code == 0
    assert {row["item_id"] for row in everything.json} == items
    stranger = foretaste("recommend", bundle, "--user", "nobody", "--json")
    assert stranger.code == 0
    assert {row["source"] for row in stranger.json} <= {model, "popularity"}
    assert foretaste("evaluate", bundle, "--events", path).code == 0


def test_a_log_that_is_too_short_to_validate_says_so(foretaste: Call, tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(TINY["one event each"])
    ended = foretaste("train", tmp_path / "log.csv", "--model", "popular", "--out", tmp_path / "b")
    assert "nothing is held out for validation: no user has two events" in ended.err
    asked_for = foretaste(
        "train", tmp_path / "log.csv", "--model", "popular", "--out", tmp_path / "c", "--validate-by", "last"
    )
    assert asked_for.code == 2
    assert "Use --validate-by none" in asked_for.complaint


def test_what_validation_holds_out_is_named_where_too_little_is_left(foretaste: Call, tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(TINY["two events"])
    train = ("train", tmp_path / "log.csv", "--model", "sasrec", "--out", tmp_path / "b", *MODELS["sasrec"])
    ended = foretaste(*train)
    assert ended.code == 2
    assert ended.complaint.endswith("Events are held out for validation; --validate-by none learns from all.")
    assert foretaste(*train, "--validate-by", "none").code == 0


@pytest.mark.parametrize("model", ["popular", "sasrec"])
@pytest.mark.parametrize(
    "name", ["negative time", "far-future time", "duplicate rows", "odd ids", "BOM and CRLF", "latin-1"]
)
def test_other_models_take_what_can_be_mended_too(name: str, model: str, foretaste: Call, tmp_path: Path) -> None:
    content = REPAIRED[name][0]
    (tmp_path / "log.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    ended = foretaste("train", tmp_path / "log.csv", "--model", model, "--out", tmp_path / "b", *MODELS[model])
    assert (ended.code, ended.out) == (0, f"{tmp_path / 'b'}\n")


@pytest.mark.parametrize("user", ["a,b", "😀", "'; --", "josé"])
def test_odd_ids_are_asked_for_and_answered_as_they_are(user: str, foretaste: Call, tmp_path: Path) -> None:
    content = REPAIRED["odd ids"][0] + f"josé,i1,{SECONDS + 9}\njosé,i2,{SECONDS + 10}\n"
    (tmp_path / "log.csv").write_text(content)
    assert foretaste("train", tmp_path / "log.csv", "--model", "itemknn", "--out", tmp_path / "b").code == 0
    asked = foretaste("recommend", tmp_path / "b", "--user", user, "--keep-seen", "-k", "99", "--json")
    assert {row["user_id"] for row in asked.json} == {user}
    assert {'say "hi"', "two\nlines", "🍎"} <= set(asked.items)
    out = tmp_path / "list.csv"
    assert foretaste("recommend", tmp_path / "b", "--user", user, "--keep-seen", "-k", "99", "--out", out).code == 0
    assert pl.read_csv(out, infer_schema_length=0)["item_id"].to_list() == asked.items
    history = foretaste("recommend", tmp_path / "b", "--history", '"say ""hi""",🍎', "--json")
    assert history.code == 0
    assert "left out" not in history.err
    similar = foretaste("similar", tmp_path / "b", "--item", "two\nlines", "--json")
    assert similar.code == 0


def test_gigantic_ids_come_back_digit_by_digit(foretaste: Call, tmp_path: Path) -> None:
    for name, users in {
        "gigantic integers": [str(10**25 + n) for n in range(3)],
        "the largest integers": [2**63 - 1 - n for n in range(3)],
    }.items():
        (tmp_path / "log.csv").write_text(REPAIRED[name][0])
        assert foretaste("train", tmp_path / "log.csv", "--model", "popular", "--out", tmp_path / "b").code == 0
        answered = foretaste("recommend", tmp_path / "b", "--users", "all", "-k", "1", "--keep-seen", "--json").json
        assert sorted(row["user_id"] for row in answered) == sorted(users)


ids = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8).filter(
    lambda text: (
        text == text.strip() and text.casefold() not in {"", "null", "nan", "none", "na", "n/a", "<na>", "nil", r"\n"}
    )
)


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(pairs=st.lists(st.tuples(ids, ids), min_size=3, max_size=12), shuffle=st.randoms(use_true_random=False))
def test_any_id_and_any_order_come_through_to_the_answer(
    pairs: list[tuple[str, str]], shuffle: random.Random, foretaste: Call, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("any")
    lines = [
        json.dumps({"user_id": f"u{user}", "item_id": f"i{item}", "timestamp": SECONDS + place})
        for place, (user, item) in enumerate(pairs)
    ]
    answers = []
    for name in ("first", "second"):
        (folder / "log.jsonl").write_text("\n".join(lines))
        ended = foretaste("train", folder / "log.jsonl", "--model", "popular", "--out", folder / name, "--quiet")
        assert ended.code == 0, ended.err
        answers.append(
            foretaste("recommend", folder / name, "--users", "all", "--keep-seen", "-k", "99", "--json").json
        )
        shuffle.shuffle(lines)
    assert answers[0] == answers[1]
    assert {row["user_id"] for row in answers[0]} == {f"u{user}" for user, _ in pairs}
    assert {row["item_id"] for row in answers[0]} == {f"i{item}" for _, item in pairs}


# Standard input for --queries -, and what the one line must say.
QUERIES = {
    "nothing": ("", "standard input holds no query; write one JSON object per line"),
    "no JSON": ("{oops", "line 1 is not JSON: .* Write one JSON object per line"),
    "two on a line": ('{"user": "001"} {"user": "002"}', "line 1 is not JSON"),
    "no object": ("[1]", "line 1 is not a JSON object such as"),
    "null": ("null", "line 1 is not a JSON object"),
    "the second line": ('{"user": "001"}\n\n{"usr": "002"}', "line 3: Unknown key 'usr' - did you mean 'user'"),
    "nobody": ("{}", "line 1 has neither a user nor a history"),
    "a list as user": ('{"user": ["001"]}', r"user must be text or a whole number; it is \['001'\]"),
    "truth as user": ('{"user": true}', "user must be text or a whole number; it is True"),
    "a history of text": ('{"history": "sku-100"}', "history must be a list, oldest first; it is 'sku-100'"),
    "an event of nothing": ('{"history": [null]}', "an event must be an item or have one"),
    "an event without item": ('{"history": [{"itm": "sku-100"}]}', "an event must be an item or have one"),
    "a fraction as item": ('{"history": [{"item": 1.5}]}', "an event must be an item or have one"),
    "unknown key of an event": (
        '{"history": [{"item": "sku-100", "tiem": 1}]}',
        "Unknown key 'tiem' - did you mean 'time'",
    ),
    "unknown kind": (
        '{"history": [{"item": "sku-100", "kind": "byu"}]}',
        "line 1: Unknown event kind 'byu' - did you mean 'buy'",
    ),
    "a number as kind": ('{"history": [{"item": "sku-100", "kind": 3}]}', "kind must be text; it is 3"),
    "no moment": (
        '{"history": [{"item": "sku-100", "time": "soon"}]}',
        "'soon' is no moment; write ISO text or milliseconds",
    ),
    "an infinite moment": ('{"user": "001", "now": 1e999}', "inf is no moment"),
    "no number": ('{"history": [{"item": "sku-100", "value": "good"}]}', "value must be a number; it is 'good'"),
    "not a number": ('{"history": [{"item": "sku-100", "value": NaN}]}', "value must be a number; it is nan"),
    "half a character": ('{"user": "\\ud800"}', "line 1 is not UTF-8 text"),
    "too deep": ('{"history": ' + "[" * 100_000, "line 1 is not JSON"),
}


@pytest.mark.parametrize("name", QUERIES)
def test_a_query_that_cannot_be_understood_names_its_line(name: str, foretaste: Call, bundle: Path) -> None:
    text, message = QUERIES[name]
    ended = foretaste("recommend", bundle, "--queries", "-", stdin=text)
    assert (ended.code, ended.out) == (2, "")
    assert re.search(message, ended.complaint), ended.err


@pytest.mark.parametrize("option", ["--only", "--exclude", "--users", "--queries"])
@pytest.mark.parametrize("content", [b"", b"\n \n", b"caf\xe9\n", b"sku-1O0\n"])
def test_a_list_that_cannot_be_used_is_named(
    option: str, content: bytes, foretaste: Call, bundle: Path, tmp_path: Path
) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(content)
    who = () if option in ("--users", "--queries") else ("--user", "001")
    ended = foretaste("recommend", bundle, *who, option, path)
    if option == "--users" and content == b"sku-1O0\n":
        assert (ended.code, ended.err) == (0, "unknown users, answered with what is popular: 'sku-1O0'\n")
        return
    assert (ended.code, ended.out) == (2, "")
    assert str(path) in ended.complaint


BAD_RECIPES = {
    "empty": ("", "holds no settings: it must be YAML"),
    "no YAML": ("data: [", r"cannot be read as YAML: line 1, column \d+"),
    "tabs": ("\tdata: 1", "cannot be read as YAML: line 1, column 1"),
    "no UTF-8": (b"name: caf\xe9", "cannot be read as YAML"),
    "a list": ("- a", "holds no settings"),
    "no data": ("split: {kind: random}", "data is missing"),
    "no split": ("data: {shop: {}}", "split is missing"),
    "no kind of split": ("data: {shop: {}}\nsplit: {}", r"split\.kind is missing; it is one of leave_one_out"),
    "a split of text": ("data: {shop: {}}\nsplit: random", "split must be a group of settings"),
    "two sources": ("data: {shop: {}, source: ml-1m}\nsplit: {kind: random}", "exactly one of source, shop and events"),
    "no source": ("data: {}\nsplit: {kind: random}", "exactly one of source, shop and events; given: none"),
    "unknown source": (
        "data: {source: ml-100}\nsplit: {kind: random}",
        "Unknown data set 'ml-100' - did you mean 'ml-100k'",
    ),
    "unknown log": ("data: {events: lgo.csv}\nsplit: {kind: random}", r"There is no file lgo\.csv"),
    "a list of models": (
        "data: {shop: {}}\nsplit: {kind: random}\nmodels: [ease]",
        "models: must be names with settings",
    ),
    "a model of text": (
        "data: {shop: {}}\nsplit: {kind: random}\nmodels: {ease: 3}",
        r"models\.ease must be a group of settings",
    ),
    "a row out of place": (
        "data: {shop: {}}\nsplit: {kind: random}\nmodels: {../x: {model: ease}}",
        "also names a folder",
    ),
    "a row of another": (
        "data: {shop: {}}\nsplit: {kind: random}\nmodels: {ease: {model: als}}",
        "always called 'ease'",
    ),
    "the oracle": ("data: {shop: {}}\nsplit: {kind: random}\nmodels: {oracle: {model: als}}", "always called 'oracle'"),
    "too small a shop": (
        "data: {shop: {items: 10, categories: 8}}\nsplit: {kind: random}",
        r"data\.shop: 10 items are too few",
    ),
    "train and test files": ("data: {shop: {}}\nsplit: {kind: given}", r"split\.kind given needs data\.source"),
    "a k of nothing": (
        "data: {shop: {}}\nsplit: {kind: random}\nevaluation: {k: [0]}",
        r"evaluation\.k\.0: .*\(given: 0\)",
    ),
    "a k that is no list": (
        "data: {shop: {}}\nsplit: {kind: random}\nevaluation: {k: 5}",
        r"evaluation\.k: .* a list, as in \[5, 10\]",
    ),
}


@pytest.mark.parametrize("name", BAD_RECIPES)
def test_a_recipe_that_cannot_be_used_is_2_in_one_line(
    name: str, foretaste: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    content, message = BAD_RECIPES[name]
    path = tmp_path / "bad.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    ended = foretaste("run", path, "--out", tmp_path / "r")
    assert (ended.code, ended.out) == (2, "")
    assert re.search(message, ended.complaint), ended.err
    assert {each.name for each in tmp_path.rglob("*")} <= {"bad.yaml", "r", "log.jsonl"}


def test_a_published_data_set_that_cannot_be_had_says_which_file_to_put_where(
    foretaste: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_network(*_: object, **__: object) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr("urllib.request.urlopen", no_network)
    ended = foretaste("run", "ml-100k", "--data-dir", tmp_path, "--out", tmp_path / "r")
    assert ended.code == 2
    assert re.search(rf"{tmp_path}/ml-100k lacks u\.data", ended.complaint)
    assert "Put there by hand" in ended.complaint
