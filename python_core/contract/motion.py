"""A motion: where the root is and how each joint is turned, frame by frame."""

import zlib
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from python_core.contract.skeleton import BODY_22, Skeleton

UNIT_TOLERANCE = 1e-3
CONTACT_THRESHOLD = 0.5
"""A foot is on the ground where the model's contact is above this."""


@dataclass(frozen=True, eq=False)
class Motion:
    """Poses at a frame rate. Rotations are unit quaternions x, y, z, w, local to the parent joint.

    Raises:
        ValueError: Shapes that do not fit each other or the skeleton, numbers that are not finite, quaternions that
            are not of unit length, a frame rate that is not positive and finite.
    """

    root_positions_m: NDArray[np.float32]
    """[F, 3]"""
    joint_rotations: NDArray[np.float32]
    """[F, J, 4]"""
    contacts: NDArray[np.bool_]
    """Which of the skeleton's `foot_joints` are on the ground, [F, 4]."""
    frame_rate_hz: float
    skeleton: Skeleton = BODY_22

    def __post_init__(self) -> None:
        num_frames = len(self.root_positions_m)
        expected = {
            "root_positions_m": (num_frames, 3),
            "joint_rotations": (num_frames, self.skeleton.num_joints, 4),
            "contacts": (num_frames, len(self.skeleton.foot_joints)),
        }
        for field, shape in expected.items():
            if getattr(self, field).shape != shape:
                raise ValueError(f"motion: {field} must be {shape}, got {getattr(self, field).shape}")
        if num_frames == 0:
            raise ValueError("motion: no frames; a motion has at least one")
        if not 0 < self.frame_rate_hz < np.inf:
            raise ValueError(f"motion: frame_rate_hz must be positive and finite, got {self.frame_rate_hz}")
        if not (np.isfinite(self.root_positions_m).all() and np.isfinite(self.joint_rotations).all()):
            raise ValueError("motion: root_positions_m or joint_rotations hold numbers that are not finite")
        error = np.abs(np.linalg.norm(self.joint_rotations, axis=-1) - 1).max()
        if error > UNIT_TOLERANCE:
            raise ValueError(f"motion: joint_rotations must be unit quaternions, one is off by {error:.2g}")

    @property
    def num_frames(self) -> int:
        return len(self.root_positions_m)

    @property
    def duration_s(self) -> float:
        return self.num_frames / self.frame_rate_hz

    def joint_positions_m(self) -> NDArray[np.float32]:
        """Forward kinematics: where the joints are in the world, [F, J, 3]."""
        offsets = self.skeleton.offsets_m.astype(np.float64)
        local = self.joint_rotations.astype(np.float64)
        positions = np.empty((self.num_frames, self.skeleton.num_joints, 3))
        turned = np.empty_like(local)
        positions[:, 0], turned[:, 0] = self.root_positions_m, local[:, 0]
        for joint, parent in enumerate(self.skeleton.parents[1:], start=1):
            positions[:, joint] = positions[:, parent] + rotate(turned[:, parent], offsets[joint])
            turned[:, joint] = multiply(turned[:, parent], local[:, joint])
        return positions.astype(np.float32)


def multiply(left: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.float64]:
    """Quaternion product: the rotation `right`, then `left`, [..., 4]."""
    (x1, y1, z1, w1), (x2, y2, z2, w2) = np.moveaxis(left, -1, 0), np.moveaxis(right, -1, 0)
    return np.stack(
        [
            w1 * x2 + x1 * w2 + y1 * z2 - z1 * y2,
            w1 * y2 - x1 * z2 + y1 * w2 + z1 * x2,
            w1 * z2 + x1 * y2 - y1 * x2 + z1 * w2,
            w1 * w2 - x1 * x2 - y1 * y2 - z1 * z2,
        ],
        axis=-1,
    )


def rotate(rotations: NDArray[np.float64], vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turn vectors, [..., 3], by unit quaternions, [..., 4]."""
    axis, w = rotations[..., :3], rotations[..., 3:]
    turn = 2 * np.cross(axis, vectors)
    return vectors + w * turn + np.cross(axis, turn)


def write_motion(path: Path, motion: Motion, codes: NDArray[np.int64] | None = None) -> None:
    """Write an `.npz` with root_positions_m, joint_rotations, contacts, frame_rate_hz, joint_names, parents,
    rest_offsets_m and, if given, the codes that the motion was decoded from.
    """
    skeleton = motion.skeleton
    fields = {
        "root_positions_m": motion.root_positions_m,
        "joint_rotations": motion.joint_rotations,
        "contacts": motion.contacts,
        "frame_rate_hz": np.float64(motion.frame_rate_hz),
        "joint_names": np.array(skeleton.joint_names),
        "parents": np.array(skeleton.parents),
        "rest_offsets_m": skeleton.offsets_m,
    }
    if codes is not None:
        fields["codes"] = codes
    with path.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **fields)


def read_motion(path: Path) -> Motion:
    """Read what `write_motion` wrote.

    Raises:
        ValueError: Not an `.npz`, damaged, a field is missing, or the joints or bones are not those of the 22-joint
            body.
    """
    try:
        # Opened here, because numpy leaves a file that is no archive open.
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ValueError("a single array")
            fields = dict(archive)
    except (ValueError, EOFError, BadZipFile, zlib.error) as error:
        raise ValueError(f"{path}: not an .npz file ({error})") from error
    needed = {"root_positions_m", "joint_rotations", "contacts", "frame_rate_hz", "joint_names", "rest_offsets_m"}
    if missing := sorted(needed - set(fields)):
        raise ValueError(f"{path}: not a motion, it lacks {', '.join(missing)}")
    names = tuple(fields["joint_names"].tolist())
    if names != BODY_22.joint_names:
        raise ValueError(f"{path}: joints {names} are not those of {BODY_22.name}, {BODY_22.joint_names}")
    if not np.array_equal(fields["rest_offsets_m"], BODY_22.offsets_m):
        raise ValueError(f"{path}: rest_offsets_m are not those of {BODY_22.name}; retarget the motion to it")
    try:
        return Motion(
            root_positions_m=fields["root_positions_m"].astype(np.float32),
            joint_rotations=fields["joint_rotations"].astype(np.float32),
            contacts=fields["contacts"].astype(np.bool_),
            frame_rate_hz=float(fields["frame_rate_hz"]),
        )
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error
