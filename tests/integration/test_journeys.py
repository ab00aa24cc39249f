"""Whole journeys: every command and option of the command line once, with its documented effect."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml

import foretaste.bundle
from foretaste.models import MODELS
from foretaste.recipe import read_recipe

Call = Callable[..., Any]
ANSWER = ["user_id", "item_id", "score", "rank", "source"]


# validate


def test_validate_prints_the_agreed_json(foretaste: Call, shop_log: Path, columns: tuple[str, ...]) -> None:
    report = foretaste("validate", shop_log, *columns, "--json").json
    assert list(report) == ["rows", "users", "items", "span", "kinds", "problems", "repairs"]
    assert (report["rows"], report["users"]) == (240, 12)
    assert report["span"] == ["2023-11-14T22:13:20Z", "2023-11-24T21:13:20Z"]
    assert list(report["kinds"]) == ["view", "cart", "buy"]
    assert sum(report["kinds"].values()) == 240


def test_validate_reports_problems_with_lines_and_what_to_do(foretaste: Call, tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("user_id,item_id,timestamp\na,x,1\na,x,1\nb,y,soon\nb,y,3\n")
    ended = foretaste("validate", path, "--json")
    assert ended.code == 0
    (duplicate,) = [each for each in ended.json["problems"] if each["code"] == "E001"]
    assert list(duplicate) == ["code", "count", "lines", "what", "do"]
    assert (duplicate["count"], duplicate["lines"]) == (1, [3])
    (unread,) = ended.json["repairs"]
    assert (unread["code"], unread["lines"]) == ("F012", [4])
    text = foretaste("validate", path).out
    assert "log.csv: 3 events, 2 users, 2 items" in text
    assert f"E001 1 {duplicate['what']} (line 3). {duplicate['do']}" in text


def test_columns_kinds_and_values_can_be_given_on_every_command_that_takes_a_log(
    foretaste: Call, shop_log: Path, columns: tuple[str, ...]
) -> None:
    given = foretaste(
        "validate", shop_log, *columns, "--kinds", "buy=1 < cart=2 < view=9", "--min-value", "4", "--json"
    )
    assert list(given.json["kinds"]) == ["buy", "cart", "view"]
    assert 0 < given.json["rows"] < 240
    (left_out,) = given.json["repairs"]
    assert left_out["count"] == 240 - given.json["rows"]
    as_kind = foretaste("validate", shop_log, *columns, "--kind-col", "stars", "--value-col", "stars")
    assert as_kind.code == 2
    sessions = foretaste("validate", shop_log, *columns, "--session-col", "behavior")
    assert sessions.code == 0
    assert "session: column 'behavior', as given" in sessions.out


def test_items_and_users_come_with_their_tables(foretaste: Call, tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(
        "user_id,item_id,timestamp\n" + "".join(f"u{n % 4},i{n % 3},{n}\n" for n in range(24))
    )
    (tmp_path / "items.csv").write_text("item_id,title\ni0,Nought\ni1,One\ni2,Two\ni9,Nine\n")
    (tmp_path / "users.csv").write_text("user_id,age\nu0,30\nu1,40\n")
    tables = ("--items", tmp_path / "items.csv", "--users", tmp_path / "users.csv")
    assert foretaste("validate", tmp_path / "log.csv", *tables, "--json").json["items"] == 3
    ended = foretaste("train", tmp_path / "log.csv", "--model", "popular", "--out", tmp_path / "b", *tables)
    assert "ITEM_TEXT|ITEM_FEATURES|USER_FEATURES" in ended.err
    table = foretaste("recommend", tmp_path / "b", "--user", "u0", "--keep-seen").out
    assert table.splitlines()[0].split() == [*ANSWER, "title"]
    assert "Nought" in table


# train


def test_a_log_becomes_recommendations_with_two_commands(foretaste: Call, tmp_path: Path) -> None:
    lines = "".join(f"r{n % 11};B{n * n % 13};{1_400_000_000 + n * 60};{n % 5 + 1}\n" for n in range(200))
    (tmp_path / "odd.tsv").write_text("reviewerID;asin;unixReviewTime;overall\n" + lines)
    assert foretaste("train", tmp_path / "odd.tsv", "--model", "ease", "--out", tmp_path / "b").code == 0
    answered = foretaste("recommend", tmp_path / "b", "--user", "r3", "-k", "4", "--keep-seen", "--json")
    assert [each["rank"] for each in answered.json] == [1, 2, 3, 4]


@pytest.mark.parametrize(("by", "held"), [("last", 12), ("time", 24), ("none", 0)])
def test_validate_by_holds_out_what_it_says(
    by: str, held: int, foretaste: Call, shop_log: Path, columns: tuple[str, ...], tmp_path: Path
) -> None:
    ended = foretaste("train", shop_log, "--model", "itemknn", "--out", tmp_path / "b", "--validate-by", by, *columns)
    fitted = int(re.search(r"fitted on (\d+) events", ended.err)[1])
    assert abs(240 - held - fitted) <= (by == "time")
    assert ("validation ndcg@10" in ended.err) == (by != "none")


def test_last_is_held_out_by_default_and_refit_takes_everything(
    foretaste: Call, shop_log: Path, columns: tuple[str, ...], tmp_path: Path
) -> None:
    settings = ("--set", "dim=8", "--set", "plan.epochs=3", "--set", "length=10")
    train = ("train", shop_log, "--model", "sasrec", "--out", tmp_path / "b", *settings, *columns)
    plain = foretaste(*train)
    assert "fitted on 228 events" in plain.err
    assert plain.err.count("epoch 3/3") == 1
    kept = foretaste_index(tmp_path / "b")
    assert kept["training"]["best_score"] == max(each["validation"] for each in kept["training"]["curve"])
    best = kept["training"]["best_epoch"]
    refitted = foretaste(*train, "--refit")
    assert refitted.code == 0
    assert f"now fitted on all 240 events, {best} epochs" in refitted.err
    assert foretaste_index(tmp_path / "b")["training"]["refitted_epochs"] == best


def foretaste_index(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "model.json").read_text())


def test_a_model_comes_from_a_file_and_set_wins_over_it(
    foretaste: Call, shop_log: Path, columns: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "wide.yaml").write_text("model: als\ndim: 4\nalpha: 2.0\n")
    ended = foretaste(
        "train", shop_log, "--model", tmp_path / "wide.yaml", "--out", tmp_path / "b", "--set", "dim=6", *columns
    )
    assert ended.code == 0
    settings = foretaste_index(tmp_path / "b")["settings"]
    assert (settings["dim"], settings["alpha"]) == (6, 2.0)


def test_seed_threads_device_and_precision_reach_the_fit(
    foretaste: Call, shop_log: Path, columns: tuple[str, ...], tmp_path: Path
) -> None:
    settings = ("--set", "dim=8", "--set", "plan.epochs=1", "--device", "cpu", "--threads", "1")
    answers = []
    for name, more in {
        "a": ("--seed", "1"),
        "b": ("--seed", "1"),
        "c": ("--seed", "2"),
        "d": ("--precision", "bf16"),
    }.items():
        ended = foretaste("train", shop_log, "--model", "sasrec", "--out", tmp_path / name, *settings, *more, *columns)
        assert ended.code == 0
        answers.append(foretaste("recommend", tmp_path / name, "--users", "all", "--json").json)
    assert answers[0] == answers[1]
    assert answers[0] != answers[2]


def test_a_bundle_without_histories_answers_histories_only(
    foretaste: Call, shop_log: Path, columns: tuple[str, ...], tmp_path: Path
) -> None:
    train = ("train", shop_log, "--model", "itemknn", "--out", tmp_path / "b", *columns)
    assert foretaste(*train, "--no-with-histories").code == 0
    assert not (tmp_path / "b/histories.safetensors").exists()
    assert foretaste("recommend", tmp_path / "b", "--history", "sku-100").code == 0
    for asked in (("--user", "001"), ("--users", "all")):
        ended = foretaste("recommend", tmp_path / "b", *asked)
        assert ended.code == 2
        assert ended.complaint.startswith("This bundle holds no histories")
    assert foretaste("evaluate", tmp_path / "b", "--events", shop_log, *columns).code == 2
    assert foretaste("evaluate", tmp_path / "b", "--events", shop_log, "--protocol", "last", *columns).code == 0
    assert foretaste(*train, "--with-histories").code == 0
    assert foretaste("recommend", tmp_path / "b", "--user", "001").code == 0


def test_an_order_that_is_stated_replaces_times(foretaste: Call, tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("user_id,item_id\n" + "".join(f"u{n % 6},i{n * n % 7}\n" for n in range(60)))
    train = ("train", tmp_path / "log.csv", "--model", "sasrec", "--out", tmp_path / "b", "--set", "plan.epochs=1")
    assert "sasrec needs order" in foretaste(*train).complaint.lower()
    assert foretaste(*train, "--ordered", "--set", "dim=8").code == 0
    unordered = foretaste("train", tmp_path / "log.csv", "--model", "popular", "--out", tmp_path / "b")
    assert "nothing is held out for validation: the log has neither times nor a stated order" in unordered.err


# recommend


def test_an_answer_has_the_agreed_columns_in_every_form(foretaste: Call, bundle: Path, tmp_path: Path) -> None:
    asked = ("recommend", bundle, "--user", "003", "-k", "5", "--keep-seen")
    printed = foretaste(*asked).out.splitlines()
    assert printed[0].split() == ANSWER
    rows = foretaste(*asked, "--json").json
    assert [list(row) for row in rows] == [ANSWER] * 5
    for name in ("list.csv", "list.parquet"):
        ended = foretaste(*asked, "--out", tmp_path / "new" / name)
        assert (ended.code, ended.out) == (0, "")
    from_csv = pl.read_csv(tmp_path / "new/list.csv", schema_overrides={"user_id": pl.String})
    from_parquet = pl.read_parquet(tmp_path / "new/list.parquet")
    assert from_csv.columns == from_parquet.columns == ANSWER
    scores = [row.pop("score") for row in rows]
    assert from_parquet["score"].to_list() == pytest.approx(scores)
    assert from_parquet.drop("score").to_dicts() == rows
    assert from_csv["item_id"].to_list() == [row["item_id"] for row in rows]
    assert [line.split()[1] for line in printed[1:]] == [row["item_id"] for row in rows]


def test_text_ids_stay_text_and_integers_stay_integers(
    foretaste: Call, bundle: Path, number_bundle: Path, tmp_path: Path
) -> None:
    text = foretaste("recommend", bundle, "--user", "007", "-k", "1", "--json").json[0]
    assert (text["user_id"], text["item_id"][:4]) == ("007", "sku-")
    assert foretaste("recommend", bundle, "--user", "7", "--json").json[0]["source"] == "popularity"
    number = foretaste("recommend", number_bundle, "--user", "7", "--user", "999", "-k", "1", "--json").json
    assert [row["user_id"] for row in number] == [7, 999]
    assert all(isinstance(row["item_id"], int) for row in number)
    (tmp_path / "users.txt").write_text("3\n\n  4 \n")
    listed = foretaste("recommend", number_bundle, "--users", tmp_path / "users.txt", "-k", "1", "--json").json
    assert [row["user_id"] for row in listed] == [3, 4]
    query = foretaste("recommend", number_bundle, "--queries", "-", "-k", "1", "--json", stdin='{"user": "3"}').json
    assert query == listed[:1]


def test_an_unknown_user_gets_the_fallback_and_a_note(foretaste: Call, bundle: Path) -> None:
    ended = foretaste("recommend", bundle, "--user", "nobody", "-k", "3", "--json")
    assert (ended.code, ended.err) == (0, "unknown users, answered with what is popular: 'nobody'\n")
    assert {row["source"] for row in ended.json} == {"popularity"}
    many = [word for number in range(14) for word in ("--user", f"x{number}")]
    assert foretaste("recommend", bundle, *many).err.rstrip().endswith("'x9' and 4 more")
    assert foretaste("recommend", bundle, "--user", "nobody", "--quiet").err == ""


def test_unknown_ids_in_a_history_are_skipped_and_named(foretaste: Call, bundle: Path) -> None:
    known = foretaste("recommend", bundle, "--history", "sku-100,sku-101", "--json")
    ended = foretaste("recommend", bundle, "--history", "sku-100, nope ,sku-101,nope", "--json")
    assert ended.code == 0
    assert ended.json == known.json
    assert ended.err == "left out of the histories, as the model does not know them: 'nope'\n"
    assert {row["user_id"] for row in ended.json} == {None}
    empty = foretaste("recommend", bundle, "--history", "", "--json")
    assert {row["source"] for row in empty.json} == {"popularity"}


def test_more_than_there_is_gives_all_there_is(foretaste: Call, bundle: Path) -> None:
    everything = foretaste("recommend", bundle, "--user", "001", "-k", "100000", "--keep-seen", "--json")
    assert everything.code == 0
    assert len(set(everything.items)) == len(everything.items) == foretaste_index(bundle)["data"]["items"]
    similar = foretaste("similar", bundle, "--item", "sku-100", "-k", "100000", "--json")
    assert len(similar.json) == len(everything.items) - 1


def test_what_is_seen_is_hidden_kept_or_hidden_by_kind(foretaste: Call, bundle: Path, shop_log: Path) -> None:
    met = pl.read_csv(shop_log, schema_overrides={"who": pl.String}).filter(pl.col("who") == "005")
    bought = set(met.filter(pl.col("behavior") == "buy")["what"])
    seen, every = set(met["what"]), ("recommend", bundle, "--user", "005", "-k", "99", "--json")
    assert not seen & set(foretaste(*every).items)
    assert seen <= set(foretaste(*every, "--keep-seen").items)
    by_kind = set(foretaste(*every, "--exclude-kinds", "buy").items)
    assert not bought & by_kind
    assert seen - bought <= by_kind
    assert seen - bought


def test_only_and_exclude_bound_what_is_offered(foretaste: Call, bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "only.txt").write_text("sku-100\nsku-101\nsku-102\n")
    (tmp_path / "not.txt").write_text("\ufeffsku-101\n")
    asked = ("recommend", bundle, "--user", "001", "-k", "99", "--keep-seen", "--json")
    only = foretaste(*asked, "--only", tmp_path / "only.txt")
    assert set(only.items) == {"sku-100", "sku-101", "sku-102"}
    both = foretaste(*asked, "--only", tmp_path / "only.txt", "--exclude", tmp_path / "not.txt")
    assert set(both.items) == {"sku-100", "sku-102"}
    assert "sku-101" not in foretaste(*asked, "--exclude", tmp_path / "not.txt").items
    nothing = foretaste(*asked, "--only", tmp_path / "not.txt", "--exclude", tmp_path / "not.txt")
    assert (nothing.code, nothing.json) == (0, [])


def test_newer_events_are_appended_to_the_histories(foretaste: Call, bundle: Path, tmp_path: Path) -> None:
    before = foretaste("recommend", bundle, "--user", "001", "-k", "1", "--json").items[0]
    newer = tmp_path / "today.csv"
    newer.write_text(
        f"user_id,item_id,timestamp,event\n001,{before},1700990000,view\nnew,sku-103,1700990000,buy\nnew,x,1700990001,buy\n"
    )
    ended = foretaste("recommend", bundle, "--user", "001", "--user", "new", "-k", "3", "--events", newer, "--json")
    assert ended.code == 0
    assert before not in ended.items
    assert {row["source"] for row in ended.json if row["user_id"] == "new"} == {"itemknn"}
    assert "1 items of today.csv are unknown to the model, such as 'x'" in ended.err
    odd = tmp_path / "odd.csv"
    odd.write_text(f"u,i\n001,{before}\n")
    given = ("--user-col", "u", "--item-col", "i", "--ordered")
    without_kinds = foretaste(
        "recommend", bundle, "--user", "001", "--events", odd, *given, "--exclude-kinds", "view", "--json"
    )
    assert without_kinds.code == 0
    assert "odd.csv has no event kinds; its events count as 'view'" in without_kinds.err
    assert before not in without_kinds.items
    newer.write_text("user_id,item_id,timestamp,event\n001,sku-100,1700990000,veiw\n")
    wrong = foretaste("recommend", bundle, "--user", "001", "--events", newer)
    assert wrong.code == 2
    assert re.search(r"Unknown event kind in .*today\.csv 'veiw' - did you mean 'view'\?", wrong.complaint)


def test_text_users_cannot_join_integers(foretaste: Call, number_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "today.csv").write_text("user_id,item_id,timestamp\nbob,100,1700990000\n")
    ended = foretaste("recommend", number_bundle, "--user", "1", "--events", tmp_path / "today.csv")
    assert ended.code == 2
    assert ended.complaint == "today.csv has users that are text, such as 'bob'; those of the bundle are integers."


def test_queries_come_from_a_file_or_standard_input(foretaste: Call, bundle: Path, tmp_path: Path) -> None:
    lines = [
        {"user": "002"},
        {"user": "002", "history": [{"item": "sku-100", "kind": "view", "time": "2023-11-15T00:00:00Z"}]},
        {"history": ["sku-100", {"item": "sku-101", "value": 4.5}], "now": "2023-11-16T01:00:00+01:00"},
        {"user": "nobody", "features": {"age": 30}, "context": {"page": "home"}},
    ]
    text = "\ufeff" + "\n\n".join(map(json.dumps, lines))
    (tmp_path / "queries.jsonl").write_text(text)
    asked = ("recommend", bundle, "-k", "2", "--json", "--queries")
    piped = foretaste(*asked, "-", stdin=text)
    assert piped.code == 0
    assert piped.json == foretaste(*asked, tmp_path / "queries.jsonl").json
    assert [row["user_id"] for row in piped.json[::2]] == ["002", "002", None, "nobody"]
    assert piped.items[:2] == foretaste("recommend", bundle, "--user", "002", "-k", "2", "--json").items
    assert piped.items[2:4] == foretaste("recommend", bundle, "--history", "sku-100", "-k", "2", "--json").items
    assert piped.items[4:6] == foretaste("recommend", bundle, "--history", "sku-100,sku-101", "-k", "2", "--json").items
    nobody = foretaste(*asked, "-", stdin='{"history": ["sku-100"]}\n{"history": ["sku-101"]}')
    assert [row["user_id"] for row in nobody.json] == [0, 0, 1, 1]


def test_all_users_are_asked_for_at_once(foretaste: Call, bundle: Path) -> None:
    ended = foretaste("recommend", bundle, "--users", "all", "-k", "1", "--json")
    assert [row["user_id"] for row in ended.json] == [f"{number:03}" for number in range(1, 13)]


# similar, evaluate


def test_similar_items_leave_out_the_item_itself(foretaste: Call, number_bundle: Path, tmp_path: Path) -> None:
    asked = ("similar", number_bundle, "--item", "100", "--item", "101", "-k", "3")
    rows = foretaste(*asked, "--json").json
    assert [(row["like_item"], row["rank"]) for row in rows] == [
        (item, rank) for item in (100, 101) for rank in (1, 2, 3)
    ]
    assert all(row["item_id"] != row["like_item"] for row in rows)
    assert foretaste(*asked, "--out", tmp_path / "alike.csv").code == 0
    assert pl.read_csv(tmp_path / "alike.csv")["item_id"].to_list() == [row["item_id"] for row in rows]


def test_evaluate_judges_later_events_by_stored_histories(foretaste: Call, bundle: Path, tmp_path: Path) -> None:
    best = foretaste("recommend", bundle, "--users", "all", "-k", "1", "--json").json
    lines = [f"{row['user_id']},{row['item_id']},1701000000,buy\n" for row in best]
    (tmp_path / "next.csv").write_text("user_id,item_id,timestamp,event\n" + "".join(lines))
    ended = foretaste("evaluate", bundle, "--events", tmp_path / "next.csv", "-k", "1,3", "--json")
    assert ended.code == 0
    board = ended.json
    models = {each["name"]: each["metrics"] for each in board["models"]}
    assert set(models) == {"itemknn", "popular"}
    assert models["itemknn"]["hit@1"]["mean"] == 1.0
    assert board["protocol"]["kind"] == "later"
    assert board["leak_report"] == {"test_events_in_stored_histories": 0}
    table = foretaste("evaluate", bundle, "--events", tmp_path / "next.csv", "-k", "3").out
    assert "12 queries with 12 targets" in table
    sampled = foretaste("evaluate", bundle, "--events", tmp_path / "next.csv", "--max-queries", "5", "--seed", "4").out
    assert "5 queries" in sampled
    assert "A random sample of the 12 queries (seed 4)" in sampled


def test_evaluate_by_the_last_event_needs_no_histories_and_hides_as_asked(
    foretaste: Call, bundle: Path, shop_log: Path, columns: tuple[str, ...]
) -> None:
    asked = ("evaluate", bundle, "--events", shop_log, "--protocol", "last", "-k", "3", *columns)
    for more, words in {
        (): "seen items are hidden",
        ("--keep-seen",): "seen items may be offered again",
        ("--exclude-kinds", "buy"): "items met by buy are hidden",
    }.items():
        ended = foretaste(*asked, *more)
        assert ended.code == 0
        assert "12 queries with 12 targets" in ended.out
        assert words in ended.out
    leaking = foretaste("evaluate", bundle, "--events", shop_log, "-k", "3", "--json", *columns)
    assert leaking.json["leak_report"] == {"test_events_in_stored_histories": 240}


# run, compare, doctor, datasets


@pytest.fixture(scope="module")
def finished(foretaste: Call, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "tiny.yaml").write_text(
        "data: {shop: {users: 60, items: 64, events: 900, categories: 4}}\n"
        "split: {kind: leave_one_out}\nmodels: {ease: {l2: 50.0}}\nevaluation: {k: [5, 10]}\n"
    )
    ended = foretaste("run", folder / "tiny.yaml", "--out", folder / "r")
    assert ended.code == 0, ended.err
    assert ended.out.rstrip().endswith(f"report: {folder / 'r' / 'report.html'}")
    assert ended.out.startswith("model")
    return folder / "r"


ROWS = ["ease", "itemknn", "oracle", "popular", "recentpopular"]


def test_a_run_directory_holds_everything_that_came_of_the_run(finished: Path) -> None:
    names = {each.name for each in finished.iterdir()}
    boards = {"leaderboard.json", "leaderboard.csv", "leaderboard.md"}
    assert names >= {"recipe.yaml", *boards, "report.html", "models", "recommendations", "log.jsonl"}
    models = sorted(each.name for each in (finished / "models").iterdir())
    assert models == [name for name in ROWS if name != "oracle"]
    assert foretaste.bundle.load(finished / "models/ease").metrics["ndcg@10"] > 0
    lists = pl.read_parquet(finished / "recommendations/ease.parquet")
    assert lists.columns == ANSWER
    assert lists["user_id"].n_unique() == 54
    assert sorted(each.stem for each in (finished / "recommendations").iterdir()) == ROWS
    log = [json.loads(line) for line in (finished / "log.jsonl").read_text().splitlines()]
    assert all({"time", "message"} <= set(line) for line in log)
    page = (finished / "report.html").read_text()
    assert "<html" in page
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=.https?:", page), "nothing is fetched"


def test_leaderboard_json_has_the_agreed_form(finished: Path) -> None:
    board = json.loads((finished / "leaderboard.json").read_text())
    assert {"dataset", "protocol", "leak_report", "models", "comparisons", "checks"} <= set(board)
    assert {"name", "fingerprint", "counts"} <= set(board["dataset"])
    assert sorted(each["name"] for each in board["models"]) == ROWS
    wanted = {
        "name",
        "settings",
        "metrics",
        "slices",
        "fit_seconds",
        "recommend_seconds",
        "parameters",
        "peak_memory_mb",
    }
    for each in board["models"]:
        assert wanted <= set(each)
        assert each["slices"]
        for name in ("precision@10", "recall@10", "hit@10", "ndcg@10", "mrr@10", "map@10", "ndcg@5"):
            assert set(each["metrics"][name]) == {"mean", "low", "high", "n"}
            assert each["metrics"][name]["n"] == 54
    assert len(board["comparisons"]) == 6, "every pair of four models; the oracle is no rival"
    assert {"command", "versions", "seed", "seeds"} <= set(board["about"])


def test_the_written_recipe_spells_out_every_setting_and_repeats_the_run(
    finished: Path, foretaste: Call, tmp_path: Path
) -> None:
    written = yaml.safe_load((finished / "recipe.yaml").read_text())
    assert written["models"]["ease"]["l2"] == 50.0
    assert set(written["models"]) == {"popular", "recentpopular", "itemknn", "ease"}
    assert read_recipe(str(finished / "recipe.yaml")).to_yaml() == (finished / "recipe.yaml").read_text()
    again = foretaste("run", finished / "recipe.yaml", "--out", tmp_path / "again", "--quiet")
    assert (again.code, again.err) == (0, "")
    first, second = (json.loads((each / "leaderboard.json").read_text()) for each in (finished, tmp_path / "again"))
    assert [each["metrics"] for each in first["models"]] == [each["metrics"] for each in second["models"]]
    assert first["dataset"]["fingerprint"] == second["dataset"]["fingerprint"]


def test_set_models_seeds_and_max_queries_change_the_run(foretaste: Call, recipe: Path, tmp_path: Path) -> None:
    ended = foretaste(
        "run", recipe, "--out", tmp_path / "r", "--models", "als,popular", "--set", "models.als.dim=4", "--seeds", "2",
        "--set", "split.kind=by_time", "--set", "data.shop.users=50", "--max-queries", "6", "--seed", "3",
    )  # fmt: skip
    assert ended.code == 0
    written = yaml.safe_load((tmp_path / "r/recipe.yaml").read_text())
    assert written["models"]["als"]["dim"] == 4
    assert "ease" not in written["models"]
    assert written["split"]["kind"] == "by_time"
    assert written["data"]["shop"]["users"] == 50
    assert (written["evaluation"]["seeds"], written["evaluation"]["max_queries"]) == (2, 6)
    board = json.loads((tmp_path / "r/leaderboard.json").read_text())
    assert board["protocol"]["queries"] == 6
    assert {each["name"]: bool(each["seed_spread"]) for each in board["models"]}["als"]
    assert sorted(each.name for each in (tmp_path / "r/models").iterdir()) == sorted(
        f"{name}{seed}" for name in ("als", "itemknn", "popular", "recentpopular") for seed in ("", "-seed4")
    )


def test_a_run_of_ones_own_log_goes_where_it_is_told_by_default(
    foretaste: Call, shop_log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(
        f"name: my shop\ndata:\n  events: {shop_log}\n  columns: {{user: who, item: what, time: when, value: stars}}\n"
        "  kinds: view=1 < cart=2 < buy=5\n  keep_kinds: [cart, buy]\nsplit: {kind: last_n, n: 1}\nmodels: {}\n"
    )
    ended = foretaste("run", "mine.yaml")
    assert ended.code == 0, ended.err
    board = json.loads(Path("runs/my shop/leaderboard.json").read_text())
    assert board["dataset"]["kinds"] == ["view", "cart", "buy"]
    kept = pl.read_csv(shop_log).filter(pl.col("behavior") != "view")
    assert board["dataset"]["counts"]["events"] == len(kept)
    assert sorted(each["name"] for each in board["models"]) == ["itemknn", "popular", "recentpopular"]


def test_a_model_that_cannot_take_part_says_why(foretaste: Call, tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("user_id,item_id\n" + "".join(f"u{n % 9},i{n * n % 11}\n" for n in range(90)))
    (tmp_path / "mine.yaml").write_text(
        f"data: {{events: {tmp_path / 'log.csv'}, ordered: true}}\nsplit: {{kind: leave_one_out}}\nmodels: {{}}\n"
    )
    ended = foretaste("run", tmp_path / "mine.yaml", "--out", tmp_path / "r")
    assert ended.code == 0
    rows = {each["name"]: each for each in json.loads((tmp_path / "r/leaderboard.json").read_text())["models"]}
    assert rows["recentpopular"]["why_absent"].startswith("RecentPopular needs TIMES")
    assert "recentpopular takes no part: RecentPopular needs TIMES" in ended.err


def test_resume_takes_what_is_finished_and_fits_what_changed(foretaste: Call, recipe: Path, tmp_path: Path) -> None:
    run = ("run", recipe, "--out", tmp_path / "r")
    assert foretaste(*run).code == 0
    again = foretaste(*run, "--resume", "--set", "models.ease.l2=7")
    assert again.code == 0
    assert "itemknn: already fitted" in again.err
    assert "ease: fitting" in again.err
    fresh = foretaste(*run)
    assert "already fitted" not in fresh.err


def test_compare_puts_runs_side_by_side_and_warns(
    finished: Path, foretaste: Call, recipe: Path, tmp_path: Path
) -> None:
    alone = foretaste("compare", finished, "--json")
    assert (alone.code, alone.json["warnings"]) == (0, [])
    assert foretaste("run", recipe, "--out", tmp_path / "r", "--set", "data.shop.seed=5", "--quiet").code == 0
    both = foretaste("compare", finished, tmp_path / "r", "--metrics", "ndcg@5,hit@10", "--json").json
    assert len(both["rows"]) == 10
    means = [row["metrics"]["ndcg@5"]["mean"] for row in both["rows"]]
    assert means == sorted(means, reverse=True)
    assert both["warnings"][0] == "the runs are about different data; their numbers are not comparable"
    text = foretaste("compare", finished, tmp_path / "r").out
    assert text.splitlines()[0].split() == ["run", "model", "ndcg@10"]
    assert "warning: the runs are about different data" in text
    unknown = foretaste("compare", finished, "--metrics", "ndgc@10")
    assert unknown.code == 2
    assert "Unknown metric 'ndgc@10' - did you mean 'ndcg@10'?" in unknown.complaint


def test_doctor_tells_the_machine_and_predicts_memory(foretaste: Call) -> None:
    report = foretaste("doctor", "--users", "6040", "--items", "3416", "--events", "1000000", "--json").json
    assert {"python", "foretaste", "torch", "numpy", "scipy", "implicit"} == set(report["versions"])
    assert "cpu" in report["devices"]
    assert report["threads"] >= 1
    assert set(report["needed_gib"]) == set(MODELS)
    assert all(needed > 0 for needed in report["needed_gib"].values())
    text = foretaste("doctor").out
    assert [line.split()[0] for line in text.splitlines()] == ["versions", "system", "devices", "threads", "memory"]


def test_datasets_are_listed_with_counts_licence_and_presence(foretaste: Call, tmp_path: Path) -> None:
    (tmp_path / "ml-1m-sasrec").mkdir()
    rows = {row["name"]: row for row in foretaste("datasets", "--data-dir", tmp_path, "--json").json}
    assert {
        "ml-100k",
        "ml-1m",
        "ml-1m-sasrec",
        "retailrocket",
        "retailrocket-buyers",
        "amazon14-beauty",
        "gowalla",
    } <= set(rows)
    assert all(row["licence"] and row["counts"] for row in rows.values())
    assert not any(row["present"] for row in rows.values()), "an empty folder is no data"
    text = foretaste("datasets", "--data-dir", tmp_path).out
    assert text.splitlines()[0].split() == ["name", "present", "counts", "licence"]


def test_scores_fall_from_rank_to_rank(foretaste: Call, bundle: Path) -> None:
    rows = foretaste("recommend", bundle, "--users", "all", "-k", "99", "--keep-seen", "--json").json
    for user in {row["user_id"] for row in rows}:
        own = [row for row in rows if row["user_id"] == user]
        assert [row["rank"] for row in own] == list(range(1, len(own) + 1))
        assert (np.diff([row["score"] for row in own]) <= 0).all()
