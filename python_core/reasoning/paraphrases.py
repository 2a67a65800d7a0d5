"""Other ways to say a caption: another subject, synonyms of its verbs and adverbs, other words for "then".

What is done stays the same, so the plan does too; where a verb changed, its beat says the new one.
"""

import itertools
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from python_core.contract.plan import Beat, Plan
from python_core.reasoning.planner import Grammar
from python_core.reasoning.synonyms import Synonyms

if TYPE_CHECKING:
    from spacy.tokens import Doc, Token

EDIT_SHARE = 0.5
"""Chance of each edit that could be made."""
TRIES = 8
"""For each paraphrase that is asked for, until one differs from those before."""

_SUBJECTS = ("a person", "someone", "somebody", "the person", "a figure", "a character")
_SUBJECT = re.compile(
    "(?:(?:(?:a|the|this) )?(?:person|man|woman|figure|character|human|guy|sim|individual)|someone|somebody)(?= )",
    re.IGNORECASE,
)
_THEN = re.compile(r"(?<=[a-z]),? (?:and )?then(?= [a-z])")
_THENS = (", then", " and then", ", and then", ", after that,")


@dataclass(frozen=True)
class Paraphrase:
    """A caption in other words."""

    text: str
    verbs: tuple[tuple[str, str], ...] = ()
    """Verbs that changed and what they became, in base form."""

    def plan(self, plan: Plan) -> Plan:
        """The plan of the caption, with the verbs that changed."""
        beats = []
        for beat in plan.beats:
            words = [dict(self.verbs).get(word, word) for word in beat.text.split()]
            beats.append(Beat(" ".join(words), beat.duration_s, beat.body_parts))
        return Plan(tuple(beats))


@dataclass(frozen=True)
class _Edit:
    """Text in place of characters `start` to `end`."""

    start: int
    end: int
    choices: tuple[str, ...]
    verbs: tuple[tuple[str, str], ...] = ()
    """Parallel to the choices, where a verb changes."""


class Paraphraser:
    """Writes paraphrases; a caption and a seed always give the same.

    Args:
        synonyms: What may stand for what.
        grammar: Tags the words of a caption.
        seed: Of the choices.
    """

    def __init__(self, synonyms: Synonyms, grammar: Grammar, seed: int) -> None:
        self._synonyms, self._grammar, self._seed = synonyms, grammar, seed

    def paraphrase_many(self, captions: Sequence[str], count: int) -> Iterator[tuple[Paraphrase, ...]]:
        """At most `count` paraphrases of each caption, fewer where it can be said in fewer ways; no two are equal."""
        again, texts = itertools.tee(captions)
        for caption, doc in zip(again, self._grammar.nlp.pipe(texts), strict=True):
            yield self._paraphrase(caption, doc, count)

    def _paraphrase(self, caption: str, doc: "Doc", count: int) -> tuple[Paraphrase, ...]:
        edits = sorted(self._edits(caption, doc), key=lambda edit: edit.start)
        random = np.random.default_rng([self._seed, zlib.crc32(caption.encode())])
        found: dict[str, Paraphrase] = {}
        for _ in range(TRIES * count if edits else 0):
            if len(found) == count:
                break
            chosen = random.random(len(edits)) < EDIT_SHARE
            text, end, verbs = "", 0, []
            for edit, made in zip(edits, chosen, strict=True):
                choice = int(random.integers(len(edit.choices)))
                if made:
                    text += caption[end : edit.start] + edit.choices[choice]
                    end = edit.end
                    verbs += edit.verbs[choice : choice + 1]
            text += caption[end:]
            # A plan has no way to say that a verb stands for two others, or one thing in one place only.
            if text != caption and len(dict(verbs)) == len(set(verbs)):
                found.setdefault(text, Paraphrase(text, tuple(dict.fromkeys(verbs))))
        return tuple(found.values())

    def _edits(self, caption: str, doc: "Doc") -> Iterator[_Edit]:
        if match := _SUBJECT.match(caption):
            subjects = tuple(subject for subject in _SUBJECTS if subject != match[0].lower())
            yield _Edit(0, match.end(), tuple(map(str.capitalize, subjects)) if caption[0].isupper() else subjects)
        for match in _THEN.finditer(caption):
            yield _Edit(match.start(), match.end(), tuple(then for then in _THENS if then != match[0]))
        for token in doc:
            end = token.idx + len(token.text)
            if token.pos_ == "VERB" and (others := self._synonyms.verbs.get(token.lemma_)):
                verbs = [(other, form) for other in others if (form := self._inflect(other, token))]
                if verbs:
                    changes = tuple((token.lemma_, other) for other, _ in verbs)
                    yield _Edit(token.idx, end, tuple(form for _, form in verbs), changes)
            elif token.pos_ == "ADV" and (others := self._synonyms.adverbs.get(token.text)):
                yield _Edit(token.idx, end, others)

    def _inflect(self, lemma: str, token: "Token") -> str | None:
        forms = self._grammar.lemminflect.getInflection(lemma, tag=token.tag_)  # pyright: ignore[reportAttributeAccessIssue]
        return forms[0] if forms else None
