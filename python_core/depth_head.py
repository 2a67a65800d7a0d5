"""Speaks the levels of a code after its first, from one state of a language model.

A model that takes a step for every level of every code is as many times slower, and six times as far from what it said
a second ago. The levels of one code hardly need its attention: each corrects what the ones before it left over, so what
was spoken of a code so far is the sum of its entries. A few layers on that sum and on the model's state say the next.

Source: Lee et al. 2022, Autoregressive Image Generation using Residual Quantization, whose depth transformer looks back
at each level; a sum takes its place here.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from python_core.contract.vocabulary import CodebookSize

ENTRY_DEVIATION = 0.2
"""Of the vectors of entries before training, beside a state that is about 1."""
HEAD_DEVIATION = 0.02


@dataclass(frozen=True, kw_only=True)
class DepthHeadShape:
    """Size of a depth head.

    Raises:
        ValueError: One of them is below 1.
    """

    width: int = 256
    """Width of its residual stream."""

    layers: int = 2
    """Number of layers."""

    feed_forward: int = 512
    """Width inside a layer."""

    def __post_init__(self) -> None:
        for name, size in vars(self).items():
            if size < 1:
                raise ValueError(f"depth.{name} must be at least 1, got {size}")


class DepthHead(nn.Module):
    """States of a language model and entries of the first levels -> logits of the next level's entries.

    Args:
        state_width: Of the language model.
        codebook: Whose codes are spoken; of two levels or more.
        shape: Of the head.
    """

    def __init__(self, state_width: int, codebook: CodebookSize, shape: DepthHeadShape) -> None:
        super().__init__()
        self.codebook = codebook
        spoken = codebook.num_levels - 1
        self.state = nn.Linear(state_width, shape.width, bias=False)
        self.entries = nn.Embedding(spoken * codebook.level_size, shape.width)
        self.levels = nn.Parameter(torch.zeros(spoken, shape.width))
        self.layers = nn.ModuleList(DepthLayer(shape) for _ in range(shape.layers))
        self.norm = nn.RMSNorm(shape.width, eps=1e-6)
        self.heads = nn.Parameter(torch.empty(spoken, codebook.level_size, shape.width))
        nn.init.normal_(self.entries.weight, std=ENTRY_DEVIATION)
        nn.init.normal_(self.heads, std=HEAD_DEVIATION)

    def forward(self, states: Tensor, entries: Tensor, last: bool = False) -> Tensor:
        """Logits of the levels after the given ones.

        Args:
            states: The language model's, from which the first level was spoken, [N, state width].
            entries: Of the first J levels, counted from 0 in each, [N, J].
            last: Only those of the level after all that are given.

        Returns:
            Of level 1 to J, each from the entries before it, [N, J, level size]; with `last`, [N, 1, level size].
        """
        num = entries.shape[1]
        of_table = entries + torch.arange(num, device=entries.device) * self.codebook.level_size
        first = num - 1 if last else 0
        so_far = self.entries(of_table).cumsum(dim=1)[:, first:]
        hidden = self.state(states)[:, None] + so_far + self.levels[first:num]
        for layer in self.layers:
            hidden = hidden + layer(hidden)
        return torch.einsum("njd,jed->nje", self.norm(hidden), self.heads[first:num])


class DepthLayer(nn.Module):
    """Norm and a gated feed-forward layer, [..., width] -> [..., width]."""

    def __init__(self, shape: DepthHeadShape) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(shape.width, eps=1e-6)
        self.gate = nn.Linear(shape.width, shape.feed_forward, bias=False)
        self.up = nn.Linear(shape.width, shape.feed_forward, bias=False)
        self.down = nn.Linear(shape.feed_forward, shape.width, bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        normal = self.norm(hidden)
        return self.down(nn.functional.silu(self.gate(normal)) * self.up(normal))
