"""The network of DCN-v2: vectors of features, blocks of groups, cross layers and deep layers, heads of tasks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from foretaste.nets.cross import CrossNetwork
from foretaste.nets.deep import DeepNetwork, TaskHead
from foretaste.nets.experts import ExpertLayer
from foretaste.nets.fields import FunctionVectors, MeanOfNames, NameVectors, SequenceVector, TextVector
from foretaste.optimizers import learn_slower
from foretaste.rank.fields import Field, Fields
from foretaste.rank.inputs import RankBatch
from foretaste.rank.reading import NamesReader
from foretaste.text_encoder import Finetuned, TextEncoder

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
        self.vectors = _Vectors(settings, fields)
        self.groups = None if settings.group_dim is None else _Groups(fields, settings.dim, settings.group_dim)
        width = len(fields) * settings.dim if self.groups is None else self.groups.width
        self.norm = _input_norm(settings.input_norm, width)
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
        for field, module in zip(fields.of_rows(), self.vectors.several, strict=True):
            if isinstance(module, TextVector):
                learn_slower(module.encoder.parameters(), field.feature.encoder_lr / settings.plan.lr)

    def forward(self, batch: RankBatch, mixing: Mixing | None = None) -> Tensor:
        """(rows, tasks) float32."""
        read = self.vectors.read(batch)
        features = self.norm(
            self.vectors(read).flatten(1) if self.groups is None else self.groups(read, self.vectors.functions)
        )
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
            there = [each for module in stage if module is not None for each in module.parameters()]
            if not there:
                continue
            learn_slower(there, own)
            own *= share


class _Vectors(nn.Module):
    """(rows, features, dim) in the order of ``Fields.parts``, from what was ``read``."""

    def __init__(self, settings: "DCNv2", fields: Fields) -> None:
        super().__init__()
        dim, std = settings.dim, settings.vector_std
        sizes = [_size(field) for field in fields.parts()[0]]
        self.dim = dim
        self.names = NameVectors(sizes, dim, std, settings.forgetting) if sizes else None
        self.functions = nn.ModuleList(
            FunctionVectors(len(among), width, dim) for width, among in fields.by_width().items()
        )
        self.several = nn.ModuleList(_of_rows(settings, field) for field in fields.of_rows())

    def tables(self) -> list[Tensor]:
        """The vectors of names, of all features."""
        own: list[Tensor] = [] if self.names is None else [self.names.weight]
        for each in self.several:
            if isinstance(each, MeanOfNames):
                own.append(each.weight)
            elif isinstance(each, SequenceVector):
                own.append(each.names)
        return own

    def read(self, batch: RankBatch) -> list[Tensor]:
        """For each of ``Fields.parts`` (rows, features, dim) vectors, or (rows, features, width) what functions say."""
        names = batch.labels.new_zeros(len(batch), 0, self.dim) if self.names is None else self.names(batch.codes)
        several = (
            of_rows(rows.codes, rows.offsets).unsqueeze(1)
            for of_rows, rows in zip(self.several, batch.rows, strict=True)
        )
        return [names, *batch.bases, *several]

    def forward(self, read: Sequence[Tensor]) -> Tensor:
        values = read[1 : 1 + len(self.functions)]
        made = [functions(each) for functions, each in zip(self.functions, values, strict=True)]
        return torch.cat([read[0], *made, *read[1 + len(made) :]], 1)


class _Groups(nn.Module):
    """(rows, width): what the block of each group makes of its features, one after another."""

    def __init__(self, fields: Fields, dim: int, group_dim: int) -> None:
        super().__init__()
        parts = fields.parts()
        names = dict.fromkeys(field.group for part in parts for field in part)
        self.blocks = nn.ModuleList(
            _Block([_places([field.group == name for field in part]) for part in parts], dim, group_dim)
            for name in names
        )
        self.width = len(names) * group_dim

    def forward(self, read: Sequence[Tensor], functions: Sequence[FunctionVectors]) -> Tensor:
        return torch.cat([block(read, functions) for block in self.blocks], 1)


class _Block(nn.Module):
    """(rows, width): a matrix over the vectors of some features, a norm and GELU.

    The vector of a feature that is read by functions is a product by a matrix itself. These two matrices are multiplied
    first, as they are smaller than the rows are many; the vectors of such features are never made.

    Args:
        members: The places of the features in each part of what is read.
    """

    def __init__(self, members: Sequence[Sequence[int]], dim: int, width: int) -> None:
        super().__init__()
        self.members = [_sliced(places) for places in members]
        self.counts, self.dim = [len(places) for places in members], dim
        self.matrix = nn.Linear(sum(self.counts) * dim, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, read: Sequence[Tensor], functions: Sequence[FunctionVectors]) -> Tensor:
        matrix = self.matrix.weight.view(len(self.matrix.weight), -1, self.dim)
        of_parts = torch.split(matrix, self.counts, 1)
        inputs, weights, bias = [], [], torch.as_tensor(self.matrix.bias)
        for part, (places, weight) in enumerate(zip(self.members, of_parts, strict=True)):
            if not self.counts[part]:
                continue
            inputs.append(read[part][:, places].flatten(1))
            if 1 <= part <= len(functions):  # behind the names
                composed, constant = functions[part - 1].followed_by(weight, places)
                weights.append(composed.flatten(1))
                bias = bias + constant
            else:
                weights.append(weight.flatten(1))
        made = nn.functional.linear(torch.cat(inputs, 1), torch.cat(weights, 1), bias)
        return nn.functional.gelu(self.norm(made))


def _places(there: Sequence[bool]) -> list[int]:
    return [place for place, each in enumerate(there) if each]


def _sliced(places: Sequence[int]) -> slice | list[int]:
    """Places as a slice where they follow each other, which is read without a copy."""
    if not places or list(places) != list(range(places[0], places[-1] + 1)):
        return list(places)
    return slice(places[0], places[-1] + 1)


def _input_norm(norm: str, width: int) -> nn.Module:
    if norm == "none":
        return nn.Identity()
    return nn.LayerNorm(width) if norm == "layer" else nn.BatchNorm1d(width)


def _of_rows(settings: "DCNv2", field: Field) -> nn.Module:
    """What makes a vector of several codes."""
    feature, dim, std = field.feature, settings.dim, settings.vector_std
    if field.kind == "categories":
        return MeanOfNames(_size(field), dim, std)
    if field.kind == "sequence":
        layers, heads = settings.sequence_layers, settings.heads
        return SequenceVector(_size(field), dim, feature.length, layers, heads, settings.dropout, std)
    encoder = Finetuned(TextEncoder(feature.encoder).network, feature.unfrozen_layers, feature.pooling)
    return TextVector(encoder, encoder.width, dim)


def _size(field: Field) -> int:
    if not isinstance(field.reader, NamesReader):
        raise TypeError(f"{field.name} is not read by names")
    return field.reader.size
