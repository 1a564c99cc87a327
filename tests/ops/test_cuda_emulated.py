"""The CUDA kernels equal the oracle: their sources run on the CPU, under the sanitizers.

`cuda_emulation/` compiles the very sources for the CPU. Memory errors, undefined behaviour, threads
that miss a barrier and values that no thread wrote stop the program or show as NaN.
"""

from __future__ import annotations

import pytest
import torch

from tests.ops.emulated import CODES, INF, NAN, Case, Emulator, draw, draw_rois, lay_out

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
@pytest.mark.parametrize("dtype", CODES, ids=str)
def test_random_cases_equal_the_oracle(
    emulator: Emulator, dtype: torch.dtype, backward: bool
) -> None:
    emulator.check([draw(seed, dtype, backward) for seed in range(60)])


@pytest.mark.parametrize("asserts", [True, False])
@pytest.mark.parametrize(("bins", "count"), [((1, 1), 5), ((2, 3), 5), ((1, 1), 100)])
@pytest.mark.parametrize("image", [2.0, -1.0, NAN, INF, 1e20])
def test_an_index_outside_the_batch_reads_nothing_and_fails_the_assertion_if_there_is_one(
    request: pytest.FixtureRequest, image: float, bins: tuple[int, int], count: int, asserts: bool
) -> None:
    emulator = request.getfixturevalue("emulator" if asserts else "silent_emulator")
    generator = torch.Generator().manual_seed(0)
    rois = draw_rois(count, 2, (9, 9), generator)
    rois[3, 0] = image
    size = (2, 16, 9, 9)
    good = torch.arange(count) != 3
    maps = lay_out("channels_last", size, generator)
    gradient = lay_out("channels_last", (count, 16, *bins), generator)
    forward = Case(maps, rois, size, bins, channels_last=True, multiprocessors=1)
    backward = Case(gradient, rois, size, bins, True, channels_last=True)
    (pooled, failed, bands, _), (spread, failed_too, *_) = emulator.run([forward, backward])
    assert (failed > 0, failed_too > 0, bands > 0) == (asserts, asserts, count == 100)
    assert torch.equal(pooled[3], torch.zeros(16, *bins))
    expected = forward._replace(rois=rois[good]).expected()
    torch.testing.assert_close(pooled[good], expected, atol=1e-5, rtol=1e-5)
    expected = backward._replace(data=gradient[good], rois=rois[good]).expected()
    torch.testing.assert_close(spread, expected, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("bins", [(1, 1), (7, 7)])
@pytest.mark.parametrize(("channels", "repeated"), [(16, 1), (130, 1), (16, 20)])
def test_a_map_of_a_pyramid_has_its_own_boxes(
    emulator: Emulator, bins: tuple[int, int], channels: int, repeated: int
) -> None:
    generator = torch.Generator().manual_seed(channels)
    size = (2, channels, 9, 14)
    rois = draw_rois(12 * repeated, 2, size[2:], generator)
    # Of three maps; some name none.
    levels = torch.tensor([0, 1, 2, 3, 1, 1, 0, -1, 2, 1, 0, 3]).repeat(repeated)
    maps = lay_out("channels_last", size, generator)
    gradient = lay_out("channels_last", (len(rois), channels, *bins), generator)
    cases = []
    for level in range(3):
        of = dict(channels_last=True, levels=levels, num_levels=3, level=level, multiprocessors=1)
        cases += [Case(maps, rois, size, bins, **of), Case(gradient, rois, size, bins, True, **of)]
    results = emulator.run(cases)
    for level in range(3):
        (pooled, failed, bands, _), (spread, failed_too, *_) = results[2 * level : 2 * level + 2]
        assert (bands > 0) == (repeated > 1 and bins == (1, 1))
        own = levels == level
        # The first map sees to boxes that name none: zeros, and an assertion. No map writes what is
        # of another.
        stray = (levels < 0) | (levels > 2)
        assert (failed > 0, failed_too > 0) == (level == 0, True)
        expected = Case(maps, rois[own], size, bins).expected()
        torch.testing.assert_close(pooled[own], expected, atol=1e-5, rtol=1e-5)
        assert (pooled[stray] == 0).all() if level == 0 else pooled[stray].isnan().all()
        assert pooled[~own & ~stray].isnan().all()
        expected = Case(gradient[own], rois[own], size, bins, True).expected()
        torch.testing.assert_close(spread, expected, atol=1e-4, rtol=2e-5)
