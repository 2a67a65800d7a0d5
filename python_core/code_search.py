"""Codes of a clip, chosen by what the decoder makes of them.

The encoder knows which codes are near; which of them is best depends on what was decoded before. A code that goes a
little too far can be followed by one that goes a little less far, so the drift of the root stays small in a clip of any
length, and feet stay where they stand. A beam search decodes the nearest codes after each of the best beginnings.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from python_core.contract.skeleton import BODY_22
from python_core.features import Normalizer, RootState, origin
from python_core.reconstruction import Reconstruction
from python_core.vqvae import FRAMES_PER_CODE, Vqvae

ROOT, STEP, FOOT_STEP = 0.25, 2.0, 8.0
"""Weights of distances in metres: of the root, of the joints' steps, and of the steps of standing feet. That of the
joints, seen from the root, has weight 1.
"""


class CodeSearch:
    """Encodes clips for one tokenizer."""

    def __init__(
        self, model: Vqvae, normalizer: Normalizer, beginnings: int = 2, candidates: int = 32, branches: int = 8
    ) -> None:
        """
        Args:
            model: The tokenizer's model.
            normalizer: Statistics of its features.
            beginnings: Series of codes that are kept while a clip is encoded.
            candidates: Codes that are tried after each of them.
            branches: Entries that a level tries after each of the candidates of the levels before it.
        """
        self.model, self.normalizer = model, normalizer
        self.beginnings, self.candidates, self.branches = beginnings, candidates, branches
        self.device = model.encoder.linear.weight.device
        self.reconstruction = Reconstruction(normalizer, self.device)

    @torch.no_grad()
    def encode(self, clips: Sequence[NDArray[np.float32]]) -> list[list[int]]:
        """Codes of clips' features, each [F, D]; frames at the end that fill no code are left out.

        The clips are encoded side by side, which a GPU likes; each gets the codes that it gets alone, but for rounding.
        """
        lengths = [len(rows) // FRAMES_PER_CODE for rows in clips]
        targets = pad_sequence([self._normalized(rows, length) for rows, length in zip(clips, lengths, strict=True)])
        targets = targets.transpose(0, 1)
        near, vectors = self._candidates(targets, lengths)
        wanted = self.reconstruction.joints(targets)[0]
        standing = self.reconstruction.standing(targets)
        num_clips, num_codes, num_near = near.shape
        ends = torch.tensor(lengths, device=self.device)

        # What is known of each beginning, those of a clip in a row: its codes, its cost, and where it has led.
        codes, cost = near.new_zeros(num_clips, 0), wanted.new_zeros(num_clips)
        conv_states = self.model.zero_states(num_clips)
        root, last_error = origin(num_clips, wanted), wanted.new_zeros(num_clips, BODY_22.num_joints, 3)
        for number in range(num_codes):
            frames = slice(number * FRAMES_PER_CODE, (number + 1) * FRAMES_PER_CODE)
            width = len(cost) // num_clips
            beginning = torch.arange(len(cost), device=self.device).repeat_interleave(num_near)
            clip = beginning // width
            tried = near[:, None, number].expand(-1, width, -1).flatten()
            decoded, next_states = self.model.decoder(
                vectors[:, None, number].expand(-1, width, -1, -1).flatten(0, 2)[:, None],
                [state[beginning] for state in conv_states],
            )
            joints, roots = self.reconstruction.joints(
                decoded, RootState(root.position[beginning], root.yaw[beginning])
            )
            error = joints - wanted[clip, frames]
            # After its end a clip costs nothing more, so the best beginning stays the first.
            added = _cost(error, last_error[beginning], standing[clip, frames]) * (number < ends)[clip]
            costs = cost[beginning] + added
            of_clip = costs.unflatten(0, (num_clips, -1))
            cost, best = of_clip.topk(min(self.beginnings, of_clip.shape[1]), largest=False)
            cost = cost.flatten()
            best = (best + torch.arange(num_clips, device=self.device)[:, None] * of_clip.shape[1]).flatten()
            codes = torch.cat([codes[beginning[best]], tried[best, None]], dim=1)
            conv_states = [state[best] for state in next_states]
            root = RootState(roots.position[best], roots.yaw[best])
            last_error = error[best, -1]
        first = codes.unflatten(0, (num_clips, -1))[:, 0]
        return [found[:length].tolist() for found, length in zip(first, lengths, strict=True)]

    def _normalized(self, rows: NDArray[np.float32], num_codes: int) -> Tensor:
        whole = self.normalizer.normalize(rows[: num_codes * FRAMES_PER_CODE])
        return torch.from_numpy(whole).to(self.device)

    def _candidates(self, targets: Tensor, lengths: list[int]) -> tuple[Tensor, Tensor]:
        """Codes near to what the encoder sees, [N, T, K], and what they stand for, [N, T, K, C]."""
        # One clip at a time, because the encoder would see what pads it.
        encoded = [
            self.model.encoder(target[None, : length * FRAMES_PER_CODE])[0]
            for target, length in zip(targets, lengths, strict=True)
        ]
        found = [self.model.candidates(x, self.candidates, self.branches) for x in encoded]
        near, vectors = (pad_sequence([parts[part] for parts in found]).transpose(0, 1) for part in (0, 1))
        return near, vectors


def _cost(error: Tensor, last_error: Tensor, standing: Tensor) -> Tensor:
    """What a code's frames cost, [H, F, J, 3] and the error of the frame before them [H, J, 3] -> [H]."""
    of_root = error[:, :, :1]
    steps = torch.cat([last_error[:, None], error], dim=1).diff(dim=1)
    foot_steps = _length(steps[:, :, BODY_22.foot_joints]) * standing
    return (
        _length(error - of_root).mean((1, 2))
        + ROOT * _length(of_root).mean((1, 2))
        + STEP * _length(steps).mean((1, 2))
        + FOOT_STEP * foot_steps.mean((1, 2))
    )


def _length(vectors: Tensor) -> Tensor:
    return vectors.square().sum(-1).sqrt()
