"""Codes and state -> root positions, joint rotations, contacts and state: all that leaves Python, as one module."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from python_core.contract.motion import CONTACT_THRESHOLD, Motion
from python_core.contract.skeleton import BODY_22
from python_core.features import Normalizer, RootState, feature_slices, features_to_body
from python_core.steady_twist import MEMORY_FRAMES, MotionSolver
from python_core.vqvae import FRAMES_PER_CODE, Vqvae


class MotionDecoder(nn.Module):
    """The tokenizer's decoder, the statistics and the pose solver behind one another; the graph that export writes."""

    mean: Tensor
    std: Tensor

    def __init__(self, vqvae: Vqvae, normalizer: Normalizer) -> None:
        super().__init__()
        self.vqvae, self.solver = vqvae, MotionSolver().float()
        self.register_buffer("mean", torch.from_numpy(normalizer.mean))
        self.register_buffer("std", torch.from_numpy(normalizer.std))

    def forward(self, codes: Tensor, conv_state: Tensor, root_state: Tensor, past_joints: Tensor) -> tuple[Tensor, ...]:
        """Decode codes.

        Args:
            codes: [B, T]
            conv_state: Memory of the convolutions, zeros before the first code, [B, S].
            root_state: x, z and yaw at which the next frame begins, [B, 3].
            past_joints: The joints of the last frames with the root above the origin, metres; zeros before the first
                code, [B, P, J, 3].

        Returns:
            Root positions [B, F, 3], rotations [B, F, J, 4], contacts [B, F, 4] (on the ground above 0.5), and the
            three states after the last frame.
        """
        normalized, conv_state = self.vqvae.decode(codes, conv_state)
        features = normalized * self.std + self.mean
        body, places, state = features_to_body(features, RootState(root_state[:, :2], root_state[:, 2]))
        root_positions, rotations, past_joints = self.solver(body, past_joints)
        contacts = features[..., feature_slices(BODY_22)["foot_contacts"]]
        root_state = torch.cat([state.position, state.yaw[:, None]], dim=1)
        return root_positions + places, rotations, contacts, conv_state, root_state, past_joints

    def zero_states(self, batch: int) -> tuple[Tensor, Tensor, Tensor]:
        """The three states before the first code."""
        past_joints = self.mean.new_zeros(batch, MEMORY_FRAMES, BODY_22.num_joints, 3)
        return self.vqvae.zero_state(batch), self.mean.new_zeros(batch, 3), past_joints

    @torch.no_grad()
    def motions(self, series: Sequence[Sequence[int]], frame_rate_hz: float) -> list[Motion]:
        """Decode whole clips, each from its codes; they begin at x = z = 0 and face +Z.

        The decoder is causal, so they are decoded side by side, and what fills up the shorter ones changes nothing.
        """
        if not series:
            return []
        codes = pad_sequence([torch.tensor(codes) for codes in series], batch_first=True).to(self.mean.device)
        root, rotations, contacts = (part.cpu().numpy() for part in self(codes, *self.zero_states(len(codes)))[:3])
        found = []
        for row, of_clip in enumerate(series):
            frames = slice(len(of_clip) * FRAMES_PER_CODE)
            on_ground = contacts[row, frames] > CONTACT_THRESHOLD
            found.append(Motion(root[row, frames], rotations[row, frames], on_ground, frame_rate_hz))
        return found
