"""Quaternions x, y, z, w, matrices, the 6-number form, forward kinematics; torch, differentiable, exportable."""

from collections.abc import Sequence

import torch
from torch import Tensor

EPSILON = 1e-8


class _Bilinear:
    """Sums of products of the numbers of two vectors, as 4 nodes of a graph: a stream waits for each node.

    Args:
        rows: For each number of the result its terms: a sign, a place on the left and one on the right.
    """

    def __init__(self, *rows: Sequence[tuple[int, int, int]]) -> None:
        self.rows = rows
        terms = [term for row in rows for term in row]
        self.left, self.right = [i for _, i, _ in terms], [j for _, _, j in terms]
        self.sums = [[float(term[0] * (row is its_row)) for its_row in rows] for row in rows for term in row]

    def __call__(self, left: Tensor, right: Tensor) -> Tensor:
        return (take(left, self.left, -1) * take(right, self.right, -1)) @ left.new_tensor(self.sums)


_CROSS = _Bilinear(
    [(1, 1, 2), (-1, 2, 1)],
    [(1, 2, 0), (-1, 0, 2)],
    [(1, 0, 1), (-1, 1, 0)],
)
_PRODUCT = _Bilinear(
    [(1, 3, 0), (1, 0, 3), (1, 1, 2), (-1, 2, 1)],
    [(1, 3, 1), (1, 1, 3), (1, 2, 0), (-1, 0, 2)],
    [(1, 3, 2), (1, 2, 3), (1, 0, 1), (-1, 1, 0)],
    [(1, 3, 3), (-1, 0, 0), (-1, 1, 1), (-1, 2, 2)],
)
_TIMES_VECTOR = _Bilinear(*([term for term in row if term[2] != 3] for row in _PRODUCT.rows))
_VECTOR_OF_TIMES_INVERSE = _Bilinear(
    *([(sign if right == 3 else -sign, left, right) for sign, left, right in row] for row in _PRODUCT.rows[:3])
)


def normalize(vectors: Tensor) -> Tensor:
    """Unit vectors, [..., N]; a zero vector stays zero."""
    return vectors / (vectors.square().sum(-1, keepdim=True) + EPSILON**2).sqrt()


def cross(left: Tensor, right: Tensor) -> Tensor:
    """Cross product, [..., 3]; `torch.linalg.cross` does not export."""
    return _CROSS(left, right)


def take(x: Tensor, places: Sequence[int], dim: int = -2) -> Tensor:
    """What is at some places of a dimension, joints unless said; fewer nodes in ONNX than `x[..., places, :]`."""
    return x.index_select(dim, torch.tensor(places, device=x.device))


def multiply(left: Tensor, right: Tensor) -> Tensor:
    """Quaternion product: the rotation `right`, then `left`, [..., 4]."""
    return _PRODUCT(left, right)


def inverse(rotations: Tensor) -> Tensor:
    """The opposite rotation, [..., 4]."""
    return torch.cat([-rotations[..., :3], rotations[..., 3:]], dim=-1)


def rotate(rotations: Tensor, vectors: Tensor) -> Tensor:
    """Turn vectors, [..., 3], by unit quaternions, [..., 4]."""
    return _VECTOR_OF_TIMES_INVERSE(_TIMES_VECTOR(rotations, vectors), rotations)


def yaw_rotation(yaw: Tensor) -> Tensor:
    """The rotation about +Y that takes +Z towards +X by `yaw` radians, [...] -> [..., 4]."""
    zero = torch.zeros_like(yaw)
    return torch.stack([zero, (yaw / 2).sin(), zero, (yaw / 2).cos()], dim=-1)


def shortest_arc(start: Tensor, end: Tensor) -> Tensor:
    """The smallest rotation that takes the unit vector `start` to `end`, [..., 3] -> [..., 4].

    For opposite vectors, which have none, it is a half turn about no fixed axis: callers keep away from them.
    """
    w = 1 + (start * end).sum(-1, keepdim=True)
    return normalize(torch.cat([cross(start, end), w], dim=-1))


def quaternion_to_matrix(rotations: Tensor) -> Tensor:
    """Rotation matrices that turn column vectors, [..., 4] -> [..., 3, 3]."""
    columns = [rotate(rotations, axis) for axis in torch.eye(3, dtype=rotations.dtype, device=rotations.device)]
    return torch.stack(columns, dim=-1)


# Four ways to read a quaternion off a matrix, each 4 numbers: times 4 and times its component number 0, 1, 2 or 3. A
# term is a sign and a place in the matrix, row after row; a square has 1 more.
_READINGS = (
    ([(1, 0), (-1, 4), (-1, 8)], [(1, 1), (1, 3)], [(1, 2), (1, 6)], [(1, 7), (-1, 5)]),
    ([(1, 1), (1, 3)], [(-1, 0), (1, 4), (-1, 8)], [(1, 5), (1, 7)], [(1, 2), (-1, 6)]),
    ([(1, 2), (1, 6)], [(1, 5), (1, 7)], [(-1, 0), (-1, 4), (1, 8)], [(1, 3), (-1, 1)]),
    ([(1, 7), (-1, 5)], [(1, 2), (-1, 6)], [(1, 3), (-1, 1)], [(1, 0), (1, 4), (1, 8)]),
)
_READING_SUMS = [
    [float(sum(sign for sign, place in terms if place == row)) for reading in _READINGS for terms in reading]
    for row in range(9)
]
_READING_ONES = [float(reading == component) for reading in range(4) for component in range(4)]
_READING_SQUARES = (0, 5, 10, 15)


def matrix_to_quaternion(matrices: Tensor) -> Tensor:
    """Unit quaternions with w >= 0, [..., 3, 3] -> [..., 4].

    Each of the four ways to read a quaternion off a matrix divides by one of its components; the largest is chosen.
    """
    readings = matrices.flatten(-2) @ matrices.new_tensor(_READING_SUMS) + matrices.new_tensor(_READING_ONES)
    best = take(readings, _READING_SQUARES, -1).argmax(dim=-1, keepdim=True)
    places = (4 * best + torch.arange(4, device=best.device)).expand(*matrices.shape[:-2], 4)
    chosen = normalize(readings.gather(-1, places))
    return torch.where(chosen[..., 3:] < 0, -chosen, chosen)


def quaternion_to_6d(rotations: Tensor) -> Tensor:
    """The first two columns of the matrix one after the other, [..., 4] -> [..., 6].

    Source: Zhou et al. 2019, On the Continuity of Rotation Representations in Neural Networks.
    """
    matrix = quaternion_to_matrix(rotations)
    return torch.cat([matrix[..., 0], matrix[..., 1]], dim=-1)


def matrix_from_6d(columns: Tensor) -> Tensor:
    """Matrices by Gram-Schmidt from two columns, [..., 6] -> [..., 3, 3]."""
    return frame(columns[..., :3], columns[..., 3:])


def frame(x_axis: Tensor, y_axis: Tensor) -> Tensor:
    """Right-handed frame as a matrix of columns: X along `x_axis`, Y as near to `y_axis` as it can, [..., 3, 3]."""
    x = normalize(x_axis)
    y = normalize(y_axis - (y_axis * x).sum(-1, keepdim=True) * x)
    return torch.stack([x, y, cross(x, y)], dim=-1)


def forward_kinematics(
    root_positions: Tensor, joint_rotations: Tensor, offsets: Tensor, parents: Sequence[int]
) -> Tensor:
    """Joint positions, [..., 3] and [..., J, 4] local rotations -> [..., J, 3]."""
    positions, turned = [root_positions], [joint_rotations[..., 0, :]]
    for joint, parent in enumerate(parents[1:], start=1):
        positions.append(positions[parent] + rotate(turned[parent], offsets[joint]))
        turned.append(multiply(turned[parent], joint_rotations[..., joint, :]))
    return torch.stack(positions, dim=-2)
