"""What `prepare` says at its end: how much there is of what, what was skipped and why, in tables and in report.json."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from python_core.clips.preparation import Skipped
from python_core.clips.prepared import COMPOSED, PreparedClip

Key = Callable[[PreparedClip | Skipped], Any]

TABLE_WIDTH = 120
KINDS_SHOWN = 20


@dataclass(frozen=True, kw_only=True)
class Amount:
    """How much there is of something. Mirrored copies and compositions count as clips."""

    num_clips: int
    hours: float
    num_captions: int
    caption_words: float
    """Mean number of words of a caption."""
    num_skipped: int

    @classmethod
    def of(cls, clips: Iterable[PreparedClip], skipped: Iterable[Skipped], frame_rate_hz: float) -> "Amount":
        clips = list(clips)
        captions = [caption for clip in clips for caption in clip.captions]
        num_words = sum(len(caption.split()) for caption in captions)
        return cls(
            num_clips=len(clips),
            hours=round(sum(clip.num_rows for clip in clips) / frame_rate_hz / 3600, 4),
            num_captions=len(captions),
            caption_words=round(num_words / max(1, len(captions)), 2),
            num_skipped=len(list(skipped)),
        )


@dataclass(frozen=True, kw_only=True)
class GuessedMapping:
    """A mapping that was guessed for the skeleton of some clips."""

    folder: Path
    """The folder of the clips, where a corrected mapping belongs."""
    file: str
    """Name of the file, beside the report, that holds it."""
    text: str
    num_clips: int


@dataclass(frozen=True, kw_only=True)
class PreparedReport:
    """All that was prepared and all that was not."""

    clips: tuple[PreparedClip, ...]
    num_mirrored: int
    """Mirrored copies that were made here, without those of compositions."""
    skipped: tuple[Skipped, ...]
    left_out: tuple[Skipped, ...]
    """Names in the folders' lists that were none of their reader's business; they are counted apart."""
    resampled: Counter[tuple[str, float]]
    """Clips by source and by the frame rate that they came with, in hertz."""
    assumed: Counter[tuple[str, str]]
    """Clips by source and by what their reader took for granted."""
    guessed_mappings: tuple[GuessedMapping, ...]
    rejected: Counter[str]
    """Compositions that were not good enough, by reason."""
    missing_splits: tuple[str, ...]
    """Splits that a folder lacks or that are empty there, as `FOLDER: SPLIT`."""
    frame_rate_hz: float

    @property
    def skipped_kinds(self) -> list[tuple[str, int]]:
        """Kinds of reasons with their counts, the most frequent first."""
        return _kinds(self.skipped)

    @property
    def num_composed(self) -> int:
        return sum(clip.source == COMPOSED for clip in self.clips)

    @property
    def headline(self) -> str:
        """The first line, which warns when more than half was skipped."""
        total, num_skipped = Amount.of(self.clips, (), self.frame_rate_hz), len(self.skipped)
        line = f"{total.num_clips} clips, {total.hours:.2f} h, {total.num_captions} captions; {num_skipped} skipped"
        num_kept = total.num_clips - self.num_mirrored - self.num_composed
        if num_skipped <= num_kept:
            return line
        kind, count = self.skipped_kinds[0]
        return f"MORE THAN HALF WAS SKIPPED, {num_skipped} of {num_skipped + num_kept}, {count} for: {kind}\n{line}"

    def as_fields(self) -> dict[str, Any]:
        """Everything, for report.json."""
        return {
            "headline": self.headline,
            "total": asdict(Amount.of(self.clips, self.skipped, self.frame_rate_hz)),
            "splits": self._by(lambda item: item.split),
            "sources": self._by(lambda item: item.source),
            "licences": self._by(lambda item: item.licence),
            "rows": [
                {"split": split, "source": source, "licence": licence} | asdict(amount)
                for (split, source, licence), amount in self._rows()
            ],
            "skipped": dict(self.skipped_kinds),
            "left_out": dict(_kinds(self.left_out)),
            "resampled": [
                {"source": source, "frame_rate_hz": rate_hz, "num_clips": count}
                for (source, rate_hz), count in sorted(self.resampled.items())
            ],
            "assumed": [
                {"source": source, "assumed": assumed, "num_clips": count}
                for (source, assumed), count in sorted(self.assumed.items())
            ],
            "guessed_mappings": [
                {"folder": str(guess.folder), "file": guess.file, "num_clips": guess.num_clips}
                for guess in self.guessed_mappings
            ],
            "num_mirrored": self.num_mirrored,
            "composed": {
                "num_clips": self.num_composed,
                "rejected": dict(sorted(self.rejected.items())),
            },
            "missing_splits": list(self.missing_splits),
        }

    def as_text(self) -> str:
        """The same as tables to read."""
        console = Console(file=StringIO(), width=TABLE_WIDTH)
        console.print(self.headline, markup=False, highlight=False)
        amounts = Table("split", "source", "licence")
        for column in ("clips", "hours", "captions", "words each", "skipped"):
            amounts.add_column(column, justify="right")
        total = Amount.of(self.clips, self.skipped, self.frame_rate_hz)
        for names, amount in [*self._rows(), (("all", "", ""), total)]:
            numbers = f"{amount.num_clips} {amount.hours:.2f} {amount.num_captions} {amount.caption_words:.1f}"
            amounts.add_row(*(escape(name) for name in names), *numbers.split(), str(amount.num_skipped))
        console.print(amounts)
        notes = Table("what else", "clips", show_header=False)
        for what, kinds in (("skipped", self.skipped_kinds), ("left out", _kinds(self.left_out))):
            for kind, count in kinds[:KINDS_SHOWN]:
                notes.add_row(escape(f"{what}: {kind}"), str(count))
            if rest := kinds[KINDS_SHOWN:]:
                notes.add_row(f"{what}: {len(rest)} other reasons", str(sum(count for _, count in rest)))
        for (source, rate_hz), count in sorted(self.resampled.items()):
            notes.add_row(escape(f"resampled: {source}, from {rate_hz:g} Hz to {self.frame_rate_hz:g} Hz"), str(count))
        for (source, assumed), count in sorted(self.assumed.items()):
            notes.add_row(escape(f"assumed: {source}, {assumed}"), str(count))
        for guess in self.guessed_mappings:
            notes.add_row(escape(f"joints guessed by their names: {guess.folder}, {guess.file}"), str(guess.num_clips))
        for reason, count in sorted(self.rejected.items()):
            notes.add_row(escape(f"composition rejected: {reason}"), str(count))
        for missing in self.missing_splits:
            notes.add_row(escape(f"no such split, or empty: {missing}"), "")
        if notes.row_count:
            console.print(notes)
        assert isinstance(console.file, StringIO)
        return console.file.getvalue().rstrip()

    def _by(self, key: Key) -> dict[str, dict[str, Any]]:
        return {
            name: asdict(Amount.of(clips, skipped, self.frame_rate_hz))
            for name, (clips, skipped) in _grouped(self.clips, self.skipped, key).items()
        }

    def _rows(self) -> list[tuple[tuple[str, str, str], Amount]]:
        def key(item: PreparedClip | Skipped) -> tuple[str, str, str]:
            # Compositions join the licences of their clips in ever new ways.
            licence = "those of their clips" if item.source == COMPOSED else item.licence
            return item.split, item.source, licence

        groups = _grouped(self.clips, self.skipped, key)
        return [(names, Amount.of(*group, self.frame_rate_hz)) for names, group in groups.items()]


def _kinds(skipped: Iterable[Skipped]) -> list[tuple[str, int]]:
    counts = Counter(item.kind for item in skipped)
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _grouped(
    clips: Iterable[PreparedClip], skipped: Iterable[Skipped], key: Key
) -> dict[Any, tuple[list[PreparedClip], list[Skipped]]]:
    """Clips and what was skipped by key, in the order of the keys."""
    groups: dict[Any, tuple[list[PreparedClip], list[Skipped]]] = {}
    for clip in clips:
        groups.setdefault(key(clip), ([], []))[0].append(clip)
    for item in skipped:
        groups.setdefault(key(item), ([], []))[1].append(item)
    return dict(sorted(groups.items()))
