"""When two names say the same, or one is a kind of the other."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable

_NO_LETTERS = re.compile(r"[\W_]+")
_REMARK = re.compile(r"_?\([^)]*\)")
_ARTICLES = ("a ", "an ", "the ")
_PLURALS = ("sses", "xes", "zes", "ches", "shes")


def same_words(word: str) -> str:
    """A name's form in which those that say the same are equal.

    The same but for articles, case, plurals, and remarks in brackets.
    """
    text = _NO_LETTERS.sub(" ", _REMARK.sub(" ", word.casefold())).strip()
    for article in _ARTICLES:
        text = text.removeprefix(article)
    if text.endswith(_PLURALS):
        return text.removesuffix("es")
    # Both sides lose it, so that it may be wrong.
    return text if text.endswith("ss") else text.removesuffix("s") or word


def words_said(names: Iterable[str], prompts: Iterable[Iterable[str]]) -> list[set[str]]:
    """What each name says, by itself or in its prompts, in forms of `same_words`."""
    pairs = zip(names, prompts, strict=True)
    return [{same_words(word) for word in (name, *said)} for name, said in pairs]


class Said:
    """Names, among which those are found that say the same as another.

    Remarks in brackets tell names apart where both have one: a "mouse (animal)" is no "mouse
    (device)", and both are a "mouse".

    Args:
        words: The names.
    """

    def __init__(self, words: Iterable[str]) -> None:
        self._remarks: dict[str, set[str]] = defaultdict(set)
        for word in words:
            self._remarks[same_words(word)].add(_remark_of(word))

    def __contains__(self, word: str) -> bool:
        known, own = self._remarks.get(same_words(word), ()), _remark_of(word)
        return bool(known) and (not own or "" in known or own in known)


def _remark_of(word: str) -> str:
    return " ".join(same_words(one[:-1].partition("(")[2]) for one in _REMARK.findall(word))


def head_of(words: str) -> str:
    """The last word of a form that `same_words` gives: what the name is about."""
    return words.split()[-1] if words.split() else ""


def is_kind_of(words: str, general: str) -> bool:
    """Whether a name is of a kind of what another says: "cyan striped ring" of "a cyan ring".

    It has the same last word, and all words of the other. So a "dog collar" is no kind of dog, and
    a "hot dog" passes for one.

    Args:
        words: A form that `same_words` gives.
        general: Another.
    """
    kind, wanted = words.split(), general.split()
    return bool(wanted) and head_of(words) == head_of(general) and {*wanted} <= {*kind}
