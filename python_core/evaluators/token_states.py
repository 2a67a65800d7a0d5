"""A frozen pretrained text encoder: the states of a caption's tokens, which the reward model's head learns from.

    config.json, model.safetensors, tokenizer.json

Pooled to one vector, such an encoder hardly tells sides and order apart; its states still do.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedModel

from python_core.language_model import read_text_tokenizer

MAX_TOKENS = 96
"""Of a caption; later ones are not read."""
BATCH = 64
MAX_KEPT = 40_000
"""Captions whose states are kept; with 384 numbers in half precision for 16 tokens that is half a gigabyte."""
FILES = ("config.json", "model.safetensors", "tokenizer.json")


class TokenStates:
    """Gives states of tokens, and keeps those that it has given.

    Args:
        encoder: Frozen; any encoder of transformers with `last_hidden_state`.
        tokenizer: Its own.
    """

    def __init__(self, encoder: PreTrainedModel, tokenizer: Tokenizer) -> None:
        encoder.requires_grad_(False)
        self.encoder = encoder.eval()
        self.tokenizer = tokenizer
        tokenizer.no_padding()
        tokenizer.enable_truncation(MAX_TOKENS)
        self._kept: dict[str, NDArray[np.float16]] = {}

    @property
    def width(self) -> int:
        return int(self.encoder.config.hidden_size)

    def states(self, captions: Sequence[str], device: torch.device) -> tuple[Tensor, Tensor]:
        """States of the captions' tokens, padded with zeros [B, L, C], and where there are tokens [B, L]."""
        self._add(dict.fromkeys(captions))
        found = [self._kept[caption] for caption in captions]
        longest = max(map(len, found), default=0)
        states = np.zeros((len(found), longest, self.width), np.float32)
        mask = np.zeros((len(found), longest), np.bool_)
        for row, one in enumerate(found):
            states[row, : len(one)] = one
            mask[row, : len(one)] = True
        if len(self._kept) > MAX_KEPT:
            self._kept.clear()
        return torch.from_numpy(states).to(device), torch.from_numpy(mask).to(device)

    def means(self, captions: Sequence[str]) -> Tensor:
        """Mean state of each caption's tokens, of length 1, on the CPU, [B, C]."""
        states, mask = self.states(captions, next(self.encoder.parameters()).device)
        means = (states * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)
        return torch.nn.functional.normalize(means).cpu()

    @torch.no_grad()
    def _add(self, captions: dict[str, None]) -> None:
        encoded = {caption: self.tokenizer.encode(caption).ids for caption in captions if caption not in self._kept}
        # Those of a length go together, so that nothing is padded, and a caption's states do not depend on the others'.
        by_length: dict[int, list[str]] = {}
        for caption, ids in encoded.items():
            by_length.setdefault(len(ids), []).append(caption)
        device = next(self.encoder.parameters()).device
        for same in by_length.values():
            for first in range(0, len(same), BATCH):
                batch = same[first : first + BATCH]
                ids = torch.tensor([encoded[caption] for caption in batch], device=device)
                states = self.encoder(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
                # Half precision, always, so that a caption's states are the same now and when they are kept.
                self._kept |= dict(zip(batch, states.half().cpu().numpy(), strict=True))


def load_token_states(folder: Path, device: torch.device) -> TokenStates:
    """Read a text encoder, such as `fetch-backbone text-encoder` writes.

    Raises:
        ValueError: The folder lacks one of its files, or one is damaged.
    """
    for name in FILES:
        if not (folder / name).is_file():
            raise ValueError(f"{folder / name}: missing; run python -m python_core fetch-backbone text-encoder first")
    try:
        encoder: nn.Module = AutoModel.from_pretrained(folder, dtype=torch.float32).to(device)
    except (SafetensorError, RuntimeError) as error:
        raise ValueError(
            f"{folder / 'model.safetensors'}: damaged, or of another encoder than config.json says ({error}); copy the "
            "folder again"
        ) from error
    assert isinstance(encoder, PreTrainedModel), "transformers loads its own models"
    return TokenStates(encoder, read_text_tokenizer(folder / "tokenizer.json"))
