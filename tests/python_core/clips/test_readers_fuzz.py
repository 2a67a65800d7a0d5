"""Damaged files of HumanML3D, KIT-ML, AMASS, BABEL, CMU and BVH: each is refused with a ClipError that says where, or
still gives good clips, and `prepare` makes finite features of what is left.

With the 2,500 of `test_bvh_damaged.py` the slow tests read 10,000 damaged folders, and prepare 1,400 more.
"""

import io
import json
import re
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from python_core.clips.amass import AmassFolder
from python_core.clips.babel import BabelFolder
from python_core.clips.bvh import BvhFolder
from python_core.clips.clip import ClipError, ClipReader, split_captions
from python_core.clips.cmu import CmuArchive
from python_core.clips.humanml3d import HumanML3DFolder
from python_core.clips.kit import KIT_21, KitFolder
from python_core.clips.preparation import Rules, Shard, prepare_shard
from python_core.contract.skeleton import BODY_22
from python_core.features import canonical_joints, num_features, published_features
from tests.python_core.clips.bvh_files import CMU, CMU_ROWS, LINE, bvh_text
from tests.python_core.clips.test_cmu import amc, asf, sliding

NUM_FRAMES = 6
SLOW_MACHINE = [HealthCheck.too_slow, HealthCheck.data_too_large]
NASTY = (
    b"nan", b"inf", b"-1", b"1e999", b"1e300", b"99999999999999999999", b"null", b"[]", b"{}", b"\"\"", b"#", b",",
    b"\n", b"\0", b"\xff", b"\xed\xa0\x80", b"..", b"/", b"a" * 300, b"\x1f", b"<f2", b">i8", b"|O", b"True", b"L,",
)  # fmt: skip

Files = dict[str, bytes]


def npy(numbers: np.ndarray) -> bytes:
    saved = io.BytesIO()
    np.save(saved, numbers)
    return saved.getvalue()


def moving(rest_m: np.ndarray) -> np.ndarray:
    return rest_m + np.array([0, 0, 0.01]) * np.arange(NUM_FRAMES)[:, None, None]


@cache
def humanml3d_files() -> Files:
    joints_m = moving(BODY_22.rest_joints_m).astype(np.float32)
    return {
        "new_joints/000001.npy": npy(joints_m),
        "new_joint_vecs/000002.npy": npy(published_features(canonical_joints(joints_m))),
        "texts/000001.txt": b"a man walks#a/DET man/NOUN walk/VERB#0.0#0.0\nstops#stop/VERB#0.1#0.2\n",
        "texts/000002.txt": b"a man walks#a/DET#0.0#0.0\n",
        "train.txt": b"000001\n000002\n",
        "licences.csv": b'id,source,licence\n000001,made,CC0-1.0\n000002,"made, too",CC0-1.0\n',
    }


@cache
def kit_files() -> Files:
    rows = np.zeros((NUM_FRAMES, 251))
    rows[:, 3] = KIT_21.rest_root_height_m
    rows[:, 4:64] = KIT_21.rest_joints_m[1:].reshape(-1)
    return {
        "new_joints/00001.npy": npy(1000 * moving(KIT_21.rest_joints_m)),
        "new_joint_vecs/00002.npy": npy(rows),
        "texts/00001.txt": b"a man walks#a/DET man/NOUN walk/VERB#0.0#0.0\n",
        "texts/00002.txt": b"a man walks#a/DET#0.0#0.0\n",
        "train.txt": b"00001\n00002\n",
    }


@cache
def amass_files() -> Files:
    fields = {"poses": np.zeros((24, 156)), "trans": np.zeros((24, 3)), "mocap_framerate": 40.0, "gender": "male"}
    fields |= {"betas": np.zeros(16), "v_template": np.zeros((30, 3)), "shapedirs": np.zeros((30, 3, 16))}
    packed = io.BytesIO()
    np.savez_compressed(packed, allow_pickle=False, J_regressor=np.eye(52, 30), **fields)
    return {
        "KIT/3/walk_poses.npz": packed.getvalue(),
        "humanact12/P1.npy": npy(moving(BODY_22.rest_joints_m)),
        "notes/index.csv": b"source_path,start_frame,end_frame,new_name\n"
        b"./pose_data/KIT/3/walk_poses.npy,2,10,000001.npy\n./pose_data/humanact12/P1.npy,0,-1,000002.npy\n",
        "notes/train.txt": b"000001\n000002\n",
        "notes/texts/000001.txt": b"walks#walk/VERB#0.0#0.0\nstops#stop/VERB#0.1#0.2\n",
        "notes/texts/000002.txt": b"walks#walk/VERB#0.0#0.0\n",
    }


@cache
def babel_files() -> Files:
    labels = [
        {"raw_label": text, "proc_label": text, "act_cat": [text], "start_t": start_t, "end_t": start_t + 0.6}
        for text, start_t in (("walk", 0.0), ("sit (slowly)", 0.3), ("transition", 0.6))
    ]
    whole = {"labels": [{"raw_label": "walk", "proc_label": "walk", "act_cat": None}]}
    sequence = {"feat_p": "KIT/3/walk_poses.npz", "dur": 0.6, "seq_ann": whole, "frame_ann": {"labels": labels}}
    extra = {"feat_p": "KIT/3/walk_poses.npz", "seq_anns": [whole, whole], "frame_anns": [{"labels": labels}]}
    return {
        "train.json": json.dumps({"1": sequence, "2": extra}).encode(),
        "KIT/3/walk_poses.npz": amass_files()["KIT/3/walk_poses.npz"],
    }


@cache
def cmu_files() -> Files:
    return {
        "subjects/01/01.asf": asf().encode(),
        "subjects/01/01_01.amc": amc(sliding(40)).encode(),
        "notes/index.csv": b"source_path,start_frame,end_frame,new_name\n"
        b"./pose_data/CMU/01/01_01_poses.npy,1,7,000001.npy\n./pose_data/KIT/3/walk_poses.npy,0,9,000002.npy\n",
        "notes/train.txt": b"000001\nM000001\n000002\n",
        "notes/texts/000001.txt": b"a man slides#a/DET man/NOUN#0.0#0.0\nhe slides on#he/PRON#0.1#0.2\n",
    }


@cache
def bvh_files() -> Files:
    return {
        "a.bvh": bvh_text(CMU, CMU_ROWS).encode(),
        "a.txt": LINE.encode(),
        "train.txt": b"a\n",
        "licences.csv": b"id,source,licence\na,made,CC0-1.0\n",
        "mapping.toml": b"[joints]\n",
    }


READERS: dict[str, tuple[Callable[[], Files], Callable[[Path], ClipReader]]] = {
    "humanml3d": (humanml3d_files, HumanML3DFolder),
    "kit": (kit_files, KitFolder),
    "amass": (amass_files, AmassFolder),
    "amass, own bodies, with captions": (
        amass_files,
        lambda folder: AmassFolder(folder, folder / "KIT/3/walk_poses.npz", folder / "notes"),
    ),
    "babel": (babel_files, lambda folder: BabelFolder(folder, AmassFolder(folder))),
    "cmu": (cmu_files, lambda folder: CmuArchive(folder / "subjects", folder / "notes")),
}
PREPARED = READERS | {"bvh": (bvh_files, lambda folder: BvhFolder(folder, folder / "mapping.toml"))}
RULES = Rules(licence="any", exclude_sources=(), mirror=True, variations=False, min_frames=2, frame_rate_hz=20.0)


def damaged_bytes(data: st.DataObject, content: bytes) -> bytes:
    """A few bytes changed, lost, doubled or replaced by what readers stumble over."""
    for _ in range(data.draw(st.integers(1, 3))):
        # Headers are where most can go wrong.
        near_start = data.draw(st.booleans())
        end = min(len(content), 150) if near_start else len(content)
        place = data.draw(st.integers(0, end))
        length = data.draw(st.integers(0, 20))
        match data.draw(
            st.sampled_from(["change", "lose", "double", "cut", "rubbish", "insert", "lines", "number", "word"])
        ):
            case "change":
                new = data.draw(st.binary(min_size=1, max_size=8))
                content = content[:place] + new + content[place + len(new) :]
            case "lose":
                content = content[:place] + content[place + length :]
            case "double":
                content = content[: place + length] + content[place:]
            case "cut":
                content = content[:place]
            case "lines":
                lines = content.split(b"\n")
                first, second = (data.draw(st.integers(0, len(lines) - 1)) for _ in range(2))
                # Exchanged, or one in the place of the other.
                lines[first], lines[second] = lines[second], data.draw(st.sampled_from([lines[first], lines[second]]))
                content = b"\n".join(lines)
            case "rubbish":
                content = data.draw(st.binary(max_size=200))
            case "insert":
                content = content[:place] + data.draw(st.sampled_from(NASTY)) + content[place:]
            case kind:
                pattern = rb"-?\d+(?:\.\d+)?" if kind == "number" else rb"\"[^\"]*\"|[A-Za-z_]+"
                if found := list(re.finditer(pattern, content[:20_000])):
                    match = data.draw(st.sampled_from(found))
                    content = content[: match.start()] + data.draw(st.sampled_from(NASTY)) + content[match.end() :]
    return content


def damaged_archive(data: st.DataObject, content: bytes) -> bytes:
    """An archive that is whole, with a damaged array in it; or one whose own bytes are damaged."""
    if data.draw(st.integers(0, 2)) == 0:
        return damaged_bytes(data, content)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    chosen = data.draw(st.sampled_from(sorted(members)))
    members[chosen] = damaged_bytes(data, members[chosen])
    packed = io.BytesIO()
    with zipfile.ZipFile(
        packed, "w", data.draw(st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]))
    ) as archive:
        for name, member in members.items():
            archive.writestr(name, member)
    return packed.getvalue()


@contextmanager
def damaged_folder(kind: str, data: st.DataObject) -> Iterator[tuple[Path, ClipReader]]:
    """A folder of `PREPARED` with damage in one file, and its reader."""
    make_files, open_reader = PREPARED[kind]
    files = dict(make_files())
    chosen = data.draw(st.sampled_from(sorted(files)))
    damage = damaged_archive if chosen.endswith(".npz") else damaged_bytes
    files[chosen] = damage(data, files[chosen])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for path, content in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
        yield folder, open_reader(folder)


def check_damaged(kind: str, data: st.DataObject) -> None:
    told: list[str] = []
    with damaged_folder(kind, data) as (folder, reader):
        try:
            names = reader.names("train")
        except ClipError as error:
            names = []
            told.append(str(error))
        for clip_name in names:
            try:
                clips = reader.read(clip_name)
            except ClipError as error:
                told.append(str(error))
                continue
            for clip in (part for whole in clips for part in (whole, *split_captions(whole))):
                assert clip.joints_m.dtype == np.float32
                assert np.isfinite(clip.joints_m).all()
                assert np.isfinite(clip.frame_rate_hz)
                for caption in clip.captions:
                    assert caption.text.encode()
                    assert np.isfinite([caption.start_s, caption.end_s]).all()
    assert all(str(folder) in message for message in told)


def check_prepared(kind: str, data: st.DataObject) -> None:
    with damaged_folder(kind, data) as (folder, reader):
        try:
            names = tuple(reader.names("train"))
        except ClipError:
            return
        shard = Shard(
            number=0, reader=reader, folder=folder, prefix="", split="train", names=names, with_copies=frozenset()
        )
        prepared, rows = prepare_shard(shard, RULES)
        assert [clip.num_rows for clip in prepared.clips] == [len(found) for found in rows]
        for found in rows:
            assert found.shape[1] == num_features(BODY_22)
            assert np.isfinite(found).all()
        assert prepared.clips or prepared.skipped or not names
        assert all(skipped.reason for skipped in prepared.skipped)


@pytest.mark.parametrize("kind", PREPARED)
def test_undamaged_files_are_read(kind: str, tmp_path: Path):
    make_files, open_reader = PREPARED[kind]
    for path, content in make_files().items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(content)
    reader = open_reader(tmp_path)
    assert all(reader.read(name) for name in reader.names("train"))


@pytest.mark.parametrize("kind", READERS)
@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=SLOW_MACHINE)
@given(data=st.data())
def test_damaged_files_are_refused_or_give_good_clips(kind: str, data: st.DataObject):
    check_damaged(kind, data)


@pytest.mark.slow
@pytest.mark.parametrize("kind", READERS)
@settings(max_examples=1250, deadline=None, derandomize=True, suppress_health_check=SLOW_MACHINE)
@given(data=st.data())
def test_7500_damaged_files_are_refused_or_give_good_clips(kind: str, data: st.DataObject):
    check_damaged(kind, data)


@pytest.mark.parametrize("kind", PREPARED)
@settings(max_examples=10, deadline=None, derandomize=True, suppress_health_check=SLOW_MACHINE)
@given(data=st.data())
def test_prepare_accepts_no_clip_of_a_damaged_file_with_rows_that_are_not_finite(kind: str, data: st.DataObject):
    check_prepared(kind, data)


@pytest.mark.slow
@pytest.mark.parametrize("kind", PREPARED)
@settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=SLOW_MACHINE)
@given(data=st.data())
def test_prepare_accepts_none_of_1400_damaged_files_with_rows_that_are_not_finite(kind: str, data: st.DataObject):
    check_prepared(kind, data)
