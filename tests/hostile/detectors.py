"""Detectors' weights, and their configs in formats that are no programs."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.hostile.case import (
    DONE,
    JSON_SHAPES,
    PAYLOADS,
    REFUSED,
    Case,
    Payload,
    case,
    with_value,
    write_file,
)
from tests.hostile.shared_data import BUNDLED, Data

EITHER = {DONE, REFUSED}
Change = Callable[[Path, Data], object]


def _cyclic() -> bytes:
    cycle: list = []
    cycle.append(cycle)
    return pickle.dumps({"state_dict": cycle})


def _saved(value: Callable[[Any], Any]) -> Change:
    def write(path: Path, data: Data) -> None:
        import torch

        torch.save(value(torch), path)

    return write


def _state(change: Callable[[Any, dict], object]) -> Change:
    def write(path: Path, data: Data) -> None:
        import torch

        state = torch.load(BUNDLED / "detector.pth", weights_only=True)["state_dict"]
        change(torch, state)
        torch.save({"state_dict": state, "meta": {}}, path)

    return write


def _zip_bomb(path: Path, data: Data) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name in ("x/data.pkl", "x/data/0"):
            with archive.open(name, "w", force_zip64=True) as stream:
                for _ in range(300):
                    stream.write(bytes(1 << 20))


def _all(value: float) -> Callable[[Any, dict], None]:
    def fill(torch: Any, state: dict) -> None:
        state.update(
            {k: torch.full_like(v, value) for k, v in state.items() if v.is_floating_point()}
        )

    return fill


_WEIGHTS: dict[str, tuple[str, Change]] = {
    **{
        f"pickle {kind}": ("w.pth", lambda p, d, c=content: p.write_bytes(c))
        for kind, content in PAYLOADS.items()
    },
    "payload in a zip": ("w.pth", _saved(lambda torch: {"state_dict": {"a": Payload()}})),
    "payload beside weights": ("w.pth", _state(lambda torch, state: state.update(a=Payload()))),
    "list in itself": ("w.pth", lambda p, d: p.write_bytes(_cyclic())),
    "list in itself, zipped": ("w.pth", _saved(lambda torch: pickle.loads(_cyclic()))),
    "zip bomb": ("w.pth", _zip_bomb),
    "garbage": ("w.pth", lambda p, d: p.write_bytes(b"\xff" * 999)),
    "text": ("w.pth", lambda p, d: p.write_text("Not Found")),
    "empty": ("w.pth", lambda p, d: p.write_bytes(b"")),
    "cut": ("w.pth", lambda p, d: p.write_bytes((BUNDLED / "detector.pth").read_bytes()[:9999])),
    "cut at its end": (
        "w.pth", lambda p, d: p.write_bytes((BUNDLED / "detector.pth").read_bytes()[:-9])),
    "head of a zip": ("w.pth", lambda p, d: p.write_bytes(b"PK\3\4")),
    "deep lists": (
        "w.pth", lambda p, d: p.write_bytes(b"\x80\2" + b"]" * 10**5 + b"a" * 99_999 + b".")),
    "memo of 2**31": ("w.pth", lambda p, d: p.write_bytes(b"\x80\2Nr\xff\xff\xff\x7f.")),
    "a text of 2**40": ("w.pth", lambda p, d: p.write_bytes(b"\x80\4\x8d\0\0\0\0\0\1\0\0.")),
    "a list": ("w.pth", _saved(lambda torch: [1])),
    "a number": ("w.pth", _saved(lambda torch: 5)),
    "no weights": ("w.pth", _saved(lambda torch: {})),
    "weights are None": ("w.pth", _saved(lambda torch: {"state_dict": {"a": None}})),
    "weights are a text": ("w.pth", _saved(lambda torch: {"state_dict": "a"})),
    "keys are numbers": ("w.pth", _saved(lambda torch: {"state_dict": {1: torch.zeros(1)}})),
    "another detector's": ("w.pth", _saved(lambda torch: {"state_dict": {"a.b": torch.zeros(3)}})),
    "NaN": ("w.pth", _state(_all(float("nan")))),
    "infinite": ("w.pth", _state(_all(float("inf")))),
    "one NaN": ("w.pth", _state(lambda torch, state: next(
        v for v in state.values() if v.ndim > 1).view(-1)[0].fill_(float("nan")))),
    "whole numbers": ("w.pth", _state(
        lambda torch, state: state.update({k: v.long() for k, v in state.items()}))),
    "sparse": ("w.pth", _state(lambda torch, state: state.update(
        {k: v.to_sparse() for k, v in state.items() if v.ndim == 2}))),
    "one key less": ("w.pth", _state(lambda torch, state: state.pop(next(iter(state))))),
    "another shape": ("w.pth", _state(lambda torch, state: state.update(
        {k: v[None] for k, v in state.items()}))),
    "a pipe": ("w.pth", lambda p, d: os.mkfifo(p)),
    "a folder": ("w.pth", lambda p, d: p.mkdir()),
    "/dev/zero": ("w.pth", lambda p, d: p.symlink_to("/dev/zero")),
    "nothing": ("w.pth", lambda p, d: None),
    "garbage tensors": ("w.safetensors", lambda p, d: p.write_bytes(b"\xff" * 99)),
    "an encoder's tensors": (
        "w.safetensors", lambda p, d: shutil.copy(d.encoder(1) / "model.safetensors", p)),
    "a pipe of tensors": ("w.safetensors", lambda p, d: os.mkfifo(p)),
    "an odd suffix": ("w.\x1b[31mx", lambda p, d: p.write_bytes(PAYLOADS["exec"])),
    "a name of lines": ("a\nb.pth", lambda p, d: p.write_text("a")),
}  # fmt: skip


def _loaded(tool: str, file: str, write: Change):
    def make(folder: Path, data: Data) -> list[object]:
        path = folder / file
        write(path, data)
        if tool == "fgclip-det":
            options = ["--texts", "a cat", "--out-dir", "out"]
            return ["demo", data.picture, "--model", data.config, "--weights", path, *options]
        if tool == "train.py":
            return [data.test_config, "--work-dir", "out", "--resume", path]
        options = {"test.py": ["--work-dir", "out"], "bundle_model.py": ["--out", "out"]}[tool]
        return [data.test_config, path, *options]

    return make


_EVIL_STEP = {"type": "os.system", "command": "touch canary"}
_YAML = "model: !!python/object/apply:os.system ['touch canary']\n"


def _configs(data: Data) -> dict[str, tuple[str, str]]:
    """Of a detector, in formats that hold no program: name of the file and its text."""
    from mmengine.config import Config

    good = json.loads(json.dumps(Config.fromfile(data.config).to_dict()))
    pipeline = ("test_dataloader", "dataset", "pipeline")
    steps = [_EVIL_STEP, *good["test_dataloader"]["dataset"]["pipeline"]]
    values = {
        "a step of os.system": with_value(good, pipeline, steps),
        "a neck of os.system": with_value(good, ("model", "neck"), _EVIL_STEP),
        "a model of os.system": with_value(good, ("model",), _EVIL_STEP),
        "imports of the folder": with_value(
            good, ("custom_imports",), {"imports": ["evil"], "allow_failed_imports": False}),
        "a base of a program": {"_base_": "evil.py"},
        "a base of itself": {"_base_": "c.json"},
        "a base of /dev": {"_base_": "/dev/zero"},
        "a base elsewhere": {"_base_": "http://127.0.0.1:9/c.json"},
        "a detector elsewhere": with_value(
            good, ("model", "neck", "init_cfg"),
            {"type": "Pretrained", "checkpoint": "http://127.0.0.1:9/w.pth"}),
        "a pickle's initial weights": with_value(
            good, ("model", "neck", "init_cfg"), {"type": "Pretrained", "checkpoint": "w.pth"}),
    }  # fmt: skip
    found = {name: ("c.json", json.dumps(value)) for name, value in values.items()}
    found |= {
        f"JSON {name}": ("c.json", text.decode("latin1")) for name, text in JSON_SHAPES.items()
    }
    found["YAML of os.system"] = ("c.yaml", _YAML)
    found["YAML of bombs"] = (
        "c.yaml",
        "a: &a [x]\n"
        + "".join(
            f"{y}: &{y} [{', '.join(['*' + x] * 9)}]\n"
            for x, y in zip("abcdefgh", "bcdefghi", strict=True)
        ),
    )
    return found  # fmt: skip


_CONFIG_NAMES = (
    "a step of os.system", "a neck of os.system", "a model of os.system", "imports of the folder",
    "a base of a program", "a base of itself", "a base of /dev", "a base elsewhere",
    "a detector elsewhere", "a pickle's initial weights", *(f"JSON {name}" for name in JSON_SHAPES),
    "YAML of os.system", "YAML of bombs",
)  # fmt: skip


def _configured(name: str, tool: str):
    def make(folder: Path, data: Data) -> list[object]:
        file, text = _configs(data)[name]
        config = write_file(folder / file, text.encode("latin1") if "JSON" in name else text)
        write_file(folder / "evil.py", "open('canary', 'w')\n")
        write_file(folder / "w.pth", PAYLOADS["in a dict"])
        weights = BUNDLED / "detector.pth"
        if tool == "fgclip-det":
            options = ["--texts", "a cat", "--out-dir", "out"]
            return ["demo", data.picture, "--model", config, "--weights", weights, *options]
        return [config, *([weights] if tool == "test.py" else []), "--work-dir", "out"]

    return make


def cases() -> Iterator[Case]:
    """Weights and configs with all that reads them."""
    for number, (name, (file, write)) in enumerate(_WEIGHTS.items()):
        codes = EITHER if name in ("sparse", "whole numbers") else {REFUSED}
        make = _loaded("fgclip-det", file, write)
        yield case(f"weights/{name}/demo", "fgclip-det", make, codes)
        tools = ("test.py", "train.py", "bundle_model.py")
        for tool in tools if "pickle" in name else [tools[number % 3]]:
            allowed = codes | EITHER if tool == "bundle_model.py" else codes
            make = _loaded(tool, file, write)
            yield case(f"weights/{name}/{tool}", tool, make, allowed)
    for name in _CONFIG_NAMES:
        yield case(f"config/{name}/demo", "fgclip-det", _configured(name, "fgclip-det"), REFUSED)
    for name in (*_CONFIG_NAMES[:7], *_CONFIG_NAMES[-2:]):
        for tool in ("test.py", "train.py"):
            yield case(f"config/{name}/{tool}", tool, _configured(name, tool), REFUSED)
