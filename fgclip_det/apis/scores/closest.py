"""What came closest, where nothing was found."""

from __future__ import annotations

from fgclip_det.apis.detections import Closest
from fgclip_det.apis.detector_loading import OpenVocabDetector
from fgclip_det.apis.scores.competing import Asked
from fgclip_det.models.regions.closest import closest_names
from fgclip_det.models.regions.region_classification import BestOfEach
from fgclip_det.models.regions.regions import Regions

_MOST = 3


def closest(
    model: OpenVocabDetector,
    regions: Regions,
    asked: Asked,
    one_name: bool,
    best: BestOfEach | None,
) -> tuple[Closest, ...]:
    """The names that came closest in a picture, best first; none where nothing else competes.

    Args:
        model: Found nothing.
        regions: Of the picture.
        asked: What was asked for.
        one_name: As it was asked.
        best: What the model tells of each name, if it does.
    """
    if asked.competitors is None or best is None:
        return ()
    ready = model.ready_to_classify(
        asked.texts, asked.competitors, asked.contradictory, one_name, asked.count
    )
    names = (*asked.competitors.texts, *asked.texts.names[asked.count :])
    return tuple(
        Closest(
            asked.texts.names[one.name],
            one.certainty,
            None if one.rival is None else names[one.rival],
        )
        for one in closest_names(model.region_classifier, regions, ready, best, _MOST)
    )
