import json
from pathlib import Path

import numpy as np
import pytest
import torch

from python_core.clips.prepared import read_prepared
from python_core.motion_tokenizer import MotionTokenizer
from python_core.sft import clip_codes
from python_core.sft.clip_codes import CODES, encode_once


def test_series_begin_at_the_first_frames_of_a_clip(prepared_folder: Path, tiny_vqvae: Path, tmp_path: Path):
    prepared = read_prepared(prepared_folder)
    clips = prepared.split("train")
    found = encode_once(clips, prepared_folder, tiny_vqvae, 2, 32, tmp_path, workers=1)
    assert list(found) == [clip.clip_id for clip in clips]
    tokenizer = MotionTokenizer.load(tiny_vqvae)
    rows = np.array(prepared.features(clips[0]))
    assert found[clips[0].clip_id] == [tokenizer.encode([rows])[0], tokenizer.encode([rows[1:]])[0]]


def test_workers_find_the_same_codes_and_a_killed_run_keeps_what_it_had(
    prepared_folder: Path, tiny_vqvae: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    clips = read_prepared(prepared_folder).split("train")
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    for folder in (alone, shared):
        folder.mkdir()
    wanted = encode_once(clips, prepared_folder, tiny_vqvae, 2, 32, alone, workers=1)
    lines = (alone / CODES).read_text().splitlines()
    # Killed within the fifth line, in the second shard; the first line says what no search would, so that it shows that
    # it was kept.
    kept = [json.dumps([clips[0].clip_id, [[7]]]), *lines[1:4], lines[4][:9]]
    (shared / CODES).write_text("\n".join(kept))
    monkeypatch.setattr(clip_codes, "SHARD_CLIPS", 3)
    found = encode_once(clips, prepared_folder, tiny_vqvae, 2, 32, shared, workers=2)
    assert found == wanted | {clips[0].clip_id: [[7]]}
    assert sorted((shared / CODES).read_text().splitlines()[1:]) == sorted(lines[1:])


def test_random_numbers_are_the_same_whether_codes_were_found_before_or_not(
    prepared_folder: Path, tiny_vqvae: Path, tmp_path: Path
):
    clips = read_prepared(prepared_folder).split("train")
    drawn = []
    written = []
    for _ in range(2):
        clip_codes._open.cache_clear()
        torch.manual_seed(1)
        encode_once(clips, prepared_folder, tiny_vqvae, 1, 32, tmp_path, workers=1)
        drawn.append(torch.rand(3))
        written.append((tmp_path / CODES).stat().st_ino)
    assert torch.equal(*drawn)
    # Several processes may come for them at once, so what is whole is not written again.
    assert written[0] == written[1]
