"""Stage `train-evaluator`: captions and motions -> what tells how well they match.

`judge` only ever measures; `reward` is what the language model is trained on. They differ in kind and learn from
different takes, so that what pleases one need not please the other.

    checkpoint.json and what `evaluator_checkpoint.py` lists: the weights that did best on takes held out of training
    metrics.jsonl       losses; retrieval on held-out takes at each checkpoint; at the end the best step, and retrieval
                        and exchanged captions on recorded motions: those of the val split, and `unseen`: those of the
                        train split that belong to the other evaluator
"""

import dataclasses
import json
import logging
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from python_core.bfloat16 import warn_where_slow
from python_core.checkpoint import load_training, save_training, start_run
from python_core.clips.prepared import PreparedClip, PreparedClips, read_prepared
from python_core.clips.takes import hold_out
from python_core.evaluators.best_weights import BestWeights
from python_core.evaluators.evaluator import JudgeShape
from python_core.evaluators.evaluator_training import (
    EvaluatorTraining,
    JudgeRun,
    JudgeTraining,
    RewardRun,
    RewardTraining,
)
from python_core.evaluators.halves import EvaluatorKind, own_clips, training_clips
from python_core.evaluators.retrieval import measure_retrieval, measure_swaps
from python_core.evaluators.reward_model import RewardShape
from python_core.metrics_file import open_metrics
from python_core.processes import open_processes
from python_core.step_progress import step_progress
from python_core.time_limit import TimeLimit, say_stopped

logger = logging.getLogger(__name__)

MEASURED_CLIPS = 1024
"""So many clips of a split are measured at most."""


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

    held_out_share: float = 0.08
    """Share of its own takes that choose the weights instead of being learned from; 0 takes the last weights."""

    save_every: int = 1_000
    """Steps between checkpoints, at each of which the held-out takes are measured."""

    stop_after_s: float | None = None
    """Seconds after which the run saves itself and ends, to go on when it is given again; None goes on to the end."""

    seed: int = 1
    """Of weights and batches."""

    def __post_init__(self) -> None:
        for name in ("steps", "save_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.held_out_share < 1:
            raise ValueError(f"held_out_share goes from 0 to below 1, got {self.held_out_share}")


_NANO_JUDGE = JudgeTraining(
    shape=JudgeShape(movement_width=192, motion_width=192, text_width=192, embedding_width=192, max_words=60),
    movement_steps=800,
    movement_batch=64,
    movement_rate=1e-3,
    learning_rate=1e-3,
    all_negatives=True,
    speed=0.1,
    noise=0.02,
    dropout=0.2,
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
            shape=JudgeShape(max_words=60),
            movement_steps=5_000,
            learning_rate=2e-4,
            all_negatives=True,
            speed=0.1,
            noise=0.02,
            dropout=0.2,
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
            belongs to this evaluator, all of its takes are held out, or several processes cannot share a batch.
    """
    time_limit = TimeLimit(config.stop_after_s)
    config = dataclasses.replace(config, out=config.out or Path("runs") / config.kind)
    out = config.out
    assert out is not None, "just set"
    processes = open_processes()
    device = processes.device
    assert device is not None, "of processes that are open"
    torch.manual_seed(config.seed)
    prepared = read_prepared(config.prepared)
    clips, held_out = _hold_out(prepared, config)
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
    logger.info(
        "%s: learns from %d clips of %d and holds out %d", config.kind, len(clips), len(prepared.clips), len(held_out)
    )
    training: EvaluatorTraining = (
        JudgeRun(config.judge, config.steps, prepared, clips, config.word_vectors, device)
        if config.kind == "judge"
        else RewardRun(config.reward, config.steps, prepared, clips, config.text_encoder, device)
    )
    if processes.is_main_process:
        start_run(out, config, inputs)
        warn_where_slow(config.kind == "reward" and config.reward.bf16)
    processes.wait_for_everyone()
    step, best = 0, BestWeights()
    if (state := load_training(out / "training.pt")) is not None:
        training.load(state)
        best.load(state["best"])
        step = state["step"]
        logger.info("going on from step %d", step)
    total = training.first_steps + config.steps
    with open_metrics(out / "metrics.jsonl", step) as metrics, step_progress() as progress:
        task = progress.add_task(f"train-evaluator {config.kind}", total=total, completed=step)
        started = time.monotonic()
        while step < total:
            record = training.step(step)
            step += 1
            progress.update(task, completed=step)
            is_over = step < total and time_limit.is_over_in_any()
            if is_over and not processes.is_main_process:
                return
            saves = processes.is_main_process and (step % config.save_every == 0 or step == total)
            if saves and step > training.first_steps:
                retrieval = measure_retrieval(training.evaluator(), prepared, held_out, config.seed)
                best.offer(training.model, step, retrieval)
                if retrieval is not None:
                    record |= {"held_out_r_at_3": retrieval.r_at_3, "held_out_pair_distance": retrieval.pair_distance}
            if saves or step % 50 == 0 or step == 1:
                fields = {name: round(value, 5) for name, value in record.items()}
                line = {"step": step} | fields | {"time_s": round(time.monotonic() - started, 1)}
                metrics.write(json.dumps(line) + "\n")
                metrics.flush()
            if saves:
                save_training(out / "training.pt", training.state() | {"step": step, "best": best.state()})
                latest = best.put_into(training.model)
                training.save(out, config)
                training.model.load_state_dict(latest)
            elif is_over:
                # Held-out takes are not measured, or they would choose among more weights than without a limit.
                save_training(out / "training.pt", training.state() | {"step": step, "best": best.state()})
            if is_over:
                say_stopped(step, total)
                return
        if not processes.is_main_process:
            return
        best.put_into(training.model)
        # Once more, in case the last run was killed between the two files.
        training.save(out, config)
        measures = _measure(training, prepared, config)
        line = json.dumps({"step": step, "best_step": best.step} | measures) + "\n"
        # A finished run that is given again comes to the same.
        if line not in (out / "metrics.jsonl").read_text():
            metrics.write(line)


def _hold_out(prepared: PreparedClips, config: TrainEvaluatorConfig) -> tuple[list[PreparedClip], list[PreparedClip]]:
    """Clips to learn from, and clips that choose the weights."""
    clip_ids = frozenset(clip.clip_id for clip in prepared.clips)
    clips, held_out = hold_out(training_clips(prepared, config.kind), clip_ids, config.held_out_share)
    if not clips:
        raise ValueError(
            f"held_out_share {config.held_out_share}: all takes of the {config.kind} are held out; use a smaller share"
        )
    return clips, held_out


def _measure(training: EvaluatorTraining, prepared: PreparedClips, config: TrainEvaluatorConfig) -> dict[str, Any]:
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
