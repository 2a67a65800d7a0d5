"""BVH files that tests write."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from python_core.clips.bvh import BvhFolder
from python_core.clips.clip import Caption, Clip
from python_core.contract.motion import Motion, multiply, rotate
from python_core.contract.skeleton import BODY_22

LINE = "a man walks#a/DET man/NOUN walk/VERB#0.0#0.0\n"
CAPTION = Caption("a man walks", tagged="a/DET man/NOUN walk/VERB")
POSITIONS = ("Xposition", "Yposition", "Zposition")
ORDERS = ("XYZ", "XZY", "YXZ", "YZX", "ZXY", "ZYX")
NAMES = (
    "Hips LeftUpLeg RightUpLeg Spine LeftLeg RightLeg Spine1 LeftFoot RightFoot Spine2 LeftToeBase RightToeBase Neck "
    "LeftShoulder RightShoulder Head LeftArm RightArm LeftForeArm RightForeArm LeftHand RightHand"
)
MIXAMO = tuple(NAMES.split())


@dataclass(frozen=True)
class Joint:
    """A joint of a file that a test writes."""

    name: str
    parent: int
    offset: tuple[float, float, float]
    channels: tuple[str, ...] = ("Zrotation", "Xrotation", "Yrotation")


def bvh_text(joints: list[Joint], rows: NDArray[np.float64], frame_time: str = "0.05") -> str:
    """The text of a file; leaves get an End Site of 0.1 along Z."""

    def lines_of(joint: int) -> list[str]:
        this = joints[joint]
        children = [child for child, other in enumerate(joints) if other.parent == joint]
        below = [line for child in children for line in lines_of(child)] or ["End Site", "{", "OFFSET 0 0 0.1", "}"]
        return [
            f"{'JOINT' if joint else 'ROOT'} {this.name}",
            "{",
            "OFFSET " + " ".join(f"{number:.7f}" for number in this.offset),
            f"CHANNELS {len(this.channels)} {' '.join(this.channels)}",
            *below,
            "}",
        ]

    order = depth_first(joints)
    starts = np.cumsum([0, *(len(joint.channels) for joint in joints)])
    columns = [column for joint in order for column in range(starts[joint], starts[joint + 1])]
    numbers = [" ".join(f"{number:.7f}" for number in row[columns]) for row in rows]
    head = ["MOTION", f"Frames: {len(rows)}", f"Frame Time: {frame_time}"]
    return "\n".join(["HIERARCHY", *lines_of(0), *head, *numbers]) + "\n"


def depth_first(joints: list[Joint], start: int = 0) -> list[int]:
    below = [depth_first(joints, child) for child, other in enumerate(joints) if other.parent == start]
    return [start, *(joint for branch in below for joint in branch)]


def motion_text(
    motion: Motion,
    names: tuple[str, ...] = MIXAMO,
    order: str = "ZXY",
    unit_m: float = 1.0,
    up: str = "y",
    rest: tuple[float, ...] = (0.0, 0.0, 0.0, 1.0),
) -> str:
    """A motion of our body as a file with other names, angles, unit and axes, and another pose where angles are 0."""
    offsets, local = BODY_22.offsets_m.astype(np.float64), motion.joint_rotations.astype(np.float64)
    root_m = motion.root_positions_m.astype(np.float64)
    if up == "z":
        offsets, root_m = ((array * [1, 1, -1])[:, [0, 2, 1]] for array in (offsets, root_m))
        local = (local * [1, 1, -1, 1])[..., [0, 2, 1, 3]]
    turn = np.array(rest)
    back = turn * [-1, -1, -1, 1]
    offsets = rotate(np.tile(back, (22, 1)), offsets)
    local = multiply(np.broadcast_to(back, local.shape), multiply(local, np.broadcast_to(turn, local.shape)))
    local[:, 0] = multiply(np.broadcast_to(turn, local[:, 0].shape), local[:, 0])
    angles = Rotation.from_quat(local.reshape(-1, 4)).as_euler(order, degrees=True).reshape(motion.num_frames, -1)
    rotations = tuple(f"{axis}rotation" for axis in order)
    joints = [
        Joint(name, parent, tuple(offset / unit_m), rotations if joint else POSITIONS + rotations)
        for joint, (name, parent, offset) in enumerate(zip(names, BODY_22.parents, offsets, strict=True))
    ]
    return bvh_text(joints, np.concatenate([root_m / unit_m, angles], axis=1), f"{1 / motion.frame_rate_hz:.8f}")


def made_folder(folder: Path, text: str, name: str = "a") -> Path:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.bvh").write_text(text, encoding="utf-8")
    (folder / f"{name}.txt").write_text(LINE)
    return folder


def read_one(folder: Path, text: str, mapping: str | None = None) -> Clip:
    path = None
    if mapping is not None:
        path = folder / "mapping.toml"
        path.write_text(mapping)
    return BvhFolder(made_folder(folder, text), path).read("a")[0]


# CMU's skeleton with straight legs and spine. Its hip, back and collar joints lie on the joints above them.
CMU = [
    Joint("Hips", -1, (0, 0, 0), (*POSITIONS, "Zrotation", "Yrotation", "Xrotation")),
    Joint("LHipJoint", 0, (0, 0, 0)),
    Joint("LeftUpLeg", 1, (1.5, -1.8, 0)),
    Joint("LeftLeg", 2, (0, -7.2, 0)),
    Joint("LeftFoot", 3, (0, -7.4, 0)),
    Joint("LeftToeBase", 4, (0, -0.6, 2.0)),
    Joint("RHipJoint", 0, (0, 0, 0)),
    Joint("RightUpLeg", 6, (-1.5, -1.8, 0)),
    Joint("RightLeg", 7, (0, -7.2, 0)),
    Joint("RightFoot", 8, (0, -7.4, 0)),
    Joint("RightToeBase", 9, (0, -0.6, 2.0)),
    Joint("LowerBack", 0, (0, 0, 0)),
    Joint("Spine", 11, (0, 2.0, 0)),
    Joint("Spine1", 12, (0, 2.0, 0)),
    Joint("Neck", 13, (0, 0, 0)),
    Joint("Neck1", 14, (0, 1.8, 0)),
    Joint("Head", 15, (0, 1.7, 0.3)),
    Joint("LeftShoulder", 13, (0, 0, 0)),
    Joint("LeftArm", 17, (3.4, 1.2, 0)),
    Joint("LeftForeArm", 18, (5.0, 0, 0)),
    Joint("LeftHand", 19, (3.4, 0, 0)),
    Joint("RightShoulder", 13, (0, 0, 0)),
    Joint("RightArm", 21, (-3.4, 1.2, 0)),
    Joint("RightForeArm", 22, (-5.0, 0, 0)),
    Joint("RightHand", 23, (-3.4, 0, 0)),
]
CMU_ROWS = np.tile([0.0, 17.0, 0.0, *[0.0] * 75], (5, 1))
CMU_UNIT_M = 0.0254 / 0.45


def random_rows(joints: list[Joint], num_frames: int, largest_angle: float, seed: int) -> NDArray[np.float64]:
    random = np.random.default_rng(seed)
    scales = [largest_angle if name.endswith("rotation") else 2.0 for joint in joints for name in joint.channels]
    return random.uniform(-1, 1, (num_frames, len(scales))) * scales
