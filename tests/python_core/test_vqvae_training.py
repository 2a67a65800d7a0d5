from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from python_core.clips.prepared import PreparedClip, PreparedClips
from python_core.contract.skeleton import BODY_22
from python_core.features import Normalizer, num_features
from python_core.vqvae import Vqvae, VqvaeShape
from python_core.vqvae_training import TrainingSettings, VqvaeTraining, Windows

WIDTH = num_features(BODY_22)
LENGTHS = {"small": (20, 80), "large": (400,)}
"""Rows of the clips of two sources."""


@pytest.fixture
def prepared() -> PreparedClips:
    """Clips whose features are all the clip's number."""
    clips, rows, first = [], [], 0
    like = PreparedClip(
        clip_id="", split="train", source="", licence="", take="", captions=(), plan=None, first_row=0, num_rows=0
    )
    for source, lengths in LENGTHS.items():
        for length in lengths:
            clips.append(replace(like, clip_id=str(len(clips)), source=source, first_row=first, num_rows=length))
            rows.append(np.full((length, WIDTH), len(clips) - 1, np.float32))
            first += length
    normalizer = Normalizer(np.zeros(WIDTH, np.float32), np.ones(WIDTH, np.float32))
    return PreparedClips(tuple(clips), np.concatenate(rows), normalizer, 20.0)


def test_a_source_comes_with_the_root_of_its_length_and_its_clips_with_theirs(prepared: PreparedClips):
    torch.manual_seed(0)
    windows = Windows(prepared, 16)
    features, mask = windows.read(windows.draw(3_000))
    assert bool(mask.all())
    counts = torch.bincount(features[:, 0, 0].long(), minlength=3) / 3_000
    # Lengths of 100 and 400 come 1 to 2.
    assert counts.tolist() == pytest.approx([1 / 3 * 0.2, 1 / 3 * 0.8, 2 / 3], abs=0.03)


def test_a_window_ends_with_its_clip_and_says_so(prepared: PreparedClips):
    torch.manual_seed(0)
    windows = Windows(prepared, 64)
    features, mask = windows.read(windows.draw(400))
    short = features[:, 0, 0] == 0
    assert short.any()
    assert mask[short].sum(1).unique().tolist() == [20]
    assert not features[mask == 0].any()


def test_after_the_steps_of_the_codes_only_the_decoder_learns(prepared: PreparedClips):
    torch.manual_seed(0)
    assert prepared.rows is not None
    prepared.rows[:] = np.random.default_rng(0).normal(size=prepared.rows.shape)
    shape = VqvaeShape(width=16, code_width=8, level_size=16, num_levels=2)
    settings = TrainingSettings(
        steps=8, batch=4, window_frames=16, warm_up_steps=1, hold_steps=1, code_steps=5, learning_rate=1e-2, bf16=False
    )
    training = VqvaeTraining(Vqvae(shape), settings, prepared)
    training.start()
    kept = []
    for step in range(8):
        training.advance(step)
        kept.append({name: value.clone() for name, value in training.kept().state_dict().items()})
    for name in kept[0]:
        changes = [not torch.equal(before[name], after[name]) for before, after in pairwise(kept)]
        if name.startswith("decoder."):
            assert all(changes), name
        else:
            # Those of the sixth step and on.
            assert not any(changes[4:]), name
            assert any(changes[:4]), name


def test_a_step_in_bfloat16_learns_from_nearly_the_loss_of_one_in_float32(prepared: PreparedClips):
    assert prepared.rows is not None
    prepared.rows[:] = np.random.default_rng(0).normal(size=prepared.rows.shape)
    shape = VqvaeShape(width=16, code_width=8, level_size=16, num_levels=2)
    losses = {}
    for bf16 in (True, False):
        torch.manual_seed(0)
        settings = TrainingSettings(steps=8, batch=4, window_frames=16, warm_up_steps=1, hold_steps=1, bf16=bf16)
        training = VqvaeTraining(Vqvae(shape), settings, prepared)
        training.start()
        before = {name: weights.clone() for name, weights in training.model.named_parameters()}
        _, loss = training.advance(0)
        losses[bf16] = float(loss.detach())
        for name, weights in training.model.named_parameters():
            assert weights.dtype == torch.float32
            assert weights.grad is not None
            assert bool(weights.grad.isfinite().all()), name
            # The encoder is held at first.
            assert torch.equal(weights, before[name]) == name.startswith("encoder."), name
    assert losses[True] != losses[False]
    assert losses[True] == pytest.approx(losses[False], rel=0.01)
