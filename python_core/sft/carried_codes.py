"""What a language model knows of the codes of one motion tokenizer, carried over to those of another.

Both tokenizers read the same clips. Where the new one chooses an entry, the old one chose some of its own; what the
model has for these, on average, is what it begins with for the new one. So it need not learn all codes anew.
"""

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from python_core.motion_model import SpeaksMotion
from python_core.motion_tokenizer import MotionTokenizer
from python_core.vqvae import FRAMES_PER_CODE

UNSEEN = 1e-3
"""Of a choice, shared by the old entries as often as each is chosen: with what an entry begins that no clip has."""


@torch.no_grad()
def carry_codes_over(
    model: SpeaksMotion, old: MotionTokenizer, new: MotionTokenizer, clips: Iterable[NDArray[np.float32]]
) -> None:
    """Change a model's rows for the entries of its codebook into rows for another's, in place.

    Args:
        model: Speaks the codes of `old`.
        old: Its motion tokenizer.
        new: Whose codes it is to speak.
        clips: Features that both read, [F, D] each.

    Raises:
        ValueError: The codebooks are of different size.
    """
    codebook, wanted = old.model.shape.codebook, new.model.shape.codebook
    if codebook != wanted:
        raise ValueError(
            f"the model speaks codes of {codebook.num_levels} levels of {codebook.level_size} entries, expected those "
            f"of the new motion tokenizer, {wanted.num_levels} of {wanted.level_size}; begin with a backbone"
        )
    together = torch.zeros(codebook.num_levels, codebook.level_size, codebook.level_size)
    for features in clips:
        if len(features) >= FRAMES_PER_CODE:
            chosen, spoken = _entries(new, features), _entries(old, features)
            for level, counts in enumerate(together):
                counts.index_put_((chosen[level], spoken[level]), torch.ones(len(chosen[level])), accumulate=True)
    overall = together.sum(dim=1, keepdim=True)
    together += UNSEEN * overall / overall.sum(dim=-1, keepdim=True).clamp(min=1)
    shares = together / together.sum(dim=-1, keepdim=True)
    for level, rows in _rows(model):
        rows.copy_(shares[level] @ rows)


def _entries(tokenizer: MotionTokenizer, features: NDArray[np.float32]) -> list[Tensor]:
    """Nearest entries of whole codes, for each level, [T]."""
    whole = features[: len(features) // FRAMES_PER_CODE * FRAMES_PER_CODE]
    inputs = torch.from_numpy(tokenizer.normalizer.normalize(whole)).float()
    return tokenizer.model.quantize(tokenizer.model.encoder(inputs[None])[0])[2]


def _rows(model: SpeaksMotion) -> Iterator[tuple[int, Tensor]]:
    """All that a model has of entries one by one: level, and rows in the entries' order, [level size, width]."""
    codebook, first = model.codebook, model.config.motion_codes["first_code"]
    layers = [layer for layer in (model.get_input_embeddings(), model.get_output_embeddings()) if layer is not None]
    # Embedding and head may be one.
    tables = {id(weight): weight for weight in (layer.get_parameter("weight") for layer in layers)}
    for table in tables.values():
        yield from enumerate(table[first : first + codebook.num_tokens].split(codebook.level_size))
    if codebook.num_levels > 1:
        yield from enumerate(model.depth_head.entries.weight.split(codebook.level_size))
        yield from enumerate(model.depth_head.heads, start=1)
