"""COCO's and LVIS's annotations, results of detectors, and configs that are no programs."""

from __future__ import annotations

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
from tests.hostile.shared_data import BUNDLED, ROOT, Data

EITHER = {DONE, REFUSED}
NAN = float("nan")
Write = Callable[[Path, Data], object]

_ANNOTATIONS: tuple[tuple[tuple, Any, set[int]], ...] = (
    (("images",), REMOVED, {REFUSED}),
    (("images",), {}, {REFUSED}),
    (("images",), [], {REFUSED}),
    (("images", 0), None, {REFUSED}),
    (("images", 0, "id"), None, {REFUSED}),
    (("images", 0, "id"), 1.5, {REFUSED}),
    (("images", 0, "id"), 2**70, {REFUSED}),
    (("images", 0, "id"), [[]], {REFUSED}),
    (("images", 0, "width"), 0, {REFUSED}),
    (("images", 0, "width"), NAN, {REFUSED}),
    (("images", 0, "width"), "640", {REFUSED}),
    (("images", 0, "height"), REMOVED, {REFUSED}),
    (("images", 0, "height"), 1e12, {REFUSED}),
    (("images", 0, "file_name"), 5, {REFUSED}),
    (("images", 0, "file_name"), "", {REFUSED}),
    (("images", 0, "file_name"), "\ud800.jpg", {REFUSED}),
    (("images", 0, "file_name"), "/dev/zero", EITHER),
    (("images", 0, "file_name"), "../../etc/passwd", EITHER),
    (("images", 0, "file_name"), "\x1b[31mx\n.jpg", EITHER),
    (("categories",), [], {REFUSED}),
    (("categories",), "x", {REFUSED}),
    (("categories", 0, "name"), 5, {REFUSED}),
    (("categories", 0, "name"), "\x1b[31mx" * 999, {REFUSED}),
    (("categories", 0, "id"), 2, {REFUSED}),
    (("categories", 0, "id"), -1, {REFUSED}),
    (("annotations",), None, {REFUSED}),
    (("annotations", 0), "x", {REFUSED}),
    (("annotations", 0, "id"), "x", {REFUSED}),
    (("annotations", 0, "image_id"), 10**12, {REFUSED}),
    (("annotations", 0, "image_id"), {}, {REFUSED}),
    (("annotations", 0, "category_id"), 10**12, {REFUSED}),
    (("annotations", 0, "category_id"), [1], {REFUSED}),
    (("annotations", 0, "bbox"), REMOVED, {REFUSED}),
    (("annotations", 0, "bbox"), [], {REFUSED}),
    (("annotations", 0, "bbox"), [1, 2, 3, None], {REFUSED}),
    (("annotations", 0, "bbox"), [1, 2, NAN, 4], {REFUSED}),
    (("annotations", 0, "bbox"), [1, 2, 1e300, 4], {REFUSED}),
    (("annotations", 0, "bbox"), "abcd", {REFUSED}),
    (("annotations", 0, "area"), "x", EITHER),
    (("annotations", 0, "iscrowd"), "x", EITHER),
    (("annotations", 0, "iscrowd"), {}, EITHER),
    (("annotations", 0, "segmentation"), 5, EITHER),
    (("annotations", 0, "segmentation"), {"size": [10**9, 10**9], "counts": "x"}, EITHER),
)
_RESULTS: tuple[tuple[tuple, Any, set[int]], ...] = (
    ((0,), None, {REFUSED}),
    ((0,), [], {REFUSED}),
    ((0, "image_id"), None, {REFUSED}),
    ((0, "image_id"), "1", {REFUSED}),
    ((0, "image_id"), 10**12, {REFUSED}),
    ((0, "image_id"), 10**30, {REFUSED}),
    ((0, "image_id"), True, {REFUSED}),
    ((0, "image_id"), REMOVED, {REFUSED}),
    ((0, "category_id"), "x", EITHER),
    ((0, "category_id"), 10**30, EITHER),
    ((0, "category_id"), [], EITHER),
    ((0, "category_id"), REMOVED, EITHER),
    ((0, "score"), None, {REFUSED}),
    ((0, "score"), "0.5", {REFUSED}),
    ((0, "score"), NAN, {REFUSED}),
    ((0, "score"), -0.5, {REFUSED}),
    ((0, "score"), 50, {REFUSED}),
    ((0, "score"), True, {REFUSED}),
    ((0, "score"), 1e300, {REFUSED}),
    ((0, "bbox"), REMOVED, {REFUSED}),
    ((0, "bbox"), [1, 2, 3], {REFUSED}),
    ((0, "bbox"), [1, 2, -3, 4], EITHER),
    ((0, "bbox"), [0, 0, 0, 0], EITHER),
    ((0, "bbox"), [NAN, 0, 1, 1], {REFUSED}),
    ((0, "bbox"), [1e300, 0, 1, 1], EITHER),
    ((0, "bbox"), [10**300, 0, 1, 1], EITHER),
    ((0, "bbox"), ["1", "2", "3", "4"], {REFUSED}),
    ((0, "bbox"), [[1], [2], [3], [4]], {REFUSED}),
    ((0, "bbox"), [True] * 4, {REFUSED}),
    ((0, "bbox"), "abcd", {REFUSED}),
)
_DUMPED = {"img_id": 1, "ori_shape": (128, 128), "pred_instances": {
    "bboxes": [[1.0, 2.0, 30.0, 40.0]], "scores": [0.5], "labels": [0]}}  # fmt: skip
_PICKLES: tuple[tuple[tuple, Any], ...] = (
    ((0, "img_id"), "x"),
    ((0, "img_id"), REMOVED),
    ((0, "ori_shape"), None),
    ((0, "ori_shape"), (1, 1)),
    ((0, "ori_shape"), (NAN, NAN)),
    ((0, "pred_instances"), None),
    ((0, "pred_instances", "bboxes"), [[1, 2, 3]]),
    ((0, "pred_instances", "bboxes"), [["a"] * 4]),
    ((0, "pred_instances", "bboxes"), 5),
    ((0, "pred_instances", "scores"), []),
    ((0, "pred_instances", "scores"), [NAN]),
    ((0, "pred_instances", "scores"), [None]),
    ((0, "pred_instances", "labels"), ["x"]),
    ((0, "pred_instances", "labels"), REMOVED),
)


def _prepared(tool: str, write: Write, options: tuple[str, ...] = ()):
    """One of the two files of a dataset is written anew; results go to `out`."""
    kind, name = {
        "prepare_ov_coco.py": ("--coco", "instances_val2017.json"),
        "prepare_ov_lvis.py": ("--lvis", "lvis_v1_val.json"),
    }[tool]

    def make(folder: Path, data: Data) -> list[object]:
        shutil.copytree(data.coco / "annotations", folder / "annotations")
        (folder / "annotations" / name).unlink()
        write(folder / "annotations" / name, data)
        return [kind, folder, "--out", folder / "out", *options]

    return make


def _changed(place: tuple, new: Any, name: str) -> Write:
    return lambda path, data: write_json(
        path, with_value(data.json(data.coco / "annotations" / name), place, new)
    )


def _rescored(proposals: Write, name: str = "p.json", annotations: Write | None = None):
    def make(folder: Path, data: Data) -> list[object]:
        (folder / "out").mkdir()
        proposals(folder / name, data)
        asked = data.annotations
        if annotations:
            asked = folder / "a.json"
            annotations(asked, data)
        words = ["--encoder", data.encoder(1), "--vocabulary", BUNDLED / "vocabulary.json"]
        trust = ["--trust-pickle"] if name.endswith(".pkl") else []
        out = ["--out", "out/r.json", "--device", "cpu"]
        return [folder / name, asked, data.shapes / "val", *words, *out, *trust]

    return make


def _wrong_results(place: tuple, new: Any) -> Write:
    return lambda path, data: write_json(path, with_value(data.proposals, place, new))


def _good(path: Path, data: Data) -> None:
    write_json(path, data.proposals)


def _told(place: tuple, new: Any) -> str:
    value = "removed" if new is REMOVED else ascii(new)[:24]
    return f"{'.'.join(map(str, place))} {value}"


def _checked(annotations: Write, picture: Write | None = None):
    """Annotations of four pictures, the first of which may be another."""

    def make(folder: Path, data: Data) -> list[object]:
        pictures = Path(shutil.copytree(data.shapes / "val", folder / "pictures"))
        annotations(folder / "a.json", data)
        if picture:
            first = pictures / data.json(data.annotations)["images"][0]["file_name"]
            first.unlink()
            picture(first, data)
        return ["a.json", "pictures"]

    return make


def _as_they_are(path: Path, data: Data) -> None:
    shutil.copy(data.annotations, path)


def _checks() -> Iterator[Case]:
    """Of the tool that looks for faults in data: it must name them, not fall over them."""
    tool = "check_data.py"
    if not (ROOT / "tools" / tool).exists():
        return
    yield case("check_data/good", tool, _checked(_as_they_are), DONE)
    for name, content in JSON_SHAPES.items():
        yield case(f"check_data/{name}", tool, _checked(written(content)), REFUSED)
    for name, write in NO_FILES.items():
        yield case(f"check_data/annotations are {name}", tool, _checked(write), REFUSED)
        yield case(f"check_data/a picture is {name}", tool, _checked(_as_they_are, write), REFUSED)
    for number, name in enumerate(("empty", "pickle", "bytes", "NULs")):
        make = _checked(_as_they_are, written(JSON_SHAPES[name]))
        yield case(f"check_data/picture {number}: {name}", tool, make, REFUSED)
    for place, new, codes in _ANNOTATIONS:

        def write(path: Path, data: Data, place=place, new=new) -> None:
            write_json(path, with_value(data.json(data.annotations), place, new))

        yield case(f"check_data/{_told(place, new)}", tool, _checked(write), codes | EITHER)


def cases() -> Iterator[Case]:
    """Annotations with the tools that prepare, results with ``rescore``, configs with all."""
    yield from _checks()
    for tool, name in (
        ("prepare_ov_coco.py", "instances_val2017.json"),
        ("prepare_ov_lvis.py", "lvis_v1_val.json"),
    ):
        short = tool.removesuffix(".py")
        for number, (place, new, codes) in enumerate(_ANNOTATIONS):
            if tool == "prepare_ov_coco.py" or (number % 2 and "file_name" not in place):
                make = _prepared(tool, _changed(place, new, name))
                if tool != "prepare_ov_coco.py" and place[-1] == "iscrowd":
                    continue
                yield case(f"{short}/{_told(place, new)}", tool, make, codes)
        for shape, content in JSON_SHAPES.items():
            yield case(f"{short}/{shape}", tool, _prepared(tool, written(content)), REFUSED)
        for what, write in NO_FILES.items():
            yield case(f"{short}/{what}", tool, _prepared(tool, write), REFUSED)
    for place, new, codes in _RESULTS:
        make = _rescored(_wrong_results(place, new))
        yield case(f"rescore/{_told(place, new)}", "rescore.py", make, codes)
    for place, new in _PICKLES:
        allowed = EITHER if place[-1] in ("labels", "ori_shape") else {REFUSED}
        make = _rescored(written(pickle.dumps(with_value([_DUMPED], place, new))), "p.pkl")
        yield case(f"rescore/pickle {_told(place, new)}", "rescore.py", make, allowed)
    for name, content in PAYLOADS.items():
        make = _rescored(written(content), "p.pkl")
        yield case(f"rescore/pickle {name}", "rescore.py", make, REFUSED)
    for shape, content in JSON_SHAPES.items():
        yield case(f"rescore/{shape}", "rescore.py", _rescored(written(content)), REFUSED)
        make = _rescored(_good, annotations=written(content))
        yield case(f"rescore/annotations of {shape}", "rescore.py", make, REFUSED)
    for what, write in NO_FILES.items():
        yield case(f"rescore/{what}", "rescore.py", _rescored(write), REFUSED)
