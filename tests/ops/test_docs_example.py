"""The numbers of docs/roi_align.md: its worked example and its counts."""

from __future__ import annotations

import importlib
import math
import sys
from fractions import Fraction
from pathlib import Path

import pytest
import torch
import torchvision

from fgclip_det.ops import reference, roi_align

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "roi_align.md").read_text(encoding="utf-8")
BOX = [-2.0, 2.25, 3.0, 4.75]
CELLS = 4


def row_of(label: str) -> list[str]:
    """The cells of the one table row whose first cell is `label`, without it."""
    rows = [line.strip("| \n").split(" | ") for line in PAGE.splitlines() if line.startswith("|")]
    (found,) = [row[1:] for row in rows if row[0].strip() == label]
    return found


def fractions(text: str) -> list[Fraction]:
    return [Fraction(word) for word in text.split(", ")]


@pytest.mark.parametrize(("axis", "low", "high"), [("x", BOX[0], BOX[2]), ("y", BOX[1], BOX[3])])
def test_axis_of_the_example(axis: str, low: float, high: float) -> None:
    start, extent, samples, positions, weights = map(fractions, row_of(axis))
    assert start == [Fraction(low) - Fraction(1, 2)]
    assert extent == [Fraction(high) - Fraction(low)]
    assert samples == [math.ceil(extent[0])] == [len(positions)]
    assert positions == [
        start[0] + (i + Fraction(1, 2)) * extent[0] / samples[0] for i in range(len(positions))
    ]
    expected = reference.axis_weights(
        torch.tensor([low], dtype=torch.float64),
        torch.tensor([high], dtype=torch.float64),
        size=CELLS,
        bins=1,
        spatial_scale=1.0,
        sampling_ratio=-1,
        aligned=True,
    )
    assert [float(weight) for weight in weights] == pytest.approx(expected[0, 0].tolist())


def test_result_and_gradient_of_the_example() -> None:
    wx, wy = (fractions(row_of(axis)[-1]) for axis in "xy")
    total = sum(wy[a] * wx[b] * (CELLS * a + b) for a in range(CELLS) for b in range(CELLS))
    assert total == Fraction(419, 45)
    assert f"The\nbin is `5/18 * 7 + 13/18 * 51/5 = {total}`, or {float(total):.4f}" in PAGE
    features = torch.arange(16.0).view(1, 1, CELLS, CELLS).requires_grad_()
    expected = torch.tensor([[float(a * b) for b in wx] for a in wy])
    for pool in (roi_align, torchvision.ops.roi_align):
        pooled = pool(features, [torch.tensor([BOX])], 1, aligned=True)
        assert pooled.item() == pytest.approx(float(total))
        (gradient,) = torch.autograd.grad(pooled, features)
        torch.testing.assert_close(gradient[0, 0], expected)


def count(boxes: int, bins: int) -> dict[str, int]:
    """Samples, cells with a weight and multiply-adds in two stages, of a case of the benchmark."""
    cases = importlib.import_module("benchmarks.roi_align_cases")
    (case,) = [
        case
        for case in cases.cases_of("a", quick=False)
        if (case.grids[0][0], case.channels, case.boxes, case.bins, case.images)
        == (64, 768, boxes, bins, 1)
    ]
    (part,) = cases.make_parts(case, torch.float32, "cpu", 0)
    samples, touched, window = [], [], []
    for low, size in ((2, part.grid[0]), (1, part.grid[1])):
        edges = part.rois[:, low], part.rois[:, low + 2]
        weights = reference.axis_weights(
            *edges,
            size=size,
            bins=bins,
            spatial_scale=part.spatial_scale,
            sampling_ratio=-1,
            aligned=True,
        )
        samples.append(bins * ((edges[1] - edges[0]) * part.spatial_scale / bins).ceil())
        touched.append((weights > 0).sum(dim=(1, 2)))
        window.append((weights.sum(dim=1) > 0).sum(dim=1))
    return {
        "S": int((samples[0] * samples[1]).sum()),
        "A": int((touched[0] * touched[1]).sum()),
        "V + H": int((touched[0] * window[1] + bins * touched[1]).sum()),
    }


def test_counted_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(ROOT), *sys.path])
    channels, cells = 768, 64 * 64
    for column, (boxes, bins) in enumerate(((1000, 1), (512, 7))):
        found = count(boxes, bins)
        outputs = boxes * bins**2
        giga = {
            "gather: GFLOP": 8 * found["S"] * channels,
            "separable: GFLOP, by `A`": 2 * found["A"] * channels,
            "GEMM: GFLOP": 2 * outputs * cells * channels,
            "gather forward: GB": 16 * found["S"] * channels,
            "separable forward: GB": 4 * found["A"] * channels,
            "scatter backward: GB": 32 * found["S"] * channels,
        }
        counts = {
            "`S`, samples": "S",
            "`A`, cells with a weight": "A",
            "`V + H`, two stages": "V + H",
        }
        for label, name in counts.items():
            assert int(row_of(label)[column]) == found[name], label
        for label, value in giga.items():
            assert row_of(label)[column] == f"{value / 1e9:.3f}", label
        traffic = 4 * (cells + outputs) * channels
        assert row_of("map and result: MB")[column] == f"{traffic / 1e6:.1f}"


def test_rooflines() -> None:
    gather, separable, gemm = (
        float(row_of(label)[0])
        for label in ("gather: GFLOP", "separable: GFLOP, by `A`", "GEMM: GFLOP")
    )
    megabytes = float(row_of("map and result: MB")[0])
    peak, memory = 67e12, 3.35e12
    cores = 4 * 32 * 2.45e9
    assert row_of("map and result through memory")[0] == f"{megabytes * 1e12 / memory:.1f} µs"
    for label, amount in (
        ("separable, arithmetic", separable),
        ("gather, arithmetic", gather),
        ("GEMM, arithmetic", gemm),
    ):
        microseconds, milliseconds = (cell.split() for cell in row_of(label))
        assert float(microseconds[0]) == pytest.approx(amount * 1e15 / peak, rel=0.01)
        assert float(milliseconds[0]) == pytest.approx(amount * 1e12 / cores, rel=0.01)
    assert round(peak / memory) == 20
