"""Words that are none: files of the wrong kind, shape, size and encoding, and texts."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.hostile.case import (
    DONE,
    JSON_SHAPES,
    PAYLOADS,
    REFUSED,
    Case,
    case,
    write_file,
)
from tests.hostile.shared_data import Data

EITHER = {DONE, REFUSED}
# "['a']" is one name; what a shape of JSON_SHAPES names may be asked for.
_NAMES_SOMETHING = ("text", "control characters", "half a surrogate pair")

# Content of a .json file that is JSON, and no vocabulary.
_WRONG = {
    "names is a number": {"names": 5},
    "names is null": {"names": None},
    "names is a text": {"names": "a"},
    "names is empty": {"names": []},
    "names is an empty object": {"names": {}},
    "a name is null": {"names": [None]},
    "a name is an object": {"names": [{"a": 1}]},
    "a name is a list of numbers": {"names": [[1]]},
    "a name is blank": {"names": ["  "]},
    "prompts are a number": {"names": {"a": 5}},
    "prompts hold null": {"names": {"a": [None]}},
    "prompts are an object": {"names": {"a": {"b": 1}}},
    "templates is a number": {"names": ["a"], "templates": 5},
    "templates is an object": {"names": ["a"], "templates": {}},
    "templates is empty": {"names": ["a"], "templates": []},
    "a template is null": {"names": ["a"], "templates": [None]},
    "a template without a place": {"names": ["a"], "templates": ["photo"]},
    "a template of an attribute": {"names": ["a"], "templates": ["{0.__class__}"]},
    "a template of a width": {"names": ["a"], "templates": ["{:>9999999999}"]},
    "a template of a brace": {"names": ["a"], "templates": ["{} {"]},
    "an unknown set of templates": {"names": ["a"], "templates": "no such"},
    "groups is a list": {"names": ["a"], "groups": ["a"]},
    "groups is a text": {"names": ["a"], "groups": "base"},
    "a group of another name": {"names": ["a"], "groups": {"rare": ["a"]}},
    "a group of unknown names": {"names": ["a"], "groups": {"base": ["b"]}},
    "a group is a text": {"names": ["a"], "groups": {"base": "a"}},
    "a group holds null": {"names": ["a"], "groups": {"base": [None]}},
    "a group holds lists": {"names": ["a"], "groups": {"base": [["a"]]}},
    "a name in both groups": {"names": ["a"], "groups": {"base": ["a"], "novel": ["a"]}},
    "names leads to itself": {"names": "v.json"},
    "names is a missing file": {"names": "none.json"},
    "names is /dev/zero": {"names": "/dev/zero/a.txt"},
    "categories without names": {"categories": [{"id": 1}]},
    "categories of numbers": {"categories": [1, 2]},
}


def _fill(path: Path, piece: bytes, size: int) -> Path:
    with path.open("wb") as stream:
        for _ in range(size // (len(piece) * 1000)):
            stream.write(piece * 1000)
    return path


def _sparse(path: Path, size: int) -> Path:
    with path.open("wb") as stream:
        stream.truncate(size)
    return path


def _pipe(path: Path) -> Path:
    os.mkfifo(path)
    return path


# How a file is made, and which exit codes are right.
Write = Callable[[Path], object]
_FILES: dict[str, tuple[str, Write, set[int]]] = {
    "100 MB in a line": ("v.txt", lambda p: _fill(p, b"cat and ", 100_000_000), EITHER),
    "100 MB without spaces": ("v.txt", lambda p: _fill(p, b"a", 100_000_000), EITHER),
    "4 GB of nothing": ("v.txt", lambda p: _sparse(p, 4 << 30), {REFUSED}),
    "4 GB of JSON": ("v.json", lambda p: _sparse(p, 4 << 30), {REFUSED}),
    "100 MB of JSON": ("v.json", lambda p: _fill(p, b"[[[[[[[[", 100_000_000), {REFUSED}),
    "a gzip bomb": ("v.json.gz", lambda p: _gzip(p, 3 << 30), {REFUSED}),
    "200,000 lines of nothing": ("v.txt", lambda p: p.write_text("\n" * 200_000), {REFUSED}),
    "comments": ("v.txt", lambda p: p.write_text("# a\n" * 99), {REFUSED}),
    "duplicates": ("v.txt", lambda p: p.write_text("a cat\n" * 1000), {DONE}),
    "duplicates in JSON": ("v.json", lambda p: p.write_text('["a", "a", ["a", "a"]]'), {DONE}),
    "UTF-8 with a mark": ("v.txt", lambda p: p.write_bytes(b"\xef\xbb\xbfa cat\n"), {DONE}),
    "JSON with a mark": ("v.json", lambda p: p.write_bytes(b'\xef\xbb\xbf["a cat"]'), {DONE}),
    "UTF-16": ("v.txt", lambda p: p.write_text("a cat", encoding="utf-16"), {REFUSED}),
    "JSON in UTF-16": ("v.json", lambda p: p.write_text('["a"]', encoding="utf-16"), EITHER),
    "Latin-1": ("v.txt", lambda p: p.write_bytes(b"caf\xe9"), {REFUSED}),
    "NULs": ("v.txt", lambda p: p.write_bytes(b"a\0b\n" * 9), EITHER),
    "colours": ("v.txt", lambda p: p.write_text("\x1b[31mred\x07 \x9b31m\n"), EITHER),
    "bars": ("v.txt", lambda p: p.write_text("|||\n|\n"), {REFUSED}),
    "a long name": ("v.txt", lambda p: p.write_text("long " * 20_000), EITHER),
    "a name of marks": ("v.txt", lambda p: p.write_text("a" + "\u0301" * 5000), EITHER),
    "names from right to left": ("v.txt", lambda p: p.write_text("\u202eabc\n"), {DONE}),
    "a pipe": ("v.txt", _pipe, {REFUSED}),
    "a pipe of JSON": ("v.json", _pipe, {REFUSED}),
    "a pipe of numbers": ("v.safetensors", _pipe, {REFUSED}),
    "a folder": ("v.txt", lambda p: p.mkdir(), {REFUSED}),
    "a folder of numbers": ("v.safetensors", lambda p: p.mkdir(), {REFUSED}),
    "/dev/zero": ("v.txt", lambda p: p.symlink_to("/dev/zero"), {REFUSED}),
    "/dev/zero of JSON": ("v.json", lambda p: p.symlink_to("/dev/zero"), {REFUSED}),
    "/dev/zero of numbers": ("v.safetensors", lambda p: p.symlink_to("/dev/zero"), {REFUSED}),
    "a link to itself": ("v.txt", lambda p: p.symlink_to(p.name), {REFUSED}),
    "no numbers": ("v.safetensors", lambda p: p.write_bytes(b""), {REFUSED}),
    "text, not numbers": ("v.safetensors", lambda p: p.write_text("a cat"), {REFUSED}),
    "a long head": ("v.safetensors", lambda p: p.write_bytes(b"\xff" * 8 + b"{}"), {REFUSED}),
    "4 GB of numbers": ("v.safetensors", lambda p: _sparse(p, 4 << 30), {REFUSED}),
}  # fmt: skip


def _gzip(path: Path, size: int) -> None:
    import gzip

    # Packed pieces one after the other are one packed file.
    piece = gzip.compress(bytes(1 << 24))
    path.write_bytes(piece * (size >> 24))


def _embeddings(change: Callable[[dict, dict], object]) -> Callable[[Path, Data], object]:
    """A file of `TextEmbeddings` after a change of its tensors and its labels."""

    def write(path: Path, data: Data) -> None:
        from safetensors import safe_open
        from safetensors.torch import save_file

        with safe_open(data.text_embeddings, "pt") as file:
            labels = dict(file.metadata())
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        change(tensors, labels)
        save_file(tensors, path, metadata=labels)

    return write


def _each(change: Callable) -> Callable[[dict, dict], object]:
    return lambda tensors, labels: tensors.update({k: change(v) for k, v in tensors.items()})


_EMBEDDINGS: dict[str, Callable[[dict, dict], object]] = {
    "NaN": _each(lambda x: x * float("nan")),
    "infinite": _each(lambda x: x / 0),
    "zero": _each(lambda x: x * 0),
    "whole numbers": _each(lambda x: x.long()),
    "yes and no": _each(lambda x: x > 0),
    "one row less": _each(lambda x: x[:1].clone()),
    "no rows": _each(lambda x: x[:0].clone()),
    "one column less": _each(lambda x: x[:, :-1].clone()),
    "three dimensions": _each(lambda x: x[None].clone()),
    "no dimension": _each(lambda x: x[0, 0].clone()),
    "no tensor": lambda tensors, labels: tensors.clear(),
    "no labels": lambda tensors, labels: labels.clear(),
    "another kind": lambda tensors, labels: labels.update(kind="x"),
    "another encoder": lambda tensors, labels: labels.update(encoder_fingerprint="0" * 16),
    "an odd text length": lambda tensors, labels: labels.update(text_length="\x1b[31mx"),
    **{
        f"vocabulary {name}": lambda tensors, labels, text=content: labels.update(
            vocabulary=text.decode("latin1")
        )
        for name, content in JSON_SHAPES.items()
        if len(content) < 99_999 or name == "deep lists"
    },
    "vocabulary of other names": lambda tensors, labels: labels.update(
        vocabulary=json.dumps({"names": ["a", "b", "c"]})
    ),
    "vocabulary of a file": lambda tensors, labels: labels.update(vocabulary='"/dev/zero.txt"'),
}
_TEXTS = {
    "nothing": "", "spaces": "  \t", "dots": " . .. ,;", "lines": "\n\n", "colours": "\x1b[31m",
    "a missing file": "none.txt", "a file of /dev": "/dev/zero.txt", "a surrogate": "\udcff",
    "half a pair": "\ud800 cat", "braces": "{} {0} %s", "NUL": "a\0b", "a NUL path": "a\0b.txt",
    "100,000 letters": "a" * 100_000, "20,000 names": ". ".join(map(str, range(1_000))),
    "a long path": "a" * 5000 + ".txt", "a home": "~nobody/none.txt", "flags": "\U0001f1e6" * 500,
}  # fmt: skip


def _asked(option: str, name: str, write: Callable[[Path, Data], object]):
    def make(folder: Path, data: Data) -> list[object]:
        write(folder / name, data)
        return ["demo", data.picture, "--out-dir", "out", option, folder / name]

    return make


def _said(command: str, option: str, text: str):
    return lambda f, data: [command, data.picture, "--out-dir", "out", f"{option}={text}"]


def cases() -> Iterator[Case]:
    """With ``demo``, some with ``heatmap`` and ``rescore``."""
    for name, content in JSON_SHAPES.items():
        codes = EITHER if name in _NAMES_SOMETHING else REFUSED
        make = _asked("--vocabulary", "v.json", lambda p, data, c=content: write_file(p, c))
        yield case(f"vocabulary/{name}", "fgclip-det", make, codes)
    for name, values in _WRONG.items():
        text = json.dumps(values)
        make = _asked("--vocabulary", "v.json", lambda p, data, text=text: write_file(p, text))
        codes = DONE if name in ("templates is empty", "a template of a brace") else REFUSED
        yield case(f"vocabulary/{name}", "fgclip-det", make, codes)
    for name, (file, write, codes) in _FILES.items():
        for option in ("--vocabulary", "--texts", "--negatives"):
            if option != "--vocabulary" and (not file.endswith("txt") or "100 MB" in name):
                continue
            make = _asked(option, file, lambda p, data, write=write: write(p))
            yield case(f"vocabulary/{name}/{option}", "fgclip-det", make, codes)
    for name, change in _EMBEDDINGS.items():
        make = _asked("--vocabulary", "v.safetensors", _embeddings(change))
        yield case(f"embeddings/{name}", "fgclip-det", make, REFUSED)
    for kind, content in PAYLOADS.items():
        for suffix in ("safetensors", "txt"):
            make = _asked("--vocabulary", f"v.{suffix}", lambda p, d, c=content: write_file(p, c))
            codes = REFUSED if suffix == "safetensors" else EITHER
            yield case(f"vocabulary/pickle {kind}/{suffix}", "fgclip-det", make, codes)
    for name, text in _TEXTS.items():
        for option in ("--texts", "--negatives"):
            make = _said("demo", option, text)
            yield case(f"texts/{name}/{option}", "fgclip-det", make, EITHER)
        make = _said("heatmap", "--texts", text)
        yield case(f"texts/{name}/heatmap", "fgclip-det", make, EITHER)
