import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from python_core.contract.quality import QualityReport
from python_core.evaluation.judgement import QualityMeans
from python_core.evaluation.judgement_table import Judgement, ModelRow, write_judgement
from python_core.evaluation.metrics import Estimate
from python_core.evaluation.plan_measures import PlanMeasures
from python_core.stages.compare import CompareConfig, run

DRAWS = np.linspace(-0.1, 0.1, 201)
SCORES = ("r_at_1", "r_at_2", "r_at_3", "fid", "kid", "mm_dist", "diversity", "diversity_from_real")


def evaluation(folder: Path, r_at_3: float, skate_m_s: float, **made_of: object) -> Path:
    """What `evaluate` leaves behind."""

    def row(name: str, r_at_3: float, skate_m_s: float) -> ModelRow:
        report = QualityReport(**dict.fromkeys(QualityReport.__dataclass_fields__, 0.5) | {"foot_skate_m_s": skate_m_s})
        return ModelRow(
            name=name,
            scores={score: Estimate(r_at_3 if score == "r_at_3" else 2.0, 0.0, 0.0) for score in SCORES},
            over_recordings={},
            well_formed=None if name == "real" else 0.97,
            quality=QualityMeans(num_motions=3, report=report, good=0.5, poor=0.0),
            plans=PlanMeasures(num_plans=4, recovered=0.75, in_order=None, followed=0.25, duration_error_s=0.1),
        )

    folder.mkdir()
    rows = (row("real", 0.9, 0.1), row("ours", r_at_3, skate_m_s))
    judgement = Judgement(
        protocol="val_composed", judge="runs/judge", num_texts=64, num_repeats=1, num_recordings=5, rows=rows,
        notes=("A note.",),
    )  # fmt: skip
    write_judgement(folder, judgement)
    noted = {"protocol": "val_composed", "judge_files": "a", "seed": 1, "sampling": {}, "model_files": folder.name}
    (folder / "run.json").write_text(json.dumps(noted | made_of))
    # The draws of both rise and fall together, so that their difference hardly varies.
    draws: dict[str, Any] = {"ours.r_at_3": r_at_3 + DRAWS * (1 + r_at_3), "real.r_at_3": DRAWS}
    np.savez(folder / "draws.npz", **draws)
    return folder


def test_differences_are_of_draws_that_belong_together(tmp_path: Path):
    folders = (evaluation(tmp_path / "sft", 0.4, 0.2), evaluation(tmp_path / "grpo", 0.5, 0.15))
    run(CompareConfig(evaluations=folders, out=tmp_path / "table" / "comparison.md"))
    table = (tmp_path / "table" / "comparison.md").read_text()
    assert "64 texts of 5 recordings, 1 repeats.\n\nA note.\n" in table
    assert "| real | 2.000 | 0.900 |" in table
    sft, grpo = (
        next(line for line in table.splitlines() if line.startswith(f"| {name} |")) for name in ("sft", "grpo")
    )
    assert (
        sft == "| sft | 2.000 | 0.400 | 2.000 | 2.000 | 2.000 | 2.000 | 97.0 % | 75.0 % | - | 25.0 % | 0.200 | 50.0 % |"
    )
    assert grpo.startswith("| grpo | 2.000 | 0.500 |")
    # By hand: 0.1 of each draw's 0.2 wide span, of which the middle 95 % are taken.
    difference = table.splitlines()[-1]
    assert difference == (
        "| grpo | +25.0 % | +0.000 | +0.100 [+0.090, +0.110] | +0.000 | +0.000 | +0.000 | -0.050 |"
    )  # fmt: skip


def test_a_difference_is_of_what_its_draws_are_of(tmp_path: Path):
    """FID and KID are means over repeats in the table, but their draws are of the first."""
    folders = []
    for name, of_first in (("sft", 3.0), ("grpo", 3.5)):
        folder = evaluation(tmp_path / name, 0.4, 0.2)
        path = folder / "judgement.json"
        judgement = json.loads(path.read_text())
        judgement["rows"][1]["over_recordings"]["fid"] = {"value": of_first, "low": 0.0, "high": 9.0}
        path.write_text(json.dumps(judgement))
        draws: dict[str, Any] = {"ours.fid": of_first + DRAWS}
        np.savez(folder / "draws.npz", **draws)
        folders.append(folder)
    run(CompareConfig(evaluations=tuple(folders), out=tmp_path / "comparison.md"))
    assert "| +0.500 [+0.500, +0.500] |" in (tmp_path / "comparison.md").read_text().splitlines()[-1]


def test_what_is_said_of_one_evaluation_alone_is_said_with_its_name(tmp_path: Path):
    folders = (evaluation(tmp_path / "sft", 0.4, 0.2), evaluation(tmp_path / "grpo", 0.5, 0.15))
    path = folders[1] / "judgement.json"
    judgement = json.loads(path.read_text())
    path.write_text(json.dumps(judgement | {"notes": ["Drawn otherwise.", *judgement["notes"]]}))
    run(CompareConfig(evaluations=folders, out=tmp_path / "comparison.md"))
    assert "1 repeats.\n\nA note.\n\ngrpo: Drawn otherwise.\n\n|" in (tmp_path / "comparison.md").read_text()


def test_another_evaluation_may_be_the_one_that_the_others_are_compared_with(tmp_path: Path):
    folders = (evaluation(tmp_path / "sft", 0.4, 0.2), evaluation(tmp_path / "grpo", 0.5, 0.15))
    run(CompareConfig(evaluations=folders, against=folders[1], out=tmp_path / "comparison.md"))
    text = (tmp_path / "comparison.md").read_text()
    assert "Difference from grpo" in text
    assert "| sft | -20.0 % |" in text


def test_evaluations_of_different_things_are_refused(tmp_path: Path):
    sft, other = (
        evaluation(tmp_path / "sft", 0.4, 0.2),
        evaluation(tmp_path / "other", 0.5, 0.2, judge_files="b", seed=2),
    )
    out = tmp_path / "comparison.md"
    with pytest.raises(ValueError, match="other: another judge_files, seed than sft; evaluate them alike"):
        run(CompareConfig(evaluations=(sft, other), out=out))
    with pytest.raises(ValueError, match="takes 2 folders or more, got 1"):
        run(CompareConfig(evaluations=(sft,), out=out))
    with pytest.raises(ValueError, match="takes one of the evaluations"):
        run(CompareConfig(evaluations=(sft, other), against=tmp_path, out=out))
    (other / "judgement.json").unlink()
    with pytest.raises(ValueError, match=r"no judgement\.json; run evaluate with --out"):
        run(CompareConfig(evaluations=(sft, other), out=out))
    assert not out.exists()
