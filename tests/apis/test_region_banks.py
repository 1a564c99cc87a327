"""Which regions of which pictures a bank holds."""

from __future__ import annotations

import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from fgclip_det.apis import OpenVocabInferencer, make_region_bank
from fgclip_det.apis.answers import Answers
from fgclip_det.apis.detector_loading import BUNDLED
from fgclip_det.models.regions.regions import Regions
from fgclip_det.vocabulary import RegionBank
from tests.messages import says

PICTURES = sorted((BUNDLED / "images").glob("*.png"))


class Detector:
    """Finds in a picture of the pixels n so many regions as `found[n]` says; 0 is a broken one.

    The embedding of region i of picture n points along the axis 10 n + i.
    """

    weights_hash = "abcdefabcdefabcd"
    model = SimpleNamespace(encoder=SimpleNamespace(fingerprint="0123456789abcdef"))

    def __init__(self, found: list[int]) -> None:
        self.found = found
        self.looked_at: list[int] = []

    def propose(self, images, *, batch_size, progress, on_error):
        numbers = [int(image[0, 0, 0]) for image in images]
        self.looked_at += numbers
        assert not progress and on_error == "collect"
        answers = (SimpleNamespace(regions=self._regions(n)) for n in numbers if self.found[n])
        return Answers(answers, [(str(n), f"{n} is broken") for n in numbers if not self.found[n]])

    def _regions(self, number: int) -> Regions:
        count = self.found[number]
        axes = 10 * number + torch.arange(count)
        return Regions(
            boxes=torch.tensor([[0.0, 0, 9, 9]]).repeat(count, 1),
            objectness=torch.full((count,), 0.5),
            region_embeddings=F.one_hot(axes, 100).float(),
        )


def pixels(count: int) -> list[np.ndarray]:
    return [np.full((8, 8, 3), n, np.uint8) for n in range(count)]


def axes(bank: RegionBank) -> list[int]:
    return bank.embeddings.argmax(dim=1).tolist()


def test_one_of_each_picture_then_a_second() -> None:
    detector = Detector([3, 1, 3])
    bank = make_region_bank(detector, pixels(3), 7, progress=False)
    rounds = axes(bank)
    assert sorted(rounds) == [0, 1, 2, 10, 20, 21, 22]
    pictures = [axis // 10 for axis in rounds]
    assert sorted(pictures[:3]) == [0, 1, 2] and sorted(pictures[3:5]) == [0, 2]
    assert axes(make_region_bank(detector, pixels(3), 5, progress=False)) == rounds[:5]
    assert bank.encoder_fingerprint == "0123456789abcdef"
    assert bank.about["pictures"] == 3 and bank.about["detector"] == detector.weights_hash


def test_fewer_than_asked_for_is_said() -> None:
    with pytest.warns(UserWarning, match=says("3 regions", "4")):
        assert sorted(axes(make_region_bank(Detector([3]), pixels(1), 4, progress=False))) == [
            0,
            1,
            2,
        ]


def test_regions_are_drawn_by_chance_from_all() -> None:
    detector = Detector([9])
    drawn = [
        tuple(axes(make_region_bank(detector, pixels(1), 1, seed, progress=False)))
        for seed in (*range(40), 2**70)
    ]
    assert len(set(drawn)) > 5 and drawn[0] == tuple(
        axes(make_region_bank(detector, pixels(1), 1, 0, progress=False))
    )


def test_a_few_of_many_pictures_are_looked_into_by_chance() -> None:
    detector = Detector([2] * 10)
    chosen = {
        tuple(axes(make_region_bank(detector, pixels(10), 4, seed, progress=False)))
        for seed in (0, 0, 1, 2)
    }
    assert len(chosen) == 3 and len(detector.looked_at) == 16
    assert all(len({axis // 10 for axis in one}) == 4 for one in chosen)


def test_broken_pictures_are_told_of_and_left_out() -> None:
    detector = Detector([0, 2])
    with pytest.warns(UserWarning, match="0 is broken"):
        assert sorted(axes(make_region_bank(detector, pixels(2), 2, progress=False))) == [10, 11]
    with (
        pytest.warns(UserWarning, match="0 is broken"),
        pytest.raises(ValueError, match=says("0 of 2 pictures")),
    ):
        make_region_bank(Detector([0, 0]), pixels(2), 2, progress=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"number": 0}, says("number is 0")),
        ({"number": 2.5}, says("number is 2.5")),
        ({"seed": -1}, says("seed is -1")),
        ({"seed": True}, says("seed is True")),
        ({"batch_size": 0}, says("batch_size is 0")),
    ],
)
def test_settings_out_of_range_are_refused(options: dict, message) -> None:
    detector = Detector([1])
    with pytest.raises(ValueError, match=message):
        make_region_bank(detector, pixels(1), **options)
    assert not detector.looked_at


def test_the_bundled_model_makes_one(bundled_detector: OpenVocabInferencer) -> None:
    bank = make_region_bank(bundled_detector, PICTURES, 4, progress=False)
    assert len(bank) == 4
    again = make_region_bank(bundled_detector, PICTURES, 4, batch_size=3, progress=False)
    torch.testing.assert_close(again.embeddings, bank.embeddings, atol=2e-3, rtol=0)
    texts = bundled_detector.encode("a ring. a cross")
    regions = bundled_detector.propose(PICTURES[:1], progress=False)[0].regions
    places = bank.features(regions, texts.embeddings)["place"]
    assert places.shape == (len(regions), 2) and places.isfinite().all()


def test_a_blank_picture_is_no_reason_to_fail(
    bundled_detector: OpenVocabInferencer, tmp_path: Path
) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "blank.png")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        bank = make_region_bank(bundled_detector, [tmp_path, PICTURES[0]], 50, progress=False)
    assert 1 <= len(bank) <= 50


def test_the_bundled_bank_is_the_bundled_encoders(bundled_detector: OpenVocabInferencer) -> None:
    path = BUNDLED / "region_bank.safetensors"
    bank = RegionBank.load(path)
    bank.check_encoder(bundled_detector.model.encoder.fingerprint)
    assert bank.about["detector"] == bundled_detector.weights_hash
    assert (len(bank), bank.about["pictures"]) == (1024, 600)
    assert path.stat().st_size < 300_000
