"""What there is to read in folders of clips, cut into shards."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from python_core.clips.amass import AmassFolder
from python_core.clips.babel import BabelFolder
from python_core.clips.clip import ClipError, ClipReader
from python_core.clips.cmu import CmuArchive
from python_core.clips.layouts import list_files, open_folder
from python_core.clips.licences import UNKNOWN
from python_core.clips.preparation import Shard, Skipped

SHARD_NAMES = 16
"""Few enough that a kill loses little work."""


@dataclass(frozen=True, kw_only=True)
class Listing:
    """The names of all clips, and those that are no use."""

    shards: tuple[Shard, ...]
    listed_twice: tuple[Skipped, ...]
    left_out: tuple[Skipped, ...]
    """Names that are no business of their folder's reader, such as those of other data sets in the same lists."""
    missing_splits: tuple[str, ...]
    """Splits that a folder lacks or that are empty there, as `FOLDER: SPLIT`."""


def list_names(folders: tuple[Path, ...], splits: tuple[str, ...], body_model: Path | None = None) -> Listing:
    """Open folders and list what they hold: split by split, in each folder by folder.

    With several folders, clip ids get the name of their folder and a dash in front. A name that a folder lists again,
    in the same split or another, is not read again.

    Raises:
        ClipError: A folder is in no layout that we read, a folder has none of the splits, or no folder has one of them.
        ValueError: Folders with the same name, or a body model without AMASS.
    """
    folder_names = [folder.resolve().name for folder in folders]
    if same := sorted({name for name in folder_names if folder_names.count(name) > 1}):
        raise ValueError(
            f"clips name several folders called {', '.join(same)}, by which clip ids are told apart; rename one"
        )
    readers = [open_folder(folder, body_model) for folder in folders]
    if body_model is not None and not any(isinstance(reader, AmassFolder | BabelFolder) for reader in readers):
        raise ValueError(f"body_model {body_model} is for folders of AMASS, and there is none; leave it out")
    found = {
        (split, number): _names_or_error(reader, split)
        for split in dict.fromkeys(splits)
        for number, reader in enumerate(readers)
    }
    for number in range(len(readers)):
        _raise_if_none([found[split, number] for split in splits])
    for split in splits:
        _raise_if_none([found[split, number] for number in range(len(readers))])
    shards: list[Shard] = []
    listed_twice: list[Skipped] = []
    left_out: list[Skipped] = []
    missing_splits: list[str] = []
    listed: set[tuple[int, str]] = set()
    for (split, number), names in found.items():
        if isinstance(names, ClipError) or not names:
            missing_splits.append(f"{folders[number]}: {split}")
        if isinstance(names, ClipError):
            continue
        prefix = f"{folder_names[number]}-" if len(folders) > 1 else ""
        if isinstance(reader := readers[number], CmuArchive):
            left_out += [_skip(f"{prefix}{name}", split, reason) for name, reason in reader.left_out(split)]
        there = set(names)
        fresh: list[str] = []
        for name in names:
            if (number, name) in listed:
                listed_twice.append(_skip(f"{prefix}{name}", split, "listed more than once"))
                continue
            listed.add((number, name))
            fresh.append(name)
        for first in range(0, len(fresh), SHARD_NAMES):
            few = tuple(fresh[first : first + SHARD_NAMES])
            shard = Shard(
                number=len(shards),
                reader=readers[number],
                folder=folders[number],
                prefix=prefix,
                split=split,
                names=few,
                with_copies=frozenset(
                    name for name in few if f"M{name}" in there or (name.startswith("M") and name[1:] in there)
                ),
            )
            shards.append(shard)
    return Listing(
        shards=tuple(shards),
        listed_twice=tuple(listed_twice),
        left_out=tuple(left_out),
        missing_splits=tuple(missing_splits),
    )


def hash_files(folders: tuple[Path, ...]) -> str:
    """SHA-256 over names, sizes and times of all files in folders, which changes when clips do."""
    digest = hashlib.sha256()
    for folder in folders:
        for path in list_files(folder):
            # A link that leads nowhere is a file that a reader may complain of, not a reason to stop here.
            status = path.stat() if path.exists() else path.lstat()
            place = f"{folder.resolve().name}/{path.relative_to(folder)}"
            digest.update(f"{place}\0{status.st_size}\0{status.st_mtime_ns}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def _names_or_error(reader: ClipReader, split: str) -> list[str] | ClipError:
    try:
        return reader.names(split)
    except ClipError as error:
        return error


def _raise_if_none(found: list[list[str] | ClipError]) -> None:
    errors = [names for names in found if isinstance(names, ClipError)]
    if len(errors) == len(found):
        raise errors[0]


def _skip(name: str, split: str, reason: str) -> Skipped:
    return Skipped(split=split, name=name, source=UNKNOWN, licence=UNKNOWN, reason=reason, kind=reason)
