import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import forward_ad

from fgclip_det.ops import backend
from fgclip_det.ops.score_ensemble import score_ensemble_above
from tests.messages import says


def drawn(
    count: int, num_names: int, dim: int, seed: int = 0, temperatures: tuple = (50.0, 75.0)
) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def unit(rows: int) -> Tensor:
        return F.normalize(torch.randn(rows, dim, generator=generator), dim=-1)

    names = unit(num_names)
    # Some regions are much like a name.
    like = names[torch.randint(num_names, (count,), generator=generator)] if num_names else 0
    return {
        "det": F.normalize(unit(count) + like, dim=-1) * temperatures[0],
        "vlm": F.normalize(unit(count) + 0.5 * like, dim=-1) * temperatures[1],
        "names": names,
        "backgrounds": unit(2),
        "weight": torch.tensor([0.0, 1.0, 0.1, 0.8])[
            torch.randint(4, (num_names,), generator=generator)
        ],
    }


def by_definition(given: dict[str, Tensor]) -> Tensor:
    """(K, C) float64: d ** (1 - w) * v ** w of two softmaxes."""
    det, vlm, names, backgrounds, weight = (each.double() for each in given.values())
    d, v = (
        (regions @ torch.cat([names, backgrounds[i, None]]).T).softmax(dim=-1)[:, :-1]
        for i, regions in enumerate((det, vlm))
    )
    return d ** (1 - weight) * v**weight


def check(given: dict[str, Tensor], score_thr: float, least: int = 0, rtol: float = 2e-5) -> None:
    rows, columns, scores = score_ensemble_above(**given, score_thr=score_thr)
    assert (rows.dtype, columns.dtype) == (torch.int64, torch.int64)
    expected = by_definition(given)
    dense = torch.full_like(expected, -1.0)
    dense[rows, columns] = scores.double()
    # Row by row, by rising column, nothing twice.
    places = rows * max(1, expected.shape[1]) + columns
    assert (places.diff() > 0).all() and len(rows) >= least
    # What lies at the threshold may fall on either side.
    surely = expected > score_thr * (1 + rtol) + 1e-36
    surely_not = expected < score_thr * (1 - rtol)
    assert (dense[surely] >= 0).all() and (dense[surely_not] == -1).all()
    torch.testing.assert_close(scores.double(), expected[rows, columns], atol=1e-36, rtol=rtol)


@pytest.mark.parametrize("num_names", [0, 1, 7, 8, 31, 32, 33, 63, 511, 512, 513, 1025, 3001])
@pytest.mark.parametrize("count", [0, 1, 17, 100])
def test_equals_the_definition(count: int, num_names: int) -> None:
    dims = itertools.cycle((1, 3, 128))
    for seed, (score_thr, dim) in enumerate(zip((0.0, 1e-4, 0.01, 0.3, 1.0), dims, strict=False)):
        check(drawn(count, num_names, dim, seed), score_thr)


def test_what_is_likely_is_found_wherever_it_stands() -> None:
    given = drawn(64, 1100, 32)
    given["weight"] = torch.full_like(given["weight"], 0.5)
    check(given, 0.05, least=20)
    for place in (0, 7, 8, 31, 32, 511, 512, 1023, 1024, 1087, 1088, 1099):
        given["det"][0] = 50 * given["names"][place]
        given["vlm"][0] = 75 * given["names"][place]
        rows, columns, _ = score_ensemble_above(**given, score_thr=0.5)
        assert columns[rows == 0].tolist() == [place]


@pytest.mark.parametrize("temperatures", [(1e-3, 0.0), (1.0, 300.0), (1000.0, 1000.0)])
@pytest.mark.parametrize("dim", [1, 16])
def test_any_temperature(temperatures: tuple[float, float], dim: int) -> None:
    # Logits of a thousand are rounded to 6e-5, and so are logarithms of scores.
    check(drawn(40, 600, dim, 1, temperatures), 1e-3, rtol=1e-3)


@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("temperature", [1e4, 1e5, 1e6, 1e30])
def test_large_logits_lose_no_share(temperature: float, weight: float) -> None:
    regions = torch.tensor([[temperature, 0.0]])
    backgrounds, names = torch.tensor([[-1.0, 0.0]] * 2), torch.tensor([[1.0, 0.0]] * 3)
    given = (regions, regions, names, backgrounds, torch.full((3,), weight))
    for score_thr in (0.01, 0.333):
        assert score_ensemble_above(*given, score_thr)[1].tolist() == [0, 1, 2]
    assert not len(score_ensemble_above(*given, 0.3334)[0])


def test_what_is_nan_is_below_no_threshold() -> None:
    given = drawn(5, 50, 8)
    assert len(score_ensemble_above(**given, score_thr=torch.nan)[0]) == 5 * 50
    given["weight"][[3, 40]] = torch.nan
    rows, columns, scores = score_ensemble_above(**given, score_thr=0.9)
    assert columns[scores.isnan()].tolist() == 5 * [3, 40] and len(rows) >= 10
    for score_thr, count in ((1e300, 10), (-1e300, 250), (torch.inf, 10)):
        assert len(score_ensemble_above(**given, score_thr=score_thr)[0]) == count


def test_alike_on_any_number_of_threads(restored_threads: None) -> None:
    given = drawn(100, 1500, 64)
    found = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        found.append(score_ensemble_above(**given, score_thr=0.01))
    for rows, columns, scores in found[1:]:
        assert torch.equal(rows, found[0][0]) and torch.equal(columns, found[0][1])
        torch.testing.assert_close(scores, found[0][2], rtol=1e-5, atol=0)


@pytest.fixture
def restored_threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("score_thr", [0.0, 0.01])
def test_regions_that_are_not_finite_give_nan_and_no_other_does(
    bad: float, score_thr: float
) -> None:
    good = drawn(6, 1100, 8)
    wanted = [each.clone() for each in score_ensemble_above(**good, score_thr=score_thr)]
    given = {**good, "det": good["det"].clone(), "vlm": good["vlm"].clone()}
    given["det"][1, 3] = given["vlm"][4, 0] = bad
    rows, columns, scores = score_ensemble_above(**given, score_thr=score_thr)
    is_bad = torch.isin(rows, torch.tensor([1, 4]))
    assert set(rows[is_bad].tolist()) == {1, 4} and scores[is_bad].isnan().all()
    kept = ~torch.isin(wanted[0], torch.tensor([1, 4]))
    assert kept.any()
    for got, all_of_it in zip((rows, columns), wanted, strict=False):
        assert torch.equal(got[~is_bad], all_of_it[kept])
    torch.testing.assert_close(scores[~is_bad], wanted[2][kept])


@pytest.mark.parametrize("place", [0, 500, 1056, 1098, "background"])
def test_a_name_that_is_not_finite_spoils_each_region(place: int | str) -> None:
    given = drawn(5, 1099, 8)
    if place == "background":
        given["backgrounds"][1, 0] = torch.inf
    else:
        given["names"][place, 2] = torch.nan
    rows, _, scores = score_ensemble_above(**given, score_thr=0.5)
    assert rows.unique().tolist() == [0, 1, 2, 3, 4] and scores.isnan().all()


def test_views_and_the_order_of_memory_do_not_matter() -> None:
    given = drawn(9, 700, 12)
    wanted = score_ensemble_above(**given, score_thr=0.01)
    assert len(wanted[0])
    views = {
        "det": torch.cat([given["det"], given["det"]], dim=1)[:, :12],
        "vlm": given["vlm"].T.contiguous().T,
        "names": torch.cat([given["names"], torch.full((1, 12), torch.nan)])[:-1],
        "backgrounds": given["backgrounds"].T.contiguous().T,
        "weight": torch.stack([given["weight"], given["weight"] + 9], dim=1)[:, 0],
    }
    for got, expected in zip(score_ensemble_above(**views, score_thr=0.01), wanted, strict=True):
        torch.testing.assert_close(got, expected)


def test_serves_other_dtypes_gradients_and_autocast() -> None:
    given = drawn(9, 40, 12)
    wanted = score_ensemble_above(**given, score_thr=0.01)
    double = {name: each.double() for name, each in given.items()}
    rows, columns, scores = score_ensemble_above(**double, score_thr=0.01)
    assert scores.dtype == torch.float64
    assert torch.equal(rows, wanted[0]) and torch.equal(columns, wanted[1])
    for each in double.values():
        each.requires_grad_()
    _, _, scores = score_ensemble_above(**double, score_thr=0.01)
    expected = by_definition(double)[rows, columns]
    for got, by_hand in zip(
        torch.autograd.grad(scores.sum(), double.values(), allow_unused=True),
        torch.autograd.grad(expected.sum(), double.values()),
        strict=True,
    ):
        torch.testing.assert_close(got, by_hand)
    with torch.autocast("cpu", torch.bfloat16):
        for got, expected in zip(
            score_ensemble_above(**given, score_thr=0.01), wanted, strict=True
        ):
            torch.testing.assert_close(got, expected)
    with torch.inference_mode():
        assert torch.equal(score_ensemble_above(**given, score_thr=0.01)[0], wanted[0])
    with forward_ad.dual_level():
        dual = {**given, "det": forward_ad.make_dual(given["det"], torch.ones_like(given["det"]))}
        scores = score_ensemble_above(**dual, score_thr=0.01)[2]
        torch.testing.assert_close(forward_ad.unpack_dual(scores).primal, wanted[2])
        assert forward_ad.unpack_dual(scores).tangent is not None
    compiled = torch.compile(score_ensemble_above, backend="eager")
    torch.testing.assert_close(compiled(**given, score_thr=0.01)[2], wanted[2])


WRONG = {
    "det": (torch.ones(9), "(9,)"),
    "vlm": (torch.ones(8, 12), "(8, 12)"),
    "names": (torch.ones(40, 11), "(40, 11)"),
    "backgrounds": (torch.ones(1, 12), "(1, 12)"),
    "weight": (torch.ones(39), "(39,)"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_fit_is_refused(name: str) -> None:
    given = drawn(9, 40, 12)
    wrong, shape = WRONG[name]
    with pytest.raises(ValueError, match=says(name, shape)):
        score_ensemble_above(**{**given, name: wrong}, score_thr=0.01)
    if name != "det":
        with pytest.raises(ValueError, match=says(name, "torch.float64")):
            score_ensemble_above(**{**given, name: given[name].double()}, score_thr=0.01)
    if backend()["cpu"] == "extension":
        bare = torch.ops.fgclip_det.score_ensemble_above
        with pytest.raises(ValueError, match=name):
            bare(*{**given, name: wrong}.values(), 0.01)
        with pytest.raises(ValueError, match=says(name, "float32")):
            bare(*{**given, name: given[name].double()}.values(), 0.01)
