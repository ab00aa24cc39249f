"""Items that are described, from outside: odd tables, new items, and encoders that are not to be had."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Call = Callable[..., Any]
COLUMNS = ("--user-col", "Kunde", "--item-col", "Artikel", "--time-col", "Zeit")
FEW = ("--set", "dim=8", "--set", "plan.epochs=1", "--set", "batch_size=64")
T5 = ("pretrain=true", "pretrain_epochs=1", "encoder_dim=16", "encoder_layers=1", "encoder=./none")
KNOWING: dict[str, tuple[str, ...]] = {
    "categorypopular": (),
    "textsimilarity": ("--set", "by=words"),
    "twotower": ("--set", "item_features=true", *FEW),
    "graphsage": ("--set", "item_features=true", *FEW),
    "sberttwotower": FEW,
    "t5hybrid": (*FEW, *(part for each in T5 for part in ("--set", each))),
}
BY_EVENTS = {"item2vec": FEW, "lightgcn": FEW, "twotower": FEW, "hybrid": ()}
# A new item, one of which nothing is said, one of another world, and one that is known already.
ARRIVALS = """Artikel;Bezeichnung;Beschreibung;Warengruppe;Farbe
B-1;Ein neuer Stuhl;"<p>made of <b>oak</b> &amp; steel</p>";wood;red
B-2;;;;
B-3;\U0001f680;\U0001f468\u200d\U0001f680;spaceships;
A-01;Tisch;;wood;
"""


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log, newer events and a table of items with semicolons, odd names of columns, HTML, and two items missing."""
    folder, draw = tmp_path_factory.mktemp("odd"), random.Random(1)
    lines = ["Artikel;Bezeichnung;Beschreibung;Warengruppe"]
    for number in range(20):
        made = ("oak", "steel", "glass")[number % 3]
        said = "" if number == 5 else f'"<p>made of <b>{made}</b> &amp; more;<br/>solid</p>"'
        lines.append(f"A-{number:02};Ding {number};{said};{('wood', 'light')[number % 2]}")
    del lines[14], lines[8]
    (folder / "items.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    events = [
        f"K{user};A-{item:02};{1_700_000_000 + 3600 * (20 * user + place)}"
        for user in range(30)
        for place, item in enumerate(draw.sample(range(user % 2, 20, 2), 6))
    ]
    for name, part in (("log.csv", events[:150]), ("next.csv", events[150:])):
        (folder / name).write_text("\n".join(["Kunde;Artikel;Zeit", *part]) + "\n", encoding="utf-8")
    (folder / "arrivals.csv").write_text(ARRIVALS, encoding="utf-8")
    return folder


def train(foretaste: Call, tables: Path, model: str, settings: tuple[str, ...], out: Path) -> Any:
    return foretaste(
        "train",
        tables / "log.csv",
        "--items",
        tables / "items.csv",
        *COLUMNS,
        "--model",
        model,
        *settings,
        "--out",
        out,
    )


@pytest.mark.parametrize("model", KNOWING)
def test_odd_tables_are_read_and_new_items_offered(model: str, foretaste: Call, tables: Path, tmp_path: Path) -> None:
    trained = train(foretaste, tables, model, KNOWING[model], tmp_path / "b")
    assert trained.code == 0, trained.err
    assert "Beschreibung (text)" in trained.err
    assert "items.csv: 2 of the 20 items of the log have no row in it" in trained.err
    new = ("--new-items", tables / "arrivals.csv", "--item-col", "Artikel")
    answered = foretaste("recommend", tmp_path / "b", "--user", "K1", "-k", "99", "--json", *new)
    assert answered.code == 0, answered.err
    assert "1 of its 4 items are known already" in answered.err
    assert "no such columns: Farbe" in answered.err
    assert "of 3 new items have nothing that the model can read" in answered.err
    offered = [row["item_id"] for row in answered.json]
    assert {"B-1", "B-2", "B-3"} <= set(offered) and len(set(offered)) == len(offered)
    sources = {row["item_id"]: row["source"] for row in answered.json}
    assert (sources["B-1"], sources["B-2"]) == (model, "popularity")
    stranger = foretaste("recommend", tmp_path / "b", "--history", "B-1", "-k", "3", "--json", *new)
    assert stranger.code == 0 and "left out" not in stranger.err.replace("left out, as", "")
    assert foretaste("similar", tmp_path / "b", "--item", "A-00", "-k", "3", "--json").code == 0
    judged = foretaste("evaluate", tmp_path / "b", "--events", tables / "next.csv", *COLUMNS)
    assert judged.code == 0, judged.err
    unnamed = foretaste("recommend", tmp_path / "b", "--user", "K1", *new[:2])
    assert unnamed.code == 2
    assert "Name it: --item-col" in unnamed.complaint


@pytest.mark.parametrize("model", BY_EVENTS)
def test_models_of_events_alone_say_that_they_cannot_know_new_items(
    model: str, foretaste: Call, tables: Path, tmp_path: Path
) -> None:
    assert train(foretaste, tables, model, BY_EVENTS[model], tmp_path / "b").code == 0
    refused = foretaste("recommend", tmp_path / "b", "--user", "K1", "--new-items", tables / "arrivals.csv")
    assert refused.code == 2
    assert f"This {model} knows items by their events alone" in refused.complaint


@pytest.mark.parametrize("model", ["textsimilarity", "sberttwotower", "t5hybrid"])
@pytest.mark.parametrize("encoder", ["nobody/nothing", "./nowhere"])
def test_an_encoder_that_is_not_to_be_had_is_2_in_one_line(
    model: str, encoder: str, foretaste: Call, tables: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("foretaste.encoders.hub_answers", lambda: False)
    ended = train(foretaste, tables, model, ("--set", f"encoder={encoder}"), tmp_path / "b")
    assert (ended.code, ended.out) == (2, "")
    assert f"{encoder!r}" in ended.complaint and "Give a folder that holds one" in ended.complaint
    assert not (tmp_path / "b").exists()


def test_a_table_without_texts_or_names_is_named(foretaste: Call, tables: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare.csv"
    bare.write_text("Artikel;Preis\n" + "".join(f"A-{number:02};{number}\n" for number in range(20)))
    for model, lacks in (("sberttwotower", "ITEM_TEXT"), ("t5hybrid", "ITEM_TEXT"), ("categorypopular", "groups them")):
        ended = foretaste(
            "train", tables / "log.csv", "--items", bare, *COLUMNS, "--model", model, "--out", tmp_path / "b"
        )
        assert ended.code == 2
        assert lacks in ended.complaint
