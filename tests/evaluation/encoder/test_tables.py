"""A protocol's table beside the published row of an encoder of the same size."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fgclip_det.evaluation.encoder import PROTOCOLS, Population, Result, result_page
from fgclip_det.evaluation.encoder.data_sets import Retrieval
from fgclip_det.evaluation.encoder.published import published_row, published_sizes
from fgclip_det.evaluation.encoder.tables import causes


def population(**metrics: float) -> Population:
    counts = {"pictures": 5000, "captions": 25_000}
    return Population(metrics, metrics, metrics, {"i2t": 0, "t2i": 0}, counts)


@pytest.fixture
def result() -> Result:
    """COCO as FG-CLIP-B has it in the paper, to the digit."""
    published = population(i2t_r1=0.641, t2i_r1=0.4542, i2t_r5=0.9)
    whole = replace(
        population(i2t_r1=0.6, t2i_r1=0.5, i2t_r5=0.9),
        expected={"i2t_r1": 0.59, "t2i_r1": 0.5, "i2t_r5": 0.9},
        ties={"i2t": 3, "t2i": 0},
        counts={"pictures": 5000, "captions": 25_014},
    )
    return Result(
        protocol="coco-retrieval",
        family="fgclip",
        width=768,
        fingerprint="ab" * 8,
        as_published=published,
        whole_population=whole,
        listed={"pictures": 5000, "captions": 25_014},
        missing=[],
        settings={"image_size": None, "amp": False},
        record=Retrieval([], [], []),
        arrays={},
    )


def test_published_rows() -> None:
    row = ("FG-CLIP 2-So", {"i2t_r1": 91.5, "t2i_r1": 77.2})
    assert published_row("flickr30k-cna", "fgclip2", 1152) == row
    assert published_row("imagenet", "siglip2", 1024) == ("SigLIP 2-L", {"top1": 83.1})
    assert published_row("coco-boxes", "fgclip", 768) == ("FG-CLIP-B", {"top1": 52.3})
    assert published_row("coco-boxes", "fgclip2", 768)[1] == {"top1": 74.9, "top5": 95.7}
    fg_ovd = published_row("fg-ovd", "fgclip", 1024)[1]
    assert fg_ovd == dict(hard_top1=48.4, medium_top1=69.5, easy_top1=71.2, trivial_top1=89.7)
    nothing = ("", {})
    assert published_row("lit-cn", "fgclip", 768) == nothing
    assert published_row("fg-ovd", "clip", 768) == nothing
    assert published_row("urban-1k", "fgclip", 768) == nothing
    assert published_row("dci", "fgclip", 32) == nothing
    assert published_sizes("dci") == {"pictures": 7805} and published_sizes("lvis-boxes") == {}
    for name in PROTOCOLS:
        for share in published_row(name, "fgclip2", 768)[1].values():
            assert 40 < share < 100


def test_the_published_population(result: Result) -> None:
    page = result_page(result, "mine", as_published=True)
    assert "mine (fgclip), coco-retrieval, as published: 5000 of 5000 pictures" in page
    assert "| metric, % | mine | ties at random | FG-CLIP-B | difference |" in page
    assert "| i2t_r1 | 64.10 | 64.10 | 64.1 | +0.00 |" in page
    assert "| t2i_r1 | 45.42 | 45.42 | 45.4 | +0.02 |" in page
    assert "| i2t_r5 | 90.00 | 90.00 |  |  |" in page
    assert "differ since" not in page and "Ties" not in page and "ICML" in page


def test_differences_have_causes(result: Result) -> None:
    page = result_page(result, "mine")
    assert "| i2t_r1 | 60.00 | 59.00 | 64.1 | -4.10 |" in page and "Ties: 3 of i2t" in page
    assert "25014 captions are 25000 there" in page and "--as-published" in page
    assert "ties are decided" in page
    settings = {"image_size": 96, "amp": True}
    changed = replace(result, missing=["a"], settings=settings, family="clip")
    page = result_page(changed, "mine", as_published=True)
    assert "mine (clip, at 96 px)" in page and "missing pictures: 1" in page
    for word in ("at 96 px.", "bfloat16", "pictures are missing: 1", "scripts of CLIP"):
        assert word in page
    assert "--as-published" not in page
    assert causes(result, result.as_published) == []


def test_sizes_without_a_published_row(result: Result) -> None:
    page = result_page(replace(result, width=32), "mine")
    assert "published" in page and "differ since" not in page and "| 60.00 | 59.00 |  |  |" in page
    empty = replace(result, as_published=Population(counts={"pictures": 0}))
    page = result_page(empty, "mine", as_published=True)
    assert "0 of 5000 pictures" in page and "nothing is in this population" in page
