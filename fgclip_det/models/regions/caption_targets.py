"""Training on captions and their negatives, image by image: FG-OVD's training data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from torch import Tensor


class CaptionTargets(NamedTuple):
    """Texts, labels and competitors for the boxes of a batch.

    Attributes:
        text_embeddings: (T, D) of the trained names, where a sample has no captions, then of the
            captions of each vocabulary, vocabulary by vocabulary.
        samples: The batch; labels are rows of `text_embeddings`.
        competitors: (T + N, T) bool. Row ``t`` tells which texts a box labelled ``t`` is compared
            with, row ``T + n`` those of a box of image ``n`` without an object.
    """

    text_embeddings: Tensor
    samples: list[DetDataSample]
    competitors: Tensor


def caption_targets(
    batch_data_samples: Sequence[DetDataSample],
    encode: Callable[[Sequence[str]], Tensor],
    trained_embeddings: Callable[[], Tensor],
) -> CaptionTargets:
    """Targets of a batch in which samples bring their own captions.

    A box with a caption competes with that caption's negatives alone: of captions of other boxes
    of the picture nobody said that they do not fit. A box without an object is to be like none of
    its picture's captions. Samples without ``vocabularies`` are trained on the trained names as
    ever, so that a batch can hold both kinds.

    Args:
        batch_data_samples: Ground truth; labels are places in the sample's ``vocabularies``
            (`FGOVDDataset`), or rows of the trained embeddings where it has none.
        encode: Gives (M, D) embeddings of M captions.
        trained_embeddings: Gives (B, D) embeddings of the trained names; called where needed.

    Raises:
        ValueError: A label is no place in its sample's vocabularies.
    """
    own = [sample.get("vocabularies") for sample in batch_data_samples]
    trained = trained_embeddings() if any(one is None for one in own) else None
    base = 0 if trained is None else len(trained)
    captions: list[str] = []
    # Of each image the first row of each vocabulary, and one more for where its last one ends.
    bounds: list[list[int]] = []
    for vocabularies in own:
        rows = [base + len(captions)]
        for vocabulary in vocabularies or ():
            captions += vocabulary["captions"]
            rows.append(base + len(captions))
        bounds.append(rows)
    embeddings = encode(captions)
    if trained is not None:
        embeddings = torch.cat([trained.to(embeddings), embeddings])
    total = len(embeddings)
    competitors = torch.zeros(total + len(own), total, dtype=torch.bool, device=embeddings.device)
    competitors[:base, :base] = True
    samples = []
    for index, (sample, rows) in enumerate(zip(batch_data_samples, bounds, strict=True)):
        if own[index] is None:
            competitors[total + index, :base] = True
            samples.append(sample)
            continue
        competitors[total + index, rows[0] : rows[-1]] = True
        for start, end in pairwise(rows):
            competitors[start, start:end] = True
        samples.append(_relabelled(sample, rows[:-1]))
    return CaptionTargets(embeddings, samples, competitors)


def _relabelled(sample: DetDataSample, rows: Sequence[int]) -> DetDataSample:
    """A copy whose labels are rows of the batch's embeddings: those of the right captions."""
    truth = sample.gt_instances
    if len(truth.labels) and not 0 <= int(truth.labels.max()) < len(rows):
        raise ValueError(
            f"ground-truth label {int(truth.labels.max())} of an image with {len(rows)} "
            "vocabularies: labels must be places in `vocabularies`"
        )
    copy = DetDataSample(metainfo=sample.metainfo)
    copy.gt_instances = InstanceData(
        bboxes=truth.bboxes, labels=truth.labels.new_tensor(rows)[truth.labels]
    )
    if "ignored_instances" in sample:
        copy.ignored_instances = sample.ignored_instances
    return copy
