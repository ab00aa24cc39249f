"""Biased matrix factorisation, the yardstick for predicted ratings, and its error beside that of a bundle.

python benchmarks/biased_mf.py --data-dir DIR [--bundle FOLDER ...] [--source ml-100k] [--targets 5] [--out FILE]

Regularisation and factors are chosen on the validation events; the error is that of the test targets. A bundle must
have been fitted on the training part of the same split. It reads the ratings between train and the targets as history;
the factorisation cannot, so it is also fitted with them.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from measuring import told, versions, write_result
from numpy.typing import NDArray

from foretaste import load, sources
from foretaste.dataset import Dataset
from foretaste.evaluation.ratings import rating_rmse, target_values
from foretaste.query import Holdout
from foretaste.split import LastN

GRID = [(factors, regularization) for factors in (0, 5, 10, 20) for regularization in (2.0, 5.0, 10.0, 20.0)]


@dataclass(frozen=True)
class BiasedMF:
    """rating = mean + bias of the user + bias of the item + <factors of the user, factors of the item>.

    By alternating least squares, with ``regularization`` added to each diagonal; users and items without ratings keep
    zeros, which is the mean.

    Source: Koren, Bell, Volinsky, "Matrix Factorization Techniques for Recommender Systems", IEEE Computer 2009, eq. 4
        and 5. Differs: alternating least squares for the biases too; the regularisation does not grow with the number
        of ratings.
    """

    mean: float
    users: NDArray[np.float64]  # (users, 1 + factors) the bias first
    items: NDArray[np.float64]  # (items, 1 + factors)

    @classmethod
    def fit(cls, train: Dataset, factors: int, regularization: float, sweeps: int = 15, seed: int = 0) -> "BiasedMF":
        rated = ~np.isnan(train.value)
        user, item, value = train.user[rated], train.item[rated], train.value[rated].astype(np.float64)
        mean = float(value.mean())
        users, items = np.zeros((len(train.users), 1 + factors)), np.zeros((len(train.items), 1 + factors))
        items[:, 1:] = np.random.default_rng(seed).normal(0, 0.1, (len(items), factors))
        for _ in range(sweeps):
            users = _solved(user, items[item], value - mean, len(users), regularization)
            items = _solved(item, users[user], value - mean, len(items), regularization)
        return cls(mean, users, items)

    def ratings(self, user: NDArray[np.integer], item: NDArray[np.integer]) -> NDArray[np.float64]:
        p, q = self.users[user], self.items[item]
        return self.mean + p[:, 0] + q[:, 0] + (p[:, 1:] * q[:, 1:]).sum(1)

    def rmse(self, holdout: Holdout, values: NDArray[np.floating], low: float, high: float) -> float:
        given = ~np.isnan(values)
        user = holdout.queries.user[holdout.targets.row_of_value()]
        found = self.ratings(user[given], holdout.targets.values[given]).clip(low, high)
        return float(np.sqrt(np.mean((found - values[given]) ** 2)))


def _solved(
    side: NDArray[np.integer], other: NDArray[np.float64], value: NDArray[np.float64], count: int, regularization: float
) -> NDArray[np.float64]:
    """(count, 1 + factors) the ridge regression of each side on the factors of the other."""
    inputs = np.concatenate([np.ones((len(other), 1)), other[:, 1:]], 1)
    wanted = value - other[:, 0]
    found = np.zeros((count, inputs.shape[1]))
    ridge = regularization * np.eye(inputs.shape[1])
    order = np.argsort(side, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(side[order])) + 1):
        found[side[rows[0]]] = np.linalg.solve(inputs[rows].T @ inputs[rows] + ridge, inputs[rows].T @ wanted[rows])
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", required=True)
    parser.add_argument("--source", default="ml-100k")
    parser.add_argument("--targets", type=int, default=5)
    parser.add_argument("--bundle", action="append", default=[])
    parser.add_argument("--out", type=Path)
    given = parser.parse_args(arguments)
    data = sources.load(given.source, given.data_dir)
    parts = LastN(n=given.targets).split(data)
    low, high = float(np.nanmin(data.value)), float(np.nanmax(data.value))
    validation, test = (target_values(data, part) for part in (parts.validation, parts.test))
    chosen = min(GRID, key=lambda each: BiasedMF.fit(parts.train, *each).rmse(parts.validation, validation, low, high))
    print(f"biased matrix factorisation, {chosen[0]} factors, regularisation {chosen[1]:g}:")
    logs = {"train": parts.train, "all before the targets": before_targets(data, parts.test)}
    error = {called: BiasedMF.fit(log, *chosen).rmse(parts.test, test, low, high) for called, log in logs.items()}
    for called, found in error.items():
        print(f"  fitted on {called}: RMSE {found:.4f}")
    if given.out is not None:
        dataset = {"name": data.name, "fingerprint": data.fingerprint, "targets": given.targets}
        settings = {"factors": chosen[0], "regularization": chosen[1]}
        command = told("biased_mf.py", sys.argv[1:] if arguments is None else arguments)
        about = {"benchmark": "biased_mf", "command": command, "versions": versions(), "dataset": dataset}
        write_result(given.out, {**about, "settings": settings, "rmse": error})
    for bundle in given.bundle:
        print(f"{bundle}: RMSE {rating_rmse(load(bundle), parts.test, test):.4f}")


def before_targets(data: Dataset, test: Holdout) -> Dataset:
    """The log without the events behind the histories of the test queries."""
    place = np.arange(len(data)) - data.offsets[data.user]
    shown = np.diff(data.offsets)
    shown[test.queries.user] = test.queries.history.lengths
    return data.where(place < shown[data.user])


if __name__ == "__main__":
    main()
