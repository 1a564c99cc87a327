"""Boxes on the dense tokens of a detector, for patches that divide no power of two."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
import torchvision

from fgclip_det.models.regions.region_classification import pool_tokens


@pytest.mark.parametrize("patch", [14, 16])
def test_a_box_of_whole_cells_takes_a_sample_of_each(patch):
    # The last column and row are padding, beyond the picture.
    maps = torch.randn(2, 5, 20, 13)
    cells = [
        torch.tensor([[0.0, 0, x, y] for x in range(1, 13) for y in (1, 6, 19)]),
        torch.tensor([[2.0, 3, 8, 15], [0.25, 0.5, 6.25, 6.5]]),
    ]
    tokens = maps.flatten(2).transpose(1, 2)
    found = pool_tokens(tokens, (20, 13), patch, [own * patch for own in cells])
    expected = torchvision.ops.roi_align(maps, cells, 1, 1.0, -1, True).flatten(1)
    torch.testing.assert_close(found, F.normalize(expected, dim=1), atol=1e-6, rtol=1e-6)
    assert pool_tokens(tokens, (20, 13), patch, [torch.zeros(0, 4)] * 2).shape == (0, 5)
