"""Whether bfloat16 is worth it: CPUs without units for it compute it several times slower than float32."""

import logging
import time

import torch

logger = logging.getLogger(__name__)

SIDE = 512
"""Of the matrices that are multiplied to find out; a few milliseconds."""
TOO_SLOW = 1.5


def warn_where_slow(bf16: bool) -> None:
    """Say how to train faster if bfloat16 was asked for and this CPU is slow at it. With a GPU nothing is said."""
    if not bf16 or torch.cuda.is_available():
        return
    slower = _seconds(torch.bfloat16) / _seconds(torch.float32)
    if slower > TOO_SLOW:
        logger.warning("bfloat16 is %.0f times slower than float32 on this CPU; set bf16 to False (--no-bf16)", slower)


def _seconds(dtype: torch.dtype) -> float:
    """The shortest of some products; the first one also sets things up."""
    left, right = torch.ones(SIDE, SIDE, dtype=dtype), torch.ones(SIDE, SIDE, dtype=dtype)
    times = []
    for _ in range(6):
        started = time.perf_counter()
        torch.matmul(left, right)
        times.append(time.perf_counter() - started)
    return min(times)
