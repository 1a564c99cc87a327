"""What else boxes are like: neither their own name, nor what says the same."""

from __future__ import annotations

import pytest
import torch

from fgclip_det.apis import neighbours
from fgclip_det.apis.detector_loading import BUNDLED
from fgclip_det.vocabulary import Vocabulary

FILES = sorted((BUNDLED / "images").iterdir())


def found_in(detector, texts: str):
    """Regions of the first bundled picture, what is found in them, and what was asked for."""
    (image,) = detector.propose(str(FILES[0]), progress=False)
    asked = detector.encode(Vocabulary.parse(texts))
    (found,) = detector.classify([image], [asked], None, None, True)
    return image, found, asked


def test_a_name_is_no_neighbour_of_itself(calibrated_detector) -> None:
    # "a purple cross" is what exchanging a word of "a yellow cross" makes, too.
    texts = "a blue dotted star. a purple cross. a yellow cross"
    image, found, asked = found_in(calibrated_detector, texts)
    near = neighbours(image, found, asked)
    assert sorted(found.names) == sorted(asked.names)
    for name, other in zip(found.names, near, strict=True):
        assert other.name != name
        assert -1 <= other.cosine <= 1 and -1 <= other.own <= 1


def test_negatives_of_ones_own_are_neighbours_too(calibrated_detector, monkeypatch) -> None:
    detector, name, other = calibrated_detector, "a purple cross", "a purple dotted thing"
    # The last says the same as what is asked for.
    detector.set_negatives(["a dog", other, "the purple crosses"])
    image, found, asked = found_in(detector, f"a blue dotted star. {name}")
    near = dict(zip(found.names, neighbours(image, found, asked), strict=True))
    assert near["a blue dotted star"].name not in detector.negatives.names
    assert near[name].name == other
    encoded = detector.encode([other]).embeddings.float()
    best = (image.regions.region_embeddings.float() @ encoded.T).max().item()
    assert near[name].own < near[name].cosine <= best + 1e-5
    with monkeypatch.context() as patch:
        patch.setattr(detector, "competition", None)
        near = dict(zip(found.names, neighbours(image, found, asked), strict=True))
    assert near[name].name == other


def test_without_competition_the_other_names_are_left(calibrated_detector, monkeypatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(calibrated_detector, "competition", None)
        image, found, asked = found_in(calibrated_detector, "a blue dotted star. a purple cross")
        near = dict(zip(found.names, neighbours(image, found, asked), strict=True))
        assert near["a blue dotted star"].name == "a purple cross"
        assert near["a purple cross"].name == "a blue dotted star"
        image, found, asked = found_in(calibrated_detector, "a blue dotted star")
        assert set(neighbours(image, found, asked)) == {None}


def test_cosines_are_those_of_the_encoder(calibrated_detector) -> None:
    calibrated_detector.set_negatives(None)
    image, found, asked = found_in(calibrated_detector, "a blue dotted star. a purple cross")
    regions = image.regions
    best = (regions.region_embeddings.float() @ asked.embeddings.float().T).max(dim=0).values
    own = {n: o.own for n, o in zip(found.names, neighbours(image, found, asked), strict=True)}
    for name, cosine in zip(asked.names, best.tolist(), strict=True):
        assert own[name] <= cosine + 1e-5


@pytest.mark.parametrize("negatives", ["auto", None])
def test_nothing_found_has_no_neighbours(calibrated_detector, negatives) -> None:
    calibrated_detector.set_negatives(negatives)
    image, found, asked = found_in(calibrated_detector, "a blue dotted star")
    none = torch.zeros(len(found), dtype=torch.bool)
    empty = type(found)(
        **{
            **vars(found),
            "names": (),
            "boxes": found.boxes[none],
            "scores": found.scores[none],
            "labels": found.labels[none],
        }
    )
    assert neighbours(image, empty, asked) == []
