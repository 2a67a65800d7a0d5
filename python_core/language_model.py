"""A causal language model that speaks motion: its text tokenizer, its motion tokens, its weights.

Notable choices:
- motion tokens are ordinary tokens, so nothing strips them from a reply;
- every new row is initialised by us: the mean of the old rows plus a little noise;
- with LoRA, the new rows are trained whole beside the adapter, and embedding and head stay tied.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from python_core.contract.vocabulary import (
    MOTION_CLOSE,
    MOTION_OPEN,
    THINK_CLOSE,
    THINK_OPEN,
    TURN_END,
    TURN_START,
    CodebookSize,
    TokenLayout,
    motion_tokens,
)
from python_core.depth_head import DepthHeadShape
from python_core.motion_model import SpeaksMotion, speak_motion

NEW_ROW_NOISE = 0.02
"""Noise of a new row, as a share of the deviation of the old ones."""


@dataclass(frozen=True, kw_only=True)
class LanguageModelShape:
    """A decoder trained from scratch."""

    text_tokens: int = 3072
    """Size of the text vocabulary, which is learned from the captions and plans."""

    width: int = 256
    """Width of the residual stream."""

    layers: int = 6
    """Number of layers."""

    heads: int = 8
    """Attention heads; each has a key and value head of its own."""

    feed_forward: int = 704
    """Width of the feed-forward layers."""

    max_tokens: int = 768
    """Longest prompt and reply together."""


@dataclass(frozen=True, kw_only=True)
class LoraShape:
    """An adapter on all linear layers of a pretrained model."""

    rank: int = 16
    """Rank of the adapter."""

    dropout: float = 0.05
    """Dropout before the adapter."""


def train_text_tokenizer(texts: Iterable[str], num_tokens: int, codebook: CodebookSize) -> Tokenizer:
    """Learn a byte-level BPE tokenizer from captions and plans; case is dropped. Motion tokens come last."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=num_tokens,
        special_tokens=[TURN_START, TURN_END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    add_motion_tokens(tokenizer, codebook)
    return tokenizer


def add_motion_tokens(tokenizer: Tokenizer, codebook: CodebookSize) -> None:
    """Append the motion tokens, as ordinary ones that no normalizer changes.

    Raises:
        ValueError: The tokenizer has some of them already, so their ids would not be consecutive.
    """
    tokens = motion_tokens(codebook)
    added = tokenizer.add_tokens([AddedToken(token, normalized=False, special=False) for token in tokens])
    if added != len(tokens):
        raise ValueError(f"expected to add {len(tokens)} motion tokens, {len(tokens) - added} were there already")


def read_text_tokenizer(path: Path) -> Tokenizer:
    """Read a `tokenizer.json`.

    Raises:
        ValueError: The file is missing or damaged.
    """
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # The library raises Exception itself.
        raise ValueError(f"{path}: missing, or no tokenizer ({error}); copy it again") from error


def token_layout(tokenizer: Tokenizer, codebook: CodebookSize) -> TokenLayout:
    """Where the tokens of a reply are.

    Raises:
        ValueError: The tokenizer lacks one of them, or those of codes are not in a row.
    """

    def token_id(token: str) -> int:
        found = tokenizer.token_to_id(token)
        if found is None:
            raise ValueError(f"the tokenizer has no token {token}; add motion tokens first")
        return found

    first_code, last_code = (token_id(motion_tokens(codebook)[index]) for index in (-codebook.num_tokens, -1))
    if last_code - first_code != codebook.num_tokens - 1:
        raise ValueError(
            f"expected {codebook.num_tokens} tokens of codes in a row, the tokenizer has them from {first_code} to "
            f"{last_code}; add motion tokens to a tokenizer that has none"
        )
    return TokenLayout(
        think_open=token_id(THINK_OPEN),
        think_close=token_id(THINK_CLOSE),
        motion_open=token_id(MOTION_OPEN),
        motion_close=token_id(MOTION_CLOSE),
        first_code=first_code,
        level_size=codebook.level_size,
        num_levels=codebook.num_levels,
        turn_end=token_id(TURN_END),
        vocabulary_size=tokenizer.get_vocab_size(with_added_tokens=True),
    )


def text_ids(tokenizer: Tokenizer, text: str) -> list[int]:
    """Token ids of plain text, without anything around it."""
    return tokenizer.encode(text, add_special_tokens=False).ids


def new_language_model(shape: LanguageModelShape, depth: DepthHeadShape, layout: TokenLayout) -> SpeaksMotion:
    """A Llama-style decoder with random weights and tied embeddings, which speaks motion."""
    config = LlamaConfig(
        vocab_size=layout.vocabulary_size,
        hidden_size=shape.width,
        intermediate_size=shape.feed_forward,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        max_position_embeddings=shape.max_tokens,
        tie_word_embeddings=True,
        eos_token_id=layout.turn_end,
        pad_token_id=layout.turn_end,
    )
    return speak_motion(LlamaForCausalLM(config), layout, depth)


def sizes_of(model: SpeaksMotion, layout: TokenLayout) -> tuple[LanguageModelShape, DepthHeadShape]:
    """Sizes with which `new_language_model` makes one like it. What a backbone's config does not say is the default."""
    config = model.config.to_dict()
    names = {
        "width": "hidden_size",
        "layers": "num_hidden_layers",
        "heads": "num_attention_heads",
        "feed_forward": "intermediate_size",
        "max_tokens": "max_position_embeddings",
    }
    known = {field: config[name] for field, name in names.items() if name in config}
    depth = config["motion_codes"]["depth_head"] or {}
    return LanguageModelShape(text_tokens=layout.think_open, **known), DepthHeadShape(**depth)


def load_backbone(name: str) -> tuple[PreTrainedModel, Tokenizer]:
    """A pretrained causal language model and its tokenizer, from a folder in Hugging Face's layout or from its hub.

    Raises:
        ValueError: A folder without tokenizer.json, a damaged one, damaged weights, or a tokenizer without the markers
            of turns.
        OSError: Neither a folder nor a name that the hub knows.
    """
    file = Path(name) / "tokenizer.json"
    if Path(name).is_dir() and not file.is_file():
        raise ValueError(f"{name}: no tokenizer.json; get a backbone with python -m python_core fetch-backbone")
    try:
        model = AutoModelForCausalLM.from_pretrained(name, dtype=torch.float32)
    except (SafetensorError, RuntimeError) as error:
        raise ValueError(
            f"{name}: weights are damaged, or of another model than config.json says ({error}); get it again with "
            "python -m python_core fetch-backbone, or from where it came"
        ) from error
    tokenizer = read_text_tokenizer(file) if file.is_file() else Tokenizer.from_pretrained(name)
    for token in (TURN_START, TURN_END):
        if tokenizer.token_to_id(token) is None:
            raise ValueError(
                f"{name}: its tokenizer has no {token}; take a backbone of the ChatML form, such as Qwen2.5"
            )
    return model, tokenizer


@torch.no_grad()
def add_motion_rows(model: PreTrainedModel, tokenizer: Tokenizer, codebook: CodebookSize) -> None:
    """Give the model rows for the motion tokens, all of them initialised here, also those that fall on padding rows
    that the pretrained model already has.
    """
    layout = token_layout(tokenizer, codebook)
    first, end = layout.think_open, layout.vocabulary_size
    if end > _rows(model.get_input_embeddings()).shape[0]:
        model.resize_token_embeddings(end, mean_resizing=False)
    embeddings, head = _rows(model.get_input_embeddings()), _rows(model.get_output_embeddings())
    for rows in [embeddings] if head is embeddings else [embeddings, head]:
        old = rows[:first]
        noise = torch.randn(end - first, rows.shape[1], dtype=rows.dtype)
        rows[first:end] = old.mean(0) + NEW_ROW_NOISE * old.std(0) * noise


def _rows(layer: nn.Module | None) -> Tensor:
    """The weights of an embedding or a head, a row a token, [V, width]."""
    assert layer is not None
    return layer.get_parameter("weight")


def with_lora(model: PreTrainedModel, shape: LoraShape, new_rows: Sequence[int]) -> nn.Module:
    """Freeze the model, put an adapter on its linear layers and train the new embedding rows whole.

    Raises:
        ValueError: Embedding and head are not one, so the head's new rows would stay as they are.
    """
    from peft import LoraConfig, get_peft_model

    if _rows(model.get_input_embeddings()) is not _rows(model.get_output_embeddings()):
        raise ValueError(
            "the backbone's head is not its embedding, so an adapter cannot teach it codes; leave lora out"
        )

    # A depth head begins from nothing, so it is trained whole.
    whole: dict[str, Any] = {}
    if hasattr(model, "depth_head"):
        whole = {"modules_to_save": ["depth_head"], "exclude_modules": r"(.*\.)?depth_head\..*"}
    config = LoraConfig(
        r=shape.rank,
        lora_alpha=2 * shape.rank,
        lora_dropout=shape.dropout,
        target_modules="all-linear",
        trainable_token_indices={"embed_tokens": list(new_rows)},
        task_type="CAUSAL_LM",
        **whole,
    )
    adapted = get_peft_model(model, config)
    # With a name PEFT would find that the vocabulary has grown, and write the whole embedding with every checkpoint, of
    # which nothing but the new rows is trained.
    adapted.peft_config["default"].base_model_name_or_path = ""
    return adapted


def merge_lora(model: nn.Module) -> PreTrainedModel:
    """The plain model with the adapter's weights in it; embedding and head are still one tensor if they were."""
    from peft import PeftModel

    assert isinstance(model, PeftModel)
    return model.merge_and_unload()  # type: ignore[operator]  # PeftModel forwards it to its tuner
