"""Reads the HumanML3D folder layout.

    new_joints/ID.npy        [F, 22, 3] joint positions, metres, 20 frames a second, or
    new_joint_vecs/ID.npy    [F - 1, 263] features
    texts/ID.txt             a caption a line: words#tokens#start#end; a token is word/part of speech, OTHER where that
                             is not known; 0 and 0 mean the whole clip, else seconds
    train.txt, val.txt, ...  an id a line; an id that begins with M is a mirrored copy
    licences.csv             optional: id, source, licence; the id `*` stands for all clips without a line of their own
    takes.csv                optional: id, take, the recording that the clip was cut from; without it HumanML3D's own
                             index.csv says so, in the folder or beside it

A clip that licences.csv does not name has source and terms of the data set that index.csv has it from, if HumanML3D is
made of that; where index.csv does not name it, those of HumanML3D, if one of the split files is as long as
HumanML3D's; else they are unknown.

Source: Guo et al. 2022, HumanML3D.
"""

import csv
import math
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from python_core.clips.arrays import read_npy
from python_core.clips.clip import Caption, Clip, ClipError, naming
from python_core.clips.licences import AMASS_DATASETS, AMASS_LICENCE, HUMANACT12_LICENCE, UNKNOWN
from python_core.contract.skeleton import BODY_22
from python_core.features import features_to_joints, num_features, origin

FRAME_RATE_HZ = 20.0
LONGEST_S = 86_400.0
"""A caption that ends later than a day has other units, or is damaged."""

CUT_COLUMNS = ("source_path", "start_frame", "end_frame", "new_name")
"""Of HumanML3D's index.csv."""

ALL_OTHERS = "*"
"""The id in licences.csv that stands for all clips without a line of their own."""
HUMANACT12 = "humanact12"
"""HumanML3D's folder of the clips that are not from AMASS."""

_NUM_IDS = {"train": 23_384, "val": 1_460, "test": 4_384}
"""Ids in HumanML3D's split files, mirrored copies included."""
_ID = re.compile(r"M?\d{6}", re.ASCII)
_LONGEST_ID = 200


@dataclass(frozen=True)
class HumanML3DFolder:
    """Reader of the layout above; a name is an id."""

    folder: Path

    def names(self, split: str) -> list[str]:
        return read_split(self.folder, split)

    def read(self, name: str) -> list[Clip]:
        joints_m = _read_joints(self.folder, name)
        captions = read_captions(self.folder / "texts" / f"{name}.txt")
        clip_id = name.removeprefix("M")
        source, licence = find_licence(self.folder, clip_id) or _origin(self.folder, clip_id)
        take = read_takes(self.folder).get(clip_id, "")
        with naming(self.folder):
            return [Clip(name, joints_m, captions, source, licence, FRAME_RATE_HZ, take, mirrored=name != clip_id)]


def read_split(folder: Path, split: str) -> list[str]:
    """Ids of a split file, for example `train`.

    Raises:
        ClipError: There is no such split, or an id in it is no file name.
    """
    path = folder / f"{split}.txt"
    if not path.is_file():
        raise ClipError(f"{path}: missing; the folder lists the ids of a split in {split}.txt")
    ids = read_text(path).split()
    for clip_id in ids:
        if len(clip_id) > _LONGEST_ID or ".." in clip_id or not clip_id.isprintable():
            raise ClipError(f"{path}: expected ids that are file names, got {clip_id[:40]!r}")
    return ids


def read_captions(path: Path) -> tuple[Caption, ...]:
    """Captions of one text file.

    Raises:
        ClipError: The file is missing, or a line is not `words#tokens#start#end`.
    """
    if not path.is_file():
        raise ClipError(f"{path}: missing; each clip has its captions there")
    captions = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        fields = line.strip().split("#")
        if len(fields) != 4 or not fields[0].strip():
            raise ClipError(f"{path}:{number}: expected words#tokens#start#end, got {line!r}")
        try:
            start_s, end_s = (0.0 if math.isnan(float(value)) else float(value) for value in fields[2:])
        except ValueError as error:
            raise ClipError(f"{path}:{number}: start and end must be seconds, got {fields[2:]}") from error
        if not (start_s == end_s == 0 or 0 <= start_s < end_s <= LONGEST_S):
            raise ClipError(
                f"{path}:{number}: the end must come after the start, got {fields[2:]}, and within {LONGEST_S:.0f} s"
            )
        captions.append(Caption(" ".join(fields[0].split()), start_s, end_s, _read_tagged(fields[1])))
    if not captions:
        raise ClipError(f"{path}: no caption in it")
    return tuple(captions)


def _read_tagged(tokens: str) -> str:
    """Tokens as they are; empty where one is no word with a part of speech, or no part of speech is known."""
    pairs = [token.rpartition("/") for token in tokens.split()]
    known = all(word and tag for word, _, tag in pairs) and any(tag != "OTHER" for _, _, tag in pairs)
    return " ".join(tokens.split()) if known else ""


def _read_joints(folder: Path, clip_id: str) -> NDArray[np.float32]:
    path = folder / "new_joints" / f"{clip_id}.npy"
    if path.is_file():
        joints_m = read_npy(path)
        if joints_m.ndim != 3 or joints_m.shape[1:] != (BODY_22.num_joints, 3):
            raise ClipError(f"{path}: expected [F, {BODY_22.num_joints}, 3], got {list(joints_m.shape)}")
    elif (path := folder / "new_joint_vecs" / f"{clip_id}.npy").is_file():
        rows = read_npy(path)
        if rows.ndim != 2 or rows.shape[1] != num_features(BODY_22):
            raise ClipError(f"{path}: expected [F, {num_features(BODY_22)}], got {list(rows.shape)}")
        features = torch.from_numpy(rows)[None]
        joints_m = features_to_joints(features, origin(1, features))[0][0].numpy()
    else:
        raise ClipError(f"{folder}: neither new_joints/{clip_id}.npy nor new_joint_vecs/{clip_id}.npy")
    return joints_m


def read_text(path: Path) -> str:
    """Text of a file.

    Raises:
        ClipError: It is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ClipError(f"{path}: not UTF-8 text ({error}); save it as UTF-8") from error


def find_licence(folder: Path, clip_id: str) -> tuple[str, str] | None:
    """Source and licence of a clip: from its own line of licences.csv, else from the line of all others, `*`.

    Raises:
        ClipError: A line is not `id,source,licence`.
    """
    listed = _read_licences(folder)
    return listed.get(clip_id, listed.get(ALL_OTHERS))


def dataset_of(source_path: str) -> str:
    """The data set that a recording of index.csv is from: the folder after pose_data."""
    return source_path.removeprefix("./").removeprefix("pose_data/").split("/")[0]


@cache
def read_takes(folder: Path) -> dict[str, str]:
    """The recording that each clip was cut from, by id, where the folder says so.

    Raises:
        ClipError: A line is not `id,take`, or not one of index.csv.
    """
    path = folder / "takes.csv"
    return dict(read_table(path, ("id", "take"))) if path.is_file() else _read_source_paths(folder)


def read_table(path: Path, columns: tuple[str, ...]) -> list[list[str]]:
    """Rows of a .csv file that begins with these columns' names.

    Raises:
        ClipError: Another first line, or a line of another number of fields.
    """
    rows = csv.reader(read_text(path).splitlines())
    expected = list(columns)
    try:
        if (header := next(rows, [])) != expected:
            raise ClipError(f"{path}:1: expected {','.join(expected)}, got {','.join(header)}")
        table = []
        for row in rows:
            if len(row) != len(expected):
                raise ClipError(f"{path}:{rows.line_num}: expected {','.join(expected)}, got {','.join(row)}")
            table.append(row)
    except csv.Error as error:
        raise ClipError(f"{path}:{rows.line_num}: not a line of a .csv file ({error})") from error
    return table


@cache
def _read_licences(folder: Path) -> dict[str, tuple[str, str]]:
    path = folder / "licences.csv"
    if not path.is_file():
        return {}
    return {row[0]: (row[1], row[2]) for row in read_table(path, ("id", "source", "licence"))}


def _origin(folder: Path, clip_id: str) -> tuple[str, str]:
    """Source and licence that follow from what a folder is, not from what it says."""
    dataset = dataset_of(_read_source_paths(folder).get(clip_id, ""))
    if dataset in AMASS_DATASETS:
        return dataset, AMASS_LICENCE
    if dataset == HUMANACT12:
        return "HumanAct12", HUMANACT12_LICENCE
    if not dataset and _is_humanml3d(folder):
        return "HumanML3D", f"{AMASS_LICENCE}; {HUMANACT12_LICENCE}"
    return UNKNOWN, UNKNOWN


@cache
def _read_source_paths(folder: Path) -> dict[str, str]:
    """Recordings of AMASS by id, from HumanML3D's index.csv in the folder or beside it."""
    for path in (folder / "index.csv", folder.parent / "index.csv"):
        if path.is_file():
            return {row[3].removesuffix(".npy"): row[0] for row in read_table(path, CUT_COLUMNS)}
    return {}


@cache
def _is_humanml3d(folder: Path) -> bool:
    for split, num_ids in _NUM_IDS.items():
        path = folder / f"{split}.txt"
        if path.is_file():
            ids = read_text(path).split()
            if len(ids) == num_ids and all(_ID.fullmatch(clip_id) for clip_id in ids):
                return True
    return False
