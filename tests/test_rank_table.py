"""The ranker on plain tables: reading, training, saving, predicting, on the command line."""

import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from foretaste.cli import main
from foretaste.errors import BundleError, DataError, UnknownName
from foretaste.rank.dcnv2 import DCNv2
from foretaste.rank.features import groups_of
from foretaste.rank.fields import Fields
from foretaste.rank.saved import load_ranker, save_ranker
from foretaste.rank.table import PlainTable
from foretaste.rank.tasks import Task
from foretaste.rank.training import fit_table
from foretaste.run import Run
from foretaste.train import TrainPlan

RUN = Run(device="cpu", threads=1, precision="fp32")
SMALL = {"dim": 4, "hidden": (8,), "head_hidden": (), "cross_layers": 1, "rank": None, "batch_size": 256}


def shown(rows=600, seed=0):
    """Lists of three; a click comes mostly where the colour of the item is that which the person likes."""
    rng = np.random.default_rng(seed)
    likes, colour = rng.choice(["red", "blue", "green"], rows // 3), rng.choice(["red", "blue", "green"], rows)
    liked = np.repeat(likes, 3)
    click = (liked == colour) & (rng.random(rows) < 0.9)
    return pl.DataFrame(
        {
            "request_id": np.repeat(np.arange(rows // 3), 3),
            "user_id": np.repeat(rng.integers(0, 50, rows // 3), 3),
            "item_id": [f"sku-{each}" for each in rng.integers(0, 40, rows)],
            "timestamp": np.repeat(1_700_000_000 + 60 * np.arange(rows // 3), 3),
            "position": np.tile([1, 2, 3], rows // 3),
            "likes": liked,
            "colour": colour,
            "price": rng.lognormal(3, 1, rows).round(2),
            "tags": rng.choice(["new|sale", "new", "sale", "old|sale"], rows),
            "click": click.astype(int),
            "purchase": (click & (rng.random(rows) < 0.5)).astype(int),
        }
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranker")
    shown().write_csv(folder / "shown.csv")
    shown(300, seed=1).write_csv(folder / "next.csv")
    (folder / "ranker.yaml").write_text(
        "dim: 4\nhidden: [16]\nhead_hidden: []\nbatch_size: 128\n"
        "groups:\n  user: [user_id, likes]\n  product: [colour, {column: price, log: true}, tags]\n"
        "tasks: {click: {weight: 0.6}, purchase: {weight: 0.4}}\nplan: {epochs: 15, lr: 0.01}\n"
    )
    assert main(["rank", "train", str(folder / "shown.csv"), "--config", str(folder / "ranker.yaml"),
                 "--out", str(folder / "bundle"), "--quiet", "--threads", "1"]) == 0  # fmt: skip
    return folder


def test_a_table_is_read_with_its_lists_labels_and_columns():
    table = PlainTable.read(shown())
    examples = table.examples
    assert len(examples) == 600
    assert len(examples.requests) == 200
    assert set(examples.labels) == {"click", "purchase"}
    kinds = {name: column.kind for name, column in examples.places.columns.items()}
    assert kinds == {
        "user_id": "number", "item_id": "text", "timestamp": "number", "position": "number", "likes": "category",
        "colour": "category", "price": "number", "tags": "categories",
    }  # fmt: skip
    groups = groups_of(examples)
    assert {group: [each.column for each in features] for group, features in groups.items()} == {
        "other": ["user_id", "item_id", "likes", "colour", "price", "tags"], "event": ["timestamp"],
        "style": ["position"],
    }  # fmt: skip
    assert groups["style"][0].answered_as == 1  # the first place, as this table counts
    assert groups["other"][0].kind == "category"


def test_lists_that_stand_apart_are_put_together_and_predictions_go_back():
    frame = shown(30).sample(fraction=1, shuffle=True, seed=3)
    table = PlainTable.read(frame)
    told = table.examples.places["price"].values.astype(np.float32)
    back = table.with_chances({"click": told})
    assert back["click_probability"].to_list() == pytest.approx(frame["price"].to_list())
    assert back.columns == [*frame.columns, "click_probability"]


def test_rows_without_a_request_are_lists_of_their_own():
    frame = shown(9).with_columns(pl.Series("request_id", [1, 1, None, None, 2, 2, 2, None, 1]))
    assert len(PlainTable.read(frame).examples.requests) == 5
    assert len(PlainTable.read(shown(9).drop("request_id")).examples.requests) == 9


def test_labels_are_0_1_or_nothing():
    frame = shown(9).with_columns(pl.Series("click", [0, 1, None, 0, 0, 1, 0, 0, 0]))
    assert PlainTable.read(frame).examples.labels["click"].tolist() == [0, 1, -1, 0, 0, 1, 0, 0, 0]
    with pytest.raises(DataError, match="Label 'click' holds 3; it may hold 0, 1 and nothing"):
        PlainTable.read(frame.with_columns(click=pl.lit(3)))
    with pytest.raises(UnknownName, match="'clicks' - did you mean 'click'"):
        PlainTable.read(frame, tasks=["clicks"])
    with pytest.raises(DataError, match="has no rows"):
        PlainTable.read(frame.clear())


def test_the_latest_lists_are_held_out():
    learned, held_out = PlainTable.read(shown(300).sample(fraction=1, shuffle=True, seed=1)).split(0.1, seed=0)
    assert len(held_out) == 30
    assert learned.places["timestamp"].values.max() < held_out.places["timestamp"].values.min()
    drawn = PlainTable.read(shown(300).drop("timestamp")).split(0.1, seed=0)[1]
    assert len(drawn) == 30
    assert len(np.unique(drawn.request)) == 10


def test_train_and_predict_on_the_command_line(folder, capsys):
    out = folder / "scored.csv"
    assert main(["rank", "predict", str(folder / "bundle"), str(folder / "next.csv"), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "auc" in printed
    assert printed.endswith(f"{out}\n")
    scored = pl.read_csv(out)
    assert scored.columns == [*shown(3).columns, "click_probability", "purchase_probability"]
    assert len(scored) == 300
    liked = scored["likes"] == scored["colour"]
    assert scored.filter(liked)["click_probability"].mean() > 0.6
    assert scored.filter(~liked)["click_probability"].mean() < 0.2


def test_predicting_needs_no_labels_and_forgives_what_is_missing(folder, capsys):
    odd = (
        shown(6, seed=2)
        .drop("click", "purchase", "tags")
        .with_columns(colour=pl.lit("violet"), price=pl.Series(["12.5", "n/a", "", "3", "free", "1"]))
    )
    odd.write_parquet(folder / "odd.parquet")
    out = folder / "odd-scored.parquet"
    assert main(["rank", "predict", str(folder / "bundle"), str(folder / "odd.parquet"), "--out", str(out)]) == 0
    captured = capsys.readouterr()
    assert "columns that are not there count as unknown: tags" in captured.err
    assert captured.out == f"{out}\n"
    assert pl.read_parquet(out)["click_probability"].is_between(0, 1).all()


def test_a_saved_ranker_answers_the_same(folder):
    model = load_ranker(folder / "bundle", RUN)
    table = PlainTable.read(shown(60, seed=4), fields=model.fields)
    before = model.predict(table.examples)
    save_ranker(model, folder / "again")
    after = load_ranker(folder / "again", RUN)
    assert after.settings == model.settings
    assert after.metrics == model.metrics
    for task, chances in after.predict(table.examples).items():
        assert np.array_equal(chances, before[task])
    one = PlainTable.read(shown(60, seed=4).head(1), fields=model.fields)
    assert model.predict(one.examples)["click"][0] == pytest.approx(before["click"][0], abs=1e-6)


def test_a_torn_bundle_is_refused(folder, tmp_path):
    with pytest.raises(BundleError, match=r"holds no ranker\.json"):
        load_ranker(tmp_path)
    save_ranker(load_ranker(folder / "bundle"), tmp_path / "copy")
    index = json.loads((tmp_path / "copy" / "ranker.json").read_text())
    (tmp_path / "copy" / "ranker.json").write_text(json.dumps({**index, "ranker": "other"}))
    with pytest.raises(BundleError, match="was edited"):
        load_ranker(tmp_path / "copy")


def test_the_quality_on_lists_held_out_is_kept(folder):
    model = load_ranker(folder / "bundle")
    assert model.metrics["click"]["examples"] == 60
    assert model.metrics["click"]["auc"] > 0.8
    assert model.training["chosen"]["best_epoch"] == len(model.training["curve"])


def test_a_validation_table_is_not_learned_from():
    table, validation = PlainTable.read(shown(300)), PlainTable.read(shown(90, seed=5))
    settings = DCNv2(**SMALL, plan=TrainPlan(epochs=3, lr=0.01))
    model = fit_table(settings, table, validation, RUN)
    assert model.metrics["click"]["examples"] == 90
    assert "chosen" not in model.training
    alone = fit_table(settings, PlainTable.read(shown(3)), None, RUN)
    assert alone.metrics == {}


def test_wrong_calls_name_what_is_wrong(folder, capsys):
    table, bundle = str(folder / "shown.csv"), str(folder / "wrong")
    for arguments, words in (
        (["--tasks", "clicks"], "did you mean 'click'"),
        (["--set", "groups={user: [size]}"], "lack the columns size"),
        (["--set", "layers=3"], "layers"),
        (["--set", "groups={user: [{column: price, kind: text, log: true}]}"], "log is an option of number"),
    ):
        assert main(["rank", "train", table, "--out", bundle, "--quiet", *arguments]) == 2
        assert words in capsys.readouterr().err
    assert main(["rank", "predict", str(folder / "none"), table, "--out", str(folder / "x.csv")]) == 2
    assert main(["rank", "predict", str(folder / "bundle"), table, "--out", str(folder / "x.txt")]) == 2


def test_tasks_keep_what_the_file_says_of_them(folder):
    assert load_ranker(folder / "bundle").tasks == {"click": Task(weight=0.6), "purchase": Task(weight=0.4)}


def test_names_are_the_same_however_they_are_written(tmp_path):
    codes = ["007", "008", "009", "123456789012345678", "123456789012345679"]
    frame = pl.DataFrame(
        {"style_code": codes * 40, "size": [str(each % 3) for each in range(200)], "click": [1, 0] * 100}
    )
    frame.write_csv(tmp_path / "shown.csv")
    table = PlainTable.read(tmp_path / "shown.csv", tasks=["click"])
    settings = DCNv2(
        **SMALL, groups={"style": ["style_code", {"column": "size", "kind": "category"}]}, plan=TrainPlan(epochs=1)
    )
    model = settings.fit(table.examples, run=RUN)
    style, size = (field.reader for field in model.fields)
    assert style.names.lists() == codes
    again = PlainTable.read(tmp_path / "shown.csv", fields=model.fields).examples.places
    assert np.array_equal(next(iter(model.fields)).read(again, answering=True)[:5], [1, 2, 3, 4, 5])
    gaps = PlainTable.read(
        pl.DataFrame({"size": [1.0, None, 2.0], "style_code": codes[:3]}), fields=model.fields
    ).examples
    assert list(model.fields)[1].read(gaps.places, answering=True)[:3].tolist() == [2, 0, 3]
    assert size.names.lists() == ["0", "1", "2"]


def test_what_came_beside_is_no_feature():
    told = []
    table = PlainTable.read(shown(60), tasks=["click"], log=lambda message, numbers=None: told.append(message))
    assert "purchase" not in table.examples.places
    assert "purchase: left out, as it says what came of a row; to read it all the same, name it in the groups" in told
    groups = {"user": DCNv2(groups={"user": ["purchase"]}).groups["user"]}
    assert "purchase" in PlainTable.read(shown(60), tasks=["click"], groups=groups).examples.places


def test_labels_that_are_no_numbers_are_refused():
    frame = shown(9).with_columns(click=pl.Series(["1", "no", "1", "no", "0", "1", "1", "0", "1"]))
    with pytest.raises(DataError, match="Label 'click' holds something that is no number in row 2"):
        PlainTable.read(frame)


def test_a_quality_that_cannot_be_had_is_no_loss_of_the_ranker(tmp_path, capsys):
    """Without lists there is no AUC within lists."""
    shown(120).drop("request_id", "timestamp").write_csv(tmp_path / "shown.csv")
    arguments = ["--tasks", "click", "--set", "plan.epochs=1", "--set", "dim=4", "--quiet"]
    assert main(["rank", "train", str(tmp_path / "shown.csv"), "--out", str(tmp_path / "bundle"), *arguments]) == 0
    assert " - " in capsys.readouterr().out
    assert load_ranker(tmp_path / "bundle").metrics["click"]["grouped_auc"] is None


def test_columns_without_anything_in_them_are_unknown(folder):
    model = load_ranker(folder / "bundle", RUN)
    empty = shown(6).with_columns(tags=pl.lit(None), likes=pl.lit("2024-01-01"), price=pl.lit(None))
    found = model.predict(PlainTable.read(empty, fields=model.fields).examples)
    assert np.isfinite(found["click"]).all()


def again(frame, feature, **options):
    """A ranker of one feature, and the codes of a table as it was read to learn and as it is read to answer."""
    settings = DCNv2(**SMALL, groups={"any": [feature]}, plan=TrainPlan(epochs=1), **options)
    table = PlainTable.read(frame, tasks=["click"], groups=settings.groups)
    model = settings.fit(table.examples, run=RUN)
    answered = PlainTable.read(frame, fields=model.fields)
    (field,) = model.fields
    return field, [field.read(each.examples.tables()[field.level], answering=False) for each in (table, answered)]


LISTED = ["a|b|c", "b|c", "a", "c|a|", "", "b"] * 10
AS_JSON = ['["a","b","c"]', '["b","c"]', '["a"]', '["c","a"]', None, '["b"]'] * 10


@pytest.mark.parametrize("kind", ["categories", "sequence"])
@pytest.mark.parametrize("hashed", [None, 1000])
@pytest.mark.parametrize("written", [LISTED, AS_JSON, [each.replace("|", ";") for each in LISTED]])
def test_lists_of_names_are_answered_as_they_were_learned(kind, hashed, written):
    feature = {"column": "tags", "kind": kind} | ({"hashed": hashed} if hashed and kind == "categories" else {})
    frame = pl.DataFrame({"tags": written, "click": [0, 1] * 30})
    _, (learned, answered) = again(frame, feature)
    assert learned.lengths.tolist() == [3, 2, 1, 2, 0, 1] * 10 + [0]
    assert learned.lists() == answered.lists()
    assert learned.values.min() > 0


def test_undeclared_lists_and_lists_of_numbers_are_answered_as_they_were_learned():
    for values in (AS_JSON, LISTED, [[1, 2], [3, 4], [2, 1]] * 20, ["[1, 2]", "[3, 4]", "[2, 1]"] * 20):
        frame = pl.DataFrame({"tags": values, "click": [0, 1] * 30})
        kinds = ("sequence",) if values[0] in ([1, 2], "[1, 2]") else (None, "categories")
        for kind in kinds:
            _, (learned, answered) = again(frame, {"column": "tags", "kind": kind})
            assert learned.lists() == answered.lists()
            assert learned.values.min() > 0


def test_declared_kinds_are_read_as_such_whatever_they_look_like():
    clicks = {"click": [0, 1] * 30}
    single = pl.DataFrame({"visited": [str(each) for each in range(60)], **clicks})
    _, (learned, _) = again(single, {"column": "visited", "kind": "sequence"})
    assert learned.lengths.tolist() == [1] * 60 + [0]
    numbers = pl.DataFrame({"style_code": [str(each) for each in range(59)] + ["none"], **clicks})
    field, (learned, answered) = again(numbers, {"column": "style_code", "kind": "number"})
    assert field.reader.kind == "standard"
    assert learned[:, 1].tolist() == answered[:, 1].tolist() == [0] * 59 + [1, 1]
    times = pl.DataFrame({"when": ["2026-01-01 10:00", "2026-01-02 11:00"] * 29 + ["soon", None], **clicks})
    field, (learned, answered) = again(times, {"column": "when", "kind": "time"})
    few = PlainTable.read(pl.DataFrame({"when": ["soon", "2026-01-01 10:00"]}), fields=Fields((field,)))
    told = field.read(few.examples.places, answering=True)
    assert told[:, -1].tolist() == [1, 0, 1]
    np.testing.assert_allclose(told[1], learned[0])


def test_numbers_keep_their_digits():
    seconds = 1_700_000_000 + np.arange(600) % 60
    frame = pl.DataFrame({"when": seconds, "click": (np.arange(600) % 60 < 30).astype(int)})
    _, (learned, answered) = again(frame, {"column": "when", "kind": "number"})
    np.testing.assert_array_equal(learned, answered)
    assert len(np.unique(answered[:600, 0])) == 60


@pytest.mark.parametrize("outcome", [[True, False], ["yes", "no"], ["true", "false"]])
def test_outcomes_are_left_out_however_they_are_written(outcome):
    frame = pl.DataFrame({"click": [0, 1] * 30, "purchase": outcome * 30, "x": np.arange(60.0)})
    said = []
    table = PlainTable.read(frame, tasks=["click"], log=lambda message, numbers=None: said.append(message))
    assert list(table.examples.places) == ["x"]
    assert any("purchase: left out" in each for each in said)


@pytest.mark.parametrize(
    "times", [{"shown_at": "2026-01-01"}, {"Timestamp": 1.5}, {"time": 0.25}], ids=lambda each: next(iter(each))
)
def test_the_latest_are_held_out_by_any_column_of_times(times):
    ((name, first),) = times.items()
    rows = np.random.default_rng(0).permutation(40)
    told = (
        [f"2026-01-{1 + each % 28:02d} {each // 28:02d}:00" for each in rows] if isinstance(first, str) else rows / 50
    )
    table = PlainTable.read(pl.DataFrame({name: told, "x": rows * 1.0, "click": [0, 1] * 20}))
    learned, held_out = table.split(0.1, 0)
    if not isinstance(first, str):
        assert held_out.places["x"].values.min() > learned.places["x"].values.max()
    else:
        moment = [held_out.places[name].values.min(), learned.places[name].values.max()]
        assert moment[0] >= moment[1]


def test_a_column_of_chances_is_not_overwritten():
    table = PlainTable.read(pl.DataFrame({"x": [1.0, 2.0], "click_probability": [0.1, 0.2]}))
    with pytest.raises(DataError, match="click_probability already"):
        table.with_chances({"click": np.array([0.5, 0.5])})


def test_lists_held_out_without_a_click_are_judged_by_log_loss(tmp_path, capsys):
    frame = pl.DataFrame({"x": np.arange(60.0), "time": np.arange(60), "click": [1, 1, 1, 1] + [0] * 56})
    frame.write_csv(tmp_path / "few.csv")
    out = tmp_path / "bundle"
    arguments = ["rank", "train", str(tmp_path / "few.csv"), "--out", str(out), "--tasks", "click",
                 "--set", "plan.epochs=2", "--threads", "1"]  # fmt: skip
    assert main(arguments) == 0
    assert "auc can be had of no task of the validation part; epochs are judged by log loss" in capsys.readouterr().err
    two = PlainTable.read(frame.head(2), tasks=["click"])
    assert fit_table(DCNv2(**SMALL, plan=TrainPlan(epochs=1)), two, None, RUN).training["best_epoch"] == 1


def test_a_fit_of_a_table_is_resumed(tmp_path):
    table = PlainTable.read(shown(90), tasks=["click"])
    run = replace(RUN, checkpoints=tmp_path / "checkpoints", resume=True)
    first, again = (fit_table(DCNv2(**SMALL, plan=TrainPlan(epochs=2)), table, None, run) for _ in range(2))
    assert np.array_equal(first.state()["0.heads.0.last.weight"], again.state()["0.heads.0.last.weight"])


def test_tasks_of_a_file_that_are_no_settings_are_told(tmp_path, capsys):
    shown(60).write_csv(tmp_path / "shown.csv")
    (tmp_path / "ranker.yaml").write_text("tasks: [click]\nplan: {epochs: 1}\n")
    arguments = ["rank", "train", str(tmp_path / "shown.csv"), "--config", str(tmp_path / "ranker.yaml"),
                 "--out", str(tmp_path / "bundle"), "--threads", "1"]  # fmt: skip
    assert main(arguments) == 2
    assert "tasks" in capsys.readouterr().err
    assert main([*arguments, "--tasks", "click"]) == 0
