"""Free text and pictures in, boxes with names out."""

from __future__ import annotations

import functools
import os
from collections.abc import Generator, Iterable, Iterator, Sequence, ValuesView
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from tqdm import tqdm

from fgclip_det.apis.answers import Answers, Stream
from fgclip_det.apis.argument_checks import (
    check_batch_size,
    check_list,
    check_on_error,
    check_score_thr,
)
from fgclip_det.apis.detections import Detections
from fgclip_det.apis.detector_loading import BUNDLED as BUNDLED
from fgclip_det.apis.detector_loading import load_detector, resolve_device
from fgclip_det.apis.image_regions import ImageRegions, as_detections, read_image_regions
from fgclip_det.apis.inputs.picture_lists import Picture, limit_aspect, list_pictures, to_pixels
from fgclip_det.apis.negatives import BuiltinNegatives
from fgclip_det.vocabulary import TextEmbeddings, Vocabulary

_KEPT_VOCABULARIES = 8
_Failures = list[tuple[str, str]]


class _Input(NamedTuple):
    """A picture on its way through the network.

    Attributes:
        place: Its place among the pictures of a call.
        data: What the pipeline made of it.
        size: Its height and width in pixels.
        path: Its file, or None where it was given as pixels.
        pixels: (H, W, 3) uint8, RGB, where they are kept.
    """

    place: int
    data: dict
    size: tuple[int, int]
    path: str | None
    pixels: np.ndarray | None


class OpenVocabInferencer:
    """A detector that is asked in words.

    Args:
        model: Config, or its file, of an `OpenVocabTwoStageDetector`, or of an `OpenVocabWrapper`
            of another detector; "photos", "photos/balanced" or "photos/fast" for the presets of
            ``configs/photos``; None for the bundled one, which knows coloured shapes.
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
        self.builtin_negatives = BuiltinNegatives.of(self.model)
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
            texts: Any form that `__call__` takes, beside those that a preset has of its own; None
                for no negatives, a preset's neither.
        """
        self.negatives = None if texts is None else self.encode(texts)
        self.builtin_negatives = None if texts is None else BuiltinNegatives.of(self.model)

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
    ) -> Answers[Detections]:
        """`stream`, all answers at once: a list with the `failures` of this call."""
        stream = self.stream(
            images,
            texts,
            texts_per_image=texts_per_image,
            score_thr=score_thr,
            batch_size=batch_size,
            progress=progress,
            on_error=on_error,
        )
        return Answers(stream, stream.failures)

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
        keep_pixels: bool = False,
    ) -> Stream:
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
                answer and listed in its `failures` as (picture, reason).
            keep_pixels: Whether the answer has the `pixels` of each picture, to draw into.

        Returns:
            An iterator with `failures` and `pixels`: an answer for each picture, in order.

        Raises:
            ValueError: A picture cannot be read, texts name nothing, or a setting is out of range.
        """
        check_score_thr(score_thr)
        check_batch_size(batch_size)
        check_on_error(on_error)
        pictures = list_pictures(images)
        vocabularies = self._vocabularies(texts, texts_per_image, len(pictures))
        failures: _Failures = []
        collected = failures if on_error == "collect" else None

        def answers() -> Generator[tuple[Detections, np.ndarray | None]]:
            for batch, inputs in self._propose(
                pictures, batch_size, progress, collected, keep_pixels
            ):
                asked = [vocabularies[one.place] for one in inputs]
                found = self.classify(batch, asked, score_thr)
                yield from zip(found, (one.pixels for one in inputs), strict=True)

        return Stream(answers(), failures)

    def propose(
        self,
        images: Picture | Iterable[Picture],
        *,
        batch_size: int = 1,
        progress: bool = True,
        on_error: str = "raise",
    ) -> Answers[ImageRegions]:
        """Find the regions of pictures, without any words: the part of detection that takes long.

        Args:
            images: See `stream`.
            batch_size: See `stream`.
            progress: See `stream`.
            on_error: See `stream`.

        Returns:
            One for each picture, in order, with `failures`; `ImageRegions.classify` answers in
            milliseconds what `stream` would.

        Raises:
            ValueError: A picture cannot be read, or a setting is out of range.
        """
        check_batch_size(batch_size)
        check_on_error(on_error)
        failures: _Failures = []
        collected = failures if on_error == "collect" else None
        batches = self._propose(list_pictures(images), batch_size, progress, collected)
        return Answers((image for batch, _ in batches for image in batch), failures)

    def classify(
        self,
        images: Sequence[ImageRegions],
        texts: Sequence[TextEmbeddings],
        score_thr: float = 0.3,
    ) -> list[Detections]:
        """Detections in regions, for embeddings of one vocabulary for each picture.

        Raises:
            ValueError: They are of other kinds or not as many, or `score_thr` is out of range.
        """
        check_score_thr(score_thr)
        check_list(images, ImageRegions, "images")
        check_list(texts, TextEmbeddings, "texts")
        if len(images) != len(texts):
            raise ValueError(f"{len(texts)} texts for {len(images)} images: give one for each")
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
            if isinstance(texts_per_image, np.ndarray):
                texts_per_image = texts_per_image.tolist()
            is_list = isinstance(texts_per_image, Sequence | ValuesView)
            is_list = is_list and not isinstance(texts_per_image, str)
            if not is_list or len(texts_per_image) != count:
                raise ValueError(
                    f"texts_per_image must hold one entry for each of the {count} pictures"
                )
            return [self.encode(entry) for entry in texts_per_image]
        return [self.encode(texts)] * count

    def _propose(
        self,
        pictures: Sequence[Picture],
        batch_size: int,
        progress: bool,
        failures: _Failures | None,
        keep_pixels: bool = False,
    ) -> Iterator[tuple[list[ImageRegions], list[_Input]]]:
        """Batch by batch those that can be read; the others are added to `failures`, or raised."""
        shown = progress and len(pictures) > 1
        with tqdm(total=len(pictures), desc="pictures", disable=not shown) as bar:
            for start in range(0, len(pictures), batch_size):
                places = range(start, min(start + batch_size, len(pictures)))
                inputs = list(self._load(pictures, places, failures, keep_pixels))
                if inputs:
                    yield self._regions(inputs), inputs
                bar.update(len(places))

    def _load(
        self,
        pictures: Sequence[Picture],
        places: Iterable[int],
        failures: _Failures | None,
        keep_pixels: bool,
    ) -> Iterator[_Input]:
        for place in places:
            picture = pictures[place]
            path = str(picture) if isinstance(picture, str | os.PathLike) else None
            where = f"picture {path!r}" if path else "a picture"
            try:
                rgb = to_pixels(picture)
                data = self._prepare(limit_aspect(rgb, where), path)
            except (ValueError, MemoryError) as error:
                reason = str(error)
                if isinstance(error, MemoryError):
                    reason = f"{where} does not fit into memory: make it smaller"
                if failures is None:
                    raise ValueError(reason) from error
                failures.append((path or "<pixels>", reason))
                continue
            yield _Input(place, data, rgb.shape[:2], path, rgb if keep_pixels else None)

    def _regions(self, inputs: list[_Input]) -> list[ImageRegions]:
        data = pseudo_collate([one.data for one in inputs])
        batch = self.model.data_preprocessor(data, False)
        found = self.model.propose(batch["inputs"], batch["data_samples"])
        return [
            ImageRegions(self, regions, *reversed(one.size), one.path)
            for regions, one in zip(found, inputs, strict=True)
        ]

    def _prepare(self, rgb: np.ndarray, path: str | None) -> dict:
        bgr = np.ascontiguousarray(rgb[..., ::-1])
        shape = bgr.shape[:2]
        return self.pipeline(
            {"img": bgr, "img_shape": shape, "ori_shape": shape, "img_id": 0, "img_path": path}
        )

    def _competing(self, texts: TextEmbeddings) -> TextEmbeddings:
        if self.builtin_negatives is not None:
            return self.builtin_negatives.beside(texts, self.negatives)
        return texts if self.negatives is None else texts.with_negatives(self.negatives)
