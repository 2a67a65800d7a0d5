from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from python_core.contract.motion import Motion
from python_core.contract.skeleton import BODY_22
from python_core.features import mirror_joints
from python_core.pose_solver import LIMBS, PoseSolver
from python_core.rotations import cross, forward_kinematics, inverse, multiply, normalize, rotate

PARENTS = list(BODY_22.parents)
BONE_PARENTS = PARENTS[1:]


def joints_of(motion: Motion) -> Tensor:
    """Joint positions in double precision, [F, J, 3]."""
    offsets = torch.from_numpy(BODY_22.offsets_m).double()
    rotations = normalize(torch.from_numpy(motion.joint_rotations).double())
    return forward_kinematics(torch.from_numpy(motion.root_positions_m).double(), rotations, offsets, PARENTS)


def solve_and_place(joints: Tensor) -> Tensor:
    solver = PoseSolver()
    root, rotations = solver(joints)
    return forward_kinematics(root, rotations, solver.offsets, PARENTS)


def bone_directions(joints: Tensor) -> Tensor:
    return normalize(joints[..., 1:, :] - joints[..., BONE_PARENTS, :])


def in_the_world(rotations: Tensor) -> Tensor:
    """Local rotations -> rotations in the world, [..., J, 4]."""
    turned = [rotations[..., 0, :]]
    for joint, parent in enumerate(BONE_PARENTS, start=1):
        turned.append(multiply(turned[parent], rotations[..., joint, :]))
    return torch.stack(turned, dim=-2)


def rotation_steps(rotations: Tensor) -> Tensor:
    """Angle between each frame's rotations and the next one's, radians, [F - 1, J]."""
    steps = multiply(rotations[1:], inverse(rotations[:-1]))
    return 2 * torch.atan2(steps[..., :3].norm(dim=-1), steps[..., 3].abs())


def bone_steps(joints: Tensor) -> Tensor:
    """Angle between each frame's bone directions and the next one's, radians, [F - 1, J - 1]."""
    bones = bone_directions(joints)
    return torch.atan2(cross(bones[1:], bones[:-1]).norm(dim=-1), (bones[1:] * bones[:-1]).sum(-1))


def flip_ratio(joints: Tensor) -> float:
    """The largest turn of a joint in a frame over the largest turn of a bone in a frame."""
    return float(rotation_steps(in_the_world(PoseSolver()(joints)[1])).max() / bone_steps(joints).max())


def turned_about(joint: int, axis: tuple[float, float, float], angles: NDArray[np.float64]) -> Tensor:
    """The T-pose with one joint turned, [F, J, 3]."""
    rotations = torch.zeros(len(angles), 22, 4, dtype=torch.float64)
    rotations[..., 3] = 1
    half = torch.from_numpy(angles)[:, None] / 2
    rotations[:, joint] = torch.cat([half.sin() * torch.tensor(axis).double(), half.cos()], dim=-1)
    root = torch.zeros(len(angles), 3, dtype=torch.float64)
    return forward_kinematics(root, rotations, torch.from_numpy(BODY_22.offsets_m).double(), PARENTS)


def test_the_t_pose_gives_identities():
    rest = torch.from_numpy(BODY_22.rest_joints_m).double()
    root, rotations = PoseSolver()(rest)
    torch.testing.assert_close(root, rest[0], atol=1e-6, rtol=0)
    identity = torch.tensor([0.0, 0, 0, 1]).double().expand(22, 4)
    torch.testing.assert_close(rotations, identity, atol=1e-6, rtol=0)


@pytest.mark.parametrize("limb", LIMBS, ids=lambda limb: BODY_22.joint_names[limb.lower])
def test_a_hinge_bent_from_the_t_pose_is_all_that_turns(limb):
    angles = np.array([0.3, 1.0, np.pi / 2, 2.2])
    rotations = PoseSolver()(turned_about(limb.lower, limb.hinge, angles))[1]
    expected = torch.zeros(4, 22, 4, dtype=torch.float64)
    expected[..., 3] = 1
    half = torch.from_numpy(angles)[:, None] / 2
    expected[:, limb.lower] = torch.cat([half.sin() * torch.tensor(limb.hinge).double(), half.cos()], dim=-1)
    torch.testing.assert_close(rotations, expected, atol=1e-6, rtol=0)


def test_random_poses_come_back_with_all_bones_and_joints(random_poses: Motion):
    joints = joints_of(random_poses)
    placed = solve_and_place(joints)
    torch.testing.assert_close(bone_directions(placed), bone_directions(joints), atol=1e-6, rtol=0)
    torch.testing.assert_close(placed, joints, atol=1e-6, rtol=0)


def test_poses_far_beyond_the_limits_of_joints_come_back_as_well():
    random = np.random.default_rng(2).normal(size=(300, 22, 4))
    rotations = normalize(torch.from_numpy(random))
    offsets = torch.from_numpy(BODY_22.offsets_m).double()
    joints = forward_kinematics(torch.zeros(300, 3, dtype=torch.float64), rotations, offsets, PARENTS)
    torch.testing.assert_close(solve_and_place(joints), joints, atol=1e-6, rtol=0)


def test_straight_limbs_come_back(random_poses: Motion):
    straight = random_poses.joint_rotations.copy()
    straight[:, [4, 5, 18, 19]] = [0, 0, 0, 1]
    joints = joints_of(replace(random_poses, joint_rotations=straight))
    torch.testing.assert_close(solve_and_place(joints), joints, atol=1e-6, rtol=0)


def test_a_solved_pose_solves_to_itself(random_poses: Motion):
    solver = PoseSolver()
    root, rotations = solver(joints_of(random_poses))
    again_root, again = solver(forward_kinematics(root, rotations, solver.offsets, PARENTS))
    torch.testing.assert_close(again_root, root, atol=1e-7, rtol=0)
    torch.testing.assert_close(in_the_world(again), in_the_world(rotations), atol=1e-7, rtol=0)


def test_rotations_are_unit_quaternions_with_w_not_negative(random_poses: Motion):
    rotations = PoseSolver()(joints_of(random_poses))[1]
    torch.testing.assert_close(rotations.norm(dim=-1), torch.ones(300, 22).double())
    assert (rotations[..., 3] >= 0).all()


def test_bone_lengths_of_the_input_do_not_matter(random_poses: Motion):
    joints = joints_of(random_poses)
    small = PoseSolver()(0.6 * joints)[1]
    torch.testing.assert_close(small, PoseSolver()(joints)[1], atol=1e-9, rtol=0)


def test_turning_and_moving_the_whole_body_turns_and_moves_the_root_only(random_poses: Motion):
    joints = joints_of(random_poses)
    turn = normalize(torch.tensor([0.2, -0.7, 0.1, 0.5]).double())
    root, rotations = PoseSolver()(joints)
    moved_root, moved = PoseSolver()(rotate(turn, joints) + torch.tensor([1.0, 2, -3]).double())
    torch.testing.assert_close(moved[:, 1:], rotations[:, 1:], atol=1e-9, rtol=0)
    turned = multiply(turn.expand(300, 4), rotations[:, 0])
    torch.testing.assert_close((turned * moved[:, 0]).sum(-1).abs(), torch.ones(300).double())
    torch.testing.assert_close(moved_root, rotate(turn, root) + torch.tensor([1.0, 2, -3]).double())


def test_the_hinge_follows_the_plane_of_a_bent_limb(random_poses: Motion):
    joints = joints_of(random_poses)
    turned = in_the_world(PoseSolver()(joints)[1])
    bones = bone_directions(joints)
    for limb in LIMBS:
        plane = cross(bones[:, limb.lower - 1], bones[:, limb.end - 1])
        hinge = rotate(turned[:, limb.upper], torch.tensor(limb.hinge).double())
        bent = plane.norm(dim=-1) > 0.7
        cosines = (normalize(plane) * hinge).sum(-1)[bent]
        # It never points away from a plane that counts, and is near to it on the whole.
        assert cosines.min() > 0
        assert cosines.mean() > 0.9


def test_smooth_motions_have_no_flips(smooth_motions: list[Motion]):
    ratios = [flip_ratio(joints_of(motion)) for motion in smooth_motions]
    assert max(ratios) <= 1.5


@pytest.mark.parametrize("limb", LIMBS, ids=lambda limb: BODY_22.joint_names[limb.lower])
def test_a_limb_that_goes_through_straight_does_not_flip(limb):
    # From 20 degrees beyond straight to 70 degrees bent and back, as a knee that locks.
    angles = np.radians(25 - 45 * np.cos(np.linspace(0, 2 * np.pi, 80)))
    assert flip_ratio(turned_about(limb.lower, limb.hinge, angles)) <= 1.05


@pytest.mark.parametrize("pitch", [-0.6, 0.0, 0.4])
def test_walking_on_straight_knees_does_not_flip(pitch: float):
    time_s = np.arange(60) / 20
    swing, bend = pitch + 0.5 * np.sin(2 * np.pi * time_s), 0.15 * np.sin(4 * np.pi * time_s)
    rotations = torch.zeros(60, 22, 4, dtype=torch.float64)
    rotations[..., 3] = 1
    for hip, sign in ((1, 1), (2, -1)):
        for joint, angles in ((hip, sign * swing), (hip + 3, bend)):
            rotations[:, joint, 0] = torch.from_numpy(np.sin(angles / 2))
            rotations[:, joint, 3] = torch.from_numpy(np.cos(angles / 2))
    offsets = torch.from_numpy(BODY_22.offsets_m).double()
    joints = forward_kinematics(torch.zeros(60, 3, dtype=torch.float64), rotations, offsets, PARENTS)
    assert flip_ratio(joints) <= 1.05


def test_noise_of_a_millimetre_on_straight_limbs_turns_joints_little_more_than_bones():
    noise = torch.randn(100, 22, 3, generator=torch.Generator().manual_seed(1)).double() * 0.001
    joints = torch.from_numpy(BODY_22.rest_joints_m).double() + noise
    assert flip_ratio(joints) <= 1.5


def test_a_mirrored_pose_gives_mirrored_rotations(random_poses: Motion):
    joints = joints_of(random_poses)
    root, rotations = PoseSolver()(joints)
    mirrored_root, mirrored = PoseSolver()(torch.from_numpy(mirror_joints(joints.numpy())))
    torch.testing.assert_close(mirrored_root, root * torch.tensor([-1.0, 1, 1]).double(), atol=1e-9, rtol=0)
    expected = rotations[:, list(BODY_22.mirror_joints)] * torch.tensor([1.0, -1, -1, 1]).double()
    torch.testing.assert_close(mirrored, expected, atol=1e-7, rtol=0)


def test_float32_gives_the_rotations_of_float64_to_a_thousandth(random_poses: Motion):
    joints = joints_of(random_poses)
    root, rotations = PoseSolver()(joints)
    root32, rotations32 = PoseSolver().float()(joints.float())
    assert rotations32.dtype == torch.float32
    torch.testing.assert_close(root32.double(), root, atol=1e-5, rtol=0)
    angles = rotation_steps(torch.stack([in_the_world(rotations), in_the_world(rotations32.double())]))
    assert angles.max() < 1e-3


def test_frames_stand_alone_whatever_the_batch(smooth_motions: list[Motion]):
    joints = torch.stack([joints_of(motion) for motion in smooth_motions[:3]])
    roots, rotations = PoseSolver()(joints)
    for clip in range(3):
        root, alone = PoseSolver()(joints[clip, 50])
        torch.testing.assert_close(root, roots[clip, 50], atol=1e-12, rtol=0)
        torch.testing.assert_close(alone, rotations[clip, 50], atol=1e-12, rtol=0)


def test_another_skeleton_is_refused():
    other = replace(BODY_22, name="tail", joint_names=(*BODY_22.joint_names[:-1], "tail"))
    with pytest.raises(ValueError, match="the pose solver knows the joints of body22, got those of tail"):
        PoseSolver(other)
