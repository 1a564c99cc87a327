"""The Python interface for users.

Names are looked up on first use, so that ``fgclip_det.apis.doctor`` can be imported, and can help,
where MMDetection is missing or broken.
"""

import importlib

_HOMES = {
    "OpenVocabInferencer": "fgclip_det.apis.inferencer",
    "Detections": "fgclip_det.apis.detections",
    "draw_detections": "fgclip_det.apis.visualization",
    "read_image": "fgclip_det.apis.images",
}
__all__ = ["Detections", "OpenVocabInferencer", "draw_detections", "read_image"]


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
