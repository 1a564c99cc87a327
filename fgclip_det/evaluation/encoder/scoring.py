"""From features to shares, for each kind of protocol and both populations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from fgclip_det.evaluation.encoder.class_places import (
    ClassPlaces,
    box_probabilities,
    class_prompts,
    classify,
    prototypes,
)
from fgclip_det.evaluation.encoder.data_sets import BoxCaptions, Boxes, Classification, Retrieval
from fgclip_det.evaluation.encoder.features import Features
from fgclip_det.evaluation.encoder.protocols import Protocol
from fgclip_det.evaluation.encoder.ranks import Ranks, rank_pairs
from fgclip_det.evaluation.encoder.rules import unit

# Pictures in a batch of the authors' ImageNet scripts, which drop the last incomplete one.
_AUTHORS_BATCH = {1: 64, 2: 128}
_TOP = (1, 5)


@dataclass(frozen=True)
class Population:
    """Numbers over one population.

    Attributes:
        metrics: Shares, by name; ties as the authors' code decides them. Empty where nothing is
            in the population.
        expected: The same on average over all orders of what ties.
        by_logits: The same before the authors' sigmoid or softmax, which make ties.
        ties: Queries that a tie can move.
        counts: What it holds, such as "pictures" and "captions".
    """

    metrics: dict[str, float] = field(default_factory=dict)
    expected: dict[str, float] = field(default_factory=dict)
    by_logits: dict[str, float] = field(default_factory=dict)
    ties: dict[str, int] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)


class Scored(NamedTuple):
    """Both populations, and arrays by name: features, and places over the whole population."""

    as_published: Population
    whole_population: Population
    arrays: dict[str, Any]


def score(protocol: Protocol, record: Any, features: Features) -> Scored:
    """Encode what a record holds, and score it by its protocol.

    Raises:
        ValueError: A picture cannot be read, or no box is left.
    """
    ways: dict[str, Callable[[Protocol, Any, Features], Scored]] = {
        "retrieval": _retrieval,
        "classification": _classification,
        "boxes": _boxes,
        "box captions": _box_captions,
    }
    return ways[protocol.kind](protocol, record, features)


def _retrieval(protocol: Protocol, record: Retrieval, features: Features) -> Scored:
    pictures, texts = features.pictures(record.pictures), features.texts(record.captions)
    arrays: dict[str, Any] = {"image_features": pictures, "text_features": texts}
    pictures, texts = unit(pictures), unit(texts)
    owners = np.asarray(record.owners)

    def population(rows: Sequence[int], columns: Sequence[int]) -> Population:
        place = {row: number for number, row in enumerate(rows)}
        own = [place[owner] for owner in owners[columns].tolist()]
        ranks = rank_pairs(pictures[rows], texts[columns], own, features.rules.scores)
        by_logits = ranks
        if features.rules.generation == 2:
            by_logits = rank_pairs(pictures[rows], texts[columns], own)
        arrays.update(i2t_rank=ranks[0].places, t2i_rank=ranks[1].places)
        return Population(
            _recalls(protocol.ks, ranks, Ranks.recall),
            _recalls(protocol.ks, ranks, Ranks.expected_recall),
            _recalls(protocol.ks, by_logits, Ranks.recall),
            {"i2t": ranks[0].ties, "t2i": ranks[1].ties},
            {"pictures": len(rows), "captions": len(columns)},
        )

    all_rows, all_columns = range(len(pictures)), range(len(texts))
    rows, columns = record.published_pictures, record.published_captions
    rows = all_rows if rows is None else rows
    columns = all_columns if columns is None else columns
    published = population(rows, columns) if len(columns) else Population(counts={"pictures": 0})
    same = len(rows) == len(all_rows) and len(columns) == len(all_columns)
    return Scored(published, published if same else population(all_rows, all_columns), arrays)


def _recalls(
    ks: Sequence[int], ranks: tuple[Ranks, Ranks], recall: Callable[[Ranks, int], float]
) -> dict[str, float]:
    both = zip(("i2t", "t2i"), ranks, strict=True)
    return {f"{way}_r{k}": recall(own, k) for way, own in both for k in ks}


def _classification(protocol: Protocol, record: Classification, features: Features) -> Scored:
    names = record.more_names or record.names
    classes = prototypes(features.texts(class_prompts(names, protocol.templates)), len(names))
    pictures = features.pictures(record.pictures)
    places = {"": classify(unit(pictures), classes[: len(record.names)], record.labels)}
    if record.more_names:
        places[f"_of_{len(names)}"] = classify(unit(pictures), classes, record.labels)
    count = len(record.pictures)
    batch = _AUTHORS_BATCH[features.rules.generation] if protocol.drops_last else 1
    arrays = {"image_features": pictures, "class_features": classes}
    arrays |= {"labels": record.labels, "top5": places[""].best}
    return Scored(
        _top(places, {}, range(count // batch * batch), "pictures"),
        _top(places, {}, range(count), "pictures"),
        arrays,
    )


def _boxes(protocol: Protocol, record: Boxes, features: Features) -> Scored:
    if not len(record.owners):
        raise ValueError(
            "no box lies in a picture that is there: get the pictures, or say where they lie with "
            "--images"
        )
    prompts = class_prompts(record.names, protocol.templates)
    classes = prototypes(features.texts(prompts), len(record.names))
    boxes = features.boxes(record.pictures, record.owners, record.corners)
    places = {"": classify(boxes, classes, record.labels, box_probabilities)}
    by_logits = {"": classify(boxes, classes, record.labels)}
    count = range(len(record.owners))
    taken: Sequence[int] = count
    if record.published_pictures is not None:
        pictures = {*record.published_pictures}
        taken = [number for number in count if record.owners[number] in pictures]
    arrays = {"box_features": boxes, "class_features": classes, "top5": places[""].best}
    arrays |= {"labels": record.labels, "annotation_ids": record.annotation_ids}
    return Scored(
        _top(places, by_logits, taken, "boxes"), _top(places, by_logits, count, "boxes"), arrays
    )


def _top(
    places: Mapping[str, ClassPlaces],
    by_logits: Mapping[str, ClassPlaces],
    chosen: Sequence[int],
    what: str,
) -> Population:
    """A population of `chosen` things; `places` by what is added to the name of a metric."""
    if not len(chosen):
        return Population(counts={what: 0})
    names = [(f"top{k}{suffix}", suffix, k) for suffix in places for k in _TOP]
    some = {suffix: own.of(chosen) for suffix, own in places.items()}
    unscaled = {suffix: own.of(chosen) for suffix, own in (by_logits or places).items()}
    return Population(
        {name: some[suffix].accuracy(k) for name, suffix, k in names},
        {name: some[suffix].expected_accuracy(k) for name, suffix, k in names},
        {name: unscaled[suffix].accuracy(k) for name, suffix, k in names},
        {name: some[suffix].ties(k) for name, suffix, k in names},
        {what: len(chosen)},
    )


def _box_captions(protocol: Protocol, record: BoxCaptions, features: Features) -> Scored:
    texts = list(dict.fromkeys(text for own in record.captions for text in own))
    place = {text: number for number, text in enumerate(texts)}
    table = unit(features.texts(texts))
    boxes = features.boxes(record.pictures, record.owners, record.corners)
    right, tied, even = [], [], []
    for box, own in zip(boxes, record.captions, strict=True):
        scores = _dots(box, table[[place[text] for text in own]])
        right.append(bool((scores[0] >= scores).all()))
        equal = int((scores == scores[0]).sum())
        tied.append(right[-1] and equal > 1)
        even.append(right[-1] / equal)
    subsets = np.asarray(record.subsets)
    rows = {f"{name}_top1": subsets == name for name in dict.fromkeys(record.subsets)}

    def shares(values: Sequence[float]) -> dict[str, float]:
        return {name: float(np.asarray(values)[own].mean()) for name, own in rows.items()}

    population = Population(
        shares(right),
        shares(even),
        shares(right),
        {name: int(np.asarray(tied)[own].sum()) for name, own in rows.items()},
        {**Counter(record.subsets), "boxes": len(boxes)},
    )
    return Scored(population, population, {"box_features": boxes, "hits": right})


def _dots(box: Tensor, captions: Tensor) -> Tensor:
    """Scores of captions, row by row, so that equal rows have equal scores to the last bit."""
    return torch.stack([(row * box).sum() for row in captions])
