"""Joint positions -> root position and local joint rotations, frame by frame.

Pelvis and chest turn as their own joints do. A limb's first bone swings by the shortest arc from where its parent holds
it, then twists so that the hinge of its elbow or knee turns towards the normal of the limb's plane. A straight limb has
no plane: the nearer it is to straight, the more its hinge stays where the swing has left it. Each frame stands alone, so a stream
and a whole clip give the same numbers. Plain torch, exported as part of the motion decoder.
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
)

PLANE_WEIGHT = 0.75
"""How much the plane of a limb bent by 90 degrees counts, against where the swing alone leaves the hinge. Higher follows
the plane more closely and passes on more of its noise when a limb is nearly straight.
"""


@dataclass(frozen=True)
class Limb:
    """Two bones and the hinge between them."""

    parent: int
    upper: int
    lower: int
    end: int
    hinge: tuple[float, float, float]
    """Axis of the elbow or knee in the T-pose."""
    usual: tuple[float, float, float]
    """Where the first bone usually points. Swings start here, so that the direction opposite to it, which has no
    shortest arc, is one that limbs do not reach."""


LIMBS = (
    Limb(parent=0, upper=1, lower=4, end=7, hinge=(1.0, 0.0, 0.0), usual=(0.0, -0.85, 0.53)),
    Limb(parent=0, upper=2, lower=5, end=8, hinge=(1.0, 0.0, 0.0), usual=(0.0, -0.85, 0.53)),
    Limb(parent=13, upper=16, lower=18, end=20, hinge=(0.0, -1.0, 0.0), usual=(0.7, -0.1, 0.7)),
    Limb(parent=14, upper=17, lower=19, end=21, hinge=(0.0, 1.0, 0.0), usual=(-0.7, -0.1, 0.7)),
)


class PoseSolver(nn.Module):
    """Solves the 22-joint body.

    Raises:
        ValueError: The skeleton is not the 22-joint body: which bones are limbs is known for that one only.
    """

    offsets: Tensor

    def __init__(self, skeleton: Skeleton = BODY_22) -> None:
        super().__init__()
        if skeleton.joint_names != BODY_22.joint_names:
            raise ValueError(f"the pose solver knows the joints of {BODY_22.name}, got those of {skeleton.name}")
        self.skeleton = skeleton
        rest = torch.from_numpy(skeleton.rest_joints_m).double()
        pelvis, chest = _pelvis_frame(rest), _chest_frame(rest)
        self.register_buffer("offsets", torch.from_numpy(skeleton.offsets_m).double(), persistent=False)
        self.register_buffer("rest_pelvis", pelvis, persistent=False)
        self.register_buffer("rest_chest", chest, persistent=False)
        self.register_buffer("rest_hips", (rest[1] + rest[2]) / 2 - rest[0], persistent=False)

    def forward(self, joints: Tensor) -> tuple[Tensor, Tensor]:
        """Solve poses.

        Bone lengths of the input do not matter, directions do. Where the input's hips and spine do not fit one rigid
        pelvis, the hips keep their place and the root gives way, so that feet stay where they are.

        Args:
            joints: Joint positions, metres, [..., J, 3].

        Returns:
            Root positions [..., 3] and rotations local to the parent joint [..., J, 4], w >= 0.
        """
        offsets = self.offsets.to(joints.dtype)
        parents = self.skeleton.parents
        bones = [joints[..., j, :] - joints[..., max(p, 0), :] for j, p in enumerate(parents)]
        rest = [offsets[j] for j in range(self.skeleton.num_joints)]
        turned: dict[int, Tensor] = {}

        turned[0] = matrix_to_quaternion(_pelvis_frame(joints) @ self.rest_pelvis.to(joints.dtype).mT)
        turned[9] = matrix_to_quaternion(_chest_frame(joints) @ self.rest_chest.to(joints.dtype).mT)
        # The spine shares the twist between pelvis and chest.
        across_pelvis = rotate(turned[0], joints.new_tensor([1.0, 0.0, 0.0]))
        across_chest = rotate(turned[9], joints.new_tensor([1.0, 0.0, 0.0]))
        for joint, child, share in ((3, 6, 1 / 3), (6, 9, 2 / 3)):
            across = across_pelvis * (1 - share) + across_chest * share
            turned[joint] = _bone_and_axis(rest[child], joints.new_tensor([1.0, 0.0, 0.0]), bones[child], across)
        for joint, child, parent in ((12, 15, 9), (13, 16, 9), (14, 17, 9)):
            turned[joint] = _swing(turned[parent], rest[child], bones[child])
        for limb in LIMBS:
            hinge, usual = joints.new_tensor(limb.hinge), normalize(joints.new_tensor(limb.usual))
            upper_bone, rest_upper = bones[limb.lower], rest[limb.lower]
            held = multiply(turned[limb.parent], shortest_arc(normalize(rest_upper), usual))
            swing = multiply(shortest_arc(rotate(turned[limb.parent], usual), normalize(upper_bone)), held)
            normal = cross(normalize(upper_bone), normalize(bones[limb.end]))
            axis = rotate(swing, hinge) + PLANE_WEIGHT * normal
            turned[limb.upper] = _bone_and_axis(rest_upper, hinge, upper_bone, axis)
            turned[limb.lower] = _swing(turned[limb.upper], rest[limb.end], bones[limb.end])
        for ankle, foot, knee in ((7, 10, 4), (8, 11, 5)):
            turned[ankle] = _swing(turned[knee], rest[foot], bones[foot])
        for leaf in (10, 11, 15, 20, 21):
            turned[leaf] = turned[parents[leaf]]

        local = [turned[0]] + [multiply(inverse(turned[p]), turned[j]) for j, p in enumerate(parents) if j > 0]
        rotations = torch.stack(local, dim=-2)
        rotations = torch.where(rotations[..., 3:] < 0, -rotations, rotations)
        hips = (joints[..., 1, :] + joints[..., 2, :]) / 2
        return hips - rotate(turned[0], self.rest_hips.to(joints.dtype)), rotations


def _pelvis_frame(joints: Tensor) -> Tensor:
    left, right = joints[..., 1, :], joints[..., 2, :]
    return frame(left - right, joints[..., 3, :] - (left + right) / 2)


def _chest_frame(joints: Tensor) -> Tensor:
    return frame(joints[..., 13, :] - joints[..., 14, :], joints[..., 12, :] - joints[..., 9, :])


def _swing(parent: Tensor, rest_bone: Tensor, bone: Tensor) -> Tensor:
    """Turn a bone from where its parent holds it by the shortest arc."""
    return multiply(shortest_arc(rotate(parent, normalize(rest_bone)), normalize(bone)), parent)


def _bone_and_axis(rest_bone: Tensor, rest_axis: Tensor, bone: Tensor, axis: Tensor) -> Tensor:
    """Turn a bone exactly to its direction and an axis as near to its own as that allows."""
    start, end = frame(rest_bone, rest_axis), frame(bone, axis)
    return matrix_to_quaternion(end @ start.mT)
