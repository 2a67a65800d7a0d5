"""Stage `train-vqvae`: features -> codes. Writes the tokenizer, and how well it gives the val split back."""

import dataclasses
import json
import logging
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import track

from python_core.bfloat16 import warn_where_slow
from python_core.checkpoint import (
    load_training,
    save_training,
    save_vqvae,
    start_run,
    write_json,
)
from python_core.clips.prepared import PreparedClips, read_prepared
from python_core.metrics_file import open_metrics
from python_core.motion_tokenizer import MotionTokenizer
from python_core.pictures import Row, Strip, write_sheet
from python_core.processes import averaged, open_processes
from python_core.step_progress import step_progress
from python_core.time_limit import TimeLimit, say_stopped
from python_core.tokenizer_measures import entries_in_use, measure_readings
from python_core.vqvae import FRAMES_PER_CODE, Vqvae, VqvaeShape
from python_core.vqvae_training import TrainingSettings, VqvaeTraining, clip_weights

logger = logging.getLogger(__name__)

SHEET_CLIPS = 12
CODES_IN_SAMPLE = 10_000


@dataclass(frozen=True, kw_only=True)
class TrainVqvaeConfig(TrainingSettings):
    """Learn codes from features."""

    prepared: Path = Path("runs/prepared")
    """Folder that `prepare` wrote."""

    out: Path = Path("runs/vqvae")
    """Folder of the checkpoint; a run that finds one there goes on from it."""

    shape: VqvaeShape = field(default_factory=VqvaeShape)
    """Size of the model."""

    save_every: int = 1_000
    """Steps between checkpoints."""

    stop_after_s: float | None = None
    """Seconds after which the run saves itself and ends, to go on when it is given again; None goes on to the end."""

    seed: int = 1
    """Of the weights, the windows and the codebook."""

    def __post_init__(self) -> None:
        for name, least in (("steps", 1), ("batch", 1), ("save_every", 1), ("warm_up_steps", 0), ("hold_steps", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if self.window_frames < FRAMES_PER_CODE or self.window_frames % FRAMES_PER_CODE:
            raise ValueError(
                f"window_frames must be a multiple of the {FRAMES_PER_CODE} frames of a code, got {self.window_frames}"
            )
        if self.code_steps is not None and self.code_steps < 1:
            raise ValueError(f"code_steps must be at least 1, got {self.code_steps}; None for all steps")
        if not 0 <= self.ema < 1:
            raise ValueError(f"ema goes from 0 to below 1, got {self.ema}")


PRESETS = {
    "base": TrainVqvaeConfig(shape=VqvaeShape(num_levels=6, code_dilations=(3,)), steps=300_000),
    "small": TrainVqvaeConfig(
        shape=VqvaeShape(width=512, code_width=256, num_levels=6, code_dilations=(3,)),
        steps=30_000,
        batch=64,
        window_frames=128,
        warm_up_steps=500,
    ),
    "nano": TrainVqvaeConfig(
        shape=VqvaeShape(width=256, code_width=128, num_levels=6),
        steps=14_000,
        batch=32,
        window_frames=80,
        warm_up_steps=50,
        learning_rate=3e-3,
    ),
    "tiny": TrainVqvaeConfig(
        shape=VqvaeShape(width=32, code_width=16, level_size=32, num_levels=2),
        steps=30,
        batch=8,
        window_frames=32,
        warm_up_steps=5,
        learning_rate=2e-3,
        bf16=False,
        save_every=10,
        hold_steps=5,
    ),
}


def run(config: TrainVqvaeConfig) -> None:
    """Train, save, and measure on the val split.

    Raises:
        ValueError: The prepared clips are missing or of another format, or several processes cannot share a batch.
    """
    time_limit = TimeLimit(config.stop_after_s)
    processes = open_processes()
    torch.manual_seed(config.seed)
    prepared = read_prepared(config.prepared)
    training = VqvaeTraining(Vqvae(config.shape).to(processes.device), config, prepared)
    if processes.is_main_process:
        inputs = {"clips": config.prepared / "clips.jsonl", "statistics": config.prepared / "statistics.npz"}
        start_run(config.out, config, inputs)
        warn_where_slow(config.bf16)
    processes.wait_for_everyone()
    step = 0
    if (state := load_training(config.out / "training.pt")) is not None:
        step = state.pop("step")
        training.load_state_dict(state)
        logger.info("going on from step %d", step)
    else:
        training.start()

    with open_metrics(config.out / "metrics.jsonl", step) as metrics, step_progress() as progress:
        task = progress.add_task("train-vqvae", total=config.steps, completed=step)
        started = time.monotonic()
        while step < config.steps:
            losses, loss = training.advance(step)
            step += 1
            progress.update(task, completed=step)
            if step % 50 == 0 or step in (1, config.steps):
                means = vars(losses) | {"loss": loss}
                record = {name: round(averaged(value).item(), 5) for name, value in means.items()}
                record |= {"step": step, "time_s": round(time.monotonic() - started, 1)}
                metrics.write(json.dumps(record) + "\n")
                metrics.flush()
            is_over = step < config.steps and time_limit.is_over_in_any()
            if processes.is_main_process and (step % config.save_every == 0 or step == config.steps or is_over):
                save_training(config.out / "training.pt", training.state_dict() | {"step": step})
                save_vqvae(config.out, training.kept(), prepared.normalizer, prepared.frame_rate_hz, config)
            if is_over:
                say_stopped(step, config.steps)
                return
    if not processes.is_main_process:
        return
    # Once more, in case the last run was killed between the two files.
    kept = training.kept().cpu()
    save_vqvae(config.out, kept, prepared.normalizer, prepared.frame_rate_hz, config)
    splits = {clip.split for clip in prepared.clips}
    measures = _measure(kept, prepared, "val" if "val" in splits else "train", config.out)
    write_json(config.out / "measures.json", measures)
    logger.info("%s", measures)


def _measure(model: Vqvae, prepared: PreparedClips, split: str, out: Path) -> dict[str, Any]:
    """Measure on a split, and draw its first clips beside their reconstructions."""
    tokenizer = MotionTokenizer(model, prepared.normalizer, prepared.frame_rate_hz)
    clips = prepared.split(split)
    readings = [tokenizer.read_back(np.array(prepared.features(clip))) for clip in track(clips, f"measuring {split}")]
    rows = [
        Row(
            title=clip.captions[0] if clip.captions else clip.clip_id,
            note=f"{clip.clip_id}, {clip.source}",
            strips=(
                Strip(motion=reading.source, label="source"),
                Strip(motion=reading.decoded, label="reconstruction", codes=np.array(reading.codes)),
            ),
        )
        for clip, reading in list(zip(clips, readings, strict=True))[:: max(1, len(clips) // SHEET_CLIPS)][:SHEET_CLIPS]
    ]
    write_sheet(out / "reconstructions.png", rows)
    measures = measure_readings(readings, [clip.source for clip in clips])
    return {
        "split": split,
        "measures": {name: dataclasses.asdict(group) for name, group in measures.items()},
        "entries_in_use": measure_entries_in_use(tokenizer, prepared),
    }


def measure_entries_in_use(tokenizer: MotionTokenizer, prepared: PreparedClips) -> list[float]:
    """Share of each level's entries that come up in CODES_IN_SAMPLE codes of clips that are drawn as in training."""
    clips = prepared.split("train")
    weights = np.array(clip_weights(clips))
    drawn = np.random.default_rng(0).choice(len(clips), size=len(clips), replace=False, p=weights / weights.sum())
    codes: list[int] = []
    with step_progress() as progress:
        task = progress.add_task("entries in use", total=CODES_IN_SAMPLE)
        for place in drawn.tolist():
            codes += tokenizer.encode([np.array(prepared.features(clips[place]))])[0]
            progress.update(task, completed=len(codes))
            if len(codes) >= CODES_IN_SAMPLE:
                break
    return entries_in_use(codes[:CODES_IN_SAMPLE], tokenizer.model.shape.codebook)
