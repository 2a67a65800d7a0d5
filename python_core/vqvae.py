"""The motion tokenizer: features -> codes -> features, 4 frames to a code.

Notable choices:
- the encoder is the usual one, with a view to both sides; the decoder is causal, so a code becomes 4 final frames the
  moment it is known;
- the decoder's memory is explicit: `decode` takes and returns the last inputs of its convolutions, so streaming and
  whole clips are one computation;
- the codebook is an exponential moving average, and codes that nobody uses are put where encoder outputs are.

Source: van den Oord et al. 2017, Neural Discrete Representation Learning; Zhang et al. 2023, T2M-GPT, for the layers.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

FRAMES_PER_CODE = 4
REPLACED_BELOW = 0.3
"""A code that is chosen less often than this a step, in the running average, is put somewhere else."""
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

    num_codes: int = 512
    """Size of the codebook."""

    dilations: tuple[int, ...] = (9, 3, 1)
    """Dilation of the convolutions of each stack of residual blocks, in order."""


class CausalConv(nn.Module):
    """A convolution that sees the present and the past; the past is handed in and out, [B, C, kernel-dependent]."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int = 3, dilation: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv1d(channels_in, channels_out, kernel, dilation=dilation)
        self.channels_in, self.num_past = channels_in, (kernel - 1) * dilation

    def forward(self, x: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs [B, C, N] and the `num_past` inputs before them -> outputs [B, C', N] and the new past."""
        seen = torch.cat([past, x], dim=-1)
        return self.conv(seen), seen[..., seen.shape[-1] - self.num_past :]


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
        self.pointwise = nn.Conv1d(width, width, 1)

    def forward(self, x: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        y, past = self.dilated(functional.relu(x), past)
        return x + self.pointwise(functional.relu(y)), past


class Encoder(nn.Module):
    """Features [B, F, D] -> vectors [B, F / 4, C]."""

    def __init__(self, shape: VqvaeShape) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv1d(shape.num_features, shape.width, 3, padding=1), nn.ReLU()]
        for _ in range(UPSAMPLINGS):
            layers.append(nn.Conv1d(shape.width, shape.width, 4, stride=2, padding=1))
            layers.extend(ResidualBlock(shape.width, dilation) for dilation in shape.dilations)
        layers.append(nn.Conv1d(shape.width, shape.code_width, 3, padding=1))
        self.layers = nn.Sequential(*layers)

    def forward(self, features: Tensor) -> Tensor:
        return self.layers(features.mT).mT


class Decoder(nn.Module):
    """Vectors [B, T, C] and state [B, S] -> features [B, 4 T, D] and state. A state of zeros starts a motion."""

    def __init__(self, shape: VqvaeShape) -> None:
        super().__init__()
        self.first = CausalConv(shape.code_width, shape.width)
        self.blocks = nn.ModuleList(
            nn.ModuleList(CausalResidualBlock(shape.width, dilation) for dilation in shape.dilations)
            for _ in range(UPSAMPLINGS)
        )
        self.ups = nn.ModuleList(CausalConv(shape.width, shape.width) for _ in range(UPSAMPLINGS))
        self.mix = CausalConv(shape.width, shape.width)
        self.last = CausalConv(shape.width, shape.num_features)

    @property
    def state_size(self) -> int:
        """Numbers in the state of one stream."""
        return sum(conv.channels_in * conv.num_past for conv in self._convolutions())

    def forward(self, vectors: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        convolutions = self._convolutions()
        sizes = [conv.channels_in * conv.num_past for conv in convolutions]
        pasts = [
            part.reshape(state.shape[0], conv.channels_in, conv.num_past)
            for part, conv in zip(state.split(sizes, dim=1), convolutions, strict=True)
        ]
        queue = iter(pasts)
        kept: list[Tensor] = []

        def run(layer: nn.Module, x: Tensor) -> Tensor:
            y, past = layer(x, next(queue))
            kept.append(past.flatten(1))
            return y

        x = functional.relu(run(self.first, vectors.mT))
        for blocks, up in zip(self.blocks, self.ups, strict=True):
            assert isinstance(blocks, nn.ModuleList)
            for block in blocks:
                x = run(block, x)
            x = run(up, x[..., None].expand(-1, -1, -1, 2).flatten(-2))
        x = functional.relu(run(self.mix, x))
        return run(self.last, x).mT, torch.cat(kept, dim=1)

    def _convolutions(self) -> list[CausalConv]:
        """In the order in which they run, which is the order of the state."""
        found = [self.first]
        for blocks, up in zip(self.blocks, self.ups, strict=True):
            assert isinstance(blocks, nn.ModuleList)
            found.extend(block.dilated for block in blocks)  # type: ignore[union-attr]  # ModuleList has no item type
            assert isinstance(up, CausalConv)
            found.append(up)
        return [*found, self.mix, self.last]


class Codebook(nn.Module):
    """Vectors for codes, moved by an exponential moving average of the encoder outputs that chose them."""

    vectors: Tensor
    counts: Tensor
    sums: Tensor
    decay: float = 0.99

    def __init__(self, shape: VqvaeShape) -> None:
        super().__init__()
        self.register_buffer("vectors", torch.zeros(shape.num_codes, shape.code_width))
        self.register_buffer("sums", torch.zeros(shape.num_codes, shape.code_width))
        self.register_buffer("counts", torch.zeros(shape.num_codes))

    def nearest(self, x: Tensor) -> Tensor:
        """Codes of vectors, [..., C] -> [...]."""
        distances = self.vectors.square().sum(-1) - 2 * x @ self.vectors.T
        return distances.argmin(dim=-1)

    @torch.no_grad()
    def start(self, x: Tensor) -> None:
        """Take the first vectors from encoder outputs, [N, C], with a little noise where they do not suffice."""
        repeats = -(-len(self.vectors) // len(x))
        tiled = x.repeat(repeats, 1)[torch.randperm(repeats * len(x), device=x.device)[: len(self.vectors)]]
        self.vectors.copy_(tiled + 0.01 / x.shape[-1] ** 0.5 * torch.randn_like(tiled))
        self.sums.copy_(self.vectors)
        self.counts.fill_(1)

    @torch.no_grad()
    def update(self, x: Tensor, codes: Tensor) -> None:
        """Move towards the encoder outputs [N, C] that chose each code [N]; put unused codes on random ones."""
        chosen = functional.one_hot(codes, len(self.vectors)).to(x.dtype)
        self.counts.mul_(self.decay).add_(chosen.sum(0), alpha=1 - self.decay)
        self.sums.mul_(self.decay).add_(chosen.T @ x, alpha=1 - self.decay)
        dead = self.counts < REPLACED_BELOW
        if dead.any():
            picks = x[torch.randint(len(x), (int(dead.sum()),), device=x.device)]
            self.sums[dead], self.counts[dead] = picks, 1.0
        self.vectors.copy_(self.sums / self.counts[:, None])


class Vqvae(nn.Module):
    """Encoder, codebook and decoder on normalized features."""

    def __init__(self, shape: VqvaeShape) -> None:
        super().__init__()
        self.shape = shape
        self.encoder, self.codebook, self.decoder = Encoder(shape), Codebook(shape), Decoder(shape)

    def encode(self, features: Tensor) -> Tensor:
        """Codes of normalized features, [B, F, D] -> [B, F // 4]; frames that fill no code are dropped."""
        return self.codebook.nearest(
            self.encoder(features[:, : features.shape[1] // FRAMES_PER_CODE * FRAMES_PER_CODE])
        )

    def decode(self, codes: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Codes [B, T] and the state before them -> normalized features [B, 4 T, D] and the state after them."""
        return self.decoder(self.codebook.vectors[codes], state)

    def zero_state(self, batch: int) -> Tensor:
        """The state before the first code, [B, S]."""
        return self.codebook.vectors.new_zeros(batch, self.decoder.state_size)
