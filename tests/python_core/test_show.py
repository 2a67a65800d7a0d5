import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from python_core.__main__ import main
from python_core.clips.humanml3d import HumanML3DFolder
from python_core.clips.prepared import read_prepared
from python_core.contract.motion import write_motion
from python_core.exhibit import choose_exhibits, read_back, read_exhibit, to_row
from python_core.features import canonical_joints, exact_features, features_to_motion
from python_core.motion_decoder import MotionDecoder
from python_core.motion_tokenizer import MotionTokenizer

ROOT = Path(__file__).parents[2]
HEADING, TILE_HEIGHT = 30, 180


def show(*arguments: object) -> int:
    return main(["show", *map(str, arguments)])


def pixels(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


@pytest.fixture
def joints_m(clips_folder: Path) -> NDArray[np.float32]:
    reader = HumanML3DFolder(clips_folder)
    return reader.read(reader.names("val")[0])[0].joints_m


def test_a_folder_becomes_a_contact_sheet_of_as_many_clips_as_asked_for(clips_folder: Path, tmp_path: Path):
    assert show(clips_folder, "--out", tmp_path / "a.png", "--count", 3) == 0
    assert pixels(tmp_path / "a.png").shape[0] == HEADING + 3 * (HEADING + TILE_HEIGHT)


def test_the_seed_chooses_the_clips(clips_folder: Path, prepared_folder: Path):
    for folder in (clips_folder, prepared_folder):
        chosen = {}
        for seed in range(6):
            names = [
                [exhibit.name for exhibit in choose_exhibits(folder, "train", 2, (), seed, None)[0]] for _ in range(2)
            ]
            assert names[0] == names[1]
            assert len(set(names[0])) == 2
            chosen[seed] = tuple(names[0])
        assert len(set(chosen.values())) > 1


def test_ids_are_shown_in_their_order_whatever_their_split(clips_folder: Path, prepared_folder: Path):
    ids = ("000011t", "000000t", "000000v")
    for folder in (clips_folder, prepared_folder):
        assert [exhibit.name for exhibit in choose_exhibits(folder, "val", 1, ids, 0, None)[0]] == list(ids)


def test_prepared_clips_come_with_captions_source_and_their_exact_features(prepared_folder: Path):
    prepared = read_prepared(prepared_folder)
    exhibits, num_clips = choose_exhibits(prepared_folder, "val", 12, (), 1, 20.0)
    assert num_clips == len(exhibits) == len(prepared.split("val"))
    for exhibit, clip in zip(exhibits, prepared.split("val"), strict=True):
        assert (exhibit.name, exhibit.captions, exhibit.source) == (clip.clip_id, clip.captions, "made")
        assert np.array_equal(exhibit.features, prepared.features(clip))  # pyright: ignore[reportArgumentType]


def test_joints_features_and_the_clip_of_a_folder_are_shown_alike(
    clips_folder: Path, joints_m: NDArray[np.float32], tmp_path: Path
):
    rows = exact_features(canonical_joints(joints_m), 20.0)
    np.save(tmp_path / "joints.npy", joints_m)
    np.save(tmp_path / "features.npy", rows)
    write_motion(tmp_path / "motion.npz", features_to_motion(rows, 20.0))
    clip_id = HumanML3DFolder(clips_folder).names("val")[0]
    wanted = choose_exhibits(clips_folder, "", 1, (clip_id,), 0, None)[0][0].motion.joint_positions_m()
    for name in ("joints.npy", "features.npy", "motion.npz"):
        got = read_exhibit(tmp_path / name, None).motion.joint_positions_m()
        num_frames = min(len(wanted), len(got))
        assert num_frames >= len(wanted) - 1
        assert np.abs(got[:num_frames] - wanted[:num_frames]).max() < 1e-3


def test_a_reconstruction_is_what_the_checkpoint_decodes_and_its_error_is_the_mean_distance(
    prepared_folder: Path, tiny_vqvae: Path
):
    tokenizer = MotionTokenizer.load(tiny_vqvae)
    prepared = read_prepared(prepared_folder)
    clip = prepared.split("val")[0]
    exhibit = choose_exhibits(prepared_folder, "val", 1, (clip.clip_id,), 0, 20.0)[0][0]
    reading = read_back(exhibit, tokenizer)
    row = to_row(exhibit, reading)
    source, decoded = row.strips
    (codes,) = tokenizer.encode([np.array(prepared.features(clip))])
    assert decoded.codes is not None
    assert decoded.codes.tolist() == codes
    again = MotionDecoder(tokenizer.model, prepared.normalizer).motions([codes], 20.0)[0]
    assert np.array_equal(decoded.motion.joint_rotations, again.joint_rotations)
    assert source.motion.num_frames == decoded.motion.num_frames == 4 * len(codes)
    places_m = [strip.motion.joint_positions_m() for strip in (source, decoded)]
    for joints_m in places_m:
        joints_m -= joints_m[:, :1].copy()
    error_m = np.linalg.norm(places_m[0] - places_m[1], axis=-1).mean()
    assert reading.joint_error_m == pytest.approx(error_m, rel=1e-5)
    assert row.note.endswith(f"mean joint error {1000 * error_m:.0f} mm")


def test_with_a_checkpoint_each_clip_has_two_lines(prepared_folder: Path, tiny_vqvae: Path, tmp_path: Path):
    assert show(prepared_folder, "--out", tmp_path / "a.png", "--checkpoint", tiny_vqvae, "--count", 2) == 0
    assert pixels(tmp_path / "a.png").shape[0] == HEADING + 2 * (HEADING + 2 * TILE_HEIGHT)


def test_a_single_clip_becomes_an_animation_side_by_side_with_its_reconstruction(
    clips_folder: Path, tiny_vqvae: Path, tmp_path: Path
):
    out = tmp_path / "a.gif"
    assert show(clips_folder, "--out", out, "--checkpoint", tiny_vqvae, "--ids", "000000v") == 0
    with Image.open(out) as image:
        assert image.size == (720, 360)
        assert image.n_frames == 48  # pyright: ignore[reportAttributeAccessIssue]  # 52 frames, 51 rows, 12 codes.


def test_a_motion_of_another_frame_rate_is_resampled_for_the_tokenizer(
    joints_m: NDArray[np.float32], tiny_vqvae: Path, tmp_path: Path
):
    motion = features_to_motion(exact_features(canonical_joints(joints_m), 60.0), 60.0)
    write_motion(tmp_path / "fast.npz", motion)
    assert read_exhibit(tmp_path / "fast.npz", None).motion.frame_rate_hz == 60.0
    exhibit = read_exhibit(tmp_path / "fast.npz", 20.0)
    assert exhibit.motion.frame_rate_hz == 20.0
    assert exhibit.motion.duration_s == pytest.approx(motion.duration_s, abs=0.1)
    assert show(tmp_path / "fast.npz", "--out", tmp_path / "a.png", "--checkpoint", tiny_vqvae) == 0


def test_a_motion_is_shown_with_its_codes(joints_m: NDArray[np.float32], tmp_path: Path):
    motion = features_to_motion(exact_features(canonical_joints(joints_m), 20.0)[:48], 20.0)
    write_motion(tmp_path / "a.npz", motion, np.arange(12))
    codes = read_exhibit(tmp_path / "a.npz", None).codes
    assert codes is not None
    assert codes.tolist() == list(range(12))
    write_motion(tmp_path / "wrong.npz", motion, np.arange(11))
    with pytest.raises(ValueError, match=r"wrong\.npz: codes must be integers .* \[11\] for 48 frames"):
        read_exhibit(tmp_path / "wrong.npz", None)


def test_the_command_line_is_read_and_checked_without_torch(clips_folder: Path, tmp_path: Path):
    (tmp_path / "torch.py").write_text("raise ImportError('no torch here')")
    paths = os.pathsep.join([str(tmp_path), str(ROOT)])
    for arguments, rc, said in (
        (["--help"], 0, "--checkpoint"),
        ([str(clips_folder), "--out", "a.txt"], 2, "must end in .png or .gif"),
        ([str(clips_folder), "--out", "a.png"], 2, "no torch here; install what training needs: pip install"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "python_core", "show", *arguments],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": paths},
            capture_output=True,
            text=True,
        )
        assert done.returncode == rc, done.stderr
        assert "Traceback" not in done.stderr
        assert said in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("CLIPS", "--out", "a.txt"), r"a\.txt: cannot draw \.txt; --out must end in \.png or \.gif"),
        (("CLIPS", "--out", "a"), r"a: cannot draw a file without extension"),
        (("CLIPS", "--out", "nowhere/a.png"), r"the folder nowhere does not exist; make it first"),
        (("CLIPS", "--out", "a.gif", "--count", "2"), r"a \.gif shows one clip, got 2; name one with --ids"),
        (("CLIPS", "--out", "a.png", "--count", "0"), r"--count must be 1 to 100, got 0"),
        (("CLIPS", "--out", "a.png", "--frames", "101"), r"--frames must be 1 to 100, got 101"),
        (("CLIPS", "--out", "a.png", "--seed", "-1"), r"--seed must be 0 or more, got -1"),
        (("CLIPS", "--out", "a.png", "--split", "test"), r"test\.txt: missing"),
        (("CLIPS", "--out", "a.png", "--ids", "999"), r"new_joints/999\.npy"),
        (("CLIPS", "--out", "a.png", "--checkpoint", "nowhere"), r"nowhere: no checkpoint\.json"),
        (("PREPARED", "--out", "a.png", "--split", "test"), r"no clips in split 'test'; there are \['train', 'val'\]"),
        (("PREPARED", "--out", "a.png", "--ids", "999"), r"no clip 999; clips\.jsonl names"),
        (("nowhere", "--out", "a.png"), r"nowhere: no such file or folder; show takes \.npz motions"),
        (("a.fbx", "--out", "a.png"), r"a\.fbx: cannot show \.fbx; show takes"),
        (("empty.npz", "--out", "a.png"), r"empty\.npz: not an \.npz file"),
        (("empty.npy", "--out", "a.png"), r"empty\.npy: not an \.npy file"),
        (("flat.npy", "--out", "a.png"), r"flat\.npy: expected joints \[F, 22, 3\] or features \[F, 263\], got \[3\]"),
        (("none.npy", "--out", "a.png"), r"none\.npy: expected .* got \[0, 263\]"),
        (("one.npy", "--out", "a.png"), r"clip one\.npy: expected 2 frames or more"),
        (("nan.npy", "--out", "a.png"), r"clip nan\.npy: joints that are not finite"),
        (
            ("short.npy", "--out", "a.png", "--checkpoint", "VQVAE"),
            r"clip short\.npy: a code takes 4 rows of features, got 2; show it without --checkpoint",
        ),
    ],
)
def test_what_cannot_be_shown_is_refused_with_what_to_do(
    arguments: tuple[str, ...],
    said: str,
    clips_folder: Path,
    prepared_folder: Path,
    tiny_vqvae: Path,
    joints_m: NDArray[np.float32],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.chdir(tmp_path)
    for name in ("a.fbx", "empty.npz", "empty.npy"):
        Path(name).touch()
    arrays = {
        "flat": np.zeros(3),
        "none": np.zeros((0, 263)),
        "one": joints_m[:1],
        "nan": joints_m + np.nan,
        "short": joints_m[:3],
    }
    for name, array in arrays.items():
        np.save(f"{name}.npy", array)
    folders = {"CLIPS": clips_folder, "PREPARED": prepared_folder, "VQVAE": tiny_vqvae}
    assert show(*(folders.get(argument, argument) for argument in arguments)) == 2
    written = capsys.readouterr().err
    assert re.search(said, written), written
    assert "Traceback" not in written
    assert not list(tmp_path.glob("a.[pg]*"))
