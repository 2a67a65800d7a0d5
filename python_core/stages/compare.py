"""Stage `compare`: evaluations of several models -> one table, with how sure the differences between them are.

Draws of the bootstrap of two evaluations belong together, so the interval of a difference is that of its draws, which
is much narrower than the intervals of the two suggest.
"""

import json
import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from python_core.evaluation.bootstrap import percentile_interval
from python_core.evaluation.evaluation import OURS
from python_core.evaluation.judgement_table import NOTHING, as_table
from python_core.whole_file import write_text

logger = logging.getLogger(__name__)

MAY_DIFFER = {"model_files", "sampling", "batch", "varied_texts", "varied_replies", "history", "listed"}
"""What `run.json` of two evaluations may say differently: models, and how they are asked."""
SCORES = {"r_at_1": "R@1 ↑", "r_at_3": "R@3 ↑", "fid": "FID ↓", "kid": "KID ↓", "mm_dist": "MM-Dist ↓"}
"""Of these the difference is taken."""


@dataclass(frozen=True, kw_only=True)
class CompareConfig:
    """Which evaluations."""

    evaluations: tuple[Path, ...] = ()
    """Folders that `evaluate` wrote, a row each, named by the folder."""

    against: Path | None = None
    """The one that the others are compared with; None takes the first."""

    out: Path = Path("runs/comparison.md")
    """Table to write."""


PRESETS = {"small": CompareConfig()}


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a folder says of one model."""

    name: str
    made_of: dict[str, Any]
    """`run.json`"""
    judgement: dict[str, Any]
    """`judgement.json`"""
    draws: dict[str, Any]
    """Of the bootstrap, by measure, [draws]; empty without."""

    @property
    def ours(self) -> dict[str, Any]:
        """The row of the model."""
        return next(row for row in self.judgement["rows"] if row["name"] == OURS)


def run(config: CompareConfig) -> None:
    """Compare, and write the table.

    Raises:
        ValueError: Fewer than two evaluations, one that is not complete, without a model, or of other texts, judge or
            clips than the others.
    """
    if len(config.evaluations) < 2:
        raise ValueError(f"--evaluations takes 2 folders or more, got {len(config.evaluations)}")
    found = [read_evaluation(folder) for folder in config.evaluations]
    against = config.evaluations[0] if config.against is None else config.against
    if against not in config.evaluations:
        raise ValueError(f"--against takes one of the evaluations, got {against}")
    config.out.parent.mkdir(parents=True, exist_ok=True)
    write_text(config.out, as_markdown(found, found[config.evaluations.index(against)]))
    logger.info("%s", config.out)


def read_evaluation(folder: Path) -> Evaluation:
    """Read what `evaluate` wrote.

    Raises:
        ValueError: It is not complete, or of no model.
    """
    paths = [folder / name for name in ("run.json", "judgement.json")]
    if missing := [path.name for path in paths if not path.is_file()]:
        raise ValueError(f"{folder}: no {', '.join(missing)}; run evaluate with --out {folder} to its end")
    made_of, judgement = (json.loads(path.read_text(encoding="utf-8")) for path in paths)
    if not any(row["name"] == OURS for row in judgement["rows"]):
        raise ValueError(f"{folder}: an evaluation without a model; run evaluate with a --checkpoint")
    draws = {}
    if (folder / "draws.npz").is_file():
        with np.load(folder / "draws.npz") as arrays:
            draws = {key.split(".", 1)[1]: arrays[key] for key in arrays.files if key.startswith(f"{OURS}.")}
    return Evaluation(folder.name, made_of, judgement, draws)


def as_markdown(found: list[Evaluation], against: Evaluation) -> str:
    """Real motions and nearest captions, then a row an evaluation; then how they differ from one of them.

    Raises:
        ValueError: They are not of the same texts, judge and clips.
    """
    for other in found:
        names = (other.made_of.keys() | against.made_of.keys()) - MAY_DIFFER
        if changed := sorted(name for name in names if other.made_of.get(name) != against.made_of.get(name)):
            raise ValueError(f"{other.name}: another {', '.join(changed)} than {against.name}; evaluate them alike")
        nums = [one.judgement["num_texts"] for one in (other, against)]
        if nums[0] != nums[1]:
            raise ValueError(f"{other.name}: {nums[0]} texts, {against.name} has {nums[1]}; evaluate them alike")
    first = against.judgement
    rows = [row for row in first["rows"] if row["name"] != OURS]
    named = [(row["name"], row) for row in rows] + [(one.name, one.ours) for one in found]
    recordings = f" of {first['num_recordings']} recordings" if first["num_recordings"] else ""
    parts = [
        f"# {first['protocol']}, judged by {first['judge']}\n\n{first['num_texts']} texts{recordings}, "
        f"{first['num_repeats']} repeats.\n",
        *(f"{note}\n" for note in _notes(found)),
    ]
    header = ["", *SCORES.values(), "Diversity from real ↓", "well formed ↑", "beats recovered ↑", "in order ↑",
              "plans followed ↑", "foot skate m/s ↓", "good ↑"]  # fmt: skip
    parts.append(as_table(header, [[name, *_cells(row)] for name, row in named]))
    others = [one for one in found if one is not against]
    parts.append(f"Difference from {against.name}, with 95 % intervals over recordings where there are draws:\n")
    parts.append(
        as_table(
            ["", "R@3 relative", *SCORES.values(), "foot skate m/s ↓"],
            [[one.name, _relative(one, against), *_differences(one, against)] for one in others],
        )
    )
    return "\n".join(parts)


def _notes(found: list[Evaluation]) -> list[str]:
    """What holds for all, then what holds for one: replies may have been drawn in different ways."""
    notes = [(one.name, note) for one in found for note in one.judgement["notes"]]
    shared = [note for _, note in notes if all(note in one.judgement["notes"] for one in found)]
    return [*dict.fromkeys(shared), *(f"{name}: {note}" for name, note in notes if note not in shared)]


def _cells(row: dict[str, Any]) -> list[str]:
    scores: dict[str, Any] = row["scores"]
    plans: dict[str, Any] = row["plans"] or {}
    quality: dict[str, Any] = row["quality"] or {"report": {}}
    return [
        *(_number(scores[name]["value"]) for name in (*SCORES, "diversity_from_real")),
        *(_share(value) for value in (row["well_formed"], *map(plans.get, ("recovered", "in_order", "followed")))),
        _number(quality["report"].get("foot_skate_m_s")),
        _share(quality.get("good")),
    ]


def _relative(one: Evaluation, against: Evaluation) -> str:
    value, start = (found.ours["scores"]["r_at_3"]["value"] for found in (one, against))
    return NOTHING if not start else f"{100 * (value / start - 1):+.1f} %"


def _differences(one: Evaluation, against: Evaluation) -> list[str]:
    cells = []
    for name in SCORES:
        value, start = (found.ours["scores"][name]["value"] for found in (one, against))
        if value is None or start is None:
            cells.append(NOTHING)
            continue
        interval = None
        if name in one.draws and name in against.draws:
            # Of the texts that the draws are of: FID and KID of all repeats are others than of the first.
            value, start = (_drawn_from(found, name) for found in (one, against))
            interval = percentile_interval(value - start, one.draws[name] - against.draws[name])
        cells.append(
            _number(value - start, "+") + (f" [{interval.low:+.3f}, {interval.high:+.3f}]" if interval else "")
        )
    skate, start = (_foot_skate_m_s(found) for found in (one, against))
    return [*cells, NOTHING if skate is None or start is None else _number(skate - start, "+")]


def _drawn_from(found: Evaluation, name: str) -> float:
    """The value that the draws of a score scatter about."""
    estimate = found.ours["over_recordings"].get(name) or found.ours["scores"][name]
    return estimate["value"]


def _foot_skate_m_s(found: Evaluation) -> float | None:
    quality: dict[str, Any] = found.ours["quality"] or {"report": {}}
    return quality["report"].get("foot_skate_m_s")


def _number(value: float | None, sign: str = "") -> str:
    return NOTHING if value is None or not math.isfinite(value) else f"{value:{sign}.3f}"


def _share(value: float | None) -> str:
    return NOTHING if value is None else f"{100 * value:.1f} %"
