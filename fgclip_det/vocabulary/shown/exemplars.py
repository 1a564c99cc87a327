"""Exemplars: regions that show what a name means, or what it does not mean."""

from __future__ import annotations

import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from fgclip_det.io import quoted, sha256_of

# Pixels of the shorter side: a region of less shows nothing.
LEAST_SIDE = 4
# Two boxes of one picture that overlap by more are one region.
_ONE_REGION = 0.9
_NUMBER = r"-?\d+(?:\.\d*)?"
_WITH_BOX = re.compile(rf"(?P<file>.+):(?P<box>{_NUMBER}(?:,{_NUMBER}){{3}})", re.DOTALL)
_WITH_ROW = re.compile(r"(?P<file>.+\.safetensors):(?P<row>\d+)", re.DOTALL)
_FORMS = "a picture, picture.jpg:x1,y1,x2,y2 in pixels, or regions.safetensors:row"


# Compared by what is shown: a generated == would fail on arrays.
@dataclass(frozen=True, eq=False)
class Exemplar:
    """A region that is shown.

    Attributes:
        picture: A file, or (H, W, 3) uint8 RGB; None where `regions` are given.
        box: xyxy in pixels of the picture as viewers turn it; None for all of it, a crop.
        regions: Regions, such as `ImageRegions`, or their file, of which `row` is shown.
        row: Which of them, from 0.
        digest: 16 hex digits of the picture or the regions, where they are known from a file of
            embeddings; found when needed otherwise.

    Raises:
        ValueError: Nothing or too much is given, or the box is empty.
    """

    picture: str | os.PathLike | np.ndarray | None = None
    box: tuple[float, float, float, float] | None = None
    regions: Any = field(default=None, repr=False)
    row: int | None = None
    digest: str | None = None

    def __post_init__(self) -> None:
        given = [self.picture is not None, self.regions is not None]
        if sum(given) != 1 and not (self.digest and not any(given)):
            raise ValueError(f"an exemplar is a picture or a row of regions: give {_FORMS}")
        is_picture = isinstance(self.picture, str | os.PathLike | np.ndarray | None)
        if not is_picture or (isinstance(self.picture, np.ndarray) and not _is_rgb(self.picture)):
            raise ValueError(
                f"an exemplar cannot be a {type(self.picture).__name__}: give a file, or "
                "(H, W, 3) uint8 RGB"
            )
        object.__setattr__(self, "regions", getattr(self.regions, "regions", self.regions))
        if self.regions is not None and (type(self.row) is not int or self.row < 0):
            raise ValueError(f"the row of an exemplar is {self.row!r}: give one from 0 on")
        if self.box is not None:
            object.__setattr__(self, "box", _checked_box(self.box))

    @classmethod
    def parse(cls, given: Any, folder: str | os.PathLike = "") -> Exemplar:
        """Read an exemplar in any form.

        Args:
            given: An `Exemplar`; a picture; ``"picture.jpg:10,20,80,90"``;
                ``"regions.safetensors:3"``; or an object of the attributes, as `to_dict` makes it.
            folder: What names of files are relative to.

        Raises:
            ValueError: It is of no such form.
        """
        if isinstance(given, Exemplar):
            return given
        if isinstance(given, np.ndarray):
            return cls(given)
        if isinstance(given, str | os.PathLike):
            return cls._of_text(os.fspath(given), Path(folder))
        keys = {"picture", "box", "regions", "row", "digest"}
        if not isinstance(given, Mapping) or not {*given} <= keys:
            raise ValueError(f"an exemplar is {quoted(given)}: give {_FORMS}")
        files = {key: given[key] for key in ("picture", "regions") if key in given}
        if not all(isinstance(one, str) for one in files.values()):
            raise ValueError(f"an exemplar is {quoted(given)}: name files by text")
        return cls(**{**given, **{key: str(Path(folder, one)) for key, one in files.items()}})

    @classmethod
    def _of_text(cls, text: str, folder: Path) -> Exemplar:
        if not (folder / text).exists():
            if found := _WITH_BOX.fullmatch(text):
                box = tuple(map(float, found["box"].split(",")))
                return cls(str(folder / found["file"]), box)
            if found := _WITH_ROW.fullmatch(text):
                return cls(regions=str(folder / found["file"]), row=int(found["row"]))
            # What a user meant for a box, and not a name of a file that is not there.
            if re.fullmatch(r".+\.\w+:[-\d.,\s]*", text):
                raise ValueError(f"an exemplar is {quoted(text)}: give {_FORMS}")
        return cls(str(folder / text))

    @cached_property
    def source(self) -> str:
        """16 hex digits of the picture or the regions.

        Raises:
            ValueError: Their file cannot be read.
        """
        if self.digest is not None:
            return self.digest
        for given in (self.picture, self.regions):
            if isinstance(given, str | os.PathLike):
                return sha256_of(given, "exemplar")[:16]
        if self.picture is not None:
            shape, data = self.picture.shape, np.ascontiguousarray(self.picture)
            return hashlib.sha256(str(shape).encode() + data.tobytes()).hexdigest()[:16]
        rows = self.regions.region_embeddings.detach().cpu().float().contiguous().numpy()
        told = f"{self.regions.encoder_fingerprint} {rows.shape}"
        return hashlib.sha256(told.encode() + rows.tobytes()).hexdigest()[:16]

    @property
    def key(self) -> tuple[str, tuple[float, ...] | None, int | None]:
        """What tells it from others, whatever its file is called."""
        return self.source, self.box, self.row

    @property
    def name(self) -> str:
        """As it is told."""
        given = self.regions if self.picture is None else self.picture
        told = os.fspath(given) if isinstance(given, str | os.PathLike) else "pixels"
        if self.row is not None:
            return f"{told}:{self.row}"
        return told if self.box is None else f"{told}:{','.join(f'{v:g}' for v in self.box)}"

    def is_as(self, other: Exemplar) -> bool:
        """Whether both show the same region."""
        if (self.source, self.row) != (other.source, other.row):
            return False
        if self.box is None or other.box is None:
            return self.box == other.box
        (a, b, c, d), (e, f, g, h) = self.box, other.box
        common = max(min(c, g) - max(a, e), 0) * max(min(d, h) - max(b, f), 0)
        return common > _ONE_REGION * ((c - a) * (d - b) + (g - e) * (h - f) - common)

    def to_dict(self) -> dict[str, Any]:
        """As JSON knows it; pixels and rows in memory are told by their digest alone."""
        told: dict[str, Any] = {"digest": self.source}
        for key in ("picture", "regions"):
            if isinstance(given := getattr(self, key), str | os.PathLike):
                told[key] = os.fspath(given)
        told |= {} if self.box is None else {"box": list(self.box)}
        return told | ({} if self.row is None else {"row": self.row})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Exemplar) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)


@dataclass(frozen=True)
class Shown:
    """What is shown of a name, and what it is told apart from.

    Attributes:
        like: Exemplars of it.
        not_like: Exemplars of what it is not.
        not_said: Phrases of what it is not.

    Raises:
        ValueError: An exemplar is of both.
    """

    like: tuple[Exemplar, ...] = ()
    not_like: tuple[Exemplar, ...] = ()
    not_said: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("like", "not_like", "not_said"):
            object.__setattr__(self, name, tuple(dict.fromkeys(getattr(self, name))))
        others: dict[tuple[str, int | None], list[Exemplar]] = defaultdict(list)
        for one in self.not_like:
            others[one.source, one.row].append(one)
        for one in self.like:
            if any(one.is_as(other) for other in others[one.source, one.row]):
                raise ValueError(
                    f"{quoted(one.name)} is shown both as what is meant and as what is not: leave "
                    "one of them out"
                )

    @classmethod
    def parse(cls, form: Mapping[str, Any], source: str, folder: str | os.PathLike = "") -> Shown:
        """Read ``{"prompts", "like", "not_like", "not"}``, each one or a list; prompts are left.

        Args:
            form: The object.
            source: What it is of, for errors.
            folder: What names of files are relative to.

        Raises:
            ValueError: It has other keys, or an exemplar or a phrase cannot be read.
        """
        if unknown := {*form} - {"prompts", "like", "not_like", "not"}:
            raise ValueError(
                f'{source} has {quoted(min(map(str, unknown)))}: an entry is {{"prompts": [...], '
                '"like": [...], "not_like": [...], "not": [...]}'
            )
        phrases = _several(form.get("not", ()))
        if not all(isinstance(one, str) and one.strip() for one in phrases):
            raise ValueError(f'{source}: "not" is {quoted(phrases)}: give phrases')
        like, not_like = (
            tuple(Exemplar.parse(one, folder) for one in _several(form.get(key, ())))
            for key in ("like", "not_like")
        )
        return cls(like, not_like, tuple(one.strip() for one in phrases))

    @property
    def negatives(self) -> tuple[str, ...]:
        """What it is told apart from, as it is told: phrases, then exemplars."""
        return (*self.not_said, *(f"not {one.name}" for one in self.not_like))

    @property
    def are_shown(self) -> tuple[bool, ...]:
        """Of each of `negatives` whether it is an exemplar."""
        return (*(False for _ in self.not_said), *(True for _ in self.not_like))

    @property
    def without_negatives(self) -> Shown:
        """The same with exemplars of it alone."""
        return replace(self, not_like=(), not_said=())

    @property
    def key(self) -> list[Any]:
        """What decides its embeddings, as JSON knows it."""
        return [*([one.key for one in own] for own in (self.like, self.not_like)), self.not_said]

    def to_dict(self, prompts: Sequence[str]) -> dict[str, Any]:
        """The form that `parse` reads, with prompts."""
        told: dict[str, Any] = {"prompts": list(prompts)}
        for key in ("like", "not_like"):
            if own := getattr(self, key):
                told[key] = [one.to_dict() for one in own]
        return told | ({"not": list(self.not_said)} if self.not_said else {})


def _several(given: Any) -> Sequence[Any]:
    is_one = isinstance(given, str | os.PathLike | np.ndarray | Exemplar | Mapping)
    return (given,) if is_one or not isinstance(given, Sequence) else given


def _is_rgb(picture: np.ndarray) -> bool:
    return picture.ndim == 3 and picture.shape[2] == 3 and picture.dtype == np.uint8


def _checked_box(given: Any) -> tuple[float, float, float, float]:
    try:
        x1, y1, x2, y2 = map(float, given)
    except (TypeError, ValueError):
        raise ValueError(
            f"the box of an exemplar is {quoted(given)}: give x1, y1, x2, y2"
        ) from None
    # Of NaN no comparison is true.
    if not (x2 - x1 >= LEAST_SIDE and y2 - y1 >= LEAST_SIDE):
        raise ValueError(
            f"the box of an exemplar is {x1:g}, {y1:g}, {x2:g}, {y2:g}: give x1, y1, x2, y2 in "
            f"pixels, {LEAST_SIDE} or more to each side"
        )
    return x1, y1, x2, y2
