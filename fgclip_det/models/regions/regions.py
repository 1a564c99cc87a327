"""Regions, the output of `propose` and input of `classify`: boxes that depend on no vocabulary."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from fgclip_det.io import one_line, parse_json, quoted, read_tensor_header, write_bytes
from fgclip_det.io.json_files import to_json
from fgclip_det.ops.finite import check_finite

_KIND = "fgclip_det.Regions"


@dataclass(kw_only=True)
class Regions:
    """Regions of one image.

    Attributes:
        boxes: (K, 4) float32, xyxy, in pixels of the picture as the network read it, (0, 0) being
            its corner wherever a pipeline padded it, clipped to the picture.
        objectness: (K,) float32 in [0, 1], from the region proposal network, or how sure another
            detector is of the box.
        region_embeddings: (K, D) float32 of unit length, from the frozen FG-CLIP.
        detector_embeddings: (K, D) float32 of unit length, from the trained box head; None where
            the boxes are another detector's.
        class_scores: (K, B) float32 in [0, 1], of the B classes that another detector was trained
            on; None where it has none.
        image_meta: ``img_shape`` and ``ori_shape`` (height, width) in pixels of the network
            input and of the original picture, ``scale_factor`` (x, y) from the latter to the
            former; MMDetection's names and meanings.
        encoder_fingerprint: Of the encoder whose space the embeddings are in; "" where unknown.
    """

    boxes: Tensor
    objectness: Tensor
    region_embeddings: Tensor
    detector_embeddings: Tensor | None = None
    class_scores: Tensor | None = None
    image_meta: dict = field(default_factory=dict)
    encoder_fingerprint: str = ""

    def __len__(self) -> int:
        return len(self.boxes)

    def to(self, device: torch.device | str) -> Regions:
        """The same regions on `device`."""
        return self._map(lambda tensor: tensor.to(device))

    def __getitem__(self, rows: Tensor | slice) -> Regions:
        """The regions that an index tensor, a mask or a slice picks."""
        return self._map(lambda tensor: tensor[rows])

    def _map(self, function: Callable[[Tensor], Tensor]) -> Regions:
        tensors = {
            name: function(value) for name, value in vars(self).items() if torch.is_tensor(value)
        }
        return replace(self, **tensors, image_meta=dict(self.image_meta))

    def check_encoder(self, fingerprint: str) -> None:
        """Make sure that the encoder of this fingerprint made the embeddings, where it is known.

        Raises:
            ValueError: Another one did.
        """
        if self.encoder_fingerprint not in ("", fingerprint):
            raise ValueError(
                f"regions of encoder {self.encoder_fingerprint} cannot be compared with texts of "
                f"encoder {fingerprint}: propose them again with this detector"
            )

    def save(self, path: str | os.PathLike, labels: Mapping[str, str] | None = None) -> None:
        """Write everything to one ``.safetensors`` file, or nothing; makes its folder.

        Args:
            path: The file.
            labels: What else is known of the regions, for `read_regions`.

        Raises:
            ValueError: It is not known whose the regions are, or they are not finite.
        """
        if not self.encoder_fingerprint:
            raise ValueError(
                "these regions do not say which encoder made them, and could be asked with texts "
                "of another one: set encoder_fingerprint"
            )
        tensors = {
            name: value.detach().to("cpu", copy=True).contiguous()
            for name, value in vars(self).items()
            if torch.is_tensor(value)
        }
        path = Path(path)
        check_finite(tensors, f"what would be written to {str(path)!r}")
        told = {
            "kind": _KIND,
            "class": type(self).__name__,
            "image_meta": to_json(self.image_meta, f"image_meta for {str(path)!r}", default=_plain),
            "encoder_fingerprint": self.encoder_fingerprint,
            "labels": to_json(dict(labels or {}), f"labels for {str(path)!r}"),
        }
        told["hash"] = _hash(told, tensors)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, save(tensors, told))

    @classmethod
    def load(cls, path: str | os.PathLike) -> Regions:
        """Read what `save` wrote, on the CPU; see `read_regions`."""
        return read_regions(path)[0]


def read_regions(path: str | os.PathLike) -> tuple[Regions, dict[str, str]]:
    """Read what `Regions.save` wrote.

    Args:
        path: The file.

    Returns:
        The regions, of the class they had, on the CPU, and their labels.

    Raises:
        ValueError: The file is missing, truncated or of another kind, was altered, or holds NaN or
            an infinity.
    """
    where = repr(str(path))
    told = read_tensor_header(path, "file of regions").labels
    if told.get("kind") != _KIND:
        raise ValueError(f"{where} holds no regions of fgclip_det: make them with save")
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise ValueError(f"{where} cannot be read ({one_line(error)}): truncated?") from None
    altered = f"{where} was altered after it was written"
    found = told.pop("hash", None)
    if found is None:
        raise ValueError(f"{altered}, or by a version that noted no hash: propose them again")
    if found != _hash(told, tensors):
        raise ValueError(f"{altered}: propose them again")
    check_finite(tensors, where)
    classes = {known.__name__: known for known in (Regions, *Regions.__subclasses__())}
    try:
        made = classes[told["class"]](
            **tensors,
            image_meta={
                key: _tuples(v) for key, v in parse_json(told["image_meta"], "image_meta").items()
            },
            encoder_fingerprint=told["encoder_fingerprint"],
        )
        labels = dict(parse_json(told["labels"], "labels"))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{altered} ({quoted(str(error))}): propose them again") from None
    count = len(made.boxes) if made.boxes.dim() else 0
    if made.boxes.shape != (count, 4) or any(v.shape[:1] != (count,) for v in tensors.values()):
        raise ValueError(f"{altered}: propose them again")
    return made, labels


def _hash(told: Mapping[str, str], tensors: Mapping[str, Tensor]) -> str:
    """16 hex digits of all that a file holds."""
    digest = hashlib.sha256(to_json(sorted(told.items()), "labels").encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        # By bytes, since NumPy lacks bfloat16.
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def _plain(value: Any) -> Any:
    """NumPy's scalars and arrays, and paths, as JSON knows them."""
    return value.tolist() if hasattr(value, "tolist") else str(value)


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
