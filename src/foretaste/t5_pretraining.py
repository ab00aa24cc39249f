"""A small T5 made from nothing but texts: pieces of words, spans that are hidden, and a network that restores them."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from foretaste.encoders import cache_folder
from foretaste.errors import BundleError, ConfigError, ForetasteError
from foretaste.ragged import Ragged
from foretaste.run import Run
from foretaste.storage import part, prefixed, read_arrays, write_arrays
from foretaste.train import TrainPlan, device_of, precision_of, train

__all__ = ["OwnT5", "SpanBatch", "SpanBatches", "T5Size", "pretrained", "spans_hidden", "tokenizer_of"]

VERSION = b"1"  # of what follows: a T5 of another version is not taken from the disk
PAD_PIECE, END_PIECE, UNKNOWN_PIECE = "<pad>", "</s>", "<unk>"
SENTINELS = tuple(f"<extra_id_{number}>" for number in range(100))
PAD_TOKEN, END_TOKEN = 0, 1
IGNORED = -100  # a place of the targets that does not count, as in transformers
PIECES = 4000  # the most that words are cut into: all of them are compared with at each place of a target
HIDDEN_SHARE, SPAN_LENGTH = 0.15, 3  # section 3.3.4
WINDOW = 64  # tokens of a text that are learned from at a time
TOGETHER = 32  # windows in a batch
FEWEST_WINDOWS, MOST_WINDOWS = 1024, 2048  # in an epoch, whatever the number of texts: so the time is bounded
PLAN = TrainPlan(lr=3e-3, schedule="cosine", floor=0.1, warmup_steps=50, clip=1.0, betas=(0.9, 0.98), patience=None)
CPU = torch.device("cpu")
WEIGHTS, TOKENIZER = "weights", "tokenizer"


@dataclass(frozen=True)
class T5Size:
    """How large a T5 is: encoder and decoder have so many layers each."""

    dim: int
    layers: int
    heads: int


@dataclass(frozen=True, eq=False)
class OwnT5:
    """A T5 of which no other file exists, as arrays; it becomes a network when it is used."""

    size: T5Size
    arrays: Mapping[str, NDArray[Any]]  # weights, decoder included, and the tokenizer as the bytes of its JSON

    @classmethod
    def of(cls, size: T5Size, network: Any, tokenizer: Any) -> Self:
        """Of a T5ForConditionalGeneration, and of a tokenizer as the library tokenizers has it."""
        weights = {name: each.detach().cpu().numpy().copy() for name, each in network.named_parameters()}
        told = np.frombuffer(tokenizer.to_str().encode(), np.uint8)
        return cls(size, {**prefixed(WEIGHTS, weights), TOKENIZER: told})

    @property
    def parameters(self) -> int:
        return sum(weights.size for weights in part(self.arrays, WEIGHTS).values())

    def digest(self) -> str:
        """A name for what it makes."""
        digest = hashlib.blake2b(digest_size=16)
        for name, array in sorted(self.arrays.items()):
            digest.update(name.encode() + array.tobytes())
        return digest.hexdigest()

    @cached_property
    def network(self) -> Any:
        """A T5ForConditionalGeneration: the encoder reads, and the decoder is there for those who write."""
        _need_transformers()
        weights = part(self.arrays, WEIGHTS)
        with _own_randomness():  # its first weights, which are not kept
            network = _network(self.size, len(weights["shared.weight"]))
        with torch.no_grad():
            for name, each in network.named_parameters():
                each.copy_(torch.from_numpy(weights[name]))
        return network.eval()

    @cached_property
    def tokenizer(self) -> Any:
        """Its tokenizer, as transformers has it."""
        _need_transformers()
        from tokenizers import Tokenizer
        from transformers import PreTrainedTokenizerFast

        return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
            tokenizer_object=Tokenizer.from_str(self.arrays[TOKENIZER].tobytes().decode()),
            pad_token=PAD_PIECE,
            eos_token=END_PIECE,
            unk_token=UNKNOWN_PIECE,
            additional_special_tokens=list(SENTINELS),
        )


@dataclass(frozen=True, eq=False)
class SpanBatch:
    """Texts in which spans are hidden, and what was hidden."""

    inputs: Tensor  # (batch, length) tokens, 0 at the end of shorter ones
    targets: Tensor  # (batch, longest) tokens, -100 at the end of shorter ones

    def __len__(self) -> int:
        return len(self.inputs)

    def to(self, device: torch.device) -> Self:
        return type(self)(self.inputs.to(device), self.targets.to(device))


class SpanBatches(Sequence[SpanBatch]):
    """One epoch: a window of each text, or of some of very many, in batches of similar length in random order.

    Args:
        texts: (texts) tokens of each, without the end.
        sentinels: Tokens that stand for hidden spans, in their order.
        rng: Of this epoch.
    """

    def __init__(self, texts: Ragged, sentinels: Sequence[int], rng: np.random.Generator) -> None:
        self._texts, self._sentinels = texts, sentinels
        long_enough = np.flatnonzero(texts.lengths > 1)  # of a single token, nothing would be left to go by
        count = int(np.clip(len(long_enough), FEWEST_WINDOWS, MOST_WINDOWS)) if len(long_enough) else 0
        rounds = -(-count // max(1, len(long_enough)))
        drawn = [rng.permutation(long_enough) for _ in range(rounds)]
        self._rows = np.concatenate([np.empty(0, np.int64), *drawn])[:count]
        lengths = texts.lengths[self._rows]
        self._starts = rng.integers(np.maximum(lengths - WINDOW, 0) + 1)
        similar = np.argsort(np.minimum(lengths, WINDOW), kind="stable")
        batches = [similar[start : start + TOGETHER] for start in range(0, count, TOGETHER)]
        self._batches = [batches[number] for number in rng.permutation(len(batches))]
        # The draws of each batch have a seed of their own, as batches may be asked for in any order.
        self._seeds = rng.integers(2**63, size=len(self._batches))

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, number: int) -> SpanBatch:  # type: ignore[override]
        if not 0 <= number < len(self):
            raise IndexError(f"There is no batch {number} of {len(self)}.")
        rng, pairs = np.random.default_rng(self._seeds[number]), []
        for window in self._batches[number]:
            first = self._texts.offsets[self._rows[window]] + self._starts[window]
            last = min(first + WINDOW, self._texts.offsets[self._rows[window] + 1])
            pairs.append(spans_hidden(self._texts.values[first:last], self._sentinels, rng))
        return SpanBatch(_padded([pair[0] for pair in pairs], PAD_TOKEN), _padded([pair[1] for pair in pairs], IGNORED))


def spans_hidden(
    tokens: NDArray[np.integer], sentinels: Sequence[int], rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """What a T5 reads of a text, and what it is to write: all that was hidden, each behind what stands in its place.

    Of n tokens 15 %, rounded, are hidden, at the least one, in a third as many spans, rounded; each span gives its
    place to the next sentinel, and a last sentinel closes what is written. Any way of cutting the hidden tokens into
    spans is as likely as any other, and so is any choice of their places, between which something is always left.

    Args:
        tokens: Two or more, without the end.
        sentinels: More of them than there will be spans.

    Source: Raffel et al., JMLR 2020, sections 3.1.4 (sentinels, targets), 3.3.4 (spans; 15 %, mean length 3) and
        figure 2.
    """
    count = max(1, round(HIDDEN_SHARE * len(tokens)))
    left, spans = len(tokens) - count, max(1, round(count / SPAN_LENGTH))
    ends = np.append(np.sort(rng.choice(count - 1, spans - 1, replace=False)) + 1, count)
    begins = np.append(0, ends[:-1])
    kept_before = np.sort(rng.choice(left + 1, spans, replace=False))
    starts = kept_before + begins
    inputs: list[Any] = []
    targets: list[Any] = []
    read = 0
    for sentinel, start, length in zip(sentinels, starts, ends - begins, strict=False):
        inputs += [tokens[read:start], [sentinel]]
        targets += [[sentinel], tokens[start : start + length]]
        read = start + length
    inputs += [tokens[read:], [END_TOKEN]]
    targets += [[sentinels[spans]], [END_TOKEN]]
    return np.concatenate(inputs).astype(np.int64), np.concatenate(targets).astype(np.int64)


def tokenizer_of(texts: Sequence[str], fewest: int = 2) -> Any:
    """The pieces that words of these texts are made of, found by pairing the most frequent neighbours.

    Args:
        fewest: How often two pieces must stand side by side to become one.

    Source: byte-pair encoding, Sennrich et al., "Neural Machine Translation of Rare Words with Subword Units", ACL
        2016, section 3.2, over characters. Differs from T5's tokenizer: not a unigram model, which comes out otherwise
        from run to run; lower case, as of a small catalogue every word counts; at most 4,000 pieces.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN_PIECE))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Metaspace(), pre_tokenizers.Punctuation()])
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.BpeTrainer(
        vocab_size=PIECES,
        min_frequency=fewest,
        special_tokens=[PAD_PIECE, END_PIECE, UNKNOWN_PIECE, *SENTINELS],
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {END_PIECE}", special_tokens=[(END_PIECE, END_TOKEN)]
    )
    return tokenizer


def pretrained(texts: Sequence[str], size: T5Size, epochs: int, run: Run, fewest: int = 2) -> OwnT5:
    """A T5 that has learned to restore what is hidden in these texts; once made, it is found on disk.

    An epoch is a window of 64 tokens of each text, of 1,024 of them at the least (drawn more than once) and 2,048 at
    the most, so that what it takes does not grow with the catalogue.

    Args:
        texts: Those that are to be read later, with their prompts; the same text need not be there twice.
        fewest: As in ``tokenizer_of``.

    Raises:
        ConfigError: The package transformers is not installed.

    Source: Raffel et al., "Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer", JMLR
        2020, sections 3.1.4 and 3.3.4. Differs: small; AdamW with a cosine in place of Adafactor; its tokenizer.
    """
    _need_transformers()
    texts = sorted(set(texts))
    path = cache_folder() / "t5" / f"{_digest(texts, size, epochs, run, fewest)}.safetensors"
    try:
        return OwnT5(size, read_arrays(path))
    except BundleError:  # none is there, or a torn one
        own = _learned(texts, size, epochs, run, fewest)
    try:
        write_arrays(path, own.arrays)
    except ForetasteError as error:
        run.log(f"the T5 is not kept for another fit: {error}")
    return own


def _learned(texts: Sequence[str], size: T5Size, epochs: int, run: Run, fewest: int) -> OwnT5:
    tokenizer = tokenizer_of(texts, fewest)
    tokens = Ragged.from_lists([each.ids for each in tokenizer.encode_batch(texts, add_special_tokens=False)])
    sentinels = [tokenizer.token_to_id(each) for each in SENTINELS]
    run.log(
        f"t5: {len(texts):,} texts are {len(tokens.values):,} tokens of {tokenizer.get_vocab_size():,} pieces; it "
        "learns to restore hidden spans of them"
    )
    with _own_randomness(device_of(run)):
        network = _restoring(tokens, sentinels, size, tokenizer.get_vocab_size(), epochs, run)
    return OwnT5.of(size, network, tokenizer)


def _restoring(tokens: Ragged, sentinels: Sequence[int], size: T5Size, pieces: int, epochs: int, run: Run) -> Any:
    """A T5ForConditionalGeneration that has learned to restore hidden spans of texts, given as tokens."""
    torch.manual_seed(run.seed_of("t5", "weights"))
    network = _network(size, pieces)

    def batches(epoch: int) -> SpanBatches:
        return SpanBatches(tokens, sentinels, run.rng("t5", "spans", epoch))

    def losses(batch: SpanBatch) -> dict[str, Tensor]:
        written = network(input_ids=batch.inputs, attention_mask=batch.inputs != PAD_TOKEN, labels=batch.targets)
        return {"hidden spans": written.loss}

    # Checkpoints are those of the model that reads; when that is resumed, what is made here is found on disk.
    apart = replace(run, checkpoints=None, resume=False, compile=False)
    plan = PLAN.model_copy(update={"epochs": epochs})
    train(network, batches, losses, plan, apart, name="t5", lighter="encoder_dim")
    return network


def _network(size: T5Size, pieces: int) -> Any:
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(
        vocab_size=pieces,
        d_model=size.dim,
        d_kv=max(1, size.dim // size.heads),
        d_ff=4 * size.dim,
        num_layers=size.layers,
        num_heads=size.heads,
        pad_token_id=PAD_TOKEN,
        eos_token_id=END_TOKEN,
        decoder_start_token_id=PAD_TOKEN,  # type: ignore[call-arg]  # of all its configurations
    )
    return T5ForConditionalGeneration(config)


def _padded(rows: Sequence[NDArray[np.int64]], missing: int) -> Tensor:
    table = np.full((len(rows), max(map(len, rows))), missing, np.int64)
    for number, row in enumerate(rows):
        table[number, : len(row)] = row
    return torch.from_numpy(table)


def _digest(texts: Sequence[str], size: T5Size, epochs: int, run: Run, fewest: int) -> str:
    """A name for all that decides how such a T5 comes out."""
    told = (size, epochs, fewest, PLAN, run.seed_of("t5"), device_of(run).type, precision_of(run))
    digest = hashlib.blake2b(VERSION + repr(told).encode(), digest_size=16)
    for text in texts:
        digest.update(b"\0" + text.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


@contextmanager
def _own_randomness(device: torch.device = CPU) -> Iterator[None]:
    """What is drawn within the block changes nothing that is drawn later, so a T5 may as well be found on disk."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield


def _need_transformers() -> None:
    try:
        import transformers  # noqa: F401  # which brings tokenizers
    except ImportError as error:
        raise ConfigError("A T5 needs the package transformers: pip install 'foretaste[text]'.") from error
