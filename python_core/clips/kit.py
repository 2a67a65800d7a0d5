"""Reads KIT-ML in the folder layout of HumanML3D.

    new_joints/ID.npy        [F, 21, 3] joint positions, 12.5 frames a second, or
    new_joint_vecs/ID.npy    [F - 1, 251] features
    texts/, train.txt, ...   as in HumanML3D

Units: none are documented, millimetres of a model body. All clips are on one skeleton, so the scale is what makes its
legs, hip to ankle, as long as ours.

Joints become ours so: pelvis, hips, knees, ankles, shoulders, elbows and wrists are the same joints; a foot is the end
of the toes, `r_toe`; the chain pelvis, waist, chest, neck, head is pelvis, spine1, spine3, neck, head, with spine2 on
the line from waist to chest; a collar is where it is on our body as seen from the neck, turned with the chest.

Sides: joints 5 to 7 and 11 to 15 are the right side, -X, as the forward direction of the published features has it,
although the reference directions of the same scripts put 5 and 11 on +X, and some tools name them left. A clip whose
toes point behind its hips is of another handedness and is refused.

Source: Plappert et al. 2016, The KIT Motion-Language Dataset; Guo et al. 2022, whose scripts made this layout.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from python_core.clips.arrays import read_npy, to_float32
from python_core.clips.clip import Clip, ClipError, naming
from python_core.clips.humanml3d import find_licence, read_captions, read_split
from python_core.contract.skeleton import BODY_22, Skeleton
from python_core.features import features_to_joints, num_features, origin
from python_core.rotations import frame

FRAME_RATE_HZ = 12.5
LICENCE = "KIT Motion-Language dataset: research only"

_SHORTEST_LEG, _LONGEST_LEG = 0.01, 1e6


KIT_21 = Skeleton(
    name="kit21",
    joint_names=(
        "pelvis", "waist", "chest", "neck", "head", "r_shoulder", "r_elbow", "r_wrist", "l_shoulder", "l_elbow",
        "l_wrist", "r_hip", "r_knee", "r_ankle", "r_foot", "r_toe", "l_hip", "l_knee", "l_ankle", "l_foot", "l_toe",
    ),
    parents=(-1, 0, 1, 2, 3, 3, 5, 6, 3, 8, 9, 0, 11, 12, 13, 14, 0, 16, 17, 18, 19),
    # Lengths of our own body: the published reference clip is not ours to ship.
    rest_offsets_m=(
        (0.0, 0.0, 0.0),
        (0.0, 0.1235, -0.0455),
        (0.0, 0.1978, 0.0305),
        (0.0, 0.2171, -0.0317),
        (0.0, 0.0880, 0.0535),
        (-0.1976, -0.0681, -0.0062),
        (-0.2600, 0.0, 0.0),
        (-0.2680, 0.0, 0.0),
        (0.1976, -0.0681, -0.0062),
        (0.2600, 0.0, 0.0),
        (0.2680, 0.0, 0.0),
        (-0.0640, -0.0850, -0.0060),
        (0.0, -0.3919, 0.0),
        (0.0, -0.4290, 0.0),
        (0.0, -0.0230, 0.0695),
        (0.0, -0.0230, 0.0695),
        (0.0640, -0.0850, -0.0060),
        (0.0, -0.3919, 0.0),
        (0.0, -0.4290, 0.0),
        (0.0, -0.0230, 0.0695),
        (0.0, -0.0230, 0.0695),
    ),
    # Contacts are those of foot and toes.
    foot_joints=(19, 20, 14, 15),
    mirror_joints=(0, 1, 2, 3, 4, 8, 9, 10, 5, 6, 7, 16, 17, 18, 19, 20, 11, 12, 13, 14, 15),
)  # fmt: skip

_SAME = {
    "pelvis": "pelvis", "spine1": "waist", "spine3": "chest", "neck": "neck", "head": "head",
    "l_hip": "l_hip", "l_knee": "l_knee", "l_ankle": "l_ankle", "l_foot": "l_toe",
    "r_hip": "r_hip", "r_knee": "r_knee", "r_ankle": "r_ankle", "r_foot": "r_toe",
    "l_shoulder": "l_shoulder", "l_elbow": "l_elbow", "l_wrist": "l_wrist",
    "r_shoulder": "r_shoulder", "r_elbow": "r_elbow", "r_wrist": "r_wrist",
}  # fmt: skip
"""Ours, theirs."""


@dataclass(frozen=True)
class KitFolder:
    """Reader of the layout above; a name is an id."""

    folder: Path

    def names(self, split: str) -> list[str]:
        return read_split(self.folder, split)

    def read(self, name: str) -> list[Clip]:
        joints = _read_joints(self.folder, name)
        try:
            joints_m = to_body_22(joints)
        except ClipError as error:
            raise ClipError(f"{self.folder}: clip {name}: {error}") from error
        captions = read_captions(self.folder / "texts" / f"{name}.txt")
        source, licence = find_licence(self.folder, name.removeprefix("M")) or ("kit", LICENCE)
        with naming(self.folder):
            return [Clip(name, joints_m, captions, source, licence, FRAME_RATE_HZ, mirrored=name.startswith("M"))]


def to_body_22(joints: NDArray[np.floating]) -> NDArray[np.float32]:
    """Joints of the KIT skeleton in any unit, [F, 21, 3] -> joints of ours in metres, [F, 22, 3].

    Raises:
        ClipError: Not finite, no legs to measure, or toes that point behind the hips.
    """
    theirs = joints.astype(np.float64)
    if not np.isfinite(theirs).all():
        raise ClipError("joints that are not finite")
    theirs = theirs * (
        _leg_length(BODY_22.rest_joints_m[None].astype(np.float64), BODY_22) / _leg_length(theirs, KIT_21)
    )
    _check_sides(theirs)
    ours = np.empty((len(theirs), BODY_22.num_joints, 3))
    for joint, same in _SAME.items():
        ours[:, BODY_22.joint(joint)] = theirs[:, KIT_21.joint(same)]
    _add_spine2_and_collars(ours)
    return to_float32(ours)


def _read_joints(folder: Path, clip_id: str) -> NDArray[np.float32]:
    path = folder / "new_joints" / f"{clip_id}.npy"
    if path.is_file():
        joints = read_npy(path)
        if joints.ndim != 3 or joints.shape[1:] != (KIT_21.num_joints, 3) or len(joints) < 2:
            raise ClipError(f"{path}: expected [2 or more, {KIT_21.num_joints}, 3], got {list(joints.shape)}")
        return joints
    if (path := folder / "new_joint_vecs" / f"{clip_id}.npy").is_file():
        rows = read_npy(path)
        if rows.ndim != 2 or rows.shape[1] != num_features(KIT_21) or len(rows) < 2:
            raise ClipError(f"{path}: expected [2 or more, {num_features(KIT_21)}], got {list(rows.shape)}")
        features = torch.from_numpy(rows)[None]
        return features_to_joints(features, origin(1, features), KIT_21)[0][0].numpy()
    raise ClipError(f"{folder}: neither new_joints/{clip_id}.npy nor new_joint_vecs/{clip_id}.npy")


def _leg_length(joints: NDArray[np.float64], skeleton: Skeleton) -> float:
    """Thigh and shin, both sides and all frames; the middle one, so that a few wild frames do not count."""
    lengths = []
    for side in ("l", "r"):
        hip, knee, ankle = (joints[:, skeleton.joint(f"{side}_{name}")] for name in ("hip", "knee", "ankle"))
        lengths.append(np.linalg.norm(knee - hip, axis=-1) + np.linalg.norm(ankle - knee, axis=-1))
    length = float(np.median(lengths))
    if not _SHORTEST_LEG < length < _LONGEST_LEG:
        raise ClipError(f"legs {length:.3g} units long; is it a clip of a person?")
    return length


def _check_sides(joints: NDArray[np.float64]) -> None:
    def along(start: str, end: str) -> NDArray[np.float64]:
        return joints[:, KIT_21.joint(end)] - joints[:, KIT_21.joint(start)]

    to_right = along("l_hip", "r_hip") + along("l_shoulder", "r_shoulder")
    forward = np.cross(along("pelvis", "neck"), to_right)
    toes = along("l_ankle", "l_toe") + along("r_ankle", "r_toe")
    if np.mean((forward * toes).sum(axis=-1) > 0) <= 0.5:
        raise ClipError(
            "toes that point behind the hips: joints 5 to 7 and 11 to 15 must be the right side, 8 to 10 and 16 to 20 "
            "the left"
        )


def _add_spine2_and_collars(joints_m: NDArray[np.float64]) -> None:
    """Put the joints that KIT has not where they are on our body, relative to those around them."""
    rest_m = BODY_22.rest_joints_m[None].astype(np.float64)
    spine1, spine2, spine3, neck = (BODY_22.joint(name) for name in ("spine1", "spine2", "spine3", "neck"))
    way_m = rest_m[0, spine3] - rest_m[0, spine1]
    share = (rest_m[0, spine2] - rest_m[0, spine1]) @ way_m / (way_m @ way_m)
    joints_m[:, spine2] = joints_m[:, spine1] + share * (joints_m[:, spine3] - joints_m[:, spine1])
    turned = _chest_frame(joints_m) @ _chest_frame(rest_m).transpose(0, 2, 1)
    for collar in (BODY_22.joint("l_collar"), BODY_22.joint("r_collar")):
        joints_m[:, collar] = joints_m[:, neck] + turned @ (rest_m[0, collar] - rest_m[0, neck])


def _chest_frame(joints_m: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rotation of the chest as shoulders and neck show it, [F, 3, 3]."""
    across, up = (
        joints_m[:, BODY_22.joint(end)] - joints_m[:, BODY_22.joint(start)]
        for start, end in (("r_shoulder", "l_shoulder"), ("spine3", "neck"))
    )
    return frame(torch.from_numpy(across), torch.from_numpy(up)).numpy()
