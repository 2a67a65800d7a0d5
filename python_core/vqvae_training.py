"""Training steps of the motion tokenizer.

The losses are those of `reconstruction.py`. Those on the root, on velocities and on standing feet would drown the pose
at first, so they grow to their full weight while training goes on. The weights that are kept are an exponential moving
average of the trained ones.
"""

import copy
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from python_core.clips.prepared import PreparedClip, PreparedClips
from python_core.processes import average_gradients, check_divides, own_share, take_weights_of_first
from python_core.reconstruction import Losses, Reconstruction
from python_core.vqvae import FRAMES_PER_CODE, Vqvae

CPU = torch.device("cpu")
CODES_TO_START = 24
"""Codes of windows for each entry, from which the codebook begins."""
GROWTH = (0.3, 0.7)
"""Shares of training between which the late losses grow."""


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """What a step depends on."""

    steps: int = 100_000
    """Optimizer steps."""

    batch: int = 256
    """Windows in a step; several processes share them, and must divide it."""

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

    code_steps: int | None = None
    """Steps in which encoder and codebook learn, and with them what codes mean; the decoder goes on alone, so codes
    that are found from then on stay. None: all steps.
    """

    ema: float = 0.995
    """Decay of the average of weights."""

    bf16: bool = True
    """Run the convolutions in bfloat16."""


@dataclass(frozen=True)
class Window:
    """Frames of a clip."""

    clip: PreparedClip
    first: int
    length: int


class Windows:
    """Draws windows of the train split by `clip_weights`."""

    def __init__(self, prepared: PreparedClips, frames: int, device: torch.device = CPU) -> None:
        self.prepared, self.frames, self.device = prepared, frames, device
        self.clips: list[PreparedClip] = prepared.split("train")
        self.weights = torch.tensor(clip_weights(self.clips))
        self.mean, self.std = prepared.normalizer.mean, prepared.normalizer.std

    def draw(self, batch: int) -> list[Window]:
        """As many windows, with torch's random numbers of the CPU, which processes draw alike."""
        windows = []
        for pick in torch.multinomial(self.weights, batch, replacement=True).tolist():
            clip = self.clips[pick]
            length = min(clip.num_rows // FRAMES_PER_CODE * FRAMES_PER_CODE, self.frames)
            windows.append(Window(clip, int(torch.randint(clip.num_rows - length + 1, ())), length))
        return windows

    def read(self, windows: Sequence[Window]) -> tuple[Tensor, Tensor]:
        """Normalized features [B, F, D], zero where a clip has ended, and where it has not, [B, F]."""
        features = torch.zeros(len(windows), self.frames, len(self.mean))
        mask = torch.zeros(len(windows), self.frames)
        for row, window in enumerate(windows):
            rows = np.array(self.prepared.features(window.clip)[window.first : window.first + window.length])
            features[row, : window.length] = torch.from_numpy((rows - self.mean) / self.std)
            mask[row, : window.length] = 1
        return features.to(self.device), mask.to(self.device)


def clip_weights(clips: Sequence[PreparedClip]) -> list[float]:
    """How often clips are drawn: each source in proportion to the square root of its length, so that a large one does
    not drown the others, and each of its clips in proportion to the clip's.
    """
    of_source = Counter[str]()
    for clip in clips:
        of_source[clip.source] += clip.num_rows
    return [clip.num_rows / of_source[clip.source] ** 0.5 for clip in clips]


class VqvaeTraining:
    """A model, its optimizer and its average, one step at a time.

    Raises:
        ValueError: Several processes cannot share a batch.
    """

    def __init__(self, model: Vqvae, config: TrainingSettings, prepared: PreparedClips) -> None:
        check_divides("batch", config.batch)
        device = model.encoder.linear.weight.device
        self.model, self.config = model, config
        self.windows = Windows(prepared, config.window_frames, device)
        self.reconstruction = Reconstruction(prepared.normalizer, device)
        rate = config.learning_rate
        self.optimizer = torch.optim.AdamW(
            [
                {"params": list(model.decoder.parameters()), "lr": rate},
                {"params": list(model.encoder.layers.parameters()), "lr": rate * config.encoder_rate},
                {"params": list(model.encoder.linear.parameters()), "lr": rate * config.linear_rate},
            ],
            betas=(0.9, 0.99),
            weight_decay=1e-4,
        )
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, [self._rate, *[lambda step: self._rate(step) * self._released(step)] * 2]
        )
        self.averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(config.ema))

    @torch.no_grad()
    def start(self) -> None:
        """Principal components and k-means of enough windows for every entry to be near some of them."""
        codes_a_step = self.config.batch * self.config.window_frames // FRAMES_PER_CODE
        num_batches = -(-CODES_TO_START * self.model.shape.level_size // codes_a_step)
        features, mask = self.windows.read(
            [window for _ in range(num_batches) for window in self.windows.draw(self.config.batch)]
        )
        kept = _code_mask(mask)
        self.model.start(features, kept, self.reconstruction.weights, per_step=float(kept.sum()) / num_batches)
        take_weights_of_first(self.model)
        self.averaged.module.load_state_dict(self.model.state_dict())

    def advance(self, step: int) -> tuple[Losses, Tensor]:
        """Train step number `step`, counted from 0; the losses of this process's share and what was minimised."""
        fixed = self.config.code_steps is not None and step >= self.config.code_steps
        if step == self.config.code_steps:
            # As it is kept.
            self.model.encoder.load_state_dict(self.kept().encoder.state_dict())
        self.model.encoder.requires_grad_(not fixed)
        losses = self._losses(fixed)
        loss = self.loss(losses, step)
        self.optimizer.zero_grad()
        loss.backward()
        average_gradients(self.model.parameters())
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.schedule.step()
        self.averaged.update_parameters(self.model)
        return losses, loss

    def loss(self, losses: Losses, step: int) -> Tensor:
        """The sum that is minimised."""
        config = self.config
        grown = min(1.0, max(0.0, (step / config.steps - GROWTH[0]) / (GROWTH[1] - GROWTH[0])))
        late = 0.125 + 0.875 * grown
        return (
            losses.features
            + config.position * (0.33 + 0.67 * grown) * losses.position
            + late * (config.root * losses.root + config.velocity * losses.velocity + config.foot * losses.foot)
            + config.commitment * losses.commitment
        )

    def kept(self) -> Vqvae:
        """The averaged weights with the trained codebook, which is an average itself."""
        # A copy, because a new model would draw random weights, and a run that goes on would not.
        kept = copy.deepcopy(self.model)
        kept.load_state_dict(self.model.state_dict() | dict(self.averaged.module.named_parameters()))
        return kept.eval()

    def state_dict(self) -> dict[str, Any]:
        """All that a run that goes on needs, but for the step and the random state."""
        return {name: part.state_dict() for name, part in self._parts().items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, part in self._parts().items():
            part.load_state_dict(state[name])

    def _parts(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "averaged": self.averaged,
            "optimizer": self.optimizer,
            "schedule": self.schedule,
        }

    def _losses(self, fixed: bool) -> Losses:
        """Of a share of new windows; the codebook follows unless it is fixed, as the encoder then is."""
        target, mask = self.windows.read(own_share(self.windows.draw(self.config.batch)))
        with torch.autocast(target.device.type, torch.bfloat16, enabled=self.config.bf16):
            encoded = self.model.encoder(target)
        encoded = encoded.float()
        kept = _code_mask(mask)
        with torch.no_grad():
            quantized, inputs, chosen = self.model.quantize(encoded)
        commitment = self.model.commitment(encoded, kept, inputs, chosen)
        with torch.autocast(target.device.type, torch.bfloat16, enabled=self.config.bf16):
            straight_through = encoded + (quantized - encoded).detach()
            decoded, _ = self.model.decoder(straight_through, self.model.zero_states(len(target)))
        if not fixed:
            self.model.follow(kept, inputs, chosen)
        return self.reconstruction.losses(target, decoded.float(), mask, commitment)

    def _rate(self, step: int) -> float:
        """The decoder's learning rate over its peak."""
        if step < self.config.warm_up_steps:
            return (step + 1) / self.config.warm_up_steps
        done = (step - self.config.warm_up_steps) / max(self.config.steps - self.config.warm_up_steps, 1)
        return 0.03 + 0.97 * (1 + float(np.cos(np.pi * done))) / 2

    def _released(self, step: int) -> float:
        """How free the encoder is."""
        return min(1.0, max(0.0, (step - self.config.hold_steps) / max(self.config.hold_steps / 2, 1)))


def _code_mask(mask: Tensor) -> Tensor:
    return mask[:, ::FRAMES_PER_CODE] > 0
