"""Files that say what confidences mean, what is in pictures and what is asked of them, broken."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.hostile.case import DONE, REFUSED, Case, case, write_file
from tests.hostile.shared_data import BUNDLED, Data

_NAME = "red striped circle"
_GOOD = {"id": 1, "file_name": "000000.png", "width": 128, "height": 128}
_BOX = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [9, 9, 30, 30], "area": 900, "iscrowd": 0}
_ASKED = {"image_id": 1, "text": _NAME, "kind": "present", "bboxes": [[9, 9, 30, 30]]}


def absent(folder: Path, pictures: Path) -> list[object]:
    """Arguments that find a threshold of a thing that is nowhere."""
    (folder / "out").mkdir()
    options = ["--absent", "--texts", "a cat", "--risk", "0.5", "--quiet"]
    return ["calibrate", pictures, *options, *_with_model("out/c.json")]


def curve(folder: Path, pictures: Path, truth: Path) -> list[object]:
    """Arguments that fit a curve to true boxes."""
    (folder / "out").mkdir()
    options = ["--truth", truth, "--texts", _NAME, "--quiet"]
    return ["calibrate", pictures, *options, *_with_model("out/c.json")]


def _with_model(out: str) -> list[object]:
    return ["--model", "bundled", "--device", "cpu", "--out", out]


def _truth(boxes: object = (_BOX,), images: object = (_GOOD,), name: object = _NAME) -> str:
    told = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": name}]}
    return json.dumps(told)


def _queries(**changed: object) -> str:
    return json.dumps({"images": [_GOOD], "queries": [{**_ASKED, **changed}]})


def _broken_calibrations() -> dict[str, str]:
    text = (BUNDLED / "calibration.json").read_text(encoding="utf-8")
    told = json.loads(text)
    odd = {
        "weights of text": {"weights": ["1", "2"]},
        "falling knots": {"knots": [[0, 0], [-1, 5]]},
        "a threshold of a list": {"thresholds": {"a cat": []}},
        "another detector": {"detector": "0" * 16},
    }
    made = {what: json.dumps({**told, **changed}) for what, changed in odd.items()}
    return {**made, "half a file": text[: len(text) // 2], "NaN": text.replace("0.5", "NaN", 1)}


TRUTHS = {
    "no pictures": _truth(images=()),
    "a box of nothing": _truth([{**_BOX, "bbox": [9, 9]}]),
    "a box of NaN": _truth([{**_BOX, "bbox": [9, 9, float("nan"), 30]}]),
    "a box of no picture": _truth([{**_BOX, "image_id": 7}]),
    "a picture twice": _truth(images=[_GOOD, {**_GOOD, "id": 2}]),
    "a picture of another size": _truth(images=[{**_GOOD, "width": 9, "height": 9}]),
    "a lost picture": _truth(images=[{**_GOOD, "file_name": "../none.png"}]),
    "a name of blanks": _truth(name="  "),
    "a name of a number": _truth(name=5),
    "a list": "[]",
}
QUERIES = {
    "no such kind": _queries(kind="maybe"),
    "nothing there that is": _queries(bboxes=[]),
    "something there that is not": _queries(kind="absent"),
    "a box of NaN": _queries(bboxes=[[9, 9, float("nan"), 30]]),
    "a box of text": _queries(bboxes=["9999"]),
    "of no picture": _queries(image_id=7),
    "a text of blanks": _queries(text=" "),
    "a text of a number": _queries(text=5),
    "a list": "[]",
    "half a file": _queries()[:60],
}


def cases() -> Iterator[Case]:
    """Each broken file, to whoever reads it."""

    def truth(folder: Path, data: Data, text: str) -> list[object]:
        return curve(folder, data.shapes / "val", write_file(folder / "t.json", text))

    def asked(folder: Path, data: Data, text: str) -> list[object]:
        (folder / "out").mkdir()
        given = [write_file(folder / "q.json", text), data.shapes / "val"]
        good = [data.shapes / "annotations" / "val_presence.json", data.shapes / "val"]
        rest = ["--test", *good, "--value", "score", "--device", "cpu", "--out", "out/p.json"]
        return ["bundled", "--tune", *given, *rest]

    def more(folder: Path, data: Data, text: str) -> list[object]:
        given = write_file(folder / "before.json", text)
        return [*absent(folder, data.shapes / "val"), "--calibration", given]

    def shown(folder: Path, data: Data, text: str) -> list[object]:
        given = write_file(folder / "before.json", text)
        return ["demo", data.picture, "--texts", "a", "--calibration", given, "--out-dir", "out"]

    cli, calibrations = "fgclip-det", _broken_calibrations()
    readers: list[tuple[str, str, Callable, dict[str, str]]] = [
        ("truth", cli, truth, TRUTHS),
        ("queries", "eval_presence.py", asked, QUERIES),
        ("calibration", cli, more, calibrations),
        ("calibration of demo", cli, shown, calibrations),
    ]
    for kind, tool, make, texts in readers:
        for what, text in texts.items():

            def made(folder: Path, data: Data, make=make, text=text) -> list[object]:
                return make(folder, data, text)

            yield case(f"calibrating/{kind}/{what}", tool, made, {REFUSED})
    yield case("calibrating/what is fine", cli, lambda f, d: absent(f, d.shapes / "val"), {DONE})
