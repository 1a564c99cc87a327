"""FG-CLIP 2 (arXiv 2510.10921): two SigLIP 2 towers, heads for regions and for long captions."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any

import torch
import transformers
from PIL import Image
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from fgclip_det.encoders import pretrained
from fgclip_det.encoders.baselines.plain_siglip import complete_plain_siglip
from fgclip_det.encoders.dual_encoder import (
    NO_TOKEN_IDS,
    DualEncoder,
    check_texts,
    maybe_normalize,
    read_pixel_statistics,
)
from fgclip_det.encoders.fgclip2.config import FGCLIP2Config
from fgclip_det.encoders.fgclip2.image_encoder import FGCLIP2ImageEncoder
from fgclip_det.encoders.fgclip2.packed_images import PackedImages, pack_images, resized_shape
from fgclip_det.encoders.fgclip2.pooling_head import PoolingHead
from fgclip_det.encoders.fgclip2.text_encoder import FGCLIP2TextEncoder, FGCLIP2TextLength
from fgclip_det.encoders.picture_frames import map_boxes
from fgclip_det.encoders.tokenizer import read_fast_tokenizer
from fgclip_det.hub import resolve_directory

SIGLIP_MEAN = (0.5, 0.5, 0.5)
SIGLIP_STD = (0.5, 0.5, 0.5)

# Patches that FG-CLIP 2's own evaluation grants a picture: the least that hold it, or the last.
PATCH_BUDGETS = (128, 256, 576, 784, 1024)

# Of the training of regions; a checkpoint has them once that training has begun.
AUTHORS_REGION_SCALE = 4.6052
REGION_SCALES = ("logit_scale_finegraind", "logit_scale_hardneg")


class FGCLIP2(DualEncoder):
    """Dual encoder for images of any aspect ratio, with region-aligned features.

    ``FGCLIP2(config)`` has random weights; ``FGCLIP2.from_pretrained`` reads published ones.
    Parameter names are those of the published checkpoints.

    Images are either (N, 3, H, W) normalised pixels of one shape or `PackedImages` of any shapes.
    """

    region_text_length = "box"
    tokenizer_files = "tokenizer.json"

    def __init__(
        self,
        config: FGCLIP2Config,
        tokenizer: PreTrainedTokenizerBase | None = None,
        image_mean: Sequence[float] = SIGLIP_MEAN,
        image_std: Sequence[float] = SIGLIP_STD,
    ) -> None:
        super().__init__(tokenizer, image_mean, image_std)
        self.config = config
        text_width = config.text.hidden_size
        self.vision_model = FGCLIP2ImageEncoder(config.vision)
        self.text_model = FGCLIP2TextEncoder(config.text)
        self.dense_feature_head = PoolingHead(config.vision)
        self.longtext_head = nn.Linear(text_width, config.projection_dim)
        self.boxtext_head = nn.Linear(text_width, config.projection_dim)
        # Where SigLIP starts its training; no verb below needs them.
        self.logit_scale = nn.Parameter(torch.full((1,), math.log(10.0)))
        self.logit_bias = nn.Parameter(torch.full((1,), -10.0))
        for name in REGION_SCALES:
            self.register_parameter(name, None)

    @classmethod
    def from_pretrained(
        cls, name_or_path: str | os.PathLike, revision: str | None = None
    ) -> FGCLIP2:
        """Read a checkpoint in the published layout.

        Args:
            name_or_path: A directory, or a hub id such as ``qihoo360/fg-clip2-base``. Plain SigLIP
                2, such as ``google/siglip2-base-patch16-naflex``, will do: see
                `complete_plain_siglip`.
            revision: Of a hub id: commit, branch or tag.

        Returns:
            The model in float32, in eval mode, without gradients.

        Raises:
            ValueError: Not such a checkpoint, or its weights do not fit its config exactly.
        """
        directory = resolve_directory(name_or_path, revision)
        config = pretrained.read_sizes(directory, FGCLIP2Config.from_dict)
        mean, std = read_pixel_statistics(directory, SIGLIP_MEAN, SIGLIP_STD)
        tokenizer = read_fast_tokenizer(directory, config.text.vocab_size)
        trained = not {*REGION_SCALES}.isdisjoint(pretrained.stored_shapes(directory))

        def build() -> FGCLIP2:
            model = cls(config, tokenizer, mean, std)
            if trained:
                model.add_region_scales()
            return model

        return pretrained.read_model(directory, config, build, complete_plain_siglip)

    def add_region_scales(self, start: float = AUTHORS_REGION_SCALE) -> None:
        """Give the model the two scales that the training of regions needs, where it has none.

        Args:
            start: Logarithm of both, where the authors' training starts it: 100.
        """
        for name in REGION_SCALES:
            if getattr(self, name) is None:
                scale = torch.tensor(start, device=self.device)
                self.register_parameter(name, nn.Parameter(scale))
        self._fingerprint = None

    @property
    def image_size(self) -> int:
        """Side of the square picture whose patches fill the position table, in pixels."""
        return self.config.vision.grid[0] * self.patch_size

    @property
    def image_processor(self) -> transformers.Siglip2ImageProcessor:
        """Resize to a number of patches with the aspect ratio kept, normalise, flatten, pad."""
        # By its package: the name alone brings torchvision, which nothing else here needs.
        return transformers.Siglip2ImageProcessor(
            patch_size=self.patch_size,
            max_num_patches=self.config.vision.num_patches,
            image_mean=list(self.image_mean),
            image_std=list(self.image_std),
        )

    def preprocess(
        self, images: Sequence[Image.Image], max_num_patches: int | None = None
    ) -> PackedImages:
        """Pictures -> packed images, each resized with its aspect ratio about kept, by Pillow.

        Args:
            images: Any sizes and modes. An EXIF orientation is not followed.
            max_num_patches: Each picture is resized to the most patches within this; if None, to
                what FG-CLIP 2's own evaluation grants one of its size, at most 1024.

        Returns:
            The batch, on the device of the model.

        Raises:
            ValueError: There is no picture, or no room for a patch.
        """
        if max_num_patches is not None and max_num_patches < 1:
            raise ValueError(f"max_num_patches is {max_num_patches}: it must be at least 1")
        sizes = [
            self.resized_shape(
                image.height,
                image.width,
                max_num_patches or self.patch_budget(image.height, image.width),
            )
            for image in images
        ]
        pixels = self._read_pictures(images, sizes, "bilinear")
        return pack_images(pixels, self.patch_size).to(self.device)

    def patch_budget(self, height: int, width: int) -> int:
        """Patches that FG-CLIP 2's own evaluation grants a picture of this size in pixels."""
        patches = (height // self.patch_size) * (width // self.patch_size)
        return next((n for n in PATCH_BUDGETS if n >= patches), PATCH_BUDGETS[-1])

    def resized_shape(self, height: int, width: int, max_num_patches: int) -> tuple[int, int]:
        """Height and width in pixels that `preprocess` resizes a picture of this size to."""
        return resized_shape(height, width, self.patch_size, max_num_patches)

    def encode_image(self, images: Tensor | PackedImages, normalize: bool = False) -> Tensor:
        """Global features.

        Args:
            images: (N, 3, H, W) float, normalised pixels, any H and W of at least one patch, or
                packed images.
            normalize: Whether to scale each row to unit length.

        Returns:
            (N, D).
        """
        return maybe_normalize(self.vision_model(images), normalize)

    def encode_dense(self, images: Tensor | PackedImages, normalize: bool = False) -> Tensor:
        """Features of each patch.

        Args:
            images: (N, 3, H, W) normalised pixels, or packed images.
            normalize: Whether to scale each patch's feature to unit length.

        Returns:
            (N, h, w, D); of packed images (N, L, D), where row ``y * w + x`` is patch (y, x) in
            the image's own grid (h, w) and the rows behind it are padding without meaning.
        """
        tokens = self.vision_model.forward_tokens(images)
        dense = self.dense_feature_head.forward_dense(tokens.hidden, tokens.mask)
        dense = maybe_normalize(dense, normalize)
        return dense if tokens.grid is None else dense.unflatten(1, tokens.grid)

    def project_dense(self, tap: Tensor) -> Tensor:
        """Last tap of ``vision_model.forward_taps`` (N, h, w, E) -> (N, h, w, D)."""
        hidden = self.vision_model.post_layernorm(tap.flatten(1, 2))
        dense = self.dense_feature_head.forward_dense(hidden)
        return dense.unflatten(1, (tap.shape[1], tap.shape[2]))

    def encode_regions(
        self,
        images: Tensor | PackedImages,
        boxes: Sequence[Tensor],
        normalize: bool = False,
        image_sizes: Sequence[tuple[int, int]] | Tensor | None = None,
    ) -> Tensor:
        """Features of boxes, to be compared with texts of ``text_length="box"``.

        Args:
            images: (N, 3, H, W) normalised pixels, or packed images.
            boxes: One (K_i, 4) float tensor for each image, xyxy, in pixels of pictures of
                `image_sizes`.
            normalize: Whether to scale each row to unit length.
            image_sizes: Height and width of each picture in the frame of its boxes, in pixels;
                that of `images` themselves if None (of packed ones: patches times patch size).

        Returns:
            (sum K_i, D), image by image.

        Raises:
            ValueError: Not as many box tensors, or sizes, as images.
        """
        if len(boxes) != len(images):
            raise ValueError(f"{len(images)} images but {len(boxes)} box tensors: give one each")
        if image_sizes is not None and len(image_sizes) != len(images):
            raise ValueError(f"{len(images)} images but {len(image_sizes)} sizes: give one each")
        dense = self.encode_dense(images)
        if not isinstance(images, PackedImages):
            grid = (dense.shape[1], dense.shape[2])
            in_cells = self._in_cells(boxes, [grid] * len(boxes), image_sizes)
            return maybe_normalize(self.pool_cells(dense, in_cells), normalize)
        in_cells = self._in_cells(boxes, images.grids, image_sizes)
        return maybe_normalize(self._pool_packed(dense, in_cells, images.grids), normalize)

    def encode_image_and_regions(
        self, images: PackedImages, boxes: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """`encode_image` and `encode_regions` from one pass, for training.

        Args:
            images: Packed images.
            boxes: One (K_i, 4) float tensor for each image, xyxy, in pixels of its patches.

        Returns:
            (N, D), and (sum K_i, D) image by image.
        """
        tokens = self.vision_model.forward_tokens(images)
        dense = self.dense_feature_head.forward_dense(tokens.hidden, tokens.mask)
        in_cells = self._in_cells(boxes, images.grids, None)
        pooled = self._pool_packed(dense, in_cells, images.grids)
        return self.vision_model.head(tokens.hidden, tokens.mask), pooled

    def encode_tokens(
        self,
        input_ids: Tensor,
        text_length: FGCLIP2TextLength = "short",
        normalize: bool = False,
        attention_mask: Tensor | None = None,
    ) -> Tensor:
        """Features of tokenized captions.

        Args:
            input_ids: (B, L) int64; L at most 64 (short, box) or 196 (long). The model knows rows
                padded to that length, as `tokenize` makes them.
            text_length: "short" for whole pictures, "box" for regions, or "long": its own head
                each, and "long" its own positions.
            normalize: Whether to scale each row to unit length.
            attention_mask: (B, L), nonzero for the tokens that may be attended to. FG-CLIP 2 was
                trained without, with padding seen.

        Returns:
            (B, D).
        """
        pooled = self.text_model(input_ids, text_length, attention_mask)
        heads = {"short": self.text_model.head, "box": self.boxtext_head}
        head = heads.get(text_length, self.longtext_head)
        return maybe_normalize(head(pooled), normalize)

    def encode_text(
        self,
        texts: Sequence[str],
        text_length: FGCLIP2TextLength = "short",
        normalize: bool = False,
        lowercase: bool = True,
    ) -> Tensor:
        """Features of captions: B strings -> (B, D). Longer ones are cut, which is said once.

        Args:
            texts: The captions.
            text_length: See `encode_tokens`.
            normalize: Whether to scale each row to unit length.
            lowercase: Whether case is taken away first, as FG-CLIP 2's authors do but in their
                protocols LIT-CN, Flickr30k-CNA and BoxClass-CN.
        """
        check_texts(texts)
        # No caption goes the same way, so that a process without any has the same gradients.
        input_ids = self.tokenize(texts, text_length, lowercase) if len(texts) else NO_TOKEN_IDS
        input_ids = input_ids.to(self.device)
        return self.encode_tokens(input_ids, text_length, normalize)

    def tokenize(
        self,
        texts: Sequence[str],
        text_length: FGCLIP2TextLength = "short",
        lowercase: bool = True,
    ) -> Tensor:
        """B strings -> (B, L) int64, cut and padded to L = 64 or 196 tokens; see `encode_text`."""
        longest = self.text_model.max_length(text_length)
        given = [text.lower() if lowercase else text for text in texts]
        lengths = [len(row) for row in self.tokenizer(given)["input_ids"]]
        cut = [text for text, length in zip(texts, lengths, strict=True) if length > longest]
        self._warn_of_cut(cut, longest, _long_hint(text_length))
        options: dict[str, Any] = {"padding": "max_length", "truncation": True}
        rows = self.tokenizer(given, max_length=longest, **options)["input_ids"]
        return torch.tensor(rows)

    def _pool_packed(
        self, dense: Tensor, boxes: Sequence[Tensor], grids: Sequence[tuple[int, int]]
    ) -> Tensor:
        """(sum K_i, D) of boxes in cells of (N, L, D), rows of each image in its own grid."""
        pooled = [
            self.pool_cells(rows[: height * width].view(1, height, width, -1), [own])
            for rows, own, (height, width) in zip(dense, boxes, grids, strict=True)
        ]
        return torch.cat(pooled) if pooled else dense.new_zeros(0, self.projection_dim)

    def _in_cells(
        self,
        boxes: Sequence[Tensor],
        grids: Sequence[tuple[int, int]],
        image_sizes: Sequence[tuple[int, int]] | Tensor | None,
    ) -> list[Tensor]:
        """Boxes in pixels of `image_sizes`, None for what the grids cover -> in cells of these."""
        if image_sizes is None:
            patch = self.patch_size
            image_sizes = [(rows * patch, columns * patch) for rows, columns in grids]
        return [
            map_boxes(own, (int(size[0]), int(size[1])), grid)
            for own, size, grid in zip(boxes, image_sizes, grids, strict=True)
        ]


def _long_hint(text_length: FGCLIP2TextLength) -> str:
    return "" if text_length == "long" else '; text_length="long" takes more'
