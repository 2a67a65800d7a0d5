"""Motion tokenizers side by side: python benchmarks/motion_tokenizers.py PREPARED OUT [--steps 1000] [--only NAME ...]

Trains each on the same clips for as many steps, at the `nano` size, and measures it on the val split: with the codes
nearest to what the encoder sees, and, where the decoder can stream, with the codes that `code_search` finds. Writes
OUT/NAME.json for each, with a row for each source too, goes on where it was stopped, and prints a table, with what a
causal decoder's error is of that of the same model with the published one. "Used" is the least share of a level's
entries that come up in 10,000 codes.

    published    T2M-GPT's layers and losses: non-causal decoder, random weights at the start, 512 codes
    causal       ours with one level of 512, 1,024, or several levels of 512 entries
    non-causal   ours, but for the published decoder, which looks 22 codes into the future
    fsq          ours, but for finite scalar quantization with 8 x 5 x 5 x 5 codes

Sources: Zhang et al. 2023, T2M-GPT; Mentzer et al. 2023, Finite Scalar Quantization: VQ-VAE Made Simple.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from python_core.clips.prepared import PreparedClips, read_prepared
from python_core.code_search import CodeSearch
from python_core.contract.skeleton import BODY_22
from python_core.features import feature_slices
from python_core.motion_tokenizer import MotionTokenizer
from python_core.reconstruction import Losses, Reconstruction
from python_core.stages.train_vqvae import PRESETS, measure_entries_in_use
from python_core.tokenizer_measures import measure_readings
from python_core.vqvae import Decoder, ResidualBlock, Vqvae, VqvaeShape
from python_core.vqvae_training import TrainingSettings, VqvaeTraining

FSQ_LEVELS = (8, 5, 5, 5)


class NonCausalDecoder(nn.Module):
    """The published decoder: convolutions that see both sides."""

    def __init__(self, shape: VqvaeShape) -> None:
        super().__init__()
        width = shape.width
        layers: list[nn.Module] = [nn.Conv1d(shape.code_width, width, 3, padding=1), nn.ReLU()]
        for _ in range(2):
            layers.extend(ResidualBlock(width, dilation) for dilation in shape.dilations)
            layers += [nn.Upsample(scale_factor=2), nn.Conv1d(width, width, 3, padding=1)]
        layers += [nn.Conv1d(width, width, 3, padding=1), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Conv1d(width, shape.num_features, 3, padding=1))
        self.state_shapes = ()

    def forward(self, vectors: Tensor, states: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        return self.layers(vectors.mT).mT, []


class NonCausal(Vqvae):
    """Ours with the published decoder."""

    def __init__(self, shape: VqvaeShape) -> None:
        super().__init__(shape)
        self.decoder = NonCausalDecoder(shape)  # type: ignore[assignment]  # the same calls


class Published(NonCausal):
    """The published encoder too: no linear view beside the convolutions, random weights."""

    def __init__(self, shape: VqvaeShape) -> None:
        super().__init__(shape)
        last = self.encoder.layers[-1]
        assert isinstance(last, nn.Conv1d)
        last.reset_parameters()
        nn.init.zeros_(self.encoder.linear.weight).requires_grad_(False)
        nn.init.zeros_(self.encoder.linear.bias).requires_grad_(False)

    @torch.no_grad()
    def start(self, features: Tensor, kept: Tensor, weights: Tensor, per_step: float) -> None:
        (level,) = self._levels()
        level.start(self.encoder(features)[kept], per_step)


class PublishedReconstruction(Reconstruction):
    """The published loss: smooth L1 of features, and half of it again on joint positions."""

    def losses(self, target: Tensor, decoded: Tensor, mask: Tensor, commitment: Tensor) -> Losses:
        difference = functional.smooth_l1_loss(decoded, target, reduction="none")
        positions = difference[..., feature_slices(BODY_22)["joint_positions"]].mean(-1)
        features = ((difference.mean(-1) + 0.5 * positions) * mask).sum() / mask.sum()
        none = torch.zeros_like(features)
        return Losses(features, none, none, none, none, commitment)


class FsqDecoder(Decoder):
    """Ours behind a bounded projection that is rounded."""

    def __init__(self, shape: VqvaeShape) -> None:
        super().__init__(shape)
        self.bound = nn.Linear(shape.code_width, len(FSQ_LEVELS))
        self.widen = nn.Linear(len(FSQ_LEVELS), shape.code_width)
        self.register_buffer("sizes", torch.tensor(FSQ_LEVELS))
        with torch.no_grad():
            self.bound.weight.copy_(torch.eye(len(FSQ_LEVELS), shape.code_width))
            self.bound.bias.zero_()

    def rounded(self, vectors: Tensor) -> Tensor:
        """Whole numbers around 0, [..., 4], with the gradient of what was rounded."""
        half = (self.get_buffer("sizes") - 1) * (1 + 1e-3) / 2
        offset = torch.where(self.get_buffer("sizes") % 2 == 0, 0.5, 0.0)
        bounded = (self.bound(vectors) + (offset / half).atanh()).tanh() * half - offset
        return bounded + (bounded.round() - bounded).detach()

    def decode_rounded(self, rounded: Tensor, states: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        return super().forward(self.widen(rounded / (self.get_buffer("sizes") // 2)), states)

    def forward(self, vectors: Tensor, states: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        return self.decode_rounded(self.rounded(vectors), states)


class Fsq(Vqvae):
    """Ours with finite scalar quantization, which has no codebook to learn."""

    def __init__(self, shape: VqvaeShape) -> None:
        super().__init__(shape)
        self.fsq = self.decoder = FsqDecoder(shape)
        self.levels = nn.ModuleList()

    def quantize(self, x: Tensor) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        return x, [], []

    def candidates(self, x: Tensor, count: int, branches: int) -> tuple[Tensor, Tensor]:
        sizes = self.fsq.get_buffer("sizes")
        digits = self.fsq.rounded(x).long() + sizes // 2
        places = torch.cat([sizes.new_ones(1), sizes.cumprod(0)[:-1]])
        return (digits * places).sum(-1, keepdim=True), x[:, None]

    def decode(self, codes: Tensor, states: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        sizes = self.fsq.get_buffer("sizes")
        places = torch.cat([sizes.new_ones(1), sizes.cumprod(0)[:-1]])
        return self.fsq.decode_rounded((codes[..., None] // places % sizes - sizes // 2).float(), states)


@dataclass(frozen=True)
class Contestant:
    """What is trained, and how."""

    make: Callable[[VqvaeShape], Vqvae]
    level_size: int
    num_levels: int
    streams: bool = True
    published: bool = False


CONTESTANTS = {
    "published": Contestant(Published, 512, 1, streams=False, published=True),
    "non-causal, 1 level": Contestant(NonCausal, 512, 1, streams=False),
    "causal, 1 level": Contestant(Vqvae, 512, 1),
    "causal, 1 level of 1,024": Contestant(Vqvae, 1024, 1),
    "causal, fsq of 1,000": Contestant(Fsq, 1000, 1, streams=False),
    "causal, 2 levels": Contestant(Vqvae, 512, 2),
    "causal, 4 levels": Contestant(Vqvae, 512, 4),
    "causal, 6 levels": Contestant(Vqvae, 512, 6),
    "non-causal, 6 levels": Contestant(NonCausal, 512, 6, streams=False),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prepared", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--only", nargs="+", choices=CONTESTANTS, default=list(CONTESTANTS))
    arguments = parser.parse_args()
    prepared = read_prepared(arguments.prepared)
    arguments.out.mkdir(parents=True, exist_ok=True)
    print("| tokenizer | clips | tokens a second | pose mm | global mm | feet | jerk | used | seconds |")
    print("|---|---|---|---|---|---|---|---|---|")
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for name in arguments.only:
        path = arguments.out / f"{name}.json"
        if not path.is_file():
            path.write_text(json.dumps(train_and_measure(CONTESTANTS[name], prepared, arguments.steps), indent=2))
        found[name] = json.loads(path.read_text())
        for way, row in found[name].items():
            print(f"| {name}, {way} | " + " | ".join(str(value) for value in row.values()) + " |", flush=True)
    for levels in ("1 level", "6 levels"):
        pair = [found.get(f"{kind}, {levels}") for kind in ("causal", "non-causal")]
        if all(pair):
            causal, published = (of["nearest, all"]["mpjpe_mm"] for of in pair if of)
            print(f"causal / non-causal, {levels}, nearest: {causal / published:.3f}")


def train_and_measure(contestant: Contestant, prepared: PreparedClips, steps: int) -> dict[str, dict[str, Any]]:
    torch.manual_seed(1)
    nano = PRESETS["nano"]
    settings: TrainingSettings = replace(nano, steps=steps)
    if contestant.published:
        settings = replace(
            nano,
            steps=steps,
            learning_rate=5e-4,
            encoder_rate=1.0,
            hold_steps=0,
            position=0,
            root=0,
            velocity=0,
            foot=0,
            commitment=0.02,
        )
    shape = replace(nano.shape, level_size=contestant.level_size, num_levels=contestant.num_levels)
    training = VqvaeTraining(contestant.make(shape), settings, prepared)
    if contestant.published:
        training.reconstruction = PublishedReconstruction(prepared.normalizer, torch.device("cpu"))
    training.start()
    started = time.monotonic()
    for step in range(steps):
        training.advance(step)
    took_s = round(time.monotonic() - started)
    model = training.kept()
    ways = {"nearest": CodeSearch(model, prepared.normalizer, beginnings=1, candidates=1, branches=1)}
    if contestant.streams:
        ways["search"] = CodeSearch(model, prepared.normalizer)
    rows: dict[str, dict[str, Any]] = {}
    clips = prepared.split("val")
    for way, search in ways.items():
        tokenizer = MotionTokenizer(model, prepared.normalizer, prepared.frame_rate_hz, search)
        readings = [tokenizer.read_back(np.array(prepared.features(clip))) for clip in clips]
        # Finite scalars have no codebook whose entries could lie idle.
        used = min(measure_entries_in_use(tokenizer, prepared)) if model.levels else None
        for source, measures in measure_readings(readings, [clip.source for clip in clips]).items():
            rows[f"{way}, {source}"] = {
                "num_clips": measures.num_clips,
                "tokens_a_second": 5 * contestant.num_levels,
                "mpjpe_mm": measures.mpjpe_mm,
                "global_mpjpe_mm": measures.global_mpjpe_mm,
                "contact_speed_ratio": measures.contact_speed_ratio,
                "jerk_ratio": measures.jerk_ratio,
                "entries_in_use": used,
                "training_s": took_s,
            }
    return rows


if __name__ == "__main__":
    main()
