"""Stage `prepare`: clips in the HumanML3D layout -> features, captions and statistics."""

import logging
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from rich.progress import track

from python_core.clips.clip import Clip, mirror_clip, split_captions
from python_core.clips.humanml3d import HumanML3DFolder
from python_core.clips.prepared import PreparedClip, write_prepared
from python_core.features import canonical_joints, exact_features

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class PrepareConfig:
    """Which clips to prepare and how."""

    clips: Path = Path("data/humanml3d")
    """Folder in the HumanML3D layout."""

    out: Path = Path("runs/prepared")
    """Folder to write."""

    splits: tuple[str, ...] = ("train", "val")
    """Split files to read."""

    exclude_sources: tuple[str, ...] = ()
    """Sources, as licences.csv names them, to leave out."""

    mirror: bool = True
    """Add the mirrored copy of each clip of the train split that the folder does not bring itself."""

    min_frames: int = 20
    """Shorter clips are left out, and counted."""


PRESETS = {"base": PrepareConfig(), "small": PrepareConfig(), "nano": PrepareConfig(), "tiny": PrepareConfig()}


def run(config: PrepareConfig) -> None:
    """Read, put on our skeleton, and write.

    Raises:
        ClipError: The folder is not in the layout, or a file does not hold what the layout says.
        ValueError: A source to leave out is none of the clips' sources, no clip is left, or frame rates differ.
    """
    prepared: list[PreparedClip] = []
    features = []
    skipped: Counter[str] = Counter()
    frame_rates_hz, sources = set(), set()
    for split in config.splits:
        reader = HumanML3DFolder(config.clips)
        clip_ids = reader.names(split)
        clips = (clip for clip_id in clip_ids for clip in reader.read(clip_id))
        for clip in track(clips, f"prepare {split}", total=len(clip_ids)):
            sources.add(clip.source)
            if clip.source in config.exclude_sources:
                skipped[f"source {clip.source} excluded"] += 1
                continue
            brings_its_mirror = clip.mirrored or f"M{clip.clip_id}" in clip_ids
            for part in _with_mirrored(clip, config.mirror and split == "train" and not brings_its_mirror):
                if len(part.joints_m) < config.min_frames:
                    skipped[f"shorter than {config.min_frames} frames"] += 1
                    continue
                rows = exact_features(canonical_joints(part.joints_m), part.frame_rate_hz)
                first_row = prepared[-1].first_row + prepared[-1].num_rows if prepared else 0
                prepared.append(
                    PreparedClip(
                        clip_id=part.clip_id,
                        split=split,
                        source=part.source,
                        licence=part.licence,
                        captions=tuple(caption.text for caption in part.captions),
                        first_row=first_row,
                        num_rows=len(rows),
                    )
                )
                features.append(rows)
                frame_rates_hz.add(part.frame_rate_hz)
    if unknown := sorted(set(config.exclude_sources) - sources):
        raise ValueError(
            f"{config.clips}: exclude_sources names {', '.join(unknown)}, which no clip comes from; "
            f"licences.csv knows {', '.join(sorted(sources))}"
        )
    if not prepared:
        raise ValueError(f"{config.clips}: no clips are left of {config.splits}; left out: {dict(skipped)}")
    if len(frame_rates_hz) != 1:
        raise ValueError(f"{config.clips}: clips must share one frame rate, got {sorted(frame_rates_hz)}")
    rate = frame_rates_hz.pop()
    write_prepared(config.out, prepared, features, rate)
    for (split, source), count in sorted(Counter((clip.split, clip.source) for clip in prepared).items()):
        num_rows = sum(clip.num_rows for clip in prepared if (clip.split, clip.source) == (split, source))
        logger.info("%s: %d clips of %s, %.2f h", split, count, source, num_rows / rate / 3600)
    for reason, count in skipped.items():
        logger.info("left out %d: %s", count, reason)


def _with_mirrored(clip: Clip, mirror: bool) -> list[Clip]:
    parts = split_captions(clip)
    return parts + [mirror_clip(part) for part in parts] if mirror else parts
