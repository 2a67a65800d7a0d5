"""What came of writing plans: counts for machines, and records for reading."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from python_core.contract.plan import Plan, format_plan, parse_plan
from python_core.reasoning.plan_journal import Entry, latest

if TYPE_CHECKING:
    from python_core.stages.build_reasoning import PlanRecord


@dataclass(frozen=True, kw_only=True)
class ReasoningReport:
    """Counts of a run of `build-reasoning`, earlier parts of the same run included."""

    complete: bool
    """Whether each caption has a record; if not, nothing but this report and the journal is written."""
    num_sentences: int
    """Captions with a duration that the writer was to be asked for; equal ones once, those with exact plans not."""
    num_passed: int
    num_passed_at_once: int
    """With the first plan."""
    num_rejected: int
    """None of whose plans was taken; the planner wrote one instead."""
    num_open: int
    """Without an answer yet."""
    rejections: dict[str, int]
    """Plans that were rejected, by the reason."""
    failures: dict[str, int]
    """Sentences that got no answer, by the reason; those that were asked for again, too."""
    num_requests: int
    num_tokens: int
    num_records: int
    num_paraphrases: int
    num_left_out: int
    """Records of captions without motion that are near no known beat."""
    records_by_writer: dict[str, int]
    rejected: list[dict[str, Any]]
    """Each sentence that was rejected, with all reasons."""


def make_report(
    num_sentences: int, entries: Sequence[Entry], records: Sequence["PlanRecord"] | None, num_left_out: int
) -> ReasoningReport:
    """Count.

    Args:
        num_sentences: That the writer was to be asked for.
        entries: The journal, in which a sentence may stand again after a failure.
        records: What was written; None where the run could not be ended.
        num_left_out: Records that were not written, because no known beat is near.
    """
    settled = latest(entries)
    passed = [written for written in settled.values() if written.plan is not None]
    records_by_writer = Counter(record.writer for record in records or ())
    return ReasoningReport(
        complete=records is not None,
        num_sentences=num_sentences,
        num_passed=len(passed),
        num_passed_at_once=sum(not written.rejections for written in passed),
        num_rejected=len(settled) - len(passed),
        num_open=num_sentences - len(settled),
        rejections=dict(Counter(rejection.why for entry in entries for rejection in entry.written.rejections)),
        failures=dict(Counter(entry.written.failure for entry in entries if entry.written.failure is not None)),
        num_requests=sum(entry.written.num_requests for entry in entries),
        num_tokens=sum(entry.written.num_tokens for entry in entries),
        num_records=len(records or ()),
        num_paraphrases=sum(record.paraphrase_of is not None for record in records or ()),
        num_left_out=num_left_out,
        records_by_writer=dict(records_by_writer),
        rejected=[
            {
                "caption": sentence.caption,
                "duration_s": sentence.duration_s,
                "reasons": [f"{rejection.why}: {rejection.detail}" for rejection in written.rejections],
            }
            for sentence, written in settled.items()
            if written.plan is None
        ],
    )


def sample_text(records: Sequence["PlanRecord"]) -> str:
    """Records for reading: caption, who wrote, and a beat a line."""
    blocks = []
    for record in records:
        lines = [record.caption, *([f"  says anew: {record.paraphrase_of}"] if record.paraphrase_of else [])]
        origin = " ".join(part for part in (record.writer, record.prompt_version) if part)
        lines.append(f"  clip {record.clip_id or '-'}, {record.duration_s:.2f} s, {origin}")
        blocks.append("\n".join([*lines, *(f"    {line}" for line in _beat_lines(record.plan))]))
    return "\n\n".join(blocks) + "\n"


def sample_table(records: Sequence["PlanRecord"]) -> Table:
    """Records as a table for the terminal."""
    table = Table("caption", "plan", "writer", show_lines=True)
    for record in records:
        # As text: a caption may hold what rich takes for markup.
        table.add_row(*map(Text, (record.caption, "\n".join(_beat_lines(record.plan)), record.writer)))
    return table


def _beat_lines(plan: str) -> list[str]:
    return [
        f"{number}. {format_plan(Plan((beat,)))[3:]}" for number, beat in enumerate(parse_plan(plan).beats, start=1)
    ]
