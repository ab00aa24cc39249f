"""Neighbourhoods drawn from the graph of who met what, and layers that make a vector of a node and its neighbours'."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor, nn

from foretaste.nets.attention import check_heads
from foretaste.nets.towers import Tower, mean_of_rows, unit
from foretaste.ragged import PAD, groups_within

__all__ = [
    "ITEMS",
    "USERS",
    "Kind",
    "MeetingGraph",
    "NeighborAttention",
    "Neighbors",
    "SageLayer",
    "SageLayers",
    "Tree",
    "Withheld",
    "drawn_places",
]

Kind = Literal["users", "items"]
USERS: Kind = "users"
ITEMS: Kind = "items"
OTHER: dict[Kind, Kind] = {USERS: ITEMS, ITEMS: USERS}

MOST_HEARD = 1000  # neighbours of a node, where all of a graph is worked out: who has more is heard by these
PLACES = 1 << 17  # neighbours at a time there: 32 MiB of vectors of 64 numbers


@dataclass(frozen=True, eq=False)
class Neighbors:
    """For each of some nodes, nodes of the other kind that it met: all of them, row after row, as in ``Ragged``."""

    nodes: Tensor  # (total,)
    offsets: Tensor  # (rows + 1,)

    @classmethod
    def of_lengths(cls, nodes: Tensor, lengths: Tensor) -> "Neighbors":
        return cls(nodes, nn.functional.pad(lengths.cumsum(0), (1, 0)))

    @property
    def lengths(self) -> Tensor:
        return self.offsets.diff()

    def rows(self) -> Tensor:
        """(total,) of which row each is."""
        return torch.arange(len(self.offsets) - 1, device=self.nodes.device).repeat_interleave(self.lengths)

    def where(self, keep: Tensor) -> "Neighbors":
        """The same rows with only those for which ``keep`` (total,) is true."""
        kept = nn.functional.pad(keep.cumsum(0), (1, 0))
        return Neighbors(self.nodes[keep], kept[self.offsets])

    def padded(self) -> Tensor:
        """(rows, the longest) where in ``nodes`` each stands; PAD where a row is shorter."""
        lengths = self.lengths
        place = torch.arange(int(lengths.max()) if len(lengths) else 0, device=self.nodes.device)
        return (self.offsets[:-1, None] + place).masked_fill(place >= lengths[:, None], PAD)


class MeetingGraph(nn.Module):
    """Who met what, from both sides; it learns nothing, and is kept with a network so that it is where that computes.

    Args:
        met: (users, items) with an entry for each item that a user met.
    """

    def __init__(self, met: csr_matrix) -> None:
        super().__init__()
        self.counts: dict[Kind, int] = {USERS: met.shape[0], ITEMS: met.shape[1]}
        for kind, rows in ((USERS, met), (ITEMS, csr_matrix(met.T))):
            self.register_buffer(f"{kind}_starts", torch.from_numpy(rows.indptr.astype(np.int64)), persistent=False)
            self.register_buffer(f"{kind}_met", torch.from_numpy(rows.indices.astype(np.int32)), persistent=False)

    @classmethod
    def empty(cls, users: int, items: int) -> "MeetingGraph":
        """Nobody met anything."""
        nothing = np.empty(0, np.int32)
        return cls(csr_matrix((nothing, nothing, np.zeros(users + 1, np.int32)), shape=(users, items)))

    def degrees(self, kind: Kind) -> Tensor:
        """How many neighbours each node of a kind has."""
        return self._rows(kind)[0].diff()

    def drawn(self, kind: Kind, nodes: Tensor, most: int) -> Neighbors:
        """All neighbours of nodes of a kind, or of those who have more so many, each set of them as likely."""
        return self._found(kind, nodes, drawn_places(self._degrees(kind, nodes), most))

    def spread(self, kind: Kind, nodes: Tensor, most: int) -> Neighbors:
        """All neighbours of nodes of a kind, or of those who have more so many, spread evenly: always the same."""
        degrees = self._degrees(kind, nodes)
        count = degrees.clamp(max=most).unsqueeze(1)
        place = torch.arange(int(count.max()) if len(count) else 0, device=nodes.device)
        places = place * degrees.unsqueeze(1) // count.clamp(min=1)
        return self._found(kind, nodes, places.masked_fill(place >= count, PAD))

    def tree(
        self,
        kind: Kind,
        roots: Tensor,
        fanouts: Sequence[int],
        withheld: "Withheld",
        targets: Tensor,
        read: Tensor | None = None,
    ) -> "Tree":
        """The neighbours of the roots, the neighbours of these, and so on, each drawn anew.

        A neighbour that is withheld is not replaced by another.

        Args:
            roots: (roots,) nodes of a kind, of which one may stand there more than once.
            fanouts: How many neighbours are drawn at most of a root, of a neighbour of a root, and so on.
            targets: (roots,) the item of which each root's tree must not give away who met it.
            read: (roots,) bool, those that have neighbours at all. None: all.
        """
        hops, its, nodes, reads = [], kind, roots, read
        for fanout in fanouts:
            found = self.drawn(its, nodes, fanout)
            row = found.rows()
            user, item = (nodes[row], found.nodes) if its == USERS else (found.nodes, nodes[row])
            keep = ~withheld.among(user, item, targets[row])
            if its == ITEMS and withheld.forgotten is not None:
                keep &= ~withheld.forgotten[item]
            if reads is not None:
                keep &= reads[row]
            hops.append(found.where(keep))
            its, nodes, targets, reads = OTHER[its], found.nodes[keep], targets[row[keep]], None
        return Tree(kind, roots, tuple(hops))

    def _rows(self, kind: Kind) -> tuple[Tensor, Tensor]:
        return getattr(self, f"{kind}_starts"), getattr(self, f"{kind}_met")

    def _degrees(self, kind: Kind, nodes: Tensor) -> Tensor:
        starts = self._rows(kind)[0]
        return starts[nodes + 1] - starts[nodes]

    def _found(self, kind: Kind, nodes: Tensor, places: Tensor) -> Neighbors:
        """The neighbours at some places (nodes, most) of the nodes' rows; PAD = none."""
        starts, met = self._rows(kind)
        there = places != PAD
        return Neighbors.of_lengths(met[(starts[nodes].unsqueeze(1) + places)[there]].long(), there.sum(1))


@dataclass(frozen=True, eq=False)
class Withheld:
    """What a batch must not see of the graph, because it is to be found out.

    In the tree of a pair, and in that of its item, the edges between that item and those of the batch who met it do
    not exist, on whatever way they would be come upon.
    """

    user: Tensor  # (pairs,)
    item: Tensor  # (pairs,)
    forgotten: Tensor | None = None  # (items,) bool, those that have no neighbours here. None: none

    def among(self, user: Tensor, item: Tensor, target: Tensor) -> Tensor:
        """(edges,) bool, which of these edges do not exist where ``target`` is what is to be found."""
        hidden = item == target
        span = int(self.item.max()) + 1 if len(self.item) else 1
        suspects = torch.where(item[hidden] < span, user[hidden] * span + item[hidden], PAD)
        hidden[hidden.clone()] = torch.isin(suspects, self.user * span + self.item)
        return hidden


@dataclass(frozen=True, eq=False)
class Tree:
    """Roots of one kind, and what was drawn of their neighbourhood, hop by hop."""

    kind: Kind  # of the roots
    roots: Tensor  # (roots,)
    hops: tuple[Neighbors, ...]  # the first has a row for each root, the next for each node of the first, and so on

    def kinds(self) -> list[Kind]:
        """Of the roots and of the nodes of each hop."""
        return [self.kind if hop % 2 == 0 else OTHER[self.kind] for hop in range(len(self.hops) + 1)]

    def met(self, kind: Kind) -> Tensor:
        """The nodes of a kind in all hops; the roots are none of them."""
        nodes = [hop.nodes for hop, its in zip(self.hops, self.kinds()[1:], strict=True) if its == kind]
        return torch.cat([*nodes, self.roots[:0]])


class NeighborAttention(nn.Module):
    """Each node looks at its neighbours with several heads; what they see is put together to one vector.

    For head h of a node v with neighbours n:  a_n = softmax over n of <Q_h v, K_h n> / sqrt(dim / heads),  and the
    output is the concatenation over heads of V_h (sum of a_n n); zero for a node without neighbours. K_h and V_h are
    multiplied to the node's side of each product, so that what it costs per neighbour is only two inner products.

    Source: Vaswani et al., "Attention Is All You Need", 2017, section 3.2.2, with the attention of a node over its
        neighbours of Velickovic et al., "Graph Attention Networks", ICLR 2018. Differs from the latter: dot products
        where it has a layer over both vectors; the values begin as the neighbours' vectors themselves.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        check_heads(dim, heads)
        self.heads = heads
        self.queries = nn.Linear(dim, dim)
        self.keys = nn.Parameter(torch.empty(dim, dim))
        self.values = nn.Parameter(torch.empty(dim, dim))
        nn.init.xavier_uniform_(self.keys)
        nn.init.eye_(self.values)

    def forward(self, own: Tensor, vectors: Tensor, neighbors: Neighbors) -> Tensor:
        """(rows, dim) from the nodes' own vectors (rows, dim); their neighbours are rows of ``vectors``."""
        places = neighbors.padded()
        if not places.numel():
            return torch.zeros_like(own)
        there = (places != PAD).unsqueeze(1)
        read = nn.functional.embedding(neighbors.nodes[places.clamp(min=0)], vectors)
        by_head = (self.heads, -1, own.shape[1])
        queries = self.queries(own).view(len(own), self.heads, -1) / math.sqrt(own.shape[1] / self.heads)
        asked = torch.einsum("nhe,hed->nhd", queries, self.keys.view(by_head))
        logits = (asked @ read.transpose(1, 2)).float()
        # Not -inf: a row without any neighbour would have no softmax.
        weights = logits.masked_fill(~there, torch.finfo(logits.dtype).min).softmax(2) * there
        seen = weights @ read.float()
        return torch.einsum("nhd,hed->nhe", seen, self.values.view(by_head)).flatten(1)


class SageLayer(nn.Module):
    """The vectors of nodes of one kind from their own and what they hear of their neighbours.

    With h the node's vector and m the mean of its neighbours', or what attention makes of them:  h' = unit(h + m +
    network(h, m)), and the network begins as zero.

    Source: Hamilton, Ying, Leskovec, NeurIPS 2017, algorithm 1, lines 4 to 7: h' = unit(relu(W [h; m])). Differs: the
        network's part is added to h + m, so that learning begins from the plain sum; where it has hidden layers the
        non-linearity is within it and not at the end, since a score must be able to fall below zero.

    Args:
        heads: Of the attention. None: the mean.
        hidden: The widths of the network's layers; without any it is a matrix.
    """

    def __init__(self, dim: int, heads: int | None, hidden: Sequence[int], dropout: float) -> None:
        super().__init__()
        self.attention = None if heads is None else NeighborAttention(dim, heads)
        self.network = Tower(dim, dim, hidden, dropout)

    def heard(self, own: Tensor, vectors: Tensor, neighbors: Neighbors) -> Tensor:
        """(rows, dim) what nodes hear of their neighbours, which are rows of ``vectors``; zero where there are none."""
        if self.attention is not None:
            return torch.as_tensor(self.attention(own, vectors, neighbors))
        return mean_of_rows(vectors, neighbors.nodes, neighbors.offsets)

    def forward(self, own: Tensor, heard: Tensor) -> Tensor:
        """(rows, dim) of length 1; zero where nothing is known of a node."""
        return unit(self.network(own, heard) + heard)


class SageLayers(nn.Module):
    """As many layers as there are hops; each has one for users and one for items."""

    def __init__(self, dim: int, count: int, heads: int | None, hidden: Sequence[int], dropout: float) -> None:
        super().__init__()
        self.users, self.items = (
            nn.ModuleList(SageLayer(dim, heads, hidden, dropout) for _ in range(count)) for _ in (USERS, ITEMS)
        )

    def forward(self, tree: Tree, roots: Tensor, inputs: Mapping[Kind, tuple[Tensor, Tensor]]) -> Tensor:
        """The vectors (roots, dim) of the roots of a tree.

        Args:
            roots: (roots, dim) what each brings in.
            inputs: Of each kind the vectors that some nodes bring in, and (nodes,) the row of each node among these.
        """
        kinds, own, heard = tree.kinds(), [roots], []
        for kind, hop in zip(kinds[1:], tree.hops, strict=True):
            vectors, row_of = inputs[kind]
            heard.append((vectors, replace(hop, nodes=row_of[hop.nodes])))
        for vectors, hop in heard[:-1]:
            own.append(nn.functional.embedding(hop.nodes, vectors))
        for number in range(len(tree.hops)):
            layers = [self._of(kind)[number] for kind in kinds[: len(heard)]]
            own = [layer(each, layer.heard(each, *told)) for layer, each, told in zip(layers, own, heard, strict=False)]
            # What was computed of the nodes of a hop is what the next layer hears of them, each in its own place.
            heard = [(each, _in_place(hop)) for each, (_, hop) in zip(own[1:], heard, strict=False)]
        return own[0]

    @torch.no_grad()
    def heard_by_items(self, graph: MeetingGraph, users: Tensor, items: Tensor) -> Tensor:
        """(items, layers, dim) what each item hears in each layer, where all of a graph is worked out.

        Args:
            users: (users, dim) what the users bring in.
            items: (items, dim) what the items bring in.
        """
        heard = []
        for of_users, of_items in zip(self._of(USERS), self._of(ITEMS), strict=True):
            by_users = _heard_by_all(of_users, graph, USERS, users, items)
            by_items = _heard_by_all(of_items, graph, ITEMS, items, users)
            heard.append(by_items)
            users, items = of_users(users, by_users), of_items(items, by_items)
        return torch.stack(heard, 1)

    def heard_by(self, kind: Kind, number: int, own: Tensor, vectors: Tensor, neighbors: Neighbors) -> Tensor:
        """(rows, dim) what nodes of a kind hear in a layer, counted from 0; the rest as in ``SageLayer.heard``."""
        return self._of(kind)[number].heard(own, vectors, neighbors)

    def item_states(self, items: Tensor, heard: Tensor) -> list[Tensor]:
        """The vectors (items, dim) of items after 0, 1, ... layers.

        Args:
            items: (items, dim) what they bring in.
            heard: (items, layers, dim) what they hear in each layer.
        """
        states = [items]
        for number, layer in enumerate(self._of(ITEMS)):
            states.append(layer(states[-1], heard[:, number]))
        return states

    def user_states(self, users: Tensor, met: Neighbors, items: Sequence[Tensor]) -> list[Tensor]:
        """The vectors (users, dim) of people after 0, 1, ... layers.

        Args:
            users: (users, dim) what they bring in.
            met: The items that each met.
            items: The vectors of all items after 0, 1, ... layers.
        """
        states = [users]
        for layer, vectors in zip(self._of(USERS), items, strict=False):
            states.append(layer(states[-1], layer.heard(states[-1], vectors, met)))
        return states

    def _of(self, kind: Kind) -> list["SageLayer"]:
        return list(self.users if kind == USERS else self.items)  # type: ignore[arg-type]


def _in_place(hop: Neighbors) -> Neighbors:
    return replace(hop, nodes=torch.arange(len(hop.nodes), device=hop.nodes.device))


def _heard_by_all(layer: SageLayer, graph: MeetingGraph, kind: Kind, own: Tensor, others: Tensor) -> Tensor:
    """What all nodes of a kind hear, of at most ``MOST_HEARD`` neighbours each; a few nodes at a time."""
    heard = torch.zeros_like(own)
    degrees = graph.degrees(kind).clamp(max=MOST_HEARD).cpu().numpy()
    # Of similar degree, because attention pads to the longest.
    rows = np.argsort(degrees, kind="stable")[int((degrees == 0).sum()) :]
    for group in groups_within(rows, degrees, PLACES):
        nodes = torch.from_numpy(group).to(own.device)
        heard[nodes] = layer.heard(own[nodes], others, graph.spread(kind, nodes, MOST_HEARD)).to(heard.dtype)
    return heard


def drawn_places(lengths: Tensor, most: int) -> Tensor:
    """(rows, most) different places in rows of these lengths; all of a row, if it has no more, and then PAD.

    Every set of places is as likely as any other. What is done takes as long for a row of a million as for a short one.

    Source: algorithm F2 of Floyd in Bentley, Floyd, "Programming Pearls: A Sample of Brilliance", CACM 30(9), 1987.
        Differs: all rows at a time.
    """
    count = lengths.clamp(max=most)
    chance = torch.rand(most, len(lengths), dtype=torch.float64, device=lengths.device)
    places = lengths.new_full((most, len(lengths)), PAD)
    for step in range(most):
        newest = lengths - count + step
        drawn = (chance[step] * (newest + 1)).long()
        taken = (places[:step] == drawn).any(0)
        places[step] = torch.where(taken, newest, drawn)
    return places.T.masked_fill(torch.arange(most, device=lengths.device) >= count.unsqueeze(1), PAD)
