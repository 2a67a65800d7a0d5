"""Joint positions -> root position and local joint rotations, frame by frame.

Pelvis and chest turn as their own joints do. A limb's first bone swings by the shortest arc from where its parent holds
it, then twists so that the hinge of its elbow or knee turns towards the normal of the limb's plane. A straight limb has
no plane: the nearer it is to straight, the more its hinge stays where the swing has left it. Each frame stands alone;
`steady_twist.py` follows the twist from frame to frame. Plain torch, exported as part of the motion decoder.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from python_core.contract.skeleton import BODY_22, Skeleton
from python_core.rotations import (
    cross,
    frame_rotation,
    inverse_multiply,
    multiply,
    multiply_inverse,
    normalize,
    rotate,
    shortest_arc,
    take,
    with_positive_w,
)

FOLDED = 0.1
"""1 + the cosine of the bend below which a limb counts as folded altogether."""
PLANE_WEIGHT = 0.75
"""How much the plane of a limb bent by 90 degrees counts, against where the swing alone leaves the hinge. Higher
follows the plane more closely and passes on more of its noise when a limb is nearly straight.
"""


# Bones that are solved together, by the joint that turns them and the joint that they end at.
_SPINE = ((3, 6), (6, 9))
_SPINE_TWIST = ((2 / 3, 1 / 3), (1 / 3, 2 / 3))
"""How pelvis and chest share the twist of each."""
_SWUNG_BY_CHEST = ((12, 15), (13, 16), (14, 17))
_ANKLES = ((7, 10), (8, 11))
_LEAVES = (10, 11, 15, 20, 21)
_TRUNK = (0, 9)
_X, _MINUS_Y, _PLUS_Y = (1.0, 0.0, 0.0), (0.0, -1.0, 0.0), (0.0, 1.0, 0.0)


@dataclass(frozen=True)
class Limb:
    """Two bones and the hinge between them."""

    upper: int
    lower: int
    end: int
    hinge: tuple[float, float, float]
    """Axis of the elbow or knee in the T-pose."""
    usual: tuple[float, float, float]
    """Where the first bone usually points. Swings start here, so that the direction opposite to it, which has no
    shortest arc, is one that limbs do not reach.
    """


LIMBS = (
    Limb(upper=1, lower=4, end=7, hinge=_X, usual=(0.0, -0.85, 0.53)),
    Limb(upper=2, lower=5, end=8, hinge=_X, usual=(0.0, -0.85, 0.53)),
    Limb(upper=16, lower=18, end=20, hinge=_MINUS_Y, usual=(0.7, -0.1, 0.7)),
    Limb(upper=17, lower=19, end=21, hinge=_PLUS_Y, usual=(-0.7, -0.1, 0.7)),
)


_PLANED = [*(end for _, end in _SPINE), *(limb.lower for limb in LIMBS)]
"""Ends of the bones that turn with an axis of their own."""


class PoseSolver(nn.Module):
    """Solves the 22-joint body. Joints of a kind are solved together: the graph has few nodes, a stream waits less.

    Raises:
        ValueError: The skeleton is not the 22-joint body: which bones are limbs is known for that one only.
    """

    offsets: Tensor
    lines: Tensor
    rest_trunk: Tensor
    rest_hips: Tensor
    rest_bones: Tensor
    rest_planes: Tensor
    hinges: Tensor
    usual: Tensor
    usual_from_rest: Tensor
    spine_twist: Tensor

    def __init__(self, skeleton: Skeleton = BODY_22) -> None:
        super().__init__()
        if skeleton.joint_names != BODY_22.joint_names:
            raise ValueError(f"the pose solver knows the joints of {BODY_22.name}, got those of {skeleton.name}")
        self.skeleton = skeleton
        self.parents = list(skeleton.parents)
        rest = torch.from_numpy(skeleton.rest_joints_m).double()
        offsets = torch.from_numpy(skeleton.offsets_m).double()
        usual = normalize(torch.tensor([limb.usual for limb in LIMBS], dtype=torch.float64))
        hinges = torch.tensor([limb.hinge for limb in LIMBS], dtype=torch.float64)
        uppers = [limb.lower for limb in LIMBS]
        spine = torch.tensor([_X] * len(_SPINE), dtype=torch.float64)
        lines = _lines(self.parents)
        buffers = {
            "offsets": offsets,
            "lines": lines,
            "rest_trunk": _trunk((lines @ rest)[len(self.parents) :]),
            "rest_hips": (rest[1] + rest[2]) / 2 - rest[0],
            "rest_bones": normalize(offsets),
            "rest_planes": frame_rotation(offsets[_PLANED], torch.cat([spine, hinges])),
            "hinges": hinges,
            "usual": usual,
            "usual_from_rest": shortest_arc(normalize(offsets[uppers]), usual),
            "spine_twist": torch.tensor(_SPINE_TWIST, dtype=torch.float64),
        }
        for name, value in buffers.items():
            self.register_buffer(name, value, persistent=False)

    def forward(self, joints: Tensor) -> tuple[Tensor, Tensor]:
        """Solve poses.

        Bone lengths of the input do not matter, directions do. Where the input's hips and spine do not fit one rigid
        pelvis, the hips keep their place and the root gives way, so that feet stay where they are.

        Args:
            joints: Joint positions, metres, of the solver's own floating-point type, [..., J, 3].

        Returns:
            Root positions [..., 3] and rotations local to the parent joint [..., J, 4], w >= 0.
        """
        root_positions, turned, _ = self.in_the_world(joints)
        return root_positions, self.local(turned)

    def in_the_world(self, joints: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The same with rotations in the world, of either sign; and the directions of bones by their ends, zero for
        the root, [..., J, 3].
        """
        lines = self.lines @ joints
        bones, trunk = normalize(lines[..., : len(self.parents), :]), lines[..., len(self.parents) :, :]
        trunk = multiply_inverse(_trunk(trunk), self.rest_trunk)
        pelvis, chest = trunk[..., :1, :], trunk[..., 1:, :]
        swung = self._swing(chest, bones, [end for _, end in _SWUNG_BY_CHEST])

        limb_parents = torch.cat([pelvis, pelvis, swung[..., 1:, :]], dim=-2)
        lowers, limb_ends = [limb.lower for limb in LIMBS], [limb.end for limb in LIMBS]
        upper_bones, lower_bones = take(bones, lowers), take(bones, limb_ends)
        held = multiply(limb_parents, self.usual_from_rest)
        hinges = rotate(multiply(shortest_arc(rotate(limb_parents, self.usual), upper_bones), held), self.hinges)
        # The sine of the bend, over 1 + its cosine, is the tangent of half the bend: it grows until a limb is folded.
        unfolded = (1 + (upper_bones * lower_bones).sum(-1, keepdim=True)).clamp(min=FOLDED)
        planes = cross(upper_bones, lower_bones) / unfolded
        across = self.spine_twist @ rotate(trunk, trunk.new_tensor(_X))
        # These bones turn exactly to their directions, and their axes as near to their own as that allows.
        axes = torch.cat([across, hinges + PLANE_WEIGHT * planes], dim=-2)
        planed = multiply_inverse(frame_rotation(take(bones, _PLANED), axes), self.rest_planes)
        lower_turns = self._swing(planed[..., len(_SPINE) :, :], bones, limb_ends)
        ankles = self._swing(lower_turns[..., :2, :], bones, [end for _, end in _ANKLES])

        turned = take(torch.cat([trunk, swung, planed, lower_turns, ankles], dim=-2), self._places())
        hips = (joints[..., 1, :] + joints[..., 2, :]) / 2
        return hips - rotate(turned[..., 0, :], self.rest_hips), turned, bones

    def local(self, turned: Tensor) -> Tensor:
        """Rotations in the world -> local to the parent joint, w >= 0, [..., J, 4]."""
        local = inverse_multiply(take(turned, self.parents[1:]), turned[..., 1:, :])
        return with_positive_w(torch.cat([turned[..., :1, :], local], dim=-2))

    def _swing(self, parents: Tensor, bones: Tensor, ends: list[int]) -> Tensor:
        """Turn the bones that end at `ends` from where their parents hold them by the shortest arc."""
        held = rotate(parents, self.rest_bones[ends])
        return multiply(shortest_arc(held, take(bones, ends)), parents)

    def _places(self) -> list[int]:
        """For each joint, where its rotation is among those that were solved; a leaf turns with its parent."""
        order = [
            *_TRUNK,
            *(joint for joint, _ in _SWUNG_BY_CHEST),
            *(joint for joint, _ in _SPINE),
            *(limb.upper for limb in LIMBS),
            *(limb.lower for limb in LIMBS),
            *(joint for joint, _ in _ANKLES),
        ]
        return [order.index(self.parents[j] if j in _LEAVES else j) for j in range(len(self.parents))]


def _lines(parents: Sequence[int]) -> Tensor:
    """What times joints gives each joint from its parent, then for pelvis and chest what points to their left, then
    upwards, [J + 4, J].
    """
    joint = torch.eye(len(parents), dtype=torch.float64)
    bones = [joint[j] - joint[max(parent, 0)] for j, parent in enumerate(parents)]
    left = [joint[1] - joint[2], joint[13] - joint[14]]
    up = [joint[3] - (joint[1] + joint[2]) / 2, joint[12] - joint[9]]
    return torch.stack([*bones, *left, *up])


def _trunk(lines: Tensor) -> Tensor:
    """Frames of pelvis and chest as rotations, [..., 4, 3] -> [..., 2, 4]."""
    return frame_rotation(lines[..., :2, :], lines[..., 2:, :])
