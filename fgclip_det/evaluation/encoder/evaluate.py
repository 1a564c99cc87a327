"""One protocol from stock files to numbers, for both populations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fgclip_det.encoders import FGCLIP, FGCLIP2
from fgclip_det.evaluation.encoder.class_places import (
    ClassPlaces,
    box_probabilities,
    class_prompts,
    classify,
    prototypes,
)
from fgclip_det.evaluation.encoder.data_sets import (
    BoxCaptions,
    Boxes,
    Classification,
    Record,
    Retrieval,
)
from fgclip_det.evaluation.encoder.features import Features
from fgclip_det.evaluation.encoder.present import without_missing
from fgclip_det.evaluation.encoder.protocols import Protocol, find_protocol
from fgclip_det.evaluation.encoder.ranks import rank_pairs
from fgclip_det.evaluation.encoder.rules import EncoderRules, unit

# Pictures in a batch of the authors' ImageNet scripts, which drop the last incomplete one.
_AUTHORS_BATCH = {1: 64, 2: 128}
_TOP = (1, 5)


@dataclass(frozen=True)
class Population:
    """Numbers over one population.

    Attributes:
        metrics: Shares, by name; as the authors' code decides ties. Empty of an empty population.
        expected: The same on average over all orders of what ties.
        ties: Queries that a tie can move, by metric.
        counts: What it holds, such as "pictures" and "captions".
    """

    metrics: dict[str, float] = field(default_factory=dict)
    expected: dict[str, float] = field(default_factory=dict)
    ties: dict[str, int] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """What a protocol says of an encoder.

    Attributes:
        protocol: Its name.
        family: Of the encoder: "fgclip", "fgclip2", "clip" or "siglip2".
        fingerprint: Of the encoder.
        as_published: Over the population that the authors' script takes.
        whole_population: Over everything that the files hold and whose picture is there.
        listed: What the files hold, pictures that are missing too.
        missing: Paths of pictures that are not on the disk.
        settings: How pictures and texts were read.
        arrays: Features and places by name, for sheets and checks.
    """

    protocol: str
    family: str
    fingerprint: str
    as_published: Population
    whole_population: Population
    listed: dict[str, int]
    missing: list[str]
    settings: dict[str, Any]
    arrays: dict[str, np.ndarray]

    def numbers(self) -> dict[str, float]:
        """``{"as_published.METRIC": ..., "whole_population.METRIC": ...}``."""
        populations = {"as_published": self.as_published, "whole_population": self.whole_population}
        return {
            f"{name}.{metric}": value
            for name, population in populations.items()
            for metric, value in population.metrics.items()
        }


def evaluate_encoder(
    encoder: FGCLIP | FGCLIP2,
    protocol: str,
    root: str | Path,
    *,
    images: str | Path | None = None,
    limit: int | None = None,
    num_classes: int | None = None,
    image_size: int | None = None,
    batch_size: int = 32,
    amp: bool = False,
    progress: bool = False,
) -> Result:
    """Run a protocol of FG-CLIP's own evaluation.

    Args:
        encoder: FG-CLIP, FG-CLIP 2, CLIP or SigLIP 2, as `load_encoder` reads it.
        protocol: One of `PROTOCOLS`.
        root: Folder that holds the protocol's stock files under their stock names.
        images: Folder of the pictures, if elsewhere.
        limit: In place of ShareGPT4V's 1,000.
        num_classes: In place of ImageNet's 1,000.
        image_size: Side of the square in generation 1, in px.
        batch_size: Pictures that are encoded at once.
        amp: Whether to compute in bfloat16 where autocast does.
        progress: Whether to show progress bars.

    Raises:
        ValueError: A file is missing or broken, no picture is there, or an argument is not for
            this protocol or encoder.
    """
    found = find_protocol(protocol)
    rules = EncoderRules(encoder, found.texts, found.lowercase, found.patches, image_size, amp)
    features = Features(rules, batch_size, progress)
    whole = found.record(Path(root), images and Path(images), limit, num_classes)
    record, missing = without_missing(whole)
    published, everything, arrays = _SCORED[found.kind](found, record, features)
    texts = _distinct_texts(found, record)
    settings = {
        **rules.picture_settings,
        "texts": rules.text_length,
        "lowercase": rules.lowercase,
        "max_tokens": encoder.text_model.max_length(rules.text_length),
        "distinct_texts": len(texts),
        "texts_cut": rules.count_cut(texts),
    }
    return Result(
        protocol=found.name,
        family=rules.family,
        fingerprint=encoder.fingerprint,
        as_published=published,
        whole_population=everything,
        listed=_counts(whole),
        missing=missing,
        settings=settings,
        arrays={name: np.asarray(values) for name, values in arrays.items()},
    )


_Scored = tuple[Population, Population, dict[str, Any]]


def _retrieval(protocol: Protocol, record: Retrieval, features: Features) -> _Scored:
    pictures, texts = features.pictures(record.pictures), features.texts(record.captions)
    arrays: dict[str, Any] = {"image_features": pictures, "text_features": texts}
    pictures, texts = unit(pictures), unit(texts)
    owners = np.asarray(record.owners)

    def score(rows: Sequence[int], columns: Sequence[int]) -> Population:
        place = {row: number for number, row in enumerate(rows)}
        own = [place[owner] for owner in owners[columns].tolist()]
        given = pictures[rows], texts[columns], own
        both = dict(zip(("i2t", "t2i"), rank_pairs(*given, features.rules.scores), strict=True))
        names = {f"{way}_r{k}": (ranks, k) for k in protocol.ks for way, ranks in both.items()}
        arrays.update({f"{way}_rank": ranks.places for way, ranks in both.items()})
        return Population(
            {name: ranks.recall(k) for name, (ranks, k) in names.items()},
            {name: ranks.expected_recall(k) for name, (ranks, k) in names.items()},
            {way: ranks.ties for way, ranks in both.items()},
            {"pictures": len(rows), "captions": len(columns)},
        )

    all_rows, all_columns = range(len(pictures)), range(len(texts))
    everything = score(all_rows, all_columns)
    rows, columns = record.published_pictures, record.published_captions
    if rows is None and columns is None:
        return everything, everything, arrays
    rows = all_rows if rows is None else rows
    columns = all_columns if columns is None else columns
    return _if_any(columns, lambda: score(rows, columns)), everything, arrays


def _classification(protocol: Protocol, record: Classification, features: Features) -> _Scored:
    names = record.more_names or record.names
    every_class = prototypes(features.texts(class_prompts(names, protocol.templates)), len(names))
    pictures = features.pictures(record.pictures)
    places = {"": classify(unit(pictures), every_class[: len(record.names)], record.labels)}
    if record.more_names and protocol.drops_last:
        suffix = f"_of_{len(names)}"
        places[suffix] = classify(unit(pictures), every_class, record.labels)
    count = len(record.pictures)
    batch = _AUTHORS_BATCH[features.rules.generation]
    taken = range(count // batch * batch if protocol.drops_last else count)
    arrays = {"image_features": pictures, "class_features": every_class, "top5": places[""].best}
    everything = _top_population(places, range(count), "pictures")
    return _top_population(places, taken, "pictures"), everything, arrays


def _boxes(protocol: Protocol, record: Boxes, features: Features) -> _Scored:
    if not len(record.owners):
        raise ValueError(
            "no box lies in a picture that is there: get the pictures, or say --images"
        )
    prompts = class_prompts(record.names, protocol.templates)
    classes = prototypes(features.texts(prompts), len(record.names))
    boxes = features.boxes(record.pictures, record.owners, record.corners)
    places = {"": classify(boxes, classes, record.labels, box_probabilities)}
    arrays = {"box_features": boxes, "class_features": classes, "top5": places[""].best}
    arrays |= {"labels": places[""].labels, "annotation_ids": record.annotation_ids}
    count = range(len(record.owners))
    taken: Sequence[int] = count
    if record.published_pictures is not None:
        pictures = {*record.published_pictures}
        taken = [number for number in count if record.owners[number] in pictures]
    everything = _top_population(places, count, "boxes")
    return _top_population(places, taken, "boxes"), everything, arrays


def _box_captions(protocol: Protocol, record: BoxCaptions, features: Features) -> _Scored:
    texts = list(dict.fromkeys(text for own in record.captions for text in own))
    place = {text: number for number, text in enumerate(texts)}
    table = unit(features.texts(texts))
    boxes = features.boxes(record.pictures, record.owners, record.corners)
    hits, ties = [], []
    for box, own in zip(boxes, record.captions, strict=True):
        # Row by row, so that captions of equal features have equal scores, to the bit.
        scores = torch.stack([(table[place[text]] * box).sum() for text in own])
        hits.append(bool((scores[0] >= scores).all()))
        ties.append(hits[-1] and bool((scores[0] == scores[1:]).any()))
    subsets = np.asarray(record.subsets)
    rows = {name: np.flatnonzero(subsets == name) for name in dict.fromkeys(record.subsets)}
    right, tied = np.asarray(hits), np.asarray(ties)
    metrics = {f"{name}_top1": float(right[own].mean()) for name, own in rows.items()}
    # Each of a tie's captions is the first one as often as the other.
    population = Population(
        metrics,
        metrics,
        {f"{name}_top1": int(tied[own].sum()) for name, own in rows.items()},
        dict(Counter(record.subsets)),
    )
    return population, population, {"box_features": boxes, "hits": right}


_SCORED: dict[str, Callable[..., _Scored]] = {
    "retrieval": _retrieval,
    "classification": _classification,
    "boxes": _boxes,
    "box captions": _box_captions,
}


def _top_population(places: dict[str, ClassPlaces], chosen: Sequence[int], what: str) -> Population:
    if not len(chosen):
        return Population(counts={what: 0})
    some = {suffix: own.of(chosen) for suffix, own in places.items()}
    names = {f"top{k}{suffix}": (own, k) for suffix, own in some.items() for k in _TOP}
    return Population(
        {name: own.accuracy(k) for name, (own, k) in names.items()},
        {name: own.expected_accuracy(k) for name, (own, k) in names.items()},
        {name: own.ties(k) for name, (own, k) in names.items()},
        {what: len(chosen)},
    )


def _if_any(chosen: Sequence[int], score: Callable[[], Population]) -> Population:
    return score() if len(chosen) else Population()


def _distinct_texts(protocol: Protocol, record: Record) -> list[str]:
    if isinstance(record, Retrieval):
        return list(dict.fromkeys(record.captions))
    if isinstance(record, BoxCaptions):
        return list(dict.fromkeys(text for own in record.captions for text in own))
    names = record.more_names if isinstance(record, Classification) else None
    return class_prompts(names or record.names, protocol.templates)


def _counts(record: Record) -> dict[str, int]:
    counts = {"pictures": len(record.pictures)}
    if isinstance(record, Retrieval):
        return {**counts, "captions": len(record.captions)}
    if isinstance(record, Boxes | BoxCaptions):
        return {**counts, "boxes": len(record.owners)}
    return counts
