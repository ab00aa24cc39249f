"""Two fits of a model that reads texts, each up to its first batch; prints JSON on its last line.

python foretaste_texts.py DATASET MODEL SETTINGS THREADS CACHE

DATASET is a folder of a saved dataset, SETTINGS are JSON, CACHE is the folder of what was encoded.
"""

import json
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from foretaste import iterative
from foretaste.dataset import Dataset
from foretaste.models import model_settings
from foretaste.recipe import validated
from foretaste.run import Log, Run
from foretaste.text_encoder import TextEncoder


class BegunError(Exception):
    """Learning would begin now, and what comes of it is of no interest."""


def main(folder: Path, model: str, settings: dict[str, Any], threads: int, cache: str) -> dict[str, Any]:
    torch.set_num_threads(threads)
    os.environ["FORETASTE_CACHE"] = cache
    data, chosen = Dataset.open(folder), validated(model_settings(model), settings, model)
    moments: dict[str, float] = {}
    asked, encoded = watch(moments)
    seconds = []
    for _ in range(2):
        begun = time.perf_counter()
        try:
            chosen.fit(data, None, Run(device="cpu", threads=threads))
        except BegunError:
            moments["learning_begins"] = time.perf_counter()
        seconds.append({what: moment - begun for what, moment in moments.items()})
    return {
        "seconds": seconds,
        "distinct_texts": len({text for text in asked if text}),
        "encoded_texts": sum(encoded.values()),
        "most_often_encoded": max(encoded.values(), default=0),
    }


def watch(moments: dict[str, float]) -> tuple[list[str], Counter[str]]:
    """The texts that are asked for, and how often the encoder itself reads each, as they come.

    Args:
        moments: Gets the time at which the last texts were ready; the first batch raises ``BegunError``.
    """
    asked: list[str] = []
    encoded: Counter[str] = Counter()
    encode, read = TextEncoder.encode, TextEncoder._encoded

    def watched_encode(self: TextEncoder, texts: Sequence[str], *given: Any) -> Any:
        asked.extend(texts)
        vectors = encode(self, texts, *given)
        moments["texts_ready"] = time.perf_counter()
        return vectors

    def watched_read(self: TextEncoder, texts: Sequence[str], log: Log) -> Any:
        encoded.update(texts)
        return read(self, texts, log)

    train = iterative.train

    def watched_train(net: Any, batches: Any, losses: Any, *given: Any, **named: Any) -> Any:
        def first(batch: Any) -> Any:
            raise BegunError

        return train(net, batches, first, *given, **named)

    TextEncoder.encode, TextEncoder._encoded = watched_encode, watched_read  # type: ignore[method-assign]
    iterative.train = watched_train
    return asked, encoded


if __name__ == "__main__":
    order = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3]), int(sys.argv[4]), sys.argv[5]
    print(json.dumps(main(*order)))
