"""The key-value caches of all rows of a language model: one buffer, written in place by the graph."""

import logging
import mmap
import sys

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

logger = logging.getLogger(__name__)

FIRST_ROWS, FIRST_POSITIONS = 8, 512
"""Room that a cache begins with; it doubles as more is needed."""


class KvCache:
    """Keys and values, [2 * layers, rows, kv heads, positions, head dim].

    Memory that no row has used yet is promised by the system and not taken. Rows that follow each other lie in one
    piece for each layer, so a batch of the first rows is bound without a copy.

    Args:
        names: The graph's names of the past, two a layer.
        num_kv_heads: Of the model.
        head_dim: Of the model.
        dtype: Of the graph's caches.
        device: Where the provider keeps its tensors.
        max_rows: Rows at most.
        max_positions: Positions of a row at most.
    """

    def __init__(
        self,
        names: list[str],
        num_kv_heads: int,
        head_dim: int,
        dtype: type[np.generic],
        device: str,
        max_rows: int,
        max_positions: int,
    ) -> None:
        self._names, self._heads, self._head_dim = names, num_kv_heads, head_dim
        self._dtype, self._device = np.dtype(dtype), device
        self._max_rows, self._max_positions = max_rows, max_positions
        self.num_rows = self.num_positions = 0
        self._pages: mmap.mmap | None = None
        self._gives_back = sys.platform == "linux"
        self._data: NDArray[np.generic] | None = None
        self._on_device: ort.OrtValue | None = None
        if device == "cpu":
            self.reserve(min(FIRST_ROWS, max_rows), min(FIRST_POSITIONS, max_positions), [])
        else:
            # Rows of a device are not moved: what it reserves, it keeps.
            self.num_rows, self.num_positions = max_rows, max_positions
            # Zeros: a mask that is added leaves what was not finite as it is.
            self._on_device = ort.OrtValue.ortvalue_from_numpy(np.zeros(self._shape(), self._dtype), device, 0)

    @property
    def moves_rows(self) -> bool:
        """Whether rows can be copied; on a device they stay where they are."""
        return self._data is not None

    def reserve(self, num_rows: int, num_positions: int, lengths: list[int]) -> bool:
        """Make room, and say whether everything has moved.

        Args:
            num_rows: Rows that are needed.
            num_positions: Positions that the longest of them needs.
            lengths: Positions that the rows hold now, in order.
        """
        if num_rows <= self.num_rows and num_positions <= self.num_positions:
            return False
        old = self._data
        self.num_rows = _doubled(self.num_rows, num_rows, self._max_rows)
        self.num_positions = _doubled(self.num_positions, num_positions, self._max_positions)
        shape = self._shape()
        self._pages = mmap.mmap(-1, int(np.prod(shape)) * self._dtype.itemsize)
        self._data = np.frombuffer(self._pages, self._dtype).reshape(shape)
        if old is not None:
            for row, length in enumerate(lengths[: old.shape[1]]):
                self._data[:, row, :, :length] = old[:, row, :, :length]
        return True

    def give_back(self) -> None:
        """Return the memory of all rows to the system, if it takes it; none of them is in use."""
        if self._pages is not None and self._gives_back:
            try:
                self._pages.madvise(mmap.MADV_REMOVE)
            except OSError as error:
                self._gives_back = False
                logger.warning("the system does not take back memory of keys and values (%s); they keep it", error)

    def bind(self, binding: ort.IOBinding, first: int, num_rows: int) -> None:
        """Give rows to a run as its past and its present."""
        shape = [num_rows, self._heads, self.num_positions, self._head_dim]
        base = self._data.ctypes.data if self._data is not None else self._device_pointer()
        row_bytes = self._heads * self.num_positions * self._head_dim * self._dtype.itemsize
        for layer, name in enumerate(self._names):
            pointer = base + (layer * self.num_rows + first) * row_bytes
            binding.bind_input(name, self._device, 0, self._dtype, shape, pointer)
            present = name.replace("past_key_values", "present")
            binding.bind_output(present, self._device, 0, self._dtype, shape, pointer)

    def move(self, source: int, target: int, num_positions: int) -> None:
        """Copy the positions of one row over another."""
        assert self._data is not None
        self._data[:, target, :, :num_positions] = self._data[:, source, :, :num_positions]

    def read(self, row: int, num_positions: int) -> NDArray[np.generic]:
        """A copy of a row's first positions, [2 * layers, kv heads, positions, head dim]."""
        assert self._data is not None
        return self._data[:, row, :, :num_positions].copy()

    def write(self, row: int, kept: NDArray[np.generic]) -> None:
        """Put back what `read` gave."""
        assert self._data is not None
        self._data[:, row, :, : kept.shape[2]] = kept

    def _shape(self) -> tuple[int, ...]:
        return (len(self._names), self.num_rows, self._heads, self.num_positions, self._head_dim)

    def _device_pointer(self) -> int:
        assert self._on_device is not None
        return self._on_device.data_ptr()


def _doubled(size: int, needed: int, most: int) -> int:
    size = max(size, 1)
    while size < needed:
        size *= 2
    return min(size, most)
