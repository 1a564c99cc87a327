"""The form in which lists of attributes are given, and what two of them say together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fgclip_det.io import quoted

# By key, the form in words, and whether an object's values, or the value, are lists of texts.
_FORMS = {
    "lists": 'an object of lists of words, {"color": ["red", "blue"]}',
    "contradictions": 'a list of groups of phrases, [["open door", "closed door"]]',
    "spellings": 'an object of words, {"gray": "grey"}',
    "nouns": 'a list of words, ["glass"]',
    "kinds": 'an object of lists of words, {"fabric": ["velvet"]}',
}
KEYS = tuple(_FORMS)


def check_form(fields: Mapping[str, Any]) -> None:
    """Make sure that each field, by its key, is of the form that `Attributes` tells.

    Raises:
        ValueError: One is not, or there is none of that name; says what is needed.
    """
    for key, value in fields.items():
        if key not in _FORMS:
            raise ValueError(f"attributes have no {quoted(key)}: give some of {', '.join(KEYS)}")
        if not _fits(key, value):
            raise ValueError(f"{key} of attributes must be {_FORMS[key]}, not {quoted(value)}")


def joined(mine: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of both, which are of that form: lists of the same name get longer."""
    return {
        key: _joined(mine[key], more[key]) if key in mine and key in more else {**mine, **more}[key]
        for key in {**mine, **more}
    }


def _joined(mine: Any, more: Any) -> Any:
    if not isinstance(mine, Mapping):
        return [*mine, *more]
    both = {**mine, **more}
    return {
        name: [*mine[name], *more[name]]
        if name in mine and name in more and not isinstance(words, str)
        else words
        for name, words in both.items()
    }


def _fits(key: str, value: Any) -> bool:
    if key == "nouns":
        return _are_texts(value)
    if key == "contradictions":
        return _is_list(value) and all(_are_texts(group) for group in value)
    if not isinstance(value, Mapping) or not _are_texts(list(value)):
        return False
    if key == "spellings":
        return _are_texts(list(value.values()))
    return all(_are_texts(words) and words for words in value.values())


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _are_texts(values: Any) -> bool:
    return _is_list(values) and all(isinstance(one, str) and one.strip() for one in values)
