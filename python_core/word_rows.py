"""Embedding rows of words that a pretrained text encoder knows, for a language model from scratch.

A small corpus says few words, and rows that it teaches say nothing about the others: "stroll" is noise to a model that
met "walk". Here a row has two parts. Its meaning is where the encoder puts the word, in the first principal components
of all words, so words that mean the same lie close together, whether they were met or not. Its name is noise, by which
words that mean nearly the same, such as left and right, are told apart and taken over into plans. Fine-tuning
keeps rows as they are: trained ones would leave the others behind.
"""

import torch
from tokenizers import Tokenizer
from torch import Tensor

from python_core.evaluators.token_states import TokenStates

MEANING_WIDTH = 2 / 3
"""Share of a row's numbers that are its meaning."""
MEANING_SHARE = 0.6
"""Share of a row's squared length that is its meaning."""
BATCH = 512
"""Words that the encoder reads at once."""


def word_rows(tokenizer: Tokenizer, num_rows: int, encoder: TokenStates, width: int, seed: int) -> Tensor:
    """The rows of a tokenizer's first tokens, [num_rows, width], each of length 1. A token that is no text, such as
    half a letter, has a name only.

    Args:
        tokenizer: Of the language model.
        num_rows: Tokens that are text; they come first.
        encoder: Who knows words.
        width: Of the language model.
        seed: Of the names.
    """
    texts = [tokenizer.decode([token], skip_special_tokens=True).strip() for token in range(num_rows)]
    known = torch.tensor([any(map(str.isalnum, text)) and "\ufffd" not in text for text in texts])
    words = [text for text, is_known in zip(texts, known.tolist(), strict=True) if is_known]
    means = torch.cat([encoder.means(words[first : first + BATCH]) for first in range(0, len(words), BATCH)])
    centred = means - means.mean(dim=0)
    # In the order of their variances, the largest first.
    axes = torch.linalg.eigh(centred.T @ centred).eigenvectors.flip(1)
    num_meanings = min(round(MEANING_WIDTH * width), axes.shape[1])
    generator = torch.Generator().manual_seed(seed)
    names = torch.nn.functional.normalize(torch.randn(num_rows, width - num_meanings, generator=generator))
    rows = torch.zeros(num_rows, width)
    rows[:, num_meanings:] = names
    rows[known, num_meanings:] *= (1 - MEANING_SHARE) ** 0.5
    meanings = torch.nn.functional.normalize(centred @ axes[:, :num_meanings])
    rows[known, :num_meanings] = meanings * MEANING_SHARE**0.5
    return rows
