"""Our operator as ONNX's `RoiAlign`: what is written, and that onnxruntime reads our numbers."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from fgclip_det.encoders import FGCLIP
from fgclip_det.ops import roi_align
from fgclip_det.ops.onnx import onnx_translation_table
from tests.tiny_encoders import tiny_fgclip

ROOT = Path(__file__).resolve().parents[2]
STRIDE = 14
GRID = (6, 9)
SETTINGS = list(itertools.product((1, 7), (-1, 0, 2), (False, True)))
DTYPES = (torch.float16, torch.bfloat16, torch.float64)


def _rois(count: int, images: int, grid: tuple[int, int] = GRID, stride: int = STRIDE) -> Tensor:
    """Ordered rois (K, 5), in pixels: inside the map, over its border, whole cells, one outside."""
    size = torch.tensor([grid[1], grid[0]]) * stride
    first, second = torch.rand(2, count, 2) * size * 1.6 - 0.3 * size
    boxes = torch.cat([first.minimum(second), first.maximum(second)], dim=1)
    # Whole cells: here the last bit of an edge decides how many samples a bin takes.
    boxes[::3] = (boxes[::3] / stride).round() * stride
    boxes[-1:] = torch.tensor([-90.0, -80.0, -50.0, -40.0])
    return torch.cat([torch.randint(images, (count, 1)).float(), boxes], dim=1)


class EverySetting(nn.Module):
    """Pools maps (N, C, h, w) with all of SETTINGS, as maps and as tokens."""

    def forward(self, maps: Tensor, rois: Tensor) -> list[Tensor]:
        grid = (maps.shape[2], maps.shape[3])
        tokens = maps.flatten(2).transpose(1, 2)
        pooled = []
        for size, ratio, aligned in SETTINGS:
            pooled += [
                roi_align(maps, rois, size, 1 / STRIDE, ratio, aligned),
                roi_align(tokens, rois, size, 1 / STRIDE, ratio, aligned, grid=grid),
            ]
        return pooled


class EveryDtype(nn.Module):
    """Pools float64 maps cast to each of DTYPES; float64 results, since numpy has no bfloat16."""

    def forward(self, maps: Tensor, rois: Tensor) -> list[Tensor]:
        return [roi_align(maps.to(dtype), rois, 2, 1 / STRIDE).double() for dtype in DTYPES]


class EncodeBoxes(nn.Module):
    """`encode_regions` as a module: one (K_i, 4) tensor for each image."""

    def __init__(self, encoder: FGCLIP) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, images: Tensor, boxes: list[Tensor]) -> Tensor:
        return self.encoder.encode_regions(images, boxes, normalize=True)


class EncodeRois(EncodeBoxes):
    """The same with rois (K, 5), whose batch may have any size."""

    def forward(self, images: Tensor, rois: Tensor) -> Tensor:
        dense = self.encoder.encode_dense(images)
        grid = (dense.shape[1], dense.shape[2])
        scale = 1.0 / self.encoder.patch_size
        pooled = roi_align(dense.flatten(1, 2), rois, 1, scale, grid=grid).flatten(1)
        return nn.functional.normalize(pooled, dim=-1)


def _export(model: nn.Module, arguments: tuple, dynamic_shapes: tuple) -> onnx.ModelProto:
    program = torch.onnx.export(
        model.eval(),
        arguments,
        dynamo=True,
        verbose=False,
        dynamic_shapes=dynamic_shapes,
        custom_translation_table=onnx_translation_table(),
    )
    onnx.checker.check_model(program.model_proto, full_check=True)
    return program.model_proto


def _run(proto: onnx.ModelProto, inputs: Sequence[Tensor]) -> list[Tensor]:
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    names = [value.name for value in session.get_inputs()]
    feed = {name: value.numpy() for name, value in zip(names, inputs, strict=True)}
    return [torch.from_numpy(result) for result in session.run(None, feed)]


def _pooling_nodes(proto: onnx.ModelProto) -> list[dict]:
    """The attributes of each `RoiAlign` of the graph; no operator of ours may be left."""
    assert {node.domain for node in proto.graph.node} <= {"", "ai.onnx"}
    assert not proto.functions
    return [
        {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        for node in proto.graph.node
        if node.op_type == "RoiAlign"
    ]


@pytest.fixture(scope="module")
def encoder() -> FGCLIP:
    return tiny_fgclip()


@pytest.fixture(scope="module")
def every_setting() -> onnx.ModelProto:
    torch.manual_seed(0)
    example = (torch.randn(2, 3, *GRID), _rois(5, 2))
    return _export(EverySetting(), example, ({0: "n"}, {0: "k"}))


def test_each_call_is_one_standard_node(every_setting: onnx.ModelProto) -> None:
    nodes = _pooling_nodes(every_setting)
    # The ratios -1 and 0 mean the same, and the exporter joins what is alike.
    settings = dict.fromkeys((size, max(ratio, 0), aligned) for size, ratio, aligned in SETTINGS)
    assert len(nodes) == 2 * len(settings)
    for (size, ratio, aligned), *pair in zip(settings, nodes[::2], nodes[1::2], strict=True):
        for node in pair:
            assert node.pop("spatial_scale") == pytest.approx(1 / STRIDE)
            assert node == {
                "mode": b"avg",
                "coordinate_transformation_mode": b"half_pixel"
                if aligned
                else b"output_half_pixel",
                "output_height": size,
                "output_width": size,
                "sampling_ratio": ratio,
            }


@pytest.mark.parametrize(("images", "count"), [(2, 60), (3, 1), (1, 0)])
def test_onnxruntime_gives_our_numbers(
    every_setting: onnx.ModelProto, images: int, count: int
) -> None:
    inputs = (torch.randn(images, 3, *GRID), _rois(count, images))
    results = _run(every_setting, inputs)
    for result, expected in zip(results, EverySetting()(*inputs), strict=True):
        torch.testing.assert_close(result, expected, atol=1e-5, rtol=0)


def test_boxes_keep_their_precision_in_every_dtype() -> None:
    maps, rois = torch.randn(2, 3, *GRID, dtype=torch.float64), _rois(60, 2)
    proto = _export(EveryDtype(), (maps, rois), ({0: "n"}, {0: "k"}))
    assert len(_pooling_nodes(proto)) == len(DTYPES)
    for dtype, result, expected in zip(
        DTYPES, _run(proto, (maps, rois)), EveryDtype()(maps, rois), strict=True
    ):
        # Sums of another order may round to the neighbour.
        rounding = torch.finfo(dtype).eps
        torch.testing.assert_close(result, expected, atol=rounding, rtol=rounding)


def test_reversed_boxes_without_aligned_are_one_cell_long() -> None:
    class Pool(nn.Module):
        def forward(self, maps: Tensor, rois: Tensor) -> Tensor:
            return roi_align(maps, rois, 2, aligned=False)

    maps, rois = torch.randn(1, 2, 6, 7), torch.tensor([[0.0, 5, 4, 2, 1], [0, 1, 4, 5, 2]])
    (result,) = _run(_export(Pool(), (maps, rois), ({}, {})), (maps, rois))
    torch.testing.assert_close(result, Pool()(maps, rois), atol=1e-5, rtol=0)


def test_encode_regions_with_boxes_of_each_image(encoder: FGCLIP) -> None:
    images = torch.randn(2, 3, 64, 96)
    boxes = [roi[:, 1:] for roi in _rois(10, 1, (4, 6), 16).split(5)]
    proto = _export(EncodeBoxes(encoder), (images, boxes), ({}, [{0: "k0"}, {0: "k1"}]))
    assert len(_pooling_nodes(proto)) == 1
    for some in (boxes, [boxes[0][:1], boxes[1]], [boxes[0][:0], boxes[1][:3]]):
        (result,) = _run(proto, (images, *some))
        expected = EncodeBoxes(encoder)(images, some)
        torch.testing.assert_close(result, expected, atol=1e-5, rtol=0)


def test_encode_regions_with_rois_of_any_batch_and_size(encoder: FGCLIP) -> None:
    model = EncodeRois(encoder)
    # Not on the side of the position table, or the exporter takes the table's size for granted.
    example = (torch.randn(2, 3, 80, 96), _rois(5, 2, (5, 6), 16))
    shapes = ({0: "n", 2: "height", 3: "width"}, {0: "k"})
    proto = _export(model, example, shapes)
    for images, count, height, width in ((2, 5, 80, 96), (3, 9, 50, 130), (1, 1, 64, 64)):
        grid = (height // 16, width // 16)
        inputs = (torch.randn(images, 3, height, width), _rois(count, images, grid, 16))
        (result,) = _run(proto, inputs)
        torch.testing.assert_close(result, model(*inputs), atol=1e-5, rtol=0)


def test_without_onnxscript_the_message_says_what_to_install() -> None:
    code = """
import sys
sys.modules["onnxscript"] = None
import fgclip_det.ops
try:
    import fgclip_det.ops.onnx
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "pip install onnx onnxscript" in done.stdout
