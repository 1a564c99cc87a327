"""What a text's place among a region bank is worth, by itself: against the bare cosine, a z-score.

Of each query the best region counts, by the cosine of its embedding (the encoder's, or the trained
head's) with the text, or what is made of it. The threshold is fixed on the pictures of --tune such
that 95 % of what is there is found; all figures are of those of --test.

    python benchmarks/region_places.py --tune data/shapes presence_val \
        --test data/shapes presence_test
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import report
from fgclip_det.apis import OpenVocabInferencer
from fgclip_det.apis.detector_loading import BUNDLED
from fgclip_det.datasets.presence_queries import KINDS, AskedPicture, read_queries
from fgclip_det.evaluation.presence import area_under_curve, threshold_at_recall
from fgclip_det.models.regions.regions import Regions
from fgclip_det.vocabulary import RegionBank, Vocabulary

# Of regions (K, D) and texts (C, D) what is larger where they fit.
Form = Callable[[Tensor, Tensor], Tensor]
_PICTURES_AT_ONCE = 32


def forms(bank: RegionBank) -> dict[str, Form]:
    """The bare cosine, and two ways to put it into its place."""
    stored = _unit(bank.embeddings)

    def z_score(regions: Tensor, texts: Tensor) -> Tensor:
        known = stored @ _unit(texts).T
        return (_unit(regions) @ _unit(texts).T - known.mean(dim=0)) / known.std(dim=0)

    return {
        "cosine": lambda regions, texts: _unit(regions) @ _unit(texts).T,
        "z-score": z_score,
        "place": bank.place,
    }


def best_values(
    detector: OpenVocabInferencer, pictures: list[AskedPicture], kinds: dict[str, Form]
) -> dict[tuple[str, str], dict[str, np.ndarray]]:
    """By stream and form the values of the best regions, of each kind of query."""
    names = sorted({query.text for picture in pictures for query in picture.queries})
    texts = detector.encode(Vocabulary.parse(names)).embeddings
    rows = {name: row for row, name in enumerate(names)}
    values: dict[tuple[str, str], dict[str, list[float]]] = {}
    for picture, regions in zip(pictures, _regions(detector, pictures), strict=True):
        asked = texts[[rows[query.text] for query in picture.queries]]
        streams = {"encoder": regions.region_embeddings, "head": regions.detector_embeddings}
        for stream, embeddings in streams.items():
            for form, make in kinds.items():
                own = values.setdefault((stream, form), {kind: [] for kind in KINDS})
                best = make(embeddings, asked).amax(dim=0).tolist()
                for query, value in zip(picture.queries, best, strict=True):
                    own[query.kind].append(value)
    return {key: {kind: np.array(v) for kind, v in own.items()} for key, own in values.items()}


def _regions(detector: OpenVocabInferencer, pictures: list[AskedPicture]) -> Iterator[Regions]:
    for start in tqdm(range(0, len(pictures), _PICTURES_AT_ONCE), desc="pictures"):
        paths = [picture.path for picture in pictures[start : start + _PICTURES_AT_ONCE]]
        for answer in detector.propose(paths, batch_size=8, progress=False):
            yield answer.regions


def _unit(embeddings: Tensor) -> Tensor:
    return F.normalize(embeddings.double(), dim=-1)


def page(tuned: dict, tested: dict) -> str:
    """The table, in Markdown."""
    head = ("embeddings", "value", "recall", "near misses", "absent", "AUC near", "AUC absent")
    rows = []
    for (stream, form), test in tested.items():
        threshold = threshold_at_recall(tuned[stream, form]["present"])
        shares = [f"{100 * (test[kind] >= threshold).mean():.1f} %" for kind in KINDS]
        areas = [f"{area_under_curve(test['present'], test[kind]):.4f}" for kind in KINDS[1:]]
        rows.append([stream, form, *shares, *areas])
    return report.table(head, rows)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    two = {"nargs": 2, "required": True, "metavar": ("SHAPES", "SPLIT")}
    parser.add_argument(
        "--tune", **two, help="folder of tools/prepare_shapes.py, and a split of it"
    )
    parser.add_argument("--test", **two)
    parser.add_argument("--bank", type=Path, default=BUNDLED / "region_bank.safetensors")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args(argv)
    detector = OpenVocabInferencer(device=args.device)
    bank = RegionBank.load(args.bank)
    bank.check_encoder(detector.model.encoder.fingerprint)
    found = []
    for root, split in (args.tune, args.test):
        queries = Path(root) / "annotations" / f"{split}_presence.json"
        with torch.no_grad():
            found.append(
                best_values(detector, read_queries(queries, Path(root) / split), forms(bank))
            )
    print(page(*found))


if __name__ == "__main__":
    main()
