from dataclasses import replace

import numpy as np
import pytest

from python_core.contract.motion import Motion
from python_core.contract.quality import (
    QualityReport,
    above_rest,
    bone_length_error,
    clearance,
    contact_foot_speed,
    facing,
    float_height,
    flying,
    foot_skate,
    foot_skate_ratio,
    jerk,
    joint_speed,
    loop_gap,
    measure_joints,
    measure_quality,
    root_speed,
    standing,
)
from python_core.contract.quality_thresholds import THRESHOLDS, Threshold, Verdict
from python_core.contract.skeleton import BODY_22

FEET = list(BODY_22.foot_joints)


def feet(num_frames: int = 11, height_m: float = 0.0, step_m: float = 0.0) -> np.ndarray:
    """Two foot joints at a height that go along Z."""
    feet_m = np.zeros((num_frames, 2, 3))
    feet_m[..., 1] = height_m
    feet_m[..., 2] = step_m * np.arange(num_frames)[:, None]
    return feet_m


def still(num_frames: int = 21) -> Motion:
    rotations = np.tile(np.array([0, 0, 0, 1], dtype=np.float32), (num_frames, 22, 1))
    root_m = np.tile(np.array([0, BODY_22.rest_root_height_m, 0], dtype=np.float32), (num_frames, 1))
    return Motion(root_m, rotations, np.ones((num_frames, 4), dtype=np.bool_), 20.0)


def moved(motion: Motion, step_m: tuple[float, float, float]) -> Motion:
    frames = np.arange(motion.num_frames)[:, None]
    return replace(motion, root_positions_m=(motion.root_positions_m + frames * step_m).astype(np.float32))


def test_sliding_2_cm_a_frame_at_20_hz_is_40_cm_a_second():
    assert foot_skate(feet(step_m=0.02), 20) == pytest.approx(0.4)


def test_a_sliding_body_skates_at_its_own_speed():
    report = measure_quality(moved(still(), (0.012, 0, 0.016)))
    assert report.foot_skate_m_s == pytest.approx(0.4, abs=1e-5)
    assert report.foot_skate_ratio == 0
    # 0.6 m/s over 20 steps; the mean over 5 steps is below 0.5 m/s for the first two and the last two.
    assert measure_quality(moved(still(), (0.03, 0, 0))).foot_skate_ratio == pytest.approx(16 / 20)


def test_standing_still_measures_zero():
    report = measure_quality(still())
    assert vars(report) == pytest.approx(dict.fromkeys(vars(report), 0), abs=1e-6)
    assert report.score == pytest.approx(1, abs=1e-5)
    assert report.verdict is Verdict.GOOD


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


def test_one_of_two_feet_sliding_is_half_the_skate_and_all_the_ratio_of_its_steps():
    feet_m = feet(num_frames=25)
    feet_m[:, 0] = feet(num_frames=25, step_m=0.04)[:, 0]
    assert foot_skate(feet_m, 20) == pytest.approx(0.4)
    # 0.8 m/s: the first and the last step have a mean of 3/5 of it, 0.48 m/s.
    assert foot_skate_ratio(feet_m, 20) == pytest.approx(22 / 24)


def test_the_ratio_counts_steps_near_the_floor_that_are_fast_and_last():
    # Of 20 steps the 6 from frame 7 to 13 are 4 cm, 0.8 m/s; the mean over 5 steps is above 0.5 m/s for all of them but
    # the first and the last, 3/5 of 0.8 m/s.
    feet_m = feet(num_frames=21)
    feet_m[7:, 0, 2] = 0.04 * np.minimum(np.arange(14), 6)
    assert foot_skate_ratio(feet_m, 20) == pytest.approx(4 / 20)
    # A step is near the floor if both its ends are: frame 10 in the air takes two.
    feet_m[10, 0, 1] = 0.06
    assert foot_skate_ratio(feet_m, 20) == pytest.approx(2 / 20)
    # A single step of 10 cm has a mean of 0.4 m/s.
    jumps = feet(num_frames=21)
    jumps[10:, 0, 2] = 0.1
    assert foot_skate_ratio(jumps, 20) == 0


def test_the_ratio_looks_at_the_toes():
    # Heels that lift and turn outward about toes that stand.
    motion = still()
    joints_m = motion.joint_positions_m().astype(np.float64)
    joints_m[:, [7, 8], 0] += 0.04 * np.arange(21)[:, None]
    report = measure_joints(joints_m.astype(np.float32), motion.contacts, 20.0)
    assert report.foot_skate_ratio == 0
    assert report.contact_foot_speed_m_s == pytest.approx(0.4, abs=1e-5)  # Two of four joints at 0.8 m/s.


def test_the_speed_in_contact_is_the_mean_over_steps_that_begin_in_contact():
    # Speeds 0.4 and 0.8 m/s; joint 0 is in contact for 3 steps, joint 1 for 1 and in the last frame, which has no step.
    feet_m = feet(num_frames=11, step_m=0.02)
    feet_m[:, 1, 2] *= 2
    contacts = np.zeros((11, 2), dtype=np.bool_)
    contacts[2:5, 0] = contacts[7, 1] = contacts[10, 1] = True
    assert contact_foot_speed(feet_m, contacts, 20) == pytest.approx((3 * 0.4 + 0.8) / 4)
    assert contact_foot_speed(feet_m, np.zeros_like(contacts), 20) == 0


def test_the_speed_in_contact_does_not_ask_for_the_height():
    contacts = np.ones((11, 2), dtype=np.bool_)
    assert contact_foot_speed(feet(height_m=0.3, step_m=0.02), contacts, 20) == pytest.approx(0.4)


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
    motion = still()
    root_m = motion.root_positions_m.copy()
    root_m[7, 1] -= 0.03
    assert measure_quality(replace(motion, root_positions_m=root_m)).penetration_m == pytest.approx(0.03, abs=1e-6)
    assert measure_quality(moved(motion, (0, 0.1, 0))).penetration_m == pytest.approx(0, abs=1e-6)


def test_feet_on_the_floor_at_their_rest_height_are_on_the_ground():
    # The ankle is 4.6 cm above the floor in the T-pose: measured from there, it slides like the toes.
    report = measure_quality(moved(still(), (0, 0.02, 0.01)))
    heights_m = np.minimum(0.02 * np.arange(20), 0.05)
    assert report.foot_skate_m_s == pytest.approx(float((0.2 * (2 - 2 ** (heights_m / 0.05))).mean()), abs=1e-5)


def turning_loop(num_frames: int, end_bend: float) -> Motion:
    """A body that travels and turns by 150 degrees; its left arm comes down from the T-pose by `end_bend`."""
    motion = moved(still(num_frames), (0.05, 0, -0.02))
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
    assert loop_gap(motion.joint_positions_m().astype(np.float64), BODY_22) == pytest.approx(expected_m, abs=1e-5)


def test_a_body_that_ends_higher_has_that_gap():
    assert measure_quality(moved(still(21), (0.1, 0.01, 0))).loop_gap_m == pytest.approx(0.2, abs=1e-5)


@pytest.mark.parametrize("degrees", [-170, -90, 0, 30, 90, 179])
def test_facing_is_the_angle_from_plus_z_to_plus_x_whatever_the_lean(degrees: float):
    yaw = np.radians(degrees)
    turn = np.array([0, np.sin(yaw / 2), 0, np.cos(yaw / 2)], dtype=np.float32)
    # Leaning forward by 0.6 first: the product of a turn about Y and one about X.
    lean = np.sin(0.3), np.cos(0.3)
    leaning = [turn[3] * lean[0], turn[1] * lean[1], -turn[1] * lean[0], turn[3] * lean[1]]
    for rotation in (turn, -turn, leaning):
        motion = still(1)
        motion.joint_rotations[:, 0] = rotation
        assert facing(motion.joint_positions_m()[0].astype(np.float64), BODY_22) == pytest.approx(yaw, abs=1e-5)


def heights(motion: Motion, heights_m: np.ndarray) -> np.ndarray:
    """Joints of a standing body, each frame this high above the floor."""
    joints_m = motion.joint_positions_m().astype(np.float64)
    joints_m[..., 1] += heights_m[:, None]
    return joints_m


def jump(num_before: int = 10, speed_m_s: float = 3.0, num_after: int = 10) -> np.ndarray:
    """Heights of a body that stands, leaves the floor at a speed, falls freely and stands again, at 20 Hz."""
    time_s = np.arange(1, int(2 * speed_m_s / 9.81 * 20) + 1) / 20
    return np.concatenate([np.zeros(num_before), speed_m_s * time_s - 9.81 * time_s**2 / 2, np.zeros(num_after)])


def test_a_body_that_hovers_floats_by_its_height():
    assert float_height(heights(still(), np.full(21, 0.1)), 20, BODY_22) == pytest.approx(0.1, abs=1e-6)
    # The median: 8 frames of 21 higher do not move it.
    assert float_height(heights(still(), np.repeat([0.1, 0.4], [13, 8])), 20, BODY_22) == pytest.approx(0.1, abs=1e-6)


def test_float_counts_from_the_feet_at_rest_and_is_never_below_zero():
    assert float_height(heights(still(), np.zeros(21)), 20, BODY_22) == pytest.approx(0, abs=1e-6)
    assert float_height(heights(still(), np.full(21, -0.1)), 20, BODY_22) == 0
    one_foot = heights(still(), np.zeros(21))
    one_foot[:, [7, 10], 1] += 0.3
    assert float_height(one_foot, 20, BODY_22) == pytest.approx(0, abs=1e-6)


def test_a_jump_is_no_floating_though_most_of_the_motion_is_in_the_air():
    heights_m = jump(num_before=2, num_after=2)
    assert (heights_m > 0.05).sum() > 10 > len(heights_m) / 2
    joints_m = heights(still(len(heights_m)), heights_m)
    assert flying(joints_m, 20, BODY_22).tolist() == (heights_m > 0.05).tolist()
    assert float_height(joints_m, 20, BODY_22) == pytest.approx(0, abs=1e-6)


def test_a_jump_that_hangs_in_the_air_floats():
    # As high as the jump, but held there for a second and a half.
    up = jump(num_before=2, num_after=0)
    up = up[: int(up.argmax()) + 1]
    joints_m = heights(still(2 * len(up) + 30), np.concatenate([up, np.full(30, up[-1]), up[::-1]]))
    assert not flying(joints_m, 20, BODY_22).any()
    assert float_height(joints_m, 20, BODY_22) == pytest.approx(up[-1], abs=1e-5)


def test_falling_at_less_than_half_of_gravity_is_no_flight():
    time_s = np.arange(12) / 20
    for acceleration_m_s2, flies in ((9.81, True), (5.1, True), (4.7, False), (0.0, False)):
        joints_m = heights(still(12), 2.0 - acceleration_m_s2 * time_s**2 / 2)
        assert flying(joints_m, 20, BODY_22).tolist() == [flies] * 12
    # In the air throughout, with no frame to float in.
    assert float_height(heights(still(12), 2.0 - 9.81 * time_s**2 / 2), 20, BODY_22) == 0


def lying(num_frames: int = 21) -> Motion:
    """On the back, hips 10 cm above the floor, feet 1 m up: a body turned by a quarter and both legs by another."""
    motion = still(num_frames)
    quarter = np.array([np.sin(np.pi / 4), 0, 0, np.cos(np.pi / 4)], dtype=np.float32)
    rotations = motion.joint_rotations.copy()
    rotations[:, 0] = quarter * np.array([-1, 1, 1, 1], np.float32)
    rotations[:, [1, 2]] = quarter * np.array([-1, 1, 1, 1], np.float32)
    root_m = motion.root_positions_m * np.array([1, 0, 1], np.float32) + np.array([0, 0.1, 0], np.float32)
    return replace(motion, joint_rotations=rotations, root_positions_m=root_m)


def test_who_lies_with_the_legs_up_does_not_float():
    joints_m = lying().joint_positions_m().astype(np.float64)
    assert joints_m[:, FEET, 1].min() > 0.8
    assert float_height(joints_m, 20, BODY_22) == 0
    # Half a metre higher, the lowest joint is above what could carry the body.
    joints_m[..., 1] += 0.5
    lowest_m = joints_m[..., 1].min()
    assert float_height(joints_m, 20, BODY_22) == pytest.approx(lowest_m - 0.15)


def test_who_sits_on_a_chair_neither_floats_nor_skates():
    motion = still()
    quarter = np.array([np.sin(np.pi / 4), 0, 0, np.cos(np.pi / 4)], dtype=np.float32)
    rotations = motion.joint_rotations.copy()
    rotations[:, [1, 2]] = quarter * np.array([-1, 1, 1, 1], np.float32)
    rotations[:, [4, 5]] = quarter
    drop_m = np.float32(0.3919)  # The thighs are level.
    sitting = replace(motion, joint_rotations=rotations, root_positions_m=motion.root_positions_m - [[0, drop_m, 0]])
    report = measure_quality(replace(sitting, root_positions_m=sitting.root_positions_m.astype(np.float32)))
    assert report.float_m == pytest.approx(0, abs=1e-6)
    assert report.foot_skate_m_s == report.foot_skate_ratio == report.contact_foot_speed_m_s == 0


def test_feet_that_are_dragged_by_who_lies_do_not_skate():
    motion = lying()
    dragged = moved(
        replace(motion, root_positions_m=motion.root_positions_m - np.array([0, 0.05, 0], np.float32)), (0.05, 0, 0)
    )
    joints_m = dragged.joint_positions_m()
    joints_m[:, FEET, 1] = BODY_22.rest_joints_m[FEET, 1]  # The legs down on the floor.
    feet_m = above_rest(joints_m.astype(np.float64), BODY_22)
    assert foot_skate(feet_m, 20) == pytest.approx(1, abs=1e-5)
    report = measure_joints(joints_m, dragged.contacts, 20.0)
    assert report.foot_skate_m_s == report.foot_skate_ratio == report.contact_foot_speed_m_s == 0
    assert report.root_speed_m_s == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(("height_m", "share"), [(0.0, 0), (0.15, 0), (0.2, 0.5), (0.25, 1), (0.9, 1)])
def test_the_feet_carry_the_less_the_lower_another_joint_is(height_m: float, share: float):
    joints_m = still().joint_positions_m().astype(np.float64)
    assert standing(joints_m, BODY_22).tolist() == [1.0] * 21
    joints_m[:, BODY_22.joint("l_wrist"), 1] = height_m
    assert standing(joints_m, BODY_22) == pytest.approx(np.full(21, share))


def test_clearance_is_of_the_feet_or_of_a_joint_that_is_lower():
    joints_m = heights(still(), np.full(21, 0.4))
    assert clearance(joints_m, BODY_22) == pytest.approx(np.full(21, 0.4), abs=1e-6)
    joints_m[:, BODY_22.joint("r_wrist"), 1] = 0.25
    assert clearance(joints_m, BODY_22) == pytest.approx(np.full(21, 0.1))


def test_the_fastest_joint_is_that_of_one_step():
    assert measure_quality(moved(still(), (0.1, 0, 0))).joint_speed_m_s == pytest.approx(2, abs=1e-4)
    # A hand that jumps by 30 cm in one step of 20.
    joints_m = still().joint_positions_m().astype(np.float64)
    joints_m[9:, 20] += [0.1, 0.2, -0.2]
    assert joint_speed(joints_m, 20) == pytest.approx(6, abs=1e-4)


def test_a_body_that_jumps_to_another_place_is_poor():
    motion = still(200)
    motion.root_positions_m[100:, 2] += 1
    jumped = measure_quality(replace(motion, contacts=np.zeros_like(motion.contacts)))
    assert jumped.joint_speed_m_s == pytest.approx(20, abs=1e-4)
    assert (jumped.verdict, jumped.weakest_measure) == (Verdict.POOR, "joint_speed_m_s")


def test_an_arm_that_swings_about_the_shoulder_has_a_wrist_speed_of_angle_times_length():
    # A chord of 0.1 radians at 0.528 m, 20 times a second.
    motion = still()
    angle = 0.1 * np.arange(21) / 2
    motion.joint_rotations[:, 16] = np.stack([0 * angle, 0 * angle, np.sin(angle), np.cos(angle)], axis=-1)
    assert measure_quality(motion).joint_speed_m_s == pytest.approx(2 * 0.528 * np.sin(0.05) * 20, abs=1e-4)


def test_a_bone_that_is_longer_in_one_frame_is_the_bone_length_error():
    joints_m = still().joint_positions_m().astype(np.float64)
    assert bone_length_error(joints_m, BODY_22) == pytest.approx(0, abs=1e-6)
    joints_m[5, 20, 0] += 0.02  # The left wrist, along the arm.
    assert bone_length_error(joints_m, BODY_22) == pytest.approx(0.02, abs=1e-6)
    joints_m[7, 20, 0] -= 0.03
    assert bone_length_error(joints_m, BODY_22) == pytest.approx(0.03, abs=1e-6)


def test_a_motion_of_random_rotations_keeps_its_bones():
    chance = np.random.default_rng(0)
    rotations = chance.normal(size=(21, 22, 4))
    rotations /= np.linalg.norm(rotations, axis=-1, keepdims=True)
    motion = replace(still(), joint_rotations=rotations.astype(np.float32))
    assert measure_quality(motion).bone_length_error_m < 1e-6


def test_root_speed_is_the_length_of_the_path_over_time():
    # 10 steps of 5 cm forward and 10 back: half a metre twice in a second.
    motion = still()
    motion.root_positions_m[:, 2] = 0.05 * np.minimum(np.arange(21), 20 - np.arange(21))
    motion.root_positions_m[:, 1] += 0.1 * np.sin(np.arange(21))
    assert measure_quality(motion).root_speed_m_s == pytest.approx(1, abs=1e-5)


def test_turning_and_placing_a_motion_elsewhere_changes_no_measure():
    motion = turning_loop(30, end_bend=1.0)
    yaw = np.radians(70)
    turn = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
    joints_m = motion.joint_positions_m()
    elsewhere_m = (joints_m @ turn.T + [3, 0, -5]).astype(np.float32)
    expected = vars(measure_quality(motion))
    assert vars(measure_joints(elsewhere_m, motion.contacts, 20.0)) == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_a_mirrored_motion_measures_the_same():
    motion = turning_loop(30, end_bend=1.0)
    mirrored_m = motion.joint_positions_m()[:, BODY_22.mirror_joints] * np.array([-1, 1, 1], np.float32)
    expected = vars(measure_quality(motion))
    contacts = motion.contacts[:, [2, 3, 0, 1]]
    assert vars(measure_joints(mirrored_m, contacts, 20.0)) == pytest.approx(expected, rel=1e-4, abs=1e-5)


def report(**measures: float) -> QualityReport:
    """A report in which all is 0 but these."""
    fields = dict.fromkeys(vars(measure_quality(still(1))), 0.0)
    return QualityReport(**fields | measures)


def test_the_score_is_two_thirds_at_the_good_limit_and_one_third_at_the_fair_one():
    for threshold in THRESHOLDS.values():
        values = [0, threshold.good, (threshold.good * threshold.fair) ** 0.5, threshold.fair]
        assert [threshold.score(value) for value in values] == pytest.approx([1, 2 / 3, 1 / 2, 1 / 3])


def test_the_score_falls_and_stays_between_0_and_1():
    values = np.concatenate([np.linspace(0, 3, 1001), 10.0 ** np.arange(1, 300, 7)])
    scores = np.array([Threshold(0.18, 0.26).score(float(value)) for value in values])
    assert (np.diff(scores) <= 0).all()
    assert (np.diff(scores[60:200]) < 0).all()
    assert (scores[0], scores[-1]) == (1, pytest.approx(0))


@pytest.mark.parametrize("name", THRESHOLDS)
def test_one_measure_beyond_its_limit_decides_the_verdict(name: str):
    threshold = THRESHOLDS[name]
    assert threshold.good < threshold.fair
    cases = [(threshold.good, Verdict.GOOD), (1.01 * threshold.good, Verdict.FAIR), (threshold.fair, Verdict.FAIR)]
    for value, verdict in [*cases, (1.01 * threshold.fair, Verdict.POOR)]:
        measured = report(**{name: value})
        assert (measured.verdict, measured.weakest_measure) == (verdict, name)
        assert measured.score == pytest.approx(threshold.score(value))


def test_the_worst_measure_counts_and_the_others_do_not_add():
    bad = report(jerk_m_s3=600.0, float_m=0.05)
    assert bad.weakest_measure == "jerk_m_s3"
    assert bad.score == report(jerk_m_s3=600.0).score < report(float_m=0.05).score


def test_a_loop_that_does_not_close_and_a_run_are_no_faults():
    assert report(loop_gap_m=1.0, root_speed_m_s=6.0).score == 1


def test_a_body_that_slides_as_a_statue_is_poor_by_its_contacts():
    sliding = measure_quality(moved(still(), (0.015, 0, 0)))
    assert (sliding.verdict, sliding.weakest_measure) == (Verdict.POOR, "contact_foot_speed_m_s")


def test_without_contacts_their_speed_is_zero_and_the_rest_the_same():
    motion = moved(still(), (0.015, 0, 0))
    known, unknown = measure_quality(motion), measure_joints(motion.joint_positions_m(), None, 20.0)
    assert unknown == replace(known, contact_foot_speed_m_s=0.0)


@pytest.mark.parametrize(
    ("joints_shape", "contacts_shape", "rate", "expected"),
    [
        ((5, 21, 3), (5, 4), 20.0, r"joints_m must be \[F, 22, 3\] with a frame or more, got \(5, 21, 3\)"),
        ((0, 22, 3), (0, 4), 20.0, r"joints_m must be .* got \(0, 22, 3\)"),
        ((5, 22, 3), (4, 4), 20.0, r"contacts must be \(5, 4\), one row for each frame of joints_m, got \(4, 4\)"),
        ((5, 22, 3), (5, 4), 0.0, "frame_rate_hz must be positive and finite, got 0.0"),
        ((5, 22, 3), (5, 4), np.nan, "frame_rate_hz must be positive and finite, got nan"),
    ],
)
def test_joints_that_cannot_be_measured_are_refused(
    joints_shape: tuple[int, ...], contacts_shape: tuple[int, ...], rate: float, expected: str
):
    with pytest.raises(ValueError, match=expected):
        measure_joints(np.zeros(joints_shape, np.float32), np.ones(contacts_shape, np.bool_), rate)


def test_joints_that_are_not_finite_are_refused():
    joints_m = still().joint_positions_m()
    joints_m[3, 4, 1] = np.nan
    with pytest.raises(ValueError, match="joints_m holds numbers that are not finite"):
        measure_joints(joints_m, None, 20.0)


def test_what_needs_more_frames_than_there_are_is_zero():
    single = measure_quality(moved(still(1), (0.1, 0, 0)))
    assert vars(single) == pytest.approx(dict.fromkeys(vars(single), 0), abs=1e-6)
    assert measure_quality(moved(still(3), (0.1, 0, 0))).jerk_m_s3 == 0
    # Two frames in the air may be of a jump.
    assert measure_joints(heights(still(2), np.full(2, 0.5)).astype(np.float32), None, 20.0).float_m == 0


def test_a_pose_that_is_held_is_good():
    chance = np.random.default_rng(1)
    rotations = chance.normal(scale=0.1, size=(1, 22, 4)) + np.array([0, 0, 0, 1])
    rotations /= np.linalg.norm(rotations, axis=-1, keepdims=True)
    motion = replace(still(), joint_rotations=np.repeat(rotations, 21, axis=0).astype(np.float32))
    lift_m = np.array([0, motion.joint_positions_m()[..., 1].min(), 0], np.float32)
    held = measure_quality(replace(motion, root_positions_m=motion.root_positions_m - lift_m))
    assert held.verdict is Verdict.GOOD
    assert held.jerk_m_s3 == held.joint_speed_m_s == held.loop_gap_m == held.root_speed_m_s == 0


def test_the_measures_themselves_refuse_too_few_frames():
    one = np.zeros((1, 22, 3))
    contacts = np.ones((1, 22), dtype=np.bool_)
    for measure in (foot_skate, foot_skate_ratio, root_speed, joint_speed):
        with pytest.raises(ValueError, match="speed needs at least 2 frames, got 1"):
            measure(one, 20)
    with pytest.raises(ValueError, match="speed needs at least 2 frames, got 1"):
        contact_foot_speed(one, contacts, 20)
    with pytest.raises(ValueError, match="flight needs at least 3 frames, got 2"):
        float_height(np.zeros((2, 22, 3)), 20, BODY_22)
    with pytest.raises(ValueError, match="jerk needs at least 4 frames, got 3"):
        jerk(np.zeros((3, 22, 3)), 20)
