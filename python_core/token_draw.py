"""One token of many, by a number from outside."""

import torch
from torch import Tensor


def draw(logits: Tensor, chances: Tensor, top_p: float = 1.0) -> Tensor:
    """The token at which the probabilities, added up, pass a number between 0 and 1, [B, V] and [B] -> [B].

    With `top_p` below 1 only the likeliest tokens that have so much probability together are left.
    """
    probabilities = logits.softmax(dim=-1)
    if top_p < 1:
        likeliest, order = probabilities.sort(dim=-1, descending=True)
        likeliest[likeliest.cumsum(dim=-1) - likeliest >= top_p] = 0
        probabilities = torch.zeros_like(probabilities).scatter_(-1, order, likeliest)
    sums = probabilities.cumsum(dim=-1)
    wanted = chances[:, None] * sums[:, -1:]
    found = torch.searchsorted(sums, wanted, right=True).clamp_(max=logits.shape[1] - 1)
    impossible = probabilities.gather(-1, found) == 0
    if impossible.any():
        # Rounding has led to a token that is none of the choice.
        found = torch.where(impossible, probabilities.argmax(dim=-1, keepdim=True), found)
    return found[:, 0]
