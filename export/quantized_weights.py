"""Weights in 8 or 4 bits, in blocks of consecutive inputs that share a scale.

A weight is its integer times the scale of its block; integers are signed and stored with an offset, scales may be
negative, so that the largest weight of a block meets the end of the range that reaches further. What is chosen is what
changes a layer's outputs least for the inputs that it really gets, which `quantization.py` has seen.

Sources: Frantar et al. 2022, GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers (the
compensation of errors); the search of scales is that of llama.cpp's quants, written anew.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

DAMPING = 0.01
"""Share of the mean square input that is added to each, so that rare inputs do not make errors of others explode."""
_SHRINKS = torch.linspace(-0.9, 0.9, 19)


BLOCK_SIZES = {8: (64, 32, 16), 4: (32, 16)}
"""Bits -> blocks that give a row the same bits among any number of rows. ONNX Runtime multiplies two rows at a time,
and in larger blocks, on processors with VNNI, the last of an odd number is summed in another order.
"""


@dataclass(frozen=True, kw_only=True)
class Scheme:
    """How weights are written."""

    bits: int
    """8, 7 or 4."""
    block_size: int | None
    """Consecutive inputs that share a scale: a power of two from 16; None is all of them."""
    compensated: bool
    """Whether the error of an input is made up for by the inputs after it."""

    @property
    def offset(self) -> int:
        """What is added to an integer where it is stored."""
        return 1 << (self.bits - 1)

    def __str__(self) -> str:
        way = "compensated" if self.compensated else "searched"
        shared = "a scale for each output" if self.block_size is None else f"blocks of {self.block_size}"
        return f"{self.bits} bits, {shared}, {way}"


@dataclass(frozen=True, eq=False)
class Quantized:
    """A matrix in blocks."""

    integers: Tensor
    """Signed, [N, blocks, block size]."""
    scales: Tensor
    """[N, blocks]"""

    def packed(self, bits: int) -> NDArray[np.uint8]:
        """As the runtime reads it, [N, blocks, block size * bits / 8]; of two in a byte the first is the lower one."""
        stored = (self.integers + (1 << (bits - 1))).to(torch.uint8)
        if bits == 4:
            stored = stored[..., 0::2] | (stored[..., 1::2] << 4)
        return stored.numpy()

    def values(self, num_inputs: int) -> Tensor:
        """The weights that are computed with, [N, K]."""
        return (self.integers * self.scales[..., None]).flatten(1)[:, :num_inputs]


def quantize(weights: Tensor, gram: Tensor | None, scheme: Scheme) -> Quantized:
    """Choose integers and scales of a matrix.

    Args:
        weights: [N, K]
        gram: Sum over calibration tokens of the products of inputs, [K, K]; without it all inputs count alike, and
            nothing is compensated.
        scheme: How weights are written.
    """
    num_rows, num_inputs = weights.shape
    size = scheme.block_size or num_inputs
    padded = -(-num_inputs // size) * size
    weights = torch.nn.functional.pad(weights.float(), (0, padded - num_inputs))
    importance = torch.ones(padded)
    if gram is not None:
        diagonal = gram.diagonal().float()
        importance[:num_inputs] = diagonal + DAMPING * diagonal.mean() + 1e-12
    if gram is None or not scheme.compensated:
        blocks = weights.view(num_rows, -1, size)
        scales = search_scales(blocks, importance.view(-1, size), scheme.offset)
        return Quantized(_round(blocks, scales[..., None], scheme.offset), scales)
    return _compensate(weights, gram, importance, scheme)


def search_scales(blocks: Tensor, importance: Tensor, offset: int) -> Tensor:
    """The scale of each block that changes its weighted squares least, [N, blocks, size] -> [N, blocks].

    Args:
        blocks: Weights.
        importance: Mean square of each input, [blocks, size].
        offset: Integers reach from -offset to offset - 1.
    """
    extreme = blocks.gather(-1, blocks.abs().argmax(-1, keepdim=True))
    # A block of zeros has any scale; 1 keeps it finite.
    extreme = torch.where(extreme == 0, float(offset), extreme)
    best = -extreme[..., 0] / offset
    lowest = _weighted_error(blocks, best, importance, offset)
    # In 8 bits rounding hardly depends on the scale, so a few shrinks do.
    for shrink in _SHRINKS if offset < 128 else _SHRINKS[::6]:
        integers = _round(blocks, -extreme / (offset + shrink), offset)
        weighted = importance * integers
        # The scale that fits these integers best.
        scale = (weighted * blocks).sum(-1) / (weighted * integers).sum(-1).clamp_min(1e-20)
        error = _weighted_error(blocks, scale, importance, offset)
        better = (error < lowest) & (scale != 0)
        best, lowest = torch.where(better, scale, best), torch.where(better, error, lowest)
    return best


def _weighted_error(blocks: Tensor, scales: Tensor, importance: Tensor, offset: int) -> Tensor:
    scales = scales[..., None]
    return (importance * (_round(blocks, scales, offset) * scales - blocks) ** 2).sum(-1)


def _round(weights: Tensor, scales: Tensor, offset: int) -> Tensor:
    return torch.nan_to_num(weights / scales).round().clamp(-offset, offset - 1)


def _compensate(weights: Tensor, gram: Tensor, importance: Tensor, scheme: Scheme) -> Quantized:
    """GPTQ: input by input, what rounding does to the outputs is taken back by the inputs that are still to come."""
    num_rows, padded = weights.shape
    num_inputs = len(gram)
    size = scheme.block_size or num_inputs
    hessian = torch.eye(padded, dtype=torch.float64)
    hessian[:num_inputs, :num_inputs] = gram.double()
    hessian.diagonal().copy_(importance.double())
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(hessian))
    upper = torch.linalg.cholesky(inverse, upper=True).float()
    weights = weights.clone()
    integers = torch.empty(num_rows, padded // size, size)
    scales = torch.empty(num_rows, padded // size)
    for number, first in enumerate(range(0, padded, size)):
        block, rows = weights[:, first : first + size], upper[first : first + size]
        scale = search_scales(block[:, None], importance[None, first : first + size], scheme.offset)
        errors = torch.empty(num_rows, size)
        for place in range(size):
            rounded = _round(block[:, place : place + 1], scale, scheme.offset)
            integers[:, number, place] = rounded[:, 0]
            errors[:, place] = (block[:, place] - (rounded * scale)[:, 0]) / rows[place, first + place]
            block[:, place:] -= errors[:, place : place + 1] * rows[place, first + place : first + size]
        scales[:, number] = scale[:, 0]
        weights[:, first + size :] -= errors @ rows[:, first + size :]
    return Quantized(integers, scales)
