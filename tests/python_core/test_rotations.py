import numpy as np
import pytest
import torch
from torch import Tensor

from python_core import rotations
from python_core.contract import motion as contract
from python_core.contract.motion import Motion
from python_core.contract.skeleton import BODY_22
from python_core.rotations import (
    forward_kinematics,
    frame,
    inverse,
    matrix_from_6d,
    matrix_to_quaternion,
    multiply,
    normalize,
    quaternion_to_6d,
    quaternion_to_matrix,
    rotate,
    shortest_arc,
    yaw_rotation,
)

HALF = 0.5**0.5


def random_rotations(num: int = 200) -> Tensor:
    return normalize(torch.randn(num, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(5)))


def half_turns() -> Tensor:
    """About each axis, between axes, and about 50 others."""
    axes = torch.randn(50, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(6))
    axes = torch.cat([torch.eye(3), -torch.eye(3), torch.tensor([[1.0, 1, 0], [0, 1, 1], [1, 0, -1], [1, 1, 1]]), axes])
    return torch.cat([normalize(axes.double()), torch.zeros(len(axes), 1, dtype=torch.float64)], dim=-1)


def assert_same_rotation(left: Tensor, right: Tensor, tolerance: float = 1e-9):
    """q and -q are one rotation."""
    difference = torch.minimum((left - right).norm(dim=-1), (left + right).norm(dim=-1))
    assert difference.max() < tolerance


@pytest.mark.parametrize("quaternions", [random_rotations(), half_turns(), torch.eye(4).double()])
def test_a_quaternion_comes_back_from_its_matrix_and_from_6_numbers(quaternions: Tensor):
    matrices = quaternion_to_matrix(quaternions)
    back = matrix_to_quaternion(matrices)
    assert_same_rotation(back, quaternions)
    assert (back[..., 3] >= 0).all()
    columns = quaternion_to_6d(quaternions)
    torch.testing.assert_close(matrix_from_6d(columns), matrices, atol=1e-12, rtol=0)
    assert_same_rotation(matrix_to_quaternion(matrix_from_6d(columns)), quaternions)


def test_turns_close_to_half_a_turn_come_back():
    near = half_turns()
    near[:, 3] = 1e-7
    assert_same_rotation(matrix_to_quaternion(quaternion_to_matrix(normalize(near))), normalize(near))


def test_float32_matrices_give_unit_quaternions_to_1e_6():
    quaternions = torch.cat([random_rotations(), half_turns()])
    back = matrix_to_quaternion(quaternion_to_matrix(quaternions.float()))
    assert_same_rotation(back.double(), quaternions, 2e-6)


def test_matrices_are_rotations_and_turn_columns():
    quaternions, vectors = random_rotations(), random_rotations()[:, :3]
    matrices = quaternion_to_matrix(quaternions)
    torch.testing.assert_close(matrices @ matrices.mT, torch.eye(3).double().expand(200, 3, 3), atol=1e-12, rtol=0)
    torch.testing.assert_close(torch.linalg.det(matrices), torch.ones(200).double())
    torch.testing.assert_close((matrices @ vectors[..., None])[..., 0], rotate(quaternions, vectors))


def test_6_numbers_are_the_first_two_columns_one_after_the_other():
    # A quarter turn about +Z takes +X to +Y and +Y to -X.
    columns = quaternion_to_6d(torch.tensor([0.0, 0, HALF, HALF]))
    torch.testing.assert_close(columns, torch.tensor([0.0, 1, 0, -1, 0, 0]), atol=1e-6, rtol=0)


def test_columns_that_are_neither_unit_nor_orthogonal_become_a_rotation():
    matrix = matrix_from_6d(torch.tensor([3.0, 0, 0, 5, 2, 0]))
    torch.testing.assert_close(matrix, torch.eye(3))
    torch.testing.assert_close(
        frame(torch.tensor([0.0, 2, 0]), torch.tensor([0.0, 1, 1])),
        torch.tensor([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]]),
    )


def test_a_product_is_the_product_of_matrices_and_an_inverse_undoes():
    left, right = random_rotations(), random_rotations().flip(0)
    torch.testing.assert_close(
        quaternion_to_matrix(multiply(left, right)), quaternion_to_matrix(left) @ quaternion_to_matrix(right)
    )
    identity = torch.tensor([0.0, 0, 0, 1]).double().expand(200, 4)
    torch.testing.assert_close(multiply(left, inverse(left)), identity)


def test_yaw_takes_plus_z_towards_plus_x():
    turned = rotate(yaw_rotation(torch.tensor([0.0, np.pi / 2, -0.3])), torch.tensor([0.0, 0, 1]).expand(3, 3))
    expected = torch.tensor([[0, 0, 1], [1, 0, 0], [-np.sin(0.3), 0, np.cos(0.3)]], dtype=torch.float32)
    torch.testing.assert_close(turned, expected, atol=1e-6, rtol=0)


def test_the_shortest_arc_takes_start_to_end_by_the_angle_between_them():
    start, end = normalize(random_rotations()[:, :3]), normalize(random_rotations().flip(0)[:, 1:])
    arc = shortest_arc(start, end)
    torch.testing.assert_close(rotate(arc, start), end, atol=1e-9, rtol=0)
    # An arc through the unit sphere turns about an axis across both, by no more than it must.
    torch.testing.assert_close(2 * arc[:, 3].acos(), (start * end).sum(-1).acos())


def test_zero_stays_zero_when_normalized():
    assert normalize(torch.zeros(3)).tolist() == [0, 0, 0]
    torch.testing.assert_close(normalize(torch.tensor([0.0, 3, 4])), torch.tensor([0, 0.6, 0.8]))


def test_torch_and_the_contract_place_joints_alike(random_poses: Motion):
    joints = forward_kinematics(
        torch.from_numpy(random_poses.root_positions_m).double(),
        torch.from_numpy(random_poses.joint_rotations).double(),
        torch.from_numpy(BODY_22.offsets_m).double(),
        BODY_22.parents,
    )
    np.testing.assert_allclose(joints.numpy(), random_poses.joint_positions_m(), atol=1e-6)


def test_torch_and_the_contract_multiply_and_rotate_alike():
    left, right = random_rotations(), random_rotations().flip(0)
    np.testing.assert_allclose(multiply(left, right).numpy(), contract.multiply(left.numpy(), right.numpy()))
    vectors = right[:, :3]
    np.testing.assert_allclose(
        rotate(left, vectors).numpy(), contract.rotate(left.numpy(), vectors.numpy()), atol=1e-12
    )
    np.testing.assert_allclose(
        rotations.cross(left[:, :3], vectors).numpy(), np.cross(left[:, :3].numpy(), vectors.numpy()), atol=1e-12
    )
