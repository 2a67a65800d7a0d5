"""Clips as training reads them: features, captions and statistics, made once by `prepare`.

features.npy        [F, D] exact features of all clips, one after the other
clips.jsonl         a clip a line, in the same order
statistics.npz      mean and std of the training split without compositions, [D]
prepared.json       written last: format version, frame rate, counts
"""

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from python_core.clips.clip import Caption, Clip
from python_core.contract.skeleton import BODY_22
from python_core.features import Normalizer, features_to_joints, num_features, origin
from python_core.whole_file import write_text

FORMAT_VERSION = 2
SUMMARY = "prepared.json"
COMPOSED = "composed"
"""Source of clips that `prepare` composes from others."""


@dataclass(frozen=True, kw_only=True)
class PreparedClip:
    """A clip without its features."""

    clip_id: str
    split: str
    source: str
    licence: str
    take: str
    """The recording that the clip was cut from; empty where that is not known."""
    captions: tuple[str, ...]
    plan: str | None
    """What happens when, as `format_plan` writes it, where that is known exactly."""
    first_row: int
    num_rows: int
    tagged: tuple[str, ...] = ()
    """The captions' words with their parts of speech, in the form that `Caption` has; compositions have none."""

    @classmethod
    def of_record(cls, record: dict[str, Any]) -> "PreparedClip":
        """From what `as_record` gave, after JSON."""
        lists: dict[str, Any] = {name: tuple(record.get(name, ())) for name in ("captions", "tagged")}
        return cls(**record | lists)

    def as_record(self) -> dict[str, Any]:
        """Fields for JSON, without parts of speech where there are none: compositions have none."""
        record = dataclasses.asdict(self)
        if not self.tagged:
            del record["tagged"]
        return record

    def as_clip(self, features: NDArray[np.float32], frame_rate_hz: float) -> Clip:
        """The clip again, its joints those of its features, [F, D]."""
        rows = torch.from_numpy(np.array(features))[None]
        return Clip(
            clip_id=self.clip_id,
            joints_m=features_to_joints(rows, origin(1, rows))[0][0].numpy(),
            captions=tuple(Caption(text) for text in self.captions),
            source=self.source,
            licence=self.licence,
            frame_rate_hz=frame_rate_hz,
            take=self.take,
        )


@dataclass(frozen=True, eq=False)
class PreparedClips:
    """Everything that `prepare` wrote."""

    clips: tuple[PreparedClip, ...]
    rows: NDArray[np.float32] | None
    """Of all clips, [F, D]; None where features.npy was left behind: who trains on codes needs none."""
    normalizer: Normalizer
    frame_rate_hz: float

    def split(self, split: str) -> list[PreparedClip]:
        """Clips of a split.

        Raises:
            ValueError: The split has no clips.
        """
        found = [clip for clip in self.clips if clip.split == split]
        if not found:
            raise ValueError(f"no clips in split {split!r}; there are {sorted({clip.split for clip in self.clips})}")
        return found

    def check_rate(self, frame_rate_hz: float, whose: str) -> None:
        """Refuse clips of another frame rate than a model's.

        Raises:
            ValueError: They have one.
        """
        if self.frame_rate_hz != frame_rate_hz:
            raise ValueError(
                f"clips of {self.frame_rate_hz:g} frames a second, {whose} is for {frame_rate_hz:g}; prepare them at "
                "that rate"
            )

    def features(self, clip: PreparedClip) -> NDArray[np.float32]:
        """Exact features of a clip, not normalized, [F, D].

        Raises:
            ValueError: features.npy is not there.
        """
        if self.rows is None:
            raise ValueError(
                f"clip {clip.clip_id}: its features are not here; copy features.npy from where the clips were "
                "prepared, or prepare again"
            )
        return self.rows[clip.first_row : clip.first_row + clip.num_rows]


def write_prepared(
    folder: Path, clips: list[PreparedClip], features: Iterable[NDArray[np.float32]], frame_rate_hz: float
) -> None:
    """Write what `read_prepared` reads. Each file is whole or not there, and the summary comes last.

    Args:
        folder: Made where it is missing.
        clips: In the order of their rows, which follow each other without gaps.
        features: Rows of each clip, [F, D]; one after the other, so that not all need to be in memory.
        frame_rate_hz: Frames a second.

    Raises:
        ValueError: No clip to take statistics from, or rows that are not what the clips say.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # Until all is written again, a folder from before is not complete.
    (folder / SUMMARY).unlink(missing_ok=True)
    counted = [clip for clip in clips if clip.split == "train" and clip.source != COMPOSED]
    if not counted:
        raise ValueError(f"{folder}: no clips in split 'train', which the statistics are of")
    temporary = folder / "features.partial"
    rows = np.lib.format.open_memmap(
        temporary, mode="w+", dtype=np.float32, shape=(sum(clip.num_rows for clip in clips), num_features(BODY_22))
    )
    for clip, found in zip(clips, features, strict=True):
        if len(found) != clip.num_rows:
            raise ValueError(f"clip {clip.clip_id}: {clip.num_rows} rows expected, got {len(found)}")
        rows[clip.first_row : clip.first_row + clip.num_rows] = found
    rows.flush()
    normalizer = Normalizer.of(
        np.concatenate([rows[clip.first_row : clip.first_row + clip.num_rows] for clip in counted])
    )
    temporary.replace(folder / "features.npy")
    temporary = folder / "statistics.partial"
    with temporary.open("wb") as file:
        np.savez(file, mean=normalizer.mean, std=normalizer.std)
    temporary.replace(folder / "statistics.npz")
    lines = [json.dumps(clip.as_record(), ensure_ascii=False) for clip in clips]
    write_text(folder / "clips.jsonl", "".join(f"{line}\n" for line in lines))
    summary = {"format_version": FORMAT_VERSION, "frame_rate_hz": frame_rate_hz, "num_clips": len(clips)}
    write_text(folder / SUMMARY, json.dumps(summary, indent=2) + "\n")


def read_prepared(folder: Path) -> PreparedClips:
    """Open prepared clips; features stay on disk until they are read, and may be missing until then.

    Raises:
        ValueError: The folder is not complete, or of another format version.
    """
    path = folder / SUMMARY
    if not path.is_file():
        raise ValueError(f"{folder}: no {SUMMARY}; run python -m python_core prepare first")
    summary = json.loads(path.read_text(encoding="utf-8"))
    if summary["format_version"] != FORMAT_VERSION:
        raise ValueError(
            f"{path}: format_version {summary['format_version']}, expected {FORMAT_VERSION}; prepare again"
        )
    # Not by splitlines: a caption may hold a separator that ends a line for it, but not for JSON.
    lines = (folder / "clips.jsonl").read_text(encoding="utf-8").split("\n")
    clips = tuple(PreparedClip.of_record(json.loads(line)) for line in lines if line)
    if len(clips) != summary["num_clips"]:
        raise ValueError(f"{folder}: {len(clips)} clips in clips.jsonl, {summary['num_clips']} expected; prepare again")
    with np.load(folder / "statistics.npz") as statistics:
        normalizer = Normalizer(statistics["mean"], statistics["std"])
    features = folder / "features.npy"
    rows = np.load(features, mmap_mode="r") if features.is_file() else None
    return PreparedClips(clips, rows, normalizer, summary["frame_rate_hz"])
