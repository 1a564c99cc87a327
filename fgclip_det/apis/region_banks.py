"""Regions of a folder of pictures, for `RegionBank`."""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor
from tqdm import tqdm

import fgclip_det
from fgclip_det.apis.argument_checks import check_batch_size, check_whole_number
from fgclip_det.apis.inferencer import OpenVocabInferencer
from fgclip_det.apis.inputs.picture_lists import Picture, list_pictures
from fgclip_det.models.regions.regions import Regions
from fgclip_det.vocabulary import RegionBank

# Of a picture, this many times its share is kept, for others that have less than theirs.
_SPARE = 4
_PICTURES_AT_ONCE = 16


def make_region_bank(
    detector: OpenVocabInferencer,
    images: Picture | Iterable[Picture],
    number: int = 2048,
    seed: int = 0,
    *,
    batch_size: int = 1,
    progress: bool = True,
) -> RegionBank:
    """Collect regions evenly over pictures.

    Of each picture one, then of each a second, and so on, drawn by chance from all that the
    detector proposes: a name is asked of parts of objects and of ground too, and false alarms are
    there. A bank of the best regions alone tells less (see docs/scores.md). Which pictures are
    looked into, where there are more than regions asked for, is left to chance as well.

    Args:
        detector: Whose regions, and whose encoder.
        images: A picture or several, of the kinds of `OpenVocabInferencer.stream`; many, like those
            that will be looked into, and of whatever there is: the truth of none is needed.
        number: How many regions.
        seed: Of what is left to chance.
        batch_size: Pictures that go through the network at once; changes no result.
        progress: Whether to show a progress bar.

    Returns:
        The bank; of fewer regions, with a warning, where pictures have no more.

    Raises:
        ValueError: No picture was given or can be read, none has a region, or a setting is out of
            range.
    """
    check_whole_number(number, "number", 1)
    check_whole_number(seed, "seed", 0)
    check_batch_size(batch_size)
    pictures = list_pictures(images)
    random.Random(seed).shuffle(pictures)
    pictures = pictures[:number]
    most = _SPARE * math.ceil(number / len(pictures))
    chance = torch.Generator().manual_seed(seed % 2**63)
    found = [
        _drawn(one, most, chance) for one in _regions(detector, pictures, batch_size, progress)
    ]
    order = sorted((rank, own) for own, rows in enumerate(found) for rank in range(len(rows)))
    if not order:
        raise ValueError(
            f"no region in {len(found)} of {len(pictures)} pictures that could be read: name "
            "pictures with objects in them"
        )
    if len(order) < number:
        warnings.warn(
            f"the pictures have {len(order)} regions, fewer than the {number} asked for: name more "
            "pictures for a bank that tells more",
            stacklevel=2,
        )
    rows = torch.stack([found[own][rank] for rank, own in order[:number]])
    about = {"regions": len(rows), "pictures": len(found), "seed": int(seed)}
    about |= {"detector": detector.weights_hash, "fgclip_det": fgclip_det.__version__}
    return RegionBank(rows, detector.model.encoder.fingerprint, about)


def _regions(
    detector: OpenVocabInferencer, pictures: list[Picture], batch_size: int, progress: bool
) -> Iterator[Regions]:
    """Of each picture that can be read, a few pictures in memory at a time."""
    at_once = max(batch_size, _PICTURES_AT_ONCE)
    with tqdm(total=len(pictures), desc="pictures", disable=not progress) as bar:
        for start in range(0, len(pictures), at_once):
            some = pictures[start : start + at_once]
            answers = detector.propose(
                some, batch_size=batch_size, progress=False, on_error="collect"
            )
            for _, reason in answers.failures:
                warnings.warn(f"left out of the bank: {reason}", stacklevel=3)
            yield from (answer.regions for answer in answers)
            bar.update(len(some))


def _drawn(regions: Regions, most: int, chance: torch.Generator) -> Tensor:
    """(n, D) float32 on the CPU: embeddings of at most so many regions, in any order."""
    rows = torch.randperm(len(regions), generator=chance)[:most]
    return regions.region_embeddings.detach().float().cpu()[rows]
