"""Features of pictures, texts and boxes, made once, kept on the disk, shared among processes."""

from fgclip_det.evaluation.encoder.features.feature_store import DEFAULT_LIMIT_GB, FeatureStore
from fgclip_det.evaluation.encoder.features.features import Features
from fgclip_det.evaluation.processes import (
    joined_processes,
    own_device,
    process_number,
)

__all__ = [
    "DEFAULT_LIMIT_GB",
    "FeatureStore",
    "Features",
    "joined_processes",
    "own_device",
    "process_number",
]
