"""Thresholds in the files of vocabularies."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from fgclip_det.vocabulary import TextEmbeddings, Vocabulary

NAMES = Vocabulary.parse(["a mug", "a cup", "a plate"])


@dataclass
class Threshold:
    value: float

    def to_dict(self) -> dict[str, Any]:
        return {"value": self.value}


class Calibration:
    figures_hash = "0123456789abcdef"

    def __init__(self) -> None:
        values = {"a cup": 0.75, "a plate": 2.0, "unasked": 0.1}
        self.thresholds = {name: Threshold(value) for name, value in values.items()}


class Encoder:
    fingerprint, projection_dim = "e" * 16, 2

    def encode_text(self, texts, text_length="short", normalize=False):
        return torch.ones(len(texts), 2) / 2**0.5


SAVED = {"of": "0123456789abcdef", "names": {"a cup": {"value": 0.75}, "a plate": {"value": 2.0}}}


def test_a_file_of_names_brings_them(tmp_path):
    made = NAMES.with_thresholds(Calibration())
    assert made.thresholds == SAVED
    made.to_json(tmp_path / "v.json")
    found = Vocabulary.parse(str(tmp_path / "v.json"))
    assert found.thresholds == SAVED
    # What is encoded is the same, and kept once.
    assert found == NAMES and found.hash == NAMES.hash
    assert found.subset(["a mug", "a cup"]).thresholds["names"] == {"a cup": {"value": 0.75}}
    assert found.subset(["a mug"]).thresholds is None
    assert Vocabulary.parse(found, templates=["the {}"]).thresholds == SAVED


def test_a_file_of_embeddings_brings_them_and_tells_what_was_altered(tmp_path):
    path = tmp_path / "v.safetensors"
    plain = TextEmbeddings.encode(NAMES, Encoder())
    made = plain.with_thresholds(Calibration())
    made.save(path)
    assert TextEmbeddings.load(path).vocabulary.thresholds == SAVED
    assert made.to("cpu").vocabulary.thresholds == SAVED and made.hash != plain.hash
    with safe_open(path, "pt") as file:
        labels = dict(file.metadata())
    labels["vocabulary"] = labels["vocabulary"].replace("0.75", "0.05")
    save_file(load_file(path), path, labels)
    with pytest.raises(ValueError, match="was altered"):
        TextEmbeddings.load(path)


def test_what_is_kept_of_one_has_the_thresholds_of_the_other(tmp_path):
    for vocabulary in (NAMES.with_thresholds(Calibration()), NAMES):
        for _ in range(2):
            found = TextEmbeddings.encode(vocabulary, Encoder(), cache_dir=tmp_path)
            assert found.vocabulary.thresholds == vocabulary.thresholds
    assert len([*tmp_path.iterdir()]) == 1


@pytest.mark.parametrize(
    ("thresholds", "told"),
    [
        ([], r"are \[\]"),
        ({"of": "h"}, "save the vocabulary again"),
        ({"of": 5, "names": {}}, "save the vocabulary again"),
        ({"of": "h", "names": [1]}, "save the vocabulary again"),
        ({"of": "h", "names": {"a bowl": {}}}, "'a bowl', which is none of its names"),
    ],
)
def test_what_is_no_thresholds(tmp_path, thresholds, told):
    path = tmp_path / "v.json"
    path.write_text(json.dumps({"names": ["a mug"], "thresholds": thresholds}))
    with pytest.raises(ValueError, match=told):
        Vocabulary.parse(str(path))


def test_names_that_no_threshold_is_of():
    with pytest.raises(ValueError, match="no threshold of 'a dog' or any other of 1 names"):
        Vocabulary.parse(["a dog"]).with_thresholds(Calibration())
