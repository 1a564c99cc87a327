"""The shared part of FG-CLIP and FG-CLIP 2: labels, files, the tokenizer, pooling of boxes."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from fgclip_det.encoders import pretrained
from fgclip_det.encoders.adapters import merged_weights
from fgclip_det.encoders.layers import TransformerBlock
from fgclip_det.encoders.picture_frames import (
    Interpolation,
    Size,
    boxes_in_cells,
    normalize_and_pad,
    resize_picture,
    to_tensor,
)
from fgclip_det.encoders.tokenizer import write_tokenizer
from fgclip_det.io import quoted, replaced_files
from fgclip_det.ops import roi_align

_LEAST_STD = 1e-6
# What a text tower takes where there is no caption.
NO_TOKEN_IDS = torch.zeros(0, 1, dtype=torch.long)


class DualEncoder(nn.Module):
    """An image and a text tower with one space; base of `FGCLIP` and `FGCLIP2`.

    Args:
        tokenizer: That of the checkpoint, if it has one.
        image_mean: Mean of each channel, of pixels in 0 to 1.
        image_std: Deviation of each channel, of pixels in 0 to 1.

    Attributes:
        config: Sizes, with ``vision``, ``projection_dim`` and ``to_dict()``.
        region_text_length: Text length whose features are made to be compared with regions.
        tokenizer_files: What the tokenizer is read from.
    """

    config: Any
    logit_scale: nn.Parameter
    region_text_length: str = "short"
    tokenizer_files: str = "tokenizer.json (or vocab.json and merges.txt)"

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase | None,
        image_mean: Sequence[float],
        image_std: Sequence[float],
    ) -> None:
        super().__init__()
        self._tokenizer = tokenizer
        self.image_mean = tuple(image_mean)
        self.image_std = tuple(image_std)
        self._fingerprint: str | None = None
        self._warned_truncation = False
        self.register_load_state_dict_post_hook(_forget_fingerprint)

    def save_pretrained(
        self,
        directory: str | os.PathLike,
        dtype: torch.dtype = torch.float32,
        weights: dict[str, Tensor] | None = None,
    ) -> None:
        """Write the model, its tokenizer and its image processor in the published layout.

        Args:
            directory: Where to; it is made where it is not there.
            dtype: How the tensors are stored.
            weights: What `published_weights` gave, which only one of several processes writes;
                asked for here if None.

        Raises:
            OSError: Writing failed; the files that were there are as they were.
        """
        if weights is None:
            weights = self.published_weights()
        path = Path(directory)
        path.mkdir(parents=True, exist_ok=True)
        with replaced_files(path) as partial:
            pretrained.write_checkpoint(partial, self.config.to_dict(), weights, dtype)
            self.image_processor.save_pretrained(partial)
            if self._tokenizer is not None:
                write_tokenizer(self._tokenizer, partial)

    def published_weights(self) -> dict[str, Tensor]:
        """The weights as they are published: whole, and with adapters merged into them.

        Sharded ones are gathered from all processes, each of which has to call this.
        """
        return merged_weights(self)

    def recompute_activations(self, recompute: bool = True) -> DualEncoder:
        """Trade time for memory: keep one input for each block, and compute the rest again.

        Values and gradients stay as they are; the backward pass takes a forward pass longer.
        """
        for module in self.modules():
            if isinstance(module, TransformerBlock):
                module.recomputes = recompute
        return self

    def train(self, mode: bool = True) -> DualEncoder:
        """Set the mode; the weights may change from here on, and the fingerprint with them."""
        if mode:
            self._fingerprint = None
        return super().train(mode)

    @property
    def image_processor(self) -> Any:
        """The image processor of the checkpoint, written beside its weights."""
        raise NotImplementedError

    @property
    def patch_size(self) -> int:
        """Pixels per cell of the dense map."""
        return self.config.vision.patch_size

    @property
    def embed_dim(self) -> int:
        """Width of the image tower."""
        return self.config.vision.hidden_size

    @property
    def projection_dim(self) -> int:
        """Width of the shared space."""
        return self.config.projection_dim

    @property
    def num_layers(self) -> int:
        """Blocks of the image tower."""
        return self.config.vision.num_hidden_layers

    @property
    def device(self) -> torch.device:
        """The device of the parameters."""
        return self.logit_scale.device

    @property
    def fingerprint(self) -> str:
        """16 hex digits of the sizes and weights; what text embeddings are checked against."""
        if self._fingerprint is None or self.training:
            self._fingerprint = pretrained.fingerprint(self.config.to_dict(), self.state_dict())
        return self._fingerprint

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer that came with the checkpoint.

        Raises:
            ValueError: None came with it.
        """
        if self._tokenizer is None:
            raise ValueError(
                f"this FG-CLIP checkpoint holds no tokenizer: add {self.tokenizer_files} to its "
                "directory"
            )
        return self._tokenizer

    def pool_regions(self, dense: Tensor, boxes: Sequence[Tensor]) -> Tensor:
        """Average of a dense map over each box, by RoIAlign 1x1 (arXiv 2505.05071, section 3.1).

        Args:
            dense: (N, h, w, D) from `encode_dense`.
            boxes: One (K_i, 4) float tensor for each image, xyxy, in pixels of the images.

        Returns:
            (sum K_i, D).
        """
        in_cells = [boxes_in_cells(own.to(dense.device), self.patch_size) for own in boxes]
        return self.pool_cells(dense, in_cells)

    def pool_cells(self, dense: Tensor, boxes: Sequence[Tensor]) -> Tensor:
        """`pool_regions` of boxes that are in cells already: of boxes (K_i, 4) in cells of `dense`.

        `map_boxes` takes boxes of a picture there in one step.
        """
        grid = (dense.shape[1], dense.shape[2])
        on_device = [own.to(dense.device, torch.float32) for own in boxes]
        return roi_align(dense.flatten(1, 2), on_device, output_size=1, grid=grid).flatten(1)

    def _read_pictures(
        self, images: Sequence[Image.Image], sizes: Sequence[Size], mode: Interpolation
    ) -> list[Tensor]:
        """(3, h, w) normalised pixels of each image at its size, of whole patches.

        Raises:
            ValueError: There is no image.
        """
        if not len(images):
            raise ValueError("images is empty: give at least one")
        resized = [
            resize_picture(to_tensor(image), size, mode)
            for image, size in zip(images, sizes, strict=True)
        ]
        return [
            normalize_and_pad(picture, self.image_mean, self.image_std, self.patch_size)
            for picture in resized
        ]

    def _warn_of_cut(self, texts: Sequence[str], longest: int, hint: str) -> None:
        """Say once that `texts` were longer than `longest` tokens; for `tokenize` alone."""
        if texts and not self._warned_truncation:
            self._warned_truncation = True
            # Four up from here: encode_text's caller, through encode_text and tokenize.
            warnings.warn(
                f"{len(texts)} caption(s) are longer than {longest} tokens and were cut; the "
                f"first begins {texts[0][:60]!r}{hint}",
                stacklevel=4,
            )


def read_pixel_statistics(
    directory: Path, mean: Sequence[float], std: Sequence[float]
) -> tuple[Sequence[float], Sequence[float]]:
    """``image_mean`` and ``image_std`` of a checkpoint's image processor, where it states them.

    Raises:
        ValueError: Its ``preprocessor_config.json`` cannot be read, or states no such numbers.
    """
    path = directory / "preprocessor_config.json"
    if not os.path.lexists(path):
        return mean, std
    values = pretrained.read_config(path)
    found = [values.get("image_mean", mean), values.get("image_std", std)]
    for name, numbers in zip(("image_mean", "image_std"), found, strict=True):
        is_three = isinstance(numbers, Sequence) and len(numbers) == 3
        # The bound refuses infinities; NaN is below no bound.
        if not is_three or not all(type(n) in (int, float) and abs(n) < 1e4 for n in numbers):
            raise ValueError(f"{name} of {str(path)!r} is {quoted(numbers)}: it must be 3 numbers")
    if min(found[1]) < _LEAST_STD:
        raise ValueError(
            f"image_std of {str(path)!r} is {quoted(found[1])}: pixels are divided by it, so each "
            "number must be above 0"
        )
    return found[0], found[1]


def check_texts(texts: Sequence[str]) -> None:
    """Refuse a lone string, whose characters would be taken for captions.

    Raises:
        ValueError: `texts` is a string.
    """
    if isinstance(texts, str):
        raise ValueError(f"texts must be a list of strings, got the string {texts!r}")


def maybe_normalize(features: Tensor, normalize: bool) -> Tensor:
    """`features`, each row scaled to unit length where asked for."""
    return F.normalize(features, dim=-1) if normalize else features


def _forget_fingerprint(module: DualEncoder, incompatible_keys: object) -> None:
    module._fingerprint = None
