"""Exact features as another motion would have them: beats in reverse order, or played faster or slower.

Rows are relative to the heading and the root, so that parts of a motion can be put one after the other.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from python_core.contract.plan import Plan
from python_core.contract.skeleton import BODY_22
from python_core.features import feature_slices

SEAM_ROWS = 8
"""What a seam makes up for is spread over so many rows on each side of it, 0.4 s."""

_POSES = ("root_height", "joint_positions", "joint_rotations")
_STEPS = ("root_yaw_velocity", "root_velocity", "joint_velocities")


def beat_edges(plan: Plan, num_rows: int) -> list[int]:
    """First row of each beat, and the end of the last."""
    ends = np.cumsum([beat.duration_s for beat in plan.beats])
    return [0, *np.round(ends / ends[-1] * num_rows).astype(int).tolist()]


def reverse_beats(rows: NDArray[np.float32], edges: Sequence[int]) -> NDArray[np.float32]:
    """The last beat first and the first last, [F, D] -> [F, D].

    Poses that do not meet go to the middle between them on both sides, as if blended: a jump would tell which motions
    are reversed, and so which captions.

    Args:
        rows: Exact features.
        edges: As `beat_edges` has them.
    """
    parts = [np.array(rows[first:last]) for first, last in pairwise(edges)][::-1]
    for before, after in pairwise(parts):
        for part in _POSES:
            columns = feature_slices(BODY_22)[part]
            half = (after[0, columns] - before[-1, columns]) / 2
            into, out = _ramp(len(before)), _ramp(len(after))
            before[-len(into) :, columns] += into[::-1, None] * half
            after[: len(out), columns] -= out[:, None] * half
    return np.concatenate(parts)


def change_speed(rows: NDArray[np.float32], num_rows: int) -> NDArray[np.float32]:
    """The same motion in another number of rows, [F, D] -> [num_rows, D].

    Poses are interpolated, steps as well and scaled; contacts are the nearest.

    Args:
        rows: Exact features, 2 or more.
        num_rows: 2 or more.
    """
    times = np.linspace(0, len(rows) - 1, num_rows)
    first = np.minimum(times.astype(int), len(rows) - 2)
    share = (times - first)[:, None].astype(np.float32)
    changed = np.asarray((1 - share) * rows[first] + share * rows[first + 1], np.float32)
    slices = feature_slices(BODY_22)
    for part in _STEPS:
        changed[:, slices[part]] *= (len(rows) - 1) / (num_rows - 1)
    contacts = slices["foot_contacts"]
    changed[:, contacts] = rows[np.round(times).astype(int), contacts]
    return changed


def _ramp(num_rows: int) -> NDArray[np.float32]:
    """From 1 at the seam towards 0, for half a beat at most."""
    length = max(1, min(SEAM_ROWS, num_rows // 2))
    return np.linspace(1, 0, length, endpoint=False, dtype=np.float32)
