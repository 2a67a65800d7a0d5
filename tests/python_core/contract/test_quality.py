from dataclasses import replace

import numpy as np
import pytest

from python_core.contract.motion import Motion
from python_core.contract.quality import facing, foot_skate, foot_skate_ratio, jerk, loop_gap, measure_quality
from python_core.contract.skeleton import BODY_22


def feet(num_frames: int = 11, height_m: float = 0.0, step_m: float = 0.0) -> np.ndarray:
    """Two foot joints at a height that go along Z."""
    feet_m = np.zeros((num_frames, 2, 3))
    feet_m[..., 1] = height_m
    feet_m[..., 2] = step_m * np.arange(num_frames)[:, None]
    return feet_m


def standing(num_frames: int = 21) -> Motion:
    rotations = np.tile(np.array([0, 0, 0, 1], dtype=np.float32), (num_frames, 22, 1))
    root_m = np.tile(np.array([0, BODY_22.rest_root_height_m, 0], dtype=np.float32), (num_frames, 1))
    return Motion(root_m, rotations, np.ones((num_frames, 4), dtype=np.bool_), 20.0)


def moved(motion: Motion, step_m: tuple[float, float, float]) -> Motion:
    frames = np.arange(motion.num_frames)[:, None]
    return replace(motion, root_positions_m=(motion.root_positions_m + frames * step_m).astype(np.float32))


def test_sliding_2_cm_a_frame_at_20_hz_is_40_cm_a_second():
    assert foot_skate(feet(step_m=0.02), 20) == pytest.approx(0.4)


def test_a_sliding_body_skates_at_its_own_speed():
    report = measure_quality(moved(standing(), (0.012, 0, 0.016)))
    assert report.foot_skate_m_s == pytest.approx(0.4, abs=1e-5)
    assert report.foot_skate_ratio == 0
    assert measure_quality(moved(standing(), (0.03, 0, 0))).foot_skate_ratio == 1


def test_standing_still_measures_zero():
    report = measure_quality(standing())
    assert report.foot_skate_m_s == report.foot_skate_ratio == report.jerk_m_s3 == report.loop_gap_m == 0
    assert report.penetration_m == pytest.approx(0, abs=1e-6)


def test_a_foot_counts_less_the_higher_it_is():
    # At half of 5 cm the weight is 2 - sqrt(2).
    assert foot_skate(feet(height_m=0.025, step_m=0.02), 20) == pytest.approx(0.4 * (2 - 2**0.5))
    assert foot_skate(feet(height_m=0.05, step_m=0.02), 20) == 0
    assert foot_skate(feet(height_m=3.0, step_m=0.02), 20) == 0
    assert foot_skate(feet(height_m=-0.1, step_m=0.02), 20) == pytest.approx(0.4)


def test_lifting_a_foot_straight_up_is_no_skate():
    feet_m = feet()
    feet_m[..., 1] = 0.01 * np.arange(11)[:, None]
    assert foot_skate(feet_m, 20) == 0


def test_one_of_two_feet_sliding_is_half_the_skate_and_every_frame_of_the_ratio():
    feet_m = feet()
    feet_m[:, 0] = feet(step_m=0.04)[:, 0]
    assert foot_skate(feet_m, 20) == pytest.approx(0.4)
    assert foot_skate_ratio(feet_m, 20) == 1


def test_the_ratio_counts_frames_on_the_floor_that_are_faster_than_half_a_metre_a_second():
    feet_m = feet(num_frames=11, step_m=0.02)
    assert foot_skate_ratio(feet_m, 20) == 0
    # Three steps of ten are 4 cm: 0.8 m/s.
    feet_m[4:, :, 2] += 0.02
    feet_m[6:, :, 2] += 0.02
    feet_m[9:, :, 2] += 0.02
    assert foot_skate_ratio(feet_m, 20) == pytest.approx(0.3)
    # The last of them with the foot in the air after it.
    feet_m[9:, :, 1] = 0.06
    assert foot_skate_ratio(feet_m, 20) == pytest.approx(0.2)


def test_the_jerk_of_a_cubic_is_its_third_derivative():
    # x = 2 t^3 has a third derivative of 12, z = -1.5 t^3 one of -9: 15 together.
    time_s = np.arange(9) / 20
    joints_m = np.zeros((9, 22, 3))
    joints_m[..., 0] = 2 * time_s[:, None] ** 3
    joints_m[..., 2] = -1.5 * time_s[:, None] ** 3
    assert jerk(joints_m, 20) == pytest.approx(15)


def test_constant_acceleration_has_no_jerk():
    joints_m = np.zeros((9, 22, 3))
    joints_m[..., 1] = 4.9 * (np.arange(9)[:, None] / 20) ** 2
    assert jerk(joints_m, 20) == pytest.approx(0, abs=1e-9)


def test_penetration_is_the_depth_of_the_lowest_joint():
    motion = standing()
    root_m = motion.root_positions_m.copy()
    root_m[7, 1] -= 0.03
    assert measure_quality(replace(motion, root_positions_m=root_m)).penetration_m == pytest.approx(0.03, abs=1e-6)
    assert measure_quality(moved(motion, (0, 0.1, 0))).penetration_m == pytest.approx(0, abs=1e-6)


def test_feet_on_the_floor_at_their_rest_height_are_on_the_ground():
    # The ankle is 4.6 cm above the floor in the T-pose: measured from there, it slides like the toes.
    report = measure_quality(moved(standing(), (0, 0.02, 0.01)))
    heights_m = np.minimum(0.02 * np.arange(20), 0.05)
    assert report.foot_skate_m_s == pytest.approx(float((0.2 * (2 - 2 ** (heights_m / 0.05))).mean()), abs=1e-5)


def turning_loop(num_frames: int, end_bend: float) -> Motion:
    """A body that travels and turns by 150 degrees; its left arm comes down from the T-pose by `end_bend`."""
    motion = moved(standing(num_frames), (0.05, 0, -0.02))
    share = np.arange(num_frames) / (num_frames - 1)
    rotations = motion.joint_rotations.copy()
    half = np.radians(150) * share / 2
    rotations[:, 0] = np.stack([0 * half, np.sin(half), 0 * half, np.cos(half)], axis=-1)
    half = -end_bend * share / 2
    rotations[:, 16] = np.stack([0 * half, 0 * half, np.sin(half), np.cos(half)], axis=-1)
    return replace(motion, joint_rotations=rotations.astype(np.float32))


def test_a_loop_that_turns_and_travels_has_no_gap():
    assert measure_quality(turning_loop(30, end_bend=0)).loop_gap_m == pytest.approx(0, abs=1e-5)


def test_an_arm_that_ends_a_quarter_turn_lower_is_the_gap():
    # Elbow and wrist end sqrt(2) times their distance from the shoulder away, two of 22 joints.
    expected_m = np.sqrt(2) * (0.2600 + 0.5280) / 22
    motion = turning_loop(30, end_bend=np.pi / 2)
    assert measure_quality(motion).loop_gap_m == pytest.approx(expected_m, abs=1e-5)
    assert loop_gap(motion.joint_positions_m().astype(np.float64), motion) == pytest.approx(expected_m, abs=1e-5)


def test_a_body_that_ends_higher_has_that_gap():
    assert measure_quality(moved(standing(21), (0.1, 0.01, 0))).loop_gap_m == pytest.approx(0.2, abs=1e-5)


@pytest.mark.parametrize("degrees", [-170, -90, 0, 30, 90, 179])
def test_facing_is_the_angle_from_plus_z_to_plus_x_whatever_the_lean(degrees: float):
    yaw = np.radians(degrees)
    turn = np.array([0, np.sin(yaw / 2), 0, np.cos(yaw / 2)], dtype=np.float32)
    assert facing(turn) == pytest.approx(yaw, abs=1e-6)
    assert facing(-turn) == pytest.approx(yaw, abs=1e-6)
    # Leaning forward by 0.6 first: the product of a turn about Y and one about X.
    lean = np.sin(0.3), np.cos(0.3)
    leaning = [turn[3] * lean[0], turn[1] * lean[1], -turn[1] * lean[0], turn[3] * lean[1]]
    assert facing(np.array(leaning, dtype=np.float32)) == pytest.approx(yaw, abs=1e-6)


def test_what_needs_more_frames_than_there_are_is_zero():
    single = measure_quality(moved(standing(1), (0.1, 0, 0)))
    assert (single.foot_skate_m_s, single.foot_skate_ratio, single.jerk_m_s3, single.loop_gap_m) == (0, 0, 0, 0)
    assert measure_quality(moved(standing(3), (0.1, 0, 0))).jerk_m_s3 == 0


def test_the_measures_themselves_refuse_too_few_frames():
    with pytest.raises(ValueError, match="foot skate needs at least 2 frames, got 1"):
        foot_skate(feet(1), 20)
    with pytest.raises(ValueError, match="foot skate needs at least 2 frames, got 1"):
        foot_skate_ratio(feet(1), 20)
    with pytest.raises(ValueError, match="jerk needs at least 4 frames, got 3"):
        jerk(np.zeros((3, 22, 3)), 20)
