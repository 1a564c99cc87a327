"""The wording in which names are judged, however they were typed."""

from __future__ import annotations

import re
from dataclasses import replace

from fgclip_det.io import quoted
from fgclip_det.vocabulary.vocabulary import Vocabulary

_ARTICLE = re.compile(r"^(an?|the)\s", re.IGNORECASE)
_PLAIN = ("{}",)


def check_wording(wording: str | None) -> None:
    """Make sure that a wording is a sentence for a name.

    Raises:
        ValueError: It is none.
    """
    if wording is not None and (not isinstance(wording, str) or wording.count("{}") != 1):
        raise ValueError(
            f'the wording of negatives is {quoted(wording)}: give a sentence with one "{{}}" for '
            'the name, such as "a {}", or None'
        )


def worded(vocabulary: Vocabulary, wording: str | None) -> Vocabulary:
    """The vocabulary with each prompt that brings no article put into a sentence.

    An encoder that was trained on phrases such as "a red circle" knows "red circle" less well.
    Names in sentences of the vocabulary's own stay as they are.

    Args:
        vocabulary: What is asked for.
        wording: The sentence, with "{}" for the name; None for none.

    Returns:
        The very same vocabulary where nothing changes.
    """
    if wording is None or vocabulary.templates != _PLAIN:
        return vocabulary
    prompts = tuple(
        tuple(text if _ARTICLE.match(text) else _put(text, wording) for text in said)
        for said in vocabulary.prompts
    )
    return vocabulary if prompts == vocabulary.prompts else replace(vocabulary, prompts=prompts)


def _put(text: str, wording: str) -> str:
    before, after = wording.split("{}")
    if text[:1].lower() in set("aeiou"):
        before = re.sub(r"\b([Aa]) $", r"\1n ", before)
    return f"{before}{text}{after}"
