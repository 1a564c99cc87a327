"""Random competitors, regions and heads, all seeded; and what they come to, by loops."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from mmengine.config import ConfigDict

from fgclip_det.models import OpenVocabRoIHead, Regions, RegionTextHead
from fgclip_det.vocabulary.competition import Competitors

DIM = 6


def directions(count, dim=DIM, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(count, dim, generator=generator), dim=-1)


def pairs(*given):
    return torch.tensor(given, dtype=torch.int64).reshape(-1, 2)


def competitors(bank, exchanged, excluded=(), exchanges=(), fingerprint=""):
    """Of embeddings (M, D) and (N - M, D), and pairs."""
    texts = tuple(f"text {row}" for row in range(len(bank) + len(exchanged)))
    embeddings = torch.cat([bank, exchanged])
    return Competitors(
        texts, embeddings, len(bank), pairs(*excluded), pairs(*exchanges), fingerprint
    )


def regions_of(count, dim=DIM, seed=1, **more):
    generator = torch.Generator().manual_seed(seed)
    corners = 400 * torch.rand(count, 2, generator=generator)
    return Regions(
        boxes=torch.cat([corners, corners + 50], dim=1),
        objectness=torch.rand(count, generator=generator),
        region_embeddings=directions(count, dim, seed + 1),
        detector_embeddings=directions(count, dim, seed + 2),
        image_meta=dict(img_shape=(500, 500)),
        **more,
    )


def roi_head(dim=DIM, **test_cfg):
    """A second stage whose box head has no hidden layers; background and temperatures are set."""
    bbox_head = dict(type="OpenVocabBBoxHead", in_channels=1, embed_dim=dim, roi_feat_size=1)
    bbox_head.update(num_shared_convs=0, num_shared_fcs=0, num_cls_fcs=0, num_reg_fcs=0)
    extractor = dict(type="RoIAlignExtractor", out_channels=1, featmap_strides=[4], output_size=1)
    settings = dict(alpha=0.1, beta=0.8, vlm_temperature=15.0, score_thr=0.0, max_per_img=100)
    settings.update(nms=dict(iou_threshold=0.5), **test_cfg)
    head = OpenVocabRoIHead(
        extractor, {**bbox_head, "temperature": 9.0}, test_cfg=ConfigDict(settings)
    )
    head.set_background(directions(1, dim, seed=9)[0])
    return head.eval()


def text_head(**settings):
    return RegionTextHead(**{"temperature": 12.0, "alpha": 0.3, "beta": 0.6, **settings})


def sources(head, regions):
    """By name: embeddings, temperature, background or None, whether it is the encoder."""
    if isinstance(head, RegionTextHead):
        return {"encoder": (regions.region_embeddings, head.temperature, None, True)}
    det, vlm = head.bbox_head.classifier, head.vlm_classifier
    return {
        "detector": (regions.detector_embeddings, det.temperature, det.background_embedding, False),
        "encoder": (regions.region_embeddings, vlm.temperature, vlm.background_embedding, True),
    }


def by_loops(head, regions, texts, is_base, rivals, asked=()):
    """Log-odds and log-shares by stream, and who is beaten: one region, one name after another.

    Args:
        asked: Rows of the competitors that are asked for themselves.
    """
    settings = head if isinstance(head, RegionTextHead) else head.test_cfg
    odds, shares, sums = {}, {}, {}
    own = {}
    bank = range(rivals.bank_size)
    gone = {tuple(pair) for pair in rivals.excluded.tolist()}
    swapped = {tuple(pair) for pair in rivals.exchanges.tolist()}
    against = [
        [row for row in bank if (c, row) not in gone]
        + [row for row in range(len(rivals.texts)) if (c, row) in swapped]
        for c in range(len(texts))
    ]
    for name, (embeddings, temperature, background, of_encoder) in sources(head, regions).items():
        odds[name], shares[name] = torch.zeros(2, len(regions), len(texts), dtype=torch.float64)
        for k, embedding in enumerate(embeddings):

            def logit(text, embedding=embedding, temperature=temperature):
                cosine = F.cosine_similarity(embedding.double(), text.double(), dim=0)
                return float(cosine * temperature)

            rest = [] if background is None else [logit(background)]
            everyone = [logit(text) for text in texts]
            rival = [logit(text) for text in rivals.embeddings]
            for c, mine in enumerate(everyone):
                weight = settings.alpha if is_base[c] else settings.beta
                weight = weight if of_encoder else 1 - weight
                others = [rival[row] for row in against[c]]
                unasked = [rival[row] for row in against[c] if row not in asked]
                odds[name][k, c] = mine - _logsumexp(others + rest)
                shares[name][k, c] = mine - _logsumexp(everyone + unasked + rest)
                own[k, c] = own.get((k, c), 0) + weight * mine
                for row in against[c]:
                    sums[k, c, row] = sums.get((k, c, row), 0) + weight * rival[row]
    lost = torch.zeros(len(regions), len(texts), dtype=torch.bool)
    for (k, c, _), value in sums.items():
        lost[k, c] |= value > own[k, c]
    return odds, shares, lost


def _logsumexp(values):
    peak = max(values, default=-math.inf)
    if peak == -math.inf:
        return peak
    return peak + math.log(math.fsum(math.exp(value - peak) for value in values))


HEADS = {"two stages": roi_head, "text head": text_head}
BANK, SWAPPED = directions(7, seed=20), directions(5, seed=21)
TEXTS = directions(4, seed=22)
IS_BASE = torch.tensor([True, False, False, True])

CASES = {
    "bank": competitors(BANK, SWAPPED[:0]),
    "exclusions": competitors(BANK, SWAPPED[:0], [(0, 2), (0, 6), (3, 2), (3, 6), (2, 0)]),
    "nothing of the bank left": competitors(BANK, SWAPPED[:0], [(1, row) for row in range(7)]),
    "exchanges": competitors(BANK[:0], SWAPPED, (), [(0, 0), (0, 3), (2, 3), (2, 4), (2, 1)]),
    "both": competitors(BANK, SWAPPED, [(1, 4), (2, 5)], [(1, 7), (1, 8), (3, 11)]),
    "nothing": competitors(BANK[:0], SWAPPED[:0]),
    "said twice": competitors(BANK, SWAPPED, [(1, 4), (1, 4)], [(1, 7), (1, 7)]),
}
