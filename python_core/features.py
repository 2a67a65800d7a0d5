"""Joints <-> features, in the layout of HumanML3D: T joint frames give T - 1 rows, row t from frames t and t + 1.

    root_yaw_velocity   1         half the step of the heading, radians a frame; the heading turns by -2 times this
    root_velocity       2         x and z step of the root, metres a frame, in the heading of frame t + 1
    root_height         1         metres
    joint_positions     3 (J-1)   joints but the root; x and z from the root, y above the floor; turned to face +Z
    joint_rotations     6 (J-1)   joints but the root, 6-number form
    joint_velocities    3 J       step of each joint, metres a frame, in the heading of frame t
    foot_contacts       4         left ankle, left foot, right ankle, right foot

`exact` features hold the pose solver's local rotations, invert exactly and take height and speed of contact from
`quality`. `published` features are what HumanML3D's own scripts write, so that published weights and numbers can be
used: their heading takes the hips with the wrong sign, row 0 holds a jump of the heading, the heading's step has the
wrong sign where it crosses half a turn, and their rotations are shortest arcs from a pose with hanging arms, chained
anew from the root in every limb.

Source: Guo et al. 2022, Generating Diverse and Natural 3D Human Motions from Text, and its code.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

from python_core.contract.motion import CONTACT_THRESHOLD, Motion
from python_core.contract.quality import CONTACT_HEIGHT_M, SLIDE_SPEED_M_S
from python_core.contract.skeleton import BODY_22, Skeleton
from python_core.pose_solver import PoseSolver
from python_core.rotations import (
    forward_kinematics,
    inverse,
    multiply,
    normalize,
    quaternion_to_6d,
    rotate,
    shortest_arc,
    yaw_rotation,
)
from python_core.steady_twist import solve_motion

HEADING_SMOOTHING_FRAMES = 20
"""Standard deviation of the Gaussian that smooths the heading over a clip."""
PUBLISHED_CONTACT_STEP2_M2 = 0.002

_LEFT_LEG, _RIGHT_LEG = (0, 1, 4, 7, 10), (0, 2, 5, 8, 11)
_SPINE, _LEFT_ARM, _RIGHT_ARM = (0, 3, 6, 9, 12, 15), (9, 13, 16, 18, 20), (9, 14, 17, 19, 21)
_PUBLISHED_CHAINS = (_RIGHT_LEG, _LEFT_LEG, _SPINE, _RIGHT_ARM, _LEFT_ARM)
_PUBLISHED_REST_BONES = {
    (1.0, 0.0, 0.0): (1, 13),
    (-1.0, 0.0, 0.0): (2, 14),
    (0.0, 1.0, 0.0): (3, 6, 9, 12),
    (0.0, 0.0, 1.0): (10, 11, 15),
    (0.0, -1.0, 0.0): (4, 5, 7, 8, 16, 17, 18, 19, 20, 21),
}


def feature_slices(skeleton: Skeleton) -> dict[str, slice]:
    """Where each part of a row of features is; the last slice ends at the width."""
    joints = skeleton.num_joints
    widths = {
        "root_yaw_velocity": 1,
        "root_velocity": 2,
        "root_height": 1,
        "joint_positions": 3 * (joints - 1),
        "joint_rotations": 6 * (joints - 1),
        "joint_velocities": 3 * joints,
        "foot_contacts": len(skeleton.foot_joints),
    }
    slices, start = {}, 0
    for name, width in widths.items():
        slices[name] = slice(start, start + width)
        start += width
    return slices


def num_features(skeleton: Skeleton) -> int:
    """Width of a row: 263 for the 22-joint body."""
    return feature_slices(skeleton)["foot_contacts"].stop


def canonical_joints(joints_m: NDArray[np.float32]) -> NDArray[np.float32]:
    """Put a clip on our skeleton, [F, J, 3]: its bone lengths and rigid pelvis and chest, the clip's lowest joint on
    the floor, the first frame's root at x = z = 0, its heading towards +Z.

    After this the pose solver and forward kinematics give the joints back.
    """
    solver = PoseSolver(BODY_22)
    source = torch.from_numpy(joints_m).double()
    root, rotations = solver(source)
    joints = forward_kinematics(root, rotations, solver.offsets, BODY_22.parents)
    joints = joints - joints[0, :1] * joints.new_tensor([1.0, 0.0, 1.0])
    joints[..., 1] -= joints[..., 1].min()
    turn = inverse(yaw_rotation(_heading(joints)[0]))
    return rotate(turn, joints).float().numpy()


def exact_features(joints_m: NDArray[np.float32], frame_rate_hz: float) -> NDArray[np.float32]:
    """Features of a canonical clip of the 22-joint body, [F, J, 3] -> [F - 1, D].

    Raises:
        ValueError: Fewer than 2 frames, which have no step.
    """
    joints = _checked(joints_m)
    yaw = _heading(joints)
    half_steps = (yaw[:-1] - yaw[1:]).sin().atan2((yaw[:-1] - yaw[1:]).cos()) / 2
    rotations = solve_motion(joints)[1]
    feet = joints[:, BODY_22.foot_joints]
    rest_heights_m = torch.from_numpy(BODY_22.rest_joints_m[BODY_22.foot_joints, 1])
    slow = (feet[1:] - feet[:-1]).norm(dim=-1) * frame_rate_hz < SLIDE_SPEED_M_S
    near = feet[:-1, :, 1] - rest_heights_m < CONTACT_HEIGHT_M
    return _rows(joints, inverse(yaw_rotation(yaw)), half_steps, quaternion_to_6d(rotations[:, 1:]), slow & near)


def published_features(joints_m: NDArray[np.float32]) -> NDArray[np.float32]:
    """Features of a processed clip of the 22-joint body as HumanML3D's scripts write them, [F, J, 3] -> [F - 1, D].

    Raises:
        ValueError: Fewer than 2 frames, which have no step.
    """
    joints = _checked(joints_m)
    across = (joints[:, 1] - joints[:, 2]) + (joints[:, 17] - joints[:, 16])
    to_heading = _to_heading(across)
    to_heading[0] = to_heading.new_tensor([0.0, 0.0, 0.0, 1.0])
    steps = multiply(to_heading[1:], inverse(to_heading[:-1]))
    rotations = torch.zeros(*joints.shape[:2], 4, dtype=joints.dtype)
    rest = {joint: joints.new_tensor(bone) for bone, members in _PUBLISHED_REST_BONES.items() for joint in members}
    for chain in _PUBLISHED_CHAINS:
        turned = to_heading
        for start, end in pairwise(chain):
            arc = shortest_arc(rest[end], normalize(joints[:, end] - joints[:, start]))
            rotations[:, end] = multiply(inverse(turned), arc)
            turned = arc
    feet = joints[:, BODY_22.foot_joints]
    contacts = (feet[1:] - feet[:-1]).square().sum(-1) < PUBLISHED_CONTACT_STEP2_M2
    return _rows(joints, to_heading, steps[:, 1].asin(), quaternion_to_6d(rotations[:, 1:]), contacts)


def mirror_joints(joints_m: NDArray[np.float32], skeleton: Skeleton = BODY_22) -> NDArray[np.float32]:
    """The same motion with left and right exchanged, [..., J, 3]."""
    return joints_m[..., skeleton.mirror_joints, :] * np.array([-1, 1, 1], dtype=joints_m.dtype)


@dataclass(frozen=True)
class RootState:
    """Where the next frame begins."""

    position: Tensor
    """x and z, metres, [B, 2]"""
    yaw: Tensor
    """Radians from +Z towards +X, [B]"""


def features_to_joints(features: Tensor, state: RootState, skeleton: Skeleton = BODY_22) -> tuple[Tensor, RootState]:
    """Joint positions in the world, [B, F, D] -> [B, F, J, 3], and the state after them.

    Works in pieces: the state after one piece starts the next.
    """
    body, places, state = features_to_body(features, state, skeleton)
    return body + places[:, :, None], state


def features_to_body(
    features: Tensor, state: RootState, skeleton: Skeleton = BODY_22
) -> tuple[Tensor, Tensor, RootState]:
    """The same with the root above the origin, and apart from it where that is.

    Far from the origin float32 is coarse, so what looks at bones takes the body.

    Returns:
        Joint positions, turned as in the world, [B, F, J, 3]; x and z of the root, with y = 0, [B, F, 3]; the state.
    """
    slices = feature_slices(skeleton)
    turns = -2 * features[..., slices["root_yaw_velocity"]][..., 0].cumsum(dim=1)
    yaw_after = state.yaw[:, None] + turns
    yaw = torch.cat([state.yaw[:, None], yaw_after[:, :-1]], dim=1)
    # Products with constants put numbers into vectors: fewer nodes of a graph than zeros that are stacked with them.
    on_the_floor, upwards = features.new_tensor([[1.0, 0, 0], [0, 0, 1]]), features.new_tensor([[0.0, 1, 0]])
    steps = rotate(yaw_rotation(yaw_after), features[..., slices["root_velocity"]] @ on_the_floor)
    start = (state.position @ on_the_floor)[:, None]
    place_after = start + steps.cumsum(dim=1)
    places = torch.cat([start, place_after[:, :-1]], dim=1)
    root = features[..., slices["root_height"]] @ upwards
    others = features[..., slices["joint_positions"]]
    others = others.reshape(*others.shape[:2], skeleton.num_joints - 1, 3)
    local = torch.cat([root[:, :, None], others], dim=2)
    body = rotate(yaw_rotation(yaw)[:, :, None], local)
    return body, places, RootState(place_after[:, -1, ::2], yaw_after[:, -1])


def features_to_motion(rows: NDArray[np.float32], frame_rate_hz: float) -> Motion:
    """The motion of exact features that begins at x = z = 0 and faces +Z, [F, D]."""
    features = torch.from_numpy(np.array(rows))[None]
    body, places, _ = features_to_body(features, origin(1, features))
    root, rotations = solve_motion(body[0])
    contacts = rows[:, feature_slices(BODY_22)["foot_contacts"]] > CONTACT_THRESHOLD
    return Motion((root + places[0]).numpy(), rotations.numpy(), np.asarray(contacts), frame_rate_hz)


def origin(batch: int, like: Tensor) -> RootState:
    """The state of a motion that begins at x = z = 0 and faces +Z."""
    return RootState(like.new_zeros(batch, 2), like.new_zeros(batch))


@dataclass(frozen=True)
class Normalizer:
    """Statistics of the training split. The deviation is one number for each named part, its mean over the part, so
    that quiet dimensions of a part are not blown up.
    """

    mean: NDArray[np.float32]
    std: NDArray[np.float32]

    @classmethod
    def of(cls, rows: NDArray[np.float32], skeleton: Skeleton = BODY_22) -> "Normalizer":
        """Statistics of feature rows, [F, D]."""
        # In float32 the sums of long splits would lose their last digits.
        std = rows.std(axis=0, dtype=np.float64)
        for part in feature_slices(skeleton).values():
            std[part] = max(float(std[part].mean()), 1e-4)
        return cls(rows.mean(axis=0, dtype=np.float64).astype(np.float32), std.astype(np.float32))

    def normalize(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        return (features - self.mean) / self.std


def _checked(joints_m: NDArray[np.float32]) -> Tensor:
    expected = (BODY_22.num_joints, 3)
    if joints_m.ndim != 3 or joints_m.shape[1:] != expected or len(joints_m) < 2:
        raise ValueError(f"features need at least 2 frames of joints [F, {expected[0]}, 3], got {joints_m.shape}")
    return torch.from_numpy(joints_m).double()


def _heading(joints: Tensor) -> Tensor:
    """Smoothed yaw of each frame, [F]: across hips and shoulders."""
    across = (joints[:, 1] - joints[:, 2]) + (joints[:, 16] - joints[:, 17])
    forward = _forward(-across)
    return torch.atan2(forward[:, 0], forward[:, 2])


def _to_heading(across: Tensor) -> Tensor:
    """Rotations that turn the smoothed forward direction to +Z; `across` points to the right, [F, 3] -> [F, 4]."""
    forward = _forward(across)
    return shortest_arc(normalize(forward), forward.new_tensor([0.0, 0.0, 1.0]))


def _forward(across: Tensor) -> Tensor:
    """Smoothed forward direction, not of unit length; `across` points to the right, [F, 3]."""
    forward = np.cross([0.0, 1.0, 0.0], normalize(across).numpy())
    return torch.from_numpy(gaussian_filter1d(forward, HEADING_SMOOTHING_FRAMES, axis=0, mode="nearest"))


def _rows(
    joints: Tensor, to_heading: Tensor, half_steps: Tensor, rotations: Tensor, contacts: Tensor
) -> NDArray[np.float32]:
    root_steps = joints[1:, 0] - joints[:-1, 0]
    local = rotate(to_heading[:, None], joints - joints[:, :1] * joints.new_tensor([1.0, 0.0, 1.0]))
    velocities = rotate(to_heading[:-1, None], joints[1:] - joints[:-1])
    rows = [
        half_steps[:, None],
        rotate(to_heading[1:], root_steps)[:, ::2],
        joints[:-1, 0, 1:2],
        local[:-1, 1:].flatten(1),
        rotations[:-1].flatten(1),
        velocities.flatten(1),
        contacts.double(),
    ]
    return torch.cat(rows, dim=1).float().numpy()
