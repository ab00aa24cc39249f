"""Recipes: what is in the package can be read, what is misspelt is named, what is written repeats the run."""

import re
from pathlib import Path
from typing import Any

import pytest

from foretaste.errors import ConfigError, UnknownName
from foretaste.models.sasrec import SASRec
from foretaste.recipe import RECIPES, Recipe, model_of, read_recipe, recipe_names, validated, with_overrides

PLAIN = {"data": {"shop": {}}, "split": {"kind": "leave_one_out"}, "models": {"ease": {}}}


def recipe(**changes: Any) -> Recipe:
    return validated(Recipe, {**PLAIN, **changes}, "here")


def test_the_recipes_of_the_contract_are_there() -> None:
    wanted = {
        "demo",
        "ml-100k",
        "ml-1m",
        "ml-1m-sasrec",
        "retailrocket",
        "retailrocket-buyers",
        "amazon14-beauty",
        "gowalla",
        "ml-100k-cold",
        "shop-texts",
    }
    assert wanted <= set(recipe_names())


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_of_the_package_is_valid_and_survives_being_written(name: str, tmp_path: Path) -> None:
    read = read_recipe(name)
    assert read.name == name
    (tmp_path / "again.yaml").write_text(read.to_yaml(), encoding="utf-8")
    again = read_recipe(str(tmp_path / "again.yaml"))
    assert again.settings() == read.settings()
    assert again.to_yaml() == read.to_yaml()


def test_the_baselines_stand_in_every_table_without_being_asked() -> None:
    assert list(recipe(models={}).settings()) == ["popular", "recentpopular", "itemknn"]
    assert list(recipe(models={"best": {"model": "itemknn"}}).settings()) == [
        "popular",
        "recentpopular",
        "itemknn",
        "best",
    ]


def test_narrowing_keeps_settings_and_adds_models_with_their_defaults() -> None:
    given = recipe(models={"wide": {"model": "sasrec", "dim": 128}, "ease": {"l2": 3.0}})
    narrowed = given.narrowed(["wide", "ALS"])
    assert list(narrowed.models) == ["wide", "als"]
    assert narrowed.settings()["wide"].model_dump()["dim"] == 128
    assert given.narrowed(["EASE"]).models == {"ease": {"l2": 3.0}}
    with pytest.raises(UnknownName, match="Unknown model 'widee' - did you mean 'wide'"):
        given.narrowed(["widee"])


@pytest.mark.parametrize(
    ("pair", "expected"),
    [
        ("models.ease.l2=7", {"models": {"ease": {"l2": 7}}}),
        ("models.sasrec.plan.lr=1e-3", {"models": {"ease": {}, "sasrec": {"plan": {"lr": "1e-3"}}}}),
        ("evaluation.k=[1, 5]", {"evaluation": {"k": [1, 5]}}),
        ("data.shop.users=5", {"data": {"shop": {"users": 5}}}),
        ("split.kind=by_time", {"split": {"kind": "by_time"}}),
        ("split.kind=leave_one_out", {"split": {"kind": "leave_one_out", "seed": 3}}),
        ("name=a=b", {"name": "a=b"}),
    ],
)
def test_overrides_reach_any_depth_and_another_kind_drops_what_was_the_old_ones(
    pair: str, expected: dict[str, Any]
) -> None:
    content = {"data": {"shop": None}, "split": {"kind": "leave_one_out", "seed": 3}, "models": {"ease": {}}}
    changed = with_overrides(content, [pair])
    assert {key: changed[key] for key in expected} == expected
    assert content["models"] == {"ease": {}}, "the content that was given stays"


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ("models.ease.l2", "--set takes key=value"),
        ("=7", "--set takes key=value"),
        ("name.x=7", "name is a value, not a group of settings"),
        ("models.ease.l2=[7", "cannot be read as YAML: line 1, column"),
    ],
)
def test_an_override_that_leads_nowhere_is_named(pair: str, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        with_overrides({"name": "x", **PLAIN}, [pair])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"modles": {}}, "unknown key 'modles' - did you mean 'models'? Known keys: data, evaluation, models, name"),
        (
            {"split": {"kind": "by_tim"}},
            "unknown split.kind 'by_tim' - did you mean 'by_time'? There are: leave_one_out",
        ),
        ({"split": {"kind": "zigzag"}}, "unknown split.kind 'zigzag'. There are: leave_one_out"),
        ({"split": {"kind": 3}}, "unknown split.kind '3'"),
        ({"split": {}}, "split.kind is missing; it is one of leave_one_out, last_n"),
        ({"split": 3}, "split must be a group of settings, as in 'split: {key: value}'; it is 3"),
        ({"split": {"kind": "leave_one_out", "sed": 3}}, "unknown key 'split.sed' - did you mean 'seed'?"),
        ({"split": {"kind": "leave_one_out", "seed": "x"}}, "split.seed: input should be a valid integer"),
        ({"data": {"shop": {"usres": 3}}}, "unknown key 'data.shop.usres' - did you mean 'users'?"),
        ({"data": {"shop": {}, "columns": {"uesr": "u"}}}, "unknown key 'data.columns.uesr' - did you mean 'user'?"),
        ({"evaluation": {"k": 5}}, "evaluation.k: input should be a list, as in [5, 10] (given: 5)"),
        ({"evaluation": {"seeds": 0}}, "evaluation.seeds: input should be greater than 0 (given: 0)"),
        ({"models": {"ease": 3}}, "models.ease must be a group of settings"),
    ],
)
def test_what_is_wrong_is_said_in_words_with_the_nearest_name(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)) as caught:
        recipe(**changes)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("here: ")


def test_several_wrong_things_are_named_together() -> None:
    with pytest.raises(ConfigError, match=r"here: split\.seed: .*; evaluation\.seeds: .*\.$"):
        recipe(split={"kind": "random", "seed": "x"}, evaluation={"seeds": 0})


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ({"ese": {}}, "Unknown model 'ese' - did you mean 'ease'"),
        ({"ease": {"l": 3}}, "models.ease: unknown key 'l' - did you mean 'l2'"),
        ({"sasrec": {"plan": {"epoch": 3}}}, "models.sasrec: unknown key 'plan.epoch' - did you mean 'epochs'"),
        ({"sasrec": {"dim": 10, "heads": 3}}, "models.sasrec: dim (10) must be a multiple of heads (3)."),
        ({"ease": {"model": "als"}}, "models.ease: another row is always called 'ease'"),
        ({"oracle": {"model": "als"}}, "models.oracle: another row is always called 'oracle'"),
        ({"mine": {"model": 3}}, "models.mine.model: the name of a model is text; this is 3"),
        ({"../mine": {"model": "als"}}, "a row also names a folder"),
        ({".mine": {"model": "als"}}, "a row also names a folder"),
        ({" ": {"model": "als"}}, "a row also names a folder"),
    ],
)
def test_a_wrong_model_shows_before_any_work(models: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        recipe(models=models).settings()


def test_a_model_is_its_name_or_a_file_and_takes_overrides(tmp_path: Path) -> None:
    assert model_of("SASRec", ["dim=8", "plan.epochs=2"]) == SASRec(dim=8, plan={"epochs": 2})  # type: ignore[arg-type]
    path = tmp_path / "small.yaml"
    path.write_text("\ufeffmodel: sasrec\ndim: 8\n", encoding="utf-8")
    assert model_of(str(path), ["dim=16"]) == SASRec(dim=16)
    path.write_text("dim: 8\n")
    with pytest.raises(ConfigError, match="does not say which model it is for; add a line such as 'model: sasrec'"):
        model_of(str(path))
    with pytest.raises(UnknownName, match="Unknown model 'sasrc' - did you mean 'sasrec'"):
        model_of("sasrc")


def test_dates_stay_text_and_a_day_that_is_none_is_named(tmp_path: Path) -> None:
    path = tmp_path / "cut.yaml"
    path.write_text("data: {shop: {}}\nsplit: {kind: by_time, dates: [2024-03-01, 2024-04-01]}\n")
    assert read_recipe(str(path)).split.model_dump()["dates"] == ("2024-03-01", "2024-04-01")
    with pytest.raises(ConfigError, match="'2024-02-30' is no ISO date"):
        read_recipe(str(path), ["split.dates=[2024-02-30]"])
    with pytest.raises(ConfigError, match="cannot be read as YAML: Exceeds the limit"):
        read_recipe(str(path), [f"split.min_history={'1' * 5000}"])


def test_exactly_one_source_of_data_is_given() -> None:
    with pytest.raises(ConfigError, match="data: give exactly one of source, shop and events; given: none"):
        recipe(data={})
    with pytest.raises(ConfigError, match="given: source, events"):
        recipe(data={"source": "ml-1m", "events": "log.csv"})


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_begins_with_its_command_what_it_takes_and_what_to_expect(name: str) -> None:
    head = [line for line in (RECIPES / f"{name}.yaml").read_text().splitlines() if line.startswith("# ")]
    assert head[0].startswith(f"# foretaste run {name}")
    told = " ".join(head).lower()
    assert "minutes" in told and "cores" in told
    assert "ndcg@" in told or "not measured" in told
