from pathlib import Path

import numpy as np
import pytest

from python_core.clips.amass import AmassFolder
from python_core.clips.babel import BabelFolder
from python_core.clips.bvh import BvhFolder
from python_core.clips.clip import ClipError
from python_core.clips.cmu import CmuArchive
from python_core.clips.humanml3d import HumanML3DFolder
from python_core.clips.kit import KitFolder
from python_core.clips.layouts import list_files, open_folder


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("")
    return folder


def save(folder: Path, name: str, *shape: int) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    np.save(folder / name, np.zeros(shape, dtype=np.float32))


@pytest.mark.parametrize(
    ("name", "shape", "reader"),
    [
        ("new_joints/000000.npy", (30, 22, 3), HumanML3DFolder),
        ("new_joint_vecs/000000.npy", (30, 263), HumanML3DFolder),
        ("new_joints/00001.npy", (30, 21, 3), KitFolder),
        ("new_joint_vecs/00001.npy", (30, 251), KitFolder),
    ],
)
def test_humanml3d_and_kit_differ_by_their_frames(tmp_path: Path, name: str, shape: tuple[int, ...], reader: type):
    save(tmp_path, name, *shape)
    assert open_folder(tmp_path) == reader(tmp_path)


def test_damaged_files_do_not_hide_the_layout(tmp_path: Path):
    touch(tmp_path, "new_joints/000000.npy")
    (tmp_path / "new_joints" / "000001.npy").write_bytes(b"\x93NUMPY rubbish")
    save(tmp_path, "new_joints/000002.npy", 30, 21, 3)
    assert open_folder(tmp_path) == KitFolder(tmp_path)


def test_arrays_of_another_body_are_named(tmp_path: Path):
    save(tmp_path, "new_joints/000000.npy", 30, 24, 3)
    with pytest.raises(ClipError, match=r"expected frames of \[22, 3\].*got 000000\.npy has frames of \[24, 3\]"):
        open_folder(tmp_path)


@pytest.mark.parametrize("place", ["", "annotations", "HumanML3D"])
def test_cmu_is_known_by_its_subjects_and_finds_its_annotations(tmp_path: Path, place: str):
    touch(tmp_path, "subjects/01/01.asf", "subjects/01/01_01.amc")
    with pytest.raises(ClipError, match=r"subjects/ of CMU, but no index\.csv and texts/"):
        open_folder(tmp_path)
    touch(tmp_path / place, "texts/000000.txt", "index.csv", "train.txt")
    assert open_folder(tmp_path) == CmuArchive(tmp_path / "subjects", tmp_path / place)


def test_the_index_of_humanml3ds_repository_lies_beside_its_folder(tmp_path: Path):
    touch(tmp_path, "subjects/01/01.asf", "index.csv", "HumanML3D/texts.zip")
    assert open_folder(tmp_path) == CmuArchive(tmp_path / "subjects", tmp_path / "HumanML3D")


def test_npz_files_are_amass_with_annotations_where_there_are_some(tmp_path: Path):
    touch(tmp_path, "KIT/3/walk01_poses.npz")
    assert open_folder(tmp_path) == AmassFolder(tmp_path)
    touch(tmp_path, "annotations/index.csv", "annotations/texts/000000.txt")
    assert open_folder(tmp_path) == AmassFolder(tmp_path, annotations=tmp_path / "annotations")
    models = tmp_path / "models"
    assert open_folder(tmp_path, models) == AmassFolder(tmp_path, models, tmp_path / "annotations")


@pytest.mark.parametrize("place", ["", "amass"])
def test_babel_is_labels_with_amass(tmp_path: Path, place: str):
    touch(tmp_path, "train.json", "val.json")
    with pytest.raises(ClipError, match=r"labels of BABEL, but no \.npz files"):
        open_folder(tmp_path)
    touch(tmp_path / place, "KIT/3/walk01_poses.npz")
    assert open_folder(tmp_path) == BabelFolder(tmp_path, AmassFolder(tmp_path / place))
    models = tmp_path / "models"
    assert open_folder(tmp_path, models) == BabelFolder(tmp_path, AmassFolder(tmp_path / place, models))


def test_bvh_is_found_at_any_depth_and_takes_the_mapping_beside_it(tmp_path: Path):
    touch(tmp_path, "walks/slow/01.BVH")
    assert open_folder(tmp_path) == BvhFolder(tmp_path)
    touch(tmp_path, "mapping.toml")
    assert open_folder(tmp_path) == BvhFolder(tmp_path, tmp_path / "mapping.toml")


def test_a_folder_in_no_layout_says_what_was_looked_for(tmp_path: Path):
    touch(tmp_path, "readme.txt", ".hidden/walk.bvh")
    with pytest.raises(ClipError, match=r"looked for new_joints.*subjects/NN/NN\.asf.*train\.json.*npz.*bvh"):
        open_folder(tmp_path)
    with pytest.raises(ClipError, match="no such folder"):
        open_folder(tmp_path / "nowhere")


def test_recordings_behind_links_are_read_and_hidden_ones_are_not(tmp_path: Path):
    touch(tmp_path, "elsewhere/KIT/1.npz", "elsewhere/walks/1.bvh", "amass/.hidden/2.npz", "bvh/.hidden/2.bvh")
    for name in ("amass", "bvh"):
        (tmp_path / name / "link").symlink_to(tmp_path / "elsewhere")
    assert AmassFolder(tmp_path / "amass").names("train") == ["link/KIT/1.npz"]
    assert BvhFolder(tmp_path / "bvh").names("train") == ["link/walks/1"]


def test_links_are_followed_but_not_in_circles(tmp_path: Path):
    touch(tmp_path, "a/1.txt", "elsewhere/2.txt")
    (tmp_path / "a" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "a" / "circle").symlink_to(tmp_path / "a")
    assert [str(path.relative_to(tmp_path / "a")) for path in list_files(tmp_path / "a")] == ["1.txt", "link/2.txt"]
