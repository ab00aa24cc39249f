"""The network of DCN-v2: vectors of features, blocks of groups, cross layers and deep layers, heads of tasks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from foretaste.nets.cross import CrossNetwork
from foretaste.nets.deep import DeepNetwork, TaskHead
from foretaste.nets.experts import ExpertLayer
from foretaste.nets.fields import FunctionVectors, MeanOfNames, NameVectors, SequenceVector
from foretaste.optimizers import learn_slower
from foretaste.rank.fields import Field, Fields
from foretaste.rank.inputs import RankBatch
from foretaste.rank.reading import NamesReader

if TYPE_CHECKING:
    from foretaste.rank.dcnv2 import DCNv2

__all__ = ["Mixing", "RankNet"]


@dataclass(frozen=True, eq=False)
class Mixing:
    """How the rows of a batch are mixed: each with another one, all by the same share, at one place of the network.

    Source: Verma et al., "Manifold Mixup", ICML 2019.
    """

    order: Tensor  # (rows,) the other row of each
    share: float  # of its own state that a row keeps
    place: int  # 0 = the features, 1 = what the cross and the deep layers made of them

    def __call__(self, states: Tensor, place: int) -> Tensor:
        if place != self.place:
            return states
        return self.share * states + (1 - self.share) * states[self.order]


class RankNet(nn.Module):
    """Log-odds (rows, tasks) from a batch."""

    def __init__(self, settings: "DCNv2", fields: Fields, tasks: Sequence[str]) -> None:
        super().__init__()
        held = fields.as_held()
        self.vectors = _Vectors(settings, fields)
        self.groups = _Groups(held, settings.dim, settings.group_dim)
        self.norm = _input_norm(settings.input_norm, self.groups.width)
        width = self.groups.width
        self.cross = (
            CrossNetwork(
                width,
                settings.cross_layers,
                settings.rank,
                settings.cross_experts,
                settings.cross_norm,
                settings.drop_path,
            )
            if settings.cross_layers
            else None
        )
        self.deep = (
            DeepNetwork(width, settings.hidden, settings.dropout, settings.norm, settings.activation, settings.skips)
            if settings.hidden
            else None
        )
        self.stacked = settings.structure == "stacked"
        deep_width = 0 if self.deep is None else self.deep.width
        cross_width = 0 if self.cross is None or (self.stacked and self.deep is not None) else width
        combined = cross_width + deep_width
        self.experts = nn.ModuleList()
        if settings.sharing != "shared":
            own = settings.own_experts if settings.sharing == "ple" else 0
            for layer in range(settings.expert_layers):
                inputs = settings.expert_dim if layer else combined
                self.experts.append(
                    ExpertLayer(
                        inputs,
                        settings.expert_dim,
                        len(tasks),
                        settings.experts,
                        own,
                        settings.dropout,
                        last=layer == settings.expert_layers - 1,
                    )
                )
            combined = settings.expert_dim
        self.heads = nn.ModuleList(TaskHead(combined, settings.head_hidden, settings.head_dropout) for _ in tasks)
        self._learn_by_depth(settings.layer_rate)

    def forward(self, batch: RankBatch, mixing: Mixing | None = None) -> Tensor:
        """(rows, tasks) float32."""
        features = self.norm(self.groups(self.vectors(batch)))
        features = features if mixing is None else mixing(features, 0)
        combined = self._combined(features)
        combined = combined if mixing is None else mixing(combined, 1)
        states = combined.unsqueeze(0)
        for layer in self.experts:
            states = layer(states)
        return torch.stack([head(states[task if self.experts else 0]) for task, head in enumerate(self.heads)], 1)

    def _combined(self, features: Tensor) -> Tensor:
        crossed = features if self.cross is None else self.cross(features)
        if self.deep is None:
            return crossed
        if self.stacked:
            return torch.as_tensor(self.deep(crossed))
        deep = self.deep(features)
        return deep if self.cross is None else torch.cat([crossed, deep], 1)

    def _learn_by_depth(self, share: float) -> None:
        """Let each stage learn at a share of the rate of the one after it; the heads learn at the whole."""
        stages: list[list[nn.Module | None]] = [
            [*self.experts],
            [self.cross, self.deep],
            [self.groups, self.norm],
            [self.vectors],
        ]
        own = share
        for stage in stages:
            there = [module for module in stage if module is not None]
            if not there:
                continue
            for module in there:
                learn_slower(module.parameters(), own)
            own *= share


class _Vectors(nn.Module):
    """(rows, features, dim) in the order of ``Fields.as_held``."""

    def __init__(self, settings: "DCNv2", fields: Fields) -> None:
        super().__init__()
        held, dim, std = fields.as_held(), settings.dim, settings.vector_std
        sizes = [_size(field) for field in held if field.kind == "category"]
        self.names = NameVectors(sizes, dim, std, settings.forgetting) if sizes else None
        self.functions = nn.ModuleList(
            FunctionVectors(len(among), width, dim) for width, among in fields.by_width().items()
        )
        self.several = nn.ModuleList(
            MeanOfNames(_size(field), dim, std)
            if field.kind == "categories"
            else SequenceVector(
                _size(field), dim, field.feature.length, settings.sequence_layers, settings.heads, settings.dropout, std
            )
            for field in fields.of_kind("categories", "sequence")
        )

    def forward(self, batch: RankBatch) -> Tensor:
        parts = [] if self.names is None else [self.names(batch.codes)]
        parts += [functions(values) for functions, values in zip(self.functions, batch.bases, strict=True)]
        parts += [
            several(rows.codes, rows.offsets).unsqueeze(1)
            for several, rows in zip(self.several, batch.rows, strict=True)
        ]
        return torch.cat(parts, 1)


class _Groups(nn.Module):
    """(rows, width): for each group what its block makes of its features, or the features as they are.

    A block is a matrix, a norm and GELU.
    """

    def __init__(self, held: Sequence[Field], dim: int, group_dim: int | None) -> None:
        super().__init__()
        self.members: dict[str, list[int]] = {}
        for place, field in enumerate(held):
            self.members.setdefault(field.group, []).append(place)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(len(members) * dim, group_dim), nn.LayerNorm(group_dim), nn.GELU())
            for members in self.members.values()
            if group_dim is not None
        )
        self.width = len(held) * dim if group_dim is None else len(self.members) * group_dim

    def forward(self, vectors: Tensor) -> Tensor:
        if not self.blocks:
            return vectors.flatten(1)
        return torch.cat(
            [
                block(vectors[:, members].flatten(1))
                for block, members in zip(self.blocks, self.members.values(), strict=True)
            ],
            1,
        )


def _input_norm(norm: str, width: int) -> nn.Module:
    if norm == "none":
        return nn.Identity()
    return nn.LayerNorm(width) if norm == "layer" else nn.BatchNorm1d(width)


def _size(field: Field) -> int:
    if not isinstance(field.reader, NamesReader):
        raise TypeError(f"{field.name} is not read by names")
    return field.reader.size
