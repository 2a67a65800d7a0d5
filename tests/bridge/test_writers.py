import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bridge.bvh import zxy_angles
from bridge.clip import Clip
from bridge.writers import check_paths, write_clip
from python_core.contract.motion import Motion, multiply, read_motion
from python_core.contract.plan import parse_plan
from python_core.contract.skeleton import BODY_22
from python_core.pictures import GIF_SIZE

with warnings.catch_warnings():
    warnings.simplefilter("ignore", PendingDeprecationWarning)  # bvhio imports glm by its old name.
    import bvhio

PLAN = parse_plan("1. walk forward, 0.6 s 2. turn left, 0.4 s")


def random_motion(num_frames: int, seed: int, reach: float = 1.0) -> Motion:
    """Poses with nothing in common; with a large reach, joints turn every way."""
    random = np.random.default_rng(seed)
    rotations = random.standard_normal((num_frames, BODY_22.num_joints, 4)) * reach + [0, 0, 0, 1]
    rotations /= np.linalg.norm(rotations, axis=-1, keepdims=True)
    return Motion(
        root_positions_m=(random.standard_normal((num_frames, 3)) * 3).astype(np.float32),
        joint_rotations=rotations.astype(np.float32),
        contacts=random.random((num_frames, 4)) > 0.5,
        frame_rate_hz=20.0,
    )


def bvhio_positions_m(path: Path, num_frames: int) -> np.ndarray:
    root = bvhio.readAsHierarchy(str(path))
    positions = np.empty((num_frames, BODY_22.num_joints, 3))
    for frame in range(num_frames):
        root.loadPose(frame)
        for joint, _, _ in root.layout():
            positions[frame, BODY_22.joint(joint.Name)] = tuple(joint.PositionWorld)
    return positions


@pytest.mark.parametrize("seed", range(5))
def test_bvhio_reads_the_joint_positions_of_random_poses_to_a_millimetre(tmp_path: Path, seed: int):
    motion = random_motion(8, seed, reach=10.0)
    write_clip(tmp_path / "a.bvh", Clip(motion=motion))
    difference_m = np.abs(bvhio_positions_m(tmp_path / "a.bvh", 8) - motion.joint_positions_m()).max()
    assert difference_m < 1e-3


def test_bvhio_reads_the_t_pose(tmp_path: Path):
    rotations = np.tile(np.array([0, 0, 0, 1], np.float32), (1, BODY_22.num_joints, 1))
    root_m = np.array([[0, BODY_22.rest_root_height_m, 0]], np.float32)
    motion = Motion(root_m, rotations, np.ones((1, 4), np.bool_), 20.0)
    write_clip(tmp_path / "a.bvh", Clip(motion=motion))
    assert bvhio_positions_m(tmp_path / "a.bvh", 1)[0] == pytest.approx(BODY_22.rest_joints_m, abs=1e-5)


def test_a_bvh_file_gives_every_joint_a_parent_every_leaf_an_end_and_the_frame_rate(tmp_path: Path):
    write_clip(tmp_path / "a.bvh", Clip(motion=random_motion(3, 0)))
    text = (tmp_path / "a.bvh").read_text()
    assert text.count("JOINT") == BODY_22.num_joints - 1
    assert text.count("End Site") == 5
    assert "Frames: 3\nFrame Time: 0.05000000\n" in text


def test_angles_at_gimbal_lock_still_give_the_rotation():
    half = np.sqrt(0.5)
    upright = np.array([[half, 0.0, 0.0, half]])  # a quarter turn about X
    turned = multiply(upright, np.array([[0.0, np.sin(0.3), 0.0, np.cos(0.3)]]))
    for rotation in (upright, turned, multiply(np.array([[0.0, 0.0, 1.0, 0.0]]), turned)):
        angle_z, angle_x, angle_y = zxy_angles(rotation[None])[0, 0] / 2
        again = multiply(
            multiply(
                np.array([0, 0, np.sin(angle_z), np.cos(angle_z)]), np.array([np.sin(angle_x), 0, 0, np.cos(angle_x)])
            ),
            np.array([0, np.sin(angle_y), 0, np.cos(angle_y)]),
        )
        assert abs(float(again @ rotation[0])) == pytest.approx(1, abs=1e-9)


def test_a_full_turn_makes_no_angle_jump():
    angle = np.linspace(0, 4 * np.pi, 100)
    turns = np.stack([0 * angle, np.sin(angle / 2), 0 * angle, np.cos(angle / 2)], axis=-1)[:, None]
    assert np.abs(np.diff(zxy_angles(turns), axis=0)).max() < 0.2


def test_npz_keeps_the_motion_and_its_codes(tmp_path: Path):
    motion = random_motion(8, 1)
    write_clip(tmp_path / "a.npz", Clip(motion=motion, codes=np.array([3, 1])))
    again = read_motion(tmp_path / "a.npz")
    assert np.array_equal(again.joint_rotations, motion.joint_rotations)
    assert np.array_equal(again.contacts, motion.contacts)
    with np.load(tmp_path / "a.npz") as fields:
        assert fields["codes"].tolist() == [3, 1]


def test_gif_plays_every_frame_for_50_ms_at_20_hz(tmp_path: Path):
    write_clip(tmp_path / "a.gif", Clip(motion=random_motion(12, 2, reach=0.1), prompt="walk " * 60, plan=PLAN))
    with Image.open(tmp_path / "a.gif") as image:
        assert (image.size, image.n_frames, image.info["duration"]) == (GIF_SIZE, 12, 50)  # pyright: ignore[reportAttributeAccessIssue]


def test_gif_and_png_have_the_prompt_and_the_beats(tmp_path: Path):
    motion = random_motion(2, 2, reach=0.1)
    for extension in (".gif", ".png"):
        pictures = []
        for number, clip in enumerate((Clip(motion=motion), Clip(motion=motion, prompt="walk", plan=PLAN))):
            write_clip(tmp_path / f"{number}{extension}", clip)
            pictures.append((tmp_path / f"{number}{extension}").read_bytes())
        assert pictures[0] != pictures[1]


@pytest.mark.parametrize("extension", [".gif", ".webp", ".png", ".bvh", ".npz"])
def test_a_motion_of_one_frame_can_be_written(tmp_path: Path, extension: str):
    write_clip(tmp_path / f"a{extension}", Clip(motion=random_motion(1, 0), plan=PLAN))
    assert (tmp_path / f"a{extension}").stat().st_size > 500


def test_an_unknown_extension_is_refused_with_the_known_ones(tmp_path: Path):
    with pytest.raises(ValueError, match=r"\.fbx; known are \.bvh, \.npz, \.gif, \.webp, \.png"):
        check_paths([tmp_path / "a.bvh", tmp_path / "a.fbx"])


def test_a_folder_that_does_not_exist_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="does not exist"):
        check_paths([tmp_path / "nowhere" / "a.bvh"])
