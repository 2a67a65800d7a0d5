"""Joint positions -> root position and local joint rotations, frame by frame.

Pelvis and chest turn as their own joints do. A limb's first bone swings by the shortest arc from where its parent holds
it, then twists so that the hinge of its elbow or knee turns towards the normal of the limb's plane. A straight limb has
no plane: the nearer it is to straight, the more its hinge stays where the swing has left it. Each frame stands alone;
`steady_twist.py` follows the twist from frame to frame. Plain torch, exported as part of the motion decoder.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from python_core.contract.skeleton import BODY_22, Skeleton
from python_core.rotations import (
    cross,
    frame,
    inverse,
    matrix_to_quaternion,
    multiply,
    normalize,
    rotate,
    shortest_arc,
    take,
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


class PoseSolver(nn.Module):
    """Solves the 22-joint body. Joints of a kind are solved together: the graph has few nodes, a stream waits less.

    Raises:
        ValueError: The skeleton is not the 22-joint body: which bones are limbs is known for that one only.
    """

    offsets: Tensor
    rest_trunk: Tensor
    rest_hips: Tensor
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
        uppers = [limb.lower for limb in LIMBS]
        buffers = {
            "offsets": offsets,
            "rest_trunk": _trunk_frames(rest),
            "rest_hips": (rest[1] + rest[2]) / 2 - rest[0],
            "hinges": torch.tensor([limb.hinge for limb in LIMBS], dtype=torch.float64),
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
        root_positions, turned = self.in_the_world(joints)
        return root_positions, self.local(turned)

    def in_the_world(self, joints: Tensor) -> tuple[Tensor, Tensor]:
        """The same with rotations in the world, of either sign."""
        bones = joints - take(joints, [max(parent, 0) for parent in self.parents])
        trunk = matrix_to_quaternion(_trunk_frames(joints) @ self.rest_trunk.mT)
        pelvis, chest = trunk[..., :1, :], trunk[..., 1:, :]

        ends = [end for _, end in _SPINE]
        across = self.spine_twist @ rotate(trunk, trunk.new_tensor(_X))
        spine = _bone_and_axis(self.offsets[ends], trunk.new_tensor(_X).expand(2, 3), take(bones, ends), across)
        swung = _swing(chest, self.offsets, bones, [end for _, end in _SWUNG_BY_CHEST])

        lowers, limb_ends = [limb.lower for limb in LIMBS], [limb.end for limb in LIMBS]
        parents = torch.cat([pelvis, pelvis, swung[..., 1:, :]], dim=-2)
        upper_bones = normalize(take(bones, lowers))
        held = multiply(parents, self.usual_from_rest)
        hinges = rotate(multiply(shortest_arc(rotate(parents, self.usual), upper_bones), held), self.hinges)
        lower_bones = normalize(take(bones, limb_ends))
        # The sine of the bend, over 1 + its cosine, is the tangent of half the bend: it grows until a limb is folded.
        unfolded = (1 + (upper_bones * lower_bones).sum(-1, keepdim=True)).clamp(min=FOLDED)
        planes = cross(upper_bones, lower_bones) / unfolded
        uppers = _bone_and_axis(self.offsets[lowers], self.hinges, upper_bones, hinges + PLANE_WEIGHT * planes)
        lower_turns = _swing(uppers, self.offsets, bones, limb_ends)
        ankles = _swing(lower_turns[..., :2, :], self.offsets, bones, [end for _, end in _ANKLES])

        solved = torch.cat([pelvis, spine, chest, swung, uppers, lower_turns, ankles], dim=-2)
        turned = take(solved, self._places())
        hips = (joints[..., 1, :] + joints[..., 2, :]) / 2
        return hips - rotate(turned[..., 0, :], self.rest_hips), turned

    def local(self, turned: Tensor) -> Tensor:
        """Rotations in the world -> local to the parent joint, w >= 0, [..., J, 4]."""
        local = multiply(inverse(take(turned, self.parents[1:])), turned[..., 1:, :])
        rotations = torch.cat([turned[..., :1, :], local], dim=-2)
        return torch.where(rotations[..., 3:] < 0, -rotations, rotations)

    def _places(self) -> list[int]:
        """For each joint, where its rotation is among those that were solved; a leaf turns with its parent."""
        order = [
            0,
            *(joint for joint, _ in _SPINE),
            9,
            *(joint for joint, _ in _SWUNG_BY_CHEST),
            *(limb.upper for limb in LIMBS),
            *(limb.lower for limb in LIMBS),
            *(joint for joint, _ in _ANKLES),
        ]
        return [order.index(self.parents[j] if j in _LEAVES else j) for j in range(len(self.parents))]


def _trunk_frames(joints: Tensor) -> Tensor:
    """Frames of pelvis and chest, [..., J, 3] -> [..., 2, 3, 3]."""
    hips = (joints[..., 1, :] + joints[..., 2, :]) / 2
    across = take(joints, (1, 13)) - take(joints, (2, 14))
    up = torch.stack([joints[..., 3, :] - hips, joints[..., 12, :] - joints[..., 9, :]], dim=-2)
    return frame(across, up)


def _swing(parents: Tensor, offsets: Tensor, bones: Tensor, ends: list[int]) -> Tensor:
    """Turn the bones that end at `ends` from where their parents hold them by the shortest arc."""
    held = rotate(parents, normalize(offsets[ends]))
    return multiply(shortest_arc(held, normalize(take(bones, ends))), parents)


def _bone_and_axis(rest_bones: Tensor, rest_axes: Tensor, bones: Tensor, axes: Tensor) -> Tensor:
    """Turn bones exactly to their directions and axes as near to their own as that allows."""
    start, end = frame(rest_bones, rest_axes), frame(bones, axes)
    return matrix_to_quaternion(end @ start.mT)
