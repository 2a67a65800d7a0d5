"""Measures of one motion, used by rewards, by the bridge's reports and by tests. Nothing here changes a motion."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from python_core.contract.motion import Motion

CONTACT_HEIGHT_M = 0.05
"""A foot joint this far above its height in the T-pose has left the floor."""
SLIDE_SPEED_M_S = 0.5
"""A foot on the floor that is faster slides: 2.5 cm a frame at 20 Hz.

Source: Karunratanakul et al. 2023, Guided Motion Diffusion.
"""


@dataclass(frozen=True, kw_only=True)
class QualityReport:
    """The measures that go with every motion."""

    foot_skate_m_s: float
    foot_skate_ratio: float
    penetration_m: float
    jerk_m_s3: float
    loop_gap_m: float


def measure_quality(motion: Motion) -> QualityReport:
    """Measure a motion. What needs more frames than there are is 0: speed needs 2, jerk needs 4."""
    joints_m = motion.joint_positions_m().astype(np.float64)
    skeleton, rate = motion.skeleton, motion.frame_rate_hz
    feet_m = joints_m[:, skeleton.foot_joints] - [0, 1, 0] * skeleton.rest_joints_m[skeleton.foot_joints, :]
    moves = motion.num_frames > 1
    return QualityReport(
        foot_skate_m_s=foot_skate(feet_m, rate) if moves else 0.0,
        foot_skate_ratio=foot_skate_ratio(feet_m, rate) if moves else 0.0,
        penetration_m=max(0.0, -float(joints_m[..., 1].min())),
        jerk_m_s3=jerk(joints_m, rate) if motion.num_frames > 3 else 0.0,
        loop_gap_m=loop_gap(joints_m, motion),
    )


def foot_skate(feet_m: NDArray[np.float64], frame_rate_hz: float) -> float:
    """Measure how fast the feet slide while they are near the ground.

    On the ground a foot counts with its whole horizontal speed, at CONTACT_HEIGHT_M not at all. Without a threshold to
    jump at, it can serve as a reward.

    Args:
        feet_m: Foot joints above their rest height, [F, J, 3].
        frame_rate_hz: Frames a second.

    Returns:
        Metres a second, averaged over frames and feet. Feet that stand still give 0.

    Raises:
        ValueError: A single frame has no speed.

    Source: Zhang et al. 2018, Mode-Adaptive Neural Networks for Quadruped Motion Control.
    """
    speeds_m_s = _horizontal_speeds(feet_m, frame_rate_hz)
    heights_m = feet_m[:-1, :, 1].clip(0, CONTACT_HEIGHT_M)
    weights = 2 - 2 ** (heights_m / CONTACT_HEIGHT_M)
    return float((speeds_m_s * weights).mean())


def foot_skate_ratio(feet_m: NDArray[np.float64], frame_rate_hz: float) -> float:
    """Share of frames, 0 to 1, in which a foot joint is below CONTACT_HEIGHT_M before and after and slides.

    Args:
        feet_m: Foot joints above their rest height, [F, J, 3].
        frame_rate_hz: Frames a second.

    Raises:
        ValueError: A single frame has no speed.
    """
    near = feet_m[..., 1] < CONTACT_HEIGHT_M
    slides = (_horizontal_speeds(feet_m, frame_rate_hz) > SLIDE_SPEED_M_S) & near[:-1] & near[1:]
    return float(slides.any(axis=1).mean())


def jerk(joints_m: NDArray[np.float64], frame_rate_hz: float) -> float:
    """Mean size of the third derivative of joint positions, [F, J, 3], in metres a second cubed.

    Raises:
        ValueError: Fewer than 4 frames have no third derivative.
    """
    if len(joints_m) < 4:
        raise ValueError(f"jerk needs at least 4 frames, got {len(joints_m)}")
    return float(np.linalg.norm(np.diff(joints_m, n=3, axis=0), axis=-1).mean() * frame_rate_hz**3)


def loop_gap(joints_m: NDArray[np.float64], motion: Motion) -> float:
    """Mean distance of joints between the first and the last frame, the root's place and facing taken out, metres."""
    poses = []
    for frame in (0, -1):
        pose = joints_m[frame] - joints_m[frame, 0] * [1, 0, 1]
        yaw = facing(motion.joint_rotations[frame, 0])
        x, z = pose[:, 0], pose[:, 2]
        poses.append(
            np.stack([x * np.cos(yaw) - z * np.sin(yaw), pose[:, 1], x * np.sin(yaw) + z * np.cos(yaw)], axis=-1)
        )
    return float(np.linalg.norm(poses[1] - poses[0], axis=-1).mean())


def facing(root_rotation: NDArray[np.float32]) -> float:
    """Yaw of a root rotation, [4]: the angle from +Z towards +X of where it turns +Z, radians."""
    x, y, z, w = (float(value) for value in root_rotation)
    return float(np.arctan2(2 * (x * z + w * y), 1 - 2 * (x * x + y * y)))


def _horizontal_speeds(feet_m: NDArray[np.float64], frame_rate_hz: float) -> NDArray[np.float64]:
    if len(feet_m) < 2:
        raise ValueError(f"foot skate needs at least 2 frames, got {len(feet_m)}")
    return np.linalg.norm(np.diff(feet_m[:, :, [0, 2]], axis=0), axis=-1) * frame_rate_hz
