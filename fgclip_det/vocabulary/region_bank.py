"""Regions of many pictures, by which is told how near a text lies to whatever there is.

Some texts are near to every region: hubs (Radovanovic et al., "Hubs in Space", JMLR 2010). A cosine
of 0.3 is much for one text and little for another. What helps with two words of two languages
(CSLS: Conneau et al., "Word Translation Without Parallel Data", ICLR 2018) and with queries of
pictures (Bogolin et al., "Cross Modal Retrieval with Querybank Normalisation", CVPR 2022) helps
here: of twice the cosine is taken away what the text's *nearest* regions of a bank have.

Not a z-score: mean and standard deviation tell of how many regions of the bank hold a part of what
the text says, which is a matter of the pictures, and the distribution has a long upper tail. A
share of the nearest is what hubs are defined by, and no division can fail.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from fgclip_det.io import one_line, parse_json, read_tensor_header, to_json, write_bytes
from fgclip_det.ops.finite import check_finite

_KIND = "fgclip_det.RegionBank"
# Unit length, stored in half precision and read again.
_LENGTH_TOLERANCE = 1e-2
# Texts whose cosines with the whole bank exist at a time: 17 MB for 2,048 regions.
_TEXTS_AT_ONCE = 1024
_KEPT_TEXTS = 50_000
_MEND = "make one with tools/make_region_bank.py"


class EmbeddedRegions(Protocol):
    """The part of `Regions` that is needed here."""

    region_embeddings: Tensor
    encoder_fingerprint: str


# Compared by identity: a generated == would fail on the tensors; `hash` compares the contents.
@dataclass(frozen=True, eq=False)
class RegionBank:
    """Embeddings of regions of many pictures.

    Attributes:
        embeddings: (B, D) float16, unit length, of an encoder's regions; rounded where they are
            given in more digits, so that a saved bank is the same as before.
        encoder_fingerprint: Of that encoder.
        about: Where they are from, for people: plain values.
        near_share: Which share of the bank is near to a text, in (0, 1]; one region at the least.

    Raises:
        ValueError: There is none, they are not finite or not of unit length, or the share is out of
            range.
    """

    embeddings: Tensor
    encoder_fingerprint: str
    about: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    near_share: float = 0.02
    _kept: dict[bytes, float] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        given = self.embeddings
        if given.ndim != 2 or 0 in given.shape or not given.is_floating_point():
            raise ValueError(
                f"a region bank of shape {tuple(given.shape)} and dtype {given.dtype} holds no "
                f"region: {_MEND}"
            )
        check_finite({"embeddings": given}, "a region bank")
        lengths = given.double().norm(dim=1)
        if ((lengths - 1).abs() > _LENGTH_TOLERANCE).any():
            raise ValueError(
                f"embeddings of a region bank are from {lengths.min():.4g} to {lengths.max():.4g} "
                "long: give them unit length"
            )
        share = self.near_share
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 1:
            raise ValueError(f"near_share is {share!r}: it must be above 0 and at most 1")
        object.__setattr__(self, "embeddings", given.detach().to("cpu", torch.float16))

    def __len__(self) -> int:
        return len(self.embeddings)

    @property
    def hash(self) -> str:
        """16 hex digits of the numbers, the encoder and the share, whatever else is told."""
        digest = hashlib.sha256(f"{self.encoder_fingerprint} {self.near_share!r}".encode())
        digest.update(f" {tuple(self.embeddings.shape)}".encode())
        digest.update(self.embeddings.contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]

    def check_encoder(self, fingerprint: str) -> None:
        """Make sure that the encoder of this fingerprint made the regions.

        Raises:
            ValueError: Another one did.
        """
        if fingerprint != self.encoder_fingerprint:
            raise ValueError(
                f"a region bank of encoder {self.encoder_fingerprint} cannot be used with encoder "
                f"{fingerprint}: {_MEND} for this encoder"
            )

    def features(self, regions: EmbeddedRegions, text_embeddings: Tensor) -> dict[str, Tensor]:
        """`place` as evidence of a calibration: ``{"place": (K, C) float32}``.

        Raises:
            ValueError: The regions are another encoder's.
        """
        if regions.encoder_fingerprint:
            self.check_encoder(regions.encoder_fingerprint)
        return {"place": self.place(regions.region_embeddings, text_embeddings)}

    @torch.no_grad()
    def place(self, region_embeddings: Tensor, text_embeddings: Tensor) -> Tensor:
        """Twice the cosine, less the mean cosine of the text with the bank's regions near to it.

        Of a region that is as near to the text as those are, that is its cosine. Each number
        depends on its own region and text alone.

        Args:
            region_embeddings: (K, D), of any length each.
            text_embeddings: (C, D), of any length each.

        Returns:
            (K, C) float32 on the device of `region_embeddings`, at most 3 in size.

        Raises:
            ValueError: They are not as wide as the bank, or not finite.
        """
        for what, given in (("regions", region_embeddings), ("texts", text_embeddings)):
            if given.ndim != 2 or given.shape[1] != self.embeddings.shape[1]:
                raise ValueError(
                    f"{what} of shape {tuple(given.shape)} for a region bank of "
                    f"{self.embeddings.shape[1]} values a region: they are of another encoder"
                )
            check_finite({what: given}, "what is looked for in a region bank")
        near = self._near(text_embeddings).to(region_embeddings.device)
        texts = _units(text_embeddings).to(region_embeddings.device)
        # In float64: other texts beside change the order of a sum, and with it its last digits.
        return (2 * _units(region_embeddings) @ texts.T - near).float()

    def _near(self, text_embeddings: Tensor) -> Tensor:
        """(C,) float64 on the CPU: mean cosines with the nearest regions of the bank."""
        rows = text_embeddings.detach().to("cpu", torch.float32).contiguous().numpy()
        keys = [hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in rows]
        new = {key: row for row, key in enumerate(keys) if key not in self._kept}
        pairs = list(new.items())
        count = max(1, round(self.near_share * len(self)))
        for start in range(0, len(pairs), _TEXTS_AT_ONCE):
            fresh, block = zip(*pairs[start : start + _TEXTS_AT_ONCE], strict=True)
            texts = _units(text_embeddings[list(block)])
            cosines = texts @ self._bank.to(texts.device).T
            means = cosines.topk(count, dim=1, sorted=False).values.mean(dim=1).tolist()
            self._kept.update(zip(fresh, means, strict=True))
        near = torch.tensor([self._kept[key] for key in keys], dtype=torch.float64)
        while len(self._kept) > _KEPT_TEXTS:
            self._kept.pop(next(iter(self._kept)))
        return near

    @functools.cached_property
    def _bank(self) -> Tensor:
        """(B, D) float64, of unit length, on the CPU."""
        return _units(self.embeddings)

    def save(self, path: str | os.PathLike) -> None:
        """Write everything to one ``.safetensors`` file, or nothing; makes its folder.

        Raises:
            ValueError: What is told `about` it is no JSON.
            OSError: Writing failed.
        """
        path = Path(path)
        labels = {
            "kind": _KIND,
            "encoder_fingerprint": self.encoder_fingerprint,
            "about": to_json(dict(self.about), f"what is told about {str(path)!r}"),
            "near_share": repr(self.near_share),
            "hash": self.hash,
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, save({"embeddings": self.embeddings.contiguous()}, labels))

    @classmethod
    def load(cls, path: str | os.PathLike) -> RegionBank:
        """Read what `save` wrote.

        Raises:
            ValueError: The file is missing, truncated or of another kind, was altered, or holds no
                region, or NaN or an infinity.
        """
        where = repr(str(path))
        labels = read_tensor_header(path, "region bank").labels
        if labels.get("kind") != _KIND:
            raise ValueError(f"{where} holds no region bank of fgclip_det: {_MEND}")
        try:
            tensors = load_file(path)
        except (SafetensorError, OSError, ValueError) as error:
            raise ValueError(f"{where} cannot be read ({one_line(error)}): truncated?") from None
        altered = f"{where} was altered after it was written: {_MEND}"
        check_finite(tensors, where)
        try:
            embeddings, about = tensors["embeddings"], parse_json(labels["about"], "about")
            share = float(labels["near_share"])
            if embeddings.dtype != torch.float16 or not isinstance(about, dict):
                raise ValueError(altered)
            loaded = cls(embeddings, labels["encoder_fingerprint"], about, share)
        except KeyError:
            raise ValueError(altered) from None
        except ValueError as error:
            raise ValueError(f"{altered} ({one_line(error)})") from None
        if loaded.hash != labels.get("hash"):
            raise ValueError(altered)
        return loaded


def _units(embeddings: Tensor) -> Tensor:
    return F.normalize(embeddings.detach().double(), dim=-1)
