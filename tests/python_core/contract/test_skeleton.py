from dataclasses import replace

import numpy as np
import pytest

from python_core.contract.skeleton import BODY_22


def test_the_t_pose_stands_on_the_floor_and_its_height_is_the_sum_of_the_leg():
    rest_m = BODY_22.rest_joints_m
    # Hip, thigh, shin and foot, straight down.
    assert BODY_22.rest_root_height_m == pytest.approx(0.0850 + 0.3919 + 0.4290 + 0.0460)
    assert rest_m[[10, 11], 1] == pytest.approx(0, abs=1e-6)
    assert rest_m[:, 1].min() == 0
    assert rest_m[BODY_22.joint("head"), 1] == rest_m[:, 1].max()


def test_a_t_pose_joint_is_the_sum_of_the_offsets_on_the_way_to_it():
    wrist_m = BODY_22.rest_joints_m[BODY_22.joint("l_wrist")] - BODY_22.rest_joints_m[0]
    across = 0.0756 + 0.1220 + 0.2600 + 0.2680
    up = 0.1235 + 0.1405 + 0.0573 + 0.1160 + 0.0330
    forward = -0.0455 + 0.0275 + 0.0030 - 0.0229 - 0.0150
    np.testing.assert_allclose(wrist_m, [across, up, forward], atol=1e-6)


def test_the_left_is_at_plus_x_and_toes_point_to_plus_z():
    rest_m = BODY_22.rest_joints_m
    for joint, name in enumerate(BODY_22.joint_names):
        sign = {"l": 1, "r": -1}.get(name.split("_")[0], 0)
        assert np.sign(rest_m[joint, 0]) == sign, name
    assert rest_m[10, 2] > rest_m[7, 2]


def test_the_mirrored_t_pose_is_the_t_pose():
    mirrored_m = BODY_22.rest_joints_m[list(BODY_22.mirror_joints)] * [-1, 1, 1]
    np.testing.assert_array_equal(mirrored_m, BODY_22.rest_joints_m)


def test_mirroring_twice_is_the_same_and_follows_names_and_parents():
    for joint, other in enumerate(BODY_22.mirror_joints):
        assert BODY_22.mirror_joints[other] == joint
        name = BODY_22.joint_names[joint]
        expected = {"l_": "r_", "r_": "l_"}.get(name[:2], name[:2]) + name[2:]
        assert BODY_22.joint_names[other] == expected
        if joint:
            assert BODY_22.parents[other] == BODY_22.mirror_joints[BODY_22.parents[joint]]


def test_foot_joints_are_left_ankle_left_foot_right_ankle_right_foot():
    names = [BODY_22.joint_names[joint] for joint in BODY_22.foot_joints]
    assert names == ["l_ankle", "l_foot", "r_ankle", "r_foot"]


def test_a_joint_that_is_not_there_is_named_with_those_that_are():
    assert BODY_22.joint("r_elbow") == 19
    with pytest.raises(ValueError, match=r"body22 has no joint 'tail'; it has pelvis, .*r_wrist"):
        BODY_22.joint("tail")


def test_lists_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="skeleton body22: names, parents, offsets and mirror differ in number"):
        replace(BODY_22, joint_names=BODY_22.joint_names[:-1])


@pytest.mark.parametrize(
    "parents", [(0, *BODY_22.parents[1:]), (-1, 2, *BODY_22.parents[2:]), (-1, -1, *BODY_22.parents[2:])]
)
def test_a_parent_that_does_not_come_before_its_child_is_refused(parents: tuple[int, ...]):
    with pytest.raises(ValueError, match="the root comes first and parents before children"):
        replace(BODY_22, parents=parents)
