"""The Python interface for users.

Names are looked up on first use, so that ``fgclip_det.apis.doctor`` can be imported, and can help,
where MMDetection is missing or broken.
"""

import importlib

from fgclip_det.exit_codes import import_advice

_HOMES = {
    "ImageRegions": "fgclip_det.apis.image_regions",
    "MaskPredictor": "fgclip_det.apis.masks",
    "OpenVocabInferencer": "fgclip_det.apis.inferencer",
    "Detections": "fgclip_det.apis.detections",
    "VideoSource": "fgclip_det.apis.video.source",
    "check_weights": "fgclip_det.apis.detector_loading",
    "detect_video": "fgclip_det.apis.video.detection",
    "draw_detections": "fgclip_det.apis.drawing.visualization",
    "draw_heatmap": "fgclip_det.apis.heatmap",
    "load_detector": "fgclip_det.apis.detector_loading",
    "make_region_bank": "fgclip_det.apis.region_banks",
    "neighbours": "fgclip_det.apis.scores.neighbours",
    "read_image": "fgclip_det.io",
    "rescore": "fgclip_det.apis.rescoring.rescoring",
    "resolve_device": "fgclip_det.apis.detector_loading",
    "similarity_maps": "fgclip_det.apis.heatmap",
    "stream_video": "fgclip_det.apis.video.looking",
}
__all__ = [
    "Detections",
    "ImageRegions",
    "MaskPredictor",
    "OpenVocabInferencer",
    "VideoSource",
    "check_weights",
    "detect_video",
    "draw_detections",
    "draw_heatmap",
    "load_detector",
    "make_region_bank",
    "neighbours",
    "read_image",
    "rescore",
    "resolve_device",
    "similarity_maps",
    "stream_video",
]


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(_HOMES[name]), name)
    except ImportError as error:
        advice = import_advice(error)
        if advice is None:
            raise
        raise ImportError(advice, name=error.name) from error
