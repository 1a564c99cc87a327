"""Where the attributes of a phrase stand, and the phrase with another in their place."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

# A word; what a hyphen joins is one, so that "red-haired" is no "red".
WORD = re.compile(r"[^\W_]+(?:['\u2019-][^\W_]+)*")
_GAP = re.compile(r"[\s_]+")
_JOINT = re.compile(r"\s*,\s*(?:(?:and|or)\s+)?|\s+(?:and|or)\s+")
_ARTICLE = re.compile(r"(?<![^\W_])(an?)([\s_]+)$", re.IGNORECASE)
_MADE_OF = re.compile(
    r"(?<![^\W_])(?:made (?:out )?of|made from|in) (?:an? |the )?$", re.IGNORECASE
)
# Before these a noun ends: in "glass with a straw" glass is the thing, in "glass jar" it is not.
_NO_CONTENT = re.compile(
    "a|an|the|and|or|with|without|of|in|on|at|for|to|from|by|near|next|under|over|behind|above|"
    "below|inside|beside|between|that|which|who|is|are|was|were|has|have|having|made|featuring|"
    "holding|containing",
    re.IGNORECASE,
)
# Longer phrases than encoders read have no end of them.
MOST_PLACES = 32


class Place(NamedTuple):
    """An attribute in a phrase: ``phrase[start:end]`` says `value` of the list `kind`."""

    start: int
    end: int
    kind: str
    value: str


def word_key(text: str) -> str:
    """The form in which words of a list and of a phrase are compared."""
    return " ".join(re.split(r"[\s_-]+", text.casefold().strip()))


def find_places(
    phrase: str, known: Mapping[str, tuple[str, str]], nouns: Collection[str]
) -> list[Place]:
    """The attributes of a phrase, from left to right, at most `MOST_PLACES`.

    Args:
        phrase: Such as "a light blue glass jar".
        known: By `word_key`, the list that it is in and the value that it says. The longest of
            those that begin at a word counts.
        nouns: Keys that are also things. They count before what they describe ("glass jar"), and
            after "made of", "made from" and "in"; else the phrase is about them.
    """
    found = list(_matches(phrase, known))
    places: list[Place] = []
    describes_next = False
    # From the right: of "purple and white label" purple describes what white does.
    for number in reversed(range(len(found))):
        place, key = found[number]
        following = found[number + 1][0].start if number + 1 < len(found) else None
        joined = following is not None and _JOINT.fullmatch(phrase[place.end : following])
        describes = _is_before_content(phrase, place.end) or (joined and describes_next)
        if key not in nouns or describes or _is_made_of(phrase, found, number):
            places.append(place)
        describes_next = bool(describes)
    return places[::-1]


def joined_values(phrase: str, places: list[Place], number: int) -> set[str]:
    """The values that are enumerated with one of them: of "red, blue and green" all."""
    values = {places[number].value}
    for step in (1, -1):
        at = number
        while 0 <= at + step < len(places):
            left, right = sorted((places[at], places[at + step]))
            if not _JOINT.fullmatch(phrase[left.end : right.start]):
                break
            at += step
            values.add(places[at].value)
    return values


def exchanged(phrase: str, place: Place, value: str) -> str:
    """The phrase with another value there, in the case of the old, and "a" or "an" to fit it."""
    before, old = phrase[: place.start], phrase[place.start : place.end]
    article = _ARTICLE.search(before)
    if article:
        is_vowel = value[:1].lower() in set("aeiou")
        fitting = article[1][0] + ("n" if is_vowel else "")
        before = before[: article.start()] + fitting + article[2]
    if len(old) > 1 and old.isupper():
        value = value.upper()
    elif old[:1].isupper():
        value = value[:1].upper() + value[1:]
    return before + value + phrase[place.end :]


def _matches(phrase: str, known: Mapping[str, tuple[str, str]]) -> Iterator[tuple[Place, str]]:
    longest = max((key.count(" ") + 1 for key in known), default=0)
    words = list(WORD.finditer(phrase))
    at = count = 0
    while at < len(words) and count < MOST_PLACES:
        key, last = "", at - 1
        for end in range(at, min(at + longest, len(words))):
            if end > at and not _GAP.fullmatch(phrase[words[end - 1].end() : words[end].start()]):
                break
            tried = word_key(phrase[words[at].start() : words[end].end()])
            if tried in known:
                key, last = tried, end
        if key:
            yield Place(words[at].start(), words[last].end(), *known[key]), key
            count += 1
        at = max(last, at) + 1


def _is_before_content(phrase: str, end: int) -> bool:
    gap = _GAP.match(phrase, end)
    word = gap and WORD.match(phrase, gap.end())
    return bool(word) and not _NO_CONTENT.fullmatch(word[0])


def _is_made_of(phrase: str, found: list[tuple[Place, str]], number: int) -> bool:
    start = found[number][0].start
    # "made of light grey wood": what describes the material stands between.
    while number and _GAP.fullmatch(phrase[found[number - 1][0].end : start]):
        number -= 1
        start = found[number][0].start
    return bool(_MADE_OF.search(_GAP.sub(" ", phrase[max(start - 80, 0) : start])))
