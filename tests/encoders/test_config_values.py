"""Each field of a ``config.json`` in every state that a file can be in: one line says what is bad.

Nothing of a bad size is built: the time limit is for what would otherwise fill the memory.
"""

from __future__ import annotations

import json
import time
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest

from fgclip_det.encoders import (
    FGCLIP,
    FGCLIP2,
    FGCLIP2Config,
    FGCLIPConfig,
    build_encoder,
    load_encoder,
    pretrained,
)
from tests.messages import says
from tests.tiny_encoders import tiny_fgclip, tiny_fgclip2

BAD = {
    "text": '"8"',
    "empty text": '""',
    "half a pair": '"\\ud800"',
    "control characters": '"\\u001b[31m\\u0000"',
    "long text": f'"{"x" * 9999}"',
    "true": "true",
    "false": "false",
    "negative": "-1",
    "zero": "0",
    "fraction": "0.3",
    "whole float": "4.0",
    "NaN": "NaN",
    "infinity": "-Infinity",
    "float beyond": "1e400",
    "null": "null",
    "list": "[4]",
    "object": "{}",
    "not stored": "1000000007",
    "beyond 64 bits": "100000000000000000000",
    "gigantic": "1" + "0" * 400,
}
# What is no fault of these fields: a number of its own, or an entry that is read as left out.
FINE = {
    ("text_config", "eos_token_id"): {"zero"},
    ("text_config", "keep_len"): {"zero"},
    ("vision_config", "layer_norm_eps"): {"fraction"},
    ("text_config", "layer_norm_eps"): {"fraction"},
    ("", "logit_scale_init_value"): {"fraction", "whole float", "zero", "negative"},
}
SECTIONS = {"vision": "vision_config", "text": "text_config"}


def _fields(config: object) -> list[tuple[str, str]]:
    found = []
    for field in fields(config):
        value = getattr(config, field.name)
        if is_dataclass(value):
            found += [(SECTIONS[field.name], inner.name) for inner in fields(value)]
        else:
            found.append(("", field.name))
    return found


CASES = [
    (generation, *place)
    for generation, config in (("1", FGCLIPConfig()), ("2", FGCLIP2Config()))
    for place in _fields(config)
]


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("encoders")
    tiny_fgclip().save_pretrained(folder / "1")
    tiny_fgclip2().save_pretrained(folder / "2")
    return {"1": folder / "1", "2": folder / "2"}


def _load_with(text: str | bytes, source: Path, folder: Path) -> FGCLIP | FGCLIP2:
    content = text if isinstance(text, bytes) else text.encode()
    (folder / pretrained.CONFIG_NAME).write_bytes(content)
    if not (folder / pretrained.WEIGHTS_NAME).exists():
        (folder / pretrained.WEIGHTS_NAME).symlink_to(source / pretrained.WEIGHTS_NAME)
    start = time.process_time()  # which other processes add nothing to
    try:
        return load_encoder(folder)
    finally:
        assert time.process_time() - start < 10


def _refused(text: str | bytes, source: Path, folder: Path) -> str:
    with pytest.raises(ValueError) as caught:
        _load_with(text, source, folder)
    message = str(caught.value)
    assert len(message) < 700 and message.isprintable()
    return message


@pytest.mark.parametrize(("generation", "section", "name"), CASES)
def test_a_bad_value_is_refused(encoders, tmp_path, generation, section, name) -> None:
    values = json.loads((encoders[generation] / pretrained.CONFIG_NAME).read_text())
    (values[section] if section else values)[name] = "<here>"
    frame = json.dumps(values)
    wrong = []
    for bad, text in BAD.items():
        if bad in FINE.get((section, name), ()):
            continue
        try:
            message = _refused(frame.replace('"<here>"', text), encoders[generation], tmp_path)
            assert "config" in message
        except BaseException as error:  # pytest's own for what raised nothing is no Exception
            wrong.append(f"{bad}: {error!r}")
    assert not wrong


def test_the_message_tells_value_and_place(encoders, tmp_path) -> None:
    values = json.loads((encoders["1"] / pretrained.CONFIG_NAME).read_text())
    values["text_config"]["num_hidden_layers"] = 10**9
    message = _refused(json.dumps(values), encoders["1"], tmp_path)
    assert says("num_hidden_layers", "TextConfig", 10**9, "2 blocks").search(message)


@pytest.mark.parametrize("generation", ["1", "2"])
@pytest.mark.parametrize("section", ["vision_config", "text_config"])
@pytest.mark.parametrize("value", [None, [], "x", 3, True, [[]], "left out"])
def test_a_section_that_is_none(encoders, tmp_path, generation, section, value) -> None:
    values = json.loads((encoders[generation] / pretrained.CONFIG_NAME).read_text())
    del values[section]
    if value != "left out":
        values[section] = value
    message = _refused(json.dumps(values), encoders[generation], tmp_path)
    assert says(section, "config.json'").search(message)


FILES = {
    "empty": b"",
    "a list": b"[]",
    "a text": b'"x"',
    "null": b"null",
    "zeros": b"\0" * 99,
    "deep list": b"[" * 100_000,
    "deep object": b'{"a":' * 100_000,
    "no text": bytes(range(256)),
    "half of it": b'{"vision_config": {"hidden_size": 3',
    "a key twice": b'{"model_type": "clip", "model_type": "clip"}',
    "a key of half a pair": b'{"\\ud800": 1}',
    "a type that is none": b'{"model_type": ["siglip"], "vision_config": {}}',
    "a type that writes": b'{"model_type": "\\u001b[2J\\u0000"}',
}


@pytest.mark.parametrize("content", FILES.values(), ids=FILES)
def test_a_file_that_is_no_config(encoders, tmp_path, content: bytes) -> None:
    assert "config.json" in _refused(content, encoders["1"], tmp_path)


@pytest.mark.parametrize("generation", ["1", "2"])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32", "cr"])
def test_encodings_of_a_config(encoders, tmp_path, generation: str, encoding: str) -> None:
    text = (encoders[generation] / pretrained.CONFIG_NAME).read_text()
    content = text.replace("\n", "\r").encode() if encoding == "cr" else text.encode(encoding)
    model = _load_with(content, encoders[generation], tmp_path)
    assert model.fingerprint == load_encoder(encoders[generation]).fingerprint


SIGLIP = [
    ("vision_config", "image_size"),
    ("vision_config", "patch_size"),
    ("text_config", "max_position_embeddings"),
]


@pytest.mark.parametrize(("section", "name"), SIGLIP)
def test_what_is_derived_from_a_siglips_sizes(encoders, tmp_path, section, name) -> None:
    values = json.loads((encoders["2"] / pretrained.CONFIG_NAME).read_text())
    values["model_type"] = "siglip"
    values["vision_config"]["image_size"] = 64
    values[section][name] = "<here>"
    for bad in BAD.values():
        text = json.dumps(values).replace('"<here>"', bad)
        _refused(text, encoders["2"], tmp_path)


@pytest.mark.parametrize(
    "sizes",
    [
        {"vision": {"hidden_size": "32"}},
        {"vision": {"layer_norm_eps": float("nan")}},
        {"text": {"layer_norm_eps": -1e-5}},
        {"text": {"vocab_size": True}},
        {"projection_dim": 1.5},
        {"projection_dim": 0},
        {"vision": 3},
        {"type": "FGCLIP2", "vision": {"patch_size": 0}},
        {"type": "FGCLIP2", "text": {"layer_norm_eps": float("inf")}},
    ],
    ids=str,
)
def test_sizes_in_a_detectors_config(sizes: dict) -> None:
    with pytest.raises(ValueError):
        build_encoder(sizes)


STATISTICS = {
    "one": "[0.5]",
    "four": "[0.5, 0.5, 0.5, 0.5]",
    "none": "[]",
    "a number": "0.5",
    "a text": '"abc"',
    "texts": '["a", "b", "c"]',
    "bools": "[true, true, true]",
    "null": "null",
    "nulls": "[null, null, null]",
    "object": "{}",
    "NaN": "[0.5, NaN, 0.5]",
    "infinity": "[0.5, Infinity, 0.5]",
    "beyond": "[0.5, 1e400, 0.5]",
    "large": "[0.5, 1e300, 0.5]",
}
DEVIATIONS = {"zero": "[0.5, 0, 0.5]", "negative": "[0.5, 0.5, -0.5]", "tiny": "[1e-300, 1, 1]"}


@pytest.mark.parametrize("generation", ["1", "2"])
@pytest.mark.parametrize(
    ("name", "text"),
    [
        *(pytest.param("image_mean", text, id=f"mean-{key}") for key, text in STATISTICS.items()),
        *(
            pytest.param("image_std", text, id=f"std-{key}")
            for key, text in {**STATISTICS, **DEVIATIONS}.items()
        ),
    ],
)
def test_statistics_of_pixels(encoders, tmp_path, generation, name: str, text: str) -> None:
    (tmp_path / "preprocessor_config.json").write_text(f'{{"{name}": {text}}}')
    config = (encoders[generation] / pretrained.CONFIG_NAME).read_text()
    assert "preprocessor_config.json'" in _refused(config, encoders[generation], tmp_path)


@pytest.mark.parametrize("content", ["[]", '"x"', "", "{", "3"])
def test_a_preprocessor_config_that_is_none(encoders, tmp_path, content: str) -> None:
    (tmp_path / "preprocessor_config.json").write_text(content)
    config = (encoders["1"] / pretrained.CONFIG_NAME).read_text()
    assert "preprocessor_config.json'" in _refused(config, encoders["1"], tmp_path)
