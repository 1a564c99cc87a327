"""Names to look for, each with one or more prompts."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

from fgclip_det.io import listed, quoted, write_json
from fgclip_det.vocabulary.parsing import parse
from fgclip_det.vocabulary.saved_thresholds import check_thresholds, of_names, thresholds_of
from fgclip_det.vocabulary.shown.exemplars import Shown
from fgclip_det.vocabulary.templates import fill_template, resolve_templates

GROUPS = ("base", "novel")
# Encoders read at most 248 tokens; a file of another kind can be one line of any length.
LONGEST_TEXT = 20_000
_ARTICLE = re.compile(r"^(a|an|the)\s+", re.IGNORECASE)


@dataclass(frozen=True)
class Vocabulary:
    """Names, in order, with what is said of each.

    Attributes:
        names: Distinct names; their positions are the labels of detections.
        prompts: For each name one or more wordings of it; none of a name that is shown alone.
        templates: Sentences that each prompt is put into; see `templates`.
        groups: None, or the names of the "base" and "novel" classes.
        thresholds: None, or what is least reported of some names: see `saved_thresholds`. They are
            no part of what a vocabulary is compared by.
        shown: None, or what is shown of some names instead of said, or beside it.

    Raises:
        ValueError: Names repeat, are missing, no text that can be written or of more than
            `LONGEST_TEXT` characters, prompts do not fit them, or a group or threshold is of
            another.
    """

    names: tuple[str, ...]
    prompts: tuple[tuple[str, ...], ...]
    templates: tuple[str, ...] = ("{}",)
    groups: dict[str, list[str]] | None = None
    thresholds: dict[str, Any] | None = field(default=None, compare=False)
    shown: dict[str, Shown] | None = None

    def __post_init__(self) -> None:
        if not self.names:
            raise ValueError("a vocabulary needs at least one name")
        if len(set(self.names)) != len(self.names):
            raise ValueError("the names of a vocabulary must be distinct")
        if len(self.prompts) != len(self.names) or not all(
            prompts or self._of(name).like
            for name, prompts in zip(self.names, self.prompts, strict=True)
        ):
            raise ValueError("a vocabulary needs at least one prompt or exemplar for each name")
        phrases = (one.not_said for one in (self.shown or {}).values())
        for text in itertools.chain(self.names, *self.prompts, self.templates, *phrases):
            _check_text(text)
        for name, prompts in zip(self.names, self.prompts, strict=True):
            if both := {*prompts} & {*self._of(name).not_said}:
                raise ValueError(
                    f"{quoted(min(both))} is said both as what is meant and as what is not: leave "
                    "one of them out"
                )
        self._check_groups()
        check_thresholds(self.thresholds, self.names)

    def _of(self, name: str) -> Shown:
        return (self.shown or {}).get(name, Shown())

    def _check_groups(self) -> None:
        if self.groups is None:
            return
        if not isinstance(self.groups, Mapping) or not set(self.groups) <= set(GROUPS):
            raise ValueError(
                f"groups must be an object with the keys {GROUPS}, not {quoted(self.groups)}"
            )
        known, seen = set(self.names), set()
        for group, members in self.groups.items():
            for name in members:
                if name not in known:
                    raise ValueError(
                        f"group {group!r} names {quoted(name)}, which is not in the names"
                    )
                if name in seen:
                    raise ValueError(
                        f"{quoted(name)} is in both groups: base and novel exclude another"
                    )
            seen |= set(members)

    @classmethod
    def parse(
        cls,
        spec: Any,
        templates: str | Sequence[str] | None = None,
        groups: Mapping[str, Sequence[str]] | None = None,
    ) -> Vocabulary:
        """Read a vocabulary from any of its forms.

        Args:
            spec: ``"a red mug. a blue plate"`` or ``"mug, plate"``; a list of names (or of lists:
                a name and its synonyms); a mapping of names to prompts, or to objects of
                "prompts", "like", "not_like" (see `Exemplar.parse`) and "not"; an `Exemplar`; a
                ``.txt`` file (one name a line, optionally ``name | prompt | prompt``); a ``.json``
                file (a list, a mapping, ``{"names", "templates", "groups", "thresholds"}``, or COCO
                annotations); ``"coco"``, ``"ov_coco"``, ``"lvis"``; or a `Vocabulary`, which is
                returned as it is. "names" may be a file or one of the latter too, with templates or
                groups of its own beside.
            templates: Sentences with ``{}`` for the prompt, or the name of a set; overrides those
                of the form.
            groups: Base and novel names; overrides those of the form.

        Raises:
            ValueError: Nothing is named, or the form cannot be read; says where.
        """
        if isinstance(spec, Vocabulary):
            if templates is None and groups is None:
                return spec
            prompts: dict = dict(zip(spec.names, spec.prompts, strict=True))
            templates = spec.templates if templates is None else templates
            groups = spec.groups if groups is None else groups
            thresholds, shown = spec.thresholds, spec.shown
        else:
            prompts, own_templates, own_groups, thresholds, shown = parse(spec)
            templates = own_templates if templates is None else templates
            groups = own_groups if groups is None else groups
        return cls(
            names=tuple(prompts),
            prompts=tuple(tuple(words) for words in prompts.values()),
            templates=resolve_templates(templates),
            groups=_listed(groups),
            thresholds=thresholds,
            shown=shown,
        )

    @property
    def base_classes(self) -> tuple[str, ...]:
        """Base names in the order of `names`; empty without groups."""
        return self._members("base")

    @property
    def novel_classes(self) -> tuple[str, ...]:
        """Novel names in the order of `names`; empty without groups."""
        return self._members("novel")

    def _members(self, group: str) -> tuple[str, ...]:
        members = set((self.groups or {}).get(group, ()))
        return tuple(name for name in self.names if name in members)

    def subset(self, which: Literal["base", "novel"] | Sequence[str]) -> Vocabulary:
        """The names of a group, or the given ones, in the order of this vocabulary.

        Raises:
            ValueError: There is no such group or name.
        """
        if isinstance(which, str):
            wanted = set(self._members(which))
            if not wanted:
                raise ValueError(f"the vocabulary has no {which!r} group: give it groups first")
        else:
            wanted = set(which)
            unknown = sorted(wanted - set(self.names))
            if unknown or not wanted:
                named = listed(list(map(repr, unknown)), "unknown names")
                raise ValueError(f"not in the vocabulary: {named or 'an empty list of names'}")
        kept = [i for i, name in enumerate(self.names) if name in wanted]
        groups = self.groups and {
            group: [name for name in members if name in wanted]
            for group, members in self.groups.items()
        }
        return Vocabulary(
            tuple(self.names[i] for i in kept),
            tuple(self.prompts[i] for i in kept),
            self.templates,
            groups,
            of_names(self.thresholds, wanted),
            {k: v for k, v in (self.shown or {}).items() if k in wanted} or None,
        )

    def with_thresholds(self, calibration: Any) -> Vocabulary:
        """The same with the thresholds of a calibration, which a file of it then holds.

        Args:
            calibration: A `Calibration`: `thresholds` by name, and `figures_hash`.

        Raises:
            ValueError: It has none of these names.
        """
        return replace(self, thresholds=thresholds_of(calibration, self.names))

    def sentences(self) -> list[list[str]]:
        """For each name, all its prompts in all templates."""
        return [
            [fill_template(template, prompt) for prompt in prompts for template in self.templates]
            for prompts in self.prompts
        ]

    @property
    def negatives(self) -> list[tuple[int, str]]:
        """What single names are told apart from: the row of the name, and what is told of it."""
        return [
            (row, told) for row, name in enumerate(self.names) for told in self._of(name).negatives
        ]

    @property
    def shown_negatives(self) -> list[bool]:
        """Of each of `negatives` whether it is an exemplar."""
        return [is_shown for name in self.names for is_shown in self._of(name).are_shown]

    def places_in(self, names: Iterable[str]) -> list[int]:
        """Which of `names` each name of the vocabulary, or one of its prompts, is; -1 where none.

        Articles and case do not matter. A name itself counts before its prompts, and of `names`
        that say the same the first.
        """
        best: dict[int, tuple[int, int]] = {}
        for place, name in enumerate(names):
            for row, turn in self._rows_of.get(_bare(name), ()):
                best[row] = min(best.get(row, (turn, place)), (turn, place))
        places = [-1] * len(self)
        for row, (_, place) in best.items():
            places[row] = place
        return places

    @cached_property
    def _rows_of(self) -> dict[str, list[tuple[int, int]]]:
        """Of each text its rows, and the how many-th text of that row it is.

        Made once: thousands of names are asked of one picture after another.
        """
        rows: dict[str, list[tuple[int, int]]] = {}
        for row, (name, prompts) in enumerate(zip(self.names, self.prompts, strict=True)):
            for turn, text in enumerate((name, *prompts)):
                rows.setdefault(_bare(text), []).append((row, turn))
        return rows

    def to_dict(self) -> dict[str, Any]:
        """The JSON form that `parse` reads; of pixels in memory only a digest."""
        shown = self.shown or {}
        values: dict[str, Any] = {
            "names": {
                name: shown[name].to_dict(prompts) if name in shown else list(prompts)
                for name, prompts in zip(self.names, self.prompts, strict=True)
            },
            "templates": list(self.templates),
        }
        if self.groups is not None:
            values["groups"] = self.groups
        if self.thresholds is not None:
            values["thresholds"] = self.thresholds
        return values

    def to_json(self, path: str | os.PathLike) -> None:
        """Write the JSON form to a file."""
        write_json(path, self.to_dict(), ensure_ascii=False)

    @property
    def hash(self) -> str:
        """16 hex digits of all that decides the embeddings, and of the groups."""
        told: list[Any] = [list(zip(self.names, self.prompts, strict=True))]
        told += [self.templates, self.groups]
        if self.shown is not None:
            told.append({name: one.key for name, one in self.shown.items()})
        text = json.dumps(told, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def __hash__(self) -> int:
        # The generated one would fail on the groups, which are an object.
        return hash((self.names, self.prompts, self.templates))

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)


def _check_text(text: Any) -> None:
    if not isinstance(text, str):
        raise ValueError(f"a vocabulary holds {quoted(text)}: a name must be a string")
    if len(text) > LONGEST_TEXT:
        raise ValueError(
            f"a vocabulary holds a text of {len(text)} characters, more than {LONGEST_TEXT}, which "
            f"begins {quoted(text[:60])}: is each name on a line of its own?"
        )
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(
            f"a vocabulary holds {quoted(text)}, with half a surrogate pair or bytes that are no "
            "UTF-8: mend the text"
        ) from None


def _listed(groups: Any) -> dict[str, list[str]] | None:
    if groups is None:
        return None
    if not isinstance(groups, Mapping) or not all(
        isinstance(members, Sequence)
        and not isinstance(members, str)
        and all(isinstance(name, str) for name in members)
        for members in groups.values()
    ):
        raise ValueError(
            f'groups must be an object of lists of names, {{"base": [...]}}, not {quoted(groups)}'
        )
    return {group: list(members) for group, members in groups.items()}


def _bare(text: str) -> str:
    return _ARTICLE.sub("", text.strip().rstrip(".")).lower()
