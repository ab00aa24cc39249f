"""Bundles: data and nothing else, whole or refused with the file named."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import foretaste.sealed_folder
from foretaste import storage
from foretaste.bundle import load
from foretaste.errors import BundleError, ForetasteError
from foretaste.models import ItemKNN, Popular

FILES = ["model.json", "weights.safetensors", "catalog.safetensors", "histories.safetensors"]


@pytest.fixture(scope="module")
def model(shop):
    fitted = ItemKNN(neighbors=3).fit(shop.where(np.arange(len(shop)) < 40)).with_histories(shop)
    fitted.metrics = {"ndcg@10": 0.25}
    fitted.training = {"best_epoch": 3}
    return fitted


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("bundles") / "whole"
    model.save(folder)
    return folder


@pytest.fixture
def bundle(saved, tmp_path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(saved, tmp_path / "bundle"))


def test_a_bundle_is_json_and_safetensors_only(saved):
    assert sorted(each.name for each in saved.rglob("*")) == sorted(FILES)
    for path in saved.glob("*.safetensors"):
        header = path.read_bytes()
        size = int.from_bytes(header[:8], "little")
        json.loads(header[8 : 8 + size])


def test_all_that_is_known_comes_back(saved, model, shop):
    again = load(saved)
    assert again.settings == model.settings
    assert (again.metrics, again.training) == (model.metrics, model.training)
    assert again.about.fingerprint == model.about.fingerprint
    assert (again.about.data, again.about.kinds) == ("shop", shop.kinds)
    assert np.array_equal(again.about.popularity, model.about.popularity)
    assert again.about.titles() == shop.catalog.titles()
    assert again.items.lists() == shop.items.lists()
    stored, expected = again.histories.queries, model.histories.queries
    assert again.histories.users.lists() == shop.users.lists()
    assert stored.history.lists() == expected.history.lists()
    for name in ("times", "kinds", "values", "session_start", "user", "now"):
        assert np.array_equal(getattr(stored, name), getattr(expected, name), equal_nan=name == "values")
    assert stored.user_features["age"].lists() == expected.user_features["age"].lists()


def test_the_index_says_what_made_it(saved):
    index = json.loads((saved / "model.json").read_text())
    assert index["model"] == "itemknn"
    assert index["settings"]["neighbors"] == 3
    assert {"python", "foretaste", "torch", "numpy"} <= index["versions"].keys()
    assert index["files"].keys() == set(FILES) - {"model.json"}


def test_histories_are_left_out_where_there_are_none(shop, tmp_path):
    Popular().fit(shop).save(tmp_path / "bare")
    assert not (tmp_path / "bare" / "histories.safetensors").exists()
    assert load(tmp_path / "bare").histories is None


def test_any_changed_byte_of_the_index_is_noticed(bundle):
    path = bundle / "model.json"
    whole = path.read_bytes()
    for place in range(0, len(whole), 7):  # each one is tried with the seal itself, in test_storage
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(BundleError, match=r"model\.json"):
            load(bundle)


@pytest.mark.parametrize("name", FILES[1:])
def test_a_changed_byte_of_an_array_file_is_noticed(bundle, name):
    path = bundle / name
    whole = path.read_bytes()
    for place in {0, 9, len(whole) // 3, len(whole) // 2, len(whole) - 1}:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 128]) + whole[place + 1 :])
        with pytest.raises(BundleError, match=f"{name} is not what was saved: it is torn or was edited"):
            load(bundle)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("left", [0.0, 0.5, 0.99])
def test_a_torn_file_is_named(bundle, name, left):
    whole = (bundle / name).read_bytes()
    (bundle / name).write_bytes(whole[: int(left * len(whole))])
    with pytest.raises(BundleError, match=name):
        load(bundle)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(bundle, name):
    (bundle / name).unlink()
    with pytest.raises(BundleError, match=name):
        load(bundle)


def test_what_is_no_bundle_at_all_is_refused(tmp_path):
    with pytest.raises(BundleError, match="nowhere is not a folder"):
        load(tmp_path / "nowhere")
    (tmp_path / "file").write_text("x")
    with pytest.raises(BundleError, match="file is not a folder"):
        load(tmp_path / "file")
    with pytest.raises(BundleError, match=r"holds no model\.json, so it is not a bundle"):
        load(tmp_path)


EDITS = {
    "a newer format": (lambda index: index | {"format": 2}, r"model\.json has format 2; this version reads 1"),
    "a setting": (lambda index: index | {"settings": {"neighbors": 5}}, r"model\.json .*was edited"),
    "another model": (lambda index: index | {"model": "ease"}, r"model\.json .*was edited"),
    "a metric": (lambda index: index | {"metrics": {"ndcg@10": 0.9}}, r"model\.json .*was edited"),
    "a path": (lambda index: index | {"files": {"../x.safetensors": "0"}}, r"model\.json .*was edited"),
    "no files": (lambda index: {key: index[key] for key in index if key != "files"}, r"model\.json .*was edited"),
    "a list": (lambda index: [index], r"model\.json is not the index of a bundle"),
    "nothing": (lambda index: {}, r"model\.json is not the index of a bundle"),
}


@pytest.mark.parametrize("edit", EDITS)
def test_an_edited_index_is_refused(bundle, edit):
    change, complaint = EDITS[edit]
    path = bundle / "model.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(BundleError, match=complaint):
        load(bundle)


def test_a_bundle_of_other_settings_than_this_version_has_is_refused(bundle):
    index = json.loads((bundle / "model.json").read_text())
    del index["checksum"]
    storage.write_sealed(bundle / "model.json", index | {"settings": {"neighbours": 3}})
    with pytest.raises(BundleError, match=r"model\.json does not fit its arrays or this version of Foretaste"):
        load(bundle)


def test_arrays_of_another_shape_are_refused(bundle, model):
    storage.write_arrays(bundle / "weights.safetensors", {"data": np.zeros(3)})
    index = json.loads((bundle / "model.json").read_text())
    del index["checksum"]
    index["files"]["weights.safetensors"] = storage.checksum(bundle / "weights.safetensors")
    storage.write_sealed(bundle / "model.json", index)
    with pytest.raises(BundleError, match=r"model\.json does not fit its arrays"):
        load(bundle)


@pytest.mark.parametrize("before", ["nothing", "a bundle"])
def test_a_failure_half_way_leaves_nothing_half_written(model, bundle, tmp_path, monkeypatch, before):
    place = bundle if before == "a bundle" else tmp_path / "new"
    written = sorted(each.name for each in tmp_path.rglob("*"))
    calls = iter([None, OSError(28, "No space left on device")])

    def write_arrays(path, arrays):
        error = next(calls)
        if error:
            raise error
        storage.write_arrays(path, arrays)

    monkeypatch.setattr(foretaste.sealed_folder, "write_arrays", write_arrays)
    with pytest.raises(ForetasteError, match=r"Cannot write .*: No space left on device"):
        model.save(place)
    assert sorted(each.name for each in tmp_path.rglob("*")) == written
    if before == "a bundle":
        load(place)


def test_a_bundle_takes_the_place_of_an_older_one(model, bundle, shop, tmp_path):
    Popular().fit(shop).save(bundle)
    assert load(bundle).name == "popular"
    assert sorted(each.name for each in bundle.iterdir()) == sorted(set(FILES) - {"histories.safetensors"})
    assert [each.name for each in tmp_path.iterdir()] == ["bundle"]


def test_a_folder_that_is_no_bundle_is_not_overwritten(model, tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "photo.jpg").write_text("dear")
    with pytest.raises(ForetasteError, match=r"home exists and is no folder with a model\.json; it is left alone"):
        model.save(tmp_path / "home")
    assert (tmp_path / "home" / "photo.jpg").read_text() == "dear"
