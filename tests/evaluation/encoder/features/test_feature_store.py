"""A feature is found again by all that it depends on, and by nothing less."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fgclip_det.evaluation.encoder import EncoderRules
from fgclip_det.evaluation.encoder.features.feature_store import (
    FeatureStore,
    box_key,
    picture_key,
    text_key,
)
from tests.tiny_encoders import tiny_fgclip, tiny_fgclip2

TEXT = {"weights": "ab", "tokens": (1, 2), "path": "short", "amp": False}
SETTINGS = {"size": 224, "resampling": "pillow bicubic", "patches": 1, "amp": False, "mean": [0.5]}


@pytest.mark.parametrize(
    "change", [{"weights": "ac"}, {"tokens": (12,)}, {"path": "long"}, {"amp": True}]
)
def test_each_part_of_a_text(change: dict) -> None:
    assert text_key(**TEXT) == text_key(**TEXT) != text_key(**{**TEXT, **change})


@pytest.mark.parametrize("name", SETTINGS)
def test_each_setting_of_a_picture(name: str) -> None:
    reordered = dict(reversed(SETTINGS.items()))
    assert picture_key("ab", "cd", SETTINGS) == picture_key("ab", "cd", reordered)
    assert picture_key("ab", "cd", SETTINGS) != picture_key("ab", "cd", {**SETTINGS, name: None})


def test_each_part_of_a_picture_and_of_a_box() -> None:
    box = np.array([0, 1, 2, 3.0])
    keys = {picture_key(*parts, {}) for parts in (("ab", "cd"), ("ab", "ce"), ("ac", "cd"))}
    assert len(keys) == 3
    boxes = {box_key(key, box) for key in keys}
    for side in range(4):
        other = box.copy()
        other[side] = np.nextafter(other[side], 9)
        boxes |= {box_key(key, other) for key in keys}
    assert len(boxes | keys) == 3 + 3 * 5


def _picture(path: Path, value: int) -> Path:
    Image.new("RGB", (20, 30), (value, 0, 0)).save(path)
    return path


def test_keys_of_a_protocol_are_made_of_its_rules(tmp_path: Path) -> None:
    path = _picture(tmp_path / "a.png", 1)
    first, second = tiny_fgclip(speaks=True), tiny_fgclip2(speaks=True)
    squeezed = tiny_fgclip(speaks=True)
    squeezed.image_std = (0.5, 0.5, 0.5)
    rules = [
        EncoderRules(first),
        EncoderRules(first, image_size=32),
        EncoderRules(first, amp=True),
        EncoderRules(squeezed),
        EncoderRules(tiny_fgclip(speaks=True, seed=1)),
        EncoderRules(second),
        EncoderRules(second, patches=9),
    ]
    stores = [FeatureStore(tmp_path / "cache", own) for own in rules]
    assert len({store.picture(path) for store in stores}) == len(rules)
    assert stores[0].picture(path) == FeatureStore(tmp_path, EncoderRules(first)).picture(path)
    # Its content counts, not its name.
    same, other = _picture(tmp_path / "b.png", 1), _picture(tmp_path / "c.png", 2)
    assert stores[0].picture(path) == stores[0].picture(same) != stores[0].picture(other)
    texts = [EncoderRules(first), EncoderRules(first, amp=True), EncoderRules(second, "box")]
    assert len({FeatureStore(tmp_path, own).text((5, 6)) for own in [*texts, rules[4]]}) == 4


def test_weights_that_changed_find_nothing(tmp_path: Path) -> None:
    encoder = tiny_fgclip(speaks=True)
    store = FeatureStore(tmp_path, EncoderRules(encoder))
    key = store.text((5, 6))
    store.add([key], np.ones((1, 20), np.float32))
    assert FeatureStore(tmp_path, EncoderRules(encoder)).find([key])
    config = replace(encoder.config, logit_scale_init_value=1.0)
    other = FeatureStore(tmp_path, EncoderRules(type(encoder)(config, encoder.tokenizer).eval()))
    assert other.find([key]) == {} and other.text((5, 6)) != key


@pytest.mark.parametrize("limit", [0, -1, float("nan"), float("inf")])
def test_a_limit_that_is_none_is_refused(tmp_path: Path, limit: float) -> None:
    with pytest.raises(ValueError, match="it must be a number above 0"):
        FeatureStore(tmp_path, EncoderRules(tiny_fgclip(speaks=True)), limit)
