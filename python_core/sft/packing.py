"""Samples side by side in rows of a batch.

The positions of each sample count from 0, by which the model knows where one ends; none sees another. What fills up a
row is one more sample, which is not scored.
"""

from collections.abc import Sequence
from typing import Any

import torch

from python_core.motion_model import IGNORED
from python_core.sft.samples import Sample


def pack(samples: Sequence[Sample], num_rows: int, filler: int) -> dict[str, Any]:
    """What a language model trains on.

    Args:
        samples: Any number, N.
        num_rows: Rows to put them into, at most; N keeps them apart.
        filler: Token that fills up the rows.

    Returns:
        `input_ids`, `labels`, `weights`, `read_ids` and `position_ids`, each [R, L], and no `use_cache`, with which
        models take no notice of where positions begin anew.
    """
    rows: list[list[Sample]] = [[] for _ in range(min(num_rows, len(samples)))]
    # The longest first, each into the row that has most room.
    for sample in sorted(samples, key=lambda one: -len(one.input_ids)):
        min(rows, key=_length).append(sample)
    longest = max(map(_length, rows))
    shape = (len(rows), longest)
    input_ids, read_ids, labels = torch.full(shape, filler), torch.full(shape, filler), torch.full(shape, IGNORED)
    weights = torch.ones(shape)
    position_ids = torch.zeros(shape, dtype=torch.long)
    for number, row in enumerate(rows):
        lengths = [len(sample.input_ids) for sample in row]
        end = sum(lengths)
        input_ids[number, :end] = torch.tensor([token for sample in row for token in sample.input_ids])
        read_ids[number, :end] = torch.tensor(
            [token for sample in row for token in sample.read_ids or sample.input_ids]
        )
        labels[number, :end] = torch.tensor([label for sample in row for label in sample.labels])
        counts = [sample.weights or [1.0] * len(sample.labels) for sample in row]
        weights[number, :end] = torch.tensor([weight for sample in counts for weight in sample])
        parts = [*lengths, longest - end]
        position_ids[number] = torch.cat([torch.arange(length) for length in parts])
    tokens = {"input_ids": input_ids, "read_ids": read_ids, "labels": labels, "weights": weights}
    return tokens | {"position_ids": position_ids, "use_cache": False}


def _length(row: Sequence[Sample]) -> int:
    return sum(len(sample.input_ids) for sample in row)
