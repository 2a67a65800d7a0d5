import json
import logging
import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from python_core.__main__ import main
from python_core.clips import clip as clip_module
from python_core.clips.clip import Caption, Clip, mirror_text
from python_core.clips.humanml3d import HumanML3DFolder
from python_core.clips.preparation import Rules, Shard, prepare_shard
from python_core.clips.prepared import PreparedClips, read_prepared
from python_core.clips.takes import clip_takes
from python_core.contract.motion import Motion
from python_core.contract.plan import Beat, Plan, parse_plan
from python_core.contract.skeleton import BODY_22
from python_core.features import Normalizer, canonical_joints, exact_features, features_to_joints, mirror_joints, origin
from python_core.stages import prepare
from tests.python_core.clips.bvh_files import MIXAMO, made_folder, motion_text
from tests.python_core.test_composition import make

FILES = [
    "clips.jsonl", "features.npy", "prepared.json", "report.json", "run.json", "sheet.png", "skipped.jsonl",
    "statistics.npz",
]  # fmt: skip

XSENS = (
    "Hips LeftHip RightHip Chest LeftKnee RightKnee Chest2 LeftAnkle RightAnkle Chest3 LeftToe RightToe Neck "
    "LeftCollar RightCollar Head LeftShoulder RightShoulder LeftElbow RightElbow LeftWrist RightWrist"
)
"""Joints of an Xsens skeleton in the order of ours."""


def prepared(clips: Path, out: Path, **changes: Any) -> PreparedClips:
    prepare.run(replace(prepare.PRESETS["tiny"], clips=(clips,), out=out, **changes))
    return read_prepared(out)


def read_report(out: Path) -> dict[str, Any]:
    return json.loads((out / "report.json").read_text())


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def multiply(folder: Path, times: int) -> None:
    """Give a folder copies of its training clips, each under an id of its own."""
    ids = (folder / "train.txt").read_text().split()
    for number in range(times):
        for clip_id in ids:
            for kind, suffix in (("new_joints", "npy"), ("texts", "txt")):
                path = folder / kind / f"{clip_id}.{suffix}"
                shutil.copy(path, folder / kind / f"c{number}_{clip_id}.{suffix}")
    with (folder / "train.txt").open("a") as file:
        file.writelines(f"c{number}_{clip_id}\n" for number in range(times) for clip_id in ids)


@pytest.fixture
def own_clips(clips_folder: Path, tmp_path: Path) -> Path:
    return shutil.copytree(clips_folder, tmp_path / "clips")


def test_every_training_clip_is_there_with_its_mirrored_copy_and_val_without(prepared_folder: Path):
    clips = read_prepared(prepared_folder).clips
    train = [clip.clip_id for clip in clips if clip.split == "train"]
    ids = ["000000t", "000011t", "000022t", "000033t"]
    assert sorted(train) == sorted(ids + [f"M{clip_id}" for clip_id in ids])
    assert [clip.clip_id for clip in clips if clip.split == "val"] == ["000000v", "000011v", "000022v", "000033v"]
    # 64 frames give 63 rows; val clips are 12 frames shorter.
    assert [clip.num_rows for clip in clips] == [63] * 8 + [51] * 4
    assert [clip.first_row for clip in clips] == [*range(0, 8 * 63 + 1, 63), *range(8 * 63 + 51, 8 * 63 + 4 * 51, 51)]


def test_rows_are_the_exact_features_of_canonical_clips(clips_folder: Path, prepared_folder: Path):
    made = read_prepared(prepared_folder)
    by_id = {clip.clip_id: clip for clip in made.clips}
    reader = HumanML3DFolder(clips_folder)
    for clip in (reader.read(name)[0] for name in reader.names("train")):
        for clip_id, joints_m in ((clip.clip_id, clip.joints_m), (f"M{clip.clip_id}", mirror_joints(clip.joints_m))):
            expected = exact_features(canonical_joints(joints_m), 20.0)
            np.testing.assert_array_equal(made.features(by_id[clip_id]), expected)


def test_licences_and_captions_come_along_to_mirrored_copies(prepared_folder: Path):
    clips = {clip.clip_id: clip for clip in read_prepared(prepared_folder).clips}
    assert {(clip.source, clip.licence) for clip in clips.values()} == {("made", "CC0-1.0")}
    assert clips["000011t"].captions[0] == "a person walks in a circle to the left."
    assert clips["M000011t"].captions[0] == "a person walks in a circle to the right."
    assert clips["M000033t"].captions[0] == "a person waves the left hand."


def test_parts_of_speech_of_text_files_come_along_and_spacy_finds_the_rest(own_clips: Path, tmp_path: Path):
    text = "he walks.#he/PRON walk/VERB#0.0#0.0\ngoes left#go/VERB left/ADV#0.0#0.0\nhe goes#he/OTHER goes/OTHER#0#0\n"
    (own_clips / "texts" / "000000t.txt").write_text(text)
    clips = {clip.clip_id: clip for clip in prepared(own_clips, tmp_path / "out").clips}
    assert clips["000000t"].tagged == ("he/PRON walk/VERB", "go/VERB left/ADV", "he/PRON go/VERB")
    assert clips["M000000t"].tagged == ("he/PRON walk/VERB", "go/VERB right/ADJ", "he/PRON go/VERB")
    walk = clips["000011t"]
    assert walk.captions[0] == "a person walks in a circle to the left."
    assert walk.tagged[0] == "a/DET person/NOUN walk/VERB in/ADP a/DET circle/NOUN to/ADP the/DET left/NOUN"
    assert len(walk.tagged) == len(walk.captions)


def test_statistics_are_of_the_train_split_with_its_mirrored_copies(prepared_folder: Path):
    made = read_prepared(prepared_folder)
    assert made.rows is not None
    expected = Normalizer.of(np.array(made.rows[: 8 * 63]))
    np.testing.assert_array_equal(made.normalizer.mean, expected.mean)
    # Mirrored copies balance the sides.
    assert made.normalizer.mean[0] == pytest.approx(0, abs=1e-7)
    assert made.normalizer.mean[1] == pytest.approx(0, abs=1e-7)


def test_without_mirroring_there_are_no_copies(clips_folder: Path, tmp_path: Path):
    made = prepared(clips_folder, tmp_path, mirror=False)
    assert [clip.clip_id for clip in made.split("train")] == ["000000t", "000011t", "000022t", "000033t"]


def test_a_copy_that_the_folder_brings_is_not_made_again_nor_mirrored_back(own_clips: Path, tmp_path: Path):
    joints_m = np.load(own_clips / "new_joints" / "000011t.npy")
    np.save(own_clips / "new_joints" / "M000011t.npy", mirror_joints(joints_m))
    (own_clips / "texts" / "M000011t.txt").write_text("a person walks a circle to the right.#a#0.0#0.0\n")
    with (own_clips / "train.txt").open("a") as file:
        file.write("M000011t\n")
    made = prepared(own_clips, tmp_path / "out")
    ids = [clip.clip_id for clip in made.split("train")]
    assert len(ids) == len(set(ids)) == 8
    assert not [clip_id for clip_id in ids if clip_id.startswith("MM")]
    brought = next(clip for clip in made.clips if clip.clip_id == "M000011t")
    assert brought.captions == ("a person walks a circle to the right.",)


def test_excluded_sources_and_short_clips_are_left_out_and_counted(
    own_clips: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    path = own_clips / "licences.csv"
    path.write_text(path.read_text().replace("000022t,made", "000022t,other").replace("000022v,made", "000022v,other"))
    short = own_clips / "new_joints" / "000033t.npy"
    np.save(short, np.load(short)[:19])
    with caplog.at_level(logging.INFO, logger="python_core.stages.prepare"):
        made = prepared(own_clips, tmp_path / "out", exclude_sources=("other",))
    assert [clip.clip_id for clip in made.clips] == [
        "000000t", "M000000t", "000011t", "M000011t", "000000v", "000011v", "000033v",
    ]  # fmt: skip
    assert re.search(r"skipped: source other excluded *│ *2 *│", caplog.text)
    assert re.search(r"skipped: shorter than 20 frames *│ *1 *│", caplog.text)


def test_when_nothing_is_left_the_error_says_why(clips_folder: Path, tmp_path: Path):
    with pytest.raises(ValueError, match=r"no clips are left of .*source made excluded': 8"):
        prepared(clips_folder, tmp_path, exclude_sources=("made",))
    assert not (tmp_path / "prepared.json").exists()


def test_parts_of_clips_are_clips_of_their_own(own_clips: Path, tmp_path: Path):
    with (own_clips / "texts" / "000000t.txt").open("a") as file:
        file.write("a person starts to walk.#a#0.0#1.5\n")
    made = prepared(own_clips, tmp_path / "out")
    rows = {clip.clip_id: (clip.num_rows, clip.captions) for clip in made.clips}
    for clip_id in ("000000t@0-30", "M000000t@0-30"):
        assert rows[clip_id] == (29, ("a person starts to walk.",))
    assert rows["000000t"][0] == 63


def test_a_source_that_no_clip_comes_from_is_not_left_out_in_silence(clips_folder: Path, tmp_path: Path):
    with pytest.raises(ValueError, match=r"exclude_sources names Made.*the clips come from made"):
        prepared(clips_folder, tmp_path / "out", exclude_sources=("Made",))
    # Nothing was made: the folder is free for a run that is right.
    assert prepared(clips_folder, tmp_path / "out").clips


def test_one_and_four_workers_write_the_same_bytes(own_clips: Path, tmp_path: Path):
    multiply(own_clips, 10)
    contents = []
    for workers in (1, 4):
        prepared(own_clips, tmp_path / str(workers), workers=workers)
        contents.append({path.name: path.read_bytes() for path in (tmp_path / str(workers)).iterdir()})
    assert sorted(contents[0]) == FILES
    assert contents[0] == contents[1]


def test_a_folder_of_something_else_is_refused_and_of_the_same_left_alone(own_clips: Path, tmp_path: Path):
    out = tmp_path / "out"
    prepared(own_clips, out)
    times = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    prepared(own_clips, out, workers=2)
    changed = {path.name for path in out.iterdir() if path.stat().st_mtime_ns != times[path.name]}
    assert changed <= {"run.json"}
    with pytest.raises(ValueError, match=r"holds a run with another mirror; choose another folder, or remove this one"):
        prepared(own_clips, out, mirror=False)
    (own_clips / "texts" / "000000t.txt").write_text("a person strolls.#a#0.0#0.0\n")
    with pytest.raises(ValueError, match=r"holds a run with another clip_files"):
        prepared(own_clips, out)


def test_what_an_older_version_prepared_is_prepared_again(clips_folder: Path, tmp_path: Path):
    (tmp_path / "prepared.json").write_text('{"format_version": 1}')
    assert len(prepared(clips_folder, tmp_path).clips) == 12


def test_a_damaged_clip_is_skipped_with_its_reason_and_the_rest_goes_on(own_clips: Path, tmp_path: Path):
    (own_clips / "new_joints" / "000000t.npy").write_bytes(b"rubbish")
    (own_clips / "new_joints" / "000011t.npy").write_bytes(b"rubbish")
    (own_clips / "texts" / "000022t.txt").unlink()
    made = prepared(own_clips, tmp_path / "out")
    assert [clip.clip_id for clip in made.split("train")] == ["000033t", "M000033t"]
    skipped = read_lines(tmp_path / "out" / "skipped.jsonl")
    assert [item["name"] for item in skipped] == ["000000t", "000011t", "000022t"]
    assert "000022t.txt: missing" in skipped[2]["reason"]
    counts = read_report(tmp_path / "out")["skipped"]
    assert sorted(counts.values()) == [1, 2]
    assert "texts/NAME.txt: missing; each clip has its captions there" in counts


def test_clips_whose_joints_are_all_at_one_place_do_not_stop_the_run(own_clips: Path, tmp_path: Path):
    np.save(own_clips / "new_joints" / "000000t.npy", np.zeros((40, 22, 3), dtype=np.float32))
    made = prepared(own_clips, tmp_path / "out")
    assert all(np.isfinite(made.features(clip)).all() for clip in made.clips)


def test_when_more_than_half_is_skipped_the_first_line_says_so(own_clips: Path, tmp_path: Path):
    for name in ("000000t", "000011t", "000022t", "000000v"):
        (own_clips / "texts" / f"{name}.txt").unlink()
    prepared(own_clips, tmp_path / "half")
    assert "MORE THAN HALF" not in read_report(tmp_path / "half")["headline"]
    (own_clips / "texts" / "000011v.txt").unlink()
    prepared(own_clips, tmp_path / "more")
    assert read_report(tmp_path / "more")["headline"].startswith("MORE THAN HALF WAS SKIPPED, 5 of 8")


def test_the_report_counts_what_is_there(own_clips: Path, tmp_path: Path):
    path = own_clips / "licences.csv"
    path.write_text(path.read_text().replace("000022t,made,CC0-1.0", "000022t,other,CC BY-NC 4.0"))
    made = prepared(own_clips, tmp_path / "any")
    report = read_report(tmp_path / "any")
    # 12 clips with 2 captions each; 63 rows in train, 51 in val.
    assert report["total"]["num_clips"] == 12
    assert report["total"]["num_captions"] == 24
    assert report["total"]["hours"] == pytest.approx((8 * 63 + 4 * 51) / 20 / 3600, abs=1e-4)
    assert report["splits"]["train"]["num_clips"] == 8
    assert report["sources"]["other"]["num_clips"] == 2
    assert report["licences"]["CC BY-NC 4.0"]["num_captions"] == 4
    assert report["num_mirrored"] == 4
    words = [len(caption.split()) for clip in made.clips for caption in clip.captions]
    assert report["total"]["caption_words"] == pytest.approx(sum(words) / 24, abs=0.01)
    prepared(own_clips, tmp_path / "permissive", licence="permissive")
    report = read_report(tmp_path / "permissive")
    assert report["skipped"] == {"licence is not permissive: CC BY-NC 4.0": 1}
    assert "other" not in {clip.source for clip in read_prepared(tmp_path / "permissive").clips}
    assert report["sources"]["other"] == {
        "num_clips": 0, "hours": 0.0, "num_captions": 0, "caption_words": 0.0, "num_skipped": 1,
    }  # fmt: skip


def test_clips_of_several_folders_have_their_folder_in_their_ids(own_clips: Path, tmp_path: Path):
    other = shutil.copytree(own_clips, tmp_path / "more")
    (other / "val.txt").unlink()
    copy = other / "new_joints" / "M000000t.npy"
    np.save(copy, mirror_joints(np.load(other / "new_joints" / "000000t.npy")))
    shutil.copy(other / "texts" / "000000t.txt", other / "texts" / "M000000t.txt")
    with (other / "train.txt").open("a") as file:
        file.write("M000000t\n")
    config = replace(prepare.PRESETS["tiny"], clips=(own_clips, other), out=tmp_path / "out")
    prepare.run(config)
    ids = [clip.clip_id for clip in read_prepared(config.out).clips]
    assert len(ids) == len(set(ids)) == 8 + 8 + 4
    assert {"clips-000000t", "Mclips-000000t", "more-000000t", "Mmore-000000t", "Mmore-000011t"} <= set(ids)
    assert read_report(config.out)["missing_splits"] == [f"{other}: val"]
    with pytest.raises(ValueError, match="several folders called clips"):
        prepare.run(replace(config, clips=(own_clips, own_clips)))


def test_a_split_that_no_folder_has_stops_the_run(own_clips: Path, tmp_path: Path):
    with pytest.raises(ValueError, match=r"test\.txt: missing"):
        prepared(own_clips, tmp_path / "out", splits=("train", "test"))
    with pytest.raises(ValueError, match="splits must name train"):
        prepared(own_clips, tmp_path / "out", splits=("val",))
    with pytest.raises(ValueError, match="no such folder"):
        prepared(tmp_path / "nowhere", tmp_path / "out")
    with pytest.raises(ValueError, match=r"--out .* lies in the clips of"):
        prepared(own_clips, own_clips / "prepared")


def test_a_name_that_is_listed_in_two_splits_is_read_for_the_first(own_clips: Path, tmp_path: Path):
    with (own_clips / "val.txt").open("a") as file:
        file.write("000000t\n")
    made = prepared(own_clips, tmp_path / "out")
    assert [clip.split for clip in made.clips if clip.clip_id == "000000t"] == ["train"]
    assert read_report(tmp_path / "out")["skipped"] == {"listed more than once": 1}


def test_a_folder_of_bvh_as_it_comes_is_prepared_and_shows_how_its_joints_were_guessed(
    smooth_motions: list[Motion], tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    folder, out = tmp_path / "bvh", tmp_path / "out"
    xsens = tuple(XSENS.split())
    for number, names in enumerate((MIXAMO, xsens, MIXAMO)):
        made_folder(folder, motion_text(smooth_motions[number], names), f"clip {number}")
    (folder / "licences.csv").write_text("id,source,licence\n*,our studio,CC0-1.0\n")
    with caplog.at_level(logging.INFO):
        assert main(["prepare", "tiny", "--clips", str(folder), "--out", str(out), "--licence", "permissive"]) == 0
    clips = read_prepared(out).clips
    assert {(clip.split, clip.source, clip.licence) for clip in clips} == {("train", "our studio", "CC0-1.0")}
    assert len(clips) == 6
    assert "no train.txt or val.txt, so all 3 clips are in train" in caplog.text
    report = read_report(out)
    assert report["missing_splits"] == [f"{folder}: val"]
    assert report["guessed_mappings"] == [
        {"folder": str(folder), "file": "guessed_mapping_1.toml", "num_clips": 2},
        {"folder": str(folder), "file": "guessed_mapping_2.toml", "num_clips": 1},
    ]
    texts = [(out / f"guessed_mapping_{number}.toml").read_text() for number in (1, 2)]
    # Each skeleton is shown once, whatever the number of its clips.
    assert [caplog.text.count(text.rstrip()) for text in texts] == [1, 1]
    assert 'l_hip = "LeftUpLeg"' in texts[0]
    assert 'l_hip = "LeftHip"' in texts[1]
    # Where the file is put beside the clips, nothing is guessed, and the other skeleton's clip is skipped.
    (folder / "mapping.toml").write_text(texts[0])
    again = prepared(folder, tmp_path / "again")
    np.testing.assert_array_equal(again.features(again.clips[0]), read_prepared(out).features(clips[0]))
    report = read_report(tmp_path / "again")
    assert report["guessed_mappings"] == []
    assert not list((tmp_path / "again").glob("*.toml"))
    (reason,) = report["skipped"]
    assert "not in the file: l_hip = " in reason


def test_what_was_prepared_is_drawn(prepared_folder: Path):
    with Image.open(prepared_folder / "sheet.png") as image:
        assert min(image.size) > 200


@pytest.mark.parametrize(
    ("parameter", "value"), [("min_frames", 4), ("frame_rate_hz", 0.0), ("workers", -1), ("sheet_clips", 0)]
)
def test_values_without_sense_are_named(clips_folder: Path, tmp_path: Path, parameter: str, value: float):
    with pytest.raises(ValueError, match=f"{parameter} must be"):
        prepared(clips_folder, tmp_path / "out", **{parameter: value})


def test_a_body_model_is_there_and_for_amass(clips_folder: Path, tmp_path: Path):
    with pytest.raises(ValueError, match=r"body_model .*models: no such file or folder"):
        prepared(clips_folder, tmp_path / "out", body_model=tmp_path / "models")
    (tmp_path / "models").mkdir()
    with pytest.raises(ValueError, match=r"body_model .*models is for folders of AMASS, and there is none"):
        prepared(clips_folder, tmp_path / "out", body_model=tmp_path / "models")


def check_left_stays_left(made: PreparedClips) -> None:
    """Fail unless the arm that a caption names is the one that waves, and a circle goes to the side it names."""
    num_checked = 0
    for clip in made.clips:
        words = clip.captions[0]
        rows = torch.from_numpy(np.array(made.features(clip)))[None]
        joints_m = features_to_joints(rows, origin(1, rows))[0][0].numpy()
        if "hand" in words:
            left, right = ((joints_m[:, joint] - joints_m[:, 0]).std(axis=0).max() for joint in (20, 21))
            assert (left > right) == ("left" in words), f"{clip.clip_id}: {words}"
        elif "circle" in words:
            # The character begins at x = 0 facing +Z, its left at +X.
            assert (joints_m[:, 0, 0].mean() > 0) == ("left" in words), f"{clip.clip_id}: {words}"
        num_checked += "hand" in words or "circle" in words
    assert num_checked == 6


def test_left_stays_left(prepared_folder: Path):
    check_left_stays_left(read_prepared(prepared_folder))


@pytest.mark.parametrize("half", ["mirror_joints", "mirror_text"])
def test_half_a_mirror_would_be_noticed(clips_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, half: str):
    monkeypatch.setattr(clip_module, half, lambda whole: whole)
    made = prepared(clips_folder, tmp_path)
    with pytest.raises(AssertionError, match="M0000"):
        check_left_stays_left(made)


@dataclass(frozen=True)
class PlannedFolder:
    """One motion, of which it is known what happens when."""

    def names(self, split: str) -> list[str]:
        return ["wave"]

    def read(self, name: str) -> list[Clip]:
        beats = (Beat("wave the left hand", 1.0, ("left arm",)), Beat("turn counterclockwise", 1.2))
        captions = (Caption("someone waves the left hand, then turns"), Caption("someone turns", 1.0, 2.2))
        joints_m = np.tile(BODY_22.rest_joints_m.astype(np.float32), (111, 1, 1))
        return [Clip("wave", joints_m, captions, "made", "CC0", 50.0, "take 7", Plan(beats))]


def planned_shard() -> Shard:
    return Shard(
        number=0,
        reader=PlannedFolder(),
        folder=Path("clips"),
        prefix="",
        split="train",
        names=("wave",),
        with_copies=frozenset(),
    )


RULES = Rules(licence="any", exclude_sources=(), mirror=True, variations=False, min_frames=20, frame_rate_hz=20.0)


def test_plans_are_mirrored_with_their_motion_and_stay_with_the_whole_clip():
    made, rows = prepare_shard(planned_shard(), RULES)
    plans = {clip.clip_id: clip.plan for clip in made.clips}
    assert plans == {
        "wave": "1. wave the left hand (left arm), 1.0 s 2. turn counterclockwise, 1.2 s",
        "Mwave": "1. wave the right hand (right arm), 1.0 s 2. turn clockwise, 1.2 s",
        "wave@20-44": None,
        "Mwave@20-44": None,
    }
    assert {clip.take for clip in made.clips} == {"take 7"}
    # 110 steps of 20 ms are 44 of 50 ms; the part has 24 frames.
    assert [len(found) for found in rows] == [44, 44, 23, 23]


@dataclass(frozen=True)
class WalkFolder:
    """A straight walk."""

    def names(self, split: str) -> list[str]:
        return ["walk"]

    def read(self, name: str) -> list[Clip]:
        joints_m = make("walk", 81).joint_positions_m() + np.float32(0.5)
        captions = (Caption("a person walks forward."), Caption("he walks ahead and waves"))
        return [Clip("walk", joints_m, captions, "made", "CC0", take="take 7")]


def test_variations_of_train_clips_are_mirrored_and_go_with_their_take():
    shard = replace(planned_shard(), reader=WalkFolder(), names=("walk",))
    made, _ = prepare_shard(shard, replace(RULES, variations=True))
    captions = {clip.clip_id: clip.captions for clip in made.clips}
    assert captions["walk@backward"] == captions["Mwalk@backward"] == ("a person walks backward.",)
    assert captions["Mwalk@turned_left"][0] == "a person turns to the right."
    assert captions["walk"] == ("a person walks forward.", "he walks ahead and waves")
    names = {clip_id.removeprefix("M") for clip_id in captions}
    assert names == {"walk", *(f"walk@{name}" for name in ("backward", "circle", "turned_left", "turned_around"))} | {
        f"walk@{name}_on_way" for name in ("turned_left", "turned_around")
    }
    assert len(captions) == 2 * len(names)
    assert made.mirrored == {f"M{name}" for name in names}
    assert {clip_takes(clip, frozenset(captions)) for clip in made.clips} == {frozenset(["take 7"])}
    unknown = [replace(clip, take="") for clip in made.clips]
    assert {clip_takes(clip, frozenset(captions)) for clip in unknown} == {frozenset(["walk"])}
    for other in (replace(shard, split="val"), shard):
        rules = replace(RULES, variations=other.split == "val")
        assert {clip.clip_id for clip in prepare_shard(other, rules)[0].clips} <= {"walk", "Mwalk"}
    # Where the folder brings the mirrored copy, there is none of the clip, but of what is made here.
    brought, _ = prepare_shard(
        replace(shard, with_copies=frozenset(["walk", "Mwalk"])), replace(RULES, variations=True)
    )
    assert {clip.clip_id for clip in brought.clips} == set(captions) - {"Mwalk"}


def test_clips_of_another_rate_are_resampled_and_counted():
    made, _ = prepare_shard(planned_shard(), RULES)
    assert made.resampled == {("made", 50.0): 1}
    made, _ = prepare_shard(planned_shard(), replace(RULES, frame_rate_hz=50.0))
    assert made.resampled == {}
    assert [clip.num_rows for clip in made.clips] == [110, 110, 59, 59]


def test_captions_of_the_same_part_go_together_and_those_beyond_the_motion_are_counted(own_clips: Path, tmp_path: Path):
    with (own_clips / "texts" / "000000t.txt").open("a") as file:
        file.write("a person starts.#a#0.0#1.5\na person begins.#a#0.0#1.5\na person ends.#a#60.0#61.5\n")
    made = prepared(own_clips, tmp_path / "out", mirror=False)
    captions = {clip.clip_id: clip.captions for clip in made.clips}
    assert captions["000000t@0-30"] == ("a person starts.", "a person begins.")
    assert read_report(tmp_path / "out")["skipped"] == {"caption of a part that the motion does not reach": 1}


def test_compositions_have_plans_and_are_mirrored_but_not_in_the_statistics(own_clips: Path, tmp_path: Path):
    made = [prepared(own_clips, tmp_path / str(workers), compositions=3, workers=workers) for workers in (1, 2)]
    assert made[0].clips == made[1].clips
    np.testing.assert_array_equal(made[0].rows, made[1].rows)
    composed = [clip for clip in made[0].clips if clip.source == "composed"]
    report = read_report(tmp_path / "1")
    assert report["composed"]["num_clips"] == len(composed) > 0
    assert report["num_mirrored"] == 4
    assert report["headline"].endswith("; 0 skipped")
    assert len(composed) % 2 == 0
    for clip, mirrored in zip(composed[::2], composed[1::2], strict=True):
        assert clip.plan is not None
        assert mirrored.clip_id == f"M{clip.clip_id}"
        assert mirrored.plan == mirror_text(clip.plan)
        assert mirrored.captions == tuple(map(mirror_text, clip.captions))
        assert parse_plan(clip.plan).duration_s == pytest.approx(clip.num_rows / 20)
        assert (clip.split, clip.licence) == ("train", "CC0-1.0")
    # A folder that brings its mirrored copies itself is composed of the others alone, as well.
    for clip_id in (own_clips / "train.txt").read_text().split():
        path = own_clips / "new_joints" / f"{clip_id}.npy"
        np.save(path.with_name(f"M{path.name}"), mirror_joints(np.load(path)))
        captions = (own_clips / "texts" / f"{clip_id}.txt").read_text()
        (own_clips / "texts" / f"M{clip_id}.txt").write_text(mirror_text(captions))
        with (own_clips / "train.txt").open("a") as file:
            file.write(f"M{clip_id}\n")
    with_copies = prepared(own_clips, tmp_path / "copies", compositions=3)
    assert [clip.clip_id for clip in with_copies.clips if clip.source == "composed"] == [
        clip.clip_id for clip in composed
    ]
    without = prepared(own_clips, tmp_path / "without")
    np.testing.assert_array_equal(without.normalizer.mean, made[0].normalizer.mean)
