"""Confusions: the attributes and words of captions that are taken for others."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from fgclip_det.fg_ovd.files import FGOVDFile

# The attributes of PACO, from which FG-OVD draws the words of its negatives; last what Shapes tells
# besides.
_HUES = ("blue", "brown", "green", "grey", "orange", "pink", "purple", "red", "yellow")
_MATERIALS = """stone wood rattan fabric crochet wool leather velvet metal paper plastic glass
ceramic"""
_PATTERNS = "plain striped dotted checkered woven studded perforated floral logo text"
ATTRIBUTES: dict[str, frozenset[str]] = {
    "color": frozenset(
        ["black", "white", *(shade + hue for hue in _HUES for shade in ("", "light ", "dark "))]
    ),
    "material": frozenset(_MATERIALS.split()),
    "pattern": frozenset(_PATTERNS.split()),
    "transparency": frozenset(("opaque", "translucent", "transparent")),
    "size": frozenset(("small", "medium", "large")),
    "shape": frozenset(("circle", "square", "triangle", "star", "cross", "ring")),
}
OTHER = "other"
# A word of a caption.
WORD = re.compile(r"[^\W_]+(?:['-][^\W_]+)*")
_ARTICLES = {"a", "an", "the"}


def attribute_breakdown(
    groups: Sequence[Sequence[str]],
    chosen: Sequence[int],
    attributes: Mapping[str, Collection[str]] = ATTRIBUTES,
) -> dict[str, dict[str, float]]:
    """Share of wrong choices by the attribute that they got wrong.

    Args:
        groups: K groups of captions, the right one first.
        chosen: (K,) place of the highest score in each group; below 0 where there is none, and the
            group does not count.
        attributes: Words or phrases of each attribute, in lower case.

    Returns:
        By attribute, and for "other" words: ``n`` groups with a negative that changes it,
        ``accuracy`` over those, ``mistaken`` (share of them whose choice changes it) and ``chance``
        (that share for a choice at random). A negative may change several attributes.

    Raises:
        ValueError: A choice is no caption of its group.
    """
    totals = {name: [0, 0, 0, 0.0] for name in (*attributes, OTHER)}
    for group, choice in _checked(groups, chosen):
        changed = [
            {_attribute(new, old, attributes) for old, new in word_changes(group[0], text)}
            for text in group[1:]
        ]
        for name in set().union(*changed):
            total = totals[name]
            total[0] += 1
            total[1] += choice == 0
            total[2] += choice > 0 and name in changed[choice - 1]
            total[3] += sum(name in one for one in changed) / len(group)
    return {
        name: {"n": n, "accuracy": right / n, "mistaken": mistaken / n, "chance": chance / n}
        for name, (n, right, mistaken, chance) in totals.items()
        if n
    }


def confused_words(
    groups: Sequence[Sequence[str]],
    chosen: Sequence[int],
    top: int = 20,
    attributes: Mapping[str, Collection[str]] = ATTRIBUTES,
) -> list[dict[str, Any]]:
    """The pairs of words that are confused most often.

    Args:
        groups: See `attribute_breakdown`.
        chosen: See `attribute_breakdown`.
        top: Length of the list.
        attributes: See `attribute_breakdown`.

    Returns:
        By falling number: ``right`` and ``taken_for`` (words that differ between the right caption
        and the choice), ``attribute``, ``times``, and ``offered``: how many negatives had this
        change.

    Raises:
        ValueError: See `attribute_breakdown`.
    """
    times: Counter[tuple[str, str]] = Counter()
    offered: Counter[tuple[str, str]] = Counter()
    for group, choice in _checked(groups, chosen):
        for place, text in enumerate(group[1:], start=1):
            changes = word_changes(group[0], text)
            offered.update(changes)
            if place == choice:
                times.update(changes)
    most = sorted(times.items(), key=lambda item: (-item[1], offered[item[0]], item[0]))
    return [
        {
            "right": old,
            "taken_for": new,
            "attribute": _attribute(new, old, attributes),
            "times": number,
            "offered": offered[old, new],
        }
        for (old, new), number in most[:top]
    ]


def mistakes(
    file: FGOVDFile, choices: Mapping[int, Mapping[str, int]], n_negatives: int
) -> dict[str, Any]:
    """Confusions of a detector, from the choices that `evaluate_fg_ovd` gives.

    Args:
        file: Ground truth.
        choices: By annotation id, with ``chosen``.
        n_negatives: N of that evaluation.

    Returns:
        ``attributes`` from `attribute_breakdown` and ``confused`` from `confused_words`. Boxes that
        no detection overlaps do not count.
    """
    asked = {(v.image_id, v.category_ids[0]): v for v in file.vocabularies(n_negatives)}
    owners = {one["id"]: one for one in file.annotations}
    # A choice is a place in the vocabulary, whose negatives are those of its first annotation.
    groups = [
        file.captions_of(asked[owners[number]["image_id"], owners[number]["category_id"]])
        for number in choices
    ]
    chosen = [one["chosen"] for one in choices.values()]
    return {
        "attributes": attribute_breakdown(groups, chosen),
        "confused": confused_words(groups, chosen),
    }


def word_changes(positive: str, negative: str) -> list[tuple[str, str]]:
    """Pairs (old words, new words) that turn one caption into another, without repetition.

    "light" and "dark" stay with their colour, so ("light grey", "pink") is one change. Articles,
    case and punctuation do not count.
    """
    one, other = _words(positive), _words(negative)
    pairs = ((" ".join(one[a:b]), " ".join(other[c:d])) for a, b, c, d in changed_spans(one, other))
    return list(dict.fromkeys(pairs))


def changed_spans(one: Sequence[str], other: Sequence[str]) -> list[tuple[int, int, int, int]]:
    """Spans in which two lists of words differ: ``one[a:b]`` against ``other[c:d]``, as a, b, c, d.

    Lists of the same length are compared place by place.
    """
    if len(one) == len(other):
        return [(i, i + 1, i, i + 1) for i in range(len(one)) if one[i] != other[i]]
    codes = difflib.SequenceMatcher(None, one, other, autojunk=False).get_opcodes()
    return [(a, b, c, d) for kind, a, b, c, d in codes if kind != "equal"]


def _words(text: str) -> list[str]:
    words: list[str] = []
    for word in WORD.findall(text.lower()):
        if words and words[-1] in ("light", "dark") and word in ATTRIBUTES["color"]:
            words[-1] += f" {word}"
        elif word not in _ARTICLES:
            words.append(word)
    return words


def _attribute(new: str, old: str, attributes: Mapping[str, Collection[str]]) -> str:
    """Attribute of a change: the negative's word tells it, else the right one's."""
    for word in (new, old):
        for name, words in attributes.items():
            if word in words:
                return name
    return OTHER


def _checked(
    groups: Sequence[Sequence[str]], chosen: Sequence[int]
) -> Iterator[tuple[Sequence[str], int]]:
    if len(groups) != len(chosen):
        raise ValueError(f"there are {len(groups)} groups of captions but {len(chosen)} choices")
    for number, (group, choice) in enumerate(zip(groups, chosen, strict=True)):
        if choice >= len(group):
            raise ValueError(
                f"choice {choice} of group {number} is none of its {len(group)} captions"
            )
        if choice >= 0:
            yield group, int(choice)
