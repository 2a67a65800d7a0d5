"""Joint positions -> root positions and local joint rotations over time: poses, without jumps of twist.

A limb that is folded or straight has hardly a plane, and the pose solver's twist may jump there although no bone does.
So the twist of each limb bone is carried on from frame to frame (parallel transport) and follows the pose solver's as
fast as it may: no faster than the fastest bone of the body turns in that frame. A joint then turns at most sqrt(2)
times as fast as the fastest bone, RECOVERY aside, unless it has more to catch up on than MEMORY_FRAMES let it. Where
the solver's twist is slower, it stays as it is.

What is older than MEMORY_FRAMES is forgotten, so that a stream that starts again from a few codes of history meets
the one that never stopped. The positions of joints do not depend on twist.

Source of parallel transport: Bergou et al. 2008, Discrete Elastic Rods.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from python_core.contract.skeleton import BODY_22
from python_core.pose_solver import PoseSolver
from python_core.rotations import EPSILON, multiply, multiply_inverse, shortest_arc, take

MEMORY_FRAMES = 8
"""Frames before a frame that its twist depends on. Of 747 real clips none turns a joint more than 1.43 times as fast
as a bone with 8; with 4, one does.
"""
RECOVERY = 0.009
"""Radians a frame by which twist may follow while the body stands still, 10 degrees a second at 20 Hz."""

_TWISTED = (1, 2, 16, 17, 4, 5, 18, 19, 7, 8)
_BONE_ENDS = (4, 5, 18, 19, 7, 8, 20, 21, 10, 11)
_LEAVES = {10: 7, 11: 8, 20: 18, 21: 19}
"""Joints without a bone of their own, and the ones that they turn with."""


class TwistMemory(NamedTuple):
    """What the twist of the next frames depends on; zeros before the first frame."""

    bones: Tensor
    """Directions of the last frame's bones by the joints that they end at, [..., J, 3]."""
    limbs: Tensor
    """The pose solver's rotations of its limb bones in the world, [..., L, 4]."""
    turns: Tensor
    """For each of the last frames how far the solver's twist of each limb bone ran ahead, and last how far it could be
    followed, in turns, [..., MEMORY_FRAMES - 1, L + 1].
    """


class MotionSolver(nn.Module):
    """Solves frames in order, with the memory that a stream hands from piece to piece."""

    def __init__(self) -> None:
        super().__init__()
        self.poses = PoseSolver(BODY_22)

    def start(self, like: Tensor) -> TwistMemory:
        """The memory of a motion that has not begun, for joints [..., F, J, 3]."""
        batch, num_limbs = like.shape[:-3], len(_TWISTED)
        shapes = (like.shape[-2:], (num_limbs, 4), (MEMORY_FRAMES - 1, num_limbs + 1))
        return TwistMemory(*(like.new_zeros(*batch, *shape) for shape in shapes))

    def forward(self, joints: Tensor, memory: TwistMemory) -> tuple[Tensor, Tensor, TwistMemory]:
        """Solve frames.

        Args:
            joints: Joint positions, metres, [..., F, J, 3].
            memory: Of the frames before them.

        Returns:
            Root positions [..., F, 3], rotations local to the parent joint [..., F, J, 4], and the next memory.
        """
        roots, turned, bones = self.poses.in_the_world(joints)
        limbs, limb_bones = take(turned, _TWISTED), take(bones, _BONE_ENDS)
        bones_before = torch.cat([memory.bones[..., None, :, :], bones[..., :-1, :, :]], dim=-3)
        limbs_before = torch.cat([memory.limbs[..., None, :, :], limbs[..., :-1, :, :]], dim=-3)
        carried = multiply(shortest_arc(take(bones_before, _BONE_ENDS), limb_bones), limbs_before)
        step = multiply_inverse(limbs, carried)
        # Without a frame before it, the first one is not ahead: it takes the solver's twist.
        ahead = _turn((step[..., :3] * limb_bones).sum(-1), step[..., 3])
        turns = torch.cat([memory.turns, torch.cat([ahead, _limits(bones_before, bones)], dim=-1)], dim=-2)
        half = math.pi * _lag(turns)
        twist = torch.cat([limb_bones * half.sin()[..., None], half.cos()[..., None]], dim=-1)
        steady = multiply(twist, limbs)
        rotations = self.poses.local(take(torch.cat([turned, steady], dim=-2), self._places()))
        last = TwistMemory(bones[..., -1, :, :], limbs[..., -1, :, :], turns[..., 1 - MEMORY_FRAMES :, :])
        return roots, rotations, last

    def _places(self) -> list[int]:
        """For each joint, where its rotation is: the pose solver's, with the steady ones of limb bones after them."""
        num_joints = len(self.poses.parents)
        turns_with = [_LEAVES.get(joint, joint) for joint in range(num_joints)]
        return [num_joints + _TWISTED.index(joint) if joint in _TWISTED else joint for joint in turns_with]


def _limits(before: Tensor, bones: Tensor) -> Tensor:
    """How far twist may follow from one frame's bones to the next one's, in turns, [..., J, 3] -> [..., 1]."""
    chords = (bones - before).norm(dim=-1).amax(dim=-1, keepdim=True)
    # Twice the arcsine of half the chord, but for terms that are left out, so a little less.
    return (chords * (1 + chords.square() / 24) + RECOVERY) / (2 * math.pi)


def _lag(turns: Tensor) -> Tensor:
    """How far behind the pose solver's twist each limb bone stays, in turns, in all frames of `TwistMemory.turns` but
    the first MEMORY_FRAMES - 1, [..., F, L].

    Twists about the same bone add up, so following is one number a bone: each frame the solver's twist runs ahead of
    the transported one, and the limit is caught up. All frames go through what happened before them side by side.
    """
    ahead, limits = turns[..., :-1], turns[..., -1:]
    lag = torch.zeros_like(ahead[..., MEMORY_FRAMES - 1 :, :])
    for first in range(MEMORY_FRAMES):
        # Ends are counted from behind, because a graph computes ends that depend on the length.
        frames = slice(first, first - MEMORY_FRAMES + 1 or None)
        behind, limit = lag - ahead[..., frames, :], limits[..., frames, :]
        # Within half a turn.
        behind = behind - behind.round()
        lag = behind - behind.clamp(-limit, limit)
    return lag


def _turn(sine: Tensor, cosine: Tensor) -> Tensor:
    """The turn about an axis, -0.5 to 0.5 turns, to 1e-6 radians; from the sine and cosine of half of it, a length
    apart.

    The tangent of an eighth of the turn is below 0.42, where a few terms of its series will do. ONNX Runtime's own
    arctangent and arcsine give a stream other bits alone than among others.
    """
    length = (sine.square() + cosine.square()).sqrt().clamp(min=EPSILON)
    # A turn of more than pi is one to the other side.
    quarter = torch.where(cosine < 0, -sine, sine) / (length + cosine.abs())
    eighth = quarter / (1 + (1 + quarter.square()).sqrt())
    square = eighth.square()
    series = 1 / 11 - square / 13
    for power in range(9, 0, -2):
        series = 1 / power - square * series
    return 4 / math.pi * eighth * series


def solve_motion(joints: Tensor) -> tuple[Tensor, Tensor]:
    """Root positions and local rotations of a whole motion, [F, J, 3]."""
    solver = MotionSolver().to(joints.dtype)
    root_positions, rotations, _ = solver(joints, solver.start(joints))
    return root_positions, rotations
