"""Several vectors of one thing, each of another kind, as one vector."""

import torch
from torch import Tensor, nn

from foretaste.nets.dropout import Dropout

__all__ = ["Gate", "Modalities"]


class Modalities(nn.Module):
    """Each kind of vector attends to the others that are there, and learned weights say how much each then counts.

    Of a thing's kinds x_1 ... x_m, of which some may be missing:

        y_j = x_j + sum over heads of attention(norm(x_j + k_j), all norm(x_i + k_i) that are there)
        a_j = softmax over those that are there of <v, tanh(W norm(y_j + k_j))>,    the vector: sum a_j y_j

    with k_j learned for each kind. At first nothing is attended to and all count the same: the mean of what is there.

    Source: the attention between kinds is that of Vaswani et al., "Attention Is All You Need", 2017, section 3.2.2; the
        weights are those of Yang et al., "Hierarchical Attention Networks for Document Classification", NAACL 2016,
        eq. 5 to 7.
    """

    def __init__(self, kinds: int, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.kinds = nn.Parameter(torch.zeros(kinds, dim))
        nn.init.normal_(self.kinds, std=0.02)
        self.norm, self.weighed_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.queries, self.keys, self.values = (nn.Linear(dim, dim) for _ in range(3))
        self.out = nn.Linear(dim, dim)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)
        self.hidden = nn.Linear(dim, dim)
        self.weigh = nn.Linear(dim, 1, bias=False)
        nn.init.zeros_(self.weigh.weight)
        self.dropout = Dropout(dropout)

    def forward(self, vectors: Tensor, there: Tensor) -> Tensor:
        """(rows, dim) of vectors (rows, kinds, dim), of which ``there`` (rows, kinds) are; zero where none is."""
        attended = self._attended(vectors, self._attention(vectors, there))
        weights = self._weights(attended, there)
        return torch.einsum("rk,rkd->rd", weights.to(attended.dtype), attended)

    def weights(self, vectors: Tensor, there: Tensor) -> tuple[Tensor, Tensor]:
        """How much each kind counts (rows, kinds), and what each attends to (rows, heads, kinds, kinds)."""
        attention = self._attention(vectors, there)
        return self._weights(self._attended(vectors, attention), there), attention

    def _attention(self, vectors: Tensor, there: Tensor) -> Tensor:
        """(rows, heads, kinds, kinds); what is not there attends to nothing, and nothing attends to it."""
        read = self.norm(vectors + self.kinds)
        scores = self._split(self.queries(read)) @ self._split(self.keys(read)).transpose(-1, -2)
        scores = scores.float() * (vectors.shape[-1] // self.heads) ** -0.5
        return _shares(scores, (there[:, :, None] & there[:, None, :]).unsqueeze(1))

    def _attended(self, vectors: Tensor, attention: Tensor) -> Tensor:
        values = self._split(self.values(self.norm(vectors + self.kinds)))
        mixed = (attention.to(values.dtype) @ values).transpose(1, 2).flatten(2)
        return torch.as_tensor(vectors + self.dropout(self.out(mixed)))

    def _weights(self, attended: Tensor, there: Tensor) -> Tensor:
        hidden = self.hidden(self.weighed_norm(attended + self.kinds)).tanh()
        return _shares(self.weigh(hidden).squeeze(-1).float(), there)

    def _split(self, each: Tensor) -> Tensor:
        """(rows, heads, kinds, dim / heads)."""
        return each.view(*each.shape[:-1], self.heads, each.shape[-1] // self.heads).transpose(1, 2)


class Gate(nn.Module):
    """Of two vectors of one thing, how much each number comes from the first and how much from the second.

        g = sigmoid(W [x_1; x_2] + b),    the vector: g x_1 + (1 - g) x_2    (number by number)

    Where one is missing the other stands alone. At first W and b are zero: the mean of both.

    Source: Arevalo et al., "Gated Multimodal Units for Information Fusion", ICLR workshop 2017, for two
        modalities. Differs: the vectors are mixed as they are, without a layer and a tanh of their own, since they
        come from layers that learn; b is added; missing vectors.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gate = nn.Linear(2 * dim, dim)
        nn.init.zeros_(self.gate.weight)
        nn.init.zeros_(self.gate.bias)

    def forward(self, vectors: Tensor, there: Tensor) -> Tensor:
        """(rows, dim) of vectors (rows, 2, dim), of which ``there`` (rows, 2) are; zero where none is."""
        first = self.shares(vectors, there).to(vectors.dtype)
        mixed = first * vectors[:, 0] + (1 - first) * vectors[:, 1]
        return mixed * there.any(1, keepdim=True)

    def shares(self, vectors: Tensor, there: Tensor) -> Tensor:
        """(rows, dim) how much comes from the first vector; 0 where it is not there, 1 where the second is not."""
        gates = self.gate(vectors.flatten(1)).float().sigmoid()
        both, alone = there.all(1, keepdim=True), (there[:, :1] & ~there[:, 1:]).float()
        return torch.where(both, gates, alone)


def _shares(scores: Tensor, there: Tensor) -> Tensor:
    """The softmax along the last axis over what is there; all 0 where nothing is."""
    shares = scores.masked_fill(~there, -torch.inf).softmax(-1)
    return shares.masked_fill(~there, 0.0).nan_to_num()
