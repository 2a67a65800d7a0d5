"""Stage `train-evaluator`: captions and motions -> what tells how well they match.

`judge` only ever measures; `reward` is what the language model is trained on. They differ in kind and learn from
different takes, so that what pleases one need not please the other.

    checkpoint.json and what `evaluator_checkpoint.py` lists
    metrics.jsonl       losses, and at the end retrieval and exchanged captions on recorded motions: those of the val
                        split, and `unseen`: those of the train split that belong to the other evaluator
"""

import dataclasses
import json
import logging
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from rich.progress import Progress, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor, nn

from python_core.checkpoint import forget_after, load_training, save_training, start_run
from python_core.clips.prepared import PreparedClip, PreparedClips, read_prepared
from python_core.contract.skeleton import BODY_22
from python_core.evaluators.evaluator import END, START, UNKNOWN, Judge, JudgeShape, MovementDecoder, judge_normalizer
from python_core.evaluators.evaluator_checkpoint import LoadedEvaluator, save_judge, save_reward_model
from python_core.evaluators.halves import EvaluatorKind, own_clips, training_clips
from python_core.evaluators.published_judge import read_word_vectors
from python_core.evaluators.retrieval import measure_retrieval, measure_swaps
from python_core.evaluators.reward_model import RewardModel, RewardShape
from python_core.evaluators.swapped_captions import swap_order, swap_sides
from python_core.evaluators.text_motion_samples import PairSource
from python_core.evaluators.token_states import load_token_states
from python_core.evaluators.word_tags import WordTagger
from python_core.features import num_features

logger = logging.getLogger(__name__)

MEASURED_CLIPS = 1024
"""So many clips of a split are measured at most."""
FORGOTTEN_WORDS = 0.05


@dataclass(frozen=True, kw_only=True)
class JudgeTraining:
    """How the judge learns."""

    shape: JudgeShape = field(default_factory=JudgeShape)
    """Sizes; the published ones by default."""

    movement_steps: int = 50_000
    """Steps of the movement autoencoder, before `steps` begin."""

    movement_batch: int = 128
    """Windows in a step of it."""

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


@dataclass(frozen=True, kw_only=True)
class RewardTraining:
    """How the reward model learns."""

    shape: RewardShape = field(default_factory=RewardShape)
    """Sizes."""

    batch: int = 128
    """Pairs in a step."""

    learning_rate: float = 3e-4
    """At its peak; it falls by a cosine to a twentieth."""

    warm_up_steps: int = 500
    """Steps until the learning rate is at its peak."""

    swapped: float = 0.5
    """Weight of telling each caption from itself with sides or order exchanged."""

    twins: float = 0.25
    """Share of pairs whose mirrored twins are put into the same batch."""

    bf16: bool = True
    """Run the transformers in bfloat16."""


@dataclass(frozen=True, kw_only=True)
class TrainEvaluatorConfig:
    """Learn to tell which motion a caption is about."""

    kind: EvaluatorKind = "judge"
    """`judge` measures, `reward` gives rewards."""

    prepared: Path = Path("runs/prepared")
    """Folder that `prepare` wrote."""

    out: Path | None = None
    """Folder of the checkpoint, runs/judge or runs/reward by default; a run that finds one there goes on from it."""

    text_encoder: Path = Path("runs/text_encoder")
    """reward: the frozen text encoder, such as `fetch-backbone text-encoder` writes."""

    word_vectors: Path | None = None
    """judge: a file of vectors such as glove.6B.300d.txt, which are not trained; None trains vectors from scratch."""

    judge: JudgeTraining = field(default_factory=JudgeTraining)
    """Where `kind` is judge."""

    reward: RewardTraining = field(default_factory=RewardTraining)
    """Where `kind` is reward."""

    steps: int = 200_000
    """Optimizer steps on captions and motions."""

    save_every: int = 1_000
    """Steps between checkpoints."""

    seed: int = 1
    """Of weights and batches."""


_NANO_JUDGE = JudgeTraining(
    shape=JudgeShape(movement_width=192, motion_width=192, text_width=192, embedding_width=192, max_words=60),
    movement_steps=800,
    movement_batch=64,
    movement_rate=1e-3,
    learning_rate=1e-3,
    all_negatives=True,
)
_NANO_REWARD = RewardTraining(
    shape=RewardShape(width=192, num_heads=4, text_layers=2, motion_layers=3, embedding_width=128),
    batch=48,
    learning_rate=1e-3,
    warm_up_steps=100,
)

PRESETS = {
    "base": TrainEvaluatorConfig(),
    "small": TrainEvaluatorConfig(
        judge=JudgeTraining(
            shape=JudgeShape(max_words=60), movement_steps=5_000, learning_rate=2e-4, all_negatives=True
        ),
        reward=RewardTraining(batch=64),
        steps=12_000,
    ),
    "nano": TrainEvaluatorConfig(judge=_NANO_JUDGE, reward=_NANO_REWARD, steps=1_200, save_every=200),
    "tiny": TrainEvaluatorConfig(
        judge=JudgeTraining(
            shape=JudgeShape(
                movement_width=24, motion_width=24, text_width=24, embedding_width=16, word_width=24, max_words=40
            ),
            movement_steps=10,
            movement_batch=8,
            movement_rows=32,
            movement_rate=2e-3,
            batch=8,
            learning_rate=2e-3,
            all_negatives=True,
        ),
        reward=RewardTraining(
            shape=RewardShape(width=24, num_heads=2, text_layers=1, motion_layers=1, embedding_width=16, dropout=0.0),
            batch=8,
            learning_rate=2e-3,
            warm_up_steps=5,
            bf16=False,
        ),
        steps=30,
        save_every=10,
    ),
}


def run(config: TrainEvaluatorConfig) -> None:
    """Train, save, and measure on recorded motions.

    Raises:
        ValueError: The prepared clips, the text encoder or the word vectors are missing or do not fit, or no take
            belongs to this evaluator.
    """
    config = dataclasses.replace(config, out=config.out or Path("runs") / config.kind)
    out = config.out
    assert out is not None, "just set"
    torch.manual_seed(config.seed)
    prepared = read_prepared(config.prepared)
    clips = training_clips(prepared, config.kind)
    inputs = {"clips": config.prepared / "clips.jsonl", "statistics": config.prepared / "statistics.npz"}
    if config.kind == "reward":
        inputs["text encoder"] = config.text_encoder / "model.safetensors"
    elif config.word_vectors is not None:
        inputs["word vectors"] = config.word_vectors
    if missing := [path for path in inputs.values() if not path.is_file()]:
        raise ValueError(
            f"{missing[0]}: missing; a text encoder comes from python -m python_core fetch-backbone text-encoder, "
            "word vectors from a file of GloVe"
        )
    start_run(out, config, inputs)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    logger.info("%s: %d clips of its own among %d", config.kind, len(clips), len(prepared.clips))
    training = (
        _JudgeRun(config, prepared, clips, device)
        if config.kind == "judge"
        else _RewardRun(config, prepared, clips, device)
    )
    step = 0
    if (state := load_training(out / "training.pt")) is not None:
        training.load(state)
        step = state["step"]
        logger.info("going on from step %d", step)
    forget_after(out / "metrics.jsonl", step)
    total = training.first_steps + config.steps
    with (out / "metrics.jsonl").open("a") as metrics, _progress() as progress:
        task = progress.add_task(f"train-evaluator {config.kind}", total=total, completed=step)
        started = time.monotonic()
        while step < total:
            record = training.step(step)
            step += 1
            progress.update(task, completed=step)
            if step % 50 == 0 or step in (1, total):
                fields = {name: round(value, 5) for name, value in record.items()}
                line = {"step": step} | fields | {"time_s": round(time.monotonic() - started, 1)}
                metrics.write(json.dumps(line) + "\n")
                metrics.flush()
            if step % config.save_every == 0 or step == total:
                save_training(out / "training.pt", training.state() | {"step": step})
                training.save(out)
        metrics.write(json.dumps({"step": step} | _measure(training, prepared, config)) + "\n")


def _measure(training: "_Run", prepared: PreparedClips, config: TrainEvaluatorConfig) -> dict[str, Any]:
    """Measures on what this evaluator has not seen."""
    loaded = training.evaluator()
    others = own_clips(prepared, "reward" if config.kind == "judge" else "judge")
    groups = {"val": [clip for clip in prepared.clips if clip.split == "val"], "unseen": others}
    measures: dict[str, Any] = {}
    for name, clips in groups.items():
        chosen = np.random.default_rng(config.seed).permutation(len(clips))[:MEASURED_CLIPS]
        measured = [clips[place] for place in sorted(chosen.tolist())]
        retrieval = measure_retrieval(loaded, prepared, measured, config.seed)
        swaps = measure_swaps(loaded, prepared, measured)
        measures[name] = {
            "retrieval": dataclasses.asdict(retrieval) if retrieval else None,
            "swaps": dataclasses.asdict(swaps) | {"all": swaps.all},
        }
        logger.info("%s: %s", name, measures[name])
    return {"measures": measures}


class _Run(Protocol):
    """One evaluator while it is trained."""

    first_steps: int

    def step(self, step: int) -> dict[str, float]: ...

    def state(self) -> dict[str, Any]: ...

    def load(self, state: dict[str, Any]) -> None: ...

    def save(self, out: Path) -> None: ...

    def evaluator(self) -> LoadedEvaluator: ...


class _JudgeRun:
    """The movement autoencoder first, then both encoders over its frozen encoder."""

    def __init__(
        self, config: TrainEvaluatorConfig, prepared: PreparedClips, clips: list[PreparedClip], device: torch.device
    ) -> None:
        self.config, self.settings, self.prepared = config, config.judge, prepared
        self.first_steps = config.judge.movement_steps
        self.pairs = PairSource(prepared, clips)
        self.model = _new_judge(config, prepared, clips).to(device)
        self.decoder = MovementDecoder(config.judge.shape.movement_width, num_features(BODY_22)).to(device)
        movement = [*self.model.movement_encoder.parameters(), *self.decoder.parameters()]
        rest = [self.model.motion_encoder, self.model.text_encoder, self.model.words]
        matched = [value for part in rest for value in part.parameters() if value.requires_grad]
        self.movement_optimizer = torch.optim.Adam(movement, lr=config.judge.movement_rate)
        self.optimizer = torch.optim.Adam(matched, lr=config.judge.learning_rate)
        self.parameters = matched

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
        self.movement_optimizer.step()
        return {"movement_loss": rebuilt.item()}

    def _match_step(self, step: int) -> dict[str, float]:
        self.model.train()
        self.model.movement_encoder.eval()
        pairs = self.pairs.draw(self.settings.batch)
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.learning_rate * _cosine(step, self.config.steps)
        texts = self.model.texts([pair.caption for pair in pairs], forget=FORGOTTEN_WORDS * self.model.train_words)
        with torch.no_grad():
            features, lengths = self.model.batch([pair.rows for pair in pairs])
            movements = self.model.movements(features)
        motions = self.model.motion_encoder(movements, lengths // 4)
        near, far = contrastive_losses(texts, motions, self.settings.margin, self.settings.all_negatives)
        self.optimizer.zero_grad()
        (near + far).backward()
        nn.utils.clip_grad_norm_(self.parameters, 0.5)
        self.optimizer.step()
        return {"pairs": near.item(), "others": far.item()}

    def state(self) -> dict[str, Any]:
        names = ("model", "decoder", "movement_optimizer", "optimizer")
        return {name: getattr(self, name).state_dict() for name in names}

    def load(self, state: dict[str, Any]) -> None:
        for name in ("model", "decoder", "movement_optimizer", "optimizer"):
            getattr(self, name).load_state_dict(state[name])

    def save(self, out: Path) -> None:
        save_judge(out, self.model, self.prepared.frame_rate_hz, self.config)

    def evaluator(self) -> LoadedEvaluator:
        return LoadedEvaluator(self.model.eval(), "euclidean")


class _RewardRun:
    """Captions against motions, and against themselves with something exchanged."""

    first_steps = 0

    def __init__(
        self, config: TrainEvaluatorConfig, prepared: PreparedClips, clips: list[PreparedClip], device: torch.device
    ) -> None:
        self.config, self.settings, self.prepared = config, config.reward, prepared
        self.pairs = PairSource(prepared, clips, beats=True, twins=config.reward.twins)
        token_states = load_token_states(config.text_encoder, device)
        self.model = RewardModel(config.reward.shape, token_states, prepared.normalizer).to(device)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=config.reward.learning_rate, weight_decay=0.01)

    def step(self, step: int) -> dict[str, float]:
        self.model.train()
        pairs = self.pairs.draw(self.settings.batch)
        warm = min(1.0, (step + 1) / self.settings.warm_up_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.learning_rate * warm * _cosine(step, self.config.steps)
        captions = [pair.caption for pair in pairs]
        swapped = [
            (row, text)
            for row, caption in enumerate(captions)
            for text in (swap_sides(caption), swap_order(caption))
            if text is not None
        ]
        device = self.model.device
        with torch.autocast(device.type, torch.bfloat16, enabled=self.settings.bf16):
            texts = self.model.texts([*captions, *(text for _, text in swapped)])
            motions = self.model.motions([pair.rows for pair in pairs])
        owners = torch.tensor([row for row, _ in swapped], dtype=torch.long, device=device)
        matching, telling = retrieval_losses(motions, texts, owners, self.model.scale)
        self.optimizer.zero_grad()
        (matching + self.settings.swapped * telling).backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        return {"matching": matching.item(), "telling": telling.item()}

    def state(self) -> dict[str, Any]:
        return {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])

    def save(self, out: Path) -> None:
        save_reward_model(out, self.model, self.config.text_encoder, self.prepared.frame_rate_hz, self.config)

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


def _new_judge(config: TrainEvaluatorConfig, prepared: PreparedClips, clips: list[PreparedClip]) -> Judge:
    """A judge that knows the words of its own clips, or those of all clips that have given vectors."""
    shape, normalizer = config.judge.shape, judge_normalizer(prepared.normalizer)
    of = prepared.clips if config.word_vectors else clips
    captions = sorted({caption for clip in of for caption in clip.captions})
    tagged = WordTagger().tag(captions)
    words = sorted({word.word for one in tagged for word in one} - {UNKNOWN, START, END})
    if config.word_vectors is None:
        return Judge(shape, [UNKNOWN, START, END, *words], normalizer)
    vectors = read_word_vectors(config.word_vectors, {UNKNOWN, START, END, *words}, shape.word_width)
    known = [word for word in words if word in vectors]
    if not known:
        raise ValueError(f"{config.word_vectors}: has none of the {len(words)} words of the captions")
    vocabulary = [UNKNOWN, START, END, *known]
    judge = Judge(shape, vocabulary, normalizer, train_words=False)
    zeros = np.zeros(shape.word_width, np.float32)
    judge.words.weight.data.copy_(torch.from_numpy(np.stack([vectors.get(word, zeros) for word in vocabulary])))
    return judge


def _cosine(step: int, steps: int) -> float:
    return 0.05 + 0.95 * (1 + math.cos(math.pi * step / max(steps, 1))) / 2


@contextmanager
def _progress() -> Iterator[Progress]:
    columns = (*Progress.get_default_columns()[:-1], TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress:
        yield progress
