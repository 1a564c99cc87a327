"""Moves pictures and boxes of a batch to the model, and leaves captions where they are."""

from __future__ import annotations

from typing import Any

from mmengine.model import BaseDataPreprocessor

_ON_DEVICE = ("image", "boxes")


class RegionCaptionPreprocessor(BaseDataPreprocessor):
    """Token ids are told apart and padded on the CPU: on a device each would be waited for."""

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """A batch as `RegionTextPretrainer.forward` takes it, its tensors of pixels moved."""
        return {
            key: self.cast_data(value) if key in _ON_DEVICE else value
            for key, value in data.items()
        }
