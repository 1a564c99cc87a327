"""A check that a data set and the detector give each label the same name."""

from __future__ import annotations

from itertools import zip_longest
from typing import Any

from torch import nn


def check_label_names(model: nn.Module, dataset: Any, training: bool) -> None:
    """Compare the names behind the labels of a data set with those of an open-vocabulary detector.

    Both come from the config, in different places; where they differ, a detector is trained on
    wrong names, or its detections are compared with boxes of other ones, and nothing fails.

    Args:
        model: Has a ``training_vocabulary``, whose base group (all of it where it has no groups)
            training labels index, and a ``vocabulary``, whose names the labels of its detections
            index; another model is not looked at.
        dataset: Has ``metainfo`` with ``classes``; another one is not looked at, nor is one to test
            on whose pictures bring phrases of their own (``text``), which their labels index.
        training: Whether it is trained on.

    Raises:
        ValueError: A label has two names; the first one is named.
    """
    found = (getattr(dataset, "metainfo", None) or {}).get("classes")
    vocabulary = getattr(model, "training_vocabulary" if training else "vocabulary", None)
    if not found or vocabulary is None or (not training and _brings_texts(dataset)):
        return
    names = list(vocabulary.names)
    if training:
        base = set((vocabulary.groups or {}).get("base", names))
        names = [name for name in names if name in base]
    for label, (here, there) in enumerate(zip_longest(found, names)):
        if here != there:
            advice = "give dataset.vocabulary and model.vocabulary the same names"
            if training:
                advice += ", and train on classes='base' where they have groups"
            raise ValueError(
                f"label {label} is {_quoted(here)} to the {'training' if training else 'test'} "
                f"data and {_quoted(there)} to the detector: {advice}"
            )


def _brings_texts(dataset: Any) -> bool:
    return hasattr(dataset, "get_data_info") and len(dataset) and "text" in dataset.get_data_info(0)


def _quoted(name: str | None) -> str:
    return "no name" if name is None else repr(name)
