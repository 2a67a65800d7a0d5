import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from python_core.checkpoint import MOTION_TOKENIZER, drop_incomplete, load_language_model, start_run


def test_a_motion_tokenizer_of_another_codebook_is_refused(tiny_checkpoint: Path, tmp_path: Path):
    folder = shutil.copytree(tiny_checkpoint, tmp_path / "sft")
    config = folder / MOTION_TOKENIZER / "checkpoint.json"
    fields = json.loads(config.read_text())
    assert fields["shape"]["num_levels"] == 2
    fields["shape"]["num_levels"] = 3
    config.write_text(json.dumps(fields))
    with pytest.raises(ValueError, match="speaks 2 levels of 32 entries, the motion tokenizer beside it has 3 of 32"):
        load_language_model(folder)


@dataclass(frozen=True)
class Config:
    steps: int
    seed: int


def test_a_run_knows_each_of_its_inputs_also_if_two_files_have_one_name(tmp_path: Path):
    inputs = {name: tmp_path / name / "model.safetensors" for name in ("judge", "reward")}
    for path in inputs.values():
        path.parent.mkdir()
        path.write_text("weights")
    start_run(tmp_path / "run", Config(steps=1, seed=1), inputs)
    start_run(tmp_path / "run", Config(steps=9, seed=1), inputs)
    for name, path in inputs.items():
        path.write_text("other weights")
        with pytest.raises(ValueError, match=f"holds a run with another {name}; choose another --out"):
            start_run(tmp_path / "run", Config(steps=1, seed=1), inputs)
        path.write_text("weights")


def test_a_checkpoint_that_was_being_written_is_dropped_and_one_of_other_processes_refused(tmp_path: Path):
    for step in (2, 4):
        (tmp_path / f"checkpoint-{step}").mkdir()
    (tmp_path / "checkpoint-2" / "trainer_state.json").write_text("{}")
    (tmp_path / "checkpoint-4" / "trainer_state.json").write_text('{"step"')
    for rank in range(2):
        (tmp_path / "checkpoint-2" / f"rng_state_{rank}.pth").touch()
    drop_incomplete(tmp_path, 2)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-2"]
    with pytest.raises(ValueError, match="of a run on 2 processes, this one has 1"):
        drop_incomplete(tmp_path, 1)
