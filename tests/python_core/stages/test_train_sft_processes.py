"""Runs of `train-sft` as processes: several that share one run, and ones that are killed."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch

from python_core.checkpoint import load_language_model
from tests.python_core.stages.conftest import start_stage


def start(folders: list[Path], out: Path, *fields: str, processes: int = 1) -> subprocess.Popen[bytes]:
    """`train-sft tiny` on prepared clips, tokenizer and plans."""
    prepared, vqvae, plans = folders
    inputs = ("--prepared", prepared, "--vqvae", vqvae, "--plans", plans)
    return start_stage("train-sft", "tiny", *inputs, "--out", out, *fields, processes=processes)


@pytest.fixture(scope="module")
def folders(prepared_folder: Path, tiny_vqvae: Path, tiny_plans: Path) -> list[Path]:
    return [prepared_folder, tiny_vqvae, tiny_plans]


def losses(out: Path, name: str = "loss") -> dict[int, float]:
    """The loss that each step logged, or another number."""
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line[name] for line in lines if name in line}


def weights(out: Path) -> dict[str, torch.Tensor]:
    return load_language_model(out).model.state_dict()


@pytest.mark.slow
def test_two_processes_get_the_losses_and_the_weights_of_one(folders: list[Path], tmp_path: Path):
    # Held-out clips as well, which the processes share.
    fields = ("--save-every", "2", "--vocabulary-steps", "1", "--held-out-share", "0.4")
    # They stop half-way and go on from what they saved.
    for steps in ("2", "4"):
        assert start(folders, tmp_path / "one", *fields, "--steps", steps, "--accumulate", "2").wait() == 0
        assert start(folders, tmp_path / "two", *fields, "--steps", steps, processes=2).wait() == 0
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert list(one) == list(two) == [1, 2, 3, 4]
    assert one == pytest.approx(two, abs=1e-4)
    # Fewer held-out clips than a batch has samples.
    kept = "eval_held_out_accuracy"
    assert losses(tmp_path / "one", kept) == pytest.approx(losses(tmp_path / "two", kept), abs=1e-6)
    wanted, found = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert wanted.keys() == found.keys()
    for name, value in wanted.items():
        assert torch.allclose(found[name], value, atol=1e-4), name


@pytest.mark.slow
def test_a_run_that_is_killed_at_any_moment_ends_with_the_same_losses_and_weights(folders: list[Path], tmp_path: Path):
    fields = ("--steps", "12", "--save-every", "3", "--vocabulary-steps", "2", "--held-out-share", "0.4")
    assert start(folders, tmp_path / "straight", *fields).wait() == 0
    metrics = tmp_path / "killed" / "metrics.jsonl"
    for last_step in (3, 6, 9):
        process = start(folders, tmp_path / "killed", *fields)
        while process.poll() is None and not (metrics.is_file() and last_step in losses(tmp_path / "killed")):
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    # As if the last kill had come while a checkpoint was written.
    (tmp_path / "killed" / "training" / "checkpoint-11").mkdir()
    assert start(folders, tmp_path / "killed", *fields).wait() == 0
    assert losses(tmp_path / "killed") == losses(tmp_path / "straight")
    wanted, found = weights(tmp_path / "straight"), weights(tmp_path / "killed")
    for name, value in wanted.items():
        assert torch.equal(found[name], value), name
