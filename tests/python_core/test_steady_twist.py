import numpy as np
import pytest
import torch
from torch import Tensor

from python_core.contract.skeleton import BODY_22
from python_core.features import mirror_joints
from python_core.pose_solver import PoseSolver
from python_core.rotations import forward_kinematics, inverse, multiply, normalize
from python_core.steady_twist import MEMORY_FRAMES, RECOVERY, MotionSolver, solve_motion

PARENTS = list(BODY_22.parents)
OFFSETS = torch.from_numpy(BODY_22.offsets_m).double()


def folded_elbow(step: float, bend_deg: float = 178) -> Tensor:
    """An elbow folded almost shut, whose plane turns about the upper arm by `step` radians a frame, [F, J, 3]."""
    rotations = torch.zeros(24, 22, 4, dtype=torch.float64)
    rotations[..., 3] = 1
    twist, bend = step * torch.arange(24).double() / 2, torch.tensor(np.radians(bend_deg) / 2)
    rotations[:, 16, 0], rotations[:, 16, 3] = twist.sin(), twist.cos()
    rotations[:, 18, 1], rotations[:, 18, 3] = -bend.sin(), bend.cos()
    return forward_kinematics(torch.zeros(24, 3, dtype=torch.float64), rotations, OFFSETS, PARENTS)


def largest_steps(joints: Tensor, rotations: Tensor) -> tuple[Tensor, Tensor]:
    """How far the fastest joint and the fastest bone turn in each frame, radians, [F - 1]."""
    turned = [rotations[:, 0]]
    for joint, parent in enumerate(PARENTS[1:], start=1):
        turned.append(multiply(turned[parent], rotations[:, joint]))
    world = torch.stack(turned, dim=1)
    steps = multiply(world[1:], inverse(world[:-1]))
    bones = normalize(joints[:, 1:] - joints[:, PARENTS[1:]])
    chords = (bones[1:] - bones[:-1]).norm(dim=-1)
    joint_steps = 2 * torch.atan2(steps[..., :3].norm(dim=-1), steps[..., 3].abs())
    return joint_steps.amax(dim=-1), 2 * (chords / 2).asin().amax(dim=-1)


def test_a_limb_with_a_clear_plane_keeps_the_twist_of_the_pose_solver():
    joints = folded_elbow(0.05, bend_deg=90)
    torch.testing.assert_close(solve_motion(joints)[1], PoseSolver()(joints)[1], atol=1e-9, rtol=0)


@pytest.mark.parametrize("step", [0.3, 1.5, 3.0])
def test_twist_follows_no_faster_than_the_fastest_bone(step: float):
    joints = folded_elbow(step)
    alone, _ = largest_steps(joints, PoseSolver()(joints)[1])
    steady, bones = largest_steps(joints, solve_motion(joints)[1])
    # The bones hardly turn, so the plane of a folded elbow can run away from them.
    assert alone.max() > 2 * bones.max()
    assert (steady <= np.sqrt(2) * (bones + RECOVERY) + 1e-6)[: MEMORY_FRAMES - 1].all()


def test_positions_do_not_depend_on_twist():
    joints = folded_elbow(1.5)
    root, rotations = solve_motion(joints)
    torch.testing.assert_close(forward_kinematics(root, rotations, OFFSETS, PARENTS), joints, atol=1e-6, rtol=0)


@pytest.mark.parametrize("piece", [1, 3, 4])
def test_pieces_are_the_whole(piece: int):
    joints, solver = folded_elbow(1.5), MotionSolver()
    whole_root, whole, last = solver(joints, solver.start(joints))
    past, roots, rotations = solver.start(joints), [], []
    for first in range(0, len(joints), piece):
        root, local, past = solver(joints[first : first + piece], past)
        roots.append(root)
        rotations.append(local)
    torch.testing.assert_close(torch.cat(roots), whole_root, atol=0, rtol=0)
    torch.testing.assert_close(torch.cat(rotations), whole, atol=0, rtol=0)
    torch.testing.assert_close(past, last, atol=0, rtol=0)


def test_what_lies_beyond_the_memory_does_not_matter():
    joints = folded_elbow(1.5)
    late = solve_motion(joints[6:])[1]
    whole = solve_motion(joints)[1][6:]
    torch.testing.assert_close(late[MEMORY_FRAMES:], whole[MEMORY_FRAMES:], atol=0, rtol=0)


def test_a_mirrored_motion_gives_mirrored_rotations():
    joints = folded_elbow(1.5)
    rotations = solve_motion(joints)[1]
    mirrored = solve_motion(torch.from_numpy(mirror_joints(joints.numpy())))[1]
    expected = rotations[:, list(BODY_22.mirror_joints)] * torch.tensor([1.0, -1, -1, 1]).double()
    torch.testing.assert_close(mirrored, expected, atol=1e-7, rtol=0)


def test_streams_of_a_batch_do_not_touch_each_other():
    batch = torch.stack([folded_elbow(1.5), folded_elbow(0.3)])
    solver = MotionSolver()
    _, rotations, _ = solver(batch, solver.start(batch))
    torch.testing.assert_close(rotations[1], solve_motion(batch[1])[1], atol=1e-12, rtol=0)
