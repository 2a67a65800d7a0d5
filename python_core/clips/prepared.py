"""Clips as training reads them: features, captions and statistics, made once by `prepare`.

features.npy        [F, D] exact features of all clips, one after the other
clips.jsonl         a clip a line, in the same order
statistics.npz      mean and std of the training split, [D]
prepared.json       written last: format version, frame rate, counts
"""

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from python_core.features import Normalizer

FORMAT_VERSION = 1
SUMMARY = "prepared.json"


@dataclass(frozen=True, kw_only=True)
class PreparedClip:
    """A clip without its features."""

    clip_id: str
    split: str
    source: str
    licence: str
    captions: tuple[str, ...]
    first_row: int
    num_rows: int


@dataclass(frozen=True, eq=False)
class PreparedClips:
    """Everything that `prepare` wrote."""

    clips: tuple[PreparedClip, ...]
    rows: NDArray[np.float32]
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

    def features(self, clip: PreparedClip) -> NDArray[np.float32]:
        """Exact features of a clip, not normalized, [F, D]."""
        return self.rows[clip.first_row : clip.first_row + clip.num_rows]


def write_prepared(
    folder: Path, clips: list[PreparedClip], features: Iterable[NDArray[np.float32]], frame_rate_hz: float
) -> None:
    """Write what `read_prepared` reads."""
    folder.mkdir(parents=True, exist_ok=True)
    # Until all is written again, a folder from before is not complete.
    (folder / SUMMARY).unlink(missing_ok=True)
    rows = np.concatenate(list(features))
    train = np.concatenate([np.arange(c.first_row, c.first_row + c.num_rows) for c in clips if c.split == "train"])
    normalizer = Normalizer.of(rows[train])
    np.save(folder / "features.npy", rows)
    np.savez(folder / "statistics.npz", mean=normalizer.mean, std=normalizer.std)
    lines = [json.dumps(dataclasses.asdict(clip), ensure_ascii=False) for clip in clips]
    (folder / "clips.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    summary = {"format_version": FORMAT_VERSION, "frame_rate_hz": frame_rate_hz, "num_clips": len(clips)}
    (folder / SUMMARY).write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")


def read_prepared(folder: Path) -> PreparedClips:
    """Open prepared clips; features stay on disk until they are read.

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
    lines = (folder / "clips.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    clips = tuple(PreparedClip(**record | {"captions": tuple(record["captions"])}) for record in records)
    if len(clips) != summary["num_clips"]:
        raise ValueError(f"{folder}: {len(clips)} clips in clips.jsonl, {summary['num_clips']} expected; prepare again")
    with np.load(folder / "statistics.npz") as statistics:
        normalizer = Normalizer(statistics["mean"], statistics["std"])
    rows = np.load(folder / "features.npy", mmap_mode="r")
    return PreparedClips(clips, rows, normalizer, summary["frame_rate_hz"])
