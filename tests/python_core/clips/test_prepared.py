import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from python_core.clips.prepared import COMPOSED, PreparedClip, read_prepared, write_prepared
from python_core.features import Normalizer


def made_clips() -> tuple[list[PreparedClip], list[np.ndarray]]:
    random = np.random.default_rng(9)
    clips, features, first_row = [], [], 0
    for number, (split, num_rows) in enumerate([("train", 30), ("val", 12), ("train", 25)]):
        clips.append(
            PreparedClip(
                clip_id=f"clip{number}",
                split=split,
                source="made",
                licence="CC0-1.0",
                take=f"take{number}",
                captions=("a man walks", "ein Mann läuft"),
                plan=None if number else "1. walk forward, 1.5 s",
                first_row=first_row,
                num_rows=num_rows,
            )
        )
        features.append(random.normal(number, 1 + number, size=(num_rows, 263)).astype(np.float32))
        first_row += num_rows
    return clips, features


def test_clips_features_and_statistics_come_back(tmp_path: Path):
    clips, features = made_clips()
    write_prepared(tmp_path / "new", clips, iter(features), 20.0)
    prepared = read_prepared(tmp_path / "new")
    assert (prepared.clips, prepared.frame_rate_hz) == (tuple(clips), 20.0)
    for clip, rows in zip(prepared.clips, features, strict=True):
        np.testing.assert_array_equal(prepared.features(clip), rows)
    assert [clip.clip_id for clip in prepared.split("train")] == ["clip0", "clip2"]


def test_parts_of_speech_come_back_and_a_clip_without_them_has_no_field_of_them(tmp_path: Path):
    clips, features = made_clips()
    clips[1] = replace(clips[1], tagged=("a/DET man/NOUN walk/VERB", ""))
    write_prepared(tmp_path, clips, features, 20.0)
    assert read_prepared(tmp_path).clips == tuple(clips)
    lines = [json.loads(line) for line in (tmp_path / "clips.jsonl").read_text().splitlines()]
    assert ["tagged" in line for line in lines] == [False, True, False]


def test_statistics_are_those_of_the_training_split_alone(tmp_path: Path):
    clips, features = made_clips()
    write_prepared(tmp_path, clips, features, 20.0)
    expected = Normalizer.of(np.concatenate([features[0], features[2]]))
    normalizer = read_prepared(tmp_path).normalizer
    np.testing.assert_array_equal(normalizer.mean, expected.mean)
    np.testing.assert_array_equal(normalizer.std, expected.std)


def test_a_split_without_clips_is_refused_and_those_there_are_named(tmp_path: Path):
    write_prepared(tmp_path, *made_clips(), 20.0)
    with pytest.raises(ValueError, match=r"no clips in split 'test'; there are \['train', 'val'\]"):
        read_prepared(tmp_path).split("test")


def test_a_folder_without_its_summary_is_not_complete(tmp_path: Path):
    write_prepared(tmp_path, *made_clips(), 20.0)
    (tmp_path / "prepared.json").unlink()
    with pytest.raises(ValueError, match=r"no prepared\.json; run python -m python_core prepare first"):
        read_prepared(tmp_path)


def test_a_folder_that_is_written_again_is_not_complete_before_it_is_done(tmp_path: Path):
    clips, features = made_clips()
    write_prepared(tmp_path, clips, features, 20.0)

    def breaks_off():
        yield features[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_prepared(tmp_path, clips, breaks_off(), 20.0)
    with pytest.raises(ValueError, match=r"no prepared\.json"):
        read_prepared(tmp_path)


def test_another_format_version_is_refused(tmp_path: Path):
    write_prepared(tmp_path, *made_clips(), 20.0)
    path = tmp_path / "prepared.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format_version": 0}))
    with pytest.raises(ValueError, match=r"prepared\.json: format_version 0, expected 2; prepare again"):
        read_prepared(tmp_path)


def test_clips_that_are_missing_from_their_list_are_noticed(tmp_path: Path):
    write_prepared(tmp_path, *made_clips(), 20.0)
    path = tmp_path / "clips.jsonl"
    path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n")
    with pytest.raises(ValueError, match=r"2 clips in clips\.jsonl, 3 expected; prepare again"):
        read_prepared(tmp_path)


def test_statistics_leave_compositions_out(tmp_path: Path):
    clips, features = made_clips()
    clips[2] = replace(clips[2], source=COMPOSED)
    write_prepared(tmp_path, clips, features, 20.0)
    expected = Normalizer.of(features[0])
    np.testing.assert_array_equal(read_prepared(tmp_path).normalizer.mean, expected.mean)


def test_a_caption_may_hold_what_ends_a_line_elsewhere(tmp_path: Path):
    clips, features = made_clips()
    clips[1] = replace(clips[1], captions=("a man\u2028walks\x85",))
    write_prepared(tmp_path, clips, features, 20.0)
    assert read_prepared(tmp_path).clips == tuple(clips)


def test_rows_that_are_not_as_many_as_a_clip_says_are_refused(tmp_path: Path):
    clips, features = made_clips()
    features[1] = features[1][:-1]
    with pytest.raises(ValueError, match=r"clip clip1: 12 rows expected, got 11"):
        write_prepared(tmp_path, clips, features, 20.0)
    assert not (tmp_path / "prepared.json").exists()


def test_clips_without_a_train_split_have_no_statistics(tmp_path: Path):
    clips, features = made_clips()
    with pytest.raises(ValueError, match="no clips in split 'train'"):
        write_prepared(tmp_path, clips[1:2], features[1:2], 20.0)
