"""Reads BABEL: what is done when, in the recordings of AMASS.

    train.json, val.json      by sequence: feat_p, the recording in AMASS; dur, seconds; seq_ann, labels of the whole;
                              frame_ann or null, labels with start_t and end_t in seconds
    extra_train.json, ...     the same with seq_anns and frame_anns: lists, one of each annotator

A sequence gives one clip with all its labels as captions, and, where several actions follow each other, clips with a
plan: at most MAX_BEATS beats each, one after the other, with the durations that the labels have.

Labels are what annotators wrote (`raw_label`). A label `transition` says nothing to do and gives neither caption nor
beat, and a label that ends where it starts has no frames and gives none either.
Plans follow the first annotator. Where labels overlap, beats begin and end with each label: walking from 0 to 10 s and
waving from 3 to 5 s is to walk, to walk and wave, to walk. What lasts less than SHORTEST_BEAT_S, such as the seam of
two labels, has no beat of its own, nor has a transition: it goes to the beat after it, at the end to the last. Longer
time without any label ends a plan, and so does a beat longer than a plan can hold, a minute.

Source: Punnakkal et al. 2021, BABEL: Bodies, Action and Behavior with English Labels.
"""

import json
import math
import re
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

from python_core.clips.clip import Caption, Clip, ClipError
from python_core.clips.humanml3d import read_text
from python_core.contract.plan import MAX_BEATS, Beat, Plan, PlanError

LICENCE = "BABEL labels: non-commercial research"
SHORTEST_BEAT_S = 0.5
END_TOLERANCE_S = 1.0
"""How far a label may end behind its recording; more, and it belongs to another one."""

_TRANSITION = "transition"
_NOT_IN_BEATS = re.compile(r"[<>()\n]")


class Recordings(Protocol):
    """Where recordings of AMASS come from."""

    def recording(self, path: str) -> Clip:
        """A whole recording without captions.

        Raises:
            ClipError: There is none, or it cannot be read.
        """
        ...


@dataclass(frozen=True)
class BabelFolder:
    """Reader of the layout above; a name is a split and a sequence, such as `train/5593`."""

    labels: Path
    amass: Recordings

    def names(self, split: str) -> list[str]:
        return [f"{split}/{sequence}" for sequence in _read_sequences(self.labels / f"{split}.json")]

    def read(self, name: str) -> list[Clip]:
        split, _, sequence = name.partition("/")
        path = self.labels / f"{split}.json"
        found = _read_sequences(path).get(sequence)
        if found is None:
            raise ClipError(f"{path}: no sequence {sequence!r}")
        recording = self.amass.recording(_field(found, "feat_p", str, f"{path}: {sequence}"))
        labels = _read_labels(found, len(recording.joints_m) / recording.frame_rate_hz, f"{path}: {sequence}")
        captions = dict.fromkeys(
            Caption(label.text, label.start_s, label.end_s) for label in labels if label.text != _TRANSITION
        )
        clip = replace(
            recording,
            clip_id=f"babel/{sequence}",
            captions=tuple(captions),
            licence=f"{recording.licence}; {LICENCE}",
        )
        return [clip, *_planned_clips(clip, [label for label in labels if label.timed and label.annotator == 0])]


@dataclass(frozen=True)
class _Label:
    text: str
    start_s: float
    end_s: float
    """0 and 0: the whole."""
    annotator: int

    @property
    def timed(self) -> bool:
        return self.end_s > 0


@cache
def _read_sequences(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ClipError(f"{path}: missing; the folder has the labels of a split in {path.name}")
    try:
        sequences = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise ClipError(f"{path}: not a .json file ({error}); download it again") from error
    if not isinstance(sequences, dict) or not all(isinstance(found, dict) for found in sequences.values()):
        raise ClipError(f"{path}: expected sequences by their id")
    return sequences


def _read_labels(sequence: dict[str, Any], duration_s: float, place: str) -> list[_Label]:
    """Labels of the whole, then of parts."""
    labels = []
    for one, many, timed in (("seq_ann", "seq_anns", False), ("frame_ann", "frame_anns", True)):
        annotations = sequence.get(many)
        if annotations is None:
            annotations = [sequence.get(one)]
        if not isinstance(annotations, list):
            raise ClipError(f"{place}: {many} must be a list, got {type(annotations).__name__}")
        # Annotators without labels do not count.
        annotations = [annotation for annotation in annotations if annotation is not None]
        for annotator, annotation in enumerate(annotations):
            if not isinstance(annotation, dict):
                raise ClipError(f"{place}: {one} must hold labels, got {type(annotation).__name__}")
            for label in _field(annotation, "labels", list, f"{place}: {one}"):
                labels.append(_read_label(label, duration_s if timed else None, annotator, f"{place}: {one}"))
    return [label for label in labels if label is not None]


def _read_label(label: Any, duration_s: float | None, annotator: int, place: str) -> _Label | None:
    """A label; of a part, if there is a duration; none where it has no frames or no words."""
    if not isinstance(label, dict):
        raise ClipError(f"{place}: a label must have fields, got {type(label).__name__}")
    text = next((label[name] for name in ("raw_label", "proc_label") if label.get(name)), None)
    if text is None:
        return None
    if not isinstance(text, str) or not (text := " ".join(text.split())).isprintable():
        raise ClipError(f"{place}: a label must be words, got {str(text)[:40]!r}")
    categories = label.get("act_cat") or ()
    if _TRANSITION in (text, label.get("proc_label")) or categories == [_TRANSITION]:
        text = _TRANSITION
    if not text:
        return None
    if duration_s is None:
        return _Label(text, 0.0, 0.0, annotator)
    start_s, end_s = (_seconds(label, name, place) for name in ("start_t", "end_t"))
    if not 0 <= start_s <= end_s <= duration_s + END_TOLERANCE_S:
        raise ClipError(
            f"{place}: {text!r} is from {start_s:g} to {end_s:g} s, the recording lasts {duration_s:.2f} s; "
            "is it the right one?"
        )
    end_s = min(end_s, duration_s)
    return _Label(text, start_s, end_s, annotator) if start_s < end_s else None


def _seconds(label: dict[str, Any], name: str, place: str) -> float:
    value = label.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e9 or math.isnan(value):
        raise ClipError(f"{place}: {name} must be seconds, got {str(value)[:40]!r}")
    return float(value)


def _field(fields: dict[str, Any], name: str, kind: type, place: str) -> Any:
    if not isinstance(value := fields.get(name), kind):
        raise ClipError(f"{place}: {name} must be a {kind.__name__}, got {str(value)[:40]!r}")
    return value


def _planned_clips(clip: Clip, labels: list[_Label]) -> list[Clip]:
    """Consecutive windows of at most MAX_BEATS beats; a window of a single beat is no sequence and is left out."""
    clips = []
    for window in _windows(_spans(labels, len(clip.joints_m) / clip.frame_rate_hz)):
        first, last = (round(seconds * clip.frame_rate_hz) for seconds in (window[0].start_s, window[-1].end_s))
        joints_m = clip.joints_m[first:last]
        if len(window) > 1 and len(joints_m) > 1:
            beats = tuple(_beat(span) for span in window)
            words = Caption(", then ".join(beat.text for beat in beats))
            name = f"{clip.clip_id}+{first}-{last}"
            clips.append(replace(clip, clip_id=name, joints_m=joints_m, captions=(words,), plan=Plan(beats)))
    return clips


@dataclass(frozen=True)
class _Span:
    start_s: float
    end_s: float
    """Whole tenths of a second, as a plan writes durations."""
    text: str
    """Empty: nobody said what is done."""


def _beat(span: _Span) -> Beat:
    return Beat(span.text, round(span.end_s - span.start_s, 1))


def _spans(labels: list[_Label], duration_s: float) -> list[_Span]:
    """What is done when, without gaps, from the first label to the last."""
    # The recording does not reach a tenth that it is rounded up to.
    last_s = math.floor(duration_s * 10 + 1e-6) / 10
    said = [
        _Span(min(round(label.start_s, 1), last_s), min(round(label.end_s, 1), last_s), label.text) for label in labels
    ]
    spans: list[_Span] = []
    waiting_s: float | None = None
    for start_s, end_s in pairwise(sorted({edge for span in said for edge in (span.start_s, span.end_s)})):
        texts = [span.text for span in said if span.start_s <= start_s and span.end_s >= end_s]
        actions = " and ".join(dict.fromkeys(text for text in texts if text != _TRANSITION))
        actions = " ".join(_NOT_IN_BEATS.sub(" ", actions).split())
        # Half a millisecond, because differences of tenths are not exact.
        short = end_s - start_s < SHORTEST_BEAT_S - 5e-4
        if short or (texts and not actions):
            waiting_s = start_s if waiting_s is None else waiting_s
            continue
        if waiting_s is not None and actions:
            start_s = waiting_s
        elif waiting_s is not None and spans:
            spans[-1] = replace(spans[-1], end_s=start_s)
        waiting_s = None
        if spans and spans[-1].text == actions:
            spans[-1] = replace(spans[-1], end_s=end_s)
        else:
            spans.append(_Span(start_s, end_s, actions))
    if spans and waiting_s is not None:
        spans[-1] = replace(spans[-1], end_s=max(span.end_s for span in said))
    return spans


def _windows(spans: list[_Span]) -> list[list[_Span]]:
    """Spans in fives. One without words, or that no plan can hold, such as one longer than a minute, is in none."""
    windows: list[list[_Span]] = [[]]
    for span in spans:
        try:
            _beat(span)
        except PlanError:
            windows.append([])
            continue
        if len(windows[-1]) == MAX_BEATS:
            windows.append([])
        windows[-1].append(span)
    return [window for window in windows if window]
