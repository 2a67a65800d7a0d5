"""Processes that share the steps of a stage, as `accelerate launch` starts them; one alone has all of each batch.

Each has the whole model, and draws the same batches, of which it takes its share. Together they make of a batch what
one process makes of it, but for rounding and for dropout, which is another one in a share. So a run goes on with any
number of them.
"""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from accelerate import PartialState

LONGEST_WAIT = timedelta(hours=3)
"""For a process that measures or composes while the others wait."""

_Item = TypeVar("_Item")


def open_processes() -> "PartialState":
    """Meet the other processes: which of them this is, and on what device."""
    from accelerate import PartialState

    return PartialState(cpu=not torch.cuda.is_available(), timeout=LONGEST_WAIT)


def close_processes() -> None:
    """Leave the others once all have come to the end; a process that ends without may die of the threads that talk to
    them.
    """
    if torch.distributed.is_initialized():
        open_processes().wait_for_everyone()
        torch.distributed.destroy_process_group()


def num_processes() -> int:
    """That share the stage; 1 before `open_processes`."""
    return torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1


def process_index() -> int:
    """Which of them this is; the first, 0, writes files."""
    return torch.distributed.get_rank() if torch.distributed.is_initialized() else 0


def share_out(num: int, sharers: int) -> list[list[int]]:
    """Places of the items that each sharer takes, as many for each; what does not come out even is taken twice."""
    num_each = -(-num // sharers)
    return [[place % num for place in range(one * num_each, (one + 1) * num_each)] for one in range(sharers)]


def own_share(items: Sequence[_Item]) -> list[_Item]:
    """Those items of a batch that this process takes."""
    return [items[place] for place in share_out(len(items), num_processes())[process_index()]]


def check_divides(name: str, size: int) -> None:
    """For batches whose mean counts, where no item may be taken twice.

    Raises:
        ValueError: The field's size does not come out even.
    """
    if size % num_processes():
        raise ValueError(f"{name} must be a multiple of the {num_processes()} processes that share it, got {size}")


def gathered(own: Tensor, num: int | None = None) -> Tensor:
    """Rows of the shares of all processes, [B, ...] -> [num, ...], with a gradient for the own ones.

    Args:
        own: As many rows in each process.
        num: Items of the batch, whose rows come first; what was taken twice is left out. None keeps all.
    """
    if num_processes() == 1:
        return own
    rows = _Gathered.apply(own)
    assert isinstance(rows, Tensor), "as its forward gives"
    return rows[:num]


class _Gathered(torch.autograd.Function):
    """All processes come to the same loss by all rows, so each knows the gradient of its own without the others."""

    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:
        ctx.size = len(own)
        parts = [torch.empty_like(own) for _ in range(num_processes())]
        torch.distributed.all_gather(parts, own.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        first = process_index() * ctx.size
        # `average_gradients` divides by the number.
        return num_processes() * gradients[0][first : first + ctx.size]


@torch.no_grad()
def summed(own: Tensor) -> Tensor:
    """Sum over processes."""
    if num_processes() == 1:
        return own
    total = own.clone()
    torch.distributed.all_reduce(total)
    return total


def averaged(own: Tensor) -> Tensor:
    """Mean over processes, without gradient."""
    return own if num_processes() == 1 else summed(own) / num_processes()


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Give each process the mean of all processes' gradients."""
    if num_processes() == 1:
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    mean = averaged(torch.cat([gradient.flatten() for gradient in gradients]))
    for gradient, part in zip(gradients, mean.split([gradient.numel() for gradient in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


def take_weights_of_first(model: nn.Module) -> None:
    """Where processes begin alike but for the order in which a GPU adds up."""
    if num_processes() > 1:
        for tensor in model.state_dict().values():
            torch.distributed.broadcast(tensor, 0)


def take_random_state_of_first(device: torch.device) -> None:
    """Go on with the random state that the first process has on the CPU.

    Args:
        device: Of this process.
    """
    if num_processes() > 1:
        state = torch.get_rng_state().to(device)
        torch.distributed.broadcast(state, 0)
        torch.set_rng_state(state.cpu())
