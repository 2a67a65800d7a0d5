"""Reads numbers from .npy and .npz files that may be damaged.

A header is believed only as far as the file is long, so that one which promises a huge array costs no memory. Nothing
in a file is run: arrays of objects are refused.
"""

import math
import re
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile

import numpy as np
from numpy.typing import NDArray

from python_core.clips.clip import ClipError

MAX_ARRAY_BYTES = 1 << 30
"""No array inside an archive is larger; the longest recordings of AMASS take a tenth of it."""

_MAGIC = b"\x93NUMPY"
_NUMBERS = re.compile(r"[<>|=]?(?:f[248]|[iu][1248])")
_WORDS = re.compile(r"[<>|=]?[SU]\d{1,3}")
# `5L` is how Python 2 wrote a long number.
_FIELDS = (
    re.compile(r"""['"]descr['"]\s*:\s*['"]([^'"]*)['"]"""),
    re.compile(r"""['"]fortran_order['"]\s*:\s*(True|False)"""),
    re.compile(r"""['"]shape['"]\s*:\s*\(([\d\sL,]*)\)"""),
)
# What numpy and zipfile raise for damaged files; NotImplementedError for a compression that zipfile does not know.
_DAMAGE = (ValueError, EOFError, OSError, BadZipFile, KeyError, NotImplementedError, RuntimeError, OverflowError)


@dataclass(frozen=True)
class _Header:
    dtype: str
    fortran_order: bool
    shape: tuple[int, ...]


def read_npy(path: Path) -> NDArray[np.float32]:
    """The array of a file, of any shape.

    Raises:
        ClipError: Not an array of real numbers, or not as many bytes as its header says.
    """
    try:
        with path.open("rb") as file:
            return to_float32(_numbers(file, path.stat().st_size))
    except _DAMAGE as error:
        raise ClipError(f"{path}: not an .npy file of numbers ({error}); download it again") from error


def npz_members(path: Path) -> frozenset[str]:
    """Names of the arrays in an archive.

    Raises:
        ClipError: Not an archive.
    """
    try:
        with ZipFile(path) as archive:
            names = archive.namelist()
    except (*_DAMAGE, zlib.error, struct.error) as error:
        raise ClipError(f"{path}: not an .npz file ({error}); download it again") from error
    return frozenset(name.removesuffix(".npy") for name in names)


def read_npz_numbers(path: Path, name: str) -> NDArray[np.float64]:
    """One array of an archive, of any shape.

    Raises:
        ClipError: Not an archive, no such array, not real numbers, damaged, or larger than `MAX_ARRAY_BYTES`.
    """
    try:
        with ZipFile(path) as archive, _member(archive, name) as file:
            return _numbers(file, MAX_ARRAY_BYTES)
    except (*_DAMAGE, zlib.error, struct.error) as error:
        raise ClipError(f"{path}: {name} is not an array of numbers ({error}); download it again") from error


def read_npz_word(path: Path, name: str) -> str:
    """A word of an archive, as numpy keeps a string.

    Raises:
        ClipError: Not an archive, no such array, not a word, or damaged.
    """
    try:
        with ZipFile(path) as archive, _member(archive, name) as file:
            header = _read_header(file)
            if not _WORDS.fullmatch(header.dtype) or math.prod(header.shape) != 1:
                raise ValueError(f"expected one string, got {header.dtype!r} {list(header.shape)}")
            dtype = np.dtype(header.dtype)
            word = np.frombuffer(_exactly(file, dtype.itemsize), dtype).item()
            return word.decode("ascii") if isinstance(word, bytes) else word
    except (*_DAMAGE, zlib.error, struct.error) as error:
        raise ClipError(f"{path}: {name} is not a word ({error}); download it again") from error


def to_float32(numbers: NDArray[np.float64]) -> NDArray[np.float32]:
    """Round; what float32 cannot hold becomes infinite, which a `Clip` refuses."""
    with np.errstate(over="ignore"):
        return numbers.astype(np.float32)


def _member(archive: ZipFile, name: str) -> IO[bytes]:
    info = archive.getinfo(f"{name}.npy")
    if info.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
        raise ValueError(f"compression {info.compress_type}, which numpy does not write")
    return archive.open(info)


def _numbers(file: IO[bytes], most_bytes: int) -> NDArray[np.float64]:
    header = _read_header(file)
    if not _NUMBERS.fullmatch(header.dtype):
        raise ValueError(f"expected real numbers, got {header.dtype!r}")
    dtype = np.dtype(header.dtype)
    num_bytes = math.prod(header.shape) * dtype.itemsize
    if num_bytes > most_bytes:
        raise ValueError(f"its header promises {num_bytes} bytes, there can be {most_bytes}")
    numbers = np.frombuffer(_exactly(file, num_bytes), dtype)
    shaped = numbers.reshape(header.shape, order="F" if header.fortran_order else "C")
    # A signalling NaN, which only damage makes, warns when it is widened.
    with np.errstate(invalid="ignore"):
        return np.ascontiguousarray(shaped, dtype=np.float64).reshape(header.shape)


def _read_header(file: IO[bytes]) -> _Header:
    start = file.read(8)
    if start[:6] != _MAGIC or len(start) < 8:
        raise ValueError(f"it begins with {start[:6]!r}, not {_MAGIC!r}")
    size = {1: "<H", 2: "<I", 3: "<I"}.get(start[6])
    if size is None:
        raise ValueError(f"format version {start[6]}, known are 1 to 3")
    (length,) = struct.unpack(size, _exactly(file, struct.calcsize(size), last=False))
    if length > 10_000:
        raise ValueError(f"a header of {length} bytes")
    text = _exactly(file, length, last=False).decode("latin-1")
    found = [field.search(text) for field in _FIELDS]
    if None in found:
        raise ValueError(f"its header is {text.strip()[:80]!r}")
    dtype, order, shape = (match.group(1) for match in found if match)
    sizes = tuple(int(size) for size in re.findall(r"\d+", shape))
    if len(sizes) > 4:
        raise ValueError(f"{len(sizes)} dimensions")
    return _Header(dtype, order == "True", sizes)


def _exactly(file: IO[bytes], num_bytes: int, *, last: bool = True) -> bytes:
    """So many bytes; where they are the last, no more may follow. Reading on also makes zipfile check its checksum."""
    content = file.read(num_bytes + last)
    if len(content) != num_bytes:
        raise ValueError(f"expected {num_bytes} bytes, there are {'more' if len(content) > num_bytes else 'fewer'}")
    return content
