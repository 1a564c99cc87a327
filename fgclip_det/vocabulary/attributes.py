"""Closed lists of attributes: what an object is not, if it is what a phrase says."""

from __future__ import annotations

import hashlib
import json
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from itertools import chain, combinations, islice, zip_longest
from pathlib import Path
from typing import Literal

from fgclip_det.io import quoted, read_json
from fgclip_det.vocabulary.attribute_forms import KEYS, check_form, joined
from fgclip_det.vocabulary.attribute_words import (
    WORD,
    Place,
    exchanged,
    find_places,
    joined_values,
    word_key,
)
from fgclip_det.vocabulary.same_words import same_words

PACKAGED = Path(__file__).parent / "data" / "attributes.json"
# A pair that is in no file: both contradict, but only "without" is exchanged. Captions seldom say
# what is absent, so that an encoder may take "with" for "without" and nothing would be found.
_PRESENCE = {word: (" presence", word) for word in ("with", "without")}
_ARTICLES = frozenset(("a", "an", "the"))


# Compared by identity: the fields are objects, which have no hash; `hash` compares the contents.
@dataclass(frozen=True, eq=False)
class Attributes:
    """Closed lists: of each an object has one value.

    Attributes:
        lists: Values of each list, such as ``"color": ("black", "light blue")``, in the order in
            which they are taken. One that ends in another ("light blue" and "blue") is of its kind.
        contradictions: Groups of whole phrases, of which an object is at most one.
        spellings: Other words for a value, such as ``"gray": "grey"``: read, never written.
        nouns: Values that are also things. They are left alone where a phrase is about them, as in
            "an orange" and "a glass with a straw"; see `attribute_words.find_places`.
        kinds: Values with others that are kinds of them, such as ``"fabric": ("velvet",)``. Both
            may be true of one object, so they are neither exchanged nor contradict.

    Raises:
        ValueError: They are of another form, or contradict one another: a word in two lists, or a
            spelling, noun or kind of what is in none.
    """

    lists: Mapping[str, tuple[str, ...]]
    contradictions: tuple[tuple[str, ...], ...] = ()
    spellings: Mapping[str, str] = field(default_factory=dict)
    nouns: tuple[str, ...] = ()
    kinds: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_form({key: getattr(self, key) for key in KEYS})
        for key in ("lists", "kinds"):
            object.__setattr__(self, key, {n: _distinct(w) for n, w in getattr(self, key).items()})
        object.__setattr__(self, "nouns", tuple(self.nouns))
        groups = tuple(tuple(group) for group in self.contradictions)
        object.__setattr__(self, "contradictions", groups)
        known = self._known
        used = [*self.nouns, *chain.from_iterable(self.kinds.values()), *self.kinds]
        unknown = [word for word in used if word_key(word) not in known]
        if unknown:
            raise ValueError(
                f"the nouns or kinds of attributes name {quoted(unknown[0])}, which is in no list: "
                "add it to one"
            )

    @classmethod
    def load(
        cls,
        path: str | os.PathLike | None = None,
        base: Literal["packaged"] | None = "packaged",
    ) -> Attributes:
        """Those of the package, or of a file that extends them.

        Args:
            path: JSON file of an object with any of the attributes above; None for the package's,
                which are the lists of FG-OVD.
            base: None if the file stands alone, which it may say itself by ``"extends": false``.

        Raises:
            ValueError: The file cannot be read, is of another form, or contradicts itself or what
                it extends; names it.
        """
        packaged = read_json(PACKAGED, "attribute file")
        if path is None:
            return cls(**packaged)
        values = read_json(path, "attribute file")
        try:
            if not isinstance(values, Mapping):
                raise ValueError(f"it holds {quoted(values)}: an object with lists is needed")
            fields = dict(values)
            extends = fields.pop("extends", True)
            if not isinstance(extends, bool):
                raise ValueError(f"extends is {quoted(extends)}: give true or false")
            check_form(fields)
            return cls(**joined(packaged if extends and base else {"lists": {}}, fields))
        except ValueError as error:
            raise ValueError(f"attribute file {str(path)!r}: {error}") from None

    @property
    def hash(self) -> str:
        """16 hex digits of all that they say."""
        text = json.dumps(asdict(self))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def exchanges(self, phrase: str, most: int | None = None) -> list[str]:
        """The phrase with one attribute exchanged within its list, in all ways.

        Words that are no attribute are left alone, and so are values that may be true beside. Of
        "without" the exchange is "with", but not the reverse.

        Args:
            phrase: Such as "a red striped umbrella".
            most: How many at most; the attributes of the phrase take turns, each in the order of
                its list.

        Returns:
            Distinct phrases; none where the phrase has no attribute.
        """
        places = self._places(phrase)
        ways = [self._exchanges_at(phrase, places, number) for number in range(len(places))]
        turns = (text for turn in zip_longest(*ways) for text in turn if text is not None)
        return list(dict.fromkeys(islice(turns, most)))

    def only_added(self, phrase: str, general: str) -> bool:
        """Whether the words of a phrase that another has not say attributes, and nothing else.

        A part of a value says another thing, unless both may be true: "light blue mug" adds to
        "blue mug" and to "mug", and not to "light mug".
        """
        kept = {*general.split()}
        added = {*phrase.split()} - kept
        for place in self._places(phrase):
            words = WORD.findall(phrase[place.start : place.end])
            left = [word for word in words if word in kept]
            if left and left != words:
                said = word_key(" ".join(left))
                if not self._agree(place.value, self._known.get(said, ("", said))[1]):
                    return False
            added -= {*words}
        return not added

    def contradict(self, one: str, other: str) -> bool:
        """Whether an object that is what one phrase says cannot be what the other says.

        They differ in one attribute alone, or in "with" and "without", or are listed. Articles,
        case and plurals do not count.
        """
        return bool(self.contradictory([one, other]))

    def contradictory(self, phrases: Sequence[str]) -> list[tuple[int, int]]:
        """The pairs of places in `phrases` that `contradict`, each once and in order."""
        groups: defaultdict[tuple, list[tuple[int, str]]] = defaultdict(list)
        for number, phrase in enumerate(phrases):
            for place in self._places(phrase):
                before, after = _bare(phrase[: place.start]), _bare(phrase[place.end :])
                groups[place.kind, before, after].append((number, place.value))
            for listed, words in self._listed.get(same_words(phrase), ()):
                groups[(listed,)].append((number, words))
        return sorted(
            {
                (one, other)
                for group in groups.values()
                for (one, value), (other, another) in combinations(group, 2)
                if not self._agree(value, another)
            }
        )

    @cached_property
    def _known(self) -> dict[str, tuple[str, str]]:
        """By the form in which words are compared, the list and the value."""
        known: dict[str, tuple[str, str]] = {}
        for name, values in self.lists.items():
            for value in values:
                other = known.setdefault(word_key(value), (name, value))[0]
                if other != name:
                    raise ValueError(
                        f"{quoted(value)} is in two lists of attributes, {quoted(other)} and "
                        f"{quoted(name)}: take it from one"
                    )
        for spelling, value in self.spellings.items():
            said = known.get(word_key(value))
            if said is None or known.setdefault(word_key(spelling), said) != said:
                raise ValueError(
                    f"the spelling {quoted(spelling)} of {quoted(value)} must be of a value that "
                    "is in a list, and none itself"
                )
        return _PRESENCE | known

    @cached_property
    def _nouns(self) -> frozenset[str]:
        return frozenset(map(word_key, self.nouns))

    @cached_property
    def _kinds(self) -> frozenset[tuple[str, str]]:
        pairs = ((one, kind) for one, kinds in self.kinds.items() for kind in kinds)
        return frozenset((word_key(one), word_key(kind)) for one, kind in pairs)

    @cached_property
    def _listed(self) -> dict[str, list[tuple[int, str]]]:
        """By the same words, the groups of `contradictions` that a phrase is in."""
        found: defaultdict[str, list[tuple[int, str]]] = defaultdict(list)
        for number, group in enumerate(self.contradictions):
            for words in dict.fromkeys(map(same_words, group)):
                found[words].append((number, words))
        return found

    @cached_property
    def _found(self) -> dict[tuple[str, str], tuple[str, ...]]:
        return {}

    def _places(self, phrase: str) -> list[Place]:
        return find_places(phrase, self._known, self._nouns)

    def _exchanges_at(self, phrase: str, places: list[Place], number: int) -> Iterator[str]:
        place = places[number]
        if place.value == "without" and place.kind not in self.lists:
            yield exchanged(phrase, place, "with")
        # "a red and red mug" says what no one asks.
        beside = joined_values(phrase, places, number) - {place.value}
        for value in self._others(place):
            if not any(self._agree(value, one) for one in beside):
                yield exchanged(phrase, place, value)

    def _others(self, place: Place) -> tuple[str, ...]:
        """What its value is exchanged for, found once: thousands of names share a few values."""
        key = place.kind, place.value
        if key not in self._found:
            values = self.lists.get(place.kind, ())
            self._found[key] = tuple(v for v in values if not self._agree(place.value, v))
        return self._found[key]

    def _agree(self, one: str, other: str) -> bool:
        """Whether both may be true of one object."""
        one, other = word_key(one), word_key(other)
        if one == other or {(one, other), (other, one)} & self._kinds:
            return True
        return one.endswith(f" {other}") or other.endswith(f" {one}")


def _bare(text: str) -> tuple[str, ...]:
    words = [word for word in WORD.findall(text.casefold()) if word not in _ARTICLES]
    return (*words[:-1], words[-1].removesuffix("s")) if words else ()


def _distinct(words: Sequence[str]) -> tuple[str, ...]:
    first: dict[str, str] = {}
    for word in words:
        first.setdefault(word_key(word), word.strip())
    return tuple(first.values())
