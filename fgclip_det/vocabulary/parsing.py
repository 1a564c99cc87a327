"""The forms a vocabulary may be given in, each read into name -> prompts."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fgclip_det.io import quoted, read_json, read_text
from fgclip_det.io.json_files import MAX_JSON_BYTES
from fgclip_det.vocabulary.shown.exemplars import Exemplar, Shown

DATA = Path(__file__).parent / "data"
# name -> file of this package; a JSON file or one name a line.
BUILTIN = {"coco": "coco.txt", "ov_coco": "ov_coco.json", "lvis": "lvis_v1.txt"}
# The name of what is shown without one.
UNNAMED = "shown"
_SPACES = re.compile(r"\s+")
# A period ends a phrase at the end of the text or before a space; "1.5 l bottle" stays whole.
_PERIOD = re.compile(r"\.+(?=\s|$)")


class Parsed(NamedTuple):
    """Prompts of each name, in order; the rest where the form carries it."""

    prompts: dict[str, list[str]]
    templates: list[str] | None = None
    groups: dict[str, list[str]] | None = None
    thresholds: dict[str, Any] | None = None
    shown: dict[str, Shown] | None = None


def parse(spec: Any) -> Parsed:
    """Read any form of vocabulary; `Vocabulary.parse` lists them.

    Raises:
        ValueError: It is of no such form, names nothing, or its file cannot be read.
    """
    if isinstance(spec, os.PathLike):
        return _read_file(Path(spec))
    if isinstance(spec, str):
        if spec in BUILTIN:
            return _read_builtin(spec)
        if _looks_like_path(spec):
            return _read_file(Path(os.path.expanduser(spec)))
        return Parsed(_collect(_split(spec), quoted(spec)))
    if isinstance(spec, Exemplar):
        return Parsed({UNNAMED: []}, shown={UNNAMED: Shown((spec,))})
    if isinstance(spec, Mapping):
        return _from_mapping(spec, "the vocabulary")
    if isinstance(spec, Sequence):
        return Parsed(_collect(spec, "the list of names"))
    raise ValueError(
        f"a vocabulary cannot be a {type(spec).__name__}: give text such as 'a red mug. a plate', "
        "a list of names, a .txt or .json file, or one of " + ", ".join(sorted(BUILTIN))
    )


def clean_name(name: str) -> str:
    """A dataset's category name as words: lower case, ``_`` as a space, ``/`` as " or "."""
    words = name.lower().replace("_", " ").replace("/", " or ")
    return _SPACES.sub(" ", words).strip()


def _looks_like_path(text: str) -> bool:
    return Path(text).suffix.lower() in (".txt", ".json") and "\n" not in text


def _split(text: str) -> list[str]:
    pieces = _PERIOD.split(text)
    if len(pieces) > 1:
        return pieces
    return re.split(r"[,;\n]", text)


def _collect(entries: Iterable[Any], source: str) -> dict[str, list[str]]:
    """Names (with prompts equal to themselves) from strings, or from lists of synonyms."""
    prompts: dict[str, list[str]] = {}
    repeated: list[str] = []
    for entry in entries:
        if isinstance(entry, str):
            words = [entry]
        elif isinstance(entry, Sequence) and all(isinstance(word, str) for word in entry):
            words = list(entry)
        else:
            raise ValueError(f"{source} holds {quoted(entry)}: a name must be a string")
        _add(prompts, repeated, words[0] if words else "", words)
    return _finish(prompts, repeated, source)


def _add(prompts: dict, repeated: list[str], name: str, words: Iterable[str]) -> None:
    name, *cleaned = map(_without_spaces, (name, *words))
    cleaned = list(dict.fromkeys(word for word in cleaned if word))
    if not name.strip(" .,;"):
        return
    if name in prompts:
        repeated.append(name)
        cleaned = list(dict.fromkeys([*prompts[name], *cleaned]))
    prompts[name] = cleaned or [name]


def _without_spaces(text: str) -> str:
    return _SPACES.sub(" ", text).strip(" ,;\n\t")


def _finish(prompts: dict[str, list[str]], repeated: list[str], source: str) -> dict:
    if not prompts:
        raise ValueError(
            f"{source} names nothing to look for: give names, such as 'a red mug. a plate'"
        )
    if repeated:
        warnings.warn(
            f"{len(repeated)} name(s) are given more than once and were merged; the first is "
            f"{quoted(repeated[0])}",
            stacklevel=5,
        )
    return prompts


def _read_builtin(name: str) -> Parsed:
    parsed = _read_file(DATA / BUILTIN[name])
    prompts = {category: [clean_name(category)] for category in parsed.prompts}
    return Parsed(prompts, ["a photo of {article} {}."], parsed.groups)


def _read_file(path: Path) -> Parsed:
    if path.suffix.lower() == ".json":
        values = read_json(path, "vocabulary file")
        if isinstance(values, Mapping):
            return _from_mapping(values, f"vocabulary file {str(path)!r}", path.parent)
        if isinstance(values, list):
            return Parsed(_collect(values, f"vocabulary file {str(path)!r}"))
        raise ValueError(
            f"vocabulary file {str(path)!r} holds a {type(values).__name__}: a list of names or "
            'an object such as {"names": [...]} is needed'
        )
    text = read_text(path, "vocabulary file", MAX_JSON_BYTES)
    return _read_lines(text, f"vocabulary file {str(path)!r}")


def _read_lines(text: str, source: str) -> Parsed:
    """One name a line, prompts after it behind ``|``; ``#`` begins a comment line."""
    entries = []
    for line in text.splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            name, *words = (part.strip() for part in line.split("|"))
            entries.append((name, words or [name]))
    return Parsed(_from_pairs(entries, source))


def _from_pairs(pairs: Iterable[tuple[Any, Any]], source: str) -> dict[str, list[str]]:
    prompts: dict[str, list[str]] = {}
    repeated: list[str] = []
    for name, words in pairs:
        words = [words] if isinstance(words, str) else words
        strings = isinstance(words, Sequence) and all(isinstance(word, str) for word in words)
        if not isinstance(name, str) or not strings:
            raise ValueError(f"{source}: the prompts of {quoted(name)} must be a list of strings")
        _add(prompts, repeated, name, words)
    return _finish(prompts, repeated, source)


def _from_entries(entries: Mapping, source: str, folder: Path) -> Parsed:
    """Names with prompts, or with objects of these and of what is shown."""
    words: dict[Any, Any] = {}
    shown: dict[str, Shown] = {}
    for name, entry in entries.items():
        words[name] = entry
        if isinstance(entry, Mapping) and isinstance(name, str):
            own = Shown.parse(entry, f"{source}: the entry of {quoted(name)}", folder)
            words[name] = entry.get("prompts", [] if own.like else name)
            if own != Shown():
                shown[_without_spaces(name)] = own
    prompts = _from_pairs(words.items(), source)
    # A name that is shown alone says nothing.
    alone = {_without_spaces(name) for name, own in words.items() if own in ([], ())}
    prompts |= {name: [] for name in alone & {*shown}}
    return Parsed(prompts, shown={k: one for k, one in shown.items() if k in prompts} or None)


def _from_mapping(values: Mapping, source: str, folder: Path = Path()) -> Parsed:
    categories = values.get("categories")
    if isinstance(categories, list) and all(
        isinstance(c, Mapping) and isinstance(c.get("name"), str) for c in categories
    ):
        return Parsed(_collect([category["name"] for category in categories], source))
    if "names" not in values:
        return _from_entries(values, source, folder)
    names = values["names"]
    if isinstance(names, str) and (names in BUILTIN or _looks_like_path(names)):
        named = _parse_named(names, source)
    elif isinstance(names, Mapping):
        named = _from_entries(names, source, folder)
    elif isinstance(names, Sequence) and not isinstance(names, str):
        named = Parsed(_collect(names, source))
    else:
        raise ValueError(
            f'{source}: "names" must be a list or an object, a file or one of '
            f"{', '.join(sorted(BUILTIN))}, not {quoted(names)}"
        )
    # What stands beside the names overrides what comes with them.
    templates = values.get("templates", named.templates)
    groups = values.get("groups", named.groups)
    thresholds = values.get("thresholds", named.thresholds)
    return named._replace(templates=templates, groups=groups, thresholds=thresholds)


def _parse_named(name: str, source: str) -> Parsed:
    try:
        return parse(name)
    except RecursionError:
        raise ValueError(f'{source}: "names" leads from {quoted(name)} back to it') from None
