"""Places of cosines among those of the same text: closed forms, loops, files of any state."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from fgclip_det.io import read_tensor_header
from fgclip_det.vocabulary import RegionBank, region_bank
from tests.messages import says

MAKER = "0123456789abcdef"


def unit(rows: int, width: int = 8, seed: int = 0) -> torch.Tensor:
    drawn = torch.randn(rows, width, generator=torch.Generator().manual_seed(seed))
    return F.normalize(drawn, dim=-1)


@pytest.fixture
def bank() -> RegionBank:
    return RegionBank(unit(200), MAKER, {"pictures": 3, "made with": "a tool"})


def by_hand(bank: RegionBank, regions: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
    """Loops over pairs, in float64."""
    rows = [[float(v) for v in row] for row in bank.embeddings.double()]

    def cosine(one: list[float], other: list[float]) -> float:
        dot = sum(a * b for a, b in zip(one, other, strict=True))
        return dot / (sum(a * a for a in one) * sum(b * b for b in other)) ** 0.5

    count = max(1, round(bank.near_share * len(rows)))
    out = torch.zeros(len(regions), len(texts), dtype=torch.float64)
    for c, text in enumerate(texts.double().tolist()):
        near = sorted((cosine(row, text) for row in rows), reverse=True)[:count]
        for k, region in enumerate(regions.double().tolist()):
            out[k, c] = 2 * cosine(region, text) - sum(near) / count
    return out


@pytest.mark.parametrize("share", [0.001, 0.02, 0.5, 1])
def test_places_are_those_of_loops(share: float) -> None:
    bank = RegionBank(unit(60), MAKER, near_share=share)
    regions, texts = 3 * unit(5, seed=1), 0.5 * unit(4, seed=2)
    places = bank.place(regions, texts)
    assert places.dtype == torch.float32 and places.shape == (5, 4)
    torch.testing.assert_close(places.double(), by_hand(bank, regions, texts), atol=1e-6, rtol=1e-6)


def test_a_text_near_to_everything_is_worth_less() -> None:
    """The axis x is a hub: the same cosine with it is less than with y, which is near to none."""
    bank = RegionBank(F.normalize(torch.tensor([[1.0, 0.1, 0], [1, 0, 0.1], [0, 0, 1]])), MAKER)
    hub, other = bank.place(torch.tensor([[1.0, 1.0, 0.0]]), torch.eye(3)[:2])[0].tolist()
    assert hub == pytest.approx(2 * 0.5**0.5 - 0.9950, abs=1e-3)
    assert other == pytest.approx(2 * 0.5**0.5 - 0.0995, abs=1e-3)


def test_one_as_near_as_the_nearest_has_its_cosine() -> None:
    bank = RegionBank(unit(1).repeat(7, 1), MAKER)
    texts = unit(3, seed=1)
    torch.testing.assert_close(bank.place(unit(1), texts), unit(1) @ texts.T, atol=1e-3, rtol=0)


def test_others_beside_order_and_blocks_change_nothing(bank: RegionBank, monkeypatch) -> None:
    regions, texts = unit(6, seed=1), unit(40, seed=2)
    together = bank.place(regions, texts)
    monkeypatch.setattr(region_bank, "_TEXTS_AT_ONCE", 3)
    again = RegionBank(bank.embeddings, MAKER)
    backwards = again.place(regions.flip(0), texts.flip(0)).flip(0, 1)
    torch.testing.assert_close(backwards, together, atol=1e-7, rtol=0)
    for c in (0, 17, 39):
        alone = RegionBank(bank.embeddings, MAKER).place(regions[2:3], texts[c : c + 1])
        torch.testing.assert_close(alone, together[2:3, c : c + 1], atol=1e-7, rtol=0)


@pytest.mark.parametrize(("rows", "columns"), [(0, 3), (3, 0), (0, 0), (1, 1)])
def test_none_and_one(bank: RegionBank, rows: int, columns: int) -> None:
    assert bank.place(unit(rows), unit(columns)).shape == (rows, columns)


def test_equal_texts_are_computed_once_and_few_are_kept(bank: RegionBank, monkeypatch) -> None:
    monkeypatch.setattr(region_bank, "_KEPT_TEXTS", 5)
    texts = unit(1, seed=3).repeat(4, 1)
    places = bank.place(unit(2), texts)
    assert len(bank._kept) == 1 and (places == places[:, :1]).all()
    many = bank.place(unit(2), unit(9, seed=4))
    assert len(bank._kept) == 5
    looked_at = []
    monkeypatch.setattr(torch.Tensor, "topk", lambda *_, **__: looked_at.append(1))
    kept = unit(9, seed=4)[4:]
    torch.testing.assert_close(bank.place(unit(2), kept), many[:, 4:], atol=1e-7, rtol=0)
    assert not looked_at
    monkeypatch.undo()
    torch.testing.assert_close(bank.place(unit(2), unit(9, seed=4)), many, atol=1e-7, rtol=0)


def test_ten_thousand_texts_stay_in_bounds() -> None:
    bank = RegionBank(unit(512, 16), MAKER)
    places = bank.place(unit(2, 16), unit(10_000, 16, seed=1))
    assert places.isfinite().all() and places.abs().max() <= 3
    assert len(bank._kept) == 10_000


def test_features_are_of_the_same_encoder(bank: RegionBank) -> None:
    regions = SimpleNamespace(region_embeddings=unit(2), encoder_fingerprint=MAKER)
    (name,), (value,) = zip(*bank.features(regions, unit(3)).items(), strict=True)
    assert name == "place" and torch.equal(value, bank.place(unit(2), unit(3)))
    regions.encoder_fingerprint = ""  # of regions made by hand
    assert "place" in bank.features(regions, unit(3))
    regions.encoder_fingerprint = "f" * 16
    with pytest.raises(ValueError, match=says(MAKER, "f" * 16, "tools/make_region_bank.py")):
        bank.features(regions, unit(3))


def test_save_and_load(bank: RegionBank, tmp_path) -> None:
    path = tmp_path / "new" / "bank.safetensors"
    bank.save(path)
    loaded = RegionBank.load(path)
    assert (loaded.about, loaded.near_share) == (bank.about, bank.near_share)
    assert loaded.encoder_fingerprint == MAKER and loaded.hash == bank.hash
    assert torch.equal(loaded.embeddings, bank.embeddings)
    assert torch.equal(loaded.place(unit(2), unit(3)), bank.place(unit(2), unit(3)))
    assert path.stat().st_size < 200 * 8 * 2 + 600
    loaded.save(path)
    assert RegionBank.load(path).hash == bank.hash


def test_the_hash_is_of_what_places_depend_on(bank: RegionBank) -> None:
    same = RegionBank(bank.embeddings, MAKER, {"made": "elsewhere"})
    assert same.hash == bank.hash
    others = [
        RegionBank(bank.embeddings, "f" * 16),
        RegionBank(bank.embeddings, MAKER, near_share=0.03),
        RegionBank(bank.embeddings[:-1], MAKER),
        RegionBank(bank.embeddings.flip(0), MAKER),
    ]
    assert len({bank.hash, *(other.hash for other in others)}) == 5


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("embeddings", "message"),
    [
        (torch.zeros(0, 8), says("(0, 8)", "holds no region")),
        (torch.zeros(8), says("(8,)")),
        (torch.ones(2, 1, dtype=torch.int64), says("int64")),
        (torch.zeros(2, 8), says("0", "unit length")),
        (torch.ones(2, 8), says("2.828", "unit length")),
        (torch.full((2, 8), NAN), says("NaN", "16 times")),
        (torch.full((1, 1), INF), says("infinity")),
    ],
)
def test_what_is_no_bank_is_refused(embeddings: torch.Tensor, message) -> None:
    with pytest.raises(ValueError, match=message):
        RegionBank(embeddings, MAKER)


@pytest.mark.parametrize("share", [0, -0.1, 1.01, NAN, True, "0.1"])
def test_shares_out_of_range_are_refused(share: object) -> None:
    with pytest.raises(ValueError, match="near_share"):
        RegionBank(unit(2), MAKER, near_share=share)


@pytest.mark.parametrize("value", [NAN, INF])
def test_no_place_is_told_of_what_is_no_number(bank: RegionBank, value: float) -> None:
    broken = unit(2)
    broken[1, 3] = value
    with pytest.raises(ValueError, match=says("regions", "NaN")):
        bank.place(broken, unit(2))
    with pytest.raises(ValueError, match=says("texts", "NaN")):
        bank.place(unit(2), broken)
    assert not bank._kept
    for wrong in (unit(2, 9), unit(2)[0]):
        with pytest.raises(ValueError, match=says("8 values")):
            bank.place(unit(2), wrong)


@pytest.fixture
def file(bank: RegionBank, tmp_path):
    path = tmp_path / "bank.safetensors"
    bank.save(path)
    return path


@pytest.mark.parametrize(
    "change",
    [
        {"encoder_fingerprint": "f" * 16},
        {"near_share": "0.5"},
        {"near_share": "nan"},
        {"near_share": "much"},
        {"about": "["},
        {"about": "[]"},
        {"hash": ""},
        {"hash": None},
        {"near_share": None},
    ],
)
def test_altered_labels_are_refused(file, change: dict) -> None:
    labels = {**read_tensor_header(file).labels, **change}
    labels = {key: value for key, value in labels.items() if value is not None}
    save_file(load_file(file), file, metadata=labels)
    with pytest.raises(ValueError, match=says("bank.safetensors'", "altered")):
        RegionBank.load(file)


def test_altered_numbers_are_refused(file) -> None:
    labels = read_tensor_header(file).labels
    whole = load_file(file)["embeddings"]
    one_less = {"embeddings": whole[:-1].contiguous()}
    longer = {"embeddings": whole * 2}
    for tensors in (one_less, longer, {"other": whole}, {"embeddings": whole.float()}):
        save_file(tensors, file, metadata=labels)
        with pytest.raises(ValueError, match=says("bank.safetensors'", "altered")):
            RegionBank.load(file)
    whole[0, 0] = NAN
    save_file({"embeddings": whole}, file, metadata=labels)
    with pytest.raises(ValueError, match=says("bank.safetensors'", "NaN", "1 times")):
        RegionBank.load(file)


def test_other_files_are_refused(file, tmp_path) -> None:
    whole = file.read_bytes()
    file.write_bytes(whole[:-8])
    with pytest.raises(ValueError, match=says("bank.safetensors'", "truncated")):
        RegionBank.load(file)
    save_file({"embeddings": unit(2)}, file, metadata={"kind": "fgclip_det.TextEmbeddings"})
    with pytest.raises(ValueError, match=says("no region bank", "tools/make_region_bank.py")):
        RegionBank.load(file)
    with pytest.raises(ValueError, match=says("absent.safetensors'")):
        RegionBank.load(tmp_path / "absent.safetensors")


def test_what_json_cannot_say_is_not_saved(tmp_path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        RegionBank(unit(2), MAKER, {"share": NAN}).save(tmp_path / "x.safetensors")
    assert not list(tmp_path.iterdir())
