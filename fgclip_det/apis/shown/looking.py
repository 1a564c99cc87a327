"""Looks at exemplars: reads pictures, finds the region, and what a network makes of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
import torch
from mmengine.dataset import pseudo_collate
from PIL import Image
from torch import Tensor

from fgclip_det.apis.inputs.prepared import prepared
from fgclip_det.encoders import RegionEncoder
from fgclip_det.hub import cache_folder
from fgclip_det.io import quoted, read_image
from fgclip_det.models.detectors.open_vocabulary import OpenVocabulary
from fgclip_det.models.regions.regions import Regions, read_regions
from fgclip_det.vocabulary import TextEmbeddings, Vocabulary
from fgclip_det.vocabulary.competition import Competition
from fgclip_det.vocabulary.kept_texts import KeptTexts
from fgclip_det.vocabulary.shown.exemplars import LEAST_SIDE, Exemplar
from fgclip_det.vocabulary.shown.stand_ins import ExemplarSettings, Seen, StandIns

# Exemplars that are kept as what was seen in them, some kB each; the oldest go first.
_MOST_KEPT = 4096
# Pixels of the longer side of a crop that is set into ground; networks see no more of it.
_LONGEST_CROP = 512
# A box may leave the picture by rounding.
_ROUNDING = 0.5

# Regions of one picture, (H, W, 3) uint8 RGB, at boxes (K, 4) float32 in pixels of it.
RegionsAt = Callable[[np.ndarray, Tensor], Regions]


class Looking:
    """Encodes vocabularies of which something is shown.

    Args:
        fingerprint: Of the encoder.
        regions_at: Looks into a picture.
        encode: Makes embeddings of what is said.
        words: Gives the (N, D) embeddings of many names; None for none.
        settings: How exemplars become embeddings.
        region_mean: (D,) mean of a bank of regions; None for none.

    Attributes:
        regions_at: See above.
        settings: See above.
    """

    def __init__(
        self,
        fingerprint: str,
        regions_at: RegionsAt,
        encode: Callable[[Vocabulary], TextEmbeddings],
        words: Callable[[], Tensor | None],
        settings: ExemplarSettings | None = None,
        region_mean: Tensor | None = None,
    ) -> None:
        self.settings = settings or ExemplarSettings()
        self._fingerprint = fingerprint
        self.regions_at, self._said, self._words = regions_at, encode, words
        self._region_mean = region_mean
        self._seen: dict[tuple, Seen] = {}

    @classmethod
    def of_detector(
        cls,
        model: OpenVocabulary,
        pipeline: Callable[[dict], dict],
        competition: Competition | None,
    ) -> Looking:
        """With the settings of ``test_cfg.exemplars``, a dict of `ExemplarSettings`.

        Args:
            model: Looks.
            pipeline: See `prepared`.
            competition: Whose bank gives the words, and the regions; None for the package's names.

        Raises:
            ValueError: The settings are no such dict.
        """

        def regions_at(pixels: np.ndarray, boxes: Tensor) -> Regions:
            data = model.data_preprocessor(
                pseudo_collate([prepared(pixels, None, pipeline)]), False
            )
            meta = data["data_samples"][0].metainfo
            scale = boxes.new_tensor([*meta.get("scale_factor", (1.0, 1.0))[:2]] * 2)
            at = (boxes * scale).to(model.encoder.device)
            found = model.regions_at(data["inputs"], meta, at)
            found.encoder_fingerprint = model.encoder.fingerprint
            return found

        bank = None if competition is None else competition.region_bank
        return cls(
            model.encoder.fingerprint,
            regions_at,
            _saying(model),
            lambda: _words(competition or _packaged(model.encoder)),
            ExemplarSettings.of((model.test_cfg or {}).get("exemplars") or {}),
            None if bank is None else bank.embeddings.float().mean(dim=0),
        )

    @classmethod
    def of_encoder(
        cls,
        reader: RegionEncoder,
        encode: Callable[[Vocabulary], TextEmbeddings],
        words: Any = None,
    ) -> Looking:
        """With an encoder alone, which has no head of a detector.

        Args:
            reader: Looks.
            encode: Makes embeddings of what is said.
            words: Names in any form of `Vocabulary.parse`; None for the package's.
        """
        encoder = reader.encoder

        def regions_at(pixels: np.ndarray, boxes: Tensor) -> Regions:
            picture = torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)
            (found,) = reader([picture], [boxes.to(encoder.device)])
            return Regions(
                boxes=boxes,
                objectness=boxes.new_ones(len(boxes)),
                region_embeddings=found,
                encoder_fingerprint=encoder.fingerprint,
            )

        def bank() -> Tensor | None:
            known = _packaged(encoder) if words is None else Competition(encoder, [words])
            return _words(known)

        return cls(encoder.fingerprint, regions_at, encode, bank)

    def with_settings(
        self, settings: ExemplarSettings, region_mean: Tensor | None = None
    ) -> Looking:
        """The same with other settings; arguments as of the class."""
        given = self._fingerprint, self.regions_at, self._said, self._words
        return Looking(*given, settings, region_mean)

    def encode(self, vocabulary: Vocabulary) -> TextEmbeddings:
        """Embeddings of a vocabulary, whatever of it is shown.

        Raises:
            ValueError: An exemplar cannot be used, or is another encoder's.
        """
        if vocabulary.shown is None:
            return self._said(vocabulary)
        return self._stand_ins.encode(vocabulary, self._said, self.look)

    @cached_property
    def _stand_ins(self) -> StandIns:
        return StandIns(self.settings, self._words(), self._region_mean)

    @torch.no_grad()
    def look(self, exemplars: Sequence[Exemplar]) -> list[Seen]:
        """What is seen in exemplars; those that were seen before are not looked at again.

        Raises:
            ValueError: A picture cannot be read, a box lies outside of it or is too small, a row
                is not there, or regions are another encoder's.
        """
        # By what is shown, not by objects that may hold the pixels of a picture.
        seen = {one.key: self._seen[one.key] for one in exemplars if one.key in self._seen}
        pictures: dict[str, list[Exemplar]] = {}
        for one in exemplars:
            if one.key not in seen:
                pictures.setdefault(one.source, []).append(one)
        for own in pictures.values():
            found = self._look_at_one(own)
            seen.update(zip((one.key for one in own), found, strict=True))
        self._seen.update(seen)
        for key in [*islice(self._seen, max(len(self._seen) - _MOST_KEPT, 0))]:
            del self._seen[key]
        return [seen[one.key] for one in exemplars]

    def _look_at_one(self, exemplars: Sequence[Exemplar]) -> list[Seen]:
        """Exemplars of one picture, or of one file of regions."""
        first = exemplars[0]
        if first.regions is not None:
            return [_row(one, self._fingerprint) for one in exemplars]
        if first.picture is None:
            raise ValueError(
                "an exemplar was shown as pixels or regions in memory, which no file keeps: show "
                "it again, or ask with the embeddings that were saved"
            )
        is_file = isinstance(first.picture, str | os.PathLike)
        pixels = read_image(first.picture) if is_file else first.picture
        boxes = [_checked(one, pixels) for one in exemplars]
        within = [box for box in boxes if box is not None]
        found: list[Seen] = []
        if within:
            found = _seen_in(self.regions_at(pixels, torch.tensor(within)))
        inside = iter(found)
        return [self._crop(pixels) if box is None else next(inside) for box in boxes]

    def _crop(self, pixels: np.ndarray) -> Seen:
        return _seen_in(self.regions_at(*with_ground(pixels, self.settings.surround)))[0]


def with_ground(crop: np.ndarray, times: float) -> tuple[np.ndarray, Tensor]:
    """A crop in the middle of ground of the colour of its edge, as things are in pictures.

    Networks that saw things in their surroundings see a thing that fills the picture as another.

    Args:
        crop: (h, w, 3) uint8.
        times: How many times its longer side the sides of the whole are.

    Returns:
        (s, s, 3) uint8, and where the crop is: (1, 4) float32, xyxy in pixels.
    """
    image = Image.fromarray(crop)
    image.thumbnail((_LONGEST_CROP, _LONGEST_CROP))
    crop = np.asarray(image)
    height, width = crop.shape[:2]
    side = round(max(height, width) * times)
    edge = np.concatenate([crop[0], crop[-1], crop[:, 0], crop[:, -1]])
    whole = np.empty((side, side, 3), np.uint8)
    whole[:] = np.median(edge, axis=0)
    top, left = (side - height) // 2, (side - width) // 2
    whole[top : top + height, left : left + width] = crop
    return whole, torch.tensor([[left, top, left + width, top + height]], dtype=torch.float32)


def _checked(one: Exemplar, pixels: np.ndarray) -> tuple[float, ...] | None:
    """The box of an exemplar, within the picture; None for all of it."""
    height, width = pixels.shape[:2]
    if min(height, width) < LEAST_SIDE:
        raise ValueError(
            f"exemplar {quoted(one.name)} is {width} x {height} pixels: show "
            f"{LEAST_SIDE} x {LEAST_SIDE} pixels or more"
        )
    if one.box is None:
        return None
    x1, y1, x2, y2 = one.box
    if min(x1, y1) < -_ROUNDING or x2 > width + _ROUNDING or y2 > height + _ROUNDING:
        raise ValueError(
            f"exemplar {quoted(one.name)} lies outside of its picture, which is {width} x {height} "
            "pixels: give x1, y1, x2, y2 within it"
        )
    box = (max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height)))
    return None if box == (0, 0, width, height) else box


def _row(one: Exemplar, fingerprint: str) -> Seen:
    is_file = isinstance(one.regions, str | os.PathLike)
    regions = read_regions(one.regions)[0] if is_file else one.regions
    if not isinstance(regions, Regions):
        raise ValueError(
            f"an exemplar is a row of a {type(regions).__name__}: give Regions, or their file"
        )
    regions.check_encoder(fingerprint)
    if one.row >= len(regions):
        raise ValueError(
            f"exemplar {quoted(one.name)} is row {one.row} of {len(regions)} regions: count from 0"
        )
    return _seen_in(regions[one.row : one.row + 1])[0]


def _seen_in(regions: Regions) -> list[Seen]:
    sources = {"encoder": regions.region_embeddings, "detector": regions.detector_embeddings}
    given = {
        name: rows.detach().float().cpu() for name, rows in sources.items() if rows is not None
    }
    return [{name: rows[row] for name, rows in given.items()} for row in range(len(regions))]


def _saying(model: OpenVocabulary) -> Callable[[Vocabulary], TextEmbeddings]:
    """Encodes as the model does; where no folder keeps whole vocabularies, single names are kept.

    So who types the last of many names has that one encoded.
    """
    kept = KeptTexts(model.encoder)

    def say(vocabulary: Vocabulary) -> TextEmbeddings:
        if model.text_cache_dir is not None:
            return model.encode_vocabulary(vocabulary)
        with torch.autocast(model.encoder.device.type, enabled=False):
            return kept.embeddings(vocabulary, model.encoder.region_text_length)

    return say


def _words(competition: Competition) -> Tensor | None:
    words = competition.bank_embeddings().detach().cpu()
    return words if len(words) else None


def _packaged(encoder: Any) -> Competition:
    return Competition(encoder, cache_dir=cache_folder() / "fgclip_det" / "texts")
