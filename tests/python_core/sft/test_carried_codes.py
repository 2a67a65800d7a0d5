"""A model carried over to a codebook whose entries are the same in another order says the same in that order."""

from pathlib import Path

import pytest
import torch

from python_core.checkpoint import load_language_model
from python_core.clips.prepared import read_prepared
from python_core.motion_tokenizer import MotionTokenizer
from python_core.sft.carried_codes import carry_codes_over


@pytest.fixture
def clips(prepared_folder: Path) -> list:
    prepared = read_prepared(prepared_folder)
    return [prepared.features(clip) for clip in prepared.split("train")]


def test_rows_go_to_the_entries_that_mean_the_same(tiny_checkpoint: Path, tiny_vqvae: Path, clips: list):
    old, new = MotionTokenizer.load(tiny_vqvae), MotionTokenizer.load(tiny_vqvae)
    torch.manual_seed(0)
    order = torch.randperm(old.model.shape.level_size)
    for level in new.model.levels:
        level.get_buffer("vectors").copy_(level.get_buffer("vectors")[order])
    model, before = (load_language_model(tiny_checkpoint).model for _ in range(2))
    carry_codes_over(model, old, new, clips)
    first, size = before.config.motion_codes["first_code"], before.codebook.level_size
    weights = [one.get_input_embeddings().get_parameter("weight") for one in (before, model)]
    assert torch.equal(weights[0][:first], weights[1][:first]), "words stay"
    of_codes = [weight[first : first + size] for weight in weights]
    used = torch.cat(
        [old.model.quantize(old.model.encoder(inputs)[0])[2][0] for inputs in _inputs(old, clips)]
    ).unique()
    assert 3 < len(used) <= size
    places = torch.argsort(order)[used]
    spread = of_codes[0].std()
    assert (of_codes[1][places] - of_codes[0][used]).abs().max() < 0.1 * spread
    heads = [one.depth_head.heads[0] for one in (before, model)]
    assert not torch.equal(heads[0], heads[1])
    # What no clip has is the mean of what clips have.
    unseen = torch.ones(size, dtype=torch.bool)
    unseen[places] = False
    if unseen.any():
        assert (of_codes[1][unseen] - of_codes[1][unseen][0]).abs().max() < 1e-5


def test_codebooks_of_other_size_are_refused(tiny_checkpoint: Path, tiny_vqvae: Path, clips: list):
    old, new = MotionTokenizer.load(tiny_vqvae), MotionTokenizer.load(tiny_vqvae)
    object.__setattr__(new.model.shape, "level_size", old.model.shape.level_size // 2)
    with pytest.raises(ValueError, match="expected those of the new motion tokenizer"):
        carry_codes_over(load_language_model(tiny_checkpoint).model, old, new, clips)


def _inputs(tokenizer: MotionTokenizer, clips: list) -> list[torch.Tensor]:
    whole = (rows[: len(rows) // 4 * 4] for rows in clips)
    return [torch.from_numpy(tokenizer.normalizer.normalize(rows)).float()[None] for rows in whole]
