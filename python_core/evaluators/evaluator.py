"""The evaluators' interface, and `judge`: the published text-motion evaluator, which only ever measures.

Its movement encoder learns as half of an autoencoder and is then frozen; two bidirectional GRUs put captions and
motions into one space, in which Euclidean distance says how well they match.

Source: Guo et al. 2022, Generating Diverse and Natural 3D Human Motions from Text, and its code. Names of layers are
those of the code, so that published weights fit.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from python_core.contract.skeleton import BODY_22
from python_core.evaluators.word_tags import TAGS, TaggedWord, WordTagger
from python_core.features import Normalizer, feature_slices, num_features

logger = logging.getLogger(__name__)

ROWS_PER_MOVEMENT = 4
PADDED_ROWS = 196
"""Clips are padded to so many rows of zeros, as published. Without zeros a clip's last movement would be another."""
FEATURE_BIAS = 5.0
"""The root's parts and foot contacts count so many times more than their deviation says."""
EMBEDDING_BATCH = 64
UNKNOWN, START, END = "unk", "sos", "eos"


class Evaluator(Protocol):
    """Puts captions and motions into one space."""

    def embed_texts(self, captions: Sequence[str]) -> NDArray[np.float32]:
        """Embeddings of captions, [N, E]."""
        ...

    def embed_motions(self, clips: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Embeddings of clips of exact features that are not normalized, [F, D] each -> [N, E].

        Raises:
            ValueError: A clip is shorter than 4 rows, of another width, or not finite.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class JudgeShape:
    """Sizes; the defaults are the published ones."""

    movement_width: int = 512
    """Of the movement encoder, and of what it gives."""
    motion_width: int = 1024
    """Of the motion encoder's GRU."""
    text_width: int = 512
    """Of the text encoder's GRU."""
    embedding_width: int = 512
    word_width: int = 300
    """Of word vectors."""
    max_words: int = 20
    """Words of a caption that are read."""


class MovementEncoder(nn.Module):
    """Normalized features without contacts [B, F, D - 4] -> movements of 4 rows each [B, F / 4, C]."""

    def __init__(self, input_width: int, width: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv1d(input_width, width, 4, 2, 1),
            nn.Dropout(0.2),
            nn.LeakyReLU(0.2),
            nn.Conv1d(width, width, 4, 2, 1),
            nn.Dropout(0.2),
            nn.LeakyReLU(0.2),
        )
        self.out_net = nn.Linear(width, width)
        _start_layers(self)

    def forward(self, features: Tensor) -> Tensor:
        return self.out_net(self.main(features.transpose(1, 2)).transpose(1, 2))


class MovementDecoder(nn.Module):
    """Movements [B, F / 4, C] -> normalized features with contacts [B, F, D]; only training has it."""

    def __init__(self, width: int, output_width: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            nn.ConvTranspose1d(width, width, 4, 2, 1),
            nn.LeakyReLU(0.2),
            nn.ConvTranspose1d(width, output_width, 4, 2, 1),
            nn.LeakyReLU(0.2),
        )
        self.out_net = nn.Linear(output_width, output_width)
        _start_layers(self)

    def forward(self, movements: Tensor) -> Tensor:
        return self.out_net(self.main(movements.transpose(1, 2)).transpose(1, 2))


class _GruEncoder(nn.Module):
    """What the encoders of motion and of text share: a sequence becomes one embedding."""

    def __init__(self, input_width: int, width: int, embedding_width: int, dropout: float) -> None:
        super().__init__()
        self.input_emb = nn.Linear(input_width, width)
        self.gru = nn.GRU(width, width, batch_first=True, bidirectional=True)
        self.output_net = nn.Sequential(
            nn.Linear(2 * width, width), nn.LayerNorm(width), nn.LeakyReLU(0.2), nn.Linear(width, embedding_width)
        )
        self.hidden = nn.Parameter(torch.randn(2, 1, width))
        self.dropout = nn.Dropout(dropout)

    def _embed(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(self.input_emb(inputs), lengths.cpu(), batch_first=True, enforce_sorted=False)
        _, last = self.gru(packed, self.hidden.repeat(1, len(inputs), 1))
        return self.output_net(self.dropout(torch.cat([last[0], last[1]], dim=-1)))


class MotionEncoder(_GruEncoder):
    """Movements [B, T, C] of which each clip has so many [B] -> embeddings [B, E]."""

    def __init__(self, input_width: int, width: int, embedding_width: int, dropout: float = 0.0) -> None:
        super().__init__(input_width, width, embedding_width, dropout)
        _start_layers(self)

    def forward(self, movements: Tensor, lengths: Tensor) -> Tensor:
        return self._embed(movements, lengths)


class TextEncoder(_GruEncoder):
    """Word vectors [B, W, C] and tags as one-hot numbers [B, W, 15], of which each caption has so many -> [B, E]."""

    def __init__(self, word_width: int, width: int, embedding_width: int, dropout: float = 0.0) -> None:
        super().__init__(word_width, width, embedding_width, dropout)
        self.pos_emb = nn.Linear(len(TAGS), word_width)
        _start_layers(self)

    def forward(self, words: Tensor, tags: Tensor, lengths: Tensor) -> Tensor:
        return self._embed(words + self.pos_emb(tags), lengths)


class Judge(nn.Module):
    """The evaluator: networks, words and statistics. An `Evaluator` once it is in evaluation mode.

    Args:
        shape: Sizes.
        vocabulary: Words that have vectors; `unk`, `sos` and `eos` are among them.
        normalizer: Mean and deviation that features are divided by, as `judge_normalizer` makes them.
        train_words: Whether word vectors are learned; where they are given, as GloVe's, they are not.
        dropout: Of what the GRUs give, in training.
    """

    def __init__(
        self,
        shape: JudgeShape,
        vocabulary: Sequence[str],
        normalizer: Normalizer,
        train_words: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        missing = {UNKNOWN, START, END} - set(vocabulary)
        if missing:
            raise ValueError(f"the vocabulary must have {UNKNOWN}, {START} and {END}; it lacks {sorted(missing)}")
        self.shape, self.vocabulary, self.normalizer = shape, tuple(vocabulary), normalizer
        self.train_words = train_words
        contacts = feature_slices(BODY_22)["foot_contacts"]
        self.movement_encoder = MovementEncoder(contacts.start, shape.movement_width)
        self.motion_encoder = MotionEncoder(shape.movement_width, shape.motion_width, shape.embedding_width, dropout)
        self.text_encoder = TextEncoder(shape.word_width, shape.text_width, shape.embedding_width, dropout)
        self.words = nn.Embedding(len(self.vocabulary), shape.word_width)
        self.words.weight.requires_grad_(train_words)
        self._word_ids = {word: number for number, word in enumerate(self.vocabulary)}
        self._tagger: WordTagger | None = None
        self._tagged: dict[str, tuple[TaggedWord, ...]] = {}
        self._warned_of: set[str] = set()

    @property
    def device(self) -> torch.device:
        return self.words.weight.device

    def movements(self, features: Tensor) -> Tensor:
        """Movements of normalized features, [B, F, D] -> [B, F / 4, C]."""
        return self.movement_encoder(features[..., : feature_slices(BODY_22)["foot_contacts"].start])

    def motions(self, clips: Sequence[NDArray[np.float32]]) -> Tensor:
        """Embeddings with gradients, [N, E]; see `embed_motions`."""
        features, lengths = self.batch(clips)
        return self.motion_encoder(self.movements(features), lengths // ROWS_PER_MOVEMENT)

    def batch(self, clips: Sequence[NDArray[np.float32]]) -> tuple[Tensor, Tensor]:
        """Normalized features padded with zeros, [N, F, D], and how many rows each clip has, a multiple of 4."""
        kept = [check_clip(clip) for clip in clips]
        lengths = [len(clip) // ROWS_PER_MOVEMENT * ROWS_PER_MOVEMENT for clip in kept]
        longest = max(*lengths, PADDED_ROWS)
        features = torch.zeros(len(kept), longest, num_features(BODY_22))
        for row, (clip, length) in enumerate(zip(kept, lengths, strict=True)):
            features[row, :length] = torch.from_numpy(self.normalizer.normalize(clip[:length]))
        return features.to(self.device), torch.tensor(lengths)

    def texts(self, captions: Sequence[str], forget: float = 0.0) -> Tensor:
        """Embeddings with gradients, [N, E]; see `embed_texts`.

        Args:
            captions: Sentences.
            forget: Share of words that are read as unknown, so that unknown ones have a vector that means that.
        """
        rows = [
            [TaggedWord(START, "OTHER"), *tagged[: self.shape.max_words], TaggedWord(END, "OTHER")]
            for tagged in self.tag(captions)
        ]
        lengths = torch.tensor([len(row) for row in rows])
        unknown = self._word_ids[UNKNOWN]
        ids = torch.full((len(rows), int(lengths.max())), unknown)
        tags = torch.zeros(*ids.shape, len(TAGS))
        tags[..., TAGS.index("OTHER")] = 1
        for row, words in enumerate(rows):
            ids[row, : len(words)] = torch.tensor([self._word_ids.get(word.word, unknown) for word in words])
            numbers = torch.tensor([TAGS.index(word.tag) for word in words])
            tags[row, : len(words)] = nn.functional.one_hot(numbers, len(TAGS)).float()
        if forget > 0:
            ids[torch.rand(ids.shape) < forget] = unknown
        return self.text_encoder(self.words(ids.to(self.device)), tags.to(self.device), lengths)

    def know_words(self, tagged: Mapping[str, tuple[TaggedWord, ...]]) -> None:
        """Take the words of captions as they are given; spaCy tags those of others."""
        self._tagged |= tagged

    def tag(self, captions: Sequence[str]) -> list[tuple[TaggedWord, ...]]:
        """Tagged words of captions, each caption tagged once."""
        if new := [caption for caption in dict.fromkeys(captions) if caption not in self._tagged]:
            self._tagger = self._tagger or WordTagger()
            self._tagged |= dict(zip(new, self._tagger.tag(new), strict=True))
        return [self._tagged[caption] for caption in captions]

    def warn_of_cuts(self, captions: Sequence[str]) -> int:
        """Log how many of the captions have words that are not read, once for each caption; that number."""
        different = list(dict.fromkeys(captions))
        tagged = zip(different, self.tag(different), strict=True)
        cut = {caption for caption, words in tagged if len(words) > self.shape.max_words} - self._warned_of
        if cut:
            logger.warning(
                "%d of %d captions have more than %d words; the judge does not read the rest",
                len(cut),
                len(different),
                self.shape.max_words,
            )
        self._warned_of |= cut
        return len(cut)

    @torch.no_grad()
    def embed_texts(self, captions: Sequence[str]) -> NDArray[np.float32]:
        """Embeddings of captions, [N, E]; words after `max_words` are not read, which is logged."""
        self.warn_of_cuts(captions)
        found = [self.texts(captions[k : k + EMBEDDING_BATCH]) for k in range(0, len(captions), EMBEDDING_BATCH)]
        return _joined(found, self.shape.embedding_width)

    @torch.no_grad()
    def embed_motions(self, clips: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Embeddings of clips of exact features that are not normalized, [F, D] each -> [N, E].

        Rows after the last multiple of 4 are not seen. A clip has the same embedding alone and among others.

        Raises:
            ValueError: A clip is shorter than 4 rows, of another width, or not finite.
        """
        # A longer clip would give the others more zeros than they have alone.
        places = sorted(range(len(clips)), key=lambda place: max(len(clips[place]), PADDED_ROWS))
        embedded = np.empty((len(clips), self.shape.embedding_width), np.float32)
        for group in _groups(places, clips):
            embedded[group] = self.motions([clips[place] for place in group]).float().cpu().numpy()
        return embedded


def judge_normalizer(normalizer: Normalizer) -> Normalizer:
    """Statistics as the evaluator has them, from those of the prepared clips."""
    std = normalizer.std.copy()
    slices = feature_slices(BODY_22)
    for part in ("root_yaw_velocity", "root_velocity", "root_height", "foot_contacts"):
        std[slices[part]] /= FEATURE_BIAS
    return Normalizer(normalizer.mean, std)


def _groups(places: Sequence[int], clips: Sequence[NDArray[np.float32]]) -> list[list[int]]:
    """Batches of clips that are padded to the same number of rows."""
    groups: list[list[int]] = []
    padded = 0
    for place in places:
        rows = max(len(clips[place]) // ROWS_PER_MOVEMENT * ROWS_PER_MOVEMENT, PADDED_ROWS)
        if not groups or rows != padded or len(groups[-1]) == EMBEDDING_BATCH:
            groups.append([])
        groups[-1].append(place)
        padded = rows
    return groups


def check_clip(clip: NDArray[np.float32]) -> NDArray[np.float32]:
    """The clip, if an evaluator can embed it.

    Raises:
        ValueError: It is shorter than 4 rows, of another width, or not finite.
    """
    width = num_features(BODY_22)
    if clip.ndim != 2 or clip.shape[1] != width or len(clip) < ROWS_PER_MOVEMENT:
        raise ValueError(
            f"clips must be exact features, {ROWS_PER_MOVEMENT} rows or more of {width}, got {list(clip.shape)}"
        )
    if not np.isfinite(clip).all():
        raise ValueError(f"clips must be finite, got {int((~np.isfinite(clip)).sum())} numbers that are not")
    return clip


def _joined(parts: Sequence[Tensor], width: int) -> NDArray[np.float32]:
    return torch.cat(list(parts)).float().cpu().numpy() if parts else np.empty((0, width), np.float32)


def _start_layers(module: nn.Module) -> None:
    for layer in module.modules():
        if isinstance(layer, nn.Conv1d | nn.ConvTranspose1d | nn.Linear):
            nn.init.xavier_normal_(layer.weight)
            assert layer.bias is not None, "all layers here have one"
            nn.init.zeros_(layer.bias)
