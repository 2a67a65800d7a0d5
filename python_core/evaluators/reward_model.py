"""`reward`: the evaluator that gives rewards, of another kind than the one that measures.

States of a frozen text encoder under a small transformer against a transformer over motion, trained to tell the true
caption from the others, among them the same one with sides exchanged or actions in another order. Embeddings have
length 1: their product is their cosine.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from python_core.contract.skeleton import BODY_22
from python_core.evaluators.evaluator import EMBEDDING_BATCH, ROWS_PER_MOVEMENT, check_clip
from python_core.evaluators.token_states import TokenStates
from python_core.features import Normalizer, num_features

LOWEST_TEMPERATURE = 0.02


@dataclass(frozen=True, kw_only=True)
class RewardShape:
    """Sizes of the two transformers."""

    width: int = 384
    num_heads: int = 6
    text_layers: int = 2
    motion_layers: int = 6
    embedding_width: int = 256
    dropout: float = 0.1


class Pooled(nn.Module):
    """A transformer that makes one embedding of a sequence.

    Args:
        num_layers: Layers.
        shape: Everything else, and how wide its states are.
    """

    def __init__(self, num_layers: int, shape: RewardShape) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(
            shape.width,
            shape.num_heads,
            2 * shape.width,
            shape.dropout,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )
        self.first = nn.Parameter(0.02 * torch.randn(shape.width))
        self.layers = nn.TransformerEncoder(layer, num_layers, nn.LayerNorm(shape.width), enable_nested_tensor=False)
        self.output = nn.Linear(2 * shape.width, shape.embedding_width)

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """States [B, L, C] and which of them count [B, L] -> embeddings of length 1, [B, E]."""
        states = states + _positions(states.shape[1], states.shape[2]).to(states)
        first = self.first.to(states).expand(len(states), 1, -1)
        kept = torch.cat([mask.new_ones(len(mask), 1), mask], dim=1)
        found = self.layers(torch.cat([first, states], dim=1), src_key_padding_mask=~kept)
        weights = mask[..., None].to(found)
        mean = (found[:, 1:] * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)
        return nn.functional.normalize(self.output(torch.cat([found[:, 0], mean], dim=-1)).float(), dim=-1)


class RewardModel(nn.Module):
    """The evaluator. An `Evaluator` once it is in evaluation mode.

    Args:
        shape: Sizes.
        token_states: The text encoder, which is no part of the weights.
        normalizer: Statistics of the features.
    """

    def __init__(self, shape: RewardShape, token_states: TokenStates, normalizer: Normalizer) -> None:
        super().__init__()
        self.shape, self.token_states, self.normalizer = shape, token_states, normalizer
        self.text_input = nn.Sequential(nn.Linear(token_states.width, shape.width), nn.LayerNorm(shape.width))
        self.text = Pooled(shape.text_layers, shape)
        self.motion_input = nn.Conv1d(num_features(BODY_22), shape.width, ROWS_PER_MOVEMENT, ROWS_PER_MOVEMENT)
        self.motion = Pooled(shape.motion_layers, shape)
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    @property
    def device(self) -> torch.device:
        return self.log_scale.device

    @property
    def scale(self) -> Tensor:
        """What cosines are multiplied by before a softmax: one over the temperature."""
        return self.log_scale.clamp(max=math.log(1 / LOWEST_TEMPERATURE)).exp()

    def motions(self, clips: Sequence[NDArray[np.float32]]) -> Tensor:
        """Embeddings with gradients, [N, E]; see `embed_motions`."""
        lengths = [len(check_clip(clip)) // ROWS_PER_MOVEMENT for clip in clips]
        features = torch.zeros(len(clips), max(lengths) * ROWS_PER_MOVEMENT, num_features(BODY_22))
        mask = torch.zeros(len(clips), max(lengths), dtype=torch.bool)
        for row, (clip, length) in enumerate(zip(clips, lengths, strict=True)):
            rows = length * ROWS_PER_MOVEMENT
            features[row, :rows] = torch.from_numpy(self.normalizer.normalize(clip[:rows]))
            mask[row, :length] = True
        states = self.motion_input(features.to(self.device).transpose(1, 2)).transpose(1, 2)
        return self.motion(states, mask.to(self.device))

    def texts(self, captions: Sequence[str]) -> Tensor:
        """Embeddings with gradients, [N, E]; see `embed_texts`."""
        states, mask = self.token_states.states(captions, self.device)
        return self.text(self.text_input(states), mask)

    @torch.no_grad()
    def embed_texts(self, captions: Sequence[str]) -> NDArray[np.float32]:
        """Embeddings of captions, of length 1, [N, E]."""
        found = [self.texts(captions[k : k + EMBEDDING_BATCH]) for k in range(0, len(captions), EMBEDDING_BATCH)]
        return self._joined(found)

    @torch.no_grad()
    def embed_motions(self, clips: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Embeddings of clips of exact features that are not normalized, [F, D] each -> of length 1, [N, E].

        Rows after the last multiple of 4 are not seen.

        Raises:
            ValueError: A clip is shorter than 4 rows, of another width, or not finite.
        """
        found = [self.motions(clips[k : k + EMBEDDING_BATCH]) for k in range(0, len(clips), EMBEDDING_BATCH)]
        return self._joined(found)

    def _joined(self, parts: Sequence[Tensor]) -> NDArray[np.float32]:
        if not parts:
            return np.empty((0, self.shape.embedding_width), np.float32)
        return torch.cat(list(parts)).float().cpu().numpy()


def _positions(num: int, width: int) -> Tensor:
    """Sines and cosines of places, [L, C]."""
    places = torch.arange(num)[:, None]
    rates = torch.exp(torch.arange(0, width, 2) * (-math.log(10_000.0) / width))
    return torch.stack([(places * rates).sin(), (places * rates).cos()], dim=-1).flatten(1)[:, :width]
