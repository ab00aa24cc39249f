"""A vector for each feature of an example: of names by a table, of numbers by matrices, of sequences by attention."""

from collections.abc import Sequence
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from foretaste.nets.attention import SelfAttentionBlock
from foretaste.nets.towers import mean_of_rows

__all__ = ["FunctionVectors", "MeanOfNames", "NameVectors", "SequenceVector", "TextVector", "TokenEncoder"]

ENCODED_TOGETHER = 256  # texts


class TokenEncoder(Protocol):
    """What makes a vector (texts, width) of tokens (texts, places)."""

    def of_tokens(self, tokens: Tensor, there: Tensor) -> Tensor: ...


class NameVectors(nn.Module):
    """The vectors of all features by name, from one table in one look-up.

    Args:
        sizes: How many codes each feature has, that of the unknown included.
        forgotten: While training each name is taken for unknown with this chance, so that something is learned of the
            unknown.
    """

    first: Tensor

    def __init__(self, sizes: Sequence[int], dim: int, std: float, forgotten: float) -> None:
        super().__init__()
        self.forgotten = forgotten
        self.register_buffer("first", torch.tensor([0, *sizes]).cumsum(0)[:-1], persistent=False)
        self.weight = nn.Parameter(torch.empty(sum(sizes), dim))
        nn.init.normal_(self.weight, std=std)

    def forward(self, codes: Tensor) -> Tensor:
        """(examples, features, dim) for codes (examples, features)."""
        if self.training and self.forgotten:
            codes = codes * (torch.rand(codes.shape, device=codes.device) >= self.forgotten)
        return nn.functional.embedding(codes + self.first, self.weight)


class FunctionVectors(nn.Module):
    """The vectors of features that are read by equally many functions: a matrix and a bias for each feature."""

    def __init__(self, features: int, width: int, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(features, width, dim))
        self.bias = nn.Parameter(torch.zeros(features, dim))
        nn.init.normal_(self.weight, std=width**-0.5)

    def forward(self, values: Tensor) -> Tensor:
        """(examples, features, dim) for values (examples, features, width)."""
        return torch.einsum("nfw,fwd->nfd", values, self.weight) + self.bias

    def followed_by(self, matrix: Tensor, features: slice | list[int]) -> tuple[Tensor, Tensor]:
        """The matrix (outputs, features, width) from values to what a matrix makes of the vectors, and its bias.

        Args:
            matrix: (outputs, features, dim) over the vectors of these features.
            features: Which of all.
        """
        weight, bias = self.weight[features], self.bias[features]
        return torch.einsum("ofd,fwd->ofw", matrix, weight), torch.einsum("ofd,fd->o", matrix, bias)


class MeanOfNames(nn.Module):
    """The mean of the vectors of a row's names; zero without any. That of the unknown begins as zero."""

    def __init__(self, size: int, dim: int, std: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(_drawn(size, dim, std))

    def forward(self, codes: Tensor, offsets: Tensor) -> Tensor:
        """(examples, dim) for the codes (total,) of all rows, and (examples + 1,) where each begins."""
        return mean_of_rows(self.weight, codes, offsets)


class SequenceVector(nn.Module):
    """What attention makes of a sequence at its last place; a vector of its own where there is none.

    A transformer's blocks over the vectors of names and of how far each stands from the end.

    Args:
        length: The most places of a sequence.
    """

    def __init__(self, size: int, dim: int, length: int, layers: int, heads: int, dropout: float, std: float) -> None:
        super().__init__()
        self.names = nn.Parameter(_drawn(size, dim, std))
        self.places = nn.Parameter(torch.zeros(length, dim))
        self.nothing = nn.Parameter(torch.zeros(dim))
        self.blocks = nn.ModuleList(SelfAttentionBlock(dim, heads, 4 * dim, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(dim)

    def forward(self, codes: Tensor, offsets: Tensor) -> Tensor:
        """(examples, dim), as ``MeanOfNames``; oldest first."""
        lengths = offsets.diff()
        longest = max(1, int(lengths.max())) if len(lengths) else 1
        from_end = lengths[:, None] - 1 - torch.arange(longest, device=codes.device)
        there = from_end >= 0
        padded = torch.zeros(there.shape, dtype=torch.long, device=codes.device)
        padded[there] = codes
        states = nn.functional.embedding(padded, self.names)
        states = states + nn.functional.embedding(from_end.clamp(min=0), self.places)
        last = (lengths - 1).clamp(min=0)[:, None]
        for number, block in enumerate(self.blocks):
            # Causal, so that what pads a row on the right is never seen; of the last block only the end is wanted.
            states = block(states, None, places=last if number == len(self.blocks) - 1 else None)
        found = self.norm(
            states[:, -1] if self.blocks else states.gather(1, last[..., None].expand(-1, -1, states.shape[2]))[:, 0]
        )
        return torch.where((lengths > 0)[:, None], found, self.nothing.to(found.dtype))


def _drawn(size: int, dim: int, std: float) -> Tensor:
    """(size, dim) vectors of names; that of the unknown, which training hardly meets, says nothing."""
    found = torch.randn(size, dim) * std
    found[0] = 0
    return found


class TextVector(nn.Module):
    """What a matrix and a bias make of a text as an encoder has it, which learns; a vector of its own without a text.

    Args:
        encoder: A ``TokenEncoder``.
        width: Of what it makes.
    """

    def __init__(self, encoder: nn.Module, width: int, dim: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.matrix = nn.Linear(width, dim)
        self.nothing = nn.Parameter(torch.zeros(dim))

    def forward(self, codes: Tensor, offsets: Tensor) -> Tensor:
        """(examples, dim) for the tokens (total,) of all rows, and (examples + 1,) where each begins.

        Texts that stand in several rows are encoded once.
        """
        lengths = offsets.diff()
        written = lengths > 0
        if not written.any():
            return self.nothing.expand(len(lengths), -1)
        there = torch.arange(int(lengths.max()), device=codes.device) < lengths[:, None]
        padded = torch.full(there.shape, -1, dtype=torch.long, device=codes.device)
        padded[there] = codes
        texts, which = torch.unique(padded[written], dim=0, return_inverse=True)
        encode = cast("TokenEncoder", self.encoder).of_tokens
        made = torch.cat([encode(some.clamp(min=0), some >= 0) for some in texts.split(ENCODED_TOGETHER)])
        vectors = self.matrix(made)[which]
        found = self.nothing.to(vectors.dtype).expand(len(lengths), -1)
        return found.index_put((written.nonzero()[:, 0],), vectors)
