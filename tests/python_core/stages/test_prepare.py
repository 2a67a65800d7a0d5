import logging
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from python_core.clips.humanml3d import HumanML3DFolder
from python_core.clips.prepared import PreparedClips, read_prepared
from python_core.features import Normalizer, canonical_joints, exact_features, mirror_joints
from python_core.stages import prepare


def prepared(clips: Path, out: Path, **changes: Any) -> PreparedClips:
    prepare.run(replace(prepare.PRESETS["tiny"], clips=clips, out=out, **changes))
    return read_prepared(out)


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


def test_statistics_are_of_the_train_split_with_its_mirrored_copies(prepared_folder: Path):
    made = read_prepared(prepared_folder)
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
    assert "train: 4 clips of made" in caplog.text
    assert "left out 2: source other excluded" in caplog.text
    # The clip and its mirrored copy.
    assert "left out 2: shorter than 20 frames" in caplog.text


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


def test_two_runs_write_the_same_bytes(clips_folder: Path, tmp_path: Path):
    for name in ("one", "two"):
        prepared(clips_folder, tmp_path / name)
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert files == ["clips.jsonl", "features.npy", "prepared.json", "statistics.npz"]
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name


def test_a_source_that_no_clip_comes_from_is_not_left_out_in_silence(clips_folder: Path, tmp_path: Path):
    config = replace(prepare.PRESETS["tiny"], clips=clips_folder, out=tmp_path, exclude_sources=("Made",))
    with pytest.raises(ValueError, match=r"exclude_sources names Made.*licences\.csv knows made"):
        prepare.run(config)
