import io
import json
import logging
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from python_core.clips.amass import AmassFolder
from python_core.clips.arrays import MAX_ARRAY_BYTES
from python_core.clips.clip import Caption, ClipError, split_captions
from python_core.clips.licences import AMASS_LICENCE
from python_core.clips.smpl import MEAN_BODY, MEAN_PELVIS_M, mean_rest_joints
from python_core.contract.skeleton import BODY_22
from python_core.features import mirror_joints
from python_core.stages import prepare

WALK = "KIT/3/walking_poses.npz"
UPRIGHT = np.array([np.pi / 2, 0, 0])
"""The turn of the pelvis with which a body of the models, +Y up, stands in a file, +Z up."""


def write_recording(
    folder: Path,
    path: str = WALK,
    num_frames: int = 30,
    rate_hz: float = 20.0,
    poses: NDArray | None = None,
    trans_m: NDArray | None = None,
    **others: Any,
) -> Path:
    """A recording that stands upright and moves by 1 cm a frame along X of the file."""
    if poses is None:
        poses = np.zeros((num_frames, 156))
        poses[:, :3] = UPRIGHT
    if trans_m is None:
        trans_m = np.zeros((len(poses), 3))
        trans_m[:, 0] = 0.01 * np.arange(len(poses))
    fields: dict[str, Any] = {
        "poses": poses,
        "trans": trans_m,
        "mocap_framerate": rate_hz,
        "gender": "male",
        "betas": np.zeros(16),
    }
    file = folder / path
    file.parent.mkdir(parents=True, exist_ok=True)
    np.savez(file, **{name: value for name, value in (fields | others).items() if value is not None})
    return file


def write_annotations(
    folder: Path, lines: list[str], clip_ids: list[str], texts: str = "walks#walk/VERB#0.0#0.0\n"
) -> Path:
    (folder / "texts").mkdir(parents=True)
    (folder / "index.csv").write_text("\n".join(["source_path,start_frame,end_frame,new_name", *lines]) + "\n")
    (folder / "train.txt").write_text("\n".join(clip_ids))
    for clip_id in clip_ids:
        (folder / "texts" / f"{clip_id}.txt").write_text(texts)
    return folder


def random_poses(num_frames: int = 12, width: int = 156) -> NDArray:
    return np.random.default_rng(3).normal(scale=0.4, size=(num_frames, width))


def test_joints_are_those_of_a_second_way_to_compute_them(tmp_path: Path):
    poses, trans_m = random_poses(), np.random.default_rng(4).normal(size=(12, 3))
    write_recording(tmp_path, poses=poses, trans_m=trans_m)
    clip = AmassFolder(tmp_path).recording(WALK)
    expected = np.empty((12, 22, 3))
    turned: list[Rotation] = []
    for joint, parent in enumerate(BODY_22.parents):
        own = Rotation.from_rotvec(poses[:, 3 * joint : 3 * joint + 3])
        if parent < 0:
            expected[:, 0] = trans_m + MEAN_PELVIS_M
            turned.append(own)
        else:
            expected[:, joint] = expected[:, parent] + turned[parent].apply(MEAN_BODY.rest_offsets_m[joint])
            turned.append(turned[parent] * own)
    to_y_up = np.array([[-1, 0, 0], [0, 0, 1], [0, 1, 0]])
    assert np.linalg.det(to_y_up) == pytest.approx(1)
    np.testing.assert_allclose(clip.joints_m, expected @ to_y_up.T, atol=1e-6)


def test_up_stays_up_and_left_stays_left(tmp_path: Path):
    poses = np.zeros((2, 156))
    poses[:, :3] = UPRIGHT
    # In the models' own space, +Y up, a turn of the left shoulder about +Z lifts the left arm.
    poses[:, 3 * 16 : 3 * 16 + 3] = (0, 0, np.pi / 2)
    write_recording(tmp_path, poses=poses)
    joints_m = AmassFolder(tmp_path).recording(WALK).joints_m[0]
    place = dict(zip(BODY_22.joint_names, joints_m, strict=True))
    up = np.array([0, 1, 0])
    assert place["head"][1] - place["l_foot"][1] > 1.4
    assert place["l_wrist"][1] - place["r_wrist"][1] > 0.4
    forward = place["l_foot"] - place["l_ankle"]
    left = np.cross(up, forward)
    for name in ("hip", "ankle", "shoulder"):
        assert left @ (place[f"l_{name}"] - place[f"r_{name}"]) > 0


def test_the_mean_body_is_its_own_mirror_image_and_of_a_persons_size():
    rest_m = mean_rest_joints().astype(np.float32)
    np.testing.assert_allclose(mirror_joints(rest_m), rest_m, atol=1e-6)
    assert rest_m[0] == pytest.approx(MEAN_PELVIS_M)
    # From the toes to the joint of the head; the body that HumanML3D retargets to is 8 cm taller.
    assert np.ptp(rest_m[:, 1]) == pytest.approx(1.5, abs=0.01)


@pytest.mark.parametrize(
    ("width", "change"),
    [
        (165, lambda numbers: numbers),
        (72, lambda numbers: numbers),
        (156, lambda numbers: numbers.astype(">f8")),
        (156, lambda numbers: numbers.astype(np.float32)),
        (156, np.asfortranarray),
    ],
)
def test_other_bodies_and_ways_to_store_numbers_give_the_same_joints(tmp_path: Path, width: int, change):
    poses = random_poses()
    write_recording(tmp_path, poses=poses)
    expected = AmassFolder(tmp_path).recording(WALK).joints_m
    other = np.zeros((12, width))
    other[:, :66] = poses[:, :66]
    write_recording(tmp_path, "KIT/3/other_poses.npz", poses=change(other))
    found = AmassFolder(tmp_path).recording("KIT/3/other_poses.npz").joints_m
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_half_precision_is_read_to_its_own_precision(tmp_path: Path):
    poses = random_poses()
    write_recording(tmp_path, poses=poses)
    write_recording(tmp_path, "KIT/3/half_poses.npz", poses=poses.astype(np.float16))
    full, half = (AmassFolder(tmp_path).recording(f"KIT/3/{name}_poses.npz").joints_m for name in ("walking", "half"))
    np.testing.assert_allclose(half, full, atol=5e-3)


def test_a_recording_has_its_own_rate_no_captions_and_says_where_it_is_from(tmp_path: Path):
    write_recording(tmp_path, "MPI_mosh/50020/ankles_poses.npz", mocap_framerate=None, mocap_frame_rate=120)
    reader = AmassFolder(tmp_path)
    assert reader.names("val") == ["MPI_mosh/50020/ankles_poses.npz"]
    (clip,) = reader.read("MPI_mosh/50020/ankles_poses.npz")
    assert (clip.clip_id, clip.frame_rate_hz, clip.captions) == ("amass/MPI_mosh/50020/ankles_poses", 120.0, ())
    assert (clip.source, clip.licence, clip.mirrored) == ("MPI_mosh", AMASS_LICENCE, False)
    assert clip.take == "MPI_mosh/50020/ankles_poses.npz"


def test_datasets_are_in_the_split_that_amass_has_them_in_by_old_and_new_name(tmp_path: Path):
    for path in ("KIT/3/a_poses.npz", "CMU/1/b_poses.npz", "HDM05/bk/c_stageii.npz", "Transitions_mocap/x/d_poses.npz"):
        write_recording(tmp_path, path)
    write_recording(tmp_path, "KIT/3/shape.npz")
    write_recording(tmp_path, "CMU/1/neutral_stagei.npz")
    reader = AmassFolder(tmp_path)
    assert reader.names("train") == ["CMU/1/b_poses.npz", "KIT/3/a_poses.npz"]
    assert reader.names("val") == ["HDM05/bk/c_stageii.npz"]
    assert reader.names("test") == ["Transitions_mocap/x/d_poses.npz"]
    with pytest.raises(ClipError, match="no split 'dev'; AMASS has train, val and test"):
        reader.names("dev")


@pytest.mark.parametrize(
    ("on_disk", "asked"),
    [
        ("KIT/3/walk_poses.npz", "./pose_data/KIT/3/walk_poses.npy"),
        ("KIT/3/walk_poses.npz", "KIT/KIT/3/walk_poses.npz"),
        ("KIT/KIT/3/walk_poses.npz", "KIT/3/walk_poses.npz"),
        ("BMLrub/rub001/sit_poses.npz", "BMLrub/BioMotionLab_NTroje/rub001/sit_poses.npz"),
        ("BioMotionLab_NTroje/rub001/sit_poses.npz", "BMLrub/rub001/sit_poses.npz"),
        ("EyesJapanDataset/Eyes_Japan_Dataset/aita/look at_poses.npz", "Eyes_Japan_Dataset/aita/look at_poses.npz"),
        ("ACCAD/Male_c3d/A9_-_Lie_stageii.npz", "./pose_data/ACCAD/Male c3d/A9 - Lie_poses.npy"),
        ("DFaust/50022/punch_stageii.npz", "DFaust_67/50022/punch_poses.npz"),
    ],
)
def test_a_recording_is_found_by_its_old_and_new_names(tmp_path: Path, on_disk: str, asked: str):
    write_recording(tmp_path, on_disk)
    assert AmassFolder(tmp_path).recording(asked).take == on_disk


@pytest.mark.parametrize(
    "path", ["", "../KIT/3/walking_poses.npz", "/etc/passwd", "KIT/3/none.npz", "a" * 5000, "a\0b"]
)
def test_a_recording_that_is_not_there_is_refused(tmp_path: Path, path: str):
    write_recording(tmp_path)
    with pytest.raises(ClipError):
        AmassFolder(tmp_path / "KIT").recording(path)


@pytest.mark.parametrize(
    ("rate_hz", "stride", "kept_hz"),
    [(20, 1, 20), (59.94, 2, 29.97), (100, 5, 20), (120, 6, 20), (250, 12, 250 / 12), (10, 1, 10)],
)
def test_a_cut_takes_every_nth_frame_as_humanml3d_does(tmp_path: Path, rate_hz: float, stride: int, kept_hz: float):
    write_recording(tmp_path, num_frames=200, rate_hz=rate_hz)
    notes = write_annotations(
        tmp_path / "notes",
        ["./pose_data/KIT/3/walking_poses.npy,2,10,000005.npy"],
        ["000005"],
        "walks#a#0.0#0.0\nstops#a#0.1#0.3\n",
    )
    reader = AmassFolder(tmp_path, annotations=notes)
    assert reader.names("train") == ["000005"]
    (clip,) = reader.read("000005")
    assert clip.frame_rate_hz == pytest.approx(kept_hz)
    whole = AmassFolder(tmp_path).recording(WALK)
    np.testing.assert_array_equal(clip.joints_m, whole.joints_m[::stride][2:10])
    # HumanML3D's own loader cuts captions by frames of 20 a second.
    parts = split_captions(clip)
    assert [part.captions[0].text for part in parts] == ["walks", "stops"]
    np.testing.assert_array_equal(parts[1].joints_m, clip.joints_m[2:6])


@pytest.mark.parametrize(
    ("dataset", "lead_in"),
    [
        ("Eyes_Japan_Dataset", 60),
        ("HDM05", 60),
        ("TotalCapture", 20),
        ("MPI_Limits", 20),
        ("Transitions", 10),
        ("KIT", 0),
    ],
)
def test_what_humanml3d_cuts_off_first_is_cut_off_before_frames_count(tmp_path: Path, dataset: str, lead_in: int):
    write_recording(tmp_path, f"{dataset}/s/x_poses.npz", num_frames=160, rate_hz=40)
    notes = write_annotations(tmp_path / "notes", [f"./pose_data/{dataset}/s/x_poses.npy,3,9,000001.npy"], ["000001"])
    (clip,) = AmassFolder(tmp_path, annotations=notes).read("000001")
    expected = AmassFolder(tmp_path).recording(f"{dataset}/s/x_poses.npz").joints_m[::2][lead_in + 3 : lead_in + 9]
    np.testing.assert_array_equal(clip.joints_m, expected)
    assert clip.source == dataset


def test_a_mirrored_id_is_the_mirrored_motion_with_the_captions_of_its_own_file(tmp_path: Path):
    write_recording(tmp_path, poses=random_poses(20))
    line = "./pose_data/KIT/3/walking_poses.npy,0,20,000005.npy"
    notes = write_annotations(tmp_path / "notes", [line], ["000005", "M000005"])
    (notes / "texts" / "M000005.txt").write_text("waves the left hand#a#0.0#0.0\n")
    reader = AmassFolder(tmp_path, annotations=notes)
    (clip,), (mirrored,) = reader.read("000005"), reader.read("M000005")
    np.testing.assert_array_equal(mirrored.joints_m, mirror_joints(clip.joints_m))
    assert mirrored.mirrored
    assert not clip.mirrored
    assert mirrored.captions == (Caption("waves the left hand"),)


def test_clips_of_humanact12_are_joints_already(tmp_path: Path):
    joints_m = np.random.default_rng(5).normal(size=(30, 24, 3))
    (tmp_path / "humanact12" / "humanact12").mkdir(parents=True)
    np.save(tmp_path / "humanact12" / "humanact12" / "P1.npy", joints_m)
    line = "./pose_data/humanact12/humanact12/P1.npy,0,-1,000001.npy"
    notes = write_annotations(tmp_path / "notes", [line], ["000001"])
    (clip,) = AmassFolder(tmp_path, annotations=notes).read("000001")
    np.testing.assert_array_equal(clip.joints_m, joints_m[:, :22].astype(np.float32))
    assert (clip.source, clip.frame_rate_hz, clip.assumed) == ("HumanAct12", 20.0, "")


def write_body_model(path: Path, rest_m: NDArray, shapes: NDArray) -> None:
    """A model whose joints are its first 22 vertices, of 30."""
    path.parent.mkdir(parents=True, exist_ok=True)
    template, directions, regressor = np.zeros((30, 3)), np.zeros((30, 3, shapes.shape[-1])), np.zeros((52, 30))
    template[:22], directions[:22], regressor[:22, :22] = rest_m, shapes, np.eye(22)
    np.savez(path, v_template=template, shapedirs=directions, J_regressor=regressor)


def test_with_a_body_model_joints_are_those_of_the_persons_shape(tmp_path: Path):
    rest_m = mean_rest_joints()
    longer = np.zeros((22, 3, 16))
    # The first number of the shape moves what hangs on the left knee down by 1 cm, the 11th does not count.
    longer[[7, 10], 1, 0] = -0.01
    longer[:, :, 10] = 5.0
    write_body_model(tmp_path / "models" / "male" / "model.npz", rest_m, longer)
    write_body_model(tmp_path / "models" / "female" / "model.npz", 1.1 * rest_m, longer)
    betas = np.zeros(16)
    betas[0], betas[10] = 3.0, 1.0
    write_recording(tmp_path, betas=betas)
    reader = AmassFolder(tmp_path, tmp_path / "models")
    joints_m, mean_m = reader.recording(WALK).joints_m, AmassFolder(tmp_path).recording(WALK).joints_m
    np.testing.assert_allclose(mean_m[:, 7, 1] - joints_m[:, 7, 1], 0.03, atol=1e-6)
    np.testing.assert_allclose(joints_m[:, 8], mean_m[:, 8], atol=1e-6)
    # Who has no model of their own has the female one; a name can be bytes.
    for gender in ("neutral", np.array(b"female"), np.array(["female"])):
        write_recording(tmp_path, gender=gender)
        tall_m = reader.recording(WALK).joints_m
        np.testing.assert_allclose(np.ptp(tall_m[0, :, 1]), 1.1 * np.ptp(mean_m[0, :, 1]), rtol=1e-5)


def test_a_body_model_that_is_none_is_refused_by_name(tmp_path: Path):
    write_recording(tmp_path)
    (tmp_path / "models").mkdir()
    with pytest.raises(ClipError, match=r"no body model; expected one of male/model\.npz, .*female/model\.npz"):
        AmassFolder(tmp_path, tmp_path / "models").recording(WALK)
    np.savez(tmp_path / "flat.npz", v_template=np.zeros(3), shapedirs=np.zeros(3), J_regressor=np.zeros((52, 3)))
    with pytest.raises(ClipError, match=r"flat\.npz: expected v_template \[N, 3\]"):
        AmassFolder(tmp_path, tmp_path / "flat.npz").recording(WALK)
    np.savez(tmp_path / "pickled.npz", v_template=np.array([{}]), shapedirs=np.zeros(3), J_regressor=np.zeros(3))
    with pytest.raises(ClipError, match=r"pickled\.npz: v_template is not an array of numbers \(expected real numbers"):
        AmassFolder(tmp_path, tmp_path / "pickled.npz").recording(WALK)
    write_recording(tmp_path, gender=None)
    with pytest.raises(ClipError, match=r"walking_poses\.npz: no gender, which choose the body"):
        AmassFolder(tmp_path, tmp_path / "flat.npz").recording(WALK)


def test_that_the_body_is_a_mean_one_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO):
        AmassFolder(tmp_path)
    assert "joints of a mean body for everybody" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.INFO):
        AmassFolder(tmp_path, tmp_path)
    assert caplog.text == ""


def test_that_the_body_is_a_mean_one_stands_in_the_report_of_prepare(tmp_path: Path):
    folder = tmp_path / "amass"
    write_recording(folder)
    write_recording(folder, "CMU/01/01_01_poses.npz")
    write_body_model(tmp_path / "models" / "male" / "model.npz", mean_rest_joints(), np.zeros((22, 3, 16)))
    write_body_model(tmp_path / "models" / "female" / "model.npz", mean_rest_joints(), np.zeros((22, 3, 16)))
    lines = [
        "./pose_data/KIT/3/walking_poses.npy,0,30,000001.npy",
        "./pose_data/KIT/3/walking_poses.npy,5,29,000002.npy",
    ]
    lines.append("./pose_data/CMU/01/01_01_poses.npy,0,30,000003.npy")
    write_annotations(folder / "annotations", lines, ["000001", "000002", "000003"])
    config = replace(prepare.PRESETS["tiny"], clips=(folder,), splits=("train",))
    reports = []
    for number, body_model in enumerate((None, tmp_path / "models")):
        out = tmp_path / str(number)
        prepare.run(replace(config, out=out, body_model=body_model))
        reports.append(json.loads((out / "report.json").read_text()))
    assumed = "joints of a mean body for everybody"
    assert reports[0]["assumed"] == [
        {"source": "CMU", "assumed": assumed, "num_clips": 1},
        {"source": "KIT", "assumed": assumed, "num_clips": 2},
    ]
    assert reports[1]["assumed"] == []


BAD_FIELDS = {
    "66 numbers": ({"poses": np.zeros((4, 66))}, r"expected poses \[F, 156 or 165 or 72\] and trans \[F, 3\]"),
    "trans of other length": ({"trans_m": np.zeros((3, 3))}, r"trans \[F, 3\], got \[30, 156\] and \[3, 3\]"),
    "one frame": ({"num_frames": 1}, "expected 2 frames or more"),
    "no frame": ({"num_frames": 0}, "expected 2 frames or more"),
    "nan": ({"poses": np.full((4, 156), np.nan)}, "poses hold numbers that are not finite"),
    "huge turns": ({"poses": np.full((4, 156), 1e300)}, "poses hold numbers that are not finite, or beyond 1000"),
    "far": ({"trans_m": np.full((30, 3), 1e9)}, "trans hold numbers that are not finite, or beyond 1000"),
    "rate 0": ({"rate_hz": 0.0}, "mocap_framerate must be 1 to 1000"),
    "rate nan": ({"rate_hz": np.nan}, "mocap_framerate must be 1 to 1000"),
    "rates": ({"mocap_framerate": np.ones(3)}, "mocap_framerate must be 1 to 1000"),
    "rate in words": ({"mocap_framerate": "fast"}, "mocap_framerate is not an array of numbers"),
    "objects": ({"mocap_framerate": np.array({"a": 1}, dtype=object)}, "mocap_framerate is not an array of numbers"),
    "complex": ({"poses": np.zeros((4, 156), dtype=complex)}, "poses is not an array of numbers"),
    "no rate": ({"mocap_framerate": None}, "expected poses, trans and mocap_framerate, got betas, gender, poses"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_FIELDS)
def test_a_recording_that_is_none_is_refused_with_its_file_or_clip(tmp_path: Path, name: str):
    fields, message = BAD_FIELDS[name]
    write_recording(tmp_path, **fields)
    with pytest.raises(ClipError, match=f"KIT/3/walking_poses.*{message}"):
        AmassFolder(tmp_path).recording(WALK)


def npy_header(shape: str, dtype: str = "<f8") -> bytes:
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (npy_header("(999999999, 156)"), "its header promises 1247999998752 bytes"),
        (npy_header("(9" + "0" * 300 + ", 156)"), "its header promises"),
        (npy_header("(4, 156)"), "expected 4992 bytes, there are fewer"),
        (npy_header("(4, 156)") + bytes(6000), "expected 4992 bytes, there are more"),
        (npy_header("(-4, 156)"), "its header is"),
        (npy_header("(1, 1, 1, 1, 1)") + bytes(8), "5 dimensions"),
        (npy_header("(4, 156)", "|O"), "expected real numbers, got '|O'"),
        (npy_header("(" * 4000), "its header is"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff", "a header of 4294967295 bytes"),
        (b"\x93NUMPY\x09\x00", "format version 9"),
        (b"GIF89a", "it begins with"),
        (b"", "it begins with"),
    ],
)
def test_an_array_is_not_believed_more_than_its_file_can_hold(tmp_path: Path, content: bytes, message: str):
    file = write_recording(tmp_path)
    with zipfile.ZipFile(file) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(file, "w") as archive:
        for name, old in members.items():
            archive.writestr(name, content if name == "poses.npy" else old)
    with pytest.raises(ClipError) as caught:
        AmassFolder(tmp_path).recording(WALK)
    assert str(caught.value).startswith(f"{file}: poses is not an array of numbers")
    assert message in str(caught.value)


def test_an_archive_that_unpacks_to_more_than_any_recording_is_refused_before_that(tmp_path: Path):
    file = write_recording(tmp_path)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("poses", "trans"):
            archive.writestr(f"{name}.npy", npy_header("(2, 3)") + bytes(48))
        archive.writestr("mocap_framerate.npy", npy_header(f"({MAX_ARRAY_BYTES // 8 + 1},)") + bytes(1 << 20))
    assert file.stat().st_size < 10_000
    with pytest.raises(ClipError, match=f"its header promises {MAX_ARRAY_BYTES + 8} bytes"):
        AmassFolder(tmp_path).recording(WALK)


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04" + bytes(50)])
def test_a_file_that_is_no_archive_is_refused_by_name(tmp_path: Path, content: bytes):
    file = write_recording(tmp_path)
    file.write_bytes(content)
    with pytest.raises(ClipError, match=r"walking_poses\.npz: not an \.npz file"):
        AmassFolder(tmp_path).recording(WALK)


def test_an_archive_that_breaks_off_or_is_changed_is_refused(tmp_path: Path):
    file = write_recording(tmp_path)
    content = file.read_bytes()
    changed = bytearray(content)
    changed[len(content) // 2] ^= 1
    for damaged in (content[:-1000], bytes(changed)):
        file.write_bytes(damaged)
        with pytest.raises(ClipError, match=r"walking_poses\.npz"):
            AmassFolder(tmp_path).recording(WALK)


def test_lines_of_the_index_that_are_no_cuts_are_refused_with_their_number(tmp_path: Path):
    for number, (line, message) in enumerate(
        [
            ("KIT/3/x.npy,a,9,000001.npy", "index.csv:2: expected two whole frames, got 'a', '9'"),
            ("KIT/3/x.npy,9,9,000001.npy", "clip 000001: index.csv ends it before it starts, from 9 to 9"),
            ("KIT/3/x.npy,9", "index.csv:2: expected source_path,start_frame,end_frame,new_name"),
            ("KIT/3/x.npy,0,9,000002.npy", "index.csv has no line for 000001"),
        ]
    ):
        notes = write_annotations(tmp_path / str(number), [line], ["000001"])
        with pytest.raises(ClipError, match=message):
            AmassFolder(tmp_path, annotations=notes).read("000001")
    with pytest.raises(ClipError, match=r"no index\.csv in it or beside it"):
        AmassFolder(tmp_path, annotations=tmp_path).read("000001")


def test_a_header_of_python_2_is_read(tmp_path: Path):
    file = write_recording(tmp_path)
    saved = io.BytesIO()
    np.save(saved, np.zeros((30, 156)))
    old = npy_header("(30L, 156L)") + saved.getvalue()[-30 * 156 * 8 :]
    with zipfile.ZipFile(file) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, old if name == "poses.npy" else content)
    assert AmassFolder(tmp_path).recording(WALK).joints_m.shape == (30, 22, 3)
