"""Stages that several processes share end with what one ends with, and the others run once."""

import json
import subprocess
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from python_core.__main__ import SHARED, STAGES, main
from python_core.stages.train_evaluator import TrainEvaluatorConfig
from tests.python_core.stages.conftest import start_stage


def metrics(out: Path) -> list[dict[str, object]]:
    """Lines without the time."""
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "time_s"} for line in lines]


def check_alike(one: Path, two: Path, atol: float) -> None:
    for wanted, found in zip(metrics(one), metrics(two), strict=True):
        assert found.keys() == wanted.keys()
        losses = [name for name, value in wanted.items() if isinstance(value, float)]
        assert [found[name] for name in losses] == pytest.approx([wanted[name] for name in losses], abs=atol)
        assert found["step"] == wanted["step"]
    weights = load_file(two / "model.safetensors")
    for name, value in load_file(one / "model.safetensors").items():
        if name.endswith("in_proj_bias"):
            # A third of it, the keys', has no gradient but rounding, of which Adam makes whole steps.
            continue
        assert torch.allclose(weights[name], value, atol=atol), name


@pytest.mark.parametrize("stage", sorted(STAGES.keys() - SHARED))
def test_a_stage_that_is_not_shared_is_the_first_process_s(stage: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RANK", "1")
    # Fields that no stage has: they would be refused if they were read.
    assert main([stage, "tiny", "--no-such-field"]) == 0
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(SystemExit):
        main([stage, "small", "--no-such-field"])


@pytest.mark.slow
def test_two_processes_train_the_tokenizer_of_one(prepared_folder: Path, tmp_path: Path):
    fields = ("--prepared", prepared_folder, "--save-every", "2")
    # They stop half-way, and another number of processes goes on.
    for steps, processes in (("3", {"one": 1, "two": 2, "both": 2}), ("6", {"one": 1, "two": 2, "both": 1})):
        for name, count in processes.items():
            run = start_stage(
                "train-vqvae", "tiny", *fields, "--steps", steps, "--out", tmp_path / name, processes=count
            )
            assert run.wait() == 0
    check_alike(tmp_path / "one", tmp_path / "two", 1e-4)
    check_alike(tmp_path / "one", tmp_path / "both", 1e-4)


@pytest.mark.slow
def test_processes_that_cannot_share_a_batch_leave_no_run(prepared_folder: Path, tmp_path: Path):
    fields = ("--prepared", prepared_folder, "--batch", "3", "--out", tmp_path / "run")
    started = start_stage("train-vqvae", "tiny", *fields, processes=2, stderr=subprocess.PIPE)
    _, said = started.communicate()
    assert started.returncode != 0
    assert b"train-vqvae: batch must be a multiple of the 2 processes that share it, got 3" in said
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["judge", "reward"])
def test_two_processes_train_the_evaluator_of_one(
    tiny_evaluator: TrainEvaluatorConfig,
    prepared_folder: Path,
    tmp_path: Path,
    kind: str,
):
    fields = ["--prepared", prepared_folder, "--text-encoder", tiny_evaluator.text_encoder, "--kind", kind]
    fields += ["--held-out-share", "0", "--save-every", "2"]
    # Movements have dropout, which is another one in a share than in the whole batch.
    exact = [*fields, "--judge.movement-steps", "0", "--steps", "6"]
    for count in (1, 2):
        out = tmp_path / str(count)
        assert start_stage("train-evaluator", "tiny", *exact, "--out", out, processes=count).wait() == 0
        # The last line holds measures, which are not losses.
        *lines, last = (out / "metrics.jsonl").read_text().splitlines(keepends=True)
        assert json.loads(last).keys() == {"step", "best_step", "measures"}
        (out / "metrics.jsonl").write_text("".join(lines))
    check_alike(tmp_path / "1", tmp_path / "2", 1e-4)
