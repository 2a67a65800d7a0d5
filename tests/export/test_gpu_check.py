"""benchmarks/gpu_check.py on a machine without a GPU."""

import json
import subprocess
import sys
from pathlib import Path

import onnxruntime as ort
import pytest

ROOT = Path(__file__).parents[2]
HAS_CUDA = "CUDAExecutionProvider" in ort.get_available_providers()


def check(checkpoint: Path, out: Path, *arguments: str) -> tuple[int, dict]:
    command = [sys.executable, ROOT / "benchmarks" / "gpu_check.py", checkpoint, out, *arguments]
    finished = subprocess.run(command, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert out.is_file(), finished.stderr
    return finished.returncode, json.loads(out.read_text())


@pytest.mark.skipif(HAS_CUDA, reason="needs a machine without CUDA")
def test_what_does_not_load_is_written_down_and_the_rest_goes_on(tiny_checkpoint: Path, tmp_path: Path):
    status, found = check(tiny_checkpoint, tmp_path / "check.json")
    assert status == 1
    assert [(step["provider"], step["precision"]) for step in found["steps"]] == [
        ("cuda", "fp16"),
        ("cuda", "int8"),
        ("cuda", "int4"),
        ("tensorrt", "fp32"),
        ("tensorrt", "fp16"),
    ]
    for step in found["steps"]:
        assert "parity is measured on" in step["error"]
        assert "pip install" in step["error"]
    assert found["providers"]["cpu"] == "loads"
    assert found["machine"]["gpu"].startswith("none (")
    assert found["seconds"] < 60


def test_when_the_time_is_over_steps_are_stopped_and_left_out(tiny_checkpoint: Path, tmp_path: Path):
    status, found = check(tiny_checkpoint, tmp_path / "check.json", "--budget-s", "1")
    assert status == 1
    assert [step["error"].split(":")[0] for step in found["steps"]] == ["stopped", *["left out"] * 4]


@pytest.mark.slow
def test_the_same_steps_run_on_the_cpu(tiny_checkpoint: Path, tmp_path: Path):
    status, found = check(tiny_checkpoint, tmp_path / "check.json", "--provider", "cpu")
    assert status == 0
    (step,) = found["steps"]
    assert step["parity"]["language_model"]["num_tokens"] >= 500
    assert set(step["speed"]) == {"1", "16"}
    assert step["speed"]["16"]["positions_per_s"] > step["speed"]["1"]["positions_per_s"] > 0
    assert set(step["seconds"]) == {
        "export",
        "open_language_model",
        "open_depth_head",
        "open_motion_decoder",
        "measure 1",
        "measure 16",
    }
