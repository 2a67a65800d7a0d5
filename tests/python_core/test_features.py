from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from python_core.contract.motion import Motion
from python_core.contract.skeleton import BODY_22
from python_core.features import (
    Normalizer,
    canonical_joints,
    exact_features,
    feature_slices,
    features_to_joints,
    mirror_joints,
    num_features,
    origin,
    published_features,
)
from python_core.rotations import matrix_from_6d, quaternion_to_matrix, yaw_rotation

SLICES = feature_slices(BODY_22)
Joints = NDArray[np.float32]


def turned(joints_m: Joints, yaw: float | NDArray[np.floating]) -> Joints:
    """Turn each frame about +Y, from +Z towards +X."""
    sine, cosine = (np.broadcast_to(f(yaw), len(joints_m))[:, None] for f in (np.sin, np.cos))
    x, y, z = np.moveaxis(joints_m.astype(np.float64), -1, 0)
    return np.stack([x * cosine + z * sine, y, z * cosine - x * sine], axis=-1).astype(np.float32)


def t_pose(num_frames: int) -> Joints:
    return np.tile(BODY_22.rest_joints_m, (num_frames, 1, 1))


def walking_a_circle(num_frames: int, frames_a_round: int, radius_m: float) -> Joints:
    """A T-pose that goes around to the left and faces along the circle."""
    yaw = 2 * np.pi * np.arange(num_frames) / frames_a_round
    place_m = radius_m * np.stack([1 - np.cos(yaw), 0 * yaw, np.sin(yaw)], axis=-1)
    return (turned(t_pose(num_frames), yaw) + place_m[:, None]).astype(np.float32)


def to_joints(rows: NDArray[np.float32]) -> Joints:
    features = torch.from_numpy(rows).double()[None]
    return features_to_joints(features, origin(1, features))[0][0].numpy().astype(np.float32)


def clip(clips_folder: Path, clip_id: str) -> Joints:
    return np.load(clips_folder / "new_joints" / f"{clip_id}.npy")


def test_parts_of_a_row_are_where_humanml3d_has_them():
    documented = {
        "root_yaw_velocity": (0, 1),
        "root_velocity": (1, 3),
        "root_height": (3, 4),
        "joint_positions": (4, 67),
        "joint_rotations": (67, 193),
        "joint_velocities": (193, 259),
        "foot_contacts": (259, 263),
    }
    assert {name: (part.start, part.stop) for name, part in SLICES.items()} == documented
    columns = [column for part in SLICES.values() for column in range(part.start, part.stop)]
    assert columns == list(range(num_features(BODY_22))) == list(range(263))


@pytest.mark.parametrize("extract", [lambda joints_m: exact_features(joints_m, 20), published_features])
def test_walking_a_circle_turns_by_minus_twice_the_row_and_steps_by_the_chord(
    extract: Callable[[Joints], NDArray[np.float32]],
):
    # Smoothing reaches 80 frames from the ends; between them a steady turn stays as it is.
    rows = extract(walking_a_circle(400, frames_a_round=101, radius_m=2.0))[85:-85]
    step = 2 * np.pi / 101
    chord_m = 2 * 2.0 * np.sin(step / 2)
    yaw_velocity = rows[:, SLICES["root_yaw_velocity"]][:, 0]
    # The published sign is wrong where the heading crosses half a turn.
    crossings = np.abs(yaw_velocity - step / 2) < 1e-5
    np.testing.assert_allclose(yaw_velocity[~crossings], -step / 2, atol=1e-5)
    # The chord lies half a step before the heading of frame t + 1.
    expected_m = np.tile([-chord_m * np.sin(step / 2), chord_m * np.cos(step / 2)], (len(rows), 1))
    np.testing.assert_allclose(rows[:, SLICES["root_velocity"]], expected_m, atol=1e-5)
    np.testing.assert_allclose(rows[:, SLICES["root_height"]], BODY_22.rest_root_height_m, atol=1e-6)


def test_walking_whole_circles_returns_to_where_it_started():
    joints_m = canonical_joints(walking_a_circle(321, frames_a_round=80, radius_m=1.0))
    back_m = to_joints(exact_features(joints_m, 20))
    assert len(back_m) == 320
    np.testing.assert_allclose(back_m[[80, 160, 240]], back_m[[0, 0, 0]], atol=1e-4)
    # On the other side of the circle it is two radii away.
    assert np.linalg.norm((back_m[40] - back_m[0])[0]) == pytest.approx(2.0, abs=1e-4)


@pytest.mark.parametrize("clip_id", ["000000t", "000011t", "000022v", "000033t"])
def test_joints_come_back_from_exact_features(clips_folder: Path, clip_id: str):
    joints_m = canonical_joints(clip(clips_folder, clip_id))
    np.testing.assert_allclose(to_joints(exact_features(joints_m, 20)), joints_m[:-1], atol=1e-5)


def test_joints_of_smooth_motions_come_back_from_exact_features(smooth_motions: list[Motion]):
    for motion in smooth_motions[:4]:
        joints_m = canonical_joints(motion.joint_positions_m())
        np.testing.assert_allclose(to_joints(exact_features(joints_m, 20)), joints_m[:-1], atol=1e-5)


def test_exact_rotations_are_the_solvers_and_velocities_the_steps(smooth_motions: list[Motion]):
    joints_m = canonical_joints(smooth_motions[0].joint_positions_m())
    rows = exact_features(joints_m, 20)
    # Heading of each frame, by the rows themselves.
    yaw = -2 * np.concatenate([[0], np.cumsum(rows[:-1, 0].astype(np.float64))])
    steps_m = np.diff(joints_m.astype(np.float64), axis=0)
    velocities = turned(steps_m.astype(np.float32), -yaw).reshape(len(rows), -1)
    np.testing.assert_allclose(rows[:, SLICES["joint_velocities"]], velocities, atol=1e-5)
    matrices = matrix_from_6d(torch.from_numpy(rows[:, SLICES["joint_rotations"]]).reshape(-1, 21, 6))
    # The elbow, solved as a hinge's child, keeps the length of both bones and the angle between them.
    cosines = matrices[:, 17, :, 0].numpy() @ [1, 0, 0]
    upper, lower = joints_m[:-1, 18] - joints_m[:-1, 16], joints_m[:-1, 20] - joints_m[:-1, 18]
    expected = (upper * lower).sum(-1) / np.linalg.norm(upper, axis=-1) / np.linalg.norm(lower, axis=-1)
    np.testing.assert_allclose(cosines, expected, atol=1e-5)


def test_pieces_give_the_joints_of_the_whole(smooth_motions: list[Motion]):
    rows = exact_features(canonical_joints(smooth_motions[1].joint_positions_m()), 20)
    features = torch.from_numpy(rows).double()[None]
    whole, end = features_to_joints(features, origin(1, features))
    state, pieces = origin(1, features), []
    for piece in features.split([1, 4, 4, 40, 70], dim=1):
        joints, state = features_to_joints(piece, state)
        pieces.append(joints)
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole, atol=1e-9, rtol=0)
    torch.testing.assert_close(state.position, end.position)
    torch.testing.assert_close(state.yaw, end.yaw)


def test_clips_of_a_batch_do_not_touch_each_other(smooth_motions: list[Motion]):
    rows = [exact_features(canonical_joints(motion.joint_positions_m()), 20) for motion in smooth_motions[:3]]
    features = torch.from_numpy(np.stack(rows)).double()
    together = features_to_joints(features, origin(3, features))[0]
    for number in range(3):
        np.testing.assert_allclose(together[number].numpy(), to_joints(rows[number]), atol=1e-6)


def mirror_rows(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """What mirroring does to exact features: left and right change places, x and turns about Y and Z change signs."""
    others = np.array(BODY_22.mirror_joints[1:]) - 1
    mirrored = rows.copy()
    mirrored[:, SLICES["root_yaw_velocity"]] *= -1
    mirrored[:, SLICES["root_velocity"]] *= [-1, 1]
    for part, joints, signs in (
        ("joint_positions", others, [-1, 1, 1]),
        ("joint_rotations", others, [1, -1, -1, -1, 1, 1]),
        ("joint_velocities", np.array(BODY_22.mirror_joints), [-1, 1, 1]),
    ):
        values = rows[:, SLICES[part]].reshape(len(rows), len(joints), -1)
        mirrored[:, SLICES[part]] = (values[:, joints] * signs).reshape(len(rows), -1)
    mirrored[:, SLICES["foot_contacts"]] = rows[:, SLICES["foot_contacts"]][:, [2, 3, 0, 1]]
    return mirrored


def test_a_mirrored_clip_has_mirrored_features(smooth_motions: list[Motion]):
    joints_m = canonical_joints(smooth_motions[2].joint_positions_m())
    rows, mirrored = exact_features(joints_m, 20), exact_features(mirror_joints(joints_m), 20)
    np.testing.assert_allclose(mirrored, mirror_rows(rows), atol=1e-5)
    np.testing.assert_array_equal(mirror_joints(mirror_joints(joints_m)), joints_m)


def test_a_mirrored_clip_is_canonical_as_the_clip_is(smooth_motions: list[Motion]):
    joints_m = smooth_motions[3].joint_positions_m()
    np.testing.assert_allclose(
        canonical_joints(mirror_joints(joints_m)), mirror_joints(canonical_joints(joints_m)), atol=1e-5
    )


def test_a_contact_of_the_left_foot_becomes_one_of_the_right():
    joints_m = t_pose(10)
    # The right foot is in the air.
    joints_m[:, [8, 11], 1] += 0.2
    contacts = exact_features(joints_m, 20)[:, SLICES["foot_contacts"]]
    assert contacts.tolist() == [[1, 1, 0, 0]] * 9
    mirrored = exact_features(mirror_joints(joints_m), 20)[:, SLICES["foot_contacts"]]
    assert mirrored.tolist() == [[0, 0, 1, 1]] * 9


@pytest.mark.parametrize(
    ("height_m", "step_m", "contact"),
    [(0.0, 0.0, 1), (0.049, 0.024, 1), (0.051, 0.0, 0), (0.0, 0.026, 0)],
)
def test_an_exact_contact_is_within_5_cm_of_the_rest_height_and_slower_than_half_a_metre_a_second(
    height_m: float, step_m: float, contact: int
):
    joints_m = t_pose(10)
    joints_m[..., 1] += height_m
    joints_m[..., 2] += step_m * np.arange(10, dtype=np.float32)[:, None]
    assert (exact_features(joints_m, 20)[:, SLICES["foot_contacts"]] == contact).all()


def test_a_canonical_clip_stands_on_the_floor_at_the_origin_and_faces_plus_z(smooth_motions: list[Motion]):
    for motion in smooth_motions[:4]:
        joints_m = canonical_joints(turned(motion.joint_positions_m(), 2.5) + np.array([3, -2, 1], dtype=np.float32))
        assert joints_m[..., 1].min() == pytest.approx(0, abs=1e-6)
        np.testing.assert_allclose(joints_m[0, 0, [0, 2]], 0, atol=1e-6)
        np.testing.assert_allclose(canonical_joints(joints_m), joints_m, atol=2e-6)


@pytest.mark.parametrize("yaw", [0.0, 0.7, -2.0, np.pi / 2, np.pi])
def test_where_a_clip_was_and_faced_does_not_matter(clips_folder: Path, yaw: float):
    joints_m = clip(clips_folder, "000000t")
    moved_m = turned(joints_m, yaw) + np.array([1.5, 0.4, -2.0], dtype=np.float32)
    canonical_m = canonical_joints(moved_m)
    np.testing.assert_allclose(canonical_m, canonical_joints(joints_m), atol=1e-5)
    # It walks at 1.2 m/s, straight ahead.
    np.testing.assert_allclose(canonical_m[20, 0, [0, 2]], [0, 1.2], atol=1e-5)


def test_a_clip_that_faces_exactly_backwards_is_turned_around():
    joints_m = t_pose(30) * np.array([-1, 1, -1], dtype=np.float32)
    np.testing.assert_allclose(canonical_joints(joints_m), t_pose(30) - t_pose(30)[:, :1] * [1, 0, 1], atol=1e-6)


def test_another_body_gets_our_bone_lengths(smooth_motions: list[Motion]):
    joints_m = canonical_joints(1.3 * smooth_motions[5].joint_positions_m())
    lengths_m = np.linalg.norm(joints_m[:, 1:] - joints_m[:, list(BODY_22.parents[1:])], axis=-1)
    expected_m = np.linalg.norm(BODY_22.offsets_m[1:], axis=-1)
    np.testing.assert_allclose(lengths_m, np.tile(expected_m, (120, 1)), atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 22, 3), (10, 21, 3), (10, 22, 2), (10, 66)])
def test_joints_that_have_no_features_are_refused(shape: tuple[int, ...]):
    joints_m = np.zeros(shape, dtype=np.float32)
    with pytest.raises(ValueError, match=r"at least 2 frames of joints \[F, 22, 3\], got"):
        exact_features(joints_m, 20)
    with pytest.raises(ValueError, match=r"at least 2 frames of joints \[F, 22, 3\], got"):
        published_features(joints_m)


# What HumanML3D's scripts write.


def test_published_row_0_jumps_from_no_heading_to_that_of_frame_1():
    rows = published_features(turned(t_pose(10), 0.3))
    np.testing.assert_allclose(rows[:, 0], [-0.15, *[0] * 8], atol=1e-6)
    assert np.abs(exact_features(turned(t_pose(10), 0.3), 20)[:, 0]).max() < 1e-6
    # Row 0 is in the world's axes, those after it in the body's.
    positions = rows[:, SLICES["joint_positions"]].reshape(-1, 21, 3)
    rest_m = (BODY_22.rest_joints_m - BODY_22.rest_joints_m[0] * [1, 0, 1])[1:]
    np.testing.assert_allclose(positions[0], turned(rest_m[None].astype(np.float32), 0.3)[0], atol=1e-6)
    np.testing.assert_allclose(positions[5], rest_m, atol=1e-6)


def test_published_yaw_has_the_wrong_sign_in_the_one_frame_that_crosses_half_a_turn():
    # Half a turn falls between frames 149 and 150.
    yaw = np.pi + 0.02 * (np.arange(300) - 149.5)
    rows = published_features(turned(t_pose(300), yaw))[85:-85, 0]
    expected = np.full(len(rows), -0.01)
    expected[149 - 85] = 0.01
    np.testing.assert_allclose(rows, expected, atol=1e-5)
    exact = exact_features(turned(t_pose(300), yaw), 20)[85:-85, 0]
    np.testing.assert_allclose(exact, -0.01, atol=1e-5)


def test_published_heading_takes_the_hips_with_the_wrong_sign():
    # Hips turned by 0.4 to the left under shoulders that face ahead.
    joints_m = t_pose(10)
    joints_m[:, [1, 2]] = turned(joints_m[:, [1, 2]], 0.4)
    hips_m, shoulders_m = 2 * 0.0640, 2 * (0.0756 + 0.1220)
    # The vector from the right to the left: shoulders minus hips, each at its own yaw.
    x, z = shoulders_m - hips_m * np.cos(0.4), hips_m * np.sin(0.4)
    rows = published_features(joints_m)
    assert -2 * rows[0, 0] == pytest.approx(np.arctan2(-z, x), abs=1e-5)
    x = shoulders_m + hips_m * np.cos(0.4)
    assert exact_heading(joints_m) == pytest.approx(np.arctan2(z, x), abs=1e-5)


def exact_heading(joints_m: Joints) -> float:
    """Heading of a clip that keeps it, by where a point straight ahead of the root shows up."""
    positions = exact_features(joints_m, 20)[0, SLICES["joint_positions"]].reshape(21, 3)
    before, after = joints_m[0, 16] - joints_m[0, 0], positions[15]
    return float(np.arctan2(before[0], before[2]) - np.arctan2(after[0], after[2]))


@pytest.mark.parametrize(("step_m", "contact"), [(0.0, 1), (0.044, 1), (0.045, 0)])
@pytest.mark.parametrize("height_m", [0.0, 3.0])
def test_a_published_contact_is_a_step_whose_square_is_below_0_002_at_any_height(
    step_m: float, contact: int, height_m: float
):
    joints_m = t_pose(10)
    joints_m[..., 1] += height_m
    joints_m[..., 2] += step_m * np.arange(10, dtype=np.float32)[:, None]
    assert (published_features(joints_m)[:, SLICES["foot_contacts"]] == contact).all()


CHAINS = ((0, 2, 5, 8, 11), (0, 1, 4, 7, 10), (0, 3, 6, 9, 12, 15), (9, 14, 17, 19, 21), (9, 13, 16, 18, 20))
REFERENCE = {1: (1, 0, 0), 13: (1, 0, 0), 2: (-1, 0, 0), 14: (-1, 0, 0)}
REFERENCE |= {3: (0, 1, 0), 6: (0, 1, 0), 9: (0, 1, 0), 12: (0, 1, 0)}
REFERENCE |= {10: (0, 0, 1), 11: (0, 0, 1), 15: (0, 0, 1)}


@pytest.mark.parametrize("yaw", [0.0, 0.3, -1.2])
def test_published_rotations_chain_anew_from_the_heading_in_every_limb_and_give_the_bones(yaw: float):
    joints_m = turned(t_pose(6), yaw)
    joints_m[:, [20, 21]] += np.array([[-0.05, 0.1, 0.2], [0.1, 0.05, 0.1]], dtype=np.float32)
    joints_m[:, [4, 7, 10]] += np.array([0.05, 0.1, 0.2], dtype=np.float32)
    # Frame 0 has no heading; frame 1 has that of the clip, which shoulders and hips alone decide.
    row = published_features(joints_m)[1, SLICES["joint_rotations"]]
    local = matrix_from_6d(torch.from_numpy(row).double().reshape(21, 6)).numpy()
    to_heading = quaternion_to_matrix(yaw_rotation(torch.tensor(-yaw, dtype=torch.float64))).numpy()
    for chain in CHAINS:
        world = to_heading
        for start, end in pairwise(chain):
            world = world @ local[end - 1]
            bone = joints_m[1, end] - joints_m[1, start]
            bone = bone / np.linalg.norm(bone)
            reference = np.array(REFERENCE.get(end, (0, -1, 0)))
            np.testing.assert_allclose(world @ reference, bone, atol=1e-5)
            # The shortest arc has no twist: it turns by the angle between the two.
            assert np.trace(world) == pytest.approx(1 + 2 * (reference @ bone), abs=1e-5)


@pytest.mark.parametrize("clip_id", ["000000t", "000022t", "000033v"])
def test_joints_come_back_from_published_features_that_do_not_cross_half_a_turn(clips_folder: Path, clip_id: str):
    joints_m = canonical_joints(clip(clips_folder, clip_id))
    np.testing.assert_allclose(to_joints(published_features(joints_m)), joints_m[:-1], atol=1e-5)


def test_joints_come_back_from_published_features_of_a_turning_clip_with_a_jump_in_row_0():
    joints_m = walking_a_circle(120, frames_a_round=300, radius_m=1.0)
    joints_m -= joints_m[0, :1] * np.array([1, 0, 1], dtype=np.float32)
    assert abs(published_features(joints_m)[0, 0]) > 0.05
    np.testing.assert_allclose(to_joints(published_features(joints_m)), joints_m[:-1], atol=1e-5)


# Statistics.


def test_the_deviation_is_one_number_for_each_part_its_mean():
    random = np.random.default_rng(4)
    rows = (random.normal(size=(50, 263)) * random.uniform(0.5, 2, 263) + random.normal(size=263)).astype(np.float32)
    rows[:, 3] = 0.9
    normalizer = Normalizer.of(rows)
    np.testing.assert_allclose(normalizer.mean, rows.mean(axis=0), atol=1e-5)
    for name, part in SLICES.items():
        expected = 1e-4 if name == "root_height" else rows[:, part].std(axis=0).mean()
        np.testing.assert_allclose(normalizer.std[part], expected, rtol=1e-4)
    normal = normalizer.normalize(rows)
    np.testing.assert_allclose(normal.mean(axis=0), 0, atol=2e-3)
    assert normal[:, SLICES["joint_positions"]].std(axis=0).mean() == pytest.approx(1, abs=1e-4)


def test_the_deviation_of_a_long_split_keeps_its_digits():
    rows = np.random.default_rng(3).normal(100.0, 0.1, (20_000, 263)).astype(np.float32)
    expected = [rows[:, part].std(axis=0, dtype=np.float64).mean() for part in SLICES.values()]
    found = [Normalizer.of(rows).std[part.start] for part in SLICES.values()]
    np.testing.assert_allclose(found, expected, rtol=2e-7)
