"""Stage `build-reasoning`: captions -> plans, one record a caption, and more that say it in other words.

    {"clip_id": "002510", "caption": "...", "duration_s": 5.0, "plan": "1. ...", "writer": "planner", ...}

Captions without a motion have no clip id: they teach the model to plan, not to move. Clips whose plan is known exactly
keep it. Beside the records: NAME.report.json, and NAME.sample.txt for reading. What a writer wrote is in NAME.journal
as it comes; a run that was killed goes on from there. That of an endpoint stays, so that the same run asks for nothing
twice, also after captions were added.
"""

import asyncio
import json
import logging
import zlib
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn, track

from python_core.clips.clip import mirror_text
from python_core.clips.prepared import COMPOSED, PreparedClips, read_prepared
from python_core.contract.plan import Beat, Plan, format_plan, parse_plan
from python_core.evaluators.token_states import TokenStates, load_token_states
from python_core.reasoning.known_beats import KnownBeats
from python_core.reasoning.paraphrases import OtherWords, Paraphraser, Rewording, as_order
from python_core.reasoning.plan_journal import Entry, append_entry, latest, read_journal
from python_core.reasoning.plan_writer import PlannerWriter, Sentence, Writer, Written
from python_core.reasoning.planner import Planner
from python_core.reasoning.reasoning_report import make_report, sample_table, sample_text
from python_core.reasoning.synonyms import read_synonyms
from python_core.reasoning.teacher import EndpointConfig, EndpointError, Spending, Teacher
from python_core.reasoning.wordnet import read_kinds
from python_core.whole_file import write_text

logger = logging.getLogger(__name__)

EXACT = "exact"
"""Writer of plans that came with their clips."""
WRITTEN = "written"
"""Writer of plans that came with captions written for them."""
KNOWN = ", known beats"
NEAR, ALIKE = 0.5, 0.75
"""How similar a beat has to be to stand for another, and for the other's caption to be a caption of its clips."""
WRITTEN_CAPTIONS = Path(__file__).parents[1] / "reasoning" / "written_captions.jsonl"
"""What designers might type, and which motions that asks for: written for this project, CC0."""
CLIPS_OF_WRITTEN = 4
"""Clips that a written caption becomes a caption of, at most."""
MOST_ALIKE = 8
"""Captions without motion that a caption of a clip gets, at most."""
NUM_SAMPLED = 50
"""Records written for reading, and shown in the terminal."""


@dataclass(frozen=True)
class PlanRecord:
    """A caption and its plan."""

    clip_id: str | None
    caption: str
    duration_s: float
    plan: str
    writer: str
    """`planner`, `exact`, `written`, or the name of a model; with KNOWN after it where its beats were changed to known
    ones.
    """
    prompt_version: str = ""
    """What the writer was told; empty for exact plans."""
    paraphrase_of: str | None = None
    """The caption that this one was made of."""


@dataclass(frozen=True, kw_only=True)
class BuildReasoningConfig:
    """Write plans with the deterministic planner, or with a model behind an endpoint."""

    prepared: Path = Path("runs/prepared")
    """Folder that `prepare` wrote."""

    more_captions: Path | None = None
    """JSON lines of captions without motion: `captions`, a list, and `duration_s`. None adds none."""

    out: Path = Path("runs/plans.jsonl")
    """File to write."""

    writer: Literal["planner", "endpoint"] = "planner"
    """Who writes. Where all plans of an endpoint for a caption are rejected, the planner writes one."""

    endpoint: EndpointConfig = field(default_factory=EndpointConfig)
    """Where the model is and how it is asked."""

    paraphrases: int = 0
    """Records added for each caption that say it in other words, at most; needs WordNet."""

    orders: bool = False
    """Add a record for each caption that says it as one gives an order, without who does it."""

    other_words: int = 0
    """Records added for each caption without motion that speak of other actions and things, at most, half of them as
    orders: a plan takes words over, also those that no caption has. Needs WordNet.
    """

    text_encoder: Path | None = None
    """Folder of `fetch-backbone text-encoder`. Plans then know only the beats of captions that have a motion: other
    captions get the nearest ones. None leaves plans in the words of their captions.
    """

    written: Path | None = None
    """JSON lines of captions written with their plans: `caption`, and `beats`, texts of beats that clips have. They
    become captions of clips whose plan that is, on either side, and records of their own. Those of other beats are left
    out.
    """

    seed: int = 1
    """Of the words and the sample."""

    def __post_init__(self) -> None:
        for name in ("paraphrases", "other_words"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: expected 0 or more, got {getattr(self, name)}; 0 adds none")


PRESETS = {
    "base": BuildReasoningConfig(paraphrases=2, orders=True),
    "small": BuildReasoningConfig(paraphrases=2, orders=True, written=WRITTEN_CAPTIONS),
    "nano": BuildReasoningConfig(paraphrases=2, orders=True, other_words=4, written=WRITTEN_CAPTIONS),
    "tiny": BuildReasoningConfig(),
}


@dataclass(frozen=True)
class _Line:
    """A caption, before it has a plan."""

    clip_id: str | None
    caption: str
    duration_s: float
    plan: str | None
    """As it came with the clip."""

    @property
    def sentence(self) -> Sentence:
        return Sentence(self.caption, self.duration_s)


def run(config: BuildReasoningConfig) -> None:
    """Write a plan for each caption of the train split, and for each caption without motion.

    Raises:
        ValueError: The prepared clips or the captions cannot be read or hold no captions, or the writer cannot be used
            or went away; what it wrote is kept, and the same command goes on from there.
    """
    prepared = read_prepared(config.prepared)
    lines = _of_clips(prepared) + ([] if config.more_captions is None else _read_captions(config.more_captions))
    if not lines:
        raise ValueError(f"{config.prepared}: no captions in split 'train'; prepare clips that have some")
    for line in lines:
        if not any(map(str.isalnum, line.caption)):
            raise ValueError(f"clip {line.clip_id}: expected a caption with words, got {line.caption!r}; leave it out")
    written = [] if config.written is None else _read_written(config.written)
    sentences = list(dict.fromkeys(line.sentence for line in lines if line.plan is None))
    config.out.parent.mkdir(parents=True, exist_ok=True)
    journal = config.out.with_suffix(".journal")
    # What could be missing is loaded before an endpoint is paid.
    planner = Planner() if config.writer == "planner" or config.paraphrases or config.other_words else None
    paraphraser = Paraphraser(read_synonyms(), planner.grammar, config.seed) if planner and config.paraphrases else None
    other_words = OtherWords(read_kinds(), planner.grammar, config.seed) if planner and config.other_words else None
    writer: Writer = PlannerWriter(planner) if planner and config.writer == "planner" else Teacher(config.endpoint)
    encoder = config.text_encoder and load_token_states(config.text_encoder, torch.device("cpu"))
    if encoder and all(line.clip_id is None for line in lines):
        raise ValueError(
            "text_encoder: no clip has a caption, so no beat is known; leave it out, or prepare such clips"
        )
    entries = read_journal(journal, writer)
    if isinstance(writer, Teacher):
        writer.spending = Spending(
            sum(entry.written.num_requests for entry in entries), sum(entry.written.num_tokens for entry in entries)
        )
    try:
        asyncio.run(_write_open(sentences, entries, writer, journal))
        settled = latest(entries)
        if still_open := len(sentences) - sum(sentence in settled for sentence in sentences):
            raise EndpointError(
                f"{still_open} captions have no plan yet, because the endpoint failed; see the report, "
                "then run the same command to go on"
            )
    except EndpointError:
        _write_report(config, sentences, entries, None, 0)
        raise
    records = _records(lines, sentences, settled, writer, planner)
    records = _with_more(records, paraphraser, other_words, config)
    num_left_out = 0
    if encoder:
        num_written = _num_without_motion(records)
        records = _in_known_beats(records, encoder, config.seed)
        num_left_out = num_written - _num_without_motion(records)
    if written:
        records += _of_written(
            written, records, {clip.clip_id for clip in prepared.clips if clip.source == COMPOSED}, config
        )
    write_text(config.out, "".join(json.dumps(asdict(record), ensure_ascii=False) + "\n" for record in records))
    _write_sample(config, records)
    # What it says in a line comes last, or the sample would push it off the screen.
    _write_report(config, sentences, entries, records, num_left_out)
    if config.writer == "planner":
        journal.unlink(missing_ok=True)
    logger.info("%d plans written to %s", len(records), config.out)


def read_plans(path: Path) -> list[PlanRecord]:
    """Read what the stage wrote.

    Raises:
        ValueError: The file is missing, a line is not a record, or its plan is none.
    """
    if not path.is_file():
        raise ValueError(f"{path}: missing; run python -m python_core build-reasoning first")
    records, plans = [], set()
    for number, line in _lines(path):
        try:
            record = _read_record(line)
            if record.plan not in plans:
                parse_plan(record.plan)
                plans.add(record.plan)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path}:{number}: not a plan record ({error}); build the plans again") from error
        records.append(record)
    return records


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Lines that are not blank, with their numbers."""
    # Not by splitlines: a caption may hold a separator that ends a line for it, but not for JSON.
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), start=1):
        if line.strip():
            yield number, line


def _read_record(line: str) -> PlanRecord:
    record = PlanRecord(**json.loads(line))
    for name in ("clip_id", "caption", "plan", "writer", "prompt_version", "paraphrase_of"):
        value = getattr(record, name)
        if not isinstance(value, str) and not (value is None and name in ("clip_id", "paraphrase_of")):
            raise ValueError(f"{name}: expected text, got {value!r}")
    if not isinstance(record.duration_s, int | float):
        raise ValueError(f"duration_s: expected seconds, got {record.duration_s!r}")
    return record


def _of_clips(prepared: PreparedClips) -> list[_Line]:
    return [
        _Line(clip.clip_id, caption, round(clip.num_rows / prepared.frame_rate_hz, 3), clip.plan)
        for clip in prepared.split("train")
        for caption in clip.captions
    ]


def _read_captions(path: Path) -> list[_Line]:
    found = []
    for number, line in _lines(path):
        try:
            record = json.loads(line)
            duration_s = round(float(record["duration_s"]), 3)
            if not 0 < duration_s < float("inf"):
                raise ValueError(f"duration_s is {duration_s}")
            captions = record["captions"]
            if not isinstance(captions, list) or not all(isinstance(caption, str) for caption in captions):
                raise ValueError("captions is no list of texts")
            found += [_Line(None, caption, duration_s, None) for caption in captions if caption.strip()]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{path}:{number}: expected captions and duration_s ({error!r}), got {line[:80]!r}"
            ) from error
    return found


def _read_written(path: Path) -> list[tuple[str, tuple[str, ...]]]:
    """Captions and the texts of their beats."""
    found = []
    for number, line in _lines(path):
        try:
            record = json.loads(line)
            caption, beats = record["caption"], record["beats"]
            if not isinstance(caption, str) or not any(map(str.isalnum, caption)):
                raise ValueError("caption is no text")
            if not isinstance(beats, list) or not beats or not all(isinstance(beat, str) for beat in beats):
                raise ValueError("beats is no list of texts")
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}:{number}: expected caption and beats ({error!r}), got {line[:80]!r}") from error
        found.append((caption, tuple(beats)))
    return found


def _of_written(
    written: Sequence[tuple[str, tuple[str, ...]]],
    records: Sequence[PlanRecord],
    composed: Collection[str],
    config: BuildReasoningConfig,
) -> list[PlanRecord]:
    """Records of captions that were written with their beats, and of the same on the other side."""
    plans = {record.plan: parse_plan(record.plan) for record in records if record.clip_id is not None}
    known: dict[str, list[Beat]] = defaultdict(list)
    clips: dict[tuple[str, ...], dict[str, PlanRecord]] = defaultdict(dict)
    for record in records:
        if record.clip_id is not None and record.clip_id not in composed:
            beats = plans[record.plan].beats
            clips[tuple(beat.text for beat in beats)].setdefault(record.clip_id, record)
            for beat in beats:
                known[beat.text].append(beat)
    said = {beat: replace(of[0], duration_s=_median_s(of)) for beat, of in known.items()}
    mirrored = ((mirror_text(caption), beats, tuple(map(mirror_text, beats))) for caption, beats in written)
    both = dict.fromkeys(written) | {(caption, other): None for caption, beats, other in mirrored if other != beats}
    found, unknown = [], Counter[str]()
    for caption, beats in both:
        if missing := [beat for beat in beats if beat not in said]:
            unknown.update(missing)
            continue
        plan = Plan(tuple(said[beat] for beat in beats))
        duration_s = round(sum(beat.duration_s for beat in plan.beats), 1)
        found.append(PlanRecord(None, caption, duration_s, format_plan(plan), WRITTEN))
        of_clips = list(clips[beats].values())
        random = np.random.default_rng([config.seed, zlib.crc32(caption.encode())])
        chosen = random.permutation(len(of_clips))[:CLIPS_OF_WRITTEN].tolist()
        found += [
            replace(of_clips[at], caption=caption, writer=WRITTEN, prompt_version="", paraphrase_of=None)
            for at in chosen
        ]
    if unknown:
        logger.info("written captions: no clip has the beats %s", "; ".join(sorted(unknown)))
    num_captions = sum(record.clip_id is None for record in found)
    level = logging.INFO if found else logging.WARNING
    logger.log(level, "%d of %d written captions are of beats that clips have", num_captions, len(both))
    return found


def _median_s(beats: Sequence[Beat]) -> float:
    """Middle of their durations, to a tenth of a second."""
    return sorted(beat.duration_s for beat in beats)[len(beats) // 2]


async def _write_open(sentences: Sequence[Sentence], entries: list[Entry], writer: Writer, journal: Path) -> None:
    """Ask for what is not settled, and add it to the entries and their file as it comes."""
    settled = latest(entries)
    open_sentences = [sentence for sentence in sentences if sentence not in settled]
    if settled:
        logger.info("%s: %d sentences of %d are there already", journal, len(settled), len(sentences))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with journal.open("a", encoding="utf-8") as file, Progress(*columns) as progress:
        task = progress.add_task(f"plans by {writer.name}", total=len(open_sentences))
        async with aclosing(writer.write(open_sentences)) as coming:
            async for index, written in coming:
                entry = Entry(open_sentences[index], written)
                append_entry(file, entry, writer)
                entries.append(entry)
                progress.advance(task)


def _records(
    lines: Sequence[_Line],
    sentences: Sequence[Sentence],
    settled: dict[Sentence, Written],
    writer: Writer,
    planner: Planner | None,
) -> list[PlanRecord]:
    """One record a caption, in the order of the clips; the planner's where a teacher's plans were all rejected."""
    plans = {
        sentence: (plan, writer.name, writer.prompt_version)
        for sentence in sentences
        if (plan := settled[sentence].plan) is not None
    }
    if rejected := [sentence for sentence in sentences if sentence not in plans]:
        logger.warning(
            "%d captions: all plans of %s were rejected, the planner writes them", len(rejected), writer.name
        )
        planner_writer = PlannerWriter(planner or Planner())
        for sentence, plan in zip(rejected, planner_writer.plan(rejected), strict=True):
            plans[sentence] = (plan, planner_writer.name, planner_writer.prompt_version)
    records = []
    for line in lines:
        if line.plan is not None:
            plan, name, version = line.plan, EXACT, ""
        else:
            found, name, version = plans[line.sentence]
            plan = format_plan(found)
        records.append(PlanRecord(line.clip_id, line.caption, line.duration_s, plan, name, version))
    return records


def _with_more(
    records: Sequence[PlanRecord],
    paraphraser: Paraphraser | None,
    other_words: OtherWords | None,
    config: BuildReasoningConfig,
) -> list[PlanRecord]:
    """Each record, followed by those that are made of it."""
    captions = list(dict.fromkeys(record.caption for record in records))
    without_motion = list(dict.fromkeys(record.caption for record in records if record.clip_id is None))
    paraphrased = _reworded(paraphraser, captions, config.paraphrases, "paraphrases")
    others = _reworded(other_words, without_motion, config.other_words, "other words")
    if config.other_words and not without_motion:
        logger.info("other_words: every caption has a motion, so none is added; give --more-captions")
    extended = []
    for record in records:
        plan = parse_plan(record.plan)
        random = np.random.default_rng([config.seed, zlib.crc32(record.caption.encode())])
        said = {record.caption: plan}
        said |= {other.text: other.plan(plan) for other in paraphrased.get(record.caption, ())}
        if config.orders:
            said.setdefault(as_order(plan, random), plan)
        if record.clip_id is None:
            for other in others.get(record.caption, ()):
                if other.is_of(plan):
                    changed = other.plan(plan)
                    said[as_order(changed, random) if random.random() < 0.5 else other.text] = changed
        for caption, its_plan in said.items():
            source = None if caption == record.caption else record.caption
            extended.append(replace(record, caption=caption, plan=format_plan(its_plan), paraphrase_of=source))
    return extended


def _in_known_beats(records: Sequence[PlanRecord], encoder: TokenStates, seed: int) -> list[PlanRecord]:
    """The same with plans of the beats that captions of motions have: a paraphrase takes its caption's plan, a caption
    without motion the nearest beats. One that is near nothing is left out. A caption of a clip that is one beat is
    followed by some of the captions that came to that beat.
    """
    sources = {(record.clip_id, record.caption): record.plan for record in records if record.paraphrase_of is None}
    with_motion, without = [], []
    for record in records:
        if record.clip_id is None:
            without.append(record)
        else:
            source = record.paraphrase_of or record.caption
            with_motion.append(replace(record, plan=sources[record.clip_id, source]))
    known = KnownBeats([*{beat.text: beat for beat in _beats(with_motion)}.values()], encoder)
    texts = [*dict.fromkeys(beat.text for beat in _beats(without))]
    near = dict(zip(texts, track(known.nearest(texts), "known beats", total=len(texts)), strict=True))
    mapped, alike = [], defaultdict(list)
    for record in without:
        beats = [(near[beat.text], beat.duration_s) for beat in parse_plan(record.plan).beats]
        if min(found.similarity for found, _ in beats) < NEAR:
            continue
        said = Plan(tuple(replace(found.beat, duration_s=duration_s) for found, duration_s in beats))
        mapped.append(replace(record, plan=format_plan(said), writer=record.writer + KNOWN))
        if len(beats) == 1 and beats[0][0].similarity >= ALIKE:
            alike[beats[0][0].beat.text].append(record.caption)
    logger.info("%d of %d captions without motion are near to beats that have one", len(mapped), len(without))
    extended = []
    for record in with_motion:
        extended.append(record)
        beats = parse_plan(record.plan).beats
        if record.paraphrase_of is None and len(beats) == 1 and (captions := alike.get(beats[0].text)):
            random = np.random.default_rng([seed, zlib.crc32(f"{record.clip_id} {record.caption}".encode())])
            chosen = random.permutation(len(captions))[:MOST_ALIKE].tolist()
            extended += [replace(record, caption=captions[at], paraphrase_of=record.caption) for at in chosen]
    return extended + mapped


def _num_without_motion(records: Sequence[PlanRecord]) -> int:
    return sum(record.clip_id is None for record in records)


def _beats(records: Sequence[PlanRecord]) -> Iterator[Beat]:
    for record in records:
        yield from parse_plan(record.plan).beats


def _reworded(
    writer: Paraphraser | OtherWords | None, captions: Sequence[str], count: int, what: str
) -> dict[str, tuple[Rewording, ...]]:
    if writer is None:
        return {}
    return dict(zip(captions, track(writer.rewrite_many(captions, count), what, total=len(captions)), strict=True))


def _write_report(
    config: BuildReasoningConfig,
    sentences: Sequence[Sentence],
    entries: Sequence[Entry],
    records: Sequence[PlanRecord] | None,
    num_left_out: int,
) -> None:
    wanted = set(sentences)
    report = make_report(len(wanted), [entry for entry in entries if entry.sentence in wanted], records, num_left_out)
    path = config.out.with_suffix(".report.json")
    write_text(path, json.dumps(asdict(report), indent=2, ensure_ascii=False) + "\n")
    logger.info(
        "passed %d, rejected %d, open %d of %d sentences; %d requests, %d tokens; more in %s",
        report.num_passed,
        report.num_rejected,
        report.num_open,
        report.num_sentences,
        report.num_requests,
        report.num_tokens,
        path,
    )


def _write_sample(config: BuildReasoningConfig, records: Sequence[PlanRecord]) -> None:
    random = np.random.default_rng(config.seed)
    chosen = sorted(random.permutation(len(records))[:NUM_SAMPLED].tolist())
    sample = [records[index] for index in chosen]
    write_text(config.out.with_suffix(".sample.txt"), sample_text(sample))
    Console().print(sample_table(sample))
