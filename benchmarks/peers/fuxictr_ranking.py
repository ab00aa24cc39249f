"""FuxiCTR's side of ranking_quality.py and ranking_speed.py; runs in an environment of its own.

Its wheel holds layers, losses and the trainer, but not the model zoo. The three models are put together of these layers
here as their papers and BARS' settings have them; what trains and judges them is FuxiCTR's own BaseModel.

python fuxictr_ranking.py ORDER.json, which names the codes (.npz), the model, its settings, and where the chances go.
Without a file the order comes as a line on stdin, and whenever a further line asks it trains an epoch, or answers.
"""

import json
import logging
import sys
import tempfile
import time
from collections import OrderedDict
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fuxictr.features import FeatureMap
from fuxictr.pytorch.layers import CrossNetMix, CrossNetV2, FactorizationMachine, FeatureEmbedding, MLP_Block
from fuxictr.pytorch.models import BaseModel
from fuxictr.pytorch.torch_utils import seed_everything
from torch import Tensor, nn

ANSWERED_TOGETHER = 8192
LABEL = "label"


class Batches:
    """Rows as tensors in memory; an epoch is a new order of them. Its own loaders read files, and are slower."""

    def __init__(self, columns: list[str], codes: Any, labels: Any, size: int, shuffle: bool) -> None:
        self.columns, self.size, self.shuffle = columns, size, shuffle
        self.codes, self.labels = torch.from_numpy(codes), torch.from_numpy(labels.astype(np.float32))

    def __len__(self) -> int:
        return -(-len(self.codes) // self.size)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        order = torch.randperm(len(self.codes)) if self.shuffle else torch.arange(len(self.codes))
        for rows in order.split(self.size):
            codes = self.codes[rows]
            yield {name: codes[:, place] for place, name in enumerate(self.columns)} | {LABEL: self.labels[rows]}


class Ranker(BaseModel):
    """What the three have in common: a vector per code, and one number per row, of which the sigmoid is the chance."""

    def __init__(self, features: FeatureMap, order: dict[str, Any], folder: str) -> None:
        told = order["settings"]
        super().__init__(
            features, model_id=order["model"], verbose=0, model_root=folder, metrics=["AUC", "logloss"],
            embedding_regularizer=told["embedding_regularizer"], net_regularizer=0, early_stop_patience=2,
        )  # fmt: skip
        self.dim = told["embedding_dim"]
        self.width = self.dim * features.num_fields
        self.embedding_layer = FeatureEmbedding(features, self.dim)
        self.build(features, told)
        self.compile("adam", "binary_crossentropy", told["learning_rate"])
        self.reset_parameters()
        self.model_to_device()
        self.curve: list[float] = []
        self.seconds: list[float] = []

    def build(self, features: FeatureMap, told: dict[str, Any]) -> None:
        raise NotImplementedError

    def log_odds(self, codes: dict[str, Tensor], vectors: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        codes = self.get_inputs(inputs)
        return {"y_pred": self.output_activation(self.log_odds(codes, self.embedding_layer(codes)))}

    def train_epoch(self, data_generator: Batches) -> None:
        self.begun = time.perf_counter()
        super().train_epoch(data_generator)

    def eval_step(self) -> None:
        self.seconds.append(time.perf_counter() - self.begun)
        super().eval_step()

    def checkpoint_and_earlystop(self, logs: dict[str, float], min_delta: float = 1e-6) -> None:
        self.curve.append(float(logs["AUC"]))
        super().checkpoint_and_earlystop(logs, min_delta)


class DCNv2(Ranker):
    """Cross layers and a deep network side by side."""

    def build(self, features: FeatureMap, told: dict[str, Any]) -> None:
        if told["use_low_rank_mixture"]:
            self.cross = CrossNetMix(self.width, told["num_cross_layers"], told["low_rank"], told["num_experts"])
        else:
            self.cross = CrossNetV2(self.width, told["num_cross_layers"])
        self.deep = MLP_Block(
            self.width, told["hidden_units"], dropout_rates=told["net_dropout"], batch_norm=told["batch_norm"]
        )
        self.last = nn.Linear(self.width + told["hidden_units"][-1], 1)

    def log_odds(self, codes: dict[str, Tensor], vectors: Tensor) -> Tensor:
        flat = vectors.flatten(start_dim=1)
        both: Tensor = self.last(torch.cat([self.cross(flat), self.deep(flat)], dim=-1))
        return both


class DeepFM(Ranker):
    """A factorisation machine plus a deep network over the same vectors."""

    def build(self, features: FeatureMap, told: dict[str, Any]) -> None:
        self.pairs = FactorizationMachine(features)
        self.deep = MLP_Block(
            self.width, told["hidden_units"], output_dim=1, dropout_rates=told["net_dropout"],
            batch_norm=told["batch_norm"],
        )  # fmt: skip

    def log_odds(self, codes: dict[str, Tensor], vectors: Tensor) -> Tensor:
        both: Tensor = self.pairs(codes, vectors) + self.deep(vectors.flatten(start_dim=1))
        return both


class FinalMLP(Ranker):
    """Two deep networks over vectors that each weighs by a gate of its own, and the products of their outputs by heads.

    Mao et al., "FinalMLP: An Enhanced Two-Stream MLP Model for CTR Prediction", AAAI 2023.
    """

    def build(self, features: FeatureMap, told: dict[str, Any]) -> None:
        self.heads = told["num_heads"]
        self.contexts = nn.ModuleList()
        self.gates, self.streams, self.linear = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for stream in told["streams"]:
            self.contexts.append(FeatureEmbedding(features, self.dim, required_feature_columns=[stream["context"]]))
            self.gates.append(
                MLP_Block(self.dim, told["fs_hidden_units"], output_dim=self.width, output_activation="Sigmoid")
            )
            self.streams.append(
                MLP_Block(self.width, stream["hidden_units"], dropout_rates=stream["dropout"], batch_norm=True)
            )
            self.linear.append(nn.Linear(stream["hidden_units"][-1], 1))
        first, second = (stream["hidden_units"][-1] // self.heads for stream in told["streams"])
        self.products = nn.Parameter(torch.empty(self.heads * first * second, 1))
        self.shape = (self.heads, first, second)
        nn.init.xavier_normal_(self.products)

    def log_odds(self, codes: dict[str, Tensor], vectors: Tensor) -> Tensor:
        flat = vectors.flatten(start_dim=1)
        found = []
        for context, gate, stream in zip(self.contexts, self.gates, self.streams, strict=True):
            found.append(stream(flat * 2 * gate(context(codes).flatten(start_dim=1))))
        linear: Tensor = self.linear[0](found[0]) + self.linear[1](found[1])
        first, second = (each.view(len(flat), self.heads, -1) for each in found)
        return linear + torch.einsum("bhx,hxy,bhy->b", first, self.products.view(self.shape), second)[:, None]


MODELS: dict[str, type[Ranker]] = {"dcnv2": DCNv2, "deepfm": DeepFM, "finalmlp": FinalMLP}


def features_of(columns: list[str], sizes: list[int], folder: str) -> FeatureMap:
    """All columns as categories of so many codes."""
    features = FeatureMap("rows", folder)
    features.num_fields, features.labels = len(columns), [LABEL]
    features.features = OrderedDict(
        (name, {"source": "", "type": "categorical", "vocab_size": size})
        for name, size in zip(columns, sizes, strict=True)
    )
    features.total_features = sum(sizes)
    return features


MARK = "@answer "


def in_turns() -> None:
    """Train an epoch without validation, or answer for the test part, whenever a line on stdin asks."""
    order = json.loads(sys.stdin.readline())
    torch.set_num_threads(order["threads"])
    data = np.load(order["data"])
    columns, size = [str(each) for each in data["columns"]], order["settings"]["batch_size"]
    train = Batches(columns, data["train.codes"], data["train.labels"], size, True)
    test = Batches(columns, data["test.codes"], data["test.labels"], ANSWERED_TOGETHER, False)
    seed_everything(0)
    with tempfile.TemporaryDirectory() as folder:
        model = MODELS[order["model"]](features_of(columns, data["sizes"].tolist(), folder), order, folder)
    model._max_gradient_norm, model._eval_steps, model._total_steps, model._stop_training = 10.0, 1 << 60, 0, False
    for line in sys.stdin:
        begun = time.perf_counter()
        if line.strip() == "epoch":
            model.train_epoch(train)
            told = {"rows": len(train.codes)}
        else:
            model.predict(test)
            told = {"rows": len(test.codes), "parameters": sum(each.numel() for each in model.parameters())}
            told["versions"] = {name: version(name) for name in ("fuxictr", "torch", "numpy")}
        print(MARK + json.dumps({"seconds": time.perf_counter() - begun, **told}), flush=True)


def main(path: Path) -> None:
    order = json.loads(path.read_text())
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    torch.set_num_threads(order["threads"])
    data = np.load(order["data"])
    columns = [str(each) for each in data["columns"]]
    size = order["settings"]["batch_size"]
    parts = {
        name: Batches(
            columns,
            data[f"{name}.codes"],
            data[f"{name}.labels"],
            size if name == "train" else ANSWERED_TOGETHER,
            name == "train",
        )
        for name in ("train", "validation", "test")
    }
    with tempfile.TemporaryDirectory() as folder:
        seed_everything(order["seed"])
        features = features_of(columns, data["sizes"].tolist(), folder)
        (Path(folder) / features.dataset_id).mkdir()
        model = MODELS[order["model"]](features, order, folder)
        began = time.perf_counter()
        model.fit(parts["train"], epochs=order["settings"]["epochs"], validation_data=parts["validation"])
        seconds = time.perf_counter() - began
        chances = {name: model.predict(parts[name]).astype(np.float32) for name in ("validation", "test")}
        begun = time.perf_counter()
        model.predict(parts["test"])
        answered = time.perf_counter() - begun
    told = {
        "fit_seconds": seconds,
        "epoch_seconds": model.seconds,
        "test_seconds": answered,
        "validation": model.curve,
        "parameters": sum(each.numel() for each in model.parameters()),
        "versions": {name: version(name) for name in ("fuxictr", "torch", "numpy")},
    }
    np.savez(order["out"], told=json.dumps(told), **chances)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        in_turns()
