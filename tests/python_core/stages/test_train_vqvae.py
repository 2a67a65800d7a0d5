import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from python_core.checkpoint import load_vqvae
from python_core.clips.prepared import read_prepared
from python_core.reconstruction import Reconstruction
from python_core.stages import train_vqvae
from python_core.stages.train_vqvae import PRESETS


def test_training_lowers_the_loss_and_the_checkpoint_reads_back(prepared_folder: Path, tiny_vqvae: Path):
    lines = [json.loads(line) for line in (tiny_vqvae / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["position"] < lines[0]["position"]
    measures = json.loads((tiny_vqvae / "measures.json").read_text())
    assert measures["split"] == "val"
    assert measures["measures"]["all"]["mpjpe_mm"] < 400
    model, normalizer, frame_rate_hz = load_vqvae(tiny_vqvae)
    prepared = read_prepared(prepared_folder)
    assert frame_rate_hz == 20
    assert (normalizer.mean == prepared.normalizer.mean).all()
    assert model.shape == PRESETS["tiny"].shape


def test_a_perfect_reconstruction_loses_nothing(prepared_folder: Path):
    prepared = read_prepared(prepared_folder)
    rows = torch.from_numpy(prepared.normalizer.normalize(prepared.features(prepared.clips[0])))[None, :40]
    losses = Reconstruction(prepared.normalizer, torch.device("cpu")).losses(
        rows, rows.clone(), torch.ones(1, 40), torch.tensor(0.0)
    )
    assert losses.features.item() == 0
    for part in (losses.position, losses.root, losses.velocity, losses.foot):
        # The square root is kept from 0, where it has no gradient.
        assert part.item() <= 1.1e-4


def test_padding_is_not_counted(prepared_folder: Path):
    prepared = read_prepared(prepared_folder)
    rows = torch.from_numpy(prepared.normalizer.normalize(prepared.features(prepared.clips[0])))[None, :40]
    mask = torch.ones(1, 40)
    mask[:, 20:] = 0
    noisy = rows.clone()
    noisy[:, 20:] += 5
    losses = Reconstruction(prepared.normalizer, torch.device("cpu")).losses(rows, noisy, mask, torch.tensor(0.0))
    assert losses.features.item() == 0
    assert losses.position.item() <= 1.1e-4


def test_losses_are_in_metres(prepared_folder: Path):
    prepared = read_prepared(prepared_folder)
    mean, std = (torch.from_numpy(value) for value in (prepared.normalizer.mean, prepared.normalizer.std))
    rows = torch.from_numpy(np.array(prepared.features(prepared.clips[0])))[None, :40]
    shifted = rows.clone()
    # A body 10 cm higher: root and all joints.
    shifted[..., 3] += 0.1
    shifted[..., 5:67:3] += 0.1
    losses = Reconstruction(prepared.normalizer, torch.device("cpu")).losses(
        (rows - mean) / std, (shifted - mean) / std, torch.ones(1, 40), torch.tensor(0.0)
    )
    assert losses.root.item() == pytest.approx(0.1, abs=1e-5)
    assert losses.position.item() == pytest.approx(0, abs=2e-4)
    assert losses.velocity.item() == pytest.approx(0, abs=2e-4)


def test_a_run_of_something_else_is_not_gone_on_with(prepared_folder: Path, tmp_path: Path):
    config = replace(PRESETS["tiny"], prepared=prepared_folder, out=tmp_path / "run", steps=1, save_every=1)
    train_vqvae.run(config)
    train_vqvae.run(replace(config, steps=2))
    with pytest.raises(
        ValueError, match="holds a run with another learning_rate, seed; choose another folder, or remove this one"
    ):
        train_vqvae.run(replace(config, learning_rate=1.0, seed=3))
    other = shutil.copytree(prepared_folder, tmp_path / "prepared")
    lines = (other / "clips.jsonl").read_text().splitlines()
    (other / "clips.jsonl").write_text("\n".join([lines[0].replace("CC0-1.0", "CC0"), *lines[1:]]) + "\n")
    with pytest.raises(ValueError, match="holds a run with another clips; choose"):
        train_vqvae.run(replace(config, prepared=other))
    (tmp_path / "run" / "training.pt").write_bytes(b"half a file")
    with pytest.raises(ValueError, match=r"training\.pt: damaged"):
        train_vqvae.run(config)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"save_every": 0}, "save_every must be at least 1, got 0"),
        ({"window_frames": 30}, "window_frames must be a multiple of the 4 frames of a code, got 30"),
        ({"ema": 1.0}, "ema goes from 0 to below 1, got 1.0"),
    ],
)
def test_a_config_that_makes_no_sense_is_refused(fields: dict[str, float], message: str):
    with pytest.raises(ValueError, match=message):
        replace(PRESETS["tiny"], **fields)
