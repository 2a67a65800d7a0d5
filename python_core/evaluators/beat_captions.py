"""How a beat of a plan is said to an evaluator."""


def beat_caption(text: str) -> str:
    """A beat's text as a caption: "walk forward" -> "a person walk forward".

    The verb stays as it is: words are read by their base form, and of 1,129 beats of compositions 97 % read the same
    as with the verb inflected. Evaluators learn beats in this form, so whoever embeds a beat should use it.
    """
    return f"a person {text}"
