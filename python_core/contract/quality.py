"""Measures of one motion, used by rewards, by the bridge's reports and by tests. Nothing here changes a motion.

Heights of feet are above their height in the T-pose, where the ankle is above the floor. Measures of speed, jerk and
limits of a verdict are for 20 frames a second: faster frames show more of the same movement.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from python_core.contract.motion import Motion
from python_core.contract.quality_thresholds import THRESHOLDS, Verdict
from python_core.contract.skeleton import BODY_22, Skeleton

CONTACT_HEIGHT_M = 0.05
"""A foot joint this far above its height in the T-pose has left the floor."""
SLIDE_SPEED_M_S = 0.5
"""A foot on the floor that is faster slides: 2.5 cm a frame at 20 Hz.

Source: Karunratanakul et al. 2023, Guided Motion Diffusion.
"""
SLIDE_WINDOW_S = 0.25
"""A slide lasts: the mean speed over this long has to be above SLIDE_SPEED_M_S too. Source: as above, 5 frames."""
REST_HEIGHT_M = 0.15
"""A joint that is no foot and no higher than this carries the body: a knee, a hand, hips or a head on the floor. Joints
lie inside the body, those of the hips about 10 cm.
"""
STAND_HEIGHT_M = 0.25
"""Where all joints but the feet are at least this high, the feet alone carry the body."""
GRAVITY_M_S2 = 9.81


@dataclass(frozen=True, kw_only=True)
class QualityReport:
    """The measures that go with every motion; less is better in those that `THRESHOLDS` names."""

    foot_skate_m_s: float
    """`foot_skate`."""
    contact_foot_speed_m_s: float
    """`contact_foot_speed`."""
    foot_skate_ratio: float
    """`foot_skate_ratio`."""
    penetration_m: float
    """`penetration`."""
    float_m: float
    """`float_height`."""
    jerk_m_s3: float
    """`jerk`."""
    joint_speed_m_s: float
    """`joint_speed`."""
    bone_length_error_m: float
    """`bone_length_error`."""
    loop_gap_m: float
    """`loop_gap`."""
    root_speed_m_s: float
    """`root_speed`."""

    @property
    def weakest_measure(self) -> str:
        """Name of the measure that gives the score."""
        return min(THRESHOLDS, key=lambda name: THRESHOLDS[name].score(getattr(self, name)))

    @property
    def score(self) -> float:
        """One number, 1 for nothing wrong to 0: the least `Threshold.score` of all measures."""
        name = self.weakest_measure
        return THRESHOLDS[name].score(getattr(self, name))

    @property
    def verdict(self) -> Verdict:
        """Good, a score of 2/3 or more: every measure is within its good limit. Fair, 1/3 or more: every one is within
        its fair limit. Else poor.
        """
        values = {name: getattr(self, name) for name in THRESHOLDS}
        if all(value <= THRESHOLDS[name].good for name, value in values.items()):
            return Verdict.GOOD
        if all(value <= THRESHOLDS[name].fair for name, value in values.items()):
            return Verdict.FAIR
        return Verdict.POOR


def measure_quality(motion: Motion) -> QualityReport:
    """Measure a motion. What needs more frames than there are is 0: speed needs 2, flight 3, jerk 4."""
    return measure_joints(motion.joint_positions_m(), motion.contacts, motion.frame_rate_hz, motion.skeleton)


def measure_joints(
    joints_m: NDArray[np.float32],
    contacts: NDArray[np.bool_] | None,
    frame_rate_hz: float,
    skeleton: Skeleton = BODY_22,
) -> QualityReport:
    """Measure positions that have no rotations: of features, or of a clip.

    Args:
        joints_m: In our space, [F, J, 3].
        contacts: Which foot joints are on the ground, [F, 4]; None where that is not known, whose speed is then 0.
        frame_rate_hz: Frames a second.
        skeleton: Whose joints they are.

    Raises:
        ValueError: Shapes that do not fit each other or the skeleton, no frames, numbers that are not finite, a frame
            rate that is not positive and finite.
    """
    expected = (len(joints_m), skeleton.num_joints, 3)
    if joints_m.shape != expected or len(joints_m) == 0:
        raise ValueError(f"joints_m must be [F, {skeleton.num_joints}, 3] with a frame or more, got {joints_m.shape}")
    expected = (len(joints_m), len(skeleton.foot_joints))
    if contacts is not None and contacts.shape != expected:
        raise ValueError(f"contacts must be {expected}, one row for each frame of joints_m, got {contacts.shape}")
    if not 0 < frame_rate_hz < np.inf:
        raise ValueError(f"frame_rate_hz must be positive and finite, got {frame_rate_hz}")
    if not np.isfinite(joints_m).all():
        raise ValueError("joints_m holds numbers that are not finite; measure positions that are")
    exact_m = joints_m.astype(np.float64)
    num_frames = len(exact_m)
    feet_m = above_rest(exact_m, skeleton)
    stands = standing(exact_m, skeleton)
    toes = skeleton.foot_joints[1::2]
    moves = num_frames > 1
    return QualityReport(
        foot_skate_m_s=foot_skate(feet_m, frame_rate_hz, stands) if moves else 0.0,
        contact_foot_speed_m_s=(
            contact_foot_speed(feet_m, contacts, frame_rate_hz, stands) if moves and contacts is not None else 0.0
        ),
        foot_skate_ratio=foot_skate_ratio(exact_m[:, toes], frame_rate_hz, stands) if moves else 0.0,
        penetration_m=penetration(exact_m),
        float_m=float_height(exact_m, frame_rate_hz, skeleton) if num_frames > 2 else 0.0,
        jerk_m_s3=jerk(exact_m, frame_rate_hz) if num_frames > 3 else 0.0,
        joint_speed_m_s=joint_speed(exact_m, frame_rate_hz) if moves else 0.0,
        bone_length_error_m=bone_length_error(exact_m, skeleton),
        loop_gap_m=loop_gap(exact_m, skeleton),
        root_speed_m_s=root_speed(exact_m, frame_rate_hz) if moves else 0.0,
    )


def above_rest(joints_m: NDArray[np.float64], skeleton: Skeleton) -> NDArray[np.float64]:
    """The foot joints, each from its height in the T-pose, [F, J, 3] -> [F, 4, 3]."""
    return joints_m[:, skeleton.foot_joints] - [0, 1, 0] * skeleton.rest_joints_m[skeleton.foot_joints, :]


def standing(joints_m: NDArray[np.float64], skeleton: Skeleton) -> NDArray[np.float64]:
    """How far the feet alone carry the body, 0 to 1, [F, J, 3] -> [F].

    1 where every joint but the feet is above STAND_HEIGHT_M, 0 where one is at REST_HEIGHT_M or below: who sits, lies,
    kneels or crawls on the floor may drag the feet.
    """
    others = [joint for joint in range(skeleton.num_joints) if joint not in skeleton.foot_joints]
    lowest_m = joints_m[:, others, 1].min(axis=1)
    return ((lowest_m - REST_HEIGHT_M) / (STAND_HEIGHT_M - REST_HEIGHT_M)).clip(0, 1)


def foot_skate(feet_m: NDArray[np.float64], frame_rate_hz: float, stands: NDArray[np.float64] | None = None) -> float:
    """Measure how fast the feet slide while they are near the ground.

    On the ground a foot counts with its whole horizontal speed, at CONTACT_HEIGHT_M not at all. Without a threshold to
    jump at, it can serve as a reward.

    Args:
        feet_m: Foot joints above their rest height, [F, J, 3].
        frame_rate_hz: Frames a second.
        stands: How far the feet carry the body, [F]; None means wholly.

    Returns:
        Metres a second, averaged over frames and feet. Feet that stand still give 0.

    Raises:
        ValueError: A single frame has no speed.

    Source: Zhang et al. 2018, Mode-Adaptive Neural Networks for Quadruped Motion Control.
    """
    speeds_m_s = _horizontal_speeds(feet_m, frame_rate_hz)
    heights_m = feet_m[:-1, :, 1].clip(0, CONTACT_HEIGHT_M)
    weights = 2 - 2 ** (heights_m / CONTACT_HEIGHT_M)
    if stands is not None:
        weights = weights * stands[:-1, None]
    return float((speeds_m_s * weights).mean())


def contact_foot_speed(
    feet_m: NDArray[np.float64],
    contacts: NDArray[np.bool_],
    frame_rate_hz: float,
    stands: NDArray[np.float64] | None = None,
) -> float:
    """Mean horizontal speed of foot joints over the steps that begin in contact, metres a second.

    It asks whether the motion keeps what its contacts promise, whatever the height of the foot; without contacts it
    is 0.

    Args:
        feet_m: Foot joints, [F, J, 3].
        contacts: Which of them are on the ground, [F, J].
        frame_rate_hz: Frames a second.
        stands: How far the feet carry the body, [F]; steps count by it. None means wholly.

    Raises:
        ValueError: A single frame has no speed.

    Source: Tevet et al. 2023, Human Motion Diffusion Model, the foot contact loss.
    """
    speeds_m_s = _horizontal_speeds(feet_m, frame_rate_hz)
    weights = contacts[:-1].astype(np.float64)
    if stands is not None:
        weights = weights * stands[:-1, None]
    total = weights.sum()
    return float((speeds_m_s * weights).sum() / total) if total > 0 else 0.0


def foot_skate_ratio(
    toes_m: NDArray[np.float64], frame_rate_hz: float, stands: NDArray[np.float64] | None = None
) -> float:
    """Share of steps, 0 to 1, in which a toe joint is near the floor and slides.

    It slides where it is below CONTACT_HEIGHT_M before and after the step, and both the step and the mean of the steps
    around it, over SLIDE_WINDOW_S, are faster than SLIDE_SPEED_M_S. Beyond the ends of the motion the speed is 0.

    Args:
        toes_m: Foot joints without the ankles, [F, J, 3].
        frame_rate_hz: Frames a second.
        stands: How far the feet carry the body, [F]; where it is 0 nothing slides. None means wholly, as published.

    Raises:
        ValueError: A single frame has no speed.

    Source: Karunratanakul et al. 2023, Guided Motion Diffusion, as its code counts.
    """
    speeds_m_s = _horizontal_speeds(toes_m, frame_rate_hz)
    means_m_s = _means_around(speeds_m_s, round((SLIDE_WINDOW_S * frame_rate_hz - 1) / 2))
    near = toes_m[..., 1] < CONTACT_HEIGHT_M
    slides = (np.minimum(speeds_m_s, means_m_s) > SLIDE_SPEED_M_S) & near[:-1] & near[1:]
    if stands is not None:
        slides &= stands[:-1, None] > 0
    return float(slides.any(axis=1).mean())


def penetration(joints_m: NDArray[np.float64]) -> float:
    """Depth of the deepest joint below the floor in any frame, [F, J, 3], metres; 0 when none is.

    Source: Yuan et al. 2023, PhysDiff, which measures the mesh and takes the mean of the frames.
    """
    return max(0.0, -float(joints_m[..., 1].min()))


def clearance(joints_m: NDArray[np.float64], skeleton: Skeleton) -> NDArray[np.float64]:
    """Height of the body above what could carry it, 0 where it touches the floor, metres, [F, J, 3] -> [F].

    The lowest foot joint above its height in the T-pose; or, for who sits, lies, crawls or stands on the hands, another
    joint above REST_HEIGHT_M, if that is lower.
    """
    others = [joint for joint in range(skeleton.num_joints) if joint not in skeleton.foot_joints]
    feet_m = above_rest(joints_m, skeleton)[..., 1].min(axis=1)
    return np.minimum(feet_m, joints_m[:, others, 1].min(axis=1) - REST_HEIGHT_M).clip(0, None)


def flying(joints_m: NDArray[np.float64], frame_rate_hz: float, skeleton: Skeleton) -> NDArray[np.bool_]:
    """Which frames belong to a jump or a flying stride, [F, J, 3] -> [F].

    In the air nothing but gravity acts, so the body falls with 9.81 m/s2, upward movement included; a body that hovers
    does not. Consecutive frames with a clearance above CONTACT_HEIGHT_M are a flight if the mean height of the joints
    accelerates downward by more than half of gravity, on average over these frames.

    Raises:
        ValueError: Fewer than 3 frames have no acceleration.
    """
    if len(joints_m) < 3:
        raise ValueError(f"flight needs at least 3 frames, got {len(joints_m)}")
    centre_m = joints_m[..., 1].mean(axis=1)
    accelerations_m_s2 = np.diff(centre_m, n=2) * frame_rate_hz**2
    # The first and the last frame have no acceleration of their own and take that of their neighbour.
    accelerations_m_s2 = np.pad(accelerations_m_s2, 1, mode="edge")
    in_air = clearance(joints_m, skeleton) > CONTACT_HEIGHT_M
    edges = np.flatnonzero(np.diff(np.concatenate([[False], in_air, [False]])))
    flight = np.zeros(len(joints_m), dtype=np.bool_)
    for start, end in edges.reshape(-1, 2):
        flight[start:end] = accelerations_m_s2[start:end].mean() < -GRAVITY_M_S2 / 2
    return flight


def float_height(joints_m: NDArray[np.float64], frame_rate_hz: float, skeleton: Skeleton) -> float:
    """How high the body hovers: the median of `clearance` over the frames that are not `flying`, metres.

    Raises:
        ValueError: In fewer than 3 frames a jump cannot be told from hovering.

    Source: Yuan et al. 2023, PhysDiff, which measures the mesh, takes the mean, and counts jumps.
    """
    grounded = ~flying(joints_m, frame_rate_hz, skeleton)
    return float(np.median(clearance(joints_m, skeleton)[grounded])) if grounded.any() else 0.0


def jerk(joints_m: NDArray[np.float64], frame_rate_hz: float) -> float:
    """Mean size of the third derivative of joint positions, [F, J, 3], in metres a second cubed.

    Raises:
        ValueError: Fewer than 4 frames have no third derivative.

    Source: Flash and Hogan 1985, The coordination of arm movements.
    """
    if len(joints_m) < 4:
        raise ValueError(f"jerk needs at least 4 frames, got {len(joints_m)}")
    return float(np.linalg.norm(np.diff(joints_m, n=3, axis=0), axis=-1).mean() * frame_rate_hz**3)


def joint_speed(joints_m: NDArray[np.float64], frame_rate_hz: float) -> float:
    """Fastest step of any joint, [F, J, 3], metres a second.

    The fastest, since a limb or a body that jumps to another place does so in one step, which a percentile would not
    see. In the world and not from the root, so that it sees both: running makes feet fast, but not as fast as that.

    Raises:
        ValueError: A single frame has no speed.
    """
    if len(joints_m) < 2:
        raise ValueError(f"joint speed needs at least 2 frames, got {len(joints_m)}")
    return float(np.linalg.norm(np.diff(joints_m, axis=0), axis=-1).max() * frame_rate_hz)


def bone_length_error(joints_m: NDArray[np.float64], skeleton: Skeleton) -> float:
    """Largest difference between the length of a bone in any frame and in the skeleton, [F, J, 3], metres.

    A `Motion` has none by construction; positions of features or of another body do.
    """
    bones_m = joints_m[:, 1:] - joints_m[:, skeleton.parents[1:]]
    rest_m = np.linalg.norm(skeleton.offsets_m[1:].astype(np.float64), axis=-1)
    return float(np.abs(np.linalg.norm(bones_m, axis=-1) - rest_m).max())


def loop_gap(joints_m: NDArray[np.float64], skeleton: Skeleton) -> float:
    """Mean distance of joints between the first and the last frame, the root's place and facing taken out, metres."""
    poses = []
    for frame in (0, -1):
        pose = joints_m[frame] - joints_m[frame, 0] * [1, 0, 1]
        yaw = facing(joints_m[frame], skeleton)
        x, z = pose[:, 0], pose[:, 2]
        poses.append(
            np.stack([x * np.cos(yaw) - z * np.sin(yaw), pose[:, 1], x * np.sin(yaw) + z * np.cos(yaw)], axis=-1)
        )
    return float(np.linalg.norm(poses[1] - poses[0], axis=-1).mean())


def facing(pose_m: NDArray[np.float64], skeleton: Skeleton) -> float:
    """Yaw of a pose, [J, 3]: the angle from +Z towards +X at a right angle to the line through the hips, radians."""
    x, _, z = pose_m[skeleton.joint("l_hip")] - pose_m[skeleton.joint("r_hip")]
    return float(np.arctan2(-z, x))


def root_speed(joints_m: NDArray[np.float64], frame_rate_hz: float) -> float:
    """Mean horizontal speed of the root along its path, [F, J, 3], metres a second.

    Raises:
        ValueError: A single frame has no speed.
    """
    return float(_horizontal_speeds(joints_m[:, :1], frame_rate_hz).mean())


def _horizontal_speeds(joints_m: NDArray[np.float64], frame_rate_hz: float) -> NDArray[np.float64]:
    if len(joints_m) < 2:
        raise ValueError(f"a speed needs at least 2 frames, got {len(joints_m)}")
    return np.linalg.norm(np.diff(joints_m[:, :, [0, 2]], axis=0), axis=-1) * frame_rate_hz


def _means_around(values: NDArray[np.float64], reach: int) -> NDArray[np.float64]:
    """Mean of each value and `reach` more to both sides along the first axis; there are zeros beyond the ends."""
    sums = np.concatenate([np.zeros_like(values[:1]), values.cumsum(axis=0)])
    places = np.arange(len(values))
    first, end = (places - reach).clip(0, None), (places + reach + 1).clip(None, len(values))
    return (sums[end] - sums[first]) / (2 * reach + 1)
