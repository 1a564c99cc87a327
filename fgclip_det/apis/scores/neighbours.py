"""What else a box that was found is like."""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter

import torch
from torch import Tensor

from fgclip_det.apis.detections import Detections
from fgclip_det.apis.image_regions import ImageRegions
from fgclip_det.models.regions.region_classification import to_original
from fgclip_det.vocabulary import TextEmbeddings
from fgclip_det.vocabulary.competing.competitors import Competitors
from fgclip_det.vocabulary.same_words import words_said


@dataclass(frozen=True)
class Neighbour:
    """Another name that a box is like.

    Attributes:
        name: Of those that were asked for, or that compete.
        cosine: Of the name with the encoder's embedding of the region, in [-1, 1].
        own: That of the name the box was found by.
    """

    name: str
    cosine: float
    own: float


@torch.no_grad()
def neighbours(
    image: ImageRegions, found: Detections, asked: TextEmbeddings
) -> list[Neighbour | None]:
    """The name nearest to each box beside its own, by the encoder alone.

    Looked through are what was asked for, the negatives of one's own that are set, and the model's
    own competition, whatever else is set. Names that say the same as the box's own are passed over;
    where the competition words names, the cosines are of these words.

    Args:
        image: Regions that `found` is of.
        found: M boxes.
        asked: What was asked for.

    Returns:
        One for each box; None where there is no other name.
    """
    if not len(found):
        return []
    regions = image.regions.to("cpu")
    # A box that was found is that of a region, clipped.
    apart = torch.cdist(found.boxes, to_original(regions.boxes, regions.image_meta).float(), p=1)
    rows = regions.region_embeddings[apart.argmin(dim=1)].float()
    competition, negatives = image.detector.competition, image.detector.negatives
    # As the competition words them, so that all cosines are of like texts.
    judged = attrgetter("embeddings") if competition is None else competition.judged
    names = [*asked.names]
    texts = [judged(asked)]
    hidden = [torch.eye(len(asked), dtype=torch.bool)]
    if negatives is not None:
        names += negatives.names
        texts.append(judged(negatives))
        hidden.append(_saying_the_same(asked, negatives))
    if competition is not None:
        rivals = competition.against(asked)
        names += rivals.texts
        texts.append(rivals.embeddings)
        hidden.append(_hidden(rivals, len(asked)))
    cosines = rows @ torch.cat([one.detach().cpu().float() for one in texts]).T
    itself = cosines.gather(1, found.labels[:, None])[:, 0].tolist()
    cosines = cosines.masked_fill(torch.cat(hidden, dim=1)[found.labels], -2.0)
    best = cosines.max(dim=1)
    told = zip(best.values.tolist(), best.indices.tolist(), itself, strict=True)
    return [Neighbour(names[row], value, self) if value > -2 else None for value, row, self in told]


def _saying_the_same(asked: TextEmbeddings, others: TextEmbeddings) -> Tensor:
    """(C, N) bool, which of the others say the same as a name."""
    here, there = (words_said(one.names, one.prompts) for one in (asked, others))
    return torch.tensor([[bool(own & other) for other in there] for own in here])


def _hidden(rivals: Competitors, count: int) -> Tensor:
    """(C, N) bool, what of the competition does not compete with a name."""
    hidden = torch.zeros(count, len(rivals), dtype=torch.bool)
    # An exchange is made of one name, and says what another may be itself.
    hidden[:, rivals.bank_size :] = True
    hidden[tuple(rivals.exchanges.cpu().T)] = False
    hidden[tuple(rivals.excluded.cpu().T)] = True
    return hidden
