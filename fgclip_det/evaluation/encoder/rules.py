"""How FG-CLIP's authors feed each family of encoders, from stored pixels and texts to features.

* Generation 1, and CLIP: the picture is squeezed to a square, bicubic; boxes are not scaled to unit
  length; the score is the cosine.
* Generation 2, and SigLIP 2: the aspect ratio is about kept, bilinear, within a number of patches;
  texts are padded and in lower case; boxes are of unit length; the score is a sigmoid.
* CLIP and SigLIP 2 have one trained text path, the short one, which every text goes through.

All in float32, unless `amp` is asked for.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from fgclip_det.encoders import FGCLIP, FGCLIP2
from fgclip_det.encoders.picture_frames import map_boxes, normalize_and_pad, resize_picture
from fgclip_det.io import read_header

Family = Literal["fgclip", "fgclip2", "clip", "siglip2"]
_TOKENIZED = 4096


def family_of(encoder: FGCLIP | FGCLIP2) -> Family:
    """Which of the four an encoder is, by whether its long texts were ever trained.

    CLIP and SigLIP 2 are read as the FG-CLIP that they are before any training, whose text heads
    are copies of one another.

    Raises:
        ValueError: It is of another kind.
    """
    if isinstance(encoder, FGCLIP2):
        short, long = encoder.text_model.head, encoder.longtext_head
        return "siglip2" if _equal(short, long) else "fgclip2"
    if isinstance(encoder, FGCLIP):
        same = _equal(encoder.text_projection, encoder.text_filip_projection)
        return "clip" if same else "fgclip"
    raise ValueError(
        f"{type(encoder).__name__} is no FG-CLIP, FG-CLIP 2, CLIP or SigLIP 2: FG-CLIP's protocols "
        "have no rules for it"
    )


class EncoderRules:
    """Features of one protocol, by the rules of the family of an encoder.

    Args:
        encoder: The encoder, in eval mode.
        texts: Text tower: "short", "long", or "box", which generation 1 has not.
        lowercase: Whether generation 2 takes case away.
        patches: Budget of every picture in generation 2; None for that of its size.
        image_size: Side of the square in generation 1, in px; None for the one it was trained at.
        amp: Whether to compute in bfloat16 where autocast does.

    Attributes:
        family: See `family_of`.
        generation: Whose rules it follows, 1 or 2.
        text_length: The text path that texts go through.

    Raises:
        ValueError: The encoder has no tokenizer or is of another kind, or `image_size` does not
            suit it.
    """

    def __init__(
        self,
        encoder: FGCLIP | FGCLIP2,
        texts: Literal["short", "long", "box"] = "short",
        lowercase: bool = True,
        patches: int | None = None,
        image_size: int | None = None,
        amp: bool = False,
    ) -> None:
        self.encoder = encoder
        self.family = family_of(encoder)
        self.generation = 2 if isinstance(encoder, FGCLIP2) else 1
        self.text_length = texts if self.family in ("fgclip", "fgclip2") else "short"
        if self.family == "fgclip" and texts == "box":
            self.text_length = "short"
        self.lowercase = lowercase and self.generation == 2
        self.patches = patches if self.generation == 2 else None
        self.amp = amp
        self.side = self._checked_side(image_size)
        # An encoder without one is told of before any picture is read.
        self._tokenizer = encoder.tokenizer
        self._pad = self._tokenizer.pad_token_id

    @property
    def picture_settings(self) -> dict[str, Any]:
        """What features of a picture depend on, beside the weights and the pixels."""
        if self.generation == 1:
            return {"size": self.side, "resampling": "pillow bicubic", "amp": self.amp}
        return {"patches": self.patches, "resampling": "pillow bilinear", "amp": self.amp}

    def tokens(self, texts: Sequence[str]) -> list[tuple[int, ...]]:
        """Token ids of each text as the tower reads them.

        Those of generation 1 end with their end token, behind which a causal tower looks at
        nothing; those of generation 2 are padded, since padding is attended to.
        """
        rows: list[tuple[int, ...]] = []
        for start in range(0, len(texts), _TOKENIZED):
            rows += map(tuple, self._tokenized(texts[start : start + _TOKENIZED]).tolist())
        if self.generation == 2:
            return rows
        end = self.encoder.config.text.eos_token_id
        return [row[: row.index(end) + 1] for row in rows]

    @property
    def text_settings(self) -> dict[str, Any]:
        """How texts are read."""
        longest = self.encoder.text_model.max_length(self.text_length)
        return {"texts": self.text_length, "lowercase": self.lowercase, "max_tokens": longest}

    @property
    def settings(self) -> dict[str, Any]:
        """How pictures and texts are read."""
        return {**self.picture_settings, **self.text_settings}

    def count_cut(self, texts: Sequence[str], rows: Sequence[tuple[int, ...]]) -> int:
        """How many texts have more tokens than the tower takes; `rows` are their `tokens`."""
        longest = self.encoder.text_model.max_length(self.text_length)
        # A row that is full may be of a text that just fits. Where the padding is the end token,
        # the last of a full row is that.
        full = [
            text
            for text, row in zip(texts, rows, strict=True)
            if len(row) == longest and (self.generation == 1 or row[-2] != self._pad)
        ]
        given = [text.lower() for text in full] if self.lowercase else full
        ids = self._tokenizer(given, verbose=False)["input_ids"] if full else []
        return sum(len(row) > longest for row in ids)

    def by_size(self, paths: Iterable[Path]) -> list[Path]:
        """Pictures in an order in which neighbours take about as many patches, for little padding.

        Raises:
            ValueError: One cannot be read.
        """
        own = self.encoder
        if not isinstance(own, FGCLIP2):
            return list(paths)

        def patches(path: Path) -> int:
            header = read_header(path)
            size = header.height, header.width
            height, width = own.resized_shape(*size, self.patches or own.patch_budget(*size))
            return height * width

        return sorted(paths, key=patches)

    @torch.no_grad()
    def encode_tokens(self, rows: Sequence[tuple[int, ...]]) -> Tensor:
        """B rows of `tokens` -> (B, D) float32 on the encoder's device."""
        width = max(map(len, rows))
        pad = self.encoder.config.text.eos_token_id if self.generation == 1 else 0
        ids = torch.tensor([[*row, *[pad] * (width - len(row))] for row in rows])
        with self._autocast():
            found = self.encoder.encode_tokens(ids.to(self.encoder.device), self.text_length)
        return found.float()

    @torch.no_grad()
    def encode_pictures(self, pictures: Sequence[np.ndarray]) -> Tensor:
        """(H, W, 3) uint8 RGB pictures as stored -> (N, D) float32 on the encoder's device."""
        with self._autocast():
            return self.encoder.encode_image(self._pixels(pictures)).float()

    @torch.no_grad()
    def encode_boxes(
        self, pictures: Sequence[np.ndarray], corners: Sequence[np.ndarray]
    ) -> list[Tensor]:
        """Features of boxes, of unit length in generation 2 alone.

        Args:
            pictures: (H, W, 3) uint8 RGB, as stored.
            corners: Of each picture (K_i, 4) float64, xyxy, in pixels of it.

        Returns:
            Of each picture (K_i, D) float32 on the encoder's device.
        """
        boxes = [torch.from_numpy(own) for own in corners]
        sizes = [picture.shape[:2] for picture in pictures]
        with self._autocast():
            if isinstance(self.encoder, FGCLIP2):
                found = self.encoder.encode_regions(
                    self._pixels(pictures), boxes, normalize=True, image_sizes=sizes
                )
            else:
                dense = self.encoder.encode_dense(self._pixels(pictures))
                grid = (dense.shape[1], dense.shape[2])
                in_cells = [map_boxes(*pair, grid) for pair in zip(boxes, sizes, strict=True)]
                found = self.encoder.pool_cells(dense, in_cells)
        return list(found.float().split([len(own) for own in boxes]))

    def scores(self, cosines: Tensor) -> Tensor:
        """What the authors' retrieval ranks by, of float32 cosines."""
        if isinstance(self.encoder, FGCLIP2):
            scale, bias = self.encoder.logit_scale, self.encoder.logit_bias
            on_device = scale.detach().to(cosines), bias.detach().to(cosines)
            return torch.sigmoid(cosines * on_device[0].exp() + on_device[1])
        return cosines

    def _checked_side(self, image_size: int | None) -> int | None:
        if self.generation == 2:
            if image_size is not None:
                raise ValueError(
                    "image_size is generation 1's: generation 2 reads each picture by its own size"
                )
            return None
        side, patch = image_size or self.encoder.image_size, self.encoder.patch_size
        if image_size is not None and (image_size < patch or image_size % patch):
            raise ValueError(
                f"image_size is {image_size} px, but the encoder's patches have {patch}: take a "
                f"multiple of that, such as {max(1, round(image_size / patch)) * patch}"
            )
        return side

    def _pixels(self, pictures: Sequence[np.ndarray]) -> Any:
        own = self.encoder
        if isinstance(own, FGCLIP2):
            return own.preprocess([Image.fromarray(one) for one in pictures], self.patches)
        square = (self.side, self.side)
        pixels = [
            normalize_and_pad(
                resize_picture(torch.from_numpy(one).permute(2, 0, 1), square, "bicubic"),
                own.image_mean,
                own.image_std,
                own.patch_size,
            )
            for one in pictures
        ]
        return torch.stack(pixels).to(own.device)

    def _tokenized(self, texts: Sequence[str]) -> Tensor:
        options = {"lowercase": self.lowercase} if self.generation == 2 else {}
        with warnings.catch_warnings():
            # They are counted, all of them: see `count_cut`.
            warnings.filterwarnings("ignore", r"\d+ caption\(s\) are longer than")
            return self.encoder.tokenize(texts, self.text_length, **options)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.encoder.device.type, torch.bfloat16, enabled=self.amp)


def unit(features: Tensor) -> Tensor:
    """Rows of unit length."""
    return F.normalize(features, dim=-1)


def _equal(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return all(a.shape == b.shape and torch.equal(a, b) for a, b in pairs)
