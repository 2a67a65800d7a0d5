"""Files that are whole or not there. Who is killed while writing leaves a `.partial`, which the next one overwrites."""

from pathlib import Path


def write_text(path: Path, text: str) -> None:
    """Write a text file in one step; a file has one writer at a time.

    Raises:
        OSError: There is no such folder, or no room.
    """
    temporary = path.with_suffix(".partial")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
