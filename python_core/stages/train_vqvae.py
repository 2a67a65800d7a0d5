"""Stage `train-vqvae`: features -> codes.

The losses are those of `reconstruction.py`. Those on the root, on velocities and on standing feet would drown the pose
at first, so they grow to their full weight while training goes on. The weights that are kept are an exponential moving
average of the trained ones.
"""

import copy
import dataclasses
import json
import logging
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import Progress, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from python_core.checkpoint import forget_after, load_training, save_training, save_vqvae, start_run
from python_core.clips.prepared import PreparedClip, PreparedClips, read_prepared
from python_core.motion_decoder import MotionDecoder
from python_core.pictures import Row, Strip, write_sheet
from python_core.reconstruction import Losses, Reconstruction
from python_core.tokenizer_measures import measure_readings, read_back
from python_core.vqvae import FRAMES_PER_CODE, Vqvae, VqvaeShape

logger = logging.getLogger(__name__)

CPU = torch.device("cpu")
CODES_TO_START = 24
"""Codes of windows for each entry, from which the codebook begins."""
GROWTH = (0.3, 0.7)
"""Shares of training between which the late losses grow."""
SHEET_CLIPS = 12


@dataclass(frozen=True, kw_only=True)
class TrainVqvaeConfig:
    """Learn codes from features."""

    prepared: Path = Path("runs/prepared")
    """Folder that `prepare` wrote."""

    out: Path = Path("runs/vqvae")
    """Folder of the checkpoint; a run that finds one there goes on from it."""

    shape: VqvaeShape = field(default_factory=VqvaeShape)
    """Size of the model."""

    steps: int = 100_000
    """Optimizer steps."""

    batch: int = 256
    """Windows in a step."""

    window_frames: int = 64
    """Length of a window, a multiple of 4; shorter clips are padded, and the padding is not counted."""

    learning_rate: float = 2e-4
    """Peak of the learning rate, after a linear warm-up; it falls to a thirtieth by a cosine."""

    warm_up_steps: int = 1_000
    """Steps until the learning rate is at its peak."""

    commitment: float = 0.5
    """Weight of the commitment loss; without it encoder outputs drift from the codes."""

    position: float = 6.0
    """Weight of the loss on joint positions at the end of training; it begins at a third."""

    root: float = 0.8
    """Weight of the loss on the root's place at the end of training; it begins at an eighth, as the next two."""

    velocity: float = 16.0
    """Weight of the loss on joint velocities at the end."""

    foot: float = 8.0
    """Weight of the loss on the velocity of standing feet at the end."""

    encoder_rate: float = 0.1
    """The encoder's learning rate over the decoder's: codes must not change faster than the decoder learns them."""

    linear_rate: float = 0.01
    """The same for the encoder's linear view, which begins where it should be."""

    hold_steps: int = 200
    """Steps before the encoder begins to move."""

    ema: float = 0.995
    """Decay of the average of weights."""

    bf16: bool = True
    """Run the convolutions in bfloat16."""

    save_every: int = 1_000
    """Steps between checkpoints."""

    seed: int = 1
    """Of the weights, the windows and the codebook."""


PRESETS = {
    "base": TrainVqvaeConfig(steps=300_000),
    "small": TrainVqvaeConfig(
        shape=VqvaeShape(width=512, code_width=256, num_levels=2),
        steps=30_000,
        batch=64,
        window_frames=128,
        warm_up_steps=500,
    ),
    "nano": TrainVqvaeConfig(
        shape=VqvaeShape(width=256, code_width=128, num_levels=2),
        steps=6_000,
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
        ValueError: The prepared clips are missing or of another format.
    """
    torch.manual_seed(config.seed)
    prepared = read_prepared(config.prepared)
    start_run(config.out, config, [config.prepared / name for name in ("clips.jsonl", "statistics.npz")])
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = Vqvae(config.shape).to(device)
    optimizer = torch.optim.AdamW(_parameter_groups(model, config), betas=(0.9, 0.99), weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        [
            lambda step: _learning_rate(config, step),
            *[lambda step: _learning_rate(config, step) * _released(config, step)] * 2,
        ],
    )
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(config.ema))
    windows = Windows(prepared, config.window_frames, device)
    reconstruction = Reconstruction(prepared.normalizer, device)
    step = 0
    if (state := load_training(config.out / "training.pt")) is not None:
        model.load_state_dict(state["model"])
        averaged.load_state_dict(state["averaged"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        step = state["step"]
        logger.info("going on from step %d", step)
    else:
        _start(model, config, windows, reconstruction)
        averaged.module.load_state_dict(model.state_dict())

    forget_after(config.out / "metrics.jsonl", step)
    with (config.out / "metrics.jsonl").open("a") as metrics, _progress() as progress:
        task = progress.add_task("train-vqvae", total=config.steps, completed=step)
        started = time.monotonic()
        while step < config.steps:
            losses, loss = _step(model, config, windows, reconstruction, step)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            averaged.update_parameters(model)
            step += 1
            progress.update(task, completed=step)
            if step % 50 == 0 or step in (1, config.steps):
                record = {name: round(value.item(), 5) for name, value in vars(losses).items()}
                record |= {"step": step, "loss": round(loss.item(), 5), "time_s": round(time.monotonic() - started, 1)}
                metrics.write(json.dumps(record) + "\n")
                metrics.flush()
            if step % config.save_every == 0 or step == config.steps:
                save_training(
                    config.out / "training.pt",
                    {
                        "model": model.state_dict(),
                        "averaged": averaged.state_dict(),
                        "optimizer": optimizer.state_dict(),
                        "schedule": schedule.state_dict(),
                        "step": step,
                    },
                )
                save_vqvae(config.out, _kept(model, averaged), prepared.normalizer, prepared.frame_rate_hz, config)
        splits = {clip.split for clip in prepared.clips}
        record = {"step": step} | _measure(
            _kept(model, averaged).cpu().eval(), prepared, "val" if "val" in splits else "train", config.out
        )
        metrics.write(json.dumps(record) + "\n")
        logger.info("%s", record)


def _measure(model: Vqvae, prepared: PreparedClips, split: str, out: Path) -> dict[str, Any]:
    """Measure on a split, and draw its first clips beside their reconstructions."""
    decoder = MotionDecoder(model, prepared.normalizer)
    readings = read_back(decoder, prepared, prepared.split(split))
    rows = [
        Row(
            title=reading.clip.captions[0] if reading.clip.captions else reading.clip.clip_id,
            note=f"{reading.clip.clip_id}, {reading.clip.source}",
            strips=(
                Strip(motion=reading.source, label="source"),
                Strip(motion=reading.decoded, label="reconstruction", codes=np.array(reading.codes)),
            ),
        )
        for reading in readings[:: max(1, len(readings) // SHEET_CLIPS)][:SHEET_CLIPS]
    ]
    write_sheet(out / "reconstructions.png", rows)
    measures = {name: dataclasses.asdict(group) for name, group in measure_readings(readings).items()}
    return {"split": split, "measures": measures}


class Windows:
    """Draws windows of the train split, each clip in proportion to its length."""

    def __init__(self, prepared: PreparedClips, frames: int, device: torch.device = CPU) -> None:
        self.prepared, self.frames, self.device = prepared, frames, device
        self.clips: list[PreparedClip] = prepared.split("train")
        self.weights = torch.tensor([float(clip.num_rows) for clip in self.clips])
        self.mean, self.std = prepared.normalizer.mean, prepared.normalizer.std

    def draw(self, batch: int) -> tuple[Tensor, Tensor]:
        """Normalized windows [B, F, D], zero where a clip has ended, and where it has not, [B, F]."""
        features = torch.zeros(batch, self.frames, len(self.mean))
        mask = torch.zeros(batch, self.frames)
        for row, pick in enumerate(torch.multinomial(self.weights, batch, replacement=True).tolist()):
            clip = self.clips[pick]
            length = min(clip.num_rows // FRAMES_PER_CODE * FRAMES_PER_CODE, self.frames)
            first = int(torch.randint(clip.num_rows - length + 1, ()))
            rows = np.array(self.prepared.features(clip)[first : first + length])
            features[row, :length] = torch.from_numpy((rows - self.mean) / self.std)
            mask[row, :length] = 1
        return features.to(self.device), mask.to(self.device)


def _parameter_groups(model: Vqvae, config: TrainVqvaeConfig) -> list[dict[str, Any]]:
    """The decoder, the encoder's convolutions and its linear view, each at its rate."""
    rate = config.learning_rate
    return [
        {"params": list(model.decoder.parameters()), "lr": rate},
        {"params": list(model.encoder.layers.parameters()), "lr": rate * config.encoder_rate},
        {"params": list(model.encoder.linear.parameters()), "lr": rate * config.linear_rate},
    ]


@torch.no_grad()
def _start(model: Vqvae, config: TrainVqvaeConfig, windows: "Windows", reconstruction: Reconstruction) -> None:
    """Principal components and k-means of enough windows for every entry to be near some of them."""
    codes_a_step = config.batch * config.window_frames // FRAMES_PER_CODE
    num_batches = -(-CODES_TO_START * config.shape.level_size // codes_a_step)
    drawn = [windows.draw(config.batch) for _ in range(num_batches)]
    features, mask = (torch.cat(parts) for parts in zip(*drawn, strict=True))
    kept = _code_mask(mask)
    model.start(features, kept, reconstruction.weights, per_step=float(kept.sum()) / num_batches)


def _step(
    model: Vqvae, config: TrainVqvaeConfig, windows: "Windows", reconstruction: Reconstruction, step: int
) -> tuple[Losses, Tensor]:
    target, mask = windows.draw(config.batch)
    with torch.autocast(target.device.type, torch.bfloat16, enabled=config.bf16):
        encoded = model.encoder(target)
    encoded = encoded.float()
    kept = _code_mask(mask)
    with torch.no_grad():
        quantized, inputs, chosen = model.quantize(encoded)
    commitment = model.commitment(encoded, kept, inputs, chosen)
    with torch.autocast(target.device.type, torch.bfloat16, enabled=config.bf16):
        decoded, _ = model.decoder(encoded + (quantized - encoded).detach(), model.zero_state(len(target)))
    model.follow(kept, inputs, chosen)
    losses = reconstruction.losses(target, decoded.float(), mask, commitment)
    grown = min(1.0, max(0.0, (step / config.steps - GROWTH[0]) / (GROWTH[1] - GROWTH[0])))
    late = 0.125 + 0.875 * grown
    loss = (
        losses.features
        + config.position * (0.33 + 0.67 * grown) * losses.position
        + late * (config.root * losses.root + config.velocity * losses.velocity + config.foot * losses.foot)
        + config.commitment * losses.commitment
    )
    return losses, loss


def _kept(model: Vqvae, averaged: AveragedModel) -> Vqvae:
    """The averaged weights with the trained codebook, which is an average itself."""
    # A copy, because a new model would draw random weights, and a run that goes on would not.
    kept = copy.deepcopy(model)
    kept.load_state_dict(model.state_dict() | dict(averaged.module.named_parameters()))
    return kept.eval()


def _code_mask(mask: Tensor) -> Tensor:
    return mask[:, ::FRAMES_PER_CODE] > 0


def _learning_rate(config: TrainVqvaeConfig, step: int) -> float:
    if step < config.warm_up_steps:
        return (step + 1) / config.warm_up_steps
    done = (step - config.warm_up_steps) / max(config.steps - config.warm_up_steps, 1)
    return 0.03 + 0.97 * (1 + float(np.cos(np.pi * done))) / 2


def _released(config: TrainVqvaeConfig, step: int) -> float:
    return min(1.0, max(0.0, (step - config.hold_steps) / max(config.hold_steps / 2, 1)))


def _progress() -> Progress:
    return Progress(*Progress.get_default_columns()[:-1], TimeElapsedColumn(), TimeRemainingColumn())
