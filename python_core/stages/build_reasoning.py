"""Stage `build-reasoning`: captions -> plans, one record a caption.

    {"clip_id": "002510", "caption": "...", "duration_s": 5.0, "plan": "1. ...", "writer": "planner"}

Captions without a motion have no clip id: they teach the model to plan, not to move.
"""

import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.progress import track

from python_core.clips.prepared import read_prepared
from python_core.contract.plan import format_plan

logger = logging.getLogger(__name__)

BATCH = 512


@dataclass(frozen=True)
class PlanRecord:
    """A caption and its plan."""

    clip_id: str | None
    caption: str
    duration_s: float
    plan: str
    writer: str


@dataclass(frozen=True, kw_only=True)
class BuildReasoningConfig:
    """Write plans with the deterministic planner."""

    prepared: Path = Path("runs/prepared")
    """Folder that `prepare` wrote."""

    more_captions: Path | None = None
    """JSON lines of captions without motion: `captions`, a list, and `duration_s`. None adds none."""

    out: Path = Path("runs/plans.jsonl")
    """File to write."""


PRESETS = {name: BuildReasoningConfig() for name in ("base", "small", "nano", "tiny")}


def run(config: BuildReasoningConfig) -> None:
    """Write a plan for each caption of the train split, and for each caption without motion.

    Raises:
        ValueError: The prepared clips or the captions cannot be read.
    """
    from python_core.planner import Planner

    prepared = read_prepared(config.prepared)
    sentences: list[tuple[str | None, str, float]] = [
        (clip.clip_id, caption, clip.num_rows / prepared.frame_rate_hz)
        for clip in prepared.split("train")
        for caption in clip.captions
    ]
    if config.more_captions is not None:
        sentences.extend(_read_captions(config.more_captions))
    planner = Planner()
    config.out.parent.mkdir(parents=True, exist_ok=True)
    temporary = config.out.with_suffix(".partial")
    with temporary.open("w", encoding="utf-8") as file:
        for first in track(range(0, len(sentences), BATCH), "build-reasoning"):
            batch = sentences[first : first + BATCH]
            plans = planner.plan_many([(caption, duration_s) for _, caption, duration_s in batch])
            for (clip_id, caption, duration_s), plan in zip(batch, plans, strict=True):
                record = PlanRecord(clip_id, caption, round(duration_s, 3), format_plan(plan), "planner")
                file.write(json.dumps(asdict(record), ensure_ascii=False) + "\n")
    temporary.replace(config.out)
    logger.info("%d plans written to %s", len(sentences), config.out)


def read_plans(path: Path) -> list[PlanRecord]:
    """Read what the stage wrote.

    Raises:
        ValueError: The file is missing, or a line is not a record.
    """
    if not path.is_file():
        raise ValueError(f"{path}: missing; run python -m python_core build-reasoning first")
    records = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            records.append(PlanRecord(**json.loads(line)))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path}:{number}: not a plan record ({error}); build the plans again") from error
    return records


def _read_captions(path: Path) -> list[tuple[None, str, float]]:
    sentences = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            record = json.loads(line)
            sentences.extend(
                (None, caption, float(record["duration_s"])) for caption in record["captions"] if caption.strip()
            )
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}:{number}: expected captions and duration_s, got {line[:80]!r}") from error
    return sentences
