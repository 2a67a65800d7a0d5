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


class MotionSolver(nn.Module):
    """Solves frames in order, with the memory that a stream hands from piece to piece."""

    def __init__(self) -> None:
        super().__init__()
        self.poses = PoseSolver(BODY_22)

    def start(self, like: Tensor) -> Tensor:
        """The memory of a motion that has not begun, for joints [..., F, J, 3]: zeros, [..., MEMORY_FRAMES, J, 3]."""
        return torch.zeros_like(like[..., :1, :, :]).expand(*like.shape[:-3], MEMORY_FRAMES, *like.shape[-2:])

    def forward(self, joints: Tensor, past: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Solve frames.

        Args:
            joints: Joint positions, metres, [..., F, J, 3].
            past: The frames before them, zeros where there are none, [..., MEMORY_FRAMES, J, 3].

        Returns:
            Root positions [..., F, 3], rotations local to the parent joint [..., F, J, 4], and the next `past`.
        """
        seen = torch.cat([past, joints], dim=-3)
        roots, turned, directions = self.poses.in_the_world(seen)
        limbs, bones = take(turned, _TWISTED), take(directions, _BONE_ENDS)
        lag = _lag(limbs, bones, _limits(directions), known=seen.abs().amax((-1, -2), keepdim=True) > 0)
        half = math.pi * lag
        twist = torch.cat([bones * half.sin(), half.cos()], dim=-1)
        steady = multiply(twist, limbs)
        rotations = self.poses.local(
            take(torch.cat([turned, steady], dim=-2)[..., MEMORY_FRAMES:, :, :], self._places())
        )
        return roots[..., MEMORY_FRAMES:, :], rotations, seen[..., seen.shape[-3] - MEMORY_FRAMES :, :, :]

    def _places(self) -> list[int]:
        """For each joint, where its rotation is: the pose solver's, with the steady ones of limb bones after them."""
        num_joints = len(self.poses.parents)
        turns_with = [_LEAVES.get(joint, joint) for joint in range(num_joints)]
        return [num_joints + _TWISTED.index(joint) if joint in _TWISTED else joint for joint in turns_with]


def _limits(bones: Tensor) -> Tensor:
    """How far twist may follow in each frame but the first, in turns, [..., F, J, 3] -> [..., F - 1, 1, 1]."""
    chords = (bones[..., 1:, :, :] - bones[..., :-1, :, :]).norm(dim=-1, keepdim=True).amax(dim=-2, keepdim=True)
    # Twice the arcsine of half the chord, but for terms that are left out, so a little less.
    return (chords * (1 + chords.square() / 24) + RECOVERY) / (2 * math.pi)


def _lag(limbs: Tensor, bones: Tensor, limits: Tensor, known: Tensor) -> Tensor:
    """How far behind the pose solver's twist each limb bone stays, in turns, [..., F, L, 1].

    Twists about the same bone add up, so following is one number a bone: each frame the solver's twist runs ahead of
    the transported one by `ahead`, and the limit is caught up.
    """
    carried = multiply(shortest_arc(bones[..., :-1, :, :], bones[..., 1:, :, :]), limbs[..., :-1, :, :])
    step = multiply_inverse(limbs[..., 1:, :, :], carried)
    ahead = _turn((step[..., :3] * bones[..., 1:, :, :]).sum(-1, keepdim=True), step[..., 3:])
    # The first frame of a motion takes the solver's twist.
    follows = known[..., 1:, :, :] & known[..., :-1, :, :]
    ahead, limits = torch.where(follows, ahead, 0.0), torch.where(follows, limits, 0.5)
    none = torch.zeros_like(ahead[..., :1, :, :])
    lower = -limits
    lag = ahead.clamp(lower, limits) - ahead
    for _ in range(MEMORY_FRAMES - 1):
        behind = torch.cat([none, lag[..., :-1, :, :]], dim=-3) - ahead
        # Within half a turn.
        behind = behind - behind.round()
        lag = behind - behind.clamp(lower, limits)
    return torch.cat([none, lag], dim=-3)


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
