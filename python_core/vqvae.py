"""The motion tokenizer: features -> codes -> features, 4 frames to a code.

Notable choices:
- the encoder is the usual one, with a view to both sides; the decoder is causal, so a code becomes 4 final frames the
  moment it is known;
- the decoder's memory is explicit: `decode` takes and returns the last inputs of its convolutions, so streaming and
  whole clips are one computation;
- the encoder begins as the principal components of 4 frames, and the codebook as k-means of them. From there training
  improves; from random weights it takes a thousand steps to get as far;
- the codebook has levels, each for what the ones before it left over; they are exponential moving averages, and
  entries that nobody uses are put where encoder outputs are.

Source: van den Oord et al. 2017, Neural Discrete Representation Learning; Zhang et al. 2023, T2M-GPT, for the layers;
Zeghidour et al. 2021, SoundStream, for the levels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from python_core.contract.vocabulary import CodebookSize
from python_core.processes import averaged, gathered, summed

FRAMES_PER_CODE = 4
REPLACED_BELOW = 0.08
"""An entry that is chosen less often than this a step, in the running average, is put somewhere else. With a lower
number one entry in twenty is hardly ever used; with a higher one entries that are rare but needed are lost again and
again.
"""
KMEANS_ROUNDS = 12
UPSAMPLINGS = 2


@dataclass(frozen=True, kw_only=True)
class VqvaeShape:
    """What the weights depend on."""

    num_features: int = 263
    """Width of a row of features."""

    width: int = 512
    """Channels of the convolutions."""

    code_width: int = 512
    """Numbers in a code's vector."""

    level_size: int = 512
    """Entries of a level of the codebook."""

    num_levels: int = 1
    """Levels of the codebook."""

    dilations: tuple[int, ...] = (9, 3, 1)
    """Dilation of the convolutions of each stack of residual blocks, in order."""

    code_dilations: tuple[int, ...] = (9, 3, 1)
    """The same for the decoder's first stack, which runs once a code: a stream of codes waits for its weights."""

    @property
    def codebook(self) -> CodebookSize:
        return CodebookSize(self.level_size, self.num_levels)


class CausalConv(nn.Module):
    """A convolution that sees the present and the past, as one matrix product of everything that it sees.

    The library's own convolution does not share its weights among streams, so one code of many streams would cost as
    much as each alone. Time comes before channels here.
    """

    def __init__(self, channels_in: int, channels_out: int, kernel: int = 3, dilation: int = 1) -> None:
        super().__init__()
        self.product = nn.Linear(kernel * channels_in, channels_out)
        self.channels_in, self.dilation, self.num_past = channels_in, dilation, (kernel - 1) * dilation

    def forward(self, x: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs [B, N, C] and the `num_past` inputs before them -> outputs [B, N, C'] and the new past."""
        seen = torch.cat([past, x], dim=1)
        # Ends are counted from behind, because a graph computes ends that depend on the length.
        taps = [seen[:, first : first - self.num_past] for first in range(0, self.num_past, self.dilation)]
        return self.product(torch.cat([*taps, x], dim=-1)), seen[:, -self.num_past :]


class ResidualBlock(nn.Module):
    """ReLU, dilated convolution, ReLU, pointwise convolution, added to the input."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.dilated = nn.Conv1d(width, width, 3, padding=dilation, dilation=dilation)
        self.pointwise = nn.Conv1d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.pointwise(functional.relu(self.dilated(functional.relu(x))))


class CausalResidualBlock(nn.Module):
    """The same block with a causal convolution."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.dilated = CausalConv(width, width, dilation=dilation)
        self.pointwise = nn.Linear(width, width)

    def forward(self, x: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        y, past = self.dilated(functional.relu(x), past)
        return x + self.pointwise(functional.relu(y)), past


class Encoder(nn.Module):
    """Features [B, F, D] -> vectors [B, F / 4, C]: a linear view of the 4 frames, and what convolutions add to it."""

    def __init__(self, shape: VqvaeShape) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv1d(shape.num_features, shape.width, 3, padding=1), nn.ReLU()]
        for _ in range(UPSAMPLINGS):
            layers.append(nn.Conv1d(shape.width, shape.width, 4, stride=2, padding=1))
            layers.extend(ResidualBlock(shape.width, dilation) for dilation in shape.dilations)
        last = nn.Conv1d(shape.width, shape.code_width, 3, padding=1)
        nn.init.zeros_(last.weight)
        assert last.bias is not None
        nn.init.zeros_(last.bias)
        self.layers = nn.Sequential(*layers, last)
        self.linear = nn.Linear(FRAMES_PER_CODE * shape.num_features, shape.code_width)

    def forward(self, features: Tensor) -> Tensor:
        return self.linear(_patches(features)) + self.layers(features.mT).mT


class Decoder(nn.Module):
    """Vectors [B, T, C] and states -> features [B, 4 T, D] and states: of each convolution the inputs that it looks
    back at, [B, N, C]. Zeros start a motion.
    """

    def __init__(self, shape: VqvaeShape) -> None:
        super().__init__()
        self.first = CausalConv(shape.code_width, shape.width)
        self.blocks = nn.ModuleList(
            nn.ModuleList(CausalResidualBlock(shape.width, dilation) for dilation in dilations)
            for dilations in (shape.code_dilations, *[shape.dilations] * (UPSAMPLINGS - 1))
        )
        self.ups = nn.ModuleList(CausalConv(shape.width, shape.width) for _ in range(UPSAMPLINGS))
        self.mix = CausalConv(shape.width, shape.width)
        self.last = CausalConv(shape.width, shape.num_features)

    @property
    def state_shapes(self) -> list[tuple[int, int]]:
        """Of one stream: the inputs that each convolution looks back at, and the numbers of each."""
        return [(conv.num_past, conv.channels_in) for conv in self._convolutions()]

    def forward(self, vectors: Tensor, states: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        pasts = iter(states)
        kept: list[Tensor] = []

        def run(layer: nn.Module, x: Tensor) -> Tensor:
            y, past = layer(x, next(pasts))
            kept.append(past)
            return y

        x = functional.relu(run(self.first, vectors))
        for blocks, up in zip(self.blocks, self.ups, strict=True):
            assert isinstance(blocks, nn.ModuleList)
            for block in blocks:
                x = run(block, x)
            x = run(up, x[:, :, None].expand(-1, -1, 2, -1).flatten(1, 2))
        x = functional.relu(run(self.mix, x))
        return run(self.last, x), kept

    def _convolutions(self) -> list[CausalConv]:
        """In the order in which they run, which is the order of the states."""
        found = [self.first]
        for blocks, up in zip(self.blocks, self.ups, strict=True):
            assert isinstance(blocks, nn.ModuleList)
            found.extend(block.dilated for block in blocks)  # type: ignore[union-attr]  # ModuleList has no item type
            assert isinstance(up, CausalConv)
            found.append(up)
        return [*found, self.mix, self.last]


class Level(nn.Module):
    """Vectors of entries, moved by an exponential moving average of the inputs that chose them."""

    vectors: Tensor
    counts: Tensor
    sums: Tensor
    decay: float = 0.99

    def __init__(self, shape: VqvaeShape) -> None:
        super().__init__()
        self.register_buffer("vectors", torch.zeros(shape.level_size, shape.code_width))
        self.register_buffer("sums", torch.zeros(shape.level_size, shape.code_width))
        self.register_buffer("counts", torch.zeros(shape.level_size))

    def nearest(self, x: Tensor) -> Tensor:
        """Entries nearest to vectors, [..., C] -> [...]."""
        distances = self.vectors.square().sum(-1) - 2 * x @ self.vectors.T
        return distances.argmin(dim=-1)

    @torch.no_grad()
    def start(self, x: Tensor, per_step: float) -> None:
        """Take the first vectors from k-means of inputs, [N, C]; a step will bring `per_step` of them."""
        repeats = -(-len(self.vectors) // len(x))
        centres = x.repeat(repeats, 1)[torch.randperm(repeats * len(x), device=x.device)[: len(self.vectors)]]
        counts = centres.new_zeros(len(centres))
        for _ in range(KMEANS_ROUNDS):
            self.vectors.copy_(centres)
            chosen = self.nearest(x)
            counts = torch.bincount(chosen, minlength=len(centres)).to(x.dtype)
            means = torch.zeros_like(centres).index_add_(0, chosen, x) / counts.clamp(min=1)[:, None]
            picks = x[torch.randint(len(x), (len(centres),), device=x.device)]
            centres = torch.where(counts[:, None] > 0, means, picks)
        self.vectors.copy_(centres)
        self.counts.copy_((counts * (per_step / len(x))).clamp(min=2 * REPLACED_BELOW))
        self.sums.copy_(self.vectors * self.counts[:, None])

    @torch.no_grad()
    def update(self, x: Tensor, kept: Tensor, entries: Tensor) -> None:
        """Move towards the inputs [..., C] that are kept [...] and chose each entry [...]; put unused entries on random
        ones.
        """
        chosen = functional.one_hot(entries[kept], len(self.vectors)).to(x.dtype)
        self.counts.mul_(self.decay).add_(summed(chosen.sum(0)), alpha=1 - self.decay)
        self.sums.mul_(self.decay).add_(summed(chosen.T @ x[kept]), alpha=1 - self.decay)
        dead = self.counts < REPLACED_BELOW
        if dead.any():
            inputs = gathered(x)[gathered(kept)]
            # By numbers of the CPU, which all processes and a run that goes on draw alike.
            picks = inputs[torch.randint(len(inputs), (int(dead.sum()),)).to(x.device)]
            self.sums[dead], self.counts[dead] = picks, 1.0
        self.vectors.copy_(self.sums / self.counts[:, None])


class Vqvae(nn.Module):
    """Encoder, codebook and decoder on normalized features."""

    def __init__(self, shape: VqvaeShape) -> None:
        super().__init__()
        self.shape = shape
        self.encoder, self.decoder = Encoder(shape), Decoder(shape)
        self.levels = nn.ModuleList(Level(shape) for _ in range(shape.num_levels))

    @torch.no_grad()
    def start(self, features: Tensor, kept: Tensor, weights: Tensor, per_step: float) -> None:
        """Begin where no training is needed to be: with principal components and k-means.

        Args:
            features: Normalized windows, [B, F, D].
            kept: Which codes of a window are of frames that exist, [B, T].
            weights: How much each feature counts, [D].
            per_step: Codes that a training step will see.
        """
        patches = _patches(features)[kept].double()
        scale = weights.double().sqrt().repeat(FRAMES_PER_CODE)
        mean = patches.mean(0)
        centred = (patches - mean) * scale
        _, axes = torch.linalg.eigh(centred.T @ centred / len(centred))
        axes = axes[:, -self.shape.code_width :].flip(1)
        # The strongest components come out with a deviation of about 1, which keeps the learning rate's meaning.
        unit = (centred @ axes[:, :8]).square().mean().sqrt()
        self.encoder.linear.weight.copy_(((axes * scale[:, None]).T / unit).float())
        self.encoder.linear.bias.copy_((-(mean * scale) @ axes / unit).float())
        left = self.encoder(features)[kept]
        for level in self._levels():
            level.start(left, per_step)
            left = left - level.vectors[level.nearest(left)]

    def quantize(self, x: Tensor) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Vectors [..., C] -> their sums of entries' vectors, and for each level its input and the entries chosen."""
        total, inputs, chosen = torch.zeros_like(x), [], []
        for level in self._levels():
            inputs.append(x - total)
            chosen.append(level.nearest(inputs[-1]))
            total = total + level.vectors[chosen[-1]]
        return total, inputs, chosen

    def commitment(self, x: Tensor, kept: Tensor, inputs: list[Tensor], chosen: list[Tensor]) -> Tensor:
        """Squared distance of each level's input from its entry, a sum over levels, with its gradient to `x`.

        A mean over the codes of all processes once it is averaged over these.
        """
        total, num = x.new_zeros(()), kept.sum()
        for level, its_input, entries in zip(self._levels(), inputs, chosen, strict=True):
            moved = its_input + (x - x.detach())
            total = total + functional.mse_loss(moved[kept], level.vectors[entries][kept])
        return total * (num / averaged(num))

    def follow(self, kept: Tensor, inputs: list[Tensor], chosen: list[Tensor]) -> None:
        """Move the codebook after a training step."""
        for level, its_input, entries in zip(self._levels(), inputs, chosen, strict=True):
            level.update(its_input, kept, entries)

    def vectors(self, codes: Tensor) -> Tensor:
        """What codes stand for, [...] -> [..., C]."""
        size, levels = self.shape.level_size, self._levels()
        numbers = torch.arange(len(levels), device=codes.device)
        # One table of all levels, because a stream waits for each node of the graph.
        entries = codes[..., None] // size**numbers % size + size * numbers
        of_levels = functional.embedding(entries, torch.cat([level.vectors for level in levels]))
        # A product, since ONNX Runtime adds up a sum of more than two in another order for one stream than for many.
        return (of_levels.new_ones(1, len(levels)) @ of_levels).squeeze(-2)

    def candidates(self, x: Tensor, count: int, branches: int) -> tuple[Tensor, Tensor]:
        """Codes near to vectors, the nearest first: each level tries `branches` entries after each of `count` begun.

        Args:
            x: [N, C]
            count: Codes for each vector, K.
            branches: Entries that a level tries.

        Returns:
            Codes [N, K] and what they stand for [N, K, C]; fewer than K where the codebook has fewer.
        """
        codes = torch.zeros(len(x), 1, dtype=torch.long, device=x.device)
        sums = torch.zeros_like(x)[:, None]
        for k, level in enumerate(self._levels()):
            left = x[:, None] - sums
            distances = level.vectors.square().sum(-1) - 2 * left @ level.vectors.T
            entries = distances.topk(min(branches, distances.shape[-1]), largest=False).indices
            codes = (codes[..., None] + entries * self.shape.level_size**k).flatten(1)
            sums = (sums[:, :, None] + level.vectors[entries]).flatten(1, 2)
            distances = (x[:, None] - sums).square().sum(-1)
            kept = distances.topk(min(count, codes.shape[1]), largest=False).indices
            codes, sums = codes.gather(1, kept), sums.gather(1, kept[..., None].expand(-1, -1, sums.shape[-1]))
        return codes, sums

    def decode(self, codes: Tensor, states: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Codes [B, T] and the decoder's states before them -> normalized features [B, 4 T, D] and its states."""
        return self.decoder(self.vectors(codes), states)

    def zero_states(self, batch: int) -> list[Tensor]:
        """The decoder's states before the first code."""
        return [self.encoder.linear.weight.new_zeros(batch, *shape) for shape in self.decoder.state_shapes]

    def _levels(self) -> list[Level]:
        return [level for level in self.levels if isinstance(level, Level)]


def _patches(features: Tensor) -> Tensor:
    """The frames of each code side by side, [B, F, D] -> [B, F / 4, 4 D]."""
    return features.unflatten(1, (-1, FRAMES_PER_CODE)).flatten(2)
