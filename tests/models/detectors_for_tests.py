"""What tests of detectors say of their words, do with a batch, and compare."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from mmengine.optim import build_optim_wrapper

from tests.tiny_encoders import NAMES

CONFIGS = Path(__file__).parents[2] / "configs"

BASE, NOVEL = NAMES[:4], NAMES[4:]


def prepared(detector, batch, training=False):
    data = detector.data_preprocessor(copy.deepcopy(batch), training)
    return data["inputs"], data["data_samples"]


def total(losses):
    flat = [v if torch.is_tensor(v) else sum(v) for k, v in losses.items() if "loss" in k]
    return sum(flat)


def train_step(detector, batch):
    optimizer = build_optim_wrapper(
        detector, dict(type="OptimWrapper", optimizer=dict(type="AdamW", lr=1e-2))
    )
    return detector.train().train_step(copy.deepcopy(batch), optimizer)


def assert_same_detections(got, expected, atol=1e-5):
    assert got.labels.equal(expected.labels)
    torch.testing.assert_close(got.scores, expected.scores, atol=atol, rtol=0)
    torch.testing.assert_close(got.bboxes, expected.bboxes, atol=1e-3, rtol=0)
