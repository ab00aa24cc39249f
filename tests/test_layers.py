"""Imports point down, and what is not needed is not loaded."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import foretaste
from foretaste.text_encoder import TextEncoder
from foretaste.texts import row_texts

SOURCE = Path(foretaste.__file__).parent

# From the ground up: a module imports only from lines above its own. A package counts as one module.
LAYERS = """
errors
curves
ragged event_order run memory console computing losses averaging train_plan eight_bit
vocab storage topk fusion ann sampling exit_codes optimizers
checkpoints fallback encoders sealed_folder
mishaps
catalog train
indicators
texts text_encoder new_items
item_features prompts t5_pretraining
nets t5_encoder
dataset
saved_dataset query sessions sources events side_inputs pairs history_pairs
batching
masking
histories
recommender split simulate
scoring
evaluation
validation
iterative task_answers
sequential
itemloss distillation
nextitem
enhanced
rank policies
models
bundle json_tables
json_queries
answers answer_files recipe
fitting doctor comparison oracle
experiment cli_answers
cli_options
cli_rank
cli
"""
HEIGHT = {name: height for height, line in enumerate(LAYERS.split("\n")) for name in line.split()}

# What is reached up for, inside a function, and why.
UPWARD = {
    ("dataset", "saved_dataset"),  # data.save(folder) and Dataset.open(folder) likewise
    ("recommender", "bundle"),  # model.save(folder) reads better than save(model, folder)
    ("recommender", "answers"),  # model.with_items(table, events) puts newer events behind the stored ones
    ("distillation", "bundle"),  # a teacher is named by its folder
}


def unit(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    """The modules of Foretaste that a file imports anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "foretaste":
            found |= {each.name for each in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("foretaste."):
            found.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {each.name.split(".")[1] for each in node.names if each.name.startswith("foretaste.")}
    return found - {unit(path)}


FILES = [path for path in sorted(SOURCE.rglob("*.py")) if unit(path) != "__init__"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_point_down(path):
    name = unit(path)
    assert name in HEIGHT, f"{name} is new: give it a line in LAYERS, below all that it imports"
    upward = {(name, each) for each in imports(path) if each in HEIGHT and HEIGHT[each] >= HEIGHT[name]}
    assert upward <= UPWARD


def test_every_layer_is_there():
    assert set(HEIGHT) == {unit(path) for path in FILES}


def test_each_upward_import_is_still_needed():
    assert {(unit(path), each) for path in FILES for each in imports(path)} >= UPWARD


def loaded_after(script: str, folder: Path) -> set[str]:
    """The top names in sys.modules after a script in a fresh interpreter."""
    script += "\nimport sys\nprint(*{each.split('.')[0] for each in sys.modules})"
    done = subprocess.run([sys.executable, "-c", script, folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_importing_foretaste_is_light(tmp_path):
    loaded = loaded_after("import foretaste", tmp_path)
    assert not loaded & {"torch", "numpy", "scipy", "polars", "pyarrow", "plotly", "pandas", "accelerate", "implicit"}


FIT_AND_ANSWER = """
import sys
from pathlib import Path
from foretaste.bundle import load
from foretaste.dataset import Dataset
from foretaste.models import MODELS
from foretaste.query import Holdout, Queries
from foretaste.ragged import Ragged
from foretaste.run import Run
from foretaste.train import TrainPlan

folder = Path(sys.argv[1])
data = Dataset.open(folder / "data")
queries = Queries.of_users(data)
validation = Holdout(queries, Ragged.from_lists([[0]] * len(queries)))
for name, settings in MODELS.items():
    small = settings(plan=TrainPlan(epochs=1), dim=8) if "plan" in settings.model_fields else settings()
    if name == "t5hybrid":
        small = settings(encoder="./none", pretrain=True, pretrain_epochs=1, encoder_dim=8, plan=TrainPlan(epochs=1))
    run = Run(device="cpu", checkpoints=folder / "checkpoints" / name)
    small.fit(data, validation, run).with_histories(data).save(folder / name)
    model = load(folder / name)
    assert len(model.recommend(["u1", "u2"], k=3)) == 2
    assert len(model.recommend([["sku-1"]], k=3).lists()[0]) == 3
"""


def test_fitting_and_answering_need_no_libraries_for_reading_or_reporting(shop, tmp_path):
    shop.save(tmp_path / "data")
    TextEncoder("all-MiniLM-L6-v2").encode(row_texts(shop.catalog.items))  # kept, so that the encoder is not loaded
    loaded = loaded_after(FIT_AND_ANSWER, tmp_path)
    assert {"torch", "numpy"} <= loaded
    assert not loaded & {"polars", "pyarrow", "plotly", "pandas"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_nothing_is_pickled(path):
    names = {each.id for each in ast.walk(ast.parse(path.read_text())) if isinstance(each, ast.Name)}
    assert not names & {"pickle", "cloudpickle", "joblib", "dill", "marshal", "shelve"}
    assert "torch.load(" not in path.read_text()
    assert "allow_pickle=True" not in path.read_text()
