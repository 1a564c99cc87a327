"""FG-OVD's annotations and predictions for them, in JSON, lines and pickles."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.hostile.case import (
    DONE,
    JSON_SHAPES,
    NO_FILES,
    PAYLOADS,
    REFUSED,
    REMOVED,
    Case,
    case,
    with_value,
    write_json,
    written,
)
from tests.hostile.shared_data import Data

EITHER = {DONE, REFUSED}
TOOL = "eval_fg_ovd.py"
NAN, INF = float("nan"), float("inf")
_DEEP: list = []
for _ in range(900):
    _DEEP = [_DEEP]

# Place in the file, what stands there instead, and which exit codes are right.
_ANNOTATIONS: tuple[tuple[tuple, Any, set[int]], ...] = (
    (("images",), None, {REFUSED}),
    (("images",), {}, {REFUSED}),
    (("images",), [], {REFUSED}),
    (("images", 0), 5, {REFUSED}),
    (("images", 0, "id"), "1", {REFUSED}),
    (("images", 0, "id"), True, {REFUSED}),
    (("images", 0, "id"), 2**64, {REFUSED}),
    (("images", 0, "id"), 10**400, {REFUSED}),
    (("images", 0, "id"), [1], {REFUSED}),
    (("images", 0, "id"), -1, EITHER),
    (("images", 0, "file_name"), 5, EITHER),
    (("images", 0, "width"), NAN, {REFUSED}),
    (("categories",), REMOVED, {REFUSED}),
    (("categories",), [], {REFUSED}),
    (("categories", 0, "name"), None, {REFUSED}),
    (("categories", 0, "name"), "", EITHER),
    (("categories", 0, "name"), "\ud800", {REFUSED}),
    (("categories", 0, "name"), "\x1b[31mred\x07\n| x |", EITHER),
    (("categories", 0, "name"), "a" * 1_000_000, EITHER),
    (("categories", 0, "id"), 1.0, {REFUSED}),
    (("categories", 0, "id"), {}, {REFUSED}),
    (("annotations",), REMOVED, {REFUSED}),
    (("annotations",), [], {REFUSED}),
    (("annotations",), [[]], {REFUSED}),
    (("annotations",), "x", {REFUSED}),
    (("annotations", 0, "bbox"), REMOVED, {REFUSED}),
    (("annotations", 0, "bbox"), [1, 2, 3], {REFUSED}),
    (("annotations", 0, "bbox"), [1, 2, 3, "4"], {REFUSED}),
    (("annotations", 0, "bbox"), [0, 0, NAN, 1], {REFUSED}),
    (("annotations", 0, "bbox"), [0, 0, 1e300, 1], {REFUSED}),
    (("annotations", 0, "bbox"), [0, 0, 10**400, 1], {REFUSED}),
    (("annotations", 0, "bbox"), [0, 0, -1, 1], {REFUSED}),
    (("annotations", 0, "bbox"), [0, 0, 0, 0], EITHER),
    (("annotations", 0, "bbox"), [True, True, True, True], {REFUSED}),
    (("annotations", 0, "bbox"), {"0": 1}, {REFUSED}),
    (("annotations", 0, "bbox"), _DEEP, {REFUSED}),
    (("annotations", 0, "id"), None, {REFUSED}),
    (("annotations", 0, "image_id"), 999_999, {REFUSED}),
    (("annotations", 0, "image_id"), [], {REFUSED}),
    (("annotations", 0, "category_id"), "\x1b[31mx", {REFUSED}),
    (("annotations", 0, "category_id"), {}, {REFUSED}),
    (("annotations", 0, "neg_category_ids"), None, {REFUSED}),
    (("annotations", 0, "neg_category_ids"), "12", {REFUSED}),
    (("annotations", 0, "neg_category_ids"), {}, {REFUSED}),
    (("annotations", 0, "neg_category_ids"), [[1]], {REFUSED}),
    (("annotations", 0, "neg_category_ids"), [10**12], {REFUSED}),
    (("annotations", 0, "neg_category_ids"), ["x" * 100_000], {REFUSED}),
    (("annotations", 0, "neg_category_ids"), [1] * 100_000, EITHER),
)
_PREDICTIONS: tuple[tuple[tuple, Any], ...] = (
    (("format",), "x"),
    (("format",), "\x1b[31m" * 9),
    (("format",), ["x" * 100_000]),
    (("version",), 2),
    (("version",), "1"),
    (("version",), REMOVED),
    (("n_negatives",), -1),
    (("n_negatives",), True),
    (("n_negatives",), 1.5),
    (("n_negatives",), 10**9),
    (("n_negatives",), "2"),
    (("n_negatives",), None),
    (("predictions",), {}),
    (("predictions",), None),
    (("predictions", 0), None),
    (("predictions", 0), []),
    (("predictions", 0, "annotation_id"), 999_999),
    (("predictions", 0, "annotation_id"), "1"),
    (("predictions", 0, "annotation_id"), 10**30),
    (("predictions", 0, "boxes"), REMOVED),
    (("predictions", 0, "boxes"), "x"),
    (("predictions", 0, "boxes"), [[1, 2, 3]]),
    (("predictions", 0, "boxes"), [[1, 2, 3, 4], [1]]),
    (("predictions", 0, "boxes"), [[9, 9, 1, 1], [0, 0, 1, 1]]),
    (("predictions", 0, "boxes"), [[0, 0, NAN, 1], [0, 0, 1, 1]]),
    (("predictions", 0, "boxes"), [[0, 0, 1e300, 1], [0, 0, 1, 1]]),
    (("predictions", 0, "boxes"), [[0, 0, 10**300, 1], [0, 0, 1, 1]]),
    (("predictions", 0, "boxes"), [{}, {}]),
    (("predictions", 0, "boxes"), _DEEP),
    (("predictions", 0, "scores"), None),
    (("predictions", 0, "scores"), []),
    (("predictions", 0, "scores"), [["a"] * 3] * 2),
    (("predictions", 0, "scores"), [[None] * 3] * 2),
    (("predictions", 0, "scores"), [[INF] * 3] * 2),
    (("predictions", 0, "scores"), [[1e39] * 3] * 2),
    (("predictions", 0, "scores"), [[0.5] * 99] * 2),
    (("predictions", 0, "scores"), [[True] * 3] * 2),
)
_OPTIONS: tuple[tuple[list[str], set[int]], ...] = (
    (["--n-negatives", "-1"], {REFUSED}),
    (["--n-negatives", "99999999999"], {REFUSED}),
    (["--n-negatives", "0"], EITHER),
    (["--sweep", "--strict", "--words"], {DONE}),
    (["--trust-pickle"], {REFUSED}),
    (["--validation", "none.json"], {REFUSED}),
    (["--validation", "/dev/zero"], {REFUSED}),
    (["--validation", ""], EITHER),
    (["--validation", "."], {REFUSED}),
)
_LINE = {
    "img_path": "x.png",
    "bbox": [0, 0, 1, 1],
    "pos_expression": ["a"],
    "neg_expression": ["b"],
}
_LINES = {
    "no object": "5\n",
    "no keys": "{}\n",
    "second line is broken": '\n{"img_path": "x.png"\n',
    "separators": "\u2028\u2029\x85\n",
    **{
        f"{key} {ascii(value)[:20]}": json.dumps({**_LINE, key: value}) + "\n"
        for key, value in (
            ("img_path", 5), ("img_path", "/dev/zero"), ("img_path", "../../x.png"),
            ("img_path", "a\0b"), ("img_path", "\x1b[31mx.png"), ("img_path", "\ud800"),
            ("img_path", "a" * 5000), ("bbox", ["a", 0, 1, 1]), ("bbox", None), ("bbox", [0] * 4),
            ("pos_expression", []), ("pos_expression", "a"), ("neg_expression", []),
            ("neg_expression", [5]), ("test_type", {"a": "\x1b[31m"}),
        )
    },
}  # fmt: skip


def _official(change: Callable[[list], Any]) -> Callable[[Data], bytes]:
    return lambda data: pickle.dumps(change(pickle.loads(data.official.read_bytes())))


def _arrays(dtype: str) -> Callable[[list], Any]:
    def change(entries: list) -> list:
        import numpy as np

        return [
            {k: np.array(v, dtype=dtype) if k == "boxes" else v for k, v in one.items()}
            for one in entries
        ]

    return change


_PICKLES: dict[str, tuple[Callable[[Data], bytes], set[int]]] = {
    **{name: (lambda data, c=content: c, {REFUSED}) for name, content in PAYLOADS.items()},
    "good": (_official(lambda x: x), {DONE}),
    "float16": (_official(_arrays("float16")), EITHER),
    "of objects": (_official(_arrays("object")), {REFUSED}),
    "of text": (_official(_arrays("U9")), {REFUSED}),
    "complex": (_official(_arrays("complex64")), {REFUSED}),
    "none": (_official(lambda x: None), {REFUSED}),
    "empty": (_official(lambda x: []), EITHER),
    "object": (_official(lambda x: {"a": x}), {REFUSED}),
    "numbers": (_official(lambda x: [1, 2]), {REFUSED}),
    "no boxes": (_official(lambda x: [{}]), {REFUSED}),
    "unknown category": (_official(lambda x: [{**x[0], "category_id": 10**9}]), EITHER),
    "category of text": (_official(lambda x: [{**x[0], "category_id": "x"}]), {REFUSED}),
    "category is a list": (_official(lambda x: [{**x[0], "category_id": []}]), {REFUSED}),
    "scores of NaN": (_official(lambda x: [{**x[0], "scores": [NAN, NAN]}]), EITHER),
    "totals of NaN": (_official(lambda x: [{**x[0], "total_scores": [[NAN] * 3] * 2}]), {REFUSED}),
    "totals are short": (_official(lambda x: [{**x[0], "total_scores": [[1.0]]}]), {REFUSED}),
    "twice": (_official(lambda x: x + x), EITHER),
    "in itself": (lambda data: b"\x80\x04]\x94h\x00a.", {REFUSED}),
    "deep": (lambda data: b"\x80\2" + b"]" * 10**5 + b"a" * 99_999 + b".", {REFUSED}),
    "memo of 2**31": (lambda data: b"\x80\2Nr\xff\xff\xff\x7f.", {REFUSED}),
    "long text": (lambda data: b"\x80\4\x8d\0\0\0\0\0\1\0\0.", {REFUSED}),
    "billion lists": (
        lambda data: b"\x80\2]q\0" + b"".join(
            b"](h%cae" % n + b"0](" + b"h\0" * 9 + b"eq%c" % (n + 1) for n in range(0, 20)
        ) + b".", {REFUSED}),
    "cut": (lambda data: data.official.read_bytes()[:50], {REFUSED}),
    "nothing": (lambda data: b"", {REFUSED}),
    "JSON": (lambda data: data.predictions.read_bytes(), {REFUSED}),
}  # fmt: skip


def _scored(
    annotations: Callable[[Path, Data], object] | None = None,
    predictions: Callable[[Path, Data], object] | None = None,
    options: list[str] | None = None,
    name: str = "p.json",
):
    def make(folder: Path, data: Data) -> list[object]:
        (folder / "out").mkdir()
        asked, given = folder / "a.json", folder / name
        if annotations:
            annotations(asked, data)
        else:
            shutil.copy(data.fg_ovd, asked)
        if predictions:
            predictions(given, data)
        else:
            shutil.copy(data.predictions, given)
        return [asked, given, "--out", "out/scores.json", *(options or [])]

    return make


def _accuracy(name: str, write: Callable[[Path, Data], object], options: tuple[str, ...] = ()):
    def make(folder: Path, data: Data) -> list[object]:
        (folder / "out").mkdir()
        write(folder / name, data)
        out = ["--out", "out/a.json"]
        return [data.encoder(1), folder / name, data.shapes, *out, *options]

    return make


def _made(content: Callable[[Data], bytes]) -> Callable[[Path, Data], object]:
    return lambda path, data: path.write_bytes(content(data))


def _told(place: tuple, new: Any) -> str:
    value = "removed" if new is REMOVED else ascii(new)[:24]
    return f"{'.'.join(map(str, place))} {value}"


def _changed(place: tuple, new: Any, file: str) -> Callable[[Path, Data], object]:
    return lambda path, data: write_json(
        path, with_value(data.json(getattr(data, file)), place, new)
    )


def cases() -> Iterator[Case]:
    """The two tools that score, and the check of the benchmark's files where it is there."""
    for shape, content in JSON_SHAPES.items():
        yield case(f"fg_ovd/annotations of {shape}", TOOL, _scored(written(content)), REFUSED)
        make = _scored(predictions=written(content))
        yield case(f"fg_ovd/predictions of {shape}", TOOL, make, REFUSED)
        make = _accuracy("a.json", written(content))
        yield case(f"accuracy/{shape}", "eval_region_accuracy.py", make, REFUSED)
    for number, (place, new, codes) in enumerate(_ANNOTATIONS):
        changed = _changed(place, new, "fg_ovd")
        yield case(f"fg_ovd/annotations: {_told(place, new)}", TOOL, _scored(changed), codes)
        if number % 3 == 0:
            make = _accuracy("a.json", changed)
            id = f"accuracy/{_told(place, new)}"
            yield case(id, "eval_region_accuracy.py", make, codes | EITHER)
    for place, new in _PREDICTIONS:
        make = _scored(predictions=_changed(place, new, "predictions"))
        yield case(f"fg_ovd/predictions: {_told(place, new)}", TOOL, make, REFUSED)
    for options, codes in _OPTIONS:
        yield case(f"fg_ovd/{' '.join(options)}", TOOL, _scored(options=options), codes)
    for name, (content, codes) in _PICKLES.items():
        make = _scored(predictions=_made(content), options=["--trust-pickle"], name="p.pkl")
        yield case(f"fg_ovd/pickle: {name}", TOOL, make, codes)
    refused = _scored(predictions=written(PAYLOADS["exec"]), name="p.pkl")
    yield case("fg_ovd/pickle without trust", TOOL, refused, REFUSED)
    renamed = _scored(predictions=written(PAYLOADS["exec"]))
    yield case("fg_ovd/pickle named .json", TOOL, renamed, REFUSED)
    for name, write in NO_FILES.items():
        yield case(f"fg_ovd/annotations are {name}", TOOL, _scored(write), REFUSED)
        yield case(f"fg_ovd/predictions are {name}", TOOL, _scored(predictions=write), REFUSED)
        make = _accuracy("a.jsonl", write)
        yield case(f"accuracy/annotations are {name}", "eval_region_accuracy.py", make, REFUSED)
    for name, text in _LINES.items():
        make = _accuracy("a.jsonl", written(text))
        yield case(f"accuracy/lines: {name}", "eval_region_accuracy.py", make, REFUSED)
