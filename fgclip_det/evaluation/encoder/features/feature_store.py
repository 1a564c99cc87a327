"""Features that outlive a run, by all that they depend on."""

from __future__ import annotations

import hashlib
import math
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fgclip_det.evaluation.encoder.rules import EncoderRules
from fgclip_det.io import KEY_BYTES, RowStore, sha256_of, to_json

DEFAULT_LIMIT_GB = 20.0


class FeatureStore:
    """Features of one encoder on the disk; see `RowStore` for what is kept and what is dropped.

    Args:
        folder: Of all encoders; it is made where it is not there.
        rules: Those of a protocol, with the encoder.
        limit_gb: Gigabytes that `folder` may take.

    Raises:
        ValueError: `folder` is no folder, or `limit_gb` is not above 0.
    """

    def __init__(
        self, folder: str | os.PathLike, rules: EncoderRules, limit_gb: float = DEFAULT_LIMIT_GB
    ) -> None:
        if not 0 < limit_gb < math.inf:
            raise ValueError(f"the cache's limit is {limit_gb} GB: it must be a number above 0")
        self._weights, self._rules = rules.encoder.fingerprint, rules
        self._rows = RowStore(folder, self._weights, int(limit_gb * 1e9))
        self._pictures: dict[Path, bytes] = {}

    def find(self, keys: Sequence[bytes]) -> dict[bytes, np.ndarray]:
        """(D,) float32 of each key that is kept."""
        return self._rows.find(keys)

    def add(self, keys: Sequence[bytes], features: np.ndarray) -> None:
        """Keep (N, D) float32 features, all of them or none; warns once if there is no room.

        Raises:
            OSError: Writing failed.
        """
        was_full = self._rows.is_full
        self._rows.add(keys, features)
        if self._rows.is_full and not was_full:
            warnings.warn(
                f"{str(self._rows.folder)!r} holds {self._rows.limit / 1e9:g} GB of features that "
                "this run uses: what else it makes is not kept, raise --cache-limit",
                stacklevel=2,
            )

    def text(self, tokens: Sequence[int]) -> bytes:
        """Key of a text."""
        return text_key(self._weights, tokens, self._rules.text_length, self._rules.amp)

    def picture(self, path: Path) -> bytes:
        """Key of a picture file, which is read once for it.

        Raises:
            ValueError: It cannot be read.
        """
        if path not in self._pictures:
            encoder = self._rules.encoder
            settings = {
                **self._rules.picture_settings,
                "mean": list(encoder.image_mean),
                "std": list(encoder.image_std),
            }
            content = sha256_of(path, "picture")
            self._pictures[path] = picture_key(self._weights, content, settings)
        return self._pictures[path]

    def box(self, path: Path, corners: np.ndarray) -> bytes:
        """Key of a box, (4,) float64 xyxy, in a picture file."""
        return box_key(self.picture(path), corners)


def text_key(weights: str, tokens: Sequence[int], path: str, amp: bool) -> bytes:
    """Key of a text.

    Args:
        weights: Fingerprint of the encoder.
        tokens: Ids, as the tower reads them.
        path: Through the tower: "short", "long" or "box".
        amp: Whether it is computed in bfloat16.
    """
    return _key("text", weights, list(tokens), path, amp)


def picture_key(weights: str, content: str, settings: Mapping[str, Any]) -> bytes:
    """Key of a picture.

    Args:
        weights: Fingerprint of the encoder.
        content: Checksum of the file's bytes.
        settings: How they become pixels: size, resampling, budget, precision, mean and deviation.
    """
    return _key("picture", weights, content, dict(sorted(settings.items())))


def box_key(picture: bytes, corners: np.ndarray) -> bytes:
    """Key of a box, (4,) float64 xyxy, in the picture of a key."""
    return _key("box", picture.hex(), [float(side).hex() for side in corners])


def _key(*parts: Any) -> bytes:
    text = to_json(list(parts), "a key", indent=None)
    return hashlib.blake2b(text.encode(), digest_size=KEY_BYTES).digest()
