"""Training steps of the evaluators: of the judge, and of the reward model."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from python_core.clips.prepared import PreparedClip, PreparedClips
from python_core.contract.plan import parse_plan
from python_core.contract.skeleton import BODY_22
from python_core.evaluators.beat_captions import beat_caption
from python_core.evaluators.evaluator import (
    END,
    ROWS_PER_MOVEMENT,
    START,
    UNKNOWN,
    Judge,
    JudgeShape,
    MovementDecoder,
    judge_normalizer,
)
from python_core.evaluators.evaluator_checkpoint import LoadedEvaluator, save_judge, save_reward_model
from python_core.evaluators.published_judge import read_word_vectors
from python_core.evaluators.reward_model import RewardModel, RewardShape
from python_core.evaluators.text_motion_samples import PairSource
from python_core.evaluators.token_states import load_token_states
from python_core.evaluators.word_tags import WordTagger
from python_core.features import num_features
from python_core.processes import (
    average_gradients,
    averaged,
    check_divides,
    gathered,
    own_share,
    take_random_state_of_first,
)

FORGOTTEN_WORDS = 0.05
"""Share of the words that the judge reads as unknown in training, so that it can read words it does not know."""


@dataclass(frozen=True, kw_only=True)
class JudgeTraining:
    """How the judge learns."""

    shape: JudgeShape = field(default_factory=JudgeShape)
    """Sizes; the published ones by default."""

    movement_steps: int = 50_000
    """Steps of the movement autoencoder, before `steps` begin."""

    movement_batch: int = 128
    """Windows in a step of it; several processes share them, as they do pairs, and must divide it."""

    movement_rows: int = 40
    """Rows of a window, a multiple of 4."""

    movement_rate: float = 1e-4
    """Its learning rate."""

    batch: int = 32
    """Pairs in a step."""

    learning_rate: float = 1e-4
    """At the start; it falls by a cosine to a twentieth."""

    margin: float = 10.0
    """Euclidean distance that a caption and the motion of another should have."""

    all_negatives: bool = False
    """Take all other motions of a batch for each caption, not one; that learns from fewer steps."""

    speed: float = 0.0
    """Samples are played faster or slower by up to this share; published: not."""

    noise: float = 0.0
    """Deviation of noise on features, in the features' own deviations; published: none."""

    dropout: float = 0.0
    """Of what the GRUs of caption and motion give; published: none."""

    def __post_init__(self) -> None:
        for name, least in (("movement_steps", 0), ("movement_batch", 1), ("batch", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if self.movement_rows < 2 * ROWS_PER_MOVEMENT or self.movement_rows % ROWS_PER_MOVEMENT:
            raise ValueError(
                f"movement_rows must be a multiple of the {ROWS_PER_MOVEMENT} rows of a movement, two at least, "
                f"got {self.movement_rows}"
            )


@dataclass(frozen=True, kw_only=True)
class RewardTraining:
    """How the reward model learns."""

    shape: RewardShape = field(default_factory=RewardShape)
    """Sizes."""

    batch: int = 128
    """Pairs in a step; several processes share them, and each pair has all the others as negatives."""

    learning_rate: float = 3e-4
    """At its peak; it falls by a cosine to a twentieth."""

    warm_up_steps: int = 500
    """Steps until the learning rate is at its peak."""

    swapped: float = 0.5
    """Weight of telling each caption from itself with sides or order exchanged."""

    twins: float = 0.25
    """Share of pairs whose twins, mirrored or with beats in reverse order, are put into the same batch. Where it is 0,
    no composition is reversed, and none is told from its caption in another order.
    """

    speed: float = 0.1
    """Samples are played faster or slower by up to this share."""

    noise: float = 0.02
    """Deviation of noise on features, in the features' own deviations."""

    bf16: bool = True
    """Run the transformers in bfloat16."""

    def __post_init__(self) -> None:
        for name, least in (("batch", 1), ("warm_up_steps", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if not 0 <= self.twins <= 1:
            raise ValueError(f"twins goes from 0 to 1, got {self.twins}")


class EvaluatorTraining(Protocol):
    """One evaluator while it is trained."""

    first_steps: int
    """Steps before captions are learned."""

    @property
    def model(self) -> nn.Module: ...

    def step(self, step: int) -> dict[str, float]: ...

    def state(self) -> dict[str, Any]: ...

    def load(self, state: dict[str, Any]) -> None: ...

    def save(self, out: Path, config: Any) -> None: ...

    def evaluator(self) -> LoadedEvaluator: ...


class JudgeRun:
    """The movement autoencoder first, then both encoders over its frozen encoder.

    Raises:
        ValueError: The word vectors do not fit, or several processes cannot share a batch.
    """

    def __init__(
        self,
        settings: JudgeTraining,
        steps: int,
        prepared: PreparedClips,
        clips: Sequence[PreparedClip],
        word_vectors: Path | None,
        device: torch.device,
    ) -> None:
        check_divides("judge.movement_batch", settings.movement_batch)
        self.settings, self.steps, self.prepared = settings, steps, prepared
        self.first_steps = settings.movement_steps
        self.pairs = PairSource(prepared, clips, speed=settings.speed, noise=settings.noise)
        self.model = _new_judge(settings, prepared, clips, word_vectors).to(device)
        self.decoder = MovementDecoder(settings.shape.movement_width, num_features(BODY_22)).to(device)
        movement = [*self.model.movement_encoder.parameters(), *self.decoder.parameters()]
        rest = [self.model.motion_encoder, self.model.text_encoder, self.model.words]
        matched = [value for part in rest for value in part.parameters() if value.requires_grad]
        self.movement_optimizer = torch.optim.Adam(movement, lr=settings.movement_rate)
        self.optimizer = torch.optim.Adam(matched, lr=settings.learning_rate)
        self.movement_parameters, self.parameters = movement, matched

    def step(self, step: int) -> dict[str, float]:
        if step < self.first_steps:
            return self._movement_step()
        return self._match_step(step - self.first_steps)

    def _movement_step(self) -> dict[str, float]:
        self.model.train()
        rows = self.pairs.draw_rows(self.settings.movement_batch, self.settings.movement_rows)
        target = torch.from_numpy(self.model.normalizer.normalize(rows)).to(self.model.device)
        movements = self.model.movements(target)
        rebuilt = nn.functional.l1_loss(self.decoder(movements), target)
        smooth = nn.functional.l1_loss(movements[:, 1:], movements[:, :-1])
        loss = rebuilt + 0.001 * (movements.abs().mean() + smooth)
        self.movement_optimizer.zero_grad()
        loss.backward()
        average_gradients(self.movement_parameters)
        self.movement_optimizer.step()
        return {"movement_loss": averaged(rebuilt).item()}

    def _match_step(self, step: int) -> dict[str, float]:
        self.model.train()
        self.model.movement_encoder.eval()
        pairs = self.pairs.draw(self.settings.batch)
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.learning_rate * _cosine(step, self.steps)
        own = own_share(pairs)
        texts = self.model.texts([pair.caption for pair in own], forget=FORGOTTEN_WORDS * self.model.train_words)
        with torch.no_grad():
            features, lengths = self.model.batch([pair.rows for pair in own])
            movements = self.model.movements(features)
        motions = self.model.motion_encoder(movements, lengths // 4)
        # Forgotten words, and dropout on a CPU, take as many random numbers as a share is long, but batches must be
        # drawn alike.
        take_random_state_of_first(self.model.device)
        texts, motions = gathered(texts, len(pairs)), gathered(motions, len(pairs))
        near, far = contrastive_losses(texts, motions, self.settings.margin, self.settings.all_negatives)
        self.optimizer.zero_grad()
        (near + far).backward()
        average_gradients(self.parameters)
        nn.utils.clip_grad_norm_(self.parameters, 0.5)
        self.optimizer.step()
        return {"pairs": near.item(), "others": far.item()}

    def state(self) -> dict[str, Any]:
        names = ("model", "decoder", "movement_optimizer", "optimizer")
        return {name: getattr(self, name).state_dict() for name in names}

    def load(self, state: dict[str, Any]) -> None:
        for name in ("model", "decoder", "movement_optimizer", "optimizer"):
            getattr(self, name).load_state_dict(state[name])

    def save(self, out: Path, config: Any) -> None:
        save_judge(out, self.model, self.prepared.frame_rate_hz, config)

    def evaluator(self) -> LoadedEvaluator:
        return LoadedEvaluator(self.model.eval(), "euclidean")


class RewardRun:
    """Captions against motions, and against themselves with something exchanged.

    Raises:
        ValueError: The text encoder is missing or damaged.
    """

    first_steps = 0

    def __init__(
        self,
        settings: RewardTraining,
        steps: int,
        prepared: PreparedClips,
        clips: Sequence[PreparedClip],
        text_encoder: Path,
        device: torch.device,
    ) -> None:
        self.settings, self.steps, self.prepared, self.text_encoder = settings, steps, prepared, text_encoder
        self.pairs = PairSource(prepared, clips, twins=settings.twins, speed=settings.speed, noise=settings.noise)
        token_states = load_token_states(text_encoder, device)
        self.model = RewardModel(settings.shape, token_states, prepared.normalizer).to(device)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=settings.learning_rate, weight_decay=0.01)

    def step(self, step: int) -> dict[str, float]:
        self.model.train()
        pairs = self.pairs.draw(self.settings.batch)
        warm = min(1.0, (step + 1) / max(self.settings.warm_up_steps, 1))
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.learning_rate * warm * _cosine(step, self.steps)
        captions = [pair.caption for pair in pairs]
        swapped = [(row, text) for row, pair in enumerate(pairs) for text in pair.exchanged]
        said = [*captions, *(text for _, text in swapped)]
        device = self.model.device
        with torch.autocast(device.type, torch.bfloat16, enabled=self.settings.bf16):
            texts = gathered(self.model.texts(own_share(said)), len(said))
            motions = gathered(self.model.motions([pair.rows for pair in own_share(pairs)]), len(pairs))
        take_random_state_of_first(device)
        owners = torch.tensor([row for row, _ in swapped], dtype=torch.long, device=device)
        matching, telling = retrieval_losses(motions, texts, owners, self.model.scale)
        self.optimizer.zero_grad()
        (matching + self.settings.swapped * telling).backward()
        average_gradients(self.model.parameters())
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        return {"matching": matching.item(), "telling": telling.item()}

    def state(self) -> dict[str, Any]:
        return {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])

    def save(self, out: Path, config: Any) -> None:
        save_reward_model(out, self.model, self.text_encoder, self.prepared.frame_rate_hz, config)

    def evaluator(self) -> LoadedEvaluator:
        return LoadedEvaluator(self.model.eval(), "cosine")


def contrastive_losses(texts: Tensor, motions: Tensor, margin: float, all_negatives: bool) -> tuple[Tensor, Tensor]:
    """Squared distance of pairs, and by how much others are nearer than the margin, squared.

    Row for row, texts and motions [B, E] belong together. The others of a caption are one motion, of the batch turned
    by a random number of rows, as published, though never by none, which would take pairs for others; or all other
    motions.
    """
    near = nn.functional.pairwise_distance(texts, motions).square().mean()
    if len(texts) < 2:
        return near, texts.new_zeros(())
    if all_negatives:
        distances = (texts[:, None] - motions[None] + 1e-6).norm(dim=-1)
        others = distances[~torch.eye(len(texts), dtype=torch.bool, device=texts.device)]
    else:
        shift = int(torch.randint(1, len(texts), ()))
        others = nn.functional.pairwise_distance(texts, motions.roll(shift, dims=0))
    return near, (margin - others).clamp(min=0).square().mean()


def retrieval_losses(motions: Tensor, texts: Tensor, owners: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """InfoNCE in both directions, and how badly captions are told from their swapped versions.

    Args:
        motions: Embeddings of length 1, [B, E].
        texts: Embeddings of their captions, then of swapped captions, [B + S, E].
        owners: The caption that each swapped one was, [S]; to others' motions it may be the truth.
        scale: What cosines are multiplied by.
    """
    num = len(motions)
    scores = scale * motions @ texts.T
    pairs = scores[:, :num]
    own = torch.arange(num, device=motions.device)
    hidden = owners[None] != own[:, None]
    with_swapped = torch.cat([pairs, scores[:, num:].masked_fill(hidden, -math.inf)], dim=1)
    matching = (nn.functional.cross_entropy(with_swapped, own) + nn.functional.cross_entropy(pairs.T, own)) / 2
    if not len(owners):
        return matching, matching.new_zeros(())
    gaps = scores[owners, owners] - scores[owners, num + torch.arange(len(owners), device=owners.device)]
    return matching, nn.functional.softplus(-gaps).mean()


def _new_judge(
    settings: JudgeTraining, prepared: PreparedClips, clips: Sequence[PreparedClip], word_vectors: Path | None
) -> Judge:
    """A judge that knows the words of its own clips, or those of all clips that have given vectors."""
    shape, normalizer = settings.shape, judge_normalizer(prepared.normalizer)
    captions = _texts(prepared.clips if word_vectors else clips)
    tagged = WordTagger().tag(captions)
    words = sorted({word.word for one in tagged for word in one} - {UNKNOWN, START, END})
    if word_vectors is None:
        judge = Judge(shape, [UNKNOWN, START, END, *words], normalizer, dropout=settings.dropout)
        judge.warn_of_cuts(captions)
        return judge
    vectors = read_word_vectors(word_vectors, {UNKNOWN, START, END, *words}, shape.word_width)
    known = [word for word in words if word in vectors]
    if not known:
        raise ValueError(f"{word_vectors}: has none of the {len(words)} words of the captions")
    vocabulary = [UNKNOWN, START, END, *known]
    judge = Judge(shape, vocabulary, normalizer, train_words=False, dropout=settings.dropout)
    zeros = np.zeros(shape.word_width, np.float32)
    judge.words.weight.data.copy_(torch.from_numpy(np.stack([vectors.get(word, zeros) for word in vocabulary])))
    judge.warn_of_cuts(_texts(clips))
    return judge


def _texts(clips: Sequence[PreparedClip]) -> list[str]:
    """Captions of clips and of their beats, each once."""
    beats = (beat for clip in clips if clip.plan is not None for beat in parse_plan(clip.plan).beats)
    return sorted(
        {caption for clip in clips for caption in clip.captions} | {beat_caption(beat.text) for beat in beats}
    )


def _cosine(step: int, steps: int) -> float:
    return 0.05 + 0.95 * (1 + math.cos(math.pi * step / max(steps, 1))) / 2
