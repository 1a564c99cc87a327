"""Pictures of annotated data are read as they are stored, whatever their EXIF entry says."""

from __future__ import annotations

import copy
from typing import Any

from mmcv.transforms import LoadImageFromFile

from fgclip_det.io import check_stored_size, undo_tiff_turn

# MMCV's flags that turn a picture, and those that do not; TurboJPEG never turns one.
_STORED = {
    "color": "color_ignore_orientation",
    "grayscale": "grayscale_ignore_orientation",
}
# Attributes in which transforms keep others.
_NESTED = ("transforms", "subroutines", "branch_pipelines")


class StoredPictures:
    """For a dataset of MMEngine's: its pipeline reads pictures as stored, whoever sets it.

    MMCV's ``LoadImageFromFile`` turns a picture by its EXIF entry, and boxes of an annotation file
    count the pixels of the file. Hooks replace a dataset's pipeline in the middle of a training, so
    it is mended whenever it is set, and not in the config.

    A picture stops the run where only the turned one has the annotated size; see
    `check_stored_size`.
    """

    @property
    def pipeline(self) -> Any:
        """The pipeline of transforms."""
        return self._pipeline

    @pipeline.setter
    def pipeline(self, pipeline: Any) -> None:
        self._pipeline = _as_stored(pipeline)


class _LoadAsStored:
    """A ``LoadImageFromFile`` that does not turn, and that compares sizes."""

    def __init__(self, loader: LoadImageFromFile) -> None:
        self.loader = copy.copy(loader)
        if loader.imdecode_backend != "turbojpeg":
            self.loader.color_type = _STORED.get(loader.color_type, loader.color_type)

    def __call__(self, results: dict[str, Any]) -> dict[str, Any] | None:
        annotated = results.get("width"), results.get("height")
        loaded = self.loader(results)
        if loaded is not None and self.loader.imdecode_backend != "tifffile":
            loaded["img"] = undo_tiff_turn(loaded.get("img_path") or "", loaded["img"])
            loaded["img_shape"] = loaded["ori_shape"] = loaded["img"].shape[:2]
        if loaded is not None and None not in annotated:
            height, width = loaded["ori_shape"]
            check_stored_size(loaded["img_path"], (width, height), annotated)
        return loaded

    def __repr__(self) -> str:
        return repr(self.loader)


def _as_stored(step: Any) -> Any:
    """A transform, or a list or dict of them, in which every loader reads pictures as stored."""
    if isinstance(step, LoadImageFromFile):
        return _LoadAsStored(step)
    if isinstance(step, list):
        return [_as_stored(one) for one in step]
    if isinstance(step, dict):
        return {name: _as_stored(one) for name, one in step.items()}
    for name in _NESTED:
        if hasattr(step, name):
            setattr(step, name, _as_stored(getattr(step, name)))
    return step
