"""FG-CLIP v1 (arXiv 2505.05071): two towers, one space, features of images, regions and texts."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from transformers import CLIPImageProcessor, PreTrainedTokenizerBase

from fgclip_det.encoders import pretrained
from fgclip_det.encoders.config import FGCLIPConfig
from fgclip_det.encoders.image_encoder import FGCLIPImageEncoder
from fgclip_det.encoders.plain_clip import complete_plain_clip
from fgclip_det.encoders.text_encoder import FGCLIPTextEncoder, TextLength
from fgclip_det.encoders.tokenizer import read_tokenizer
from fgclip_det.ops import roi_align

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


class FGCLIP(nn.Module):
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
        super().__init__()
        self.config = config
        self._tokenizer = tokenizer
        self.image_mean = tuple(image_mean)
        self.image_std = tuple(image_std)
        self._fingerprint: str | None = None
        self._warned_truncation = False
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
        self.register_load_state_dict_post_hook(_forget_fingerprint)

    @classmethod
    def from_pretrained(cls, name_or_path: str | os.PathLike) -> FGCLIP:
        """Read a checkpoint in the published layout.

        Args:
            name_or_path: A directory, or a hub id such as ``qihoo360/fg-clip-base``. Plain CLIP,
                such as ``openai/clip-vit-base-patch16``, will do: see `complete_plain_clip`.

        Returns:
            The model in float32, in eval mode, without gradients.

        Raises:
            ValueError: Not such a checkpoint, or its weights do not fit its config exactly.
        """
        directory = pretrained.resolve_directory(name_or_path)
        values = pretrained.read_json(directory / pretrained.CONFIG_NAME)
        try:
            config = FGCLIPConfig.from_dict(values)
        except ValueError as error:
            raise ValueError(f"{directory / pretrained.CONFIG_NAME}: {error}") from None
        mean, std = CLIP_MEAN, CLIP_STD
        preprocessor = directory / "preprocessor_config.json"
        if preprocessor.is_file():
            processing = pretrained.read_json(preprocessor)
            mean, std = processing.get("image_mean", mean), processing.get("image_std", std)
        model = cls(config, read_tokenizer(directory), mean, std)
        weights = complete_plain_clip(pretrained.read_weights(directory))
        pretrained.load_strictly(model, weights, directory)
        return model.eval().requires_grad_(False)

    def save_pretrained(
        self, directory: str | os.PathLike, dtype: torch.dtype = torch.float32
    ) -> None:
        """Write the model, its tokenizer and its image processor in the published layout."""
        path = Path(directory)
        pretrained.write_checkpoint(path, self.config.to_dict(), self.state_dict(), dtype)
        self.image_processor.save_pretrained(path)
        if self._tokenizer is not None:
            self._tokenizer.save_pretrained(path)

    def train(self, mode: bool = True) -> FGCLIP:
        """Set the mode; the weights may change from here on, and the fingerprint with them."""
        if mode:
            self._fingerprint = None
        return super().train(mode)

    @property
    def patch_size(self) -> int:
        """Pixels per cell of the dense map."""
        return self.config.vision.patch_size

    @property
    def image_size(self) -> int:
        """Side of the square pictures it was trained on, in pixels."""
        return self.config.vision.image_size

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
        """Where the parameters are."""
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
                "this FG-CLIP checkpoint holds no tokenizer: add tokenizer.json (or vocab.json "
                "and merges.txt) to its directory"
            )
        return self._tokenizer

    @property
    def image_processor(self) -> CLIPImageProcessor:
        """Square resize and normalisation, as FG-CLIP's own evaluation does it."""
        side = {"height": self.image_size, "width": self.image_size}
        return CLIPImageProcessor(
            size=side,
            do_center_crop=False,
            image_mean=list(self.image_mean),
            image_std=list(self.image_std),
        )

    def preprocess(self, images: Sequence[Image.Image]) -> Tensor:
        """Pictures -> (N, 3, image_size, image_size) normalised pixels, resized to a square."""
        batch = self.image_processor(
            images=[image.convert("RGB") for image in images], return_tensors="pt"
        )
        return batch["pixel_values"].to(self.device)

    def encode_image(self, images: Tensor, normalize: bool = False) -> Tensor:
        """Global features.

        Args:
            images: (N, 3, H, W) float, normalised pixels, any H and W of at least one patch.
            normalize: Whether to scale each row to unit length.

        Returns:
            (N, D).
        """
        return _maybe_normalize(self.visual_projection(self.vision_model(images)), normalize)

    def encode_dense(self, images: Tensor, normalize: bool = False) -> Tensor:
        """Value-path features of each patch: (N, 3, H, W) normalised pixels -> (N, h, w, D)."""
        dense = self.visual_projection(self.vision_model.forward_dense(images))
        return _maybe_normalize(dense, normalize)

    def project_dense(self, tap: Tensor) -> Tensor:
        """Last tap of ``vision_model.forward_taps`` (N, h, w, E) -> (N, h, w, D)."""
        return self.visual_projection(self.vision_model.post_layernorm(tap))

    def pool_regions(self, dense: Tensor, boxes: Sequence[Tensor]) -> Tensor:
        """Average of a dense map over each box, by RoIAlign 1x1 (arXiv 2505.05071, section 3.1).

        Args:
            dense: (N, h, w, D) from `encode_dense`.
            boxes: One (K_i, 4) float tensor for each image, xyxy, in pixels of the images.

        Returns:
            (sum K_i, D).
        """
        grid = (dense.shape[1], dense.shape[2])
        pooled = roi_align(
            dense.flatten(1, 2),
            [b.to(dense.device, torch.float32) for b in boxes],
            output_size=1,
            spatial_scale=1.0 / self.patch_size,
            grid=grid,
        )
        return pooled.flatten(1)

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
        return _maybe_normalize(self.pool_regions(self.encode_dense(images), boxes), normalize)

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
        return _maybe_normalize(projection(pooled), normalize)

    def encode_text(
        self, texts: Sequence[str], text_length: TextLength = "short", normalize: bool = False
    ) -> Tensor:
        """Features of captions: B strings -> (B, D). Longer ones are cut, which is said once."""
        if isinstance(texts, str):
            raise ValueError(f"texts must be a list of strings, got the string {texts!r}")
        if not len(texts):
            return torch.zeros(0, self.projection_dim, device=self.device)
        input_ids = self.tokenize(texts, text_length).to(self.device)
        return self.encode_tokens(input_ids, text_length, normalize)

    def tokenize(self, texts: Sequence[str], text_length: TextLength = "short") -> Tensor:
        """B strings -> (B, L) int64, cut to the length of the tower, padded to the longest."""
        longest = self.text_model.max_length(text_length)
        rows = self.tokenizer(list(texts))["input_ids"]
        cut = [text for text, row in zip(texts, rows, strict=True) if len(row) > longest]
        if cut and not self._warned_truncation:
            self._warned_truncation = True
            warnings.warn(
                f"{len(cut)} caption(s) are longer than {longest} tokens and were cut; the first "
                f"begins {cut[0][:60]!r}" + _long_hint(text_length),
                stacklevel=3,
            )
        end = self.config.text.eos_token_id
        rows = [row if len(row) <= longest else [*row[: longest - 1], end] for row in rows]
        width = max(map(len, rows))
        return torch.tensor([row + [end] * (width - len(row)) for row in rows])


def _forget_fingerprint(module: FGCLIP, incompatible_keys: object) -> None:
    module._fingerprint = None


def _maybe_normalize(features: Tensor, normalize: bool) -> Tensor:
    return F.normalize(features, dim=-1) if normalize else features


def _long_hint(text_length: TextLength) -> str:
    return '; text_length="long" takes more' if text_length == "short" else ""
