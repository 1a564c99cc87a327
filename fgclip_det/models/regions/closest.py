"""What comes closest where nothing is detected, and what fits its place better."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch

from fgclip_det.models.regions.competition import counted, fused, leads_of_negatives
from fgclip_det.models.regions.region_classification import BestOfEach, Rules
from fgclip_det.models.regions.regions import Regions
from fgclip_det.models.regions.rivals import Rivals
from fgclip_det.models.regions.streams import Streams

# Numbers of a matrix that exist at a time.
_AT_ONCE = 1 << 22


class ClosestName(NamedTuple):
    """A name where a picture is most like it.

    Attributes:
        name: Its row.
        certainty: Its confidence there, or its score where there are no confidences.
        rival: The row of what fits better there, of the competitors and, behind these, of the
            negatives; None where nothing does.
    """

    name: int
    certainty: float
    rival: int | None


@torch.no_grad()
def closest_names(
    head: Any, regions: Regions, ready: Mapping[str, Any], best: BestOfEach, most: int
) -> list[ClosestName]:
    """The names that come closest to being detected, best first.

    Args:
        head: A second stage that judges, such as `OpenVocabRoIHead`.
        regions: Of one image.
        ready: Keywords of its `classify`, the rules with competitors among them.
        best: Of the names, from `classify` with these.
        most: The most names.
    """
    rules: Rules = ready["rules"]
    rivals = rules.competitors
    given = {key: value for key, value in ready.items() if key != "rules"}
    names = best.ranks[: rivals.count].sort(descending=True, stable=True).indices[:most]
    places, told = best.regions[names], best.ranks[names]
    if rules.figure is not None and rules.figure.name == "evidence":
        judged = head.judge(regions[places], **given, competitors=rivals)
        told = judged.scores.gather(1, names[:, None]).squeeze(1)
    if len(regions) * len(rivals.bank) > _AT_ONCE:
        regions, places = regions[places], torch.arange(len(places), device=places.device)
    # Of all regions, if they are few: what they have to do with the bank is kept since `classify`.
    streams = head.streams(regions, given["is_base"], rivals).at(places)
    return [
        ClosestName(name, certainty, _rival(streams, rivals, name, row))
        for row, (name, certainty) in enumerate(zip(names.tolist(), told.tolist(), strict=True))
    ]


def _rival(streams: Streams, rivals: Rivals, name: int, place: int) -> int | None:
    """The row of what fits a region of streams best, if that is better than a name."""
    every, weights = counted(streams, rivals)
    weights = [one if isinstance(one, float) else float(one[name]) for one in weights]
    own = fused([stream.judged[place] for stream in every], weights)
    bank = fused([stream.bank.logits[place] for stream in every], weights)
    bank = bank.masked_fill(~rivals.kept[rivals.kept_of[name]], -torch.inf)
    pairs = (rivals.exchanges[:, 0] == name).nonzero().squeeze(1)
    exchanged = fused([stream.exchanged[place, pairs] for stream in every], weights)
    negatives = own[:0]
    if rivals.count < len(rivals):
        rows = torch.arange(len(rivals) - rivals.count).to(pairs)
        leads = leads_of_negatives(every, weights, rivals, torch.full_like(rows, name), rows)
        negatives = own[name] + leads[place]
    values = torch.cat([bank, exchanged, negatives])
    behind = torch.arange(len(rivals) - rivals.count).to(pairs) + rivals.sizes[1]
    rows = torch.cat(
        [
            torch.arange(len(bank)).to(pairs),
            *(len(bank) + some for some in (rivals.exchanges[pairs, 1], behind)),
        ]
    )
    if not len(values) or values.max() <= own[name]:
        return None
    return int(rows[values.argmax()])
