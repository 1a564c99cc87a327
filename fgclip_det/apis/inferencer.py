"""Free text and pictures in, boxes with names out."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmcv.transforms import Compose
from mmengine.config import Config, ConfigDict
from mmengine.dataset import pseudo_collate
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from PIL import Image
from tqdm import tqdm

from fgclip_det.apis.detections import Detections
from fgclip_det.apis.images import find_images, read_image, to_rgb
from fgclip_det.compat import load_checkpoint_file
from fgclip_det.models import OpenVocabTwoStageDetector
from fgclip_det.vocabulary import TextEmbeddings, Vocabulary

BUNDLED = Path(__file__).parents[1] / "assets" / "shapes"
Picture = str | os.PathLike | np.ndarray | Image.Image

# A picture longer than this many times its other side would shrink to nothing: it is padded.
_MAX_ASPECT = 16
_KEPT_VOCABULARIES = 8


class OpenVocabInferencer:
    """A detector that is asked in words.

    Args:
        model: Config file of a detector; None for the bundled one, which knows coloured shapes.
        weights: Its checkpoint (``.pth`` or ``.safetensors``); with `model` only, and then needed.
        encoder: Directory or hub id of the FG-CLIP to use in place of the config's.
        device: Such as "cpu" or "cuda:0"; None takes CUDA where there is one.

    Raises:
        ValueError: A file is missing or does not fit, or there is no such device.
    """

    def __init__(
        self,
        model: str | os.PathLike | None = None,
        weights: str | os.PathLike | None = None,
        encoder: str | os.PathLike | None = None,
        device: str | torch.device | None = None,
    ) -> None:
        self.device = resolve_device(device)
        cfg, weights = _read_model(model, weights, encoder)
        init_default_scope("mmdet")
        detector = _build(cfg.model)
        _load_weights(detector, weights)
        self.model: OpenVocabTwoStageDetector = detector.to(self.device).eval()
        self.pipeline = _test_pipeline(cfg)
        self.texts: TextEmbeddings | None = None
        self.negatives: TextEmbeddings | None = None
        self.failures: list[tuple[str, str]] = []
        self._encoded: dict[str, TextEmbeddings] = {}

    def set_vocabulary(self, texts: Any) -> None:
        """What to look for in calls without `texts`, in any form that `__call__` takes."""
        self.texts = self._encode(texts)

    def set_negatives(self, texts: Any) -> None:
        """What else may be in the pictures: these names compete for boxes, but are not reported.

        Scores are shares among the names that compete, so that a red mug, where only a blue one is
        asked for, may be taken for it; with "a red mug" among the negatives it is not.

        Args:
            texts: Any form that `__call__` takes; None for no negatives.
        """
        self.negatives = None if texts is None else self._encode(texts)

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
        if not 0 <= score_thr <= 1:
            raise ValueError(f"score_thr is {score_thr}: it must be between 0 and 1")
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}: it must be 1 or more")
        if on_error not in ("raise", "collect"):
            raise ValueError(f'on_error is {on_error!r}: it must be "raise" or "collect"')
        pictures = _list_pictures(images)
        vocabularies = self._vocabularies(texts, texts_per_image, len(pictures))
        self.failures = []
        shown = progress and len(pictures) > 1
        with tqdm(total=len(pictures), desc="pictures", disable=not shown) as bar:
            for start in range(0, len(pictures), batch_size):
                end = min(start + batch_size, len(pictures))
                inputs = list(self._load(pictures[start:end], vocabularies[start:end], on_error))
                yield from self._detect(inputs, score_thr)
                bar.update(end - start)

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
            return [self._encode(entry) for entry in texts_per_image]
        if texts is not None:
            return [self._encode(texts)] * count
        return [self.texts or self.model.text_embeddings] * count

    def _encode(self, texts: Any) -> TextEmbeddings:
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

    def _load(
        self, pictures: Sequence[Picture], texts: Sequence[TextEmbeddings], on_error: str
    ) -> Iterator[tuple[dict, TextEmbeddings, tuple[int, int], str | None]]:
        """Network input, texts, (height, width) and path of each picture that can be read."""
        for picture, of_picture in zip(pictures, texts, strict=True):
            path = str(picture) if isinstance(picture, str | os.PathLike) else None
            try:
                rgb = _pixels(picture)
            except ValueError as error:
                if on_error == "raise":
                    raise
                self.failures.append((path or "<pixels>", str(error)))
                continue
            yield self._prepare(rgb, path), of_picture, rgb.shape[:2], path

    def _prepare(self, rgb: np.ndarray, path: str | None) -> dict:
        bgr = np.ascontiguousarray(_limit_aspect(rgb)[..., ::-1])
        shape = bgr.shape[:2]
        return self.pipeline(
            {"img": bgr, "img_shape": shape, "ori_shape": shape, "img_id": 0, "img_path": path}
        )

    def _competing(self, texts: TextEmbeddings) -> TextEmbeddings:
        return texts if self.negatives is None else texts.with_negatives(self.negatives)

    @torch.no_grad()
    def _detect(self, inputs: list[tuple], score_thr: float) -> list[Detections]:
        if not inputs:
            return []
        batch = self.model.data_preprocessor(pseudo_collate([data for data, *_ in inputs]), False)
        regions = self.model.propose(batch["inputs"], batch["data_samples"])
        found = self.model.classify(regions, [self._competing(texts) for _, texts, *_ in inputs])
        return [
            _as_detections(instances, score_thr, *rest)
            for instances, (_, *rest) in zip(found, inputs, strict=True)
        ]


def resolve_device(device: str | torch.device | None) -> torch.device:
    """The device meant, CUDA where none is named and there is one.

    Raises:
        ValueError: No such device, or CUDA is asked for and there is none.
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except RuntimeError:
        resolved = None
    if resolved is None or resolved.type not in ("cpu", "cuda"):
        raise ValueError(f'device {str(device)!r} is unknown: use "cpu", "cuda" or "cuda:0"')
    if resolved.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device {str(device)!r} is asked for, but torch finds no CUDA: use cpu")
    if resolved.type == "cuda" and (resolved.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"device {str(device)!r} is asked for, but torch finds "
            f"{torch.cuda.device_count()} CUDA device(s), counted from cuda:0"
        )
    return resolved


def _read_model(
    model: str | os.PathLike | None,
    weights: str | os.PathLike | None,
    encoder: str | os.PathLike | None,
) -> tuple[Config, str | os.PathLike]:
    if model is None:
        if weights is not None or encoder is not None:
            raise ValueError("weights and encoder belong to a model: give its config file too")
        if not (BUNDLED / "detector.pth").is_file():
            raise ValueError(f"the bundled model is missing from {BUNDLED}: install again")
        cfg = Config.fromfile(BUNDLED / "config.py")
        cfg.model.vocabulary = str(BUNDLED / "vocabulary.json")
        encoder, weights = BUNDLED / "encoder", BUNDLED / "detector.pth"
    else:
        if not Path(model).is_file():
            raise ValueError(f"no config file at {str(model)!r}: check the path")
        if weights is None:
            raise ValueError(f"config {str(model)!r} needs its checkpoint: give weights too")
        try:
            cfg = Config.fromfile(model)
        except Exception as error:  # a config is a program, and may fail as any program does
            raise ValueError(f"config {str(model)!r} cannot be read: {error}") from error
    settings = cfg.get("model")
    kind = settings.get("type") if isinstance(settings, dict) else settings
    if kind not in ("OpenVocabTwoStageDetector", OpenVocabTwoStageDetector):
        raise ValueError(
            f"config {str(model)!r} describes a model of type {kind}: give the config of an "
            "OpenVocabTwoStageDetector"
        )
    if encoder is not None:
        cfg.model.backbone.encoder = str(encoder)
    return cfg, weights


def _build(cfg: ConfigDict) -> OpenVocabTwoStageDetector:
    values = {key: value for key, value in cfg.items() if key not in ("type", "train_cfg")}
    try:
        return revert_sync_batchnorm(OpenVocabTwoStageDetector(**values))
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(
            f"the config's model cannot be built ({error}): mend the config"
        ) from error


def _load_weights(detector: OpenVocabTwoStageDetector, path: str | os.PathLike) -> None:
    checkpoint = load_checkpoint_file(path)
    try:
        detector.load_state_dict(checkpoint.get("state_dict", checkpoint), strict=True)
    except (ValueError, RuntimeError, TypeError, AttributeError) as error:
        raise ValueError(
            f"checkpoint {str(path)!r} does not go with this config, give the one trained with it: "
            f"{error}"
        ) from None


def _test_pipeline(cfg: Config) -> Compose:
    """The config's test pipeline behind the loading of pictures and boxes."""
    try:
        steps = cfg.test_dataloader.dataset.pipeline
    except AttributeError:
        raise ValueError("the config lacks test_dataloader.dataset.pipeline: add it") from None
    kept = [step for step in steps if not str(step["type"]).startswith("Load")]
    if len(kept) == len(steps):
        raise ValueError("the config's test pipeline does not begin with LoadImageFromFile")
    return Compose(kept)


def _list_pictures(images: Picture | Iterable[Picture]) -> list[Picture]:
    if isinstance(images, np.ndarray | Image.Image):
        return [images]
    if isinstance(images, str | os.PathLike):
        return list(find_images(images))
    pictures: list[Picture] = []
    for image in images:
        is_path = isinstance(image, str | os.PathLike)
        pictures += find_images(image) if is_path else [image]
    if not pictures:
        raise ValueError("no pictures were given: name files or folders, or pass arrays")
    return pictures


def _pixels(picture: Picture) -> np.ndarray:
    if isinstance(picture, str | os.PathLike):
        return read_image(picture)
    if isinstance(picture, Image.Image):
        return to_rgb(picture)
    good = isinstance(picture, np.ndarray) and picture.ndim == 3 and picture.shape[2] == 3
    if not good or picture.dtype != np.uint8 or 0 in picture.shape:
        shape, dtype = getattr(picture, "shape", None), getattr(picture, "dtype", None)
        raise ValueError(
            f"a picture must be an (H, W, 3) uint8 RGB array, a file or a Pillow image, not "
            f"{type(picture).__name__} of shape {shape} and dtype {dtype}"
        )
    return picture


def _limit_aspect(rgb: np.ndarray) -> np.ndarray:
    """Pad a very long or very tall picture at its bottom or right; boxes stay where they are."""
    height, width = rgb.shape[:2]
    rows = max(height, -(-width // _MAX_ASPECT))
    columns = max(width, -(-height // _MAX_ASPECT))
    if (rows, columns) == (height, width):
        return rgb
    return np.pad(rgb, ((0, rows - height), (0, columns - width), (0, 0)), mode="edge")


def _as_detections(
    instances: InstanceData,
    score_thr: float,
    texts: TextEmbeddings,
    size: tuple[int, int],
    path: str | None,
) -> Detections:
    height, width = size
    boxes = instances.bboxes.float().cpu()
    boxes[:, 0::2] = boxes[:, 0::2].clamp(0, width)
    boxes[:, 1::2] = boxes[:, 1::2].clamp(0, height)
    scores = instances.scores.float().cpu()
    inside = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    kept = (scores >= score_thr) & inside
    labels = instances.labels.cpu()
    # Names beyond those asked for are negatives, which competed and are not reported.
    kept &= labels < len(texts)
    labels = labels[kept]
    return Detections(
        names=[texts.names[label] for label in labels.tolist()],
        boxes=boxes[kept],
        scores=scores[kept],
        labels=labels,
        vocabulary=list(texts.names),
        width=width,
        height=height,
        image_path=path,
    )
