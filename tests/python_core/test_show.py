import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from tokenizers import Tokenizer

from python_core.__main__ import main
from python_core.clips.humanml3d import HumanML3DFolder
from python_core.clips.prepared import read_prepared
from python_core.clips.smpl import mean_rest_joints
from python_core.contract.motion import Motion, write_motion
from python_core.exhibit import (
    choose_codes,
    choose_exhibits,
    find_split,
    find_tokenizer,
    read_back,
    read_exhibit,
    to_row,
)
from python_core.features import canonical_joints, exact_features, features_to_motion
from python_core.language_model import token_layout
from python_core.motion_decoder import MotionDecoder
from python_core.motion_tokenizer import MotionTokenizer
from tests.python_core.clips.bvh_files import made_folder, motion_text

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


def test_without_a_named_split_train_is_shown_where_val_has_no_clips(
    clips_folder: Path, smooth_motions: list[Motion], tmp_path: Path
):
    folders = [made_folder(tmp_path / "bvh", motion_text(smooth_motions[0])), tmp_path / "prepared"]
    assert main(["prepare", "tiny", "--clips", str(folders[0]), "--out", str(folders[1])]) == 0
    for folder in folders:
        assert find_split(folder) == "train"
        assert show(folder, "--out", tmp_path / "a.png") == 0
        assert show(folder, "--out", tmp_path / "a.png", "--split", "val") == 2
    assert find_split(clips_folder) == "val"


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


def test_codes_of_train_sft_are_shown_as_the_checkpoint_decodes_them(tiny_checkpoint: Path, tmp_path: Path):
    path, tokenizer = tiny_checkpoint / "codes.jsonl", MotionTokenizer.load(find_tokenizer(tiny_checkpoint))
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    exhibits, num_clips = choose_codes(path, 2, (), 1, tiny_checkpoint, tokenizer)
    assert num_clips == len(lines)
    first_series = {clip_id: series[0] for clip_id, series in lines}
    assert len({exhibit.name for exhibit in exhibits}) == 2
    for exhibit in exhibits:
        assert exhibit.codes is not None
        assert exhibit.codes.tolist() == first_series[exhibit.name]
        decoded = tokenizer.decode(first_series[exhibit.name])
        assert np.array_equal(exhibit.motion.joint_rotations, decoded.joint_rotations)
    assert show(path, "--out", tmp_path / "a.png", "--checkpoint", tiny_checkpoint, "--count", 3) == 0
    assert pixels(tmp_path / "a.png").shape[0] == HEADING + 3 * (HEADING + TILE_HEIGHT)
    ids = (lines[1][0],)
    assert [exhibit.name for exhibit in choose_codes(path, 1, ids, 1, tiny_checkpoint, tokenizer)[0]] == list(ids)


def test_a_list_of_codes_becomes_an_animation(tiny_vqvae: Path, tmp_path: Path):
    (tmp_path / "saved.json").write_text("[3, 1,\n 2]")
    out = tmp_path / "a.gif"
    assert show(tmp_path / "saved.json", "--out", out, "--checkpoint", tiny_vqvae) == 0
    with Image.open(out) as image:
        assert image.n_frames == 12  # pyright: ignore[reportAttributeAccessIssue]


def test_replies_of_evaluate_are_shown_with_their_prompts_and_malformed_ones_are_not(
    tiny_checkpoint: Path, tmp_path: Path
):
    tokenizer = MotionTokenizer.load(find_tokenizer(tiny_checkpoint))
    text = Tokenizer.from_file(str(tiny_checkpoint / "language_model" / "tokenizer.json"))
    layout = token_layout(text, tokenizer.model.shape.codebook)
    replies = {"walk\u2028on": layout.reply_ids(None, [1, 2, 3, 4]), "sit": [5, 5]}
    lines = [{"prompt": prompt, "history": [1], "token_ids": list(ids)} for prompt, ids in replies.items()]
    path = tmp_path / "replies.jsonl"
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    ((exhibit,), num_clips) = choose_codes(path, 12, (), 1, tiny_checkpoint, tokenizer)
    assert (exhibit.name, exhibit.captions, num_clips) == ("0", ("walk\u2028on",), 1)
    assert exhibit.codes is not None
    assert exhibit.codes.tolist() == [1, 2, 3, 4]


def test_replies_beside_a_damaged_text_tokenizer_are_refused(
    tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    shutil.copytree(tiny_checkpoint, tmp_path / "model")
    (tmp_path / "model" / "language_model" / "tokenizer.json").write_text("{")
    replies = tmp_path / "replies.jsonl"
    replies.write_text(json.dumps({"prompt": "walk", "history": [], "token_ids": [1, 2]}) + "\n")
    assert show(replies, "--out", tmp_path / "a.png", "--checkpoint", tmp_path / "model") == 2
    assert "tokenizer.json: missing, or no tokenizer" in capsys.readouterr().err


def test_a_bvh_file_is_shown_alone_and_beside_its_reconstruction(
    smooth_motions: list[Motion], tiny_vqvae: Path, tmp_path: Path
):
    path = tmp_path / "a.bvh"
    path.write_text(motion_text(smooth_motions[0], unit_m=0.01))
    wanted_m = canonical_joints(smooth_motions[0].joint_positions_m())
    got_m = read_exhibit(path, None).motion.joint_positions_m()
    # Features have a row less than there are frames.
    assert np.abs(got_m - wanted_m[: len(got_m)]).max() < 1e-2
    assert show(path, "--out", tmp_path / "a.png", "--checkpoint", tiny_vqvae) == 0
    (tmp_path / "mapping.toml").write_text('[joints]\npelvis = "Hip"\n')
    with pytest.raises(ValueError, match=r"a\.bvh: .*Hip"):
        read_exhibit(path, None)


def test_recordings_of_amass_are_shown_with_each_persons_own_joints_where_a_body_model_is_given(tmp_path: Path):
    folder = tmp_path / "amass"
    (folder / "KIT" / "3").mkdir(parents=True)
    poses = np.zeros((40, 156))
    poses[:, 0] = np.pi / 2
    path = folder / "KIT" / "3" / "walk_poses.npz"
    fields = {"poses": poses, "trans": np.zeros((40, 3)), "mocap_framerate": 20.0, "betas": np.zeros(16)}
    np.savez(path, allow_pickle=False, gender="male", **fields)
    exhibit = read_exhibit(path, None)
    assert exhibit.motion.num_frames == 39
    # A model in which everybody has long arms.
    rest_m = mean_rest_joints()
    rest_m[[20, 21], 0] *= 1.5
    model = tmp_path / "model.npz"
    np.savez(model, allow_pickle=False, v_template=rest_m, shapedirs=np.zeros((22, 3, 10)), J_regressor=np.eye(22))
    (whole,), _ = choose_exhibits(folder, "train", 1, (), 0, None, model)
    alone = read_exhibit(path, None, model)
    np.testing.assert_array_equal(whole.motion.joint_rotations, alone.motion.joint_rotations)
    assert show(path, "--out", tmp_path / "a.png", "--body-model", model) == 0
    assert show(folder, "--out", tmp_path / "a.png", "--body-model", model, "--split", "train") == 0
    with pytest.raises(ValueError, match="no body model"):
        read_exhibit(path, None, tmp_path)
    with pytest.raises(ValueError, match="no body model"):
        choose_exhibits(folder, "train", 1, (), 0, None, tmp_path)


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
        (("CLIPS", "--out", "a.png", "--body-model", "m"), r"not of AMASS, which --body-model m is for; leave it out"),
        (("PREPARED", "--out", "a.png", "--body-model", "m"), r"not of AMASS, which --body-model m is for"),
        (("flat.npy", "--out", "a.png", "--body-model", "m"), r"flat\.npy: not of AMASS, which --body-model m is for"),
        (("codes.json", "--out", "a.png"), r"codes\.json: codes need --checkpoint, the tokenizer that decodes them"),
        (("codes.json", "--out", "a.png", "--checkpoint", "VQVAE", "--body-model", "m"), r"codes have no --body-model"),
        (("codes.json", "--out", "a.png", "--checkpoint", "VQVAE"), r"codes\.json:1: expected codes of 0 to \d+, got"),
        (("bad.jsonl", "--out", "a.png", "--checkpoint", "VQVAE"), r"bad\.jsonl:2: not JSON .*; is the file whole\?"),
        (("short.jsonl", "--out", "a.png", "--checkpoint", "VQVAE"), r"short\.jsonl: no codes in it; choose another"),
        (
            ("some.jsonl", "--out", "a.png", "--checkpoint", "VQVAE", "--ids", "b"),
            r"some\.jsonl: no codes of b; there are those of a, \.\.\.",
        ),
        (
            ("reply.jsonl", "--out", "a.png", "--checkpoint", "VQVAE"),
            r"tokenizer\.json: missing; replies are tokens of a language model, name its checkpoint",
        ),
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
    files = {
        "codes.json": "[1, 99999999999999999999999]",
        "bad.jsonl": '["a", [[1]]]\n["b", [[1',
        "short.jsonl": '["a", []]\n',
        "some.jsonl": '["a", [[1]]]\n',
        "reply.jsonl": '{"prompt": "walk", "history": [], "token_ids": [1]}\n',
    }
    for name, text in files.items():
        Path(name).write_text(text)
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
