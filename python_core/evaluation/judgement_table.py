"""Judgements as files: `judgement.json` for machines, `judgement.md` for people, real motions in the first row."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from python_core.checkpoint import write_json
from python_core.evaluation.judgement import QualityMeans
from python_core.evaluation.long_sequences import TransitionScores
from python_core.evaluation.metrics import Estimate
from python_core.evaluation.plan_measures import PlanMeasures
from python_core.evaluation.told_apart import ToldApart
from python_core.whole_file import write_text

COLUMNS = {
    "r_at_1": "R@1 ↑",
    "r_at_2": "R@2 ↑",
    "r_at_3": "R@3 ↑",
    "fid": "FID ↓",
    "kid": "KID ↓",
    "mm_dist": "MM-Dist ↓",
    "diversity": "Diversity →",
    "diversity_from_real": "from real ↓",
}
"""Names of `Scores` as tables have them."""
NOTHING = "-"
"""What a cell holds where there is no number."""


@dataclass(frozen=True, kw_only=True)
class ModelRow:
    """All that is known of one model."""

    name: str
    scores: dict[str, Estimate]
    """Over repeats, by the names in `Scores`."""
    over_recordings: dict[str, Estimate]
    """The same over recordings; empty where they are not known."""
    well_formed: float | None = None
    """Share of replies that are; None for what is not a language model."""
    planned: float | None = None
    """Share of well-formed replies whose reasoning is a plan."""
    planned_error_s: float | None = None
    """Mean difference between how long those plans are and their motions."""
    as_long_as_planned: float | None = None
    """Share of those motions that are as long as their plans, to a code."""
    multimodality: Estimate | None = None
    quality: QualityMeans | None = None
    plans: PlanMeasures | None = None
    told_apart: dict[str, ToldApart] = field(default_factory=dict)
    """By what of the texts is exchanged, order or sides."""
    transitions: TransitionScores | None = None


@dataclass(frozen=True, kw_only=True)
class ListedClip:
    """A clip that people captioned, one by one."""

    clip_id: str
    caption: str
    plan: str
    """What the model wrote between the think markers; empty where it wrote nothing."""
    real_s: float
    ours_s: float
    """0 for a malformed reply."""
    real_distance: float
    nearest_distance: float
    ours_distance: float | None
    ours_rank: float | None
    """Place of the model's motion among those of all listed clips for this caption, 1 the nearest."""


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """An evaluation."""

    protocol: str
    judge: str
    num_texts: int
    num_repeats: int
    num_recordings: int | None
    """How many recordings stand behind the texts, where that is known."""
    rows: tuple[ModelRow, ...]
    plans_by_chance: PlanMeasures | None = None
    """Real motions held against the plans of others."""
    listed: tuple[ListedClip, ...] = ()
    notes: tuple[str, ...] = ()


def write_judgement(folder: Path, judgement: Judgement) -> None:
    """Write both files; numbers that are none become null."""
    write_json(folder / "judgement.json", _plain(dataclasses.asdict(judgement)))
    write_text(folder / "judgement.md", as_markdown(judgement))


def as_markdown(judgement: Judgement) -> str:
    """The tables that have something to say."""
    rows = judgement.rows
    # One repeat does not tell how sure it is.
    sure = judgement.num_repeats > 1
    header = f"# {judgement.protocol}, judged by {judgement.judge}\n\n{judgement.num_texts} texts, " + (
        f"{judgement.num_repeats} repeats; ± is 1.96 standard deviations / √repeats.\n" if sure else "1 repeat.\n"
    )
    parts = [header, *(f"{note}\n" for note in judgement.notes)]
    table = [
        [row.name, *(_estimate(row.scores.get(name), sure) for name in COLUMNS), _estimate(row.multimodality, sure),
         _share(row.well_formed)]
        for row in rows
    ]  # fmt: skip
    parts.append(as_table(["", *COLUMNS.values(), "MModality →", "well formed ↑"], table))
    if any(row.over_recordings for row in rows):
        names = [name for name in COLUMNS if any(name in row.over_recordings for row in rows)]
        parts.append(f"95 % intervals over {judgement.num_recordings} recordings (bootstrap):\n")
        parts.append(
            as_table(
                ["", *(COLUMNS[name] for name in names)],
                [[row.name, *(_interval(row.over_recordings.get(name)) for name in names)] for row in rows],
            )
        )
    parts += _plan_tables(rows, judgement.plans_by_chance)
    parts += _swap_tables(rows)
    parts += _motion_tables(rows)
    if judgement.listed:
        parts.append("Clips that people captioned, one by one (distances to the caption, nearer is better):\n")
        listed = [
            [clip.clip_id, clip.caption, clip.plan or NOTHING, f"{clip.real_s:.1f}", f"{clip.ours_s:.1f}",
             _number(clip.real_distance), _number(clip.nearest_distance), _number(clip.ours_distance),
             _number(clip.ours_rank, 0)]
            for clip in judgement.listed
        ]  # fmt: skip
        header = ["clip", "caption", "plan", "real s", "ours s", "real", "nearest", "ours", f"rank of {len(listed)}"]
        parts.append(as_table(header, listed))
    return "\n".join(parts)


def _plan_tables(rows: Sequence[ModelRow], by_chance: PlanMeasures | None) -> list[str]:
    parts = []
    measured = [*((row.name, row.plans) for row in rows), ("real, plans of others", by_chance)]
    if any(row.plans for row in rows):
        table = [
            [name, str(plans.num_plans), _share(plans.recovered), _share(plans.in_order), _share(plans.followed),
             _number(plans.duration_error_s, 2)]
            for name, plans in measured if plans is not None
        ]  # fmt: skip
        header = ["", "plans", "beats recovered ↑", "in order ↑", "followed ↑", "duration error s ↓"]
        parts += ["What the exact plans of the prompts say, in the motions:\n", as_table(header, table)]
    if any(row.planned is not None for row in rows):
        table = [
            [row.name, _share(row.planned), _number(row.planned_error_s, 2), _share(row.as_long_as_planned)]
            for row in rows if row.planned is not None
        ]  # fmt: skip
        header = ["", "reasoning is a plan ↑", "planned and spoken seconds differ ↓", "by at most a code ↑"]
        parts.append(as_table(header, table))
    return parts


def _swap_tables(rows: Sequence[ModelRow]) -> list[str]:
    names = list(dict.fromkeys(name for row in rows for name in row.told_apart))
    if not names:
        return []
    nums = {name: next(row.told_apart[name].num for row in rows if name in row.told_apart) for name in names}
    table = [[row.name, *(_told_apart(row.told_apart.get(name)) for name in names)] for row in rows if row.told_apart]
    return [
        "Motions nearer to their text than to the same with something exchanged (guessing: 50 %):\n",
        as_table(["", *(f"{name}, {nums[name]} texts ↑" for name in names)], table),
    ]


def _told_apart(found: ToldApart | None) -> str:
    if found is None:
        return NOTHING
    interval = found.over_recordings
    return _share(found.share) + ("" if interval is None else f" [{_share(interval.low)}, {_share(interval.high)}]")


def _motion_tables(rows: Sequence[ModelRow]) -> list[str]:
    parts = []
    if any(row.quality for row in rows):
        names = [field.name for field in dataclasses.fields(next(row.quality for row in rows if row.quality).report)]
        table = [
            [row.name, str(quality.num_motions), _share(quality.good), _share(quality.poor),
             *(_number(getattr(quality.report, name)) for name in names)]
            for row in rows if (quality := row.quality) is not None
        ]  # fmt: skip
        parts += ["Quality of the motions (means):\n", as_table(["", "motions", "good ↑", "poor ↓", *names], table)]
    if any(row.transitions for row in rows):
        table = [
            [row.name, str(found.num), _number(found.fid), _number(found.diversity), _number(found.diversity_from_real),
             _number(found.peak_jerk_m, 4), _number(found.area_under_jerk_m, 4)]
            for row in rows if (found := row.transitions) is not None
        ]  # fmt: skip
        header = ["", "transitions", "FID ↓", "Diversity →", "from real ↓", "peak jerk m ↓", "area under jerk m ↓"]
        parts += ["Transitions, 1 s around each boundary:\n", as_table(header, table)]
    return parts


def as_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |\n" for line in lines)


def _estimate(estimate: Estimate | None, sure: bool) -> str:
    if estimate is None or not math.isfinite(estimate.value):
        return NOTHING
    return _number(estimate.value) + (f" ± {_number(estimate.half_width)}" if sure else "")


def _interval(estimate: Estimate | None) -> str:
    if estimate is None:
        return NOTHING
    return f"{_number(estimate.value)} [{_number(estimate.low)}, {_number(estimate.high)}]"


def _number(value: float | None, digits: int = 3) -> str:
    return NOTHING if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def _share(value: float | None) -> str:
    return NOTHING if value is None else f"{100 * value:.1f} %"


def _plain(value: Any) -> Any:
    """JSON has no NaN."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
