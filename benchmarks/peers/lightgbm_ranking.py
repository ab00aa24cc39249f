"""LightGBM's side of ranking_quality.py; runs in an environment of its own.

python lightgbm_ranking.py ORDER.json, which names the codes (.npz), the settings, and where the chances go.
"""

import json
import sys
import time
from importlib.metadata import version
from pathlib import Path

import lightgbm
import numpy as np


def main(path: Path) -> None:
    order = json.loads(path.read_text())
    data = np.load(order["data"])
    columns = [str(each) for each in data["columns"]]
    told = dict(order["settings"])
    rounds, patience = told.pop("rounds"), told.pop("patience")
    parts = {
        name: lightgbm.Dataset(
            data[f"{name}.codes"], data[f"{name}.labels"], feature_name=columns, categorical_feature=columns,
            free_raw_data=False,
        )
        for name in ("train", "validation")
    }  # fmt: skip
    parts["validation"].reference = parts["train"]
    curve: dict[str, dict[str, list[float]]] = {}
    began = time.perf_counter()
    model = lightgbm.train(
        {
            **{"objective": "binary", "metric": "auc", "verbosity": -1, "num_threads": order["threads"]},
            **{"seed": order["seed"], "deterministic": True, **told},
        },
        parts["train"],
        rounds,
        valid_sets=[parts["validation"]],
        valid_names=["validation"],
        callbacks=[lightgbm.early_stopping(patience), lightgbm.log_evaluation(50), lightgbm.record_evaluation(curve)],
    )
    seconds = time.perf_counter() - began
    chances = {name: np.asarray(model.predict(data[f"{name}.codes"]), np.float32) for name in ("validation", "test")}
    told = {
        "fit_seconds": seconds,
        "validation": curve["validation"]["auc"],
        "versions": {name: version(name) for name in ("lightgbm", "numpy")},
    }
    np.savez(order["out"], told=json.dumps(told), **chances)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
