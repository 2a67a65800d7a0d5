"""Quaternions x, y, z, w, matrices, the 6-number form, forward kinematics; torch, differentiable, exportable."""

from collections import Counter
from collections.abc import Sequence
from functools import reduce
from operator import mul

import torch
from torch import Tensor

EPSILON = 1e-8


_Term = tuple[int, ...]
"""A factor, and a place in each of the vectors that are multiplied."""


class _Product:
    """Sums of products of numbers of some vectors, as few nodes of a graph: a stream waits for each node.

    Numbers are picked by matrices of zeros and ones, which ONNX Runtime does many times faster than by an index for
    each.

    Args:
        sizes: Numbers in each vector.
        rows: For each number of the result its terms.
    """

    def __init__(self, sizes: Sequence[int], *rows: Sequence[_Term]) -> None:
        self.rows = rows
        terms = [term for row in rows for term in row]
        self.picks = [
            [[float(term[1 + k] == place) for term in terms] for place in range(size)] for k, size in enumerate(sizes)
        ]
        self.sums = [[float(term[0] * (row is its_row)) for its_row in rows] for row in rows for term in row]

    def __call__(self, *vectors: Tensor) -> Tensor:
        picked = (vector @ vector.new_tensor(pick) for vector, pick in zip(vectors, self.picks, strict=True))
        return reduce(mul, picked) @ vectors[0].new_tensor(self.sums)


def _turned_vector(product: Sequence[Sequence[_Term]]) -> list[list[_Term]]:
    """The vector part of rotation times vector times inverse rotation, in numbers of rotation, rotation and vector."""
    rows = []
    for row in product[:3]:
        terms: Counter[tuple[int, int, int]] = Counter()
        for factor, first, second in row:
            for its_factor, rotation, vector in product[first]:
                if vector != 3:
                    places = (min(rotation, second), max(rotation, second), vector)
                    terms[places] += factor * its_factor * (1 if second == 3 else -1)
        rows.append([(factor, *places) for places, factor in terms.items() if factor])
    return rows


_CROSS_TERMS = (
    [(1, 1, 2), (-1, 2, 1)],
    [(1, 2, 0), (-1, 0, 2)],
    [(1, 0, 1), (-1, 1, 0)],
)
_PRODUCT_TERMS = (
    [(1, 3, 0), (1, 0, 3), (1, 1, 2), (-1, 2, 1)],
    [(1, 3, 1), (1, 1, 3), (1, 2, 0), (-1, 0, 2)],
    [(1, 3, 2), (1, 2, 3), (1, 0, 1), (-1, 1, 0)],
    [(1, 3, 3), (-1, 0, 0), (-1, 1, 1), (-1, 2, 2)],
)
_CROSS = _Product((3, 3), *_CROSS_TERMS)
_CROSS_AND_DOT = _Product((3, 3), *_CROSS_TERMS, [(1, 0, 0), (1, 1, 1), (1, 2, 2)])
_PRODUCT = _Product((4, 4), *_PRODUCT_TERMS)
_FROM_LEFT = _Product((4, 4), *([(f if i == 3 else -f, i, j) for f, i, j in row] for row in _PRODUCT_TERMS))
_FROM_RIGHT = _Product((4, 4), *([(f if j == 3 else -f, i, j) for f, i, j in row] for row in _PRODUCT_TERMS))
_TURNED_VECTOR = _Product((4, 4, 3), *_turned_vector(_PRODUCT_TERMS))


def normalize(vectors: Tensor) -> Tensor:
    """Unit vectors, [..., N]; a zero vector stays zero."""
    return vectors / vectors.norm(dim=-1, keepdim=True).clamp(min=EPSILON)


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


def multiply_inverse(left: Tensor, right: Tensor) -> Tensor:
    """The rotation opposite to `right`, then `left`; `multiply` with an inverse in fewer nodes, [..., 4]."""
    return _FROM_RIGHT(left, right)


def inverse_multiply(left: Tensor, right: Tensor) -> Tensor:
    """The rotation `right`, then the one opposite to `left`, [..., 4]."""
    return _FROM_LEFT(left, right)


def rotate(rotations: Tensor, vectors: Tensor) -> Tensor:
    """Turn vectors, [..., 3], by unit quaternions, [..., 4]."""
    return _TURNED_VECTOR(rotations, rotations, vectors)


def yaw_rotation(yaw: Tensor) -> Tensor:
    """The rotation about +Y that takes +Z towards +X by `yaw` radians, [...] -> [..., 4]."""
    half = yaw[..., None] / 2
    return torch.cat([half.sin(), half.cos()], dim=-1) @ yaw.new_tensor([[0.0, 1, 0, 0], [0, 0, 0, 1]])


def shortest_arc(start: Tensor, end: Tensor) -> Tensor:
    """The smallest rotation that takes the unit vector `start` to `end`, [..., 3] -> [..., 4].

    For opposite vectors, which have none, it is a half turn about no fixed axis: callers keep away from them.
    """
    return normalize(_CROSS_AND_DOT(start, end) + start.new_tensor([0.0, 0.0, 0.0, 1.0]))


def quaternion_to_matrix(rotations: Tensor) -> Tensor:
    """Rotation matrices that turn column vectors, [..., 4] -> [..., 3, 3]."""
    columns = [rotate(rotations, axis) for axis in torch.eye(3, dtype=rotations.dtype, device=rotations.device)]
    return torch.stack(columns, dim=-1)


# Four ways to read a quaternion off a matrix, each 4 numbers: times 4 and times its component number 0, 1, 2 or 3. A
# term is a sign and a place in the matrix, column after column; a square has 1 more.
_READINGS = (
    ([(1, 0), (-1, 4), (-1, 8)], [(1, 3), (1, 1)], [(1, 6), (1, 2)], [(1, 5), (-1, 7)]),
    ([(1, 3), (1, 1)], [(-1, 0), (1, 4), (-1, 8)], [(1, 7), (1, 5)], [(1, 6), (-1, 2)]),
    ([(1, 6), (1, 2)], [(1, 7), (1, 5)], [(-1, 0), (-1, 4), (1, 8)], [(1, 1), (-1, 3)]),
    ([(1, 5), (-1, 7)], [(1, 6), (-1, 2)], [(1, 1), (-1, 3)], [(1, 0), (1, 4), (1, 8)]),
)
_READING_SUMS = [
    [float(sum(sign for sign, place in terms if place == row)) for reading in _READINGS for terms in reading]
    for row in range(9)
]
_READING_ONES = [float(reading == component) for reading in range(4) for component in range(4)]
_READING_SQUARES = (0, 5, 10, 15)


def matrix_to_quaternion(matrices: Tensor) -> Tensor:
    """Unit quaternions with w >= 0, [..., 3, 3] -> [..., 4]."""
    return with_positive_w(_columns_to_quaternion(matrices.mT.flatten(-2)))


def with_positive_w(rotations: Tensor) -> Tensor:
    """The same rotations with w >= 0, [..., 4]."""
    # A product puts w beside each number, since ONNX Runtime is slow where a last dimension of 1 meets another.
    w = rotations @ rotations.new_tensor([[0.0] * 4] * 3 + [[1.0] * 4])
    return torch.where(w < 0, -rotations, rotations)


def _columns_to_quaternion(columns: Tensor) -> Tensor:
    """Unit quaternions of either sign from matrices, column after column, [..., 9] -> [..., 4].

    Each of the four ways to read a quaternion off a matrix divides by one of its components; the largest is chosen.
    """
    readings = columns @ columns.new_tensor(_READING_SUMS) + columns.new_tensor(_READING_ONES)
    best = take(readings, _READING_SQUARES, -1).argmax(dim=-1, keepdim=True)
    places = (4 * best + torch.arange(4, device=best.device)).expand(*columns.shape[:-1], 4)
    return normalize(readings.gather(-1, places))


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
    return torch.stack(_axes(x_axis, y_axis), dim=-1)


def frame_rotation(x_axis: Tensor, y_axis: Tensor) -> Tensor:
    """The same frame as a unit quaternion of either sign, [..., 3] -> [..., 4]."""
    return _columns_to_quaternion(torch.cat(_axes(x_axis, y_axis), dim=-1))


def _axes(x_axis: Tensor, y_axis: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    x = normalize(x_axis)
    y = normalize(y_axis - (y_axis * x).sum(-1, keepdim=True) * x)
    return x, y, cross(x, y)


def forward_kinematics(
    root_positions: Tensor, joint_rotations: Tensor, offsets: Tensor, parents: Sequence[int]
) -> Tensor:
    """Joint positions, [..., 3] and [..., J, 4] local rotations -> [..., J, 3]."""
    positions, turned = [root_positions], [joint_rotations[..., 0, :]]
    for joint, parent in enumerate(parents[1:], start=1):
        positions.append(positions[parent] + rotate(turned[parent], offsets[joint]))
        turned.append(multiply(turned[parent], joint_rotations[..., joint, :]))
    return torch.stack(positions, dim=-2)
