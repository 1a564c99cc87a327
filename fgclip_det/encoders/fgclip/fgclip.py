"""FG-CLIP v1 (arXiv 2505.05071): two towers, one space, features of images, regions and texts."""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch
import transformers
from PIL import Image
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from fgclip_det.encoders import pretrained
from fgclip_det.encoders.baselines.plain_clip import complete_plain_clip
from fgclip_det.encoders.dual_encoder import (
    NO_TOKEN_IDS,
    DualEncoder,
    check_texts,
    maybe_normalize,
    read_pixel_statistics,
)
from fgclip_det.encoders.fgclip.config import FGCLIPConfig
from fgclip_det.encoders.fgclip.image_encoder import FGCLIPImageEncoder
from fgclip_det.encoders.fgclip.text_encoder import FGCLIPTextEncoder, TextLength
from fgclip_det.encoders.tokenizer import read_tokenizer
from fgclip_det.hub import resolve_directory

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


class FGCLIP(DualEncoder):
    """Dual encoder with region-aligned image features.

    ``FGCLIP(config)`` has random weights; ``FGCLIP.from_pretrained`` reads published ones.
    Parameter names are those of the published checkpoints.
    """

    def __init__(
        self,
        config: FGCLIPConfig,
        tokenizer: PreTrainedTokenizerBase | None = None,
        image_mean: Sequence[float] = CLIP_MEAN,
        image_std: Sequence[float] = CLIP_STD,
    ) -> None:
        super().__init__(tokenizer, image_mean, image_std)
        self.config = config
        vision_width, text_width = config.vision.hidden_size, config.text.hidden_size
        self.vision_model = FGCLIPImageEncoder(config.vision)
        self.text_model = FGCLIPTextEncoder(config.text)
        self.visual_projection = nn.Linear(vision_width, config.projection_dim, bias=False)
        self.text_projection = nn.Linear(text_width, config.projection_dim, bias=False)
        self.text_filip_projection = nn.Linear(text_width, config.projection_dim, bias=False)
        scale = config.logit_scale_init_value
        self.logit_scale = nn.Parameter(torch.tensor(scale))
        self.logit_scale_finegraind = nn.Parameter(torch.tensor(scale))
        self.logit_scale_hardneg = nn.Parameter(torch.tensor(scale))

    @classmethod
    def from_pretrained(
        cls, name_or_path: str | os.PathLike, revision: str | None = None
    ) -> FGCLIP:
        """Read a checkpoint in the published layout.

        Args:
            name_or_path: A directory, or a hub id such as ``qihoo360/fg-clip-base``. Plain CLIP,
                such as ``openai/clip-vit-base-patch16``, will do: see `complete_plain_clip`.
            revision: Of a hub id: commit, branch or tag.

        Returns:
            The model in float32, in eval mode, without gradients.

        Raises:
            ValueError: Not such a checkpoint, or its weights do not fit its config exactly.
        """
        directory = resolve_directory(name_or_path, revision)
        config = pretrained.read_sizes(directory, FGCLIPConfig.from_dict)
        mean, std = read_pixel_statistics(directory, CLIP_MEAN, CLIP_STD)
        tokenizer = read_tokenizer(directory, config.text.vocab_size)
        return pretrained.read_model(
            directory, config, lambda: cls(config, tokenizer, mean, std), complete_plain_clip
        )

    @property
    def image_size(self) -> int:
        """Side of the square pictures it was trained on, in pixels."""
        return self.config.vision.image_size

    @property
    def image_processor(self) -> transformers.CLIPImageProcessor:
        """Square resize and normalisation, as FG-CLIP's own evaluation does it."""
        side = {"height": self.image_size, "width": self.image_size}
        # By its package: the name alone brings torchvision, which nothing else here needs.
        return transformers.CLIPImageProcessor(
            size=side,
            do_center_crop=False,
            image_mean=list(self.image_mean),
            image_std=list(self.image_std),
        )

    def preprocess(self, images: Sequence[Image.Image]) -> Tensor:
        """Pictures as FG-CLIP's own evaluation reads them: Pillow's bicubic resize to a square.

        Args:
            images: Any sizes and modes. An EXIF orientation is not followed.

        Returns:
            (N, 3, image_size, image_size) normalised pixels, on the device of the model.

        Raises:
            ValueError: There is no picture.
        """
        sizes = [(self.image_size, self.image_size)] * len(images)
        return torch.stack(self._read_pictures(images, sizes, "bicubic")).to(self.device)

    def encode_image(self, images: Tensor, normalize: bool = False) -> Tensor:
        """Global features.

        Args:
            images: (N, 3, H, W) float, normalised pixels, any H and W of at least one patch.
            normalize: Whether to scale each row to unit length.

        Returns:
            (N, D).
        """
        return maybe_normalize(self.visual_projection(self.vision_model(images)), normalize)

    def encode_dense(self, images: Tensor, normalize: bool = False) -> Tensor:
        """Value-path features of each patch: (N, 3, H, W) normalised pixels -> (N, h, w, D)."""
        dense = self.visual_projection(self.vision_model.forward_dense(images))
        return maybe_normalize(dense, normalize)

    def project_dense(self, tap: Tensor) -> Tensor:
        """Last tap of ``vision_model.forward_taps`` (N, h, w, E) -> (N, h, w, D)."""
        return self.visual_projection(self.vision_model.post_layernorm(tap))

    def encode_regions(
        self, images: Tensor, boxes: Sequence[Tensor], normalize: bool = False
    ) -> Tensor:
        """Features of boxes.

        Args:
            images: (N, 3, H, W) normalised pixels.
            boxes: One (K_i, 4) float tensor for each image, xyxy, in pixels of `images`.
            normalize: Whether to scale each row to unit length.

        Returns:
            (sum K_i, D), image by image.

        Raises:
            ValueError: Not as many box tensors as images.
        """
        if len(boxes) != len(images):
            raise ValueError(f"{len(images)} images but {len(boxes)} box tensors: give one each")
        return maybe_normalize(self.pool_regions(self.encode_dense(images), boxes), normalize)

    def encode_tokens(
        self, input_ids: Tensor, text_length: TextLength = "short", normalize: bool = False
    ) -> Tensor:
        """Features of tokenized captions.

        Args:
            input_ids: (B, L) int64; L at most 77 (short) or 248 (long).
            text_length: "short" or "long": its own positions and projection each.
            normalize: Whether to scale each row to unit length.

        Returns:
            (B, D).
        """
        pooled = self.text_model(input_ids, text_length)
        long = text_length == "long"
        projection = self.text_filip_projection if long else self.text_projection
        return maybe_normalize(projection(pooled), normalize)

    def encode_text(
        self, texts: Sequence[str], text_length: TextLength = "short", normalize: bool = False
    ) -> Tensor:
        """Features of captions: B strings -> (B, D). Longer ones are cut, which is said once."""
        check_texts(texts)
        # No caption goes the same way, so that a process without any has the same gradients.
        input_ids = self.tokenize(texts, text_length) if len(texts) else NO_TOKEN_IDS
        input_ids = input_ids.to(self.device)
        return self.encode_tokens(input_ids, text_length, normalize)

    def tokenize(self, texts: Sequence[str], text_length: TextLength = "short") -> Tensor:
        """B strings -> (B, L) int64, cut to the length of the tower, padded to the longest."""
        longest = self.text_model.max_length(text_length)
        # Without the warning that long texts would fail: they are cut.
        rows = self.tokenizer(list(texts), verbose=False)["input_ids"]
        cut = [text for text, row in zip(texts, rows, strict=True) if len(row) > longest]
        self._warn_of_cut(cut, longest, _long_hint(text_length))
        end = self.config.text.eos_token_id
        rows = [row if len(row) <= longest else [*row[: longest - 1], end] for row in rows]
        width = max(map(len, rows))
        return torch.tensor([row + [end] * (width - len(row)) for row in rows])


def _long_hint(text_length: TextLength) -> str:
    return '; text_length="long" takes more' if text_length == "short" else ""
