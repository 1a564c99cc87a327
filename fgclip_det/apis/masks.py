"""Masks of boxes that were found, by SAM 2."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import Sam2Config, Sam2Model, Sam2Processor

from fgclip_det.apis.detections import Detections
from fgclip_det.apis.detector_loading import resolve_device
from fgclip_det.encoders.pretrained import (
    CONFIG_NAME,
    check_fit,
    load_strictly,
    read_config,
    read_weights,
)
from fgclip_det.hub import resolve_directory
from fgclip_det.io import one_line, quoted
from fgclip_det.models.hub_families.loading import quiet

DEFAULT_MODEL = "facebook/sam2.1-hiera-tiny"
_PROCESSOR_NAME = "preprocessor_config.json"
# The repositories hold the networks of videos, of which that of pictures is a part.
_MODEL_TYPES = ("sam2", "sam2_video")
_OF_VIDEOS = (
    "memory_",
    "mask_downsample.",
    "object_pointer_proj.",
    "temporal_positional_encoding_projection_layer.",
    "no_memory_positional_encoding",
    "no_object_pointer",
    "occlusion_spatial_embedding_parameter",
)
# One matrix under two names. Transformers below 5 stored the first alone, and 5 draws the second
# at random where it is missing.
_STORED_ONCE = "shared_image_embedding.positional_embedding"
_SECOND_NAME = "prompt_encoder.shared_embedding.positional_embedding"
# Boxes that the decoder takes at once, and pixels of masks in float32 at one time.
_CHUNK = 32
_CHUNK_PIXELS = 2**24


class MaskPredictor:
    """Masks of objects from their boxes, by SAM 2 in the layout of the hub.

    Weights are read strictly, from safetensors alone, and no code of a repository is ever run. A
    picture goes through the image encoder once, whatever the number of its boxes.

    Args:
        name: Directory, or hub id.
        revision: Of a hub id: commit, branch or tag; None for the recorded commit, else the main
            branch.
        device: "cpu", "cuda" or "cuda:0"; None for CUDA where there is one.

    Raises:
        ValueError: The checkpoint cannot be found or read, or the device is unknown; the message
            says what to do.
    """

    def __init__(
        self,
        name: str | os.PathLike = DEFAULT_MODEL,
        revision: str | None = None,
        device: str | torch.device | None = None,
    ) -> None:
        if not isinstance(name, str | os.PathLike) or not os.fspath(name):
            raise ValueError(
                f"name is {name!r:.80}: give the directory or hub id of a mask model, such as "
                f"{DEFAULT_MODEL!r}"
            )
        self.device = resolve_device(device)
        self.name, self.revision = os.fspath(name), revision
        self.directory = resolve_directory(name, revision, kind="mask model")
        self._network = _read_network(self.directory).to(self.device)
        self._processor = _read_processor(self.directory, self._network.config)

    @torch.no_grad()
    def __call__(
        self, picture: np.ndarray | Image.Image, boxes: Tensor | np.ndarray | Sequence
    ) -> Tensor:
        """Masks of the objects in boxes.

        Args:
            picture: (H, W, 3) uint8, RGB, as array or as picture of Pillow.
            boxes: (M, 4) xyxy, in pixels of `picture`; what lies outside of it is cut off.

        Returns:
            (M, H, W) bool on the CPU, one mask a box, in their order. A mask may reach a little
            over its box, and may be empty.

        Raises:
            ValueError: The picture or the boxes are of another shape or type, or boxes are not
                finite.
        """
        pixels = _checked_picture(picture)
        height, width = pixels.shape[:2]
        corners = _checked_boxes(boxes, height, width)
        masks = torch.zeros((len(corners), height, width), dtype=torch.bool)
        if not len(corners):
            return masks
        inputs = self._processor(
            images=pixels,
            input_boxes=[corners.tolist()],
            return_tensors="pt",
            # Of a picture three pixels high, its channels could be guessed to be anywhere.
            input_data_format="channels_last",
        )
        prompts = inputs["input_boxes"].to(self.device)
        embeddings = self._network.get_image_embeddings(inputs["pixel_values"].to(self.device))
        rows = max(1, _CHUNK_PIXELS // (height * width))
        for start in range(0, len(corners), _CHUNK):
            small = self._network(
                image_embeddings=embeddings,
                input_boxes=prompts[:, start : start + _CHUNK],
                multimask_output=False,
            ).pred_masks[0]
            for row in range(0, len(small), rows):
                part = small[row : row + rows]
                (large,) = self._processor.post_process_masks([part], [(height, width)])
                masks[start + row : start + row + len(part)] = large[:, 0].cpu()
        return masks

    def with_masks(self, detections: Detections, picture: np.ndarray | Image.Image) -> Detections:
        """The same detections with `masks`.

        Args:
            detections: Of the picture.
            picture: (H, W, 3) uint8, RGB, the pixels that its boxes are of: EXIF rotation applied.

        Raises:
            ValueError: The picture is of another size than that of the detections.
        """
        height, width = _checked_picture(picture).shape[:2]
        if (height, width) != (detections.height, detections.width):
            raise ValueError(
                f"the picture is {width} x {height} pixels, its detections are of "
                f"{detections.width} x {detections.height}: give the pixels that were searched, "
                "with EXIF rotation applied"
            )
        return replace(detections, masks=self(picture, detections.boxes))


def _checked_picture(picture: Any) -> np.ndarray:
    # torch takes no arrays that run backwards, and warns of those that are read-only.
    pixels = np.require(picture, requirements=["C", "W"])
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or not pixels.size:
        raise ValueError(
            f"picture is {pixels.dtype} of shape {pixels.shape}: give (height, width, 3) uint8, RGB"
        )
    return pixels


def _checked_boxes(boxes: Any, height: int, width: int) -> Tensor:
    try:
        values = torch.as_tensor(boxes, dtype=torch.float32).detach().cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"boxes cannot be read as numbers ({one_line(error)})") from None
    if values.numel() == 0:
        values = values.reshape(0, 4)
    if values.ndim != 2 or values.shape[1] != 4:
        raise ValueError(f"boxes are of shape {tuple(values.shape)}: give (M, 4), xyxy")
    faulty = (~values.isfinite()).any(dim=1).nonzero().flatten().tolist()
    if faulty:
        raise ValueError(
            f"box {faulty[0]} is {values[faulty[0]].tolist()}: give finite pixels of the picture"
        )
    return values.minimum(values.new_tensor([width, height, width, height])).clamp(min=0)


def _read_network(directory: Path) -> Sam2Model:
    """In float32 and eval mode on the CPU; each weight is the checkpoint's."""
    where = repr(str(directory))
    config = _read_sizes(directory)
    given = read_weights(directory)
    try:
        with torch.device("meta"):
            # Of shapes alone: the config may ask for more than this machine holds.
            outline = Sam2Model(config)
    except Exception as error:
        # What transformers raises for sizes that do not go together differs with the release.
        raise ValueError(
            f"{where} cannot be built as SAM 2 ({one_line(error)}): its {CONFIG_NAME} is broken; "
            "copy it again"
        ) from error
    weights = _of_pictures(given, outline.state_dict())
    check_fit(outline, weights, where)
    with torch.random.fork_rng(devices=[]):
        network = Sam2Model(config)
    load_strictly(network, weights, where)
    return network.eval().requires_grad_(False)


def _of_pictures(given: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    weights = {
        key: value for key, value in given.items() if key in own or not key.startswith(_OF_VIDEOS)
    }
    if _SECOND_NAME in own and _STORED_ONCE in weights:
        weights.setdefault(_SECOND_NAME, weights[_STORED_ONCE])
    return weights


def _read_sizes(directory: Path) -> Sam2Config:
    where = repr(str(directory))
    values = read_config(directory / CONFIG_NAME)
    kind = values.get("model_type")
    if kind not in _MODEL_TYPES:
        raise ValueError(
            f"{where} is a {quoted(kind)}, no SAM 2: give a mask model such as {DEFAULT_MODEL!r}"
        )
    parts = ("vision_config", "prompt_encoder_config", "mask_decoder_config")
    try:
        return Sam2Config(**{part: values[part] for part in parts if values.get(part)})
    except Exception as error:
        raise ValueError(
            f"{where} has a {CONFIG_NAME} that transformers cannot read ({one_line(error)}): copy "
            "it again"
        ) from error


def _read_processor(directory: Path, config: Sam2Config) -> Sam2Processor:
    """It resizes pictures to a square, and boxes likewise."""
    where = repr(str(directory))
    read_config(directory / _PROCESSOR_NAME)
    try:
        # The file names the processor of videos, of which this one is a part, as a log would say.
        with quiet():
            processor = Sam2Processor.from_pretrained(directory, local_files_only=True)
    except Exception as error:
        raise ValueError(
            f"{where} has a {_PROCESSOR_NAME} that transformers cannot read ({one_line(error)}): "
            "copy it again"
        ) from error
    # transformers leaves out what a file does not say, or calls it None.
    stated = processor.image_processor.size
    sizes = {name: getattr(stated, "get", lambda _: None)(name) for name in ("height", "width")}
    side = config.prompt_encoder_config.image_size
    sides = [side, side] if isinstance(side, int) else list(side)
    if [*sizes.values()] != sides or [processor.target_size] * 2 != sides:
        raise ValueError(
            f"{where} resizes pictures to {sizes['height']} x {sizes['width']} and boxes to "
            f"{processor.target_size} pixels, its network takes {sides[0]} x {sides[1]}: copy "
            f"{_PROCESSOR_NAME} and {CONFIG_NAME} from one place"
        )
    return processor
