from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from python_core.clips.prepared import read_prepared
from python_core.contract.plan import parse_plan
from python_core.contract.skeleton import BODY_22
from python_core.evaluators.changed_rows import SEAM_ROWS, beat_edges, change_speed, reverse_beats
from python_core.features import feature_slices

SLICES = feature_slices(BODY_22)


@pytest.fixture
def walk(prepared_folder: Path) -> NDArray[np.float32]:
    prepared = read_prepared(prepared_folder)
    return np.array(prepared.features(prepared.split("train")[0]))


def test_beats_share_the_rows_as_their_durations_say():
    assert beat_edges(parse_plan("1. walk, 1.0 s 2. sit, 0.4 s 3. wave, 1.6 s"), 60) == [0, 20, 28, 60]


def test_reversed_beats_keep_their_rows_and_meet_at_the_seam(walk: NDArray[np.float32]):
    edges = [0, 24, 60]
    turned = reverse_beats(walk[:60], edges)
    parts = np.concatenate([walk[24:60], walk[:24]])
    for part in ("root_yaw_velocity", "root_velocity", "joint_velocities", "foot_contacts"):
        np.testing.assert_array_equal(turned[:, SLICES[part]], parts[:, SLICES[part]])
    far = np.abs(np.arange(60) - 35.5) > SEAM_ROWS
    np.testing.assert_array_equal(turned[far], parts[far])
    poses = SLICES["joint_positions"]
    np.testing.assert_allclose(turned[35, poses], turned[36, poses], atol=1e-6)
    np.testing.assert_allclose(turned[35, poses], (parts[35, poses] + parts[36, poses]) / 2, atol=1e-6)


def test_twice_the_speed_is_half_the_rows_and_twice_the_steps(walk: NDArray[np.float32]):
    fast = change_speed(walk[:61], 31)
    steps = SLICES["root_velocity"]
    # 1.2 m/s forward at 20 rows a second.
    np.testing.assert_allclose(walk[10:50, steps], np.tile([0.0, 0.06], (40, 1)), atol=2e-3)
    np.testing.assert_allclose(fast[5:25, steps], np.tile([0.0, 0.12], (20, 1)), atol=4e-3)
    for part in ("root_height", "joint_positions", "joint_rotations", "foot_contacts"):
        np.testing.assert_allclose(fast[:, SLICES[part]], walk[:61:2, SLICES[part]], atol=1e-6)
    np.testing.assert_allclose(
        fast[:, SLICES["joint_velocities"]], 2 * walk[:61:2, SLICES["joint_velocities"]], atol=1e-6
    )


def test_another_speed_goes_as_far_and_contacts_stay_0_or_1(walk: NDArray[np.float32]):
    slow = change_speed(walk[:60], 66)
    assert len(slow) == 66
    way = SLICES["root_velocity"]
    assert slow[:, way].sum(axis=0)[1] == pytest.approx(walk[:60, way].sum(axis=0)[1], rel=0.02)
    assert set(np.unique(slow[:, SLICES["foot_contacts"]])) <= {0.0, 1.0}
    np.testing.assert_array_equal(change_speed(walk[:60], 60), walk[:60])
