"""Stage `prepare`: folders of clips -> features, captions and statistics.

    run.json        what the folder is made of
    parts/          shards that are done, until all are
    skipped.jsonl   what was not prepared, and why, a line each
    report.json     how much there is of what
    guessed_mapping_1.toml, ...     of BVH: which joints were taken for ours by their names, one for each skeleton
    sheet.png       a few clips, drawn by `seed`
    and what `clips/prepared.py` lists

A run that was killed goes on from its shards and ends in the same bytes. The number of workers changes nothing.
"""

import json
import logging
import multiprocessing
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress, track

from python_core.checkpoint import start_run, write_json
from python_core.clips.humanml3d import FRAME_RATE_HZ
from python_core.clips.joint_names import MAPPING_FILE
from python_core.clips.listing import Listing, hash_files, list_names
from python_core.clips.preparation import (
    Licence,
    Rules,
    Skipped,
    follow_parent,
    made_of,
    one_thread,
    read_shard,
    read_shard_rows,
    shard_path,
)
from python_core.clips.prepared import COMPOSED, FORMAT_VERSION, SUMMARY, PreparedClip, write_prepared
from python_core.clips.prepared_report import GuessedMapping, PreparedReport
from python_core.contract.bundle import sha256
from python_core.contract.plan import parse_plan
from python_core.evaluators.word_tags import WordTagger
from python_core.features import features_to_motion
from python_core.pictures import Row, Strip, write_sheet
from python_core.vqvae import FRAMES_PER_CODE
from python_core.whole_file import write_text

logger = logging.getLogger(__name__)

TAGGED_AT_ONCE = 1_000
"""Captions between two steps of the progress bar."""


@dataclass(frozen=True, kw_only=True)
class PrepareConfig:
    """Which clips to prepare and how."""

    clips: tuple[Path, ...] = (Path("data/humanml3d"),)
    """Folders of clips in any layout that `clips/layouts.py` lists. With several, clip ids begin with the name of
    their folder and a dash.
    """

    body_model: Path | None = None
    """AMASS: folder of body models (`male/model.npz`, `female/model.npz`; or `SMPLX_MALE.npz`, ...), or one of them,
    for each person's own joints; None poses the mean body for everybody.
    """

    out: Path = Path("runs/prepared")
    """Folder to write."""

    splits: tuple[str, ...] = ("train", "val")
    """Splits to read. A name that is listed in several is read for the first."""

    licence: Licence = "any"
    """`permissive` leaves out clips whose licence does not allow to ship weights trained on them."""

    exclude_sources: tuple[str, ...] = ()
    """Sources, as licences.csv names them, to leave out."""

    mirror: bool = True
    """Add the mirrored copy of each clip of the train split that the folder does not bring itself."""

    variations: bool = False
    """Add clips of the train split played backward in time and along paths that turn, where captions allow it, and tell
    the side of steps sideways.
    """

    min_frames: int = 20
    """Shorter clips are skipped, counted at `frame_rate_hz`."""

    frame_rate_hz: float = 20.0
    """Clips of another rate are resampled, and counted."""

    workers: int = 0
    """Processes that share the work; 0 takes as many as there are cores."""

    compositions: int = 0
    """Clips to compose from those of the train split, joined in time or mixed by body part, with exact plans; their
    mirrored copies come on top.
    """

    sheet_clips: int = 12
    """Clips that are drawn on the sheet."""

    seed: int = 1
    """Draws compositions and the clips of the sheet."""


PRESETS = {
    "base": PrepareConfig(compositions=10_000),
    "small": PrepareConfig(variations=True, compositions=2_000),
    "nano": PrepareConfig(variations=True, compositions=2_000),
    "tiny": PrepareConfig(workers=1, sheet_clips=2),
}


@dataclass(frozen=True, kw_only=True)
class _MadeOf(PrepareConfig):
    """All that the result depends on."""

    clip_files: str
    """SHA-256 over the names, sizes and times of the files in the folders of clips."""
    body_model_files: str | None = None
    """The same of the body models, where they are given."""
    format_version: int = FORMAT_VERSION


def run(config: PrepareConfig) -> None:
    """Read, put on our skeleton, and write.

    Raises:
        ClipError: A folder is in no layout that we read, or has none of the splits.
        ValueError: The folder to write holds something else, a source to leave out is none of the clips' sources, no
            clip is left, or spaCy or its model is not installed.
        OSError: A worker was killed.
    """
    _check(config)
    listing = list_names(config.clips, config.splits, config.body_model)
    if not (config.out / "run.json").is_file():
        # Complete, but not known what of.
        (config.out / SUMMARY).unlink(missing_ok=True)
    made_of = _MadeOf(
        **vars(config) | {"clips": (), "workers": 0},
        clip_files=hash_files(config.clips),
        body_model_files=config.body_model and _hash_body_model(config.body_model),
    )
    start_run(config.out, made_of, {})
    parts = config.out / "parts"
    if (config.out / SUMMARY).is_file():
        logger.info("%s: was prepared before from the same clips; remove it to prepare again", config.out)
    else:
        # What it may lack is said before the work, not after.
        tagger = WordTagger()
        parts.mkdir(exist_ok=True)
        rules = Rules(
            licence=config.licence,
            exclude_sources=config.exclude_sources,
            mirror=config.mirror,
            variations=config.variations,
            min_frames=config.min_frames,
            frame_rate_hz=config.frame_rate_hz,
        )
        num_workers = config.workers or len(os.sched_getaffinity(0))
        _work("prepare", listing.shards, rules, parts, num_workers)
        num_shards = len(listing.shards)
        try:
            if config.compositions:
                from python_core.clips.composed_shard import plan_compositions

                composed = plan_compositions(config.compositions, num_shards, config.seed)
                _work("compose", composed, rules, parts, num_workers)
                num_shards += len(composed)
            report = _assemble(config, listing, [shard_path(parts, number) for number in range(num_shards)], tagger)
        except ValueError:
            # Nothing was made, so the next run may be made of something else.
            shutil.rmtree(parts)
            (config.out / "run.json").unlink()
            raise
        for guess in report.guessed_mappings:
            logger.info(
                "%s: joints of %d clips were guessed by their names; if wrong, correct %s and save it as %s:\n%s",
                guess.folder,
                guess.num_clips,
                config.out / guess.file,
                guess.folder / MAPPING_FILE,
                guess.text.rstrip(),
            )
        logger.info("%s\n%s", config.out, report.as_text())
    shutil.rmtree(parts, ignore_errors=True)


def _hash_body_model(path: Path) -> str:
    return hash_files((path,)) if path.is_dir() else sha256(path)


def _check(config: PrepareConfig) -> None:
    if "train" not in config.splits:
        raise ValueError(f"splits must name train, which statistics are taken of, got {list(config.splits)}")
    if config.min_frames <= FRAMES_PER_CODE:
        raise ValueError(
            f"min_frames must be at least {FRAMES_PER_CODE + 1}, got {config.min_frames}: fewer give no code"
        )
    if not 0 < config.frame_rate_hz < float("inf"):
        raise ValueError(f"frame_rate_hz must be positive, got {config.frame_rate_hz}")
    if config.workers < 0:
        raise ValueError(f"workers must be 0, for all cores, or more, got {config.workers}")
    if config.compositions < 0:
        raise ValueError(f"compositions must be 0 or more, got {config.compositions}")
    if config.compositions and config.frame_rate_hz != FRAME_RATE_HZ:
        raise ValueError(f"compositions need frame_rate_hz {FRAME_RATE_HZ:g}, got {config.frame_rate_hz:g}")
    if config.variations and config.frame_rate_hz != FRAME_RATE_HZ:
        raise ValueError(f"variations need frame_rate_hz {FRAME_RATE_HZ:g}, got {config.frame_rate_hz:g}")
    if config.sheet_clips < 1:
        raise ValueError(f"sheet_clips must be at least 1, got {config.sheet_clips}")
    if not config.clips:
        raise ValueError("clips must name at least one folder, got none")
    if config.body_model is not None and not config.body_model.exists():
        raise ValueError(f"body_model {config.body_model}: no such file or folder; leave it out for the mean body")
    for folder in config.clips:
        if config.out.resolve().is_relative_to(folder.resolve()):
            raise ValueError(f"--out {config.out} lies in the clips of {folder}; choose another")


class _Work(Protocol):
    """A shard of either kind."""

    @property
    def number(self) -> int: ...

    @property
    def size(self) -> int: ...

    def write(self, rules: Rules, folder: Path) -> None: ...


def _work(name: str, shards: Sequence[_Work], rules: Rules, parts: Path, num_workers: int) -> None:
    """Do the shards that are not there yet."""
    todo = [shard for shard in shards if not shard_path(parts, shard.number).is_file()]
    size = sum(shard.size for shard in shards)
    with Progress() as progress:
        task = progress.add_task(name, total=size, completed=size - sum(shard.size for shard in todo))
        if min(num_workers, len(todo)) < 2:
            for shard in todo:
                shard.write(rules, parts)
                progress.advance(task, shard.size)
            return
        # Spawned, since a fork of a process with torch's threads may hang.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(min(num_workers, len(todo)), context, follow_parent) as pool:
            running = {pool.submit(shard.write, rules, parts): shard for shard in todo}
            try:
                for future in as_completed(running):
                    future.result()
                    progress.advance(task, running[future].size)
            except BrokenProcessPool as error:
                raise OSError(
                    f"{parts}: a worker was killed, perhaps for want of memory; what is done is kept, run again with "
                    "fewer --workers"
                ) from error
            finally:
                pool.shutdown(cancel_futures=True)


def _assemble(config: PrepareConfig, listing: Listing, paths: list[Path], tagger: WordTagger) -> PreparedReport:
    """Put the shards together.

    Raises:
        ValueError: No clip of the train split is left, or a source to leave out is none of the clips' sources.
    """
    clips: list[PreparedClip] = []
    places: list[tuple[Path, PreparedClip]] = []
    skipped, sources, taken = list(listing.listed_twice), set(), set()
    resampled: Counter[tuple[str, float]] = Counter()
    assumed: Counter[tuple[str, str]] = Counter()
    guessed: Counter[tuple[Path, str]] = Counter()
    rejected: Counter[str] = Counter()
    num_rows = num_mirrored = 0
    for number, path in enumerate(paths):
        prepared = read_shard(path)
        skipped += prepared.skipped
        sources |= prepared.sources
        resampled += prepared.resampled
        assumed += prepared.assumed
        for text, count in prepared.guessed_mappings.items():
            guessed[listing.shards[number].folder, text] += count
        rejected += prepared.rejected
        for clip in prepared.clips:
            name = made_of(clip.clip_id) if clip.source == COMPOSED else clip.clip_id
            if name in taken:
                if clip.source != COMPOSED:
                    skipped.append(_skip_taken(clip))
                elif clip.clip_id not in prepared.mirrored:
                    rejected["made before"] += 1
                continue
            taken.add(name)
            num_mirrored += clip.clip_id in prepared.mirrored and clip.source != COMPOSED
            places.append((path, clip))
            clips.append(replace(clip, first_row=num_rows))
            num_rows += clip.num_rows
    report = PreparedReport(
        clips=tuple(clips),
        num_mirrored=num_mirrored,
        skipped=tuple(skipped),
        left_out=listing.left_out,
        resampled=resampled,
        assumed=assumed,
        guessed_mappings=tuple(
            GuessedMapping(folder=folder, file=f"guessed_mapping_{number}.toml", text=text, num_clips=count)
            for number, ((folder, text), count) in enumerate(guessed.items(), start=1)
        ),
        rejected=rejected,
        missing_splits=listing.missing_splits,
        frame_rate_hz=config.frame_rate_hz,
    )
    where = ", ".join(str(folder) for folder in config.clips)
    if unknown := sorted(set(config.exclude_sources) - sources):
        raise ValueError(
            f"{where}: exclude_sources names {', '.join(unknown)}, which no clip comes from; the clips come from "
            f"{', '.join(sorted(sources))}"
        )
    if not any(clip.split == "train" for clip in clips):
        raise ValueError(f"{where}: no clips are left of split 'train'; skipped: {dict(report.skipped_kinds)}")
    lines = [json.dumps(asdict(item), ensure_ascii=False) for item in (*skipped, *listing.left_out)]
    write_text(config.out / "skipped.jsonl", "".join(f"{line}\n" for line in lines))
    for guess in report.guessed_mappings:
        write_text(config.out / guess.file, guess.text)
    write_json(config.out / "report.json", report.as_fields())
    _write_sheet(config, clips, places)
    write_prepared(config.out, _with_parts_of_speech(clips, tagger), _rows(places), config.frame_rate_hz)
    return report


def _with_parts_of_speech(clips: Sequence[PreparedClip], tagger: WordTagger) -> list[PreparedClip]:
    """Recorded clips with those of all captions: as a text file has them, by spaCy where none does. Compositions have
    none.
    """
    recorded = [clip for clip in clips if clip.source != COMPOSED]
    known = {
        text: tagged for clip in recorded for text, tagged in zip(clip.captions, clip.tagged, strict=False) if tagged
    }
    unknown = [*dict.fromkeys(text for clip in recorded for text in clip.captions if text not in known)]
    for first in track(range(0, len(unknown), TAGGED_AT_ONCE), "parts of speech", disable=not unknown):
        texts = unknown[first : first + TAGGED_AT_ONCE]
        known |= dict(zip(texts, tagger.write(texts), strict=True))
    if unknown:
        logger.info("%d captions had no parts of speech in a text file; spaCy found them", len(unknown))

    def tag(clip: PreparedClip) -> PreparedClip:
        of_file = clip.tagged or [""] * len(clip.captions)
        return replace(
            clip, tagged=tuple(tagged or known[text] for text, tagged in zip(clip.captions, of_file, strict=True))
        )

    return [clip if clip.source == COMPOSED else tag(clip) for clip in clips]


def _skip_taken(clip: PreparedClip) -> Skipped:
    return Skipped(
        split=clip.split,
        name=clip.clip_id,
        source=clip.source,
        licence=clip.licence,
        reason=f"another clip has the id {clip.clip_id}",
        kind="another clip has the id",
    )


def _rows(places: list[tuple[Path, PreparedClip]]) -> Iterator[NDArray[np.float32]]:
    """Rows of each clip, of which only one shard at a time is in memory."""
    opened: Path | None = None
    rows = np.empty((0, 0), dtype=np.float32)
    for path, clip in places:
        if path != opened:
            opened, rows = path, read_shard_rows(path)
        yield rows[clip.first_row : clip.first_row + clip.num_rows]


def _write_sheet(config: PrepareConfig, clips: list[PreparedClip], places: list[tuple[Path, PreparedClip]]) -> None:
    drawn = np.random.default_rng(config.seed).choice(len(clips), min(config.sheet_clips, len(clips)), replace=False)
    chosen = [places[number] for number in sorted(drawn.tolist())]
    rows = []
    for (_, clip), features in zip(chosen, _rows(chosen), strict=True):
        with one_thread():
            motion = features_to_motion(features, config.frame_rate_hz)
        strip = Strip(motion=motion, plan=None if clip.plan is None else parse_plan(clip.plan))
        title = clip.captions[0] if clip.captions else ""
        rows.append(Row(title=title, note=f"{clip.clip_id}, {clip.split}, {clip.source}", strips=(strip,)))
    temporary = config.out / "sheet.partial"
    write_sheet(temporary, rows)
    temporary.replace(config.out / "sheet.png")
