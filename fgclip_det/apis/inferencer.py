"""Free text and pictures in, boxes with names out."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from tqdm import tqdm

from fgclip_det.apis.detections import Detections
from fgclip_det.apis.detector_loading import BUNDLED as BUNDLED
from fgclip_det.apis.detector_loading import load_detector, resolve_device
from fgclip_det.apis.image_regions import (
    ImageRegions,
    as_detections,
    check_score_thr,
    read_image_regions,
)
from fgclip_det.apis.picture_lists import Picture, list_pictures, to_pixels
from fgclip_det.io import check_padded_size
from fgclip_det.vocabulary import TextEmbeddings, Vocabulary

# A picture longer than this many times its other side would shrink to nothing: it is padded.
_MAX_ASPECT = 16
_KEPT_VOCABULARIES = 8


class OpenVocabInferencer:
    """A detector that is asked in words.

    Args:
        model: Config, or its file, of an `OpenVocabTwoStageDetector`, or of an `OpenVocabWrapper`
            of another detector; None for the bundled one, which knows coloured shapes.
        weights: Its checkpoint (``.pth`` or ``.safetensors``); with `model` only, and then needed,
            unless the config names a ``detector_checkpoint``. Of a wrapper, the detector's.
        encoder: Directory or hub id of the FG-CLIP to use in place of the config's.
        device: Such as "cpu" or "cuda:0"; None takes CUDA where there is one.

    Raises:
        ValueError: A file is missing or does not fit, or there is no such device.
    """

    def __init__(
        self,
        model: str | os.PathLike | Config | None = None,
        weights: str | os.PathLike | None = None,
        encoder: str | os.PathLike | None = None,
        device: str | torch.device | None = None,
    ) -> None:
        self.device = resolve_device(device)
        detector, self.pipeline = load_detector(model, weights, encoder)
        self.model = detector.to(self.device).eval()
        self.texts: TextEmbeddings | None = None
        self.negatives: TextEmbeddings | None = None
        self.failures: list[tuple[str, str]] = []
        self._encoded: dict[str, TextEmbeddings] = {}

    @functools.cached_property
    def weights_hash(self) -> str:
        """16 hex digits of the weights and settings that make regions, beside the encoder's."""
        return self.model.regions_hash

    def set_vocabulary(self, texts: Any) -> None:
        """Set the vocabulary of calls without `texts`, in any form that `__call__` takes."""
        self.texts = self.encode(texts)

    def set_negatives(self, texts: Any) -> None:
        """Set names that compete for boxes, but are not reported.

        Scores are shares among the names that compete, so that a red mug, where only a blue one is
        asked for, may be taken for it; with "a red mug" among the negatives it is not.

        Args:
            texts: Any form that `__call__` takes; None for no negatives.
        """
        self.negatives = None if texts is None else self.encode(texts)

    def __call__(
        self,
        images: Picture | Iterable[Picture],
        texts: Any = None,
        *,
        texts_per_image: Sequence[Any] | None = None,
        score_thr: float = 0.3,
        batch_size: int = 1,
        progress: bool = True,
        on_error: str = "raise",
    ) -> list[Detections]:
        """`stream`, all answers at once."""
        return list(
            self.stream(
                images,
                texts,
                texts_per_image=texts_per_image,
                score_thr=score_thr,
                batch_size=batch_size,
                progress=progress,
                on_error=on_error,
            )
        )

    def stream(
        self,
        images: Picture | Iterable[Picture],
        texts: Any = None,
        *,
        texts_per_image: Sequence[Any] | None = None,
        score_thr: float = 0.3,
        batch_size: int = 1,
        progress: bool = True,
        on_error: str = "raise",
    ) -> Iterator[Detections]:
        """Detect, one picture after the other.

        Args:
            images: A picture or several: a file, a folder, an (H, W, 3) uint8 RGB array, a Pillow
                image.
            texts: What to look for in all of them: any form that `Vocabulary.parse` takes, or
                `TextEmbeddings` or their file; None takes what `set_vocabulary` was given, else
                the detector's own vocabulary.
            texts_per_image: One such form for each picture, instead of `texts`.
            score_thr: Least score of a detection that is kept, in [0, 1].
            batch_size: Pictures that go through the network at once; changes no result.
            progress: Whether to show a progress bar for more than one picture.
            on_error: "raise", or "collect": pictures that cannot be read are left out of the
                answer and listed in `failures` as (picture, reason).

        Yields:
            One for each picture, in order.

        Raises:
            ValueError: A picture cannot be read, texts name nothing, or a setting is out of range.
        """
        check_score_thr(score_thr)
        _check_settings(batch_size, on_error)
        pictures = list_pictures(images)
        vocabularies = self._vocabularies(texts, texts_per_image, len(pictures))
        for batch in self._propose(pictures, batch_size, progress, on_error):
            asked = [vocabularies[index] for index, _ in batch]
            yield from self.classify([image for _, image in batch], asked, score_thr)

    def propose(
        self,
        images: Picture | Iterable[Picture],
        *,
        batch_size: int = 1,
        progress: bool = True,
        on_error: str = "raise",
    ) -> list[ImageRegions]:
        """Find the regions of pictures, without any words: the part of detection that takes long.

        Args:
            images: See `stream`.
            batch_size: See `stream`.
            progress: See `stream`.
            on_error: See `stream`.

        Returns:
            One for each picture, in order; `ImageRegions.classify` answers in milliseconds what
            `stream` would.

        Raises:
            ValueError: A picture cannot be read, or a setting is out of range.
        """
        _check_settings(batch_size, on_error)
        batches = self._propose(list_pictures(images), batch_size, progress, on_error)
        return [image for batch in batches for _, image in batch]

    def classify(
        self,
        images: Sequence[ImageRegions],
        texts: Sequence[TextEmbeddings],
        score_thr: float = 0.3,
    ) -> list[Detections]:
        """Detections in regions, for embeddings of one vocabulary for each picture."""
        regions = [image.regions for image in images]
        found = self.model.classify(regions, [self._competing(own) for own in texts])
        return [
            as_detections(*pair, image, score_thr)
            for *pair, image in zip(found, texts, images, strict=True)
        ]

    def load_regions(self, path: str | os.PathLike) -> ImageRegions:
        """Read what `ImageRegions.save` wrote.

        Raises:
            ValueError: The file is missing, broken or of another kind, or another encoder or
                detector made it.
        """
        return read_image_regions(path, self)

    def encode(self, texts: Any = None) -> TextEmbeddings:
        """Embeddings of `texts`, in any form that `__call__` takes; a few are kept."""
        if texts is None:
            return self.texts or self.model.text_embeddings
        is_path = isinstance(texts, str | os.PathLike)
        if isinstance(texts, TextEmbeddings) or (is_path and Path(texts).suffix == ".safetensors"):
            return self.model.encode_vocabulary(texts)
        vocabulary = Vocabulary.parse(texts)
        key = vocabulary.hash
        if key not in self._encoded:
            while len(self._encoded) >= _KEPT_VOCABULARIES:
                self._encoded.pop(next(iter(self._encoded)))
            self._encoded[key] = self.model.encode_vocabulary(vocabulary)
        return self._encoded[key]

    def _vocabularies(
        self, texts: Any, texts_per_image: Sequence[Any] | None, count: int
    ) -> list[TextEmbeddings]:
        if texts_per_image is not None:
            if texts is not None:
                raise ValueError("give texts or texts_per_image, not both")
            if isinstance(texts_per_image, str) or len(texts_per_image) != count:
                raise ValueError(
                    f"texts_per_image must hold one entry for each of the {count} pictures"
                )
            return [self.encode(entry) for entry in texts_per_image]
        return [self.encode(texts)] * count

    def _propose(
        self, pictures: Sequence[Picture], batch_size: int, progress: bool, on_error: str
    ) -> Iterator[list[tuple[int, ImageRegions]]]:
        """Batch by batch, the places in `pictures` and the regions of those that can be read."""
        self.failures = []
        shown = progress and len(pictures) > 1
        with tqdm(total=len(pictures), desc="pictures", disable=not shown) as bar:
            for start in range(0, len(pictures), batch_size):
                places = range(start, min(start + batch_size, len(pictures)))
                inputs = list(self._load(pictures, places, on_error))
                if inputs:
                    yield self._regions(inputs)
                bar.update(len(places))

    def _load(
        self, pictures: Sequence[Picture], places: Iterable[int], on_error: str
    ) -> Iterator[tuple[int, dict, tuple[int, int], str | None]]:
        """Place, network input, (height, width) and path of each picture that can be read."""
        for place in places:
            picture = pictures[place]
            path = str(picture) if isinstance(picture, str | os.PathLike) else None
            try:
                rgb = to_pixels(picture)
                padded = _limit_aspect(rgb, f"picture {path!r}" if path else "a picture")
            except ValueError as error:
                if on_error == "raise":
                    raise
                self.failures.append((path or "<pixels>", str(error)))
                continue
            yield place, self._prepare(padded, path), rgb.shape[:2], path

    def _regions(self, inputs: list[tuple]) -> list[tuple[int, ImageRegions]]:
        data = pseudo_collate([data for _, data, *_ in inputs])
        batch = self.model.data_preprocessor(data, False)
        found = self.model.propose(batch["inputs"], batch["data_samples"])
        return [
            (place, ImageRegions(self, regions, width, height, path))
            for regions, (place, _, (height, width), path) in zip(found, inputs, strict=True)
        ]

    def _prepare(self, rgb: np.ndarray, path: str | None) -> dict:
        bgr = np.ascontiguousarray(rgb[..., ::-1])
        shape = bgr.shape[:2]
        return self.pipeline(
            {"img": bgr, "img_shape": shape, "ori_shape": shape, "img_id": 0, "img_path": path}
        )

    def _competing(self, texts: TextEmbeddings) -> TextEmbeddings:
        return texts if self.negatives is None else texts.with_negatives(self.negatives)


def _limit_aspect(rgb: np.ndarray, where: str) -> np.ndarray:
    """Pad a very long or very tall picture at its bottom or right; boxes stay where they are.

    Raises:
        ValueError: It would grow beyond what is padded; `where` names it.
    """
    height, width = rgb.shape[:2]
    rows = max(height, -(-width // _MAX_ASPECT))
    columns = max(width, -(-height // _MAX_ASPECT))
    if (rows, columns) == (height, width):
        return rgb
    check_padded_size(columns, rows, where)
    return np.pad(rgb, ((0, rows - height), (0, columns - width), (0, 0)), mode="edge")


def _check_settings(batch_size: int, on_error: str) -> None:
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}: it must be 1 or more")
    if on_error not in ("raise", "collect"):
        raise ValueError(f'on_error is {on_error!r}: it must be "raise" or "collect"')
