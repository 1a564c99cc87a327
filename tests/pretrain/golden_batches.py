"""The authors' reference batches as our pretrainers take them, and what to compare with."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from safetensors.torch import load_file
from torch import Tensor

from fgclip_det.pretrain.region_text_pretrainer import RegionTextPretrainer

CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "_base_"
PLACES, GROUP = 4, 11
REGION_ARGUMENTS = ("boxes", "region_captions", "hard_captions")
LOSSES = {"long": "loss_global_long", "short": "loss_global_short", "region": "loss_region"}
LOSSES_1 = {**LOSSES, "hard": "loss_hard_negative"}
LOSSES_2 = {
    **LOSSES,
    "tic": "loss_intra_modal",
    "hard_contrastive": "loss_hard_contrastive",
    "hard_11way": "loss_hard_negative",
    "cmr": "loss_ranking",
}


class Golden:
    """Reference numbers of one generation.

    Args:
        golden_dir: Folder of the golden tensors.
        name: "fgclip" or "fgclip2".
    """

    def __init__(self, golden_dir: Path, name: str) -> None:
        folder = golden_dir / "training" / f"{name}_training"
        self.is_first = name == "fgclip"
        self.checkpoint = str(golden_dir / f"{name}_tiny")
        self.expected = json.loads((folder / "expected.json").read_text(encoding="utf-8"))
        self.tensors = load_file(folder / "batch.safetensors")
        self.gradients = load_file(folder / "gradients.safetensors")
        self.losses = LOSSES_1 if self.is_first else LOSSES_2

    def pretrainer(self, config: str = "", **settings) -> RegionTextPretrainer:
        """A pretrainer of the reference checkpoint.

        Args:
            config: Name of the objectives among the base configs; those of the authors' code if
                left out.
            settings: What is set otherwise than there.
        """
        name = config or ("objectives_fgclip" if self.is_first else "objectives_fgclip2")
        model = dict(Config.fromfile(CONFIGS / f"{name}.py").model, encoder=self.checkpoint)
        model = MODELS.build({**model, **settings})
        if not self.is_first:
            with torch.no_grad():
                for scale in ("logit_scale_finegraind", "logit_scale_hardneg"):
                    getattr(model.encoder, scale).copy_(self.tensors[scale])
        return model

    def batch(self, pictures: range) -> dict[str, list]:
        """Arguments of `forward` for some of the ten pictures; captions are token ids."""
        given = self.tensors
        rows = {name: list(given[f"text_{name}"]) for name in ("long", "short")}
        groups = iter(given["hard_texts"].unflatten(0, (-1, GROUP)))
        batch = dict(
            image=[self._image(index) for index in pictures],
            short_caption=[rows["short"][index] for index in pictures],
            long_caption=[rows["long"][index] for index in pictures],
            boxes=[],
            region_captions=[],
            hard_captions=[],
        )
        for index in range(len(given["box_nums"])):
            parts = self._regions(index, groups)
            if index in pictures:
                for name, part in zip(REGION_ARGUMENTS, parts, strict=True):
                    batch[name].append(part)
        return batch

    def _regions(self, index: int, groups) -> tuple[Tensor, list[Tensor], list[list[Tensor]]]:
        given, first = self.tensors, PLACES * index
        shares = given["box_infos"][first : first + int(given["box_nums"][index])]
        hard = given["hard_infos"][first : first + int(given["hard_nums"][index])]
        found = [[k for k, other in enumerate(hard) if torch.equal(box, other)] for box in shares]
        own = [list(next(groups)) for _ in hard]
        height, width = self._image(index).shape[-2:]
        boxes = shares * torch.tensor([width, height] * 2)
        texts = list(given["box_texts"][first : first + len(shares)])
        return boxes, texts, [own[k[0]] if k else [] for k in found]

    def _image(self, index: int) -> Tensor:
        """(3, H, W) uint8. FG-CLIP 2's are put together from the patches that the authors made."""
        if self.is_first:
            return self.tensors["image_uint8"][index]
        height, width = self.tensors["spatial_shapes"][index].tolist()
        patches = self.tensors["pixel_values"][index, : height * width] * 0.5 + 0.5
        cells = (patches * 255).round().to(torch.uint8).view(height, width, 8, 8, 3)
        return cells.permute(4, 0, 2, 1, 3).reshape(3, height * 8, width * 8)

    def gradient(self, case: str, name: str, like: Tensor) -> Tensor:
        """Reference gradient of a parameter, which may be stored by its rows."""
        key = f"{case}/{name}"
        if key in self.gradients:
            return self.gradients[key].reshape(like.shape)
        full = torch.zeros_like(like)
        full[self.gradients[f"{key}.rows"]] = self.gradients[f"{key}.values"]
        return full

    def worst_gradient(self, case: str, gradients: dict[str, Tensor]) -> float:
        """Largest absolute difference of any entry of any parameter's gradient."""
        return max(
            (gradient - self.gradient(case, name, gradient)).abs().max().item()
            for name, gradient in gradients.items()
        )


def own_gradients(model: RegionTextPretrainer) -> dict[str, Tensor | None]:
    """By the reference's names; zero for what is frozen, as it stands there."""
    return {
        name: parameter.grad if parameter.requires_grad else torch.zeros_like(parameter)
        for name, parameter in model.encoder.named_parameters()
    }


def unweighted(golden: Golden, model: RegionTextPretrainer, losses: dict[str, Tensor]) -> dict:
    """Losses by the names and without the weights that the reference has."""
    names = dict(tic="intra_modal", hard_11way="hard", cmr="ranking")
    return {
        name: losses[key].item() / model.weights[names.get(name, name)]
        for name, key in golden.losses.items()
        if key in losses
    }


def without(batch: dict[str, list], regions: bool) -> dict[str, list]:
    """The batch without wrong captions, and without regions where asked for."""
    kept = [len(boxes) * (not regions) for boxes in batch["boxes"]]
    return {
        **batch,
        "boxes": [boxes[:k] for boxes, k in zip(batch["boxes"], kept, strict=True)],
        "region_captions": [c[:k] for c, k in zip(batch["region_captions"], kept, strict=True)],
        "hard_captions": [[[]] * k for k in kept],
    }


def total(losses: dict[str, Tensor]) -> Tensor:
    """What is optimised."""
    return sum(value for key, value in losses.items() if "loss" in key)
