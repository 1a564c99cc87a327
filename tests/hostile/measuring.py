"""Commands that measure: truth, queries, calibrations, captions and results that are none."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.hostile.case import (
    DONE,
    JSON_SHAPES,
    NO_FILES,
    PAYLOADS,
    REFUSED,
    Case,
    case,
    with_value,
    write_json,
    written,
)
from tests.hostile.shared_data import BUNDLED, Data

EITHER = {DONE, REFUSED}
NAN = float("nan")
Write = Callable[[Path, Data], object]


def _truth(folder: Path, data: Data, path: Path) -> list[object]:
    asked = ["--texts", "red plain circle", "--model", "bundled", "--quiet", "--out", "out/c.json"]
    return ["calibrate", data.shapes / "val", "--truth", path, *asked]


def _results(folder: Path, data: Data, path: Path) -> list[object]:
    asked = ["--texts", "red plain circle", "--encoder", BUNDLED / "encoder", "--quiet"]
    given = ["--truth", data.annotations, "--results", path, "--out", "out/c.json"]
    return ["calibrate", data.shapes / "val", *given, *asked]


def _calibration(folder: Path, data: Data, path: Path) -> list[object]:
    asked = ["--absent", "--texts", "a cat", "--risk", "0.9", "--delta", "0.9", "--quiet"]
    given = ["--model", "bundled", "--calibration", path, "--out", "out/c.json"]
    return ["calibrate", data.shapes / "val", *given, *asked]


def _queries(folder: Path, data: Data, path: Path) -> list[object]:
    good = data.shapes / "annotations" / "val_presence.json"
    asked = ["--tune", path, data.shapes / "val", "--test", good, data.shapes / "val"]
    return ["bundled", *asked, "--out", "out/presence.json"]


def _captions(folder: Path, data: Data, path: Path) -> list[object]:
    root = folder / "coco" / "annotations"
    root.mkdir(parents=True)
    if os.path.lexists(path):
        os.rename(path, root / "captions_val2017.json")
    given = [data.encoder(1), "coco", "--images", data.shapes / "pretrain_val"]
    return ["coco-retrieval", *given, "--out", "out/results.json"]


def _earlier_results(folder: Path, data: Data, path: Path) -> list[object]:
    given = [data.encoder(1), data.shapes / "coco_captions"]
    images = ["--images", data.shapes / "pretrain_val"]
    return ["coco-retrieval", *given, *images, "--out", path]


def _cache(folder: Path, data: Data, path: Path) -> list[object]:
    """What is kept of features is broken: they are made again, or the folder is refused."""
    arguments = _earlier_results(folder, data, Path("out") / "results.json")
    return [*arguments, "--cache", path]


def _bank(folder: Path, data: Data, path: Path) -> list[object]:
    return [path, "--model", "bundled", "--number", "4", "--out", "out/b.safetensors"]


# Command, arguments with the path of the file, and the file's name.
_READERS = {
    "truth": ("fgclip-det", _truth, "t.json"),
    "results": ("fgclip-det", _results, "r.json"),
    "calibration": ("fgclip-det", _calibration, "c0.json"),
    "queries": ("eval_presence.py", _queries, "q.json"),
    "captions": ("eval_encoder.py", _captions, "c.json"),
    "earlier results": ("eval_encoder.py", _earlier_results, "results.json"),
    "a cache": ("eval_encoder.py", _cache, "cache"),
    "a picture of a bank": ("make_region_bank.py", _bank, "p.png"),
}


def _made(reader: str, write: Write) -> Callable[[Path, Data], list[object]]:
    _, arguments, file = _READERS[reader]

    def make(folder: Path, data: Data) -> list[object]:
        (folder / "out").mkdir()
        write(folder / file, data)
        return arguments(folder, data, folder / file)

    return make


def _changed(source: Callable[[Data], Path], place: tuple, value: object) -> Write:
    return lambda path, data: write_json(path, with_value(data.json(source(data)), place, value))


def _own_calibration(data: Data) -> Path:
    return BUNDLED / "calibration.json"


def _good_queries(data: Data) -> Path:
    return data.shapes / "annotations" / "val_presence.json"


def _good_captions(data: Data) -> Path:
    return data.shapes / "coco_captions" / "annotations" / "captions_val2017.json"


_CHANGED: tuple[tuple[str, str, Write, set[int]], ...] = (
    ("truth", "a box of NaN", _changed(lambda data: data.annotations,
        ("annotations", 0, "bbox"), [0, 0, NAN, 1]), {REFUSED}),
    ("truth", "a picture elsewhere", _changed(lambda data: data.annotations,
        ("images", 0, "file_name"), "../../../etc/passwd"), {REFUSED}),
    ("calibration", "weights of NaN", _changed(_own_calibration, ("weights",), [NAN]), {REFUSED}),
    ("calibration", "altered", _changed(_own_calibration, ("conf_thr",), 0.1), {REFUSED}),
    ("queries", "a text of colours", _changed(_good_queries,
        ("queries", 0, "text"), "\x1b[31mred\x07"), EITHER),
    ("queries", "an odd kind", _changed(_good_queries, ("queries", 0, "kind"), "\x07"), {REFUSED}),
    ("queries", "half a pair", _changed(_good_queries,
        ("queries", 0, "text"), "\ud800"), {REFUSED}),
    ("queries", "a box of NaN", _changed(_good_queries, ("queries", 0, "bboxes"), [[NAN] * 4]),
        {REFUSED}),
    ("captions", "a picture elsewhere", _changed(_good_captions,
        ("images", 0, "file_name"), "/dev/zero"), EITHER),
    ("captions", "half a pair", _changed(_good_captions,
        ("annotations", 0, "caption"), "\ud800"), EITHER),
    ("a cache", "of pickles", lambda path, data: _fill(path, PAYLOADS["os.system"]), EITHER),
    ("a cache", "that is good", lambda path, data: path.mkdir(), {DONE}),
    ("a picture of a bank", "that is good", lambda path, data: shutil.copy(data.picture, path),
        {DONE}),
    ("results", "that are good", lambda path, data: path.write_text(json.dumps(data.proposals)),
        EITHER),
)  # fmt: skip


def _fill(folder: Path, content: bytes) -> None:
    folder.mkdir()
    for name in ("features.safetensors", "index.json", "0.npz"):
        (folder / name).write_bytes(content)


def cases() -> Iterator[Case]:
    """Each shape of JSON with some of the readers, and what is no file with each."""
    kinds = [name for name in _READERS if _READERS[name][2].endswith("json")]
    for number, (name, content) in enumerate(JSON_SHAPES.items()):
        for reader in (kinds[number % len(kinds)], kinds[(number + 3) % len(kinds)]):
            make = _made(reader, written(content))
            codes = EITHER if name in ("empty", "spaces") else {REFUSED}
            yield case(f"measuring/{reader}/{name}", _READERS[reader][0], make, codes)
    for number, (name, write) in enumerate(NO_FILES.items()):
        for reader in (*_READERS,)[number % 2 :: 2]:
            codes = EITHER if name in ("missing", "a folder") else {REFUSED}
            make = _made(reader, write)
            yield case(f"measuring/{reader}/{name}", _READERS[reader][0], make, codes)
    for reader, name, write, codes in _CHANGED:
        make = _made(reader, write)
        yield case(f"measuring/{reader}/{name}", _READERS[reader][0], make, codes)
