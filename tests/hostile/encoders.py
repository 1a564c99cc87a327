"""Checkpoints of encoders and detectors that do not hold what they should."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.hostile.case import (
    DONE,
    JSON_SHAPES,
    PAYLOADS,
    REFUSED,
    REMOVED,
    Case,
    case,
    with_value,
    write_file,
    write_json,
)
from tests.hostile.shared_data import Data

EITHER = {DONE, REFUSED}
_BAD = (
    None, "x", "", -1, 0, 1.5, True, [], {}, [8, 8], 10**9, 2**63, 10**400, float("nan"),
    float("inf"), "8", REMOVED, 7, 1e300, "\x1b[31m",
)  # fmt: skip
_FIELDS = {
    1: (
        ("model_type",), ("projection_dim",), ("logit_scale_init_value",), ("vision_config",),
        ("text_config",), ("text_config", "vocab_size"), ("text_config", "hidden_size"),
        ("text_config", "intermediate_size"), ("text_config", "num_hidden_layers"),
        ("text_config", "num_attention_heads"), ("text_config", "max_position_embeddings"),
        ("text_config", "eos_token_id"), ("text_config", "hidden_act"),
        ("text_config", "layer_norm_eps"), ("vision_config", "hidden_size"),
        ("vision_config", "intermediate_size"), ("vision_config", "num_hidden_layers"),
        ("vision_config", "num_attention_heads"), ("vision_config", "image_size"),
        ("vision_config", "patch_size"), ("vision_config", "hidden_act"),
        ("vision_config", "layer_norm_eps"),
    ),
    2: (
        ("model_type",), ("vision_config",), ("text_config",), ("text_config", "vocab_size"),
        ("text_config", "hidden_size"), ("text_config", "num_hidden_layers"),
        ("text_config", "num_attention_heads"), ("text_config", "projection_size"),
        ("text_config", "max_position_embeddings"), ("text_config", "keep_len"),
        ("text_config", "longtext_len"), ("text_config", "hidden_act"),
        ("text_config", "layer_norm_eps"), ("vision_config", "hidden_size"),
        ("vision_config", "num_hidden_layers"), ("vision_config", "num_attention_heads"),
        ("vision_config", "patch_size"), ("vision_config", "num_patches"),
        ("vision_config", "hidden_act"), ("vision_config", "layer_norm_eps"),
    ),
}  # fmt: skip

Change = Callable[[Path, Data], object]


def _weights(change: Callable[[dict], object], name: str = "model.safetensors") -> Change:
    def write(encoder: Path, data: Data) -> None:
        from safetensors.torch import load_file, save_file

        tensors = load_file(encoder / "model.safetensors")
        change(tensors)
        (encoder / "model.safetensors").unlink()
        save_file(tensors, encoder / name, metadata={"format": "pt"})

    return write


def _each(change: Callable) -> Callable[[dict], object]:
    return lambda tensors: tensors.update({k: change(v) for k, v in tensors.items()})


def _first(change: Callable) -> Callable[[dict], object]:
    def apply(tensors: dict) -> None:
        key = next(key for key, value in sorted(tensors.items()) if value.ndim == 2)
        tensors[key] = change(tensors[key])

    return apply


def _index(value: Any, shard: str = "a.safetensors") -> Change:
    """An index in place of the single file, which becomes a shard."""

    def write(encoder: Path, data: Data) -> None:
        (encoder / shard).parent.mkdir(exist_ok=True, parents=True)
        (encoder / "model.safetensors").rename(encoder / shard)
        write_json(encoder / "model.safetensors.index.json", value)

    return write


def _index_of(content: bytes) -> Change:
    def write(encoder: Path, data: Data) -> None:
        _index({})(encoder, data)
        write_file(encoder / "model.safetensors.index.json", content)

    return write


def _map(shard: Any) -> dict:
    return {"metadata": {}, "weight_map": {"logit_scale": shard}}


def _replace(name: str, content: bytes) -> Change:
    return lambda encoder, data: write_file(encoder / name, content)


def _edit(name: str, place: tuple, new: Any) -> Change:
    def write(encoder: Path, data: Data) -> None:
        value = json.loads((encoder / name).read_text())
        write_json(encoder / name, with_value(value, place, new))

    return write


def _pipe(name: str) -> Change:
    def write(encoder: Path, data: Data) -> None:
        (encoder / name).unlink(missing_ok=True)
        os.mkfifo(encoder / name)

    return write


def _link(name: str, target: str) -> Change:
    def write(encoder: Path, data: Data) -> None:
        (encoder / name).unlink(missing_ok=True)
        (encoder / name).symlink_to(target)

    return write


def _with_pipe_for_shard(encoder: Path, data: Data) -> None:
    _index(_map("b.safetensors"))(encoder, data)
    os.mkfifo(encoder / "b.safetensors")


def _remote_code(encoder: Path, data: Data) -> None:
    for name in ("config.json", "tokenizer_config.json", "preprocessor_config.json"):
        value = json.loads((encoder / name).read_text())
        kinds = ("AutoConfig", "AutoModel", "AutoTokenizer", "AutoImageProcessor", "AutoProcessor")
        value["auto_map"] = {kind: "evil.Evil" for kind in kinds}
        value["trust_remote_code"] = True
        write_json(encoder / name, value)
    write_file(encoder / "evil.py", "open('canary', 'w')\nclass Evil: pass\n")


_SHAPED = ("model.safetensors.index.json", "tokenizer.json", "tokenizer_config.json",
           "preprocessor_config.json", "config.json")  # fmt: skip
_ENCODERS: dict[str, tuple[Change, set[int]]] = {
    **{
        f"no {name}": (lambda e, d, name=name: (e / name).unlink(), {REFUSED})
        for name in ("config.json", "model.safetensors")
    },
    **{
        f"no {name}": (lambda e, d, name=name: (e / name).unlink(), EITHER)
        for name in ("tokenizer.json", "tokenizer_config.json", "preprocessor_config.json")
    },
    "remote code": (_remote_code, EITHER),
    "nothing": (lambda e, d: shutil.rmtree(e), {REFUSED}),
    "a file": (lambda e, d: (shutil.rmtree(e), e.write_text("a")), {REFUSED}),
    "empty folder": (lambda e, d: (shutil.rmtree(e), e.mkdir()), {REFUSED}),
    "pickled weights alone": (
        lambda e, d: (e / "model.safetensors").rename(e / "pytorch_model.bin"), {REFUSED},
    ),
    "cut weights": (_weights(lambda t: None), EITHER),
    "half the weights": (
        lambda e, d: os.truncate(e / "model.safetensors", 9000), {REFUSED},
    ),
    "empty weights": (_replace("model.safetensors", b""), {REFUSED}),
    "garbage for weights": (_replace("model.safetensors", b"\xff" * 999), {REFUSED}),
    "pickle for weights": (_replace("model.safetensors", PAYLOADS["os.system"]), {REFUSED}),
    "weights are a pipe": (_pipe("model.safetensors"), {REFUSED}),
    "weights are /dev/zero": (_link("model.safetensors", "/dev/zero"), {REFUSED}),
    "weights are a folder": (
        lambda e, d: ((e / "model.safetensors").unlink(), (e / "model.safetensors").mkdir()),
        {REFUSED},
    ),
    "NaN everywhere": (_weights(_each(lambda x: x * float("nan"))), {REFUSED}),
    "one NaN": (_weights(_first(lambda x: x.where(x != x.max(), float("nan")))), {REFUSED}),
    "infinite": (_weights(_each(lambda x: x / 0)), {REFUSED}),
    "one infinity": (_weights(_first(lambda x: x.where(x != x.max(), float("inf")))), {REFUSED}),
    "zero": (_weights(_each(lambda x: x * 0)), EITHER),
    "gigantic": (_weights(_each(lambda x: x * 1e30)), EITHER),
    "half precision": (_weights(_each(lambda x: x.half())), {DONE}),
    "double precision": (_weights(_each(lambda x: x.double())), EITHER),
    "whole numbers": (_weights(_each(lambda x: x.long())), {REFUSED}),
    "yes and no": (_weights(_each(lambda x: x > 0)), {REFUSED}),
    "one key less": (_weights(lambda t: t.pop(sorted(t)[3])), {REFUSED}),
    "no key": (_weights(lambda t: t.clear()), {REFUSED}),
    "one key more": (
        _weights(lambda t: t.update({"\x1b[31mx": t["logit_scale"].clone()})), {REFUSED}),
    "3,000 keys more": (
        _weights(lambda t: t.update({f"k{i}": t["logit_scale"].clone() for i in range(3000)})),
        {REFUSED},
    ),
    "one row less": (_weights(_first(lambda x: x[1:].clone())), {REFUSED}),
    "an empty tensor": (_weights(_first(lambda x: x[:0].clone())), {REFUSED}),
    "shard that is missing": (_index(_map("b.safetensors")), {REFUSED}),
    "shard in another folder": (
        _index(_map("../x/a.safetensors"), "../x/a.safetensors"), {REFUSED}),
    "shard with a root": (_index(_map("/dev/zero")), {REFUSED}),
    "shard is the index": (_index(_map("model.safetensors.index.json")), {REFUSED}),
    "shard is a folder": (_index(_map(".")), {REFUSED}),
    "shard is a number": (_index(_map(5)), {REFUSED}),
    "shard is null": (_index(_map(None)), {REFUSED}),
    "shard is a list": (_index(_map(["a"])), {REFUSED}),
    "shard of two kinds": (_index({"weight_map": {"a": 1, "b": "c"}}), {REFUSED}),
    "shard with NUL": (_index(_map("a\0b")), {REFUSED}),
    "shard of a long name": (_index(_map("a" * 5000)), {REFUSED}),
    "shard of half a pair": (_index(_map("\ud800")), {REFUSED}),
    "shard is a pipe": (_with_pipe_for_shard, {REFUSED}),
    "map is a list": (_index({"weight_map": []}), {REFUSED}),
    "map is a text": (_index({"weight_map": "a"}), {REFUSED}),
    "map is null": (_index({"weight_map": None}), {REFUSED}),
    "map is empty": (_index({"weight_map": {}}), {REFUSED}),
    "no map": (_index({}), {REFUSED}),
    "config is a pipe": (_pipe("config.json"), {REFUSED}),
    "config is /dev/zero": (_link("config.json", "/dev/zero"), {REFUSED}),
    "tokenizer is a pipe": (_pipe("tokenizer.json"), {REFUSED}),
    "tokenizer is /dev/zero": (_link("tokenizer.json", "/dev/zero"), {REFUSED}),
    "tokenizer's config is a pipe": (_pipe("tokenizer_config.json"), EITHER),
    "processor is a pipe": (_pipe("preprocessor_config.json"), EITHER),
    "ids beyond the table": (_edit("config.json", ("text_config", "vocab_size"), 100), {REFUSED}),
    "tokens without a model": (_edit("tokenizer.json", ("model",), {}), {REFUSED}),
    "tokens of another model": (_edit("tokenizer.json", ("model", "type"), "x"), {REFUSED}),
    "tokens of no words": (_edit("tokenizer.json", ("model", "vocab"), {}), {REFUSED}),
    "tokens that are negative": (
        _edit("tokenizer.json", ("model", "vocab"), {"a": -1}), {REFUSED}),
    "tokens that are gigantic": (
        _edit("tokenizer.json", ("added_tokens",), [{"id": 2**31, "content": "a"}]), EITHER),
    "tokens cut to none": (
        _edit("tokenizer_config.json", ("model_max_length",), -1), EITHER),
    "tokens of remote code": (
        _edit("tokenizer_config.json", ("tokenizer_class",), "os.system"), EITHER),
    "end is no text": (_edit("tokenizer_config.json", ("eos_token",), 5), EITHER),
    "end is missing": (_edit("tokenizer_config.json", ("eos_token",), None), EITHER),
    "mean is NaN": (
        _edit("preprocessor_config.json", ("image_mean",), [float("nan")] * 3), {REFUSED}),
    "mean is a text": (_edit("preprocessor_config.json", ("image_mean",), "x"), {REFUSED}),
    "mean is short": (_edit("preprocessor_config.json", ("image_mean",), [0.5]), {REFUSED}),
    "spread is zero": (_edit("preprocessor_config.json", ("image_std",), [0, 0, 0]), {REFUSED}),
    "spread is 1e300": (_edit("preprocessor_config.json", ("image_std",), [1e300] * 3), EITHER),
    "size is a list": (_edit("preprocessor_config.json", ("size",), [1]), EITHER),
    "size is gigantic": (
        _edit("preprocessor_config.json", ("size",), {"height": 10**9, "width": 10**9}), EITHER),
    "resampling is unknown": (_edit("preprocessor_config.json", ("resample",), 99), EITHER),
    "processor of no kind": (
        _edit("preprocessor_config.json", ("image_processor_type",), 5), EITHER),
}  # fmt: skip


def _seen_by(generation: int, change: Change):
    def make(folder: Path, data: Data) -> list[object]:
        encoder = data.copy_encoder(generation, folder)
        change(encoder, data)
        options = ["--encoder", encoder, "--texts", "a cat", "--out-dir", "out"]
        return ["heatmap", data.picture, *options]

    return make


def cases() -> Iterator[Case]:
    """Encoders with ``heatmap``, detectors' weights with all that reads them."""
    for generation, fields in _FIELDS.items():
        for number, place in enumerate(fields):
            for step in range(3):
                which = (number * 3 + step * 7) % len(_BAD)
                new = "removed" if _BAD[which] is REMOVED else repr(_BAD[which])[:12]
                change = _edit("config.json", place, _BAD[which])
                id = f"encoder/{generation}: {'.'.join(place)} {new}"
                yield case(id, "fgclip-det", _seen_by(generation, change), EITHER)
        for name in ("vision_config", "text_config"):
            for count in (10**5, 10**9):
                change = _edit("config.json", (name, "num_hidden_layers"), count)
                id = f"encoder/{generation}: {name} of {count} layers"
                yield case(id, "fgclip-det", _seen_by(generation, change), REFUSED)
        for name, (change, codes) in _ENCODERS.items():
            make = _seen_by(generation, change)
            yield case(f"encoder/{generation}: {name}", "fgclip-det", make, codes)
    for number, name in enumerate(_SHAPED):
        for shape, content in JSON_SHAPES.items():
            change = _replace(name, content)
            if number == 0:
                change = _index_of(content)
            codes = {REFUSED} if name == "config.json" or number == 0 else EITHER
            id = f"encoder/{name} of {shape}"
            yield case(id, "fgclip-det", _seen_by(1 + number % 2, change), codes)
