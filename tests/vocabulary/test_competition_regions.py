"""A competition may have a bank of regions, which its competitors and its settings carry."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from fgclip_det.vocabulary import Competition, RegionBank, TextEmbeddings, Vocabulary
from tests.messages import says
from tests.tiny_encoders import tiny_fgclip2


@pytest.fixture(scope="module")
def encoder():
    return tiny_fgclip2(speaks=True)


def bank_of(fingerprint: str, rows: int = 4) -> RegionBank:
    return RegionBank(F.normalize(torch.randn(rows, 16), dim=-1), fingerprint)


def test_competitors_carry_it(encoder, tmp_path: Path) -> None:
    bank = bank_of(encoder.fingerprint)
    bank.save(tmp_path / "bank.safetensors")
    texts = TextEmbeddings.encode(Vocabulary.parse("a red star. a dog"), encoder)
    for given in (bank, str(tmp_path / "bank.safetensors"), tmp_path / "bank.safetensors"):
        made = Competition(encoder, ["a cat"], region_bank=given)
        found = made.against(texts)
        assert found.region_bank.hash == bank.hash
        assert found.subset([1]).to("cpu").region_bank is found.region_bank
    assert Competition(encoder, ["a cat"]).against(texts).region_bank is None


def test_settings_tell_which(encoder) -> None:
    one, other = bank_of(encoder.fingerprint), bank_of(encoder.fingerprint, 5)
    without, *others = (
        Competition(encoder, [], region_bank=bank).settings for bank in (None, one, other)
    )
    assert "region_bank" not in without
    assert [made["region_bank"] for made in others] == [one.hash, other.hash]
    assert all({**made, "region_bank": 0} == {**without, "region_bank": 0} for made in others)


def test_another_encoders_is_refused(encoder, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=says("f" * 16, encoder.fingerprint)):
        Competition(encoder, [], region_bank=bank_of("f" * 16))
    with pytest.raises(ValueError, match=says("none.safetensors'")):
        Competition(encoder, [], region_bank=tmp_path / "none.safetensors")
