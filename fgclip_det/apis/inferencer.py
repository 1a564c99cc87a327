"""Free text and pictures in, boxes with names out."""

from __future__ import annotations

import functools
import itertools
import os
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence, ValuesView
from pathlib import Path
from typing import Any, cast

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
from fgclip_det.apis.inputs.picture_lists import Picture, each_picture
from fgclip_det.apis.inputs.prepared import Failures, Input, load, prepared
from fgclip_det.apis.inputs.tiles import Tiling, check_tiling, cut_out, join
from fgclip_det.apis.negatives import BuiltinNegatives
from fgclip_det.models.regions.regions import Regions
from fgclip_det.vocabulary import TextEmbeddings, Vocabulary

_KEPT_VOCABULARIES = 8


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
        tile: int | None = None,
        overlap: float = 0.2,
        recursive: bool = True,
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
            tile=tile,
            overlap=overlap,
            recursive=recursive,
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
        tile: int | None = None,
        overlap: float = 0.2,
        recursive: bool = True,
    ) -> Stream:
        """Detect, one picture after the other.

        Args:
            images: A picture or several, of the kinds of `Picture`: files, folders, patterns,
                addresses, arrays and more. An iterator is read bit by bit, and may be endless.
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
            tile: Side in pixels of square tiles, in which larger pictures are looked at beside as a
                whole, for what is small in them; `inputs.tiles` tells how regions are joined.
            overlap: Least share of a tile that its neighbour covers too, in [0, 1): as large as
                most of what is looked for.
            recursive: Whether folders are looked into with all below, or by themselves.

        Returns:
            An iterator with `failures` and `pixels`: an answer for each picture, in order.

        Raises:
            ValueError: A picture cannot be read, texts name nothing, or a setting is out of range.
        """
        check_score_thr(score_thr)
        check_batch_size(batch_size)
        check_on_error(on_error)
        tiling = check_tiling(tile, overlap)
        pictures = each_picture(images, recursive, as_list=texts_per_image is not None)
        vocabularies = self._vocabularies(texts, texts_per_image, pictures)
        failures: Failures = []
        collected = failures if on_error == "collect" else None

        def answers() -> Generator[tuple[Detections, np.ndarray | None]]:
            for batch, inputs in self._propose(
                pictures, batch_size, progress, collected, tiling, keep_pixels
            ):
                asked = [vocabularies(one.place) for one in inputs]
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
        tile: int | None = None,
        overlap: float = 0.2,
        recursive: bool = True,
    ) -> Answers[ImageRegions]:
        """Find the regions of pictures, without any words: the part of detection that takes long.

        Args:
            images: See `stream`.
            batch_size: See `stream`.
            progress: See `stream`.
            on_error: See `stream`.
            tile: See `stream`. Regions of a picture in tiles are kept, saved and asked as others.
            overlap: See `stream`.
            recursive: See `stream`.

        Returns:
            One for each picture, in order, with `failures`; `ImageRegions.classify` answers in
            milliseconds what `stream` would.

        Raises:
            ValueError: A picture cannot be read, or a setting is out of range.
        """
        check_batch_size(batch_size)
        check_on_error(on_error)
        failures: Failures = []
        collected = failures if on_error == "collect" else None
        tiling = check_tiling(tile, overlap)
        pictures = each_picture(images, recursive)
        batches = self._propose(pictures, batch_size, progress, collected, tiling)
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
        self, texts: Any, texts_per_image: Sequence[Any] | None, pictures: Iterable[Picture]
    ) -> Callable[[int], TextEmbeddings]:
        """What is looked for in the picture of a place."""
        if texts_per_image is not None:
            if texts is not None:
                raise ValueError("give texts or texts_per_image, not both")
            count = len(cast("list[Picture]", pictures))
            if isinstance(texts_per_image, np.ndarray):
                texts_per_image = texts_per_image.tolist()
            is_list = isinstance(texts_per_image, Sequence | ValuesView)
            is_list = is_list and not isinstance(texts_per_image, str)
            if not is_list or len(texts_per_image) != count:
                raise ValueError(
                    f"texts_per_image must hold one entry for each of the {count} pictures"
                )
            return [self.encode(entry) for entry in texts_per_image].__getitem__
        same = self.encode(texts)
        return lambda _: same

    def _propose(
        self,
        pictures: Iterable[Picture],
        batch_size: int,
        progress: bool,
        failures: Failures | None,
        tiling: Tiling,
        keep_pixels: bool = False,
    ) -> Iterator[tuple[list[ImageRegions], list[Input]]]:
        """Batch by batch those that can be read; the others are added to `failures`, or raised."""
        count = len(pictures) if isinstance(pictures, list) else None
        places = enumerate(pictures)
        with tqdm(total=count, desc="pictures", disable=not progress or count == 1) as bar:
            while batch := list(itertools.islice(places, min(batch_size, sys.maxsize))):
                inputs = list(load(batch, self.pipeline, failures, tiling, keep_pixels))
                if inputs:
                    yield self._regions(inputs, batch_size, tiling), inputs
                bar.update(len(batch))

    def _regions(self, inputs: list[Input], batch_size: int, tiling: Tiling) -> list[ImageRegions]:
        found = self._network([one.data for one in inputs])
        for number, one in enumerate(inputs):
            if one.windows:
                views = self._tiles(one, batch_size)
                found[number] = join(found[number], views, one.windows, one.size, tiling)
        return [
            ImageRegions(self, regions, *reversed(one.size), one.path)
            for regions, one in zip(found, inputs, strict=True)
        ]

    def _tiles(self, one: Input, batch_size: int) -> Iterator[Regions]:
        """Regions of each tile of a picture, of which a batch is prepared at a time."""
        tiles = (prepared(cut_out(one.pixels, own), None, self.pipeline) for own in one.windows)
        while batch := list(itertools.islice(tiles, min(batch_size, sys.maxsize))):
            yield from self._network(batch)

    def _network(self, data: list[dict]) -> list[Regions]:
        batch = self.model.data_preprocessor(pseudo_collate(data), False)
        return self.model.propose(batch["inputs"], batch["data_samples"])

    def _competing(self, texts: TextEmbeddings) -> TextEmbeddings:
        if self.builtin_negatives is not None:
            return self.builtin_negatives.beside(texts, self.negatives)
        return texts if self.negatives is None else texts.with_negatives(self.negatives)
