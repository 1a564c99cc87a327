"""What the trainings of both generations share: a batch becomes embeddings, and these losses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from torch import Tensor

from fgclip_det.encoders import DualEncoder
from fgclip_det.io import quoted
from fgclip_det.pretrain.adapters import adapt
from fgclip_det.pretrain.batch_preprocessor import RegionCaptionPreprocessor
from fgclip_det.pretrain.captions import Caption, DistinctCaptions
from fgclip_det.pretrain.losses import HardGroups, RowShares


class RegionEmbeddings(NamedTuple):
    """Regions of a batch and their captions.

    Attributes:
        regions: (K, D), unit length, picture by picture.
        texts: (K, D), unit length: the caption of each.
        groups: Those regions that have wrong captions, with these.
    """

    regions: Tensor
    texts: Tensor
    groups: HardGroups


class RegionTextPretrainer(BaseModel):
    """Base of the pretrainers: pictures with captions, boxes with captions, wrong captions.

    In distributed training a process of which a batch has no box (or no wrong caption) takes part
    in the same collectives, adds 0, and has a gradient for each parameter that is trained. What no
    objective uses, a scale or a head, is frozen.

    Args:
        encoder: What is trained.
        weights: Weight of each objective by its name; one of weight 0 is not computed.
        gather_regions: Whether regions and their captions are compared with those of all
            processes, as whole pictures are; if False, with those of the same process alone, as
            the authors of FG-CLIP do.
        adapters: Train these in place of all weights: ``dict(type="lora", ...)`` with the
            arguments of `add_lora`; None trains all.
        recompute_activations: Whether blocks keep their input alone for the backward pass, which
            computes the rest again: a third more time for a fraction of the memory.

    Raises:
        ValueError: A weight is no finite number of 0 or above, adapters cannot be added, or
            ``adapters.trained`` names what no objective uses.
    """

    # Of which objectives boxes, and of which the captions of boxes are needed.
    region_objectives: tuple[str, ...] = ()
    region_text_objectives: tuple[str, ...] = ()
    group_objectives: tuple[str, ...] = ()

    def __init__(
        self,
        encoder: DualEncoder,
        weights: dict[str, float],
        gather_regions: bool,
        adapters: dict | None,
        recompute_activations: bool,
    ) -> None:
        super().__init__(RegionCaptionPreprocessor())
        for name, weight in weights.items():
            if not (isinstance(weight, int | float) and math.isfinite(weight) and weight >= 0):
                raise ValueError(f"weight_{name} is {weight!r}: give a number of 0 or above")
        self.encoder = encoder
        self.weights = weights
        self.gather_regions = gather_regions
        if not any(weights[name] for name in ("long", "short", *self.region_objectives)):
            raise ValueError(
                f"the weights {weights} leave no objective that looks at pictures: raise one"
            )
        if adapters is not None:
            self._adapt(adapters)
        self._freeze_idle()
        encoder.recompute_activations(recompute_activations)

    def forward(
        self,
        image: Sequence[Tensor],
        short_caption: Sequence[Caption],
        long_caption: Sequence[Caption],
        boxes: Sequence[Tensor],
        region_captions: Sequence[Sequence[Caption]],
        hard_captions: Sequence[Sequence[Sequence[Caption]]],
        mode: str = "loss",
    ) -> dict[str, Tensor]:
        """Losses of a batch of N images, each argument a list with one entry for each image.

        A caption is a string, or its token ids: a 1-D int64 tensor or a list of ints with begin
        and end as the tokenizer sets them, cut to the length of its tower, without padding.

        Args:
            image: (3, H, W) uint8 RGB; of one size for FG-CLIP, for FG-CLIP 2 of any sizes in
                whole patches.
            short_caption: Caption of the image in a few words.
            long_caption: Caption of the image in several sentences.
            boxes: (K_i, 4) float, xyxy, in pixels of the image.
            region_captions: K_i captions.
            hard_captions: K_i lists of the right caption followed by any number of wrong ones.
                Where there is none (an empty list, or the right caption alone), the region is
                left out of the objectives of hard negatives.
            mode: Only "loss" has a meaning here.

        Returns:
            The weighted losses (keys with "loss") and numbers to be logged.

        Raises:
            ValueError: Another mode than "loss", or a batch that does not fit together.
        """
        if mode != "loss":
            raise ValueError(f"{type(self).__name__} only trains: mode {mode!r} is not supported")
        _check_batch(image, short_caption, long_caption, boxes, region_captions, hard_captions)
        # All towers first, then all losses: so backward runs through the collectives of the losses
        # before any gradient of a tower is ready to be averaged, on each process in one order.
        pictures, pooled = self._encode_pictures(image, boxes)
        captions = {"long": long_caption, "short": short_caption}
        texts = {
            length: self._encode_distinct(length, given)
            for length, given in captions.items()
            if self.weights[length]
        }
        regions = None
        if self._has(self.region_text_objectives):
            regions = self._embed_regions(pooled, region_captions, hard_captions)
        with torch.autocast(pictures.device.type, enabled=False):
            shares = self._share(len(image), regions)
            losses = self._global_losses(pictures, texts, shares[0])
            if regions is not None:
                losses |= self._region_losses(regions, shares[1:])
        return losses

    def published_weights(self) -> dict[str, Tensor]:
        """The encoder's weights as they are published; each of several processes calls this."""
        return self.encoder.published_weights()

    def _encode_pictures(
        self, images: Sequence[Tensor], boxes: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Embeddings of pictures (N, D) and of boxes (sum K_i, D), float32, unit length.

        Boxes have no rows where no objective needs them.
        """
        raise NotImplementedError

    def _pad_token_ids(self, rows: Sequence[Sequence[int]], text_length: str) -> Tensor:
        """(B, L) int64 as the text tower wants them, also of no row."""
        raise NotImplementedError

    def _global_losses(
        self, pictures: Tensor, texts: dict[str, Tensor], shares: RowShares
    ) -> dict[str, Tensor]:
        """Weighted losses of pictures (N, D) with the texts (N, D) of each length."""
        raise NotImplementedError

    def _region_losses(
        self, regions: RegionEmbeddings, shares: Sequence[RowShares]
    ) -> dict[str, Tensor]:
        """Weighted losses of regions; shares of regions, of groups and of wrong captions."""
        raise NotImplementedError

    def _used_parts(self) -> dict[str, bool]:
        """Parameters and modules that some objective does without: whether any here uses them."""
        raise NotImplementedError

    def _has(self, objectives: Sequence[str]) -> bool:
        return any(self.weights[name] for name in objectives)

    def _encode_distinct(self, text_length: str, captions: Sequence[Caption]) -> Tensor:
        """(B, D) float32, unit length, of B captions."""
        distinct = DistinctCaptions()
        rows = distinct.rows_of(captions)
        return self._encode_captions(distinct, text_length)[rows]

    def _encode_captions(self, captions: DistinctCaptions, text_length: str) -> Tensor:
        """(B, D) float32, unit length, of B distinct captions."""
        rows = captions.token_ids(lambda texts: self.encoder.tokenize(texts, text_length))
        input_ids = self._pad_token_ids(rows, text_length).to(self.encoder.device)
        return unit_length(self.encoder.encode_tokens(input_ids, text_length))

    def _embed_regions(
        self,
        pooled: Tensor,
        region_captions: Sequence[Sequence[Caption]],
        hard_captions: Sequence[Sequence[Sequence[Caption]]],
    ) -> RegionEmbeddings:
        """Regions (K, D) with their captions and groups, as `forward` takes these."""
        distinct = DistinctCaptions()
        groups, places = [], []
        if self._has(self.group_objectives):
            every = [group for of_image in hard_captions for group in of_image]
            places = [place for place, group in enumerate(every) if len(group) > 1]
            groups = [distinct.rows_of(every[place]) for place in places]
        region_rows = distinct.rows_of(c for of_image in region_captions for c in of_image)
        texts = self._encode_captions(distinct, self.encoder.region_text_length)
        candidates, valid = _pad_groups(groups)
        hard = HardGroups(pooled[places], texts[candidates], valid.to(texts.device))
        return RegionEmbeddings(pooled, texts[region_rows], hard)

    def _share(self, pictures: int, regions: RegionEmbeddings | None) -> list[RowShares]:
        """Shares of pictures, regions, groups and wrong captions that the losses go over."""
        counts = [pictures]
        if regions is not None:
            valid = regions.groups.valid
            counts += [len(regions.texts), len(valid), int(valid[:, 1:].sum())]
        if self.gather_regions:
            return RowShares.of_all_processes(counts, self.encoder.device)
        gathered = RowShares.of_all_processes(counts[:1], self.encoder.device)
        return gathered + [RowShares.local(count) for count in counts[1:]]

    def _freeze_idle(self) -> None:
        """Train nothing that no objective uses.

        DistributedDataParallel would wait for its gradient, and with one of zero the optimizer's
        decay would shrink it.
        """
        idle = self._idle()
        for name, parameter in self.encoder.named_parameters():
            if name in idle:
                parameter.requires_grad_(False)

    def _idle(self) -> set[str]:
        """Names of the encoder's parameters that no objective uses."""
        parts = [name for name, is_used in self._used_parts().items() if not is_used]
        return {
            name
            for name, _ in self.encoder.named_parameters()
            if any(name == part or name.startswith(part + ".") for part in parts)
        }

    def _adapt(self, adapters: dict) -> None:
        # Before: adapted layers have other names.
        names, idle = [name for name, _ in self.encoder.named_parameters()], self._idle()
        adapt(self.encoder, adapters)
        for beginning in adapters.get("trained", ()):
            if idle.issuperset(name for name in names if name.startswith(beginning)):
                raise ValueError(
                    f"adapters.trained names {quoted(beginning)}, which no objective with the "
                    f"weights {self.weights} uses: leave it out, or raise a weight"
                )


def unit_length(features: Tensor) -> Tensor:
    """Rows (B, D) of any dtype as float32 of unit length."""
    return F.normalize(features.float(), dim=-1)


def _pad_groups(groups: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Rows of uneven groups as (G, longest) int64, and (G, longest) bool: which are real."""
    longest = max(map(len, groups), default=1)
    rows = torch.tensor([[*g, *[0] * (longest - len(g))] for g in groups], dtype=torch.long)
    counts = torch.tensor([len(group) for group in groups], dtype=torch.long)
    return rows.view(-1, longest), torch.arange(longest) < counts[:, None]


def _check_batch(
    image: Sequence[Tensor],
    short_caption: Sequence[Caption],
    long_caption: Sequence[Caption],
    boxes: Sequence[Tensor],
    region_captions: Sequence[Sequence[Caption]],
    hard_captions: Sequence[Sequence[Sequence[Caption]]],
) -> None:
    """Refuse arguments of `RegionTextPretrainer.forward` that do not belong to each other."""
    given = dict(
        short_caption=short_caption,
        long_caption=long_caption,
        boxes=boxes,
        region_captions=region_captions,
        hard_captions=hard_captions,
    )
    if not len(image):
        raise ValueError("the batch has no image: give each process one at least")
    for name, values in given.items():
        if isinstance(values, str) or len(values) != len(image):
            raise ValueError(
                f"{len(image)} images, but {name} is {values!r:.80}: give a list of as many"
            )
    for index, (own, captions, groups) in enumerate(
        zip(boxes, region_captions, hard_captions, strict=True)
    ):
        if not len(own) == len(captions) == len(groups):
            raise ValueError(
                f"image {index} has {len(own)} boxes, {len(captions)} region_captions and "
                f"{len(groups)} lists of hard_captions: give one each for every box"
            )
        lone = next((group for group in groups if isinstance(group, str)), None)
        if lone is not None:
            raise ValueError(
                f"hard_captions of image {index} hold {lone!r:.80}: give a list for each box, the "
                "right caption and then wrong ones"
            )
