"""Clips of any kind, as `show` draws them, and what a tokenizer makes of them.

Joints are shown as `prepare` makes them, on our skeleton, on the floor, facing +Z, but at their own frame rate where no
tokenizer asks for another.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from python_core.checkpoint import MOTION_TOKENIZER
from python_core.clips.amass import AmassFolder
from python_core.clips.arrays import npz_members, read_npy
from python_core.clips.babel import BabelFolder
from python_core.clips.bvh import read_bvh_clip
from python_core.clips.clip import Clip
from python_core.clips.humanml3d import FRAME_RATE_HZ, read_text
from python_core.clips.joint_names import MAPPING_FILE
from python_core.clips.layouts import open_folder
from python_core.clips.prepared import SUMMARY, PreparedClip, PreparedClips, read_prepared
from python_core.clips.resampling import resample
from python_core.contract.motion import Motion, read_motion
from python_core.contract.plan import Plan, parse_plan
from python_core.contract.skeleton import BODY_22
from python_core.contract.vocabulary import TokenLayout
from python_core.evaluation.generation import read_reply
from python_core.features import (
    canonical_joints,
    exact_features,
    features_to_joints,
    features_to_motion,
    num_features,
    origin,
)
from python_core.language_model import read_text_tokenizer, token_layout
from python_core.motion_tokenizer import MotionTokenizer, Reading
from python_core.pictures import Row, Strip


@dataclass(frozen=True, eq=False, kw_only=True)
class Exhibit:
    """A clip that is ready to be drawn."""

    name: str
    motion: Motion
    captions: tuple[str, ...] = ()
    """Empty for a file, which its name stands for."""
    source: str = ""
    features: NDArray[np.float32] | None = None
    """Exact features that the motion was made from, [F, D]; None for a motion that is shown as it is."""
    codes: NDArray[np.int64] | None = None
    plan: Plan | None = None


def read_back(exhibit: Exhibit, tokenizer: MotionTokenizer) -> Reading:
    """Encode and decode as much of a clip as fills whole codes.

    Raises:
        ValueError: The clip fills no code.
    """
    assert exhibit.features is not None, "exhibits for a tokenizer are made of features"
    try:
        return tokenizer.read_back(exhibit.features)
    except ValueError as error:
        raise ValueError(f"clip {exhibit.name}: {error}; show it without --checkpoint") from error


def to_row(exhibit: Exhibit, reading: Reading | None = None) -> Row:
    """The clip alone, or beside what its codes decode to."""
    if reading is None:
        strip = Strip(motion=exhibit.motion, codes=exhibit.codes, plan=exhibit.plan)
        return Row(title=_title(exhibit), note=_note(exhibit), strips=(strip,))
    strips = (
        Strip(motion=reading.source, label="source", plan=exhibit.plan),
        Strip(motion=reading.decoded, label="reconstruction", codes=np.array(reading.codes), plan=exhibit.plan),
    )
    note = _note(exhibit, f"mean joint error {1000 * reading.joint_error_m:.0f} mm")
    return Row(title=_title(exhibit), note=note, strips=strips)


def read_exhibit(path: Path, frame_rate_hz: float | None, body_model: Path | None = None) -> Exhibit:
    """A motion (.npz), with its codes if it has some; a motion of any skeleton (.bvh), with the mapping.toml beside it
    if there is one; a recording of AMASS (.npz); or joints or features at 20 frames a second (.npy).

    Args:
        path: The file.
        frame_rate_hz: What a tokenizer needs, and then a motion is taken as joints too.
        body_model: Of a recording of AMASS, as `AmassFolder` takes it.

    Raises:
        ValueError: A file of another kind, missing, or it does not hold what its extension says; or a body model for
            what is not of AMASS.
    """
    known = (
        "show takes .npz motions, .bvh, recordings of AMASS, .npy joints or features, .json and .jsonl codes, and "
        "folders of clips"
    )
    if not path.is_file():
        raise ValueError(f"{path}: no such file or folder; {known}")
    kind = path.suffix.lower()
    if kind not in (".npz", ".npy", ".bvh"):
        raise ValueError(f"{path}: cannot show {path.suffix or 'a file without extension'}; {known}")
    if kind == ".npz" and "poses" in npz_members(path):
        return _of_clip(AmassFolder(path.parent, body_model).recording(path.name), frame_rate_hz)
    _refuse_body_model(path, body_model)
    if kind == ".npy":
        return _of_clip(Clip(path.name, _read_joints(path), (), "", frame_rate_hz=FRAME_RATE_HZ), frame_rate_hz)
    if kind == ".bvh":
        mapping = path.parent / MAPPING_FILE
        return _of_clip(read_bvh_clip(path, mapping if mapping.is_file() else None), frame_rate_hz)
    motion = read_motion(path)
    if frame_rate_hz is not None:
        clip = Clip(path.name, motion.joint_positions_m(), (), "", frame_rate_hz=motion.frame_rate_hz)
        return _of_clip(clip, frame_rate_hz)
    with np.load(path) as fields:
        codes = fields.get("codes")
    try:
        Strip(motion=motion, codes=codes)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return Exhibit(name=path.name, motion=motion, codes=codes)


def find_split(folder: Path, body_model: Path | None = None) -> str:
    """The split to choose clips from where none is named: val, or train where a folder has no clips in val."""
    try:
        if (folder / SUMMARY).is_file():
            has_val = bool(read_prepared(folder).split("val"))
        else:
            has_val = bool(open_folder(folder, body_model).names("val"))
    except ValueError:
        has_val = False
    return "val" if has_val else "train"


def choose_exhibits(
    folder: Path,
    split: str,
    count: int,
    ids: tuple[str, ...],
    seed: int,
    frame_rate_hz: float | None,
    body_model: Path | None = None,
) -> tuple[list[Exhibit], int]:
    """Clips of a folder in any layout that we read, or of one that `prepare` wrote.

    Args:
        folder: The folder.
        split: What random clips are chosen from.
        count: How many of them, at most.
        ids: Names of clips to take instead.
        seed: Of the choice.
        frame_rate_hz: What a tokenizer needs; clips of other rates are resampled.
        body_model: Of recordings of AMASS, as `AmassFolder` takes it.

    Returns:
        The clips, in the folder's order or that of `ids`, and how many there were to choose from.

    Raises:
        ValueError: A folder in no layout that we read, without such a split or clip, or a clip that cannot be read;
            prepared at another frame rate; or a body model for what is not of AMASS.
    """
    if (folder / SUMMARY).is_file():
        _refuse_body_model(folder, body_model)
        prepared = read_prepared(folder)
        if frame_rate_hz not in (None, prepared.frame_rate_hz):
            raise ValueError(
                f"{folder}: {prepared.frame_rate_hz:g} frames a second, the tokenizer works at {frame_rate_hz:g}; "
                "prepare the clips at its rate"
            )
        by_id = {clip.clip_id: clip for clip in prepared.clips}
        if unknown := [clip_id for clip_id in ids if clip_id not in by_id]:
            raise ValueError(f"{folder}: no clip {', '.join(unknown)}; clips.jsonl names those that there are")
        clips = [by_id[clip_id] for clip_id in ids] or prepared.split(split)
        chosen = range(len(ids)) if ids else _draw_lots(len(clips), count, seed)
        return [_of_prepared(prepared, clips[place]) for place in chosen], len(clips)
    reader = open_folder(folder, body_model)
    if not isinstance(reader, AmassFolder | BabelFolder):
        _refuse_body_model(folder, body_model)
    names = list(ids) or reader.names(split)
    if not names:
        raise ValueError(f"{folder}: no clips in split {split!r}; choose another --split")
    if ids:
        return [_of_clip(clip, frame_rate_hz) for name in ids for clip in reader.read(name)], len(ids)
    # A name can stand for several clips.
    clips = [clip for place in _draw_lots(len(names), count, seed) for clip in reader.read(names[place])]
    return [_of_clip(clip, frame_rate_hz) for clip in clips[:count]], len(names)


def find_tokenizer(checkpoint: Path) -> Path:
    """The folder of the motion tokenizer: the checkpoint, or the one beside a language model."""
    beside = checkpoint / MOTION_TOKENIZER
    return beside if beside.is_dir() else checkpoint


def choose_codes(
    path: Path, count: int, ids: tuple[str, ...], seed: int, checkpoint: Path, tokenizer: MotionTokenizer
) -> tuple[list[Exhibit], int]:
    """Codes of a file, decoded.

        .json     the codes of a motion in a list, as the bridge's clients keep them
        .jsonl    a clip a line: codes.jsonl of train-sft, each clip read from its first frame; or replies of
                  evaluate, which begin with their history and are named by their place

    Args:
        path: The file.
        count: How many of its random clips, at most.
        ids: Names of clips to take instead.
        seed: Of the choice.
        checkpoint: Of the language model, where replies are of one.
        tokenizer: The motion tokenizer whose codes they are.

    Returns:
        The motions with their codes, in the file's order or that of `ids`, and how many there were to choose from.

    Raises:
        ValueError: Not such a file, no codes in it, codes of another codebook, no such clip, or replies and the
            checkpoint of no language model.
    """
    found = {name: (caption, codes) for name, caption, codes in _read_codes(path, checkpoint, tokenizer) if codes}
    if not found:
        raise ValueError(f"{path}: no codes in it; choose another file")
    if unknown := [name for name in ids if name not in found]:
        raise ValueError(f"{path}: no codes of {', '.join(unknown)}; there are those of {', '.join([*found][:5])}, ...")
    names = [*found]
    chosen = list(ids) or [names[place] for place in _draw_lots(len(names), count, seed)]
    exhibits = []
    for name in chosen:
        caption, codes = found[name]
        exhibits.append(
            Exhibit(
                name=name,
                motion=tokenizer.decode(codes),
                captions=(caption,) if caption else (),
                codes=np.array(codes, dtype=np.int64),
            )
        )
    return exhibits, len(names)


def _read_codes(path: Path, checkpoint: Path, tokenizer: MotionTokenizer) -> Iterator[tuple[str, str, list[int]]]:
    """Names, captions and codes; no codes of a clip that is too short for one, or of a malformed reply."""
    layout: TokenLayout | None = None
    whole = path.suffix.lower() == ".json"
    text = read_text(path)
    # Not by splitlines: a prompt may hold a separator that ends a line for it, but not for JSON.
    for number, line in enumerate([text] if whole else text.split("\n")):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path}:{number + 1}: not JSON ({error}); is the file whole?") from error
        name, caption, codes = path.name if whole else str(number), "", record
        match record:
            case [str(name), [*series]]:
                codes = series[0] if series else []
            case {"prompt": str(caption), "history": [*history], "token_ids": [*token_ids]}:
                layout = layout or _read_layout(checkpoint, tokenizer)
                parsed = read_reply(token_ids, layout, len(history)).parsed
                codes = [] if parsed is None else parsed.codes
        yield name, caption, _checked(codes, tokenizer.model.shape.codebook.num_codes, f"{path}:{number + 1}")


def _checked(codes: Any, num_codes: int, place: str) -> list[int]:
    if not isinstance(codes, list) or not all(type(code) is int and 0 <= code < num_codes for code in codes):
        raise ValueError(
            f"{place}: expected codes of 0 to {num_codes - 1}, got {str(codes)[:60]}; is --checkpoint the tokenizer "
            "that they are of?"
        )
    return codes


def _read_layout(checkpoint: Path, tokenizer: MotionTokenizer) -> TokenLayout:
    path = checkpoint / "language_model" / "tokenizer.json"
    if not path.is_file():
        raise ValueError(f"{path}: missing; replies are tokens of a language model, name its checkpoint")
    return token_layout(read_text_tokenizer(path), tokenizer.model.shape.codebook)


def _refuse_body_model(path: Path, body_model: Path | None) -> None:
    if body_model is not None:
        raise ValueError(f"{path}: not of AMASS, which --body-model {body_model} is for; leave it out")


def _draw_lots(num_clips: int, count: int, seed: int) -> list[int]:
    """Random places, each at most once, in order."""
    return sorted(np.random.default_rng(seed).permutation(num_clips)[:count].tolist())


def _read_joints(path: Path) -> NDArray[np.float32]:
    array = read_npy(path)
    if array.ndim == 2 and array.shape[1] == num_features(BODY_22) and len(array):
        features = torch.from_numpy(array)[None]
        return features_to_joints(features, origin(1, features))[0][0].numpy()
    if array.ndim != 3 or array.shape[1:] != (BODY_22.num_joints, 3):
        raise ValueError(
            f"{path}: expected joints [F, {BODY_22.num_joints}, 3] or features [F, {num_features(BODY_22)}], got "
            f"{list(array.shape)}; a folder of another layout is shown as a folder"
        )
    return array


def _of_prepared(prepared: PreparedClips, clip: PreparedClip) -> Exhibit:
    features = np.array(prepared.features(clip))
    return Exhibit(
        name=clip.clip_id,
        motion=features_to_motion(features, prepared.frame_rate_hz),
        captions=clip.captions,
        source=clip.source,
        features=features,
        plan=None if clip.plan is None else parse_plan(clip.plan),
    )


def _of_clip(clip: Clip, frame_rate_hz: float | None) -> Exhibit:
    if frame_rate_hz not in (None, clip.frame_rate_hz):
        clip = resample(clip, frame_rate_hz)
    features = exact_features(canonical_joints(clip.joints_m), clip.frame_rate_hz)
    return Exhibit(
        name=clip.clip_id,
        motion=features_to_motion(features, clip.frame_rate_hz),
        captions=tuple(caption.text for caption in clip.captions),
        source=clip.source,
        features=features,
        plan=clip.plan,
    )


def _title(exhibit: Exhibit) -> str:
    return " / ".join(exhibit.captions) or exhibit.name


def _note(exhibit: Exhibit, *measured: str) -> str:
    name = exhibit.name if exhibit.captions else ""
    parts = (name, exhibit.source, f"{exhibit.motion.duration_s:.1f} s", *measured)
    return ", ".join(part for part in parts if part)
