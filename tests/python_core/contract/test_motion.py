from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from python_core.contract.motion import Motion, multiply, read_motion, rotate, write_motion
from python_core.contract.skeleton import BODY_22

HALF = np.sqrt(0.5)


def rest_motion(num_frames: int = 3) -> Motion:
    rotations = np.tile(np.array([0, 0, 0, 1], dtype=np.float32), (num_frames, 22, 1))
    root_m = np.tile(np.array([0, BODY_22.rest_root_height_m, 0], dtype=np.float32), (num_frames, 1))
    return Motion(root_m, rotations, np.zeros((num_frames, 4), dtype=np.bool_), 20.0)


def random_motion() -> Motion:
    random = np.random.default_rng(7)
    rotations = random.normal(size=(5, 22, 4))
    rotations /= np.linalg.norm(rotations, axis=-1, keepdims=True)
    contacts = random.random((5, 4)) < 0.5
    return Motion(random.normal(size=(5, 3)).astype(np.float32), rotations.astype(np.float32), contacts, 29.97)


def test_identities_give_the_t_pose():
    np.testing.assert_allclose(rest_motion().joint_positions_m()[1], BODY_22.rest_joints_m, atol=1e-6)


def test_a_left_elbow_bent_by_90_degrees_forward_brings_the_wrist_in_front_of_it():
    motion = rest_motion(1)
    # About -Y a quarter turn takes +X to +Z.
    motion.joint_rotations[0, BODY_22.joint("l_elbow")] = [0, -HALF, 0, HALF]
    joints_m = motion.joint_positions_m()[0]
    elbow_m, wrist_m = BODY_22.rest_joints_m[18], joints_m[20]
    np.testing.assert_allclose(joints_m[18], elbow_m, atol=1e-6)
    np.testing.assert_allclose(wrist_m, elbow_m + np.array([0, 0, 0.2680]), atol=1e-6)
    np.testing.assert_allclose(joints_m[21], BODY_22.rest_joints_m[21], atol=1e-6)


def test_a_shoulder_turns_what_hangs_on_it_and_its_rotation_comes_before_the_elbows():
    motion = rest_motion(1)
    # The arm hangs: a quarter turn about -Z takes +X to -Y; the elbow still bends forward.
    motion.joint_rotations[0, 16] = [0, 0, -HALF, HALF]
    motion.joint_rotations[0, 18] = [0, -HALF, 0, HALF]
    joints_m = motion.joint_positions_m()[0]
    shoulder_m = BODY_22.rest_joints_m[16]
    np.testing.assert_allclose(joints_m[18], shoulder_m + np.array([0, -0.2600, 0]), atol=1e-6)
    np.testing.assert_allclose(joints_m[20], shoulder_m + np.array([0, -0.2600, 0.2680]), atol=1e-6)


def test_the_root_turns_and_moves_everything():
    motion = rest_motion(1)
    motion.joint_rotations[0, 0] = [0, HALF, 0, HALF]
    motion.root_positions_m[0] = [1, 2, 3]
    # Facing +X, the left is at -Z.
    x, y, z = (BODY_22.rest_joints_m - BODY_22.rest_joints_m[0]).T
    np.testing.assert_allclose(motion.joint_positions_m()[0], np.stack([1 + z, 2 + y, 3 - x], axis=-1), atol=1e-6)


def test_a_product_turns_by_its_right_factor_first():
    about_x, about_y = np.array([HALF, 0, 0, HALF]), np.array([0, HALF, 0, HALF])
    # About X: +Y to +Z; then about Y: +Z to +X.
    np.testing.assert_allclose(rotate(multiply(about_y, about_x), np.array([0.0, 1, 0])), [1, 0, 0], atol=1e-12)
    np.testing.assert_allclose(rotate(multiply(about_x, about_y), np.array([0.0, 1, 0])), [0, 0, 1], atol=1e-12)


def test_bone_lengths_do_not_change():
    motion = random_motion()
    joints_m = motion.joint_positions_m()
    lengths_m = np.linalg.norm(joints_m[:, 1:] - joints_m[:, list(BODY_22.parents[1:])], axis=-1)
    expected_m = np.linalg.norm(BODY_22.offsets_m[1:], axis=-1)
    np.testing.assert_allclose(lengths_m, np.tile(expected_m, (5, 1)), atol=1e-6)


def test_21_frames_at_20_hz_last_a_second_and_a_twentieth():
    assert rest_motion(21).duration_s == pytest.approx(1.05)


def test_a_motion_comes_back_from_its_file_bit_for_bit(tmp_path: Path):
    motion, path = random_motion(), tmp_path / "a.npz"
    write_motion(path, motion, codes=np.array([3, 1, 511]))
    back = read_motion(path)
    for field in ("root_positions_m", "joint_rotations", "contacts"):
        np.testing.assert_array_equal(getattr(back, field), getattr(motion, field))
        assert getattr(back, field).dtype == getattr(motion, field).dtype
    assert (back.frame_rate_hz, back.skeleton) == (29.97, BODY_22)
    with np.load(path) as fields:
        assert fields["codes"].tolist() == [3, 1, 511]
        assert fields["parents"].tolist() == list(BODY_22.parents)
        np.testing.assert_array_equal(fields["rest_offsets_m"], BODY_22.offsets_m)


def spoil(values: np.ndarray, place: tuple[int, ...], value: float) -> np.ndarray:
    spoiled = values.copy()
    spoiled[place] = value
    return spoiled


REFUSED: dict[str, tuple[Callable[[Motion], dict[str, Any]], str]] = {
    "too few joints": (
        lambda m: {"joint_rotations": m.joint_rotations[:, :21]},
        r"joint_rotations must be \(3, 22, 4\), got \(3, 21, 4\)",
    ),
    "too few frames": (
        lambda m: {"joint_rotations": m.joint_rotations[:2]},
        r"joint_rotations must be \(3, 22, 4\), got \(2, 22, 4\)",
    ),
    "root in a plane": (
        lambda m: {"root_positions_m": m.root_positions_m[:, :2]},
        r"root_positions_m must be \(3, 3\), got \(3, 2\)",
    ),
    "two contacts": (lambda m: {"contacts": m.contacts[:, :2]}, r"contacts must be \(3, 4\), got \(3, 2\)"),
    "no frames": (
        lambda m: {name: getattr(m, name)[:0] for name in ("root_positions_m", "joint_rotations", "contacts")},
        "no frames",
    ),
    "no rate": (lambda m: {"frame_rate_hz": 0.0}, "frame_rate_hz must be positive and finite, got 0.0"),
    "negative rate": (lambda m: {"frame_rate_hz": -20.0}, "frame_rate_hz must be positive"),
    "rate not a number": (lambda m: {"frame_rate_hz": float("nan")}, "frame_rate_hz must be positive"),
    "endless rate": (lambda m: {"frame_rate_hz": float("inf")}, "frame_rate_hz must be positive"),
    "root not a number": (
        lambda m: {"root_positions_m": spoil(m.root_positions_m, (1, 2), np.nan)},
        "numbers that are not finite",
    ),
    "endless rotation": (
        lambda m: {"joint_rotations": spoil(m.joint_rotations, (1, 2, 0), np.inf)},
        "numbers that are not finite",
    ),
    "long quaternion": (
        lambda m: {"joint_rotations": spoil(m.joint_rotations, (1, 2, 3), 1.01)},
        "must be unit quaternions, one is off by 0.01",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_motion_that_does_not_fit_is_refused_and_the_field_named(name: str):
    change, message = REFUSED[name]
    motion = rest_motion()
    with pytest.raises(ValueError, match=f"motion: .*{message}"):
        replace(motion, **change(motion))


def written(path: Path, **changes: object) -> Path:
    """A motion's file with fields changed; None takes a field out."""
    write_motion(path, random_motion())
    with np.load(path) as archive:
        fields = dict(archive) | changes
    np.savez(
        path, allow_pickle=False, **{name: np.asarray(value) for name, value in fields.items() if value is not None}
    )
    return path


def test_a_file_without_a_field_is_refused_and_the_field_named(tmp_path: Path):
    path = written(tmp_path / "a.npz", contacts=None, frame_rate_hz=None)
    with pytest.raises(ValueError, match=r"a\.npz: not a motion, it lacks contacts, frame_rate_hz"):
        read_motion(path)


def test_a_file_of_another_body_is_refused(tmp_path: Path):
    path = written(tmp_path / "a.npz", joint_names=[*BODY_22.joint_names[:-1], "r_hand"])
    with pytest.raises(ValueError, match=r"a\.npz: joints .*'r_hand'.* are not those of body22"):
        read_motion(path)


def test_a_file_of_other_bone_lengths_is_refused(tmp_path: Path):
    path = written(tmp_path / "a.npz", rest_offsets_m=BODY_22.offsets_m * 1.1)
    with pytest.raises(ValueError, match=r"a\.npz: rest_offsets_m are not those of body22"):
        read_motion(path)


def test_a_file_whose_numbers_are_no_motion_is_refused_with_its_name(tmp_path: Path):
    path = written(tmp_path / "a.npz", joint_rotations=np.zeros((5, 22, 4)))
    with pytest.raises(ValueError, match=r"a\.npz: motion: joint_rotations must be unit quaternions"):
        read_motion(path)


@pytest.mark.parametrize("content", [b"", b"walk", b"PK\x03\x04 not a zip"])
def test_a_file_that_is_no_archive_is_refused(tmp_path: Path, content: bytes):
    path = tmp_path / "a.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.npz: not an \.npz file"):
        read_motion(path)


def test_a_file_with_a_single_array_is_refused(tmp_path: Path):
    path = tmp_path / "a.npz"
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(ValueError, match=r"a\.npz: not an \.npz file \(a single array\)"):
        read_motion(path)


def test_a_damaged_file_is_refused(tmp_path: Path):
    path = tmp_path / "a.npz"
    write_motion(path, random_motion())
    raw = bytearray(path.read_bytes())
    raw[200] ^= 0xFF
    path.write_bytes(raw)
    with pytest.raises(ValueError, match=r"a\.npz: "):
        read_motion(path)
