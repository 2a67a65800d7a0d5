"""Reads the HumanML3D folder layout.

    new_joints/ID.npy        [F, 22, 3] joint positions, metres, 20 frames a second, or
    new_joint_vecs/ID.npy    [F - 1, 263] features
    texts/ID.txt             a caption a line: words#tokens#start#end; 0 and 0 mean the whole clip, else seconds
    train.txt, val.txt, ...  an id a line; an id that begins with M is a mirrored copy
    licences.csv             optional: id, source, licence

Source: Guo et al. 2022, HumanML3D.
"""

import csv
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from python_core.contract.skeleton import BODY_22
from python_core.features import features_to_joints, mirror_joints, num_features, origin

FRAME_RATE_HZ = 20.0
_SIDES = re.compile(r"\b(?:left|right|clockwise|(?:counter|anti)[ -]?clockwise)(?=\b|ward)", re.IGNORECASE)
_SWAPS = {"left": "right", "right": "left", "clockwise": "counterclockwise"}


class ClipError(ValueError):
    """A clip that cannot be read; names the file, what it holds and what it should hold."""


@dataclass(frozen=True)
class Caption:
    """A sentence about a clip, or about a part of it."""

    text: str
    start_s: float = 0.0
    end_s: float = 0.0
    """0 and 0 mean the whole clip."""


@dataclass(frozen=True, eq=False)
class Clip:
    """A motion as joint positions, with what people said about it."""

    clip_id: str
    joints_m: NDArray[np.float32]
    """[F, J, 3]"""
    captions: tuple[Caption, ...]
    source: str = "unknown"
    licence: str = "unknown"
    frame_rate_hz: float = FRAME_RATE_HZ

    @property
    def mirrored(self) -> bool:
        return self.clip_id.startswith("M")


def read_split(folder: Path, split: str) -> list[str]:
    """Ids of a split file, for example `train`.

    Raises:
        ClipError: There is no such split.
    """
    path = folder / f"{split}.txt"
    if not path.is_file():
        raise ClipError(f"{path}: missing; a HumanML3D folder lists the ids of a split in {split}.txt")
    return _read_text(path).split()


def read_clips(folder: Path, clip_ids: list[str]) -> Iterator[Clip]:
    """Read clips one by one.

    Raises:
        ClipError: A file is missing or does not hold what the layout says.
    """
    origins = _read_licences(folder)
    for clip_id in clip_ids:
        source, licence = origins.get(clip_id.removeprefix("M"), ("unknown", "unknown"))
        yield Clip(
            clip_id, _read_joints(folder, clip_id), read_captions(folder / "texts" / f"{clip_id}.txt"), source, licence
        )


def read_captions(path: Path) -> tuple[Caption, ...]:
    """Captions of one text file.

    Raises:
        ClipError: The file is missing, or a line is not `words#tokens#start#end`.
    """
    if not path.is_file():
        raise ClipError(f"{path}: missing; each clip has its captions there")
    captions = []
    for number, line in enumerate(_read_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        fields = line.strip().split("#")
        if len(fields) != 4 or not fields[0].strip():
            raise ClipError(f"{path}:{number}: expected words#tokens#start#end, got {line!r}")
        try:
            start_s, end_s = (0.0 if math.isnan(float(value)) else float(value) for value in fields[2:])
        except ValueError as error:
            raise ClipError(f"{path}:{number}: start and end must be seconds, got {fields[2:]}") from error
        if not (start_s == end_s == 0 or 0 <= start_s < end_s < math.inf):
            raise ClipError(f"{path}:{number}: the end must come after the start, got {fields[2:]}")
        captions.append(Caption(" ".join(fields[0].split()), start_s, end_s))
    if not captions:
        raise ClipError(f"{path}: no caption in it")
    return tuple(captions)


def split_captions(clip: Clip) -> list[Clip]:
    """One clip for the captions of the whole, and one for each caption of a part, as HumanML3D's own loader does."""
    whole = tuple(caption for caption in clip.captions if caption.start_s == caption.end_s == 0)
    clips = [replace(clip, captions=whole)] if whole else []
    for caption in clip.captions:
        if caption in whole:
            continue
        first, last = (round(seconds * clip.frame_rate_hz) for seconds in (caption.start_s, caption.end_s))
        joints_m = clip.joints_m[first:last]
        if len(joints_m) > 1:
            part = f"{clip.clip_id}@{first}-{last}"
            clips.append(replace(clip, clip_id=part, joints_m=joints_m, captions=(Caption(caption.text),)))
    return clips


def mirror_clip(clip: Clip) -> Clip:
    """The mirrored copy of a clip: `M` before its id, left and right exchanged in motion and captions."""
    captions = tuple(replace(caption, text=mirror_text(caption.text)) for caption in clip.captions)
    return replace(clip, clip_id=f"M{clip.clip_id}", joints_m=mirror_joints(clip.joints_m), captions=captions)


def mirror_text(text: str) -> str:
    """Exchange left and right, clockwise and counterclockwise, alone or as part of a word such as leftward."""

    def other(match: re.Match[str]) -> str:
        word = match.group()
        swapped = _SWAPS.get(word.lower(), "clockwise")
        return swapped.capitalize() if word[0].isupper() else swapped

    return _SIDES.sub(other, text)


def _read_joints(folder: Path, clip_id: str) -> NDArray[np.float32]:
    path = folder / "new_joints" / f"{clip_id}.npy"
    if path.is_file():
        joints_m = _read_array(path)
        if joints_m.ndim != 3 or joints_m.shape[1:] != (BODY_22.num_joints, 3):
            raise ClipError(f"{path}: expected [F, {BODY_22.num_joints}, 3], got {list(joints_m.shape)}")
    elif (path := folder / "new_joint_vecs" / f"{clip_id}.npy").is_file():
        rows = _read_array(path)
        if rows.ndim != 2 or rows.shape[1] != num_features(BODY_22):
            raise ClipError(f"{path}: expected [F, {num_features(BODY_22)}], got {list(rows.shape)}")
        features = torch.from_numpy(rows)[None]
        joints_m = features_to_joints(features, origin(1, features))[0][0].numpy()
    else:
        raise ClipError(f"{folder}: neither new_joints/{clip_id}.npy nor new_joint_vecs/{clip_id}.npy")
    if len(joints_m) < 2 or not np.isfinite(joints_m).all():
        raise ClipError(f"{path}: {len(joints_m)} frames or numbers that are not finite; a clip needs 2 finite frames")
    return joints_m


def _read_array(path: Path) -> NDArray[np.float32]:
    try:
        with path.open("rb") as file:
            return np.lib.format.read_array(file, allow_pickle=False).astype(np.float32)
    except (ValueError, EOFError) as error:
        raise ClipError(f"{path}: not an .npy file of numbers ({error}); download it again") from error


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ClipError(f"{path}: not UTF-8 text ({error}); save it as UTF-8") from error


def _read_licences(folder: Path) -> dict[str, tuple[str, str]]:
    path = folder / "licences.csv"
    if not path.is_file():
        return {}
    rows = csv.reader(_read_text(path).splitlines())
    expected = ["id", "source", "licence"]
    if (header := next(rows, [])) != expected:
        raise ClipError(f"{path}:1: expected {','.join(expected)}, got {','.join(header)}")
    origins = {}
    for row in rows:
        if len(row) != len(expected):
            raise ClipError(f"{path}:{rows.line_num}: expected {','.join(expected)}, got {','.join(row)}")
        origins[row[0]] = (row[1], row[2])
    return origins
