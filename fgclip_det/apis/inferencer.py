"""Free text and pictures in, boxes with names out."""

from __future__ import annotations

import functools
import itertools
import os
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence, ValuesView
from typing import Any, cast

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from tqdm import tqdm

from fgclip_det.apis.answers import Answers, Stream
from fgclip_det.apis.argument_checks import check_batch_size, check_list, check_on_error
from fgclip_det.apis.detections import Detections
from fgclip_det.apis.detector_loading import BUNDLED as BUNDLED
from fgclip_det.apis.detector_loading import load_detector, resolve_device
from fgclip_det.apis.image_regions import ImageRegions, read_image_regions
from fgclip_det.apis.inputs.picture_lists import Picture, each_picture
from fgclip_det.apis.inputs.prepared import Failures, Input, load, prepared
from fgclip_det.apis.inputs.tiles import Tiling, check_tiling, cut_out, join
from fgclip_det.apis.scores.answering import answer
from fgclip_det.apis.scores.competing import Negatives, competition_of
from fgclip_det.apis.scores.limits import Limits, check_saved_thresholds
from fgclip_det.apis.shown.looking import Looking
from fgclip_det.calibration.calibration import Calibration
from fgclip_det.models.detectors.open_vocabulary import read_texts
from fgclip_det.models.regions.regions import Regions
from fgclip_det.vocabulary import TextEmbeddings

_KEPT_VOCABULARIES = 8
AUTO = "auto"


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
        calibration: What the detector's evidence means, or its file; "auto" for what the config's
            ``test_cfg.calibration`` names, None for none. With it detections have confidences.

    Attributes:
        negatives: Names of one's own that compete; None for none.
        looking: Sees what is shown instead of said.

    Raises:
        ValueError: A file is missing or does not fit, or there is no such device.
    """

    def __init__(
        self,
        model: str | os.PathLike | Config | None = None,
        weights: str | os.PathLike | None = None,
        encoder: str | os.PathLike | None = None,
        device: str | torch.device | None = None,
        calibration: Calibration | str | os.PathLike | None = AUTO,
    ) -> None:
        self.device = resolve_device(device)
        detector, self.pipeline = load_detector(model, weights, encoder)
        self.model = detector.to(self.device).eval()
        self.texts: TextEmbeddings | None = None
        self.negatives: TextEmbeddings | None = None
        self._encoded: dict[tuple[str, str], TextEmbeddings] = {}
        self.competition = competition_of(self.model)  # confidences need it, whatever is hidden
        self._competing = Negatives(self.competition)
        self.looking = Looking.of_detector(self.model, self.pipeline, self.competition)
        self.set_calibration(calibration)

    @functools.cached_property
    def weights_hash(self) -> str:
        """16 hex digits of the weights and settings that make regions, beside the encoder's."""
        return self.model.regions_hash

    def set_vocabulary(self, texts: Any) -> None:
        """Set the vocabulary of calls without `texts`, in any form that `__call__` takes."""
        self.texts = self.encode(texts)

    @property
    def calibration(self) -> Calibration | None:
        """What the detector's evidence means; None where that is not known."""
        return self.model.calibration

    def set_calibration(self, calibration: Calibration | str | os.PathLike | None = AUTO) -> None:
        """Give detections confidences, or none; see the constructor.

        Raises:
            ValueError: It is none, cannot be read, or is of another detector, encoder or rivals.
        """
        if isinstance(calibration, str) and calibration == AUTO:
            calibration = (self.model.test_cfg or {}).get("calibration")
        if isinstance(calibration, str | os.PathLike):
            calibration = Calibration.load(calibration)
        if not isinstance(calibration, Calibration | None):
            raise ValueError(
                f"a calibration cannot be a {type(calibration).__name__} ({calibration!r:.80}): "
                'give a Calibration, its file, "auto" or None'
            )
        self.model.set_calibration(calibration, self.competition)

    def set_negatives(self, texts: Any = AUTO) -> None:
        """Set what competes for boxes, and is not reported.

        A box that something else fits better is not reported as what was asked for: a red mug is no
        "blue mug", even where nothing but that is asked for.

        Args:
            texts: "auto" for the names and the exchanged attributes of ``test_cfg.negatives``, or
                of the package; any form that `__call__` takes for names beside those; None for
                nothing: then scores are shares of what is asked for alone.
        """
        is_auto = isinstance(texts, str) and texts == AUTO
        self.negatives = None if texts is None or is_auto else self.encode(texts)
        self._competing = Negatives(None if texts is None else self.competition, self.negatives)

    @property
    def competing(self) -> dict[str, Any]:
        """All that decides who competes, and what confidences are, as JSON knows it."""
        calibration = self.calibration
        return {**self._competing.settings, "calibration": calibration and calibration.hash}

    def limits(self, score_thr: float | None = None, conf_thr: float | None = None) -> Limits:
        """The least score and confidence of what is reported; see `stream`.

        Raises:
            ValueError: See `stream`.
        """
        return Limits.of(self.calibration, score_thr, conf_thr)

    def __call__(
        self,
        images: Picture | Iterable[Picture],
        texts: Any = None,
        *,
        texts_per_image: Sequence[Any] | None = None,
        score_thr: float | None = None,
        conf_thr: float | None = None,
        one_name: bool = False,
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
            conf_thr=conf_thr,
            one_name=one_name,
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
        score_thr: float | None = None,
        conf_thr: float | None = None,
        one_name: bool = False,
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
            score_thr: Least score of a detection that is kept, in [0, 1]; None for 0.3, or for 0
                where there are confidences.
            conf_thr: Least confidence, in [0, 1]; None for what the calibration says, of each name.
            one_name: Whether of overlapping boxes of any names the best is kept.
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
            ValueError: A picture cannot be read, texts name nothing, or a setting is out of range,
                such as `conf_thr` of a detector that is not calibrated.
        """
        self.limits(score_thr, conf_thr)
        check_batch_size(batch_size)
        check_on_error(on_error)
        tiling = check_tiling(tile, overlap)
        pictures = each_picture(images, recursive, as_list=texts_per_image is not None)
        vocabularies = self._vocabularies(texts, texts_per_image, pictures)
        failures: Failures = []
        collected = failures if on_error == "collect" else None
        batches = self._propose(pictures, batch_size, progress, collected, tiling, keep_pixels)
        answers = self._answers(batches, vocabularies, (score_thr, conf_thr, one_name))
        return Stream(answers, failures)

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
        score_thr: float | None = None,
        conf_thr: float | None = None,
        one_name: bool = False,
    ) -> list[Detections]:
        """Detections in regions, for embeddings of one vocabulary for each picture.

        Args:
            images: The regions.
            texts: One for each.
            score_thr: See `stream`.
            conf_thr: See `stream`.
            one_name: See `stream`.

        Raises:
            ValueError: They are of other kinds or not as many, or a setting is out of range.
        """
        limits = self.limits(score_thr, conf_thr)
        check_list(images, ImageRegions, "images")
        check_list(texts, TextEmbeddings, "texts")
        if len(images) != len(texts):
            raise ValueError(f"{len(texts)} texts for {len(images)} images: give one for each")
        asked = [self._competing.beside(own) for own in texts]
        return answer(self.model, images, asked, limits, one_name)

    def load_regions(self, path: str | os.PathLike) -> ImageRegions:
        """Read what `ImageRegions.save` wrote.

        Raises:
            ValueError: The file is missing, broken or of another kind, or another encoder or
                detector made it.
        """
        return read_image_regions(path, self)

    def encode(self, texts: Any = None) -> TextEmbeddings:
        """Embeddings of `texts`, in any form that `__call__` takes; a few are kept.

        Raises:
            ValueError: They cannot be read or seen, or bring thresholds of another calibration.
        """
        if texts is None:
            return self.texts or self.model.text_embeddings
        given = read_texts(texts)
        if isinstance(given, TextEmbeddings):
            found = self.model.encode_vocabulary(given)
        else:
            key = given.hash, repr(given.thresholds)  # which are no part of the hash
            if key not in self._encoded:
                while len(self._encoded) >= _KEPT_VOCABULARIES:
                    self._encoded.pop(next(iter(self._encoded)))
                self._encoded[key] = self.looking.encode(given)
            found = self._encoded[key]
        check_saved_thresholds(self.calibration, found.vocabulary)
        return found

    def _answers(
        self,
        batches: Iterable[tuple[list[ImageRegions], list[Input]]],
        vocabularies: Callable[[int], TextEmbeddings],
        settings: tuple[float | None, float | None, bool],
    ) -> Generator[tuple[Detections, np.ndarray | None]]:
        """Answers with their pixels, if they are kept; `settings` are those of `classify`."""
        for batch, inputs in batches:
            asked = [vocabularies(one.place) for one in inputs]
            found = self.classify(batch, asked, *settings)
            yield from zip(found, (one.pixels for one in inputs), strict=True)

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
