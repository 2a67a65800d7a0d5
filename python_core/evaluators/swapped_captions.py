"""Captions that say something else with nearly the same words: sides exchanged, or actions in another order.

A model that reads words as a bag cannot tell them from the true ones, so they are the hard negatives of the reward
model and the test of it.
"""

import re

from python_core.clips.clip import mirror_text

_BOTH_SIDES = re.compile(
    r"\b(?:left|right)(?:(?: \w+)? (?:and|or) (?:then )?| (?:side |hand side )?to )"
    r"(?:the |his |her |their )?(?:left|right)\b",
    re.IGNORECASE,
)
_SUBJECT = re.compile(
    r"^(?:(?:a|an|the|this|one)\s+)?"
    r"(?:person|man|woman|guy|human|figure|character|individual|someone|somebody|he|she|they)\s+"
)
_THEN = re.compile(r",?\s+(?:and\s+)?(?:then|after that|afterwards|finally)\s+(?:finally\s+)?|\s+and\s+finally\s+")
_BEFORE_OR_AFTER = re.compile(r"\b(?:before|after)\b(?! (?:that|a|an|which|this|the|one|another|each)\b)")


def swap_sides(caption: str) -> str | None:
    """The caption with left and right exchanged; None if it names none, or both as equals or from one to the other."""
    swapped = mirror_text(caption)
    return None if swapped == caption or _BOTH_SIDES.search(caption) else swapped


def swap_order(caption: str) -> str | None:
    """The caption with its actions in another order; None where no word tells the order.

    "before" and "after" change places where there is one of them; else what "then" joins is reversed.
    """
    text = caption.strip()
    found = _BEFORE_OR_AFTER.findall(text)
    if len(found) == 1:
        other = "after" if found[0] == "before" else "before"
        return _BEFORE_OR_AFTER.sub(other, text)
    ending = "." if text.endswith(".") else ""
    text = text.removesuffix(".")
    subject_match = _SUBJECT.match(text)
    subject = subject_match.group() if subject_match else ""
    joints = [match.group() for match in _THEN.finditer(text)]
    parts = [_SUBJECT.sub("", part).strip(" ,") for part in _THEN.split(text.removeprefix(subject))]
    joints = joints[: len(parts) - 1]
    if len(parts) < 2 or not all(parts) or any("." in part for part in parts) or len(set(parts)) < len(parts):
        return None
    backwards = parts[::-1]
    swapped = backwards[0] + "".join(joint + part for joint, part in zip(joints, backwards[1:], strict=True))
    return f"{subject}{swapped}{ending}"


def reverse_order(caption: str, num_actions: int) -> str | None:
    """`swap_order`, where it certainly is the last action first and the first last; None elsewhere.

    Args:
        caption: One that says what is known to be done.
        num_actions: So many actions, one after the other.
    """
    num_parts = len(_THEN.split(caption.strip()))
    if found := _BEFORE_OR_AFTER.findall(caption):
        certain = (len(found), num_parts, num_actions) == (1, 1, 2)
    else:
        certain = num_parts == num_actions
    return swap_order(caption) if certain else None


def has_order(text: str) -> bool:
    """Whether a word tells an order within what should be one action."""
    return bool(_THEN.search(text) or _BEFORE_OR_AFTER.search(text))
