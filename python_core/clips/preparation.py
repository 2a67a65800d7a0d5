"""Clips of some names -> features: the piece of `prepare` that one worker does, and the file that keeps it.

A shard is a few names of one split of one folder. Its file holds the rows of its clips and what was skipped; it is
written under another name first, so that it is whole or not there.
"""

import json
import multiprocessing.connection
import os
import re
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from python_core.clips.clip import Clip, ClipError, ClipReader, mirror_clip, split_captions
from python_core.clips.licences import is_permissive
from python_core.clips.prepared import PreparedClip
from python_core.clips.resampling import resample
from python_core.clips.variations import tell_side, vary
from python_core.contract.plan import format_plan
from python_core.features import canonical_joints, exact_features

Licence = Literal["any", "permissive"]


@dataclass(frozen=True, kw_only=True)
class Rules:
    """Which clips are taken, and what becomes of them."""

    licence: Licence
    exclude_sources: tuple[str, ...]
    mirror: bool
    variations: bool
    min_frames: int
    frame_rate_hz: float


@dataclass(frozen=True, kw_only=True)
class Shard:
    """Names that are read in one go."""

    number: int
    """Its place among the shards, which is the place of its clips in what `prepare` writes."""
    reader: ClipReader
    folder: Path
    """What the reader reads; for messages."""
    prefix: str
    """What clip ids begin with, so that those of several folders differ."""
    split: str
    names: tuple[str, ...]
    with_copies: frozenset[str]
    """Those of the names that are mirrored copies or have one in the folder: no copy is made of them."""

    @property
    def size(self) -> int:
        return len(self.names)

    def write(self, rules: Rules, folder: Path) -> None:
        """Prepare the clips and keep them in a folder."""
        write_shard(shard_path(folder, self.number), *prepare_shard(self, rules))


def shard_path(folder: Path, number: int) -> Path:
    return folder / f"{number:06}.npz"


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """Something that was not prepared, and why."""

    split: str
    name: str
    """The clip, or the name in its folder where no clip came of it."""
    source: str
    licence: str
    reason: str
    kind: str
    """The reason without what is particular to this clip, to count by."""


@dataclass(kw_only=True)
class Prepared:
    """What came of a shard."""

    clips: list[PreparedClip] = field(default_factory=list)
    """First rows count from the first of the shard."""
    mirrored: set[str] = field(default_factory=set)
    """Ids of the mirrored copies that were made here."""
    skipped: list[Skipped] = field(default_factory=list)
    sources: set[str] = field(default_factory=set)
    """Of all clips that could be read."""
    resampled: Counter[tuple[str, float]] = field(default_factory=Counter)
    """Clips by source and by the frame rate that they came with, in hertz."""
    assumed: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Clips by source and by what their reader took for granted."""
    guessed_mappings: Counter[str] = field(default_factory=Counter)
    """Clips by the mapping that was guessed for their skeleton, as the text of a mapping file."""

    rejected: Counter[str] = field(default_factory=Counter)
    """Compositions that were not good enough, and captions that cannot be composed, by reason."""

    @property
    def num_rows(self) -> int:
        return self.clips[-1].first_row + self.clips[-1].num_rows if self.clips else 0

    def add(self, clip: Clip, split: str, num_rows: int, mirrored: bool) -> None:
        """Note a clip whose rows follow those of the clips before."""
        tagged = tuple(caption.tagged for caption in clip.captions)
        self.clips.append(
            PreparedClip(
                clip_id=clip.clip_id,
                split=split,
                source=clip.source,
                licence=clip.licence,
                take=clip.take,
                captions=tuple(caption.text for caption in clip.captions),
                plan=None if clip.plan is None else format_plan(clip.plan),
                first_row=self.num_rows,
                num_rows=num_rows,
                tagged=tagged if any(tagged) else (),
            )
        )
        if mirrored:
            self.mirrored.add(clip.clip_id)


def write_shard(path: Path, prepared: Prepared, rows: list[NDArray[np.float32]]) -> None:
    """Keep what came of a shard."""
    note = {
        "clips": [clip.as_record() for clip in prepared.clips],
        "mirrored": sorted(prepared.mirrored),
        "skipped": [asdict(skipped) for skipped in prepared.skipped],
        "sources": sorted(prepared.sources),
        "resampled": [[source, rate_hz, count] for (source, rate_hz), count in prepared.resampled.items()],
        "assumed": [[source, assumed, count] for (source, assumed), count in prepared.assumed.items()],
        "guessed_mappings": prepared.guessed_mappings,
        "rejected": prepared.rejected,
    }
    # A worker whose parent was killed may still be at the same shard.
    temporary = path.with_suffix(f".{os.getpid()}.partial")
    with temporary.open("wb") as file:
        stacked = np.concatenate(rows) if rows else np.empty((0, 0), dtype=np.float32)
        np.savez(file, note=np.frombuffer(json.dumps(note).encode(), dtype=np.uint8), rows=stacked)
    temporary.replace(path)


def read_shard(path: Path) -> Prepared:
    """What came of a shard, without the rows."""
    with np.load(path) as archive:
        note = json.loads(archive["note"].tobytes())
    return Prepared(
        clips=[PreparedClip.of_record(clip) for clip in note["clips"]],
        mirrored=set(note["mirrored"]),
        skipped=[Skipped(**skipped) for skipped in note["skipped"]],
        sources=set(note["sources"]),
        resampled=Counter({(source, rate_hz): count for source, rate_hz, count in note["resampled"]}),
        assumed=Counter({(source, assumed): count for source, assumed, count in note["assumed"]}),
        guessed_mappings=Counter(note["guessed_mappings"]),
        rejected=Counter(note["rejected"]),
    )


def read_shard_rows(path: Path) -> NDArray[np.float32]:
    """Rows of a shard's clips, one after the other, [F, D]."""
    with np.load(path) as archive:
        return archive["rows"]


def prepare_shard(shard: Shard, rules: Rules) -> tuple[Prepared, list[NDArray[np.float32]]]:
    """Read the clips of a shard and make features of them.

    A clip that cannot be used is skipped and noted with its reason; nothing else is lost with it.

    Returns:
        What came of it, and the rows of each clip, [F, D].
    """
    prepared, rows = Prepared(), []
    with one_thread():
        for name in shard.names:
            for clip in _read(name, shard, prepared):
                for part in _choose(clip, shard, rules, prepared):
                    for version, mirrored in _versions(part, name, shard, rules):
                        found = exact_features(canonical_joints(version.joints_m), version.frame_rate_hz)
                        if not np.isfinite(found).all():
                            _skip(prepared, shard, version, "joints that give no finite features")
                            continue
                        prepared.add(version, shard.split, len(found), mirrored)
                        rows.append(found)
    return prepared, rows


def _versions(part: Clip, name: str, shard: Shard, rules: Rules) -> Iterator[tuple[Clip, bool]]:
    """A clip, its variations and the mirrored copies of them that the folder does not bring, which are marked."""
    is_train, has_copy = shard.split == "train", name in shard.with_copies
    varied = rules.variations and is_train and not (has_copy and name.startswith("M"))
    if varied:
        part = tell_side(replace(part, joints_m=canonical_joints(part.joints_m)))
    for version in (part, *(vary(part) if varied else ())):
        yield version, False
        if rules.mirror and is_train and not (version is part and has_copy):
            yield mirror_clip(version), True


@contextmanager
def one_thread() -> Iterator[None]:
    """Workers share the cores, and the same work by one thread gives the same bytes everywhere."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(num_threads)


def follow_parent() -> None:
    """Make this worker end with its parent, also when that is killed, and leave Ctrl-C to it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None, "called in a worker"

    def wait() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def made_of(clip_id: str) -> str:
    """The id of a composition without its seed: the same for those of the same clips."""
    return clip_id.rpartition("@")[0]


def _read(name: str, shard: Shard, prepared: Prepared) -> list[Clip]:
    try:
        clips = shard.reader.read(name)
    except (ClipError, OSError) as error:
        reason = str(error)
        prepared.skipped.append(
            Skipped(
                split=shard.split,
                name=f"{shard.prefix}{name}",
                source="unknown",
                licence="unknown",
                reason=reason,
                kind=_kind(reason, shard.folder, name),
            )
        )
        return []
    if not shard.prefix:
        return clips
    return [replace(clip, clip_id=_prefixed(clip.clip_id, name, shard)) for clip in clips]


def _prefixed(clip_id: str, name: str, shard: Shard) -> str:
    # A mirrored copy that the folder brings keeps its M in front, as those have that are made here.
    if name in shard.with_copies and name.startswith("M"):
        return f"M{shard.prefix}{clip_id.removeprefix('M')}"
    return f"{shard.prefix}{clip_id}"


def _choose(clip: Clip, shard: Shard, rules: Rules, prepared: Prepared) -> Iterator[Clip]:
    """The parts of a clip that the rules take, at the frame rate of the rules."""
    prepared.sources.add(clip.source)
    if clip.source in rules.exclude_sources:
        return _skip(prepared, shard, clip, f"source {clip.source} excluded")
    if rules.licence == "permissive" and not is_permissive(clip.licence):
        return _skip(prepared, shard, clip, f"licence is not permissive: {clip.licence}")
    if clip.frame_rate_hz != rules.frame_rate_hz:
        came_with_hz = clip.frame_rate_hz
        try:
            clip = resample(clip, rules.frame_rate_hz)
        except ClipError as error:
            return _skip(prepared, shard, clip, str(error), _kind(str(error), shard.folder, clip.clip_id))
        prepared.resampled[clip.source, round(came_with_hz, 2)] += 1
    if clip.assumed:
        prepared.assumed[clip.source, clip.assumed] += 1
    if clip.guessed_mapping:
        prepared.guessed_mappings[clip.guessed_mapping] += 1
    parts = _parts(clip)
    if (num_lost := len(clip.captions) - sum(len(part.captions) for part in parts)) > 0:
        for _ in range(num_lost):
            _skip(prepared, shard, clip, "caption of a part that the motion does not reach")
    elif not parts:
        _skip(prepared, shard, clip, "no captions")
    for part in parts:
        if len(part.joints_m) < rules.min_frames:
            _skip(prepared, shard, part, f"shorter than {rules.min_frames} frames")
        else:
            yield part


def _parts(clip: Clip) -> list[Clip]:
    """As `split_captions` has it, but captions of the same part go together, and a plan goes with the whole only."""
    parts: dict[str, Clip] = {}
    for part in split_captions(clip):
        if same := parts.get(part.clip_id):
            parts[part.clip_id] = replace(same, captions=same.captions + part.captions)
        elif part.clip_id == clip.clip_id:
            parts[part.clip_id] = part
        else:
            parts[part.clip_id] = replace(part, plan=None)
    return list(parts.values())


def _skip(prepared: Prepared, shard: Shard, clip: Clip, reason: str, kind: str = "") -> None:
    prepared.skipped.append(
        Skipped(
            split=shard.split,
            name=clip.clip_id,
            source=clip.source,
            licence=clip.licence,
            reason=reason,
            kind=kind or reason,
        )
    )


def _kind(reason: str, folder: Path, name: str) -> str:
    """The reason without folder, name, numbers and what is in quotes, so that like reasons are counted as one."""
    plain = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", "NAME", reason.replace(f"{folder}{os.sep}", ""))
    return re.sub(r"'[^']*'", "'...'", re.sub(r"\d+(?:\.\d+)?", "N", plain))
