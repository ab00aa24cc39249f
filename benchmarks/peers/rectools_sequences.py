"""RecTools' side of sequence_speed.py; runs in the peer's own environment, and works whenever a line on stdin asks."""

import json
import resource
import sys
import time
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import BERT4RecModel, SASRecModel

MARK = "@answer "
MODELS = {"SASRecModel": SASRecModel, "BERT4RecModel": BERT4RecModel}
MOST_EPOCHS = 60  # on the way to a score


class Count(Callback):
    """Seconds of the last epoch, and how many events its loss counted."""

    seconds = 0.0
    events = 0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.events, self.begun = 0, time.perf_counter()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self.events += int((batch["y"] != 0).sum())

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.seconds = time.perf_counter() - self.begun


class Side:
    """The data as RecTools has it, and its model."""

    def __init__(self, order: dict[str, Any]) -> None:
        torch.set_num_threads(order["threads"])
        self.order = order
        given = np.load(order["events"])
        self.users = int(given["users"])
        self.validation = [given[name] for name in ("validation_user", "validation_item") if name in given]
        frame = pd.DataFrame(
            {
                Columns.User: given["user"],
                Columns.Item: given["item"],
                Columns.Weight: 1.0,
                # The rows of a user stand in order; a second apart, the times say the same.
                Columns.Datetime: pd.to_datetime(np.arange(len(given["user"])), unit="s"),
            }
        )
        self.dataset = Dataset.construct(frame)
        settings = dict(order["settings"])
        self.model = MODELS[settings.pop("class")](**settings, get_trainer_func=self.trainer)

    def trainer(self) -> Trainer:
        """As the model makes it by itself, with the precision that is asked for and a count."""
        return Trainer(
            max_epochs=1,
            min_epochs=1,
            enable_progress_bar=False,
            enable_model_summary=False,
            logger=False,
            enable_checkpointing=False,
            devices=1,
            accelerator="cpu",
            precision=self.order["precision"],
            callbacks=[Count()],
        )

    def trained(self) -> Count:
        self.model.fit_partial(self.dataset, min_epochs=1, max_epochs=1)
        # The trainer, and with it the count, was copied by the model.
        return next(each for each in self.model.fit_trainer.callbacks if isinstance(each, Count))

    def epoch(self) -> None:
        count = self.trained()
        answer(seconds=count.seconds, events=count.events)

    def until(self) -> None:
        seconds, scores = [], []
        most_seconds = self.order.get("most_seconds") or float("inf")
        while not scores or (
            scores[-1] < self.order["until"] and sum(seconds) < most_seconds and len(scores) < MOST_EPOCHS
        ):
            seconds.append(self.trained().seconds)
            scores.append(self.score())
        reached = scores[-1] >= self.order["until"]
        answer(seconds=sum(seconds), epochs=len(seconds), best=max(scores), reached=reached, epoch_seconds=seconds)

    def score(self) -> float:
        """Mean ndcg@10 of one held-out event per user."""
        users, items = self.validation
        wanted = pd.Series(items, index=users)
        lists = self.model.recommend(users, self.dataset, k=10, filter_viewed=True)
        hits = lists[lists[Columns.Item].to_numpy() == wanted.loc[lists[Columns.User]].to_numpy()]
        return float((1 / np.log2(hits[Columns.Rank].to_numpy() + 1.0)).sum() / len(users))

    def recommend(self) -> None:
        """All of recommend, and within it the two stages that it is made of."""
        lightning = self.model.lightning_model
        ranked = lightning.torch_model.similarity_module
        timed = {
            "vectors": Timed(lightning, "_get_user_item_embeddings"),
            "lists": Timed(ranked, "_recommend_u2i"),
        }
        begun = time.perf_counter()
        self.model.recommend(np.arange(self.users), self.dataset, k=self.order["k"], filter_viewed=True)
        whole = time.perf_counter() - begun
        answer(all=whole, **{stage: each.stop() for stage, each in timed.items()})

    def about(self) -> None:
        names = ("RecTools", "torch", "pytorch-lightning", "numpy", "pandas")
        answer(
            versions={name: version(name) for name in names},
            peak_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            parameters=sum(each.numel() for each in self.model.torch_model.parameters()),
        )


class Timed:
    """A method of an object, timed until ``stop`` puts it back."""

    def __init__(self, owner: Any, name: str) -> None:
        self.owner, self.name, self.seconds = owner, name, 0.0
        method = getattr(owner, name)

        def timed(*given: Any, **named: Any) -> Any:
            begun = time.perf_counter()
            result = method(*given, **named)
            self.seconds += time.perf_counter() - begun
            return result

        object.__setattr__(owner, name, timed)

    def stop(self) -> float:
        object.__delattr__(self.owner, self.name)
        return self.seconds


def answer(**told: Any) -> None:
    print(MARK + json.dumps(told), flush=True)


def main() -> None:
    side = Side(json.loads(sys.stdin.readline()))
    requests = {each.__name__: each for each in (side.epoch, side.until, side.recommend, side.about)}
    for line in sys.stdin:
        requests[line.strip()]()


if __name__ == "__main__":
    main()
