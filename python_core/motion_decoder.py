"""Codes and state -> root positions, joint rotations, contacts and state: all that leaves Python, as one module."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from python_core.contract.motion import CONTACT_THRESHOLD, Motion
from python_core.contract.skeleton import BODY_22
from python_core.features import Normalizer, RootState, feature_slices, features_to_body
from python_core.steady_twist import MotionSolver, TwistMemory
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

    def forward(
        self,
        codes: Tensor,
        root_state: Tensor,
        last_bones: Tensor,
        last_limbs: Tensor,
        past_turns: Tensor,
        *conv_states: Tensor,
    ) -> tuple[Tensor, ...]:
        """Decode codes. States are zeros before the first.

        Args:
            codes: [B, T]
            root_state: x, z and yaw at which the next frame begins, [B, 3].
            last_bones, last_limbs, past_turns: What the solver's `TwistMemory` holds.
            conv_states: Of the tokenizer's decoder.

        Returns:
            Root positions [B, F, 3], rotations [B, F, J, 4], contacts [B, F, 4] (on the ground above 0.5), and the
            states after the last frame, in the same order.
        """
        normalized, next_conv_states = self.vqvae.decode(codes, conv_states)
        features = normalized * self.std + self.mean
        body, places, state = features_to_body(features, RootState(root_state[:, :2], root_state[:, 2]))
        root_positions, rotations, memory = self.solver(body, TwistMemory(last_bones, last_limbs, past_turns))
        contacts = features[..., feature_slices(BODY_22)["foot_contacts"]]
        root_state = torch.cat([state.position, state.yaw[:, None]], dim=1)
        return root_positions + places, rotations, contacts, root_state, *memory, *next_conv_states

    def zero_states(self, batch: int) -> tuple[Tensor, ...]:
        """The states before the first code."""
        joints = self.mean.new_zeros(batch, 0, BODY_22.num_joints, 3)
        return self.mean.new_zeros(batch, 3), *self.solver.start(joints), *self.vqvae.zero_states(batch)

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
