"""One protocol of FG-CLIP's own evaluation, from stock files to numbers."""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fgclip_det.encoders import FGCLIP, FGCLIP2
from fgclip_det.evaluation.encoder.data_sets import (
    BoxCaptions,
    Boxes,
    Classification,
    Record,
    Retrieval,
)
from fgclip_det.evaluation.encoder.features import (
    DEFAULT_LIMIT_GB,
    Features,
    FeatureStore,
    process_number,
)
from fgclip_det.evaluation.encoder.present import without_missing
from fgclip_det.evaluation.encoder.protocols import find_protocol
from fgclip_det.evaluation.encoder.rules import EncoderRules
from fgclip_det.evaluation.encoder.scoring import Population, score
from fgclip_det.io import listed

# Missing pictures that the details name.
_NAMED = 1000


@dataclass(frozen=True)
class Result:
    """What a protocol says of an encoder.

    Attributes:
        protocol: Its name.
        family: Of the encoder: "fgclip", "fgclip2", "clip" or "siglip2".
        width: Of its image tower, which tells its size.
        fingerprint: Of the encoder.
        as_published: Over the population that the authors' script takes.
        whole_population: Over everything that the files hold and whose picture is there.
        listed: What the files hold, with what is missing.
        missing: Paths of pictures that are not on the disk.
        settings: How pictures and texts were read.
        record: What was evaluated.
        arrays: Features and places by name, in the order of `record`; places are those over the
            whole population.
    """

    protocol: str
    family: str
    width: int
    fingerprint: str
    as_published: Population
    whole_population: Population
    listed: dict[str, int]
    missing: list[str]
    settings: dict[str, Any]
    record: Record
    arrays: dict[str, np.ndarray]

    def numbers(self) -> dict[str, float]:
        """``{"as_published.METRIC": ..., "whole_population.METRIC": ...}``."""
        populations = {"as_published": self.as_published, "whole_population": self.whole_population}
        return {
            f"{name}.{metric}": value
            for name, population in populations.items()
            for metric, value in population.metrics.items()
        }

    def details(self) -> dict[str, Any]:
        """All that is not a feature, as JSON holds it."""
        return {
            "protocol": self.protocol,
            "family": self.family,
            "fingerprint": self.fingerprint,
            "settings": self.settings,
            "listed": self.listed,
            "missing_pictures": len(self.missing),
            "missing": self.missing[:_NAMED],
            "as_published": asdict(self.as_published),
            "whole_population": asdict(self.whole_population),
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
    batch_size: int | None = None,
    amp: bool = False,
    progress: bool = False,
    cache: str | Path | None = None,
    cache_limit: float = DEFAULT_LIMIT_GB,
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
        batch_size: Pictures that are encoded at once; None is 2 on a CPU and 32 elsewhere.
        amp: Whether to compute in bfloat16 where autocast does.
        progress: Whether to show progress bars.
        cache: Folder where features are kept for other runs, and for this one if it is killed.
        cache_limit: Gigabytes that it may take.

    Pictures that are missing are warned of, and left out with their captions and boxes.

    Raises:
        OSError: `cache` cannot be written.
        ValueError: A file is missing or broken, no picture is there, or an argument is not for
            this protocol or encoder.
    """
    found = find_protocol(protocol)
    rules = EncoderRules(encoder, found.texts, found.lowercase, found.patches, image_size, amp)
    store = None if cache is None else FeatureStore(cache, rules, cache_limit)
    features = Features(rules, batch_size, progress, store)
    whole = found.record(Path(root), None if images is None else Path(images), limit, num_classes)
    record, missing = without_missing(whole)
    _warn_of_missing(missing, len(whole.pictures))
    scored = score(found, record, features)
    return Result(
        protocol=found.name,
        family=rules.family,
        width=encoder.embed_dim,
        fingerprint=encoder.fingerprint,
        as_published=scored.as_published,
        whole_population=scored.whole_population,
        listed=_counts(whole),
        missing=missing,
        settings={"image_size": image_size, **rules.settings, **features.counts},
        record=record,
        arrays={name: np.asarray(values) for name, values in scored.arrays.items()},
    )


def _warn_of_missing(missing: list[str], count: int) -> None:
    if not missing or process_number()[0]:
        return
    warnings.warn(
        f"{len(missing)} of {count} pictures are missing and left out with what belongs to them "
        f"({listed(missing, 'missing pictures')}): get them, or say where they lie with --images",
        stacklevel=3,
    )


def _counts(record: Record) -> dict[str, int]:
    counts = {"pictures": len(record.pictures)}
    if isinstance(record, Retrieval):
        counts["captions"] = len(record.captions)
    if isinstance(record, Boxes | BoxCaptions):
        counts["boxes"] = len(record.owners)
    if isinstance(record, Boxes | Classification):
        counts["classes"] = len(record.names)
    return counts
