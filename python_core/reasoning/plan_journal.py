"""What a writer wrote so far, kept as it comes: a line for each sentence, in the order of arrival.

A run that goes on after a kill reads it, and asks only for what has no line. A sentence whose writer failed has one
too, for what it cost, and is asked for again.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TextIO

from python_core.contract.plan import format_plan, parse_plan
from python_core.reasoning.plan_writer import Rejection, Sentence, Writer, Written


@dataclass(frozen=True)
class Entry:
    """One line of the journal."""

    sentence: Sentence
    written: Written


def read_journal(path: Path, writer: Writer) -> list[Entry]:
    """Read a journal; a last line that a kill cut off is dropped from the file.

    Raises:
        ValueError: A line is damaged, or from another writer.
    """
    if not path.is_file():
        return []
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    if whole < len(data):
        with path.open("r+b") as file:
            file.truncate(whole)
        data = data[:whole]
    entries = []
    for number, line in enumerate(data.decode("utf-8").split("\n")[:-1], start=1):
        try:
            fields = json.loads(line)
            found = (fields.pop("writer"), fields.pop("prompt_version"))
            sentence = Sentence(fields.pop("caption"), fields.pop("duration_s"))
            plan = fields.pop("plan")
            rejections = tuple(Rejection(**rejection) for rejection in fields.pop("rejections"))
            written = Written(plan=plan and parse_plan(plan), rejections=rejections, **fields)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{path}:{number}: not a line of a journal ({error}); remove the line to ask again"
            ) from error
        if found != (writer.name, writer.prompt_version):
            raise ValueError(
                f"{path}: holds plans of {found[0]} with prompt {found[1]}, this run's are of {writer.name} "
                f"with prompt {writer.prompt_version}; choose another --out, or remove that file"
            )
        entries.append(Entry(sentence, written))
    return entries


def append_entry(file: TextIO, entry: Entry, writer: Writer) -> None:
    """Add a line, and hand it to the system, so that a kill of this process does not lose it."""
    fields = asdict(entry.sentence) | asdict(entry.written)
    fields |= {"plan": entry.written.plan and format_plan(entry.written.plan)}
    fields |= {"writer": writer.name, "prompt_version": writer.prompt_version}
    file.write(json.dumps(fields, ensure_ascii=False) + "\n")
    file.flush()


def latest(entries: Iterable[Entry]) -> dict[Sentence, Written]:
    """What is settled: the plan of each sentence, or that all its plans were rejected."""
    return {entry.sentence: entry.written for entry in entries if entry.written.failure is None}
