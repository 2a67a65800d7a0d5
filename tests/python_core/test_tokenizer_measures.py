"""Two motions without rotations, so that joints are where the root is plus the T-pose."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from python_core.contract.motion import Motion
from python_core.contract.vocabulary import CodebookSize
from python_core.motion_tokenizer import Reading
from python_core.tokenizer_measures import entries_in_use, measure_readings


def motion(roots_m: NDArray[np.float64], standing: bool = False) -> Motion:
    num_frames = len(roots_m)
    rotations = np.tile(np.array([0, 0, 0, 1], np.float32), (num_frames, 22, 1))
    return Motion(roots_m.astype(np.float32), rotations, np.full((num_frames, 4), standing), 20.0)


def line(num_frames: int, speed_m_s: float) -> NDArray[np.float64]:
    roots = np.zeros((num_frames, 3))
    roots[:, 0] = np.arange(num_frames) / 20 * speed_m_s
    return roots


def reading(source: Motion, decoded: Motion) -> Reading:
    return Reading(codes=[0] * (source.num_frames // 4), source=source, decoded=decoded)


def test_drift_counts_in_the_world_and_not_with_the_roots_in_one_place():
    pair = reading(motion(line(100, 0.0)), motion(line(100, 0.4)))
    # 0.02 m a frame, 99 steps: 0.99 m on average.
    assert pair.global_error_m == pytest.approx(0.99, abs=1e-5)
    assert pair.joint_error_m == pytest.approx(0, abs=1e-6)


def test_an_arm_that_points_up_is_off_by_the_turn_of_its_bones():
    source = motion(line(8, 0.0))
    turned = source.joint_rotations.copy()
    # The left elbow, 18, by a right angle about +Y: the forearm's end goes by sqrt(2) of its length.
    turned[:, 18] = [0, np.sqrt(0.5), 0, np.sqrt(0.5)]
    decoded = replace(source, joint_rotations=turned)
    forearm_m = np.linalg.norm(source.skeleton.offsets_m[20])
    assert reading(source, decoded).joint_error_m == pytest.approx(np.sqrt(2) * forearm_m / 22, rel=1e-5)


def test_feet_in_contact_that_go_twice_as_far_have_a_ratio_of_two():
    pair = reading(motion(line(40, 0.3), standing=True), motion(line(40, 0.6)))
    assert measure_readings([pair], ["a"])["all"].contact_speed_ratio == pytest.approx(2, rel=1e-3)


def test_feet_in_the_air_do_not_count():
    standing = reading(motion(line(40, 0.3), standing=True), motion(line(40, 0.3)))
    in_the_air = reading(motion(line(40, 0.3)), motion(line(40, 3.0)))
    assert measure_readings([standing, in_the_air], ["a", "a"])["all"].contact_speed_ratio == pytest.approx(1, rel=1e-3)


def test_jerk_is_that_of_third_differences():
    time = np.arange(40.0)[:, None]
    cubic = np.concatenate([time**3 * 1e-4, 0 * time, 0 * time], axis=1)
    pair = reading(motion(cubic), motion(3 * cubic))
    assert measure_readings([pair], ["a"])["all"].jerk_ratio == pytest.approx(3, rel=1e-2)


def test_only_clips_of_five_seconds_have_a_global_error():
    short, long = reading(motion(line(96, 0)), motion(line(96, 1))), reading(motion(line(100, 0)), motion(line(100, 0)))
    assert measure_readings([short], ["a"])["all"].global_mpjpe_mm is None
    assert measure_readings([short, long], ["a", "a"])["all"].global_mpjpe_mm == 0


def test_a_source_has_a_row_of_its_own_from_five_clips_on():
    pair = reading(motion(line(8, 0)), motion(line(8, 0)))
    groups = measure_readings([pair] * 9, ["a"] * 5 + ["b"] * 4)
    assert {name: group.num_clips for name, group in groups.items()} == {"all": 9, "a": 5}


def test_entries_in_use_are_counted_for_each_level():
    codebook = CodebookSize(4, 2)
    codes = [codebook.code(entries) for entries in ([0, 0], [1, 0], [2, 0], [2, 3])]
    assert entries_in_use(codes, codebook) == [0.75, 0.5]
