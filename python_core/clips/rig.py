"""From the joints of any skeleton, in a file's units and axes, to those of the 22-joint body in our space.

Directions and proportions stay the file's; `features.canonical_joints` puts them on our bones. Where a file has no
joint of its own, and where one lies on its neighbour and so gives no direction:

    spine1, spine2, spine3   all three on the file's own line from pelvis to neck, at the shares of our body
    l_collar, r_collar       both between the shoulders, as far apart and as much below them as on our body

The unit is guessed from the legs, from hip to ankle along the bones: people's are between 0.55 and 1.2 m.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from python_core.clips.clip import ClipError
from python_core.clips.joint_names import Mapping, check_names
from python_core.contract.skeleton import BODY_22

UNITS_M = {"m": 1.0, "cm": 0.01, "mm": 0.001, "inch": 0.0254, "CMU's unit": 0.0254 / 0.45}
LEG_M = (0.55, 1.2)
"""Shortest and longest legs of people; a wider range would let two units fit."""

_ON_ITS_NEIGHBOUR = 0.01
"""Bones shorter than this share of a leg give no direction."""
_STANDS = 0.7
"""Cosine between the body and an axis, above which the body stands along it."""
_LEAP_M_S, _LEAP_RATIO = 3.0, 4.0
"""A first step in which joints are on average so fast, and so much faster than in the second, is no movement."""
_LEG_BONES = (("hip", "knee"), ("knee", "ankle"))
_SPINE = ("pelvis", "spine1", "spine2", "spine3", "neck")
_BELOW = {
    "knee": "hip",
    "ankle": "knee",
    "foot": "ankle",
    "elbow": "shoulder",
    "wrist": "elbow",
}


@dataclass(frozen=True)
class RigJoints:
    """Where in a file's skeleton the body is: indices into its joints."""

    mapped: dict[str, int]
    """Our name -> the file's joint."""
    spine: tuple[int, ...]
    """The file's joints from the pelvis to the neck, both included."""

    @property
    def needed(self) -> list[int]:
        return sorted({*self.mapped.values(), *self.spine})


def find_joints(names: Sequence[str], parents: Sequence[int], mapping: Mapping) -> RigJoints:
    """Look up the joints of a mapping.

    Raises:
        ClipError: Joints are missing, or hang in the skeleton where they cannot be, such as a knee below no hip.
    """
    check_names(mapping, names)
    mapped = {ours: names.index(theirs) for ours, theirs in mapping.joints.items()}
    above = {ours: _ancestors(joint, parents) for ours, joint in mapped.items()}
    for ours in mapped:
        side, _, part = ours.rpartition("_")
        upper = f"{side}_{_BELOW[part]}" if part in _BELOW else "neck" if ours == "head" else "pelvis"
        if ours != "pelvis" and mapped[upper] not in above[ours]:
            raise ClipError(
                f"{ours} = {mapping.joints[ours]!r} is not below {upper} = {mapping.joints[upper]!r} in the skeleton; "
                "name the right joints in a mapping file"
            )
    path = [mapped["neck"], *above["neck"]]
    return RigJoints(mapped, tuple(reversed(path[: path.index(mapped["pelvis"]) + 1])))


def body_joints(
    found: RigJoints, positions: NDArray[np.float64], rest: NDArray[np.float64], mapping: Mapping
) -> NDArray[np.float32]:
    """Joints of the 22-joint body in our space and metres, [F, J, 3].

    Args:
        found: Where the body is.
        positions: The `needed` joints, in their order, in the file's unit and axes, [F, N, 3].
        rest: All joints of the file with every rotation at 0, [M, 3].
        mapping: Unit and axis, where they are given.

    Raises:
        ClipError: The unit or the upward axis is unclear, or left and right are exchanged.
    """
    column = {joint: number for number, joint in enumerate(found.needed)}
    joints = {ours: positions[:, column[joint]] for ours, joint in found.mapped.items()}
    leg = _leg_length(joints)
    scale = mapping.scale or _guessed_scale(leg)
    up = mapping.up or _upward_axis(joints, {ours: rest[None, joint] for ours, joint in found.mapped.items()})
    _check_sides(joints)
    nearest = _ON_ITS_NEIGHBOUR * leg
    if not _apart([joints.get(name) for name in _SPINE], nearest):
        joints |= _placed_spine(positions[:, [column[joint] for joint in found.spine]], nearest)
    if not _apart([joints.get("l_collar"), joints.get("r_collar")], nearest):
        joints |= _placed_collars(joints)
    body = np.stack([joints[name] for name in BODY_22.joint_names], axis=1) * scale
    if up == "z":
        body = np.stack([body[..., 0], body[..., 2], -body[..., 1]], axis=-1)
    return body.astype(np.float32)


def first_frame_is_apart(joints_m: NDArray[np.float32], frame_rate_hz: float) -> bool:
    """Whether the first frame is a pose that was put before the motion, as the T-pose in CMU's BVH files, [F, J, 3]."""
    if len(joints_m) < 4:
        return False
    first, second = np.linalg.norm(np.diff(joints_m[:3], axis=0), axis=-1).mean(axis=-1) * frame_rate_hz
    return bool(first > _LEAP_M_S and first > _LEAP_RATIO * second)


def _ancestors(joint: int, parents: Sequence[int]) -> list[int]:
    found = []
    while (joint := parents[joint]) >= 0:
        found.append(joint)
    return found


def _leg_length(joints: dict[str, NDArray[np.float64]]) -> float:
    """Mean length of the two legs along their bones, in the file's unit."""
    bones = [(joints[f"{side}_{a}"] - joints[f"{side}_{b}"])[0] for side in "lr" for a, b in _LEG_BONES]
    return float(np.linalg.norm(bones, axis=-1).sum() / 2)


def _guessed_scale(leg: float) -> float:
    for metres in UNITS_M.values():
        if LEG_M[0] <= leg * metres <= LEG_M[1]:
            return metres
    raise ClipError(
        f"the legs are {leg:.4g} units long from hip to ankle, which is {LEG_M[0]} to {LEG_M[1]} m in none of "
        f"{', '.join(UNITS_M)}; set scale, the metres of one unit, in a mapping file"
    )


def _upward_axis(joints: dict[str, NDArray[np.float64]], rest: dict[str, NDArray[np.float64]]) -> str:
    """The axis along which the body stands, in motion or in the file's rest pose."""
    in_motion, at_rest = _standing_axis(joints), _standing_axis(rest)
    if in_motion and at_rest and in_motion != at_rest:
        raise ClipError(
            f"the body stands along {at_rest} in the rest pose and along {in_motion} in motion; set up, the upward "
            "axis, in a mapping file"
        )
    if axis := in_motion or at_rest:
        return axis
    raise ClipError("the body stands along neither y nor z; set up, the upward axis, in a mapping file")


def _standing_axis(joints: dict[str, NDArray[np.float64]]) -> str:
    ankles = (joints["l_ankle"] + joints["r_ankle"]) / 2
    _, y, z = _unit(joints["head"] - ankles).mean(axis=0)
    if max(y, z) <= _STANDS:
        return ""
    return "y" if y > z else "z"


def _check_sides(joints: dict[str, NDArray[np.float64]]) -> None:
    """Toes point to the front of the shins, with left on the left; mirrored files and exchanged mappings do not pass.

    Ankles bend so little that this holds in every pose.
    """
    left = _unit(joints["l_hip"] - joints["r_hip"])
    toes = np.stack([_unit(joints[f"{side}_foot"] - joints[f"{side}_ankle"]) for side in "lr"])
    fronts = np.stack([_unit(np.cross(left, joints[f"{side}_knee"] - joints[f"{side}_ankle"])) for side in "lr"])
    if (toes * fronts).sum(-1).mean() < 0:
        raise ClipError(
            "the toes point backwards; are left and right exchanged in the mapping, or is it a mirror image?"
        )
    if (_unit(joints["l_shoulder"] - joints["r_shoulder"]) * left).sum(-1).mean() < 0:
        raise ClipError("the left arm is on the right; are left and right of arms or legs exchanged in the mapping?")


def _apart(line: list[NDArray[np.float64] | None], nearest: float) -> bool:
    """Whether all joints are there, each away from the one before it."""
    firsts = [joint[0] for joint in line if joint is not None]
    return len(firsts) == len(line) and bool((np.linalg.norm(np.diff(firsts, axis=0), axis=-1) > nearest).all())


def _placed_spine(line: NDArray[np.float64], nearest: float) -> dict[str, NDArray[np.float64]]:
    """Spine joints on a line of joints from pelvis to neck, [F, N, 3]."""
    bones_m = [np.linalg.norm(BODY_22.offsets_m[BODY_22.joint(name)]) for name in _SPINE[1:]]
    shares = np.cumsum(bones_m)[:-1] / np.sum(bones_m)
    ends = np.concatenate([[0.0], np.linalg.norm(np.diff(line[0], axis=0), axis=-1).cumsum()])
    if ends[-1] <= nearest:
        raise ClipError("pelvis and neck are in one place; name the right joints in a mapping file")
    placed = {}
    for name, along in zip(_SPINE[1:-1], shares * ends[-1], strict=True):
        bone = int(np.searchsorted(ends, along))
        part = (along - ends[bone - 1]) / (ends[bone] - ends[bone - 1])
        placed[name] = line[:, bone - 1] + part * (line[:, bone] - line[:, bone - 1])
    return placed


def _placed_collars(joints: dict[str, NDArray[np.float64]]) -> dict[str, NDArray[np.float64]]:
    rest_m = {name: BODY_22.rest_joints_m[BODY_22.joint(name)] for name in BODY_22.joint_names}
    inward = float(rest_m["l_collar"][0] / rest_m["l_shoulder"][0])
    drop_m, chest_m = rest_m["l_shoulder"][1] - rest_m["l_collar"][1], rest_m["neck"][1] - rest_m["spine3"][1]
    down = float(drop_m / chest_m) * (joints["spine3"] - joints["neck"])
    middle = (joints["l_shoulder"] + joints["r_shoulder"]) / 2
    return {f"{side}_collar": middle + inward * (joints[f"{side}_shoulder"] - middle) + down for side in "lr"}


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Vectors of length 1; a zero vector stays zero."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1.0)
