"""mmcv's NMS ops on the stand-in, against written-out loops."""

import numpy as np
import pytest
import torch

from fgclip_det import compat  # noqa: F401
from fgclip_det.compat import mmcv_nms

pytest.importorskip("mmcv")
mmcv_ops = pytest.importorskip("mmcv.ops")


def random_boxes(count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * 60
    size = torch.rand(count, 2, generator=generator) * 40 + 1
    return torch.cat([corner, corner + size], 1), torch.rand(count, generator=generator)


def loop_iou(a: list[float], b: list[float], offset: int) -> float:
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]) + offset)
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]) + offset)
    area_a = (a[2] - a[0] + offset) * (a[3] - a[1] + offset)
    area_b = (b[2] - b[0] + offset) * (b[3] - b[1] + offset)
    return width * height / (area_a + area_b - width * height)


def loop_nms(boxes: torch.Tensor, scores: torch.Tensor, threshold: float, offset: int) -> list:
    rest = sorted(range(len(boxes)), key=lambda index: -scores[index])
    kept = []
    while rest:
        first, *rest = rest
        kept.append(first)
        rest = [
            index
            for index in rest
            if loop_iou(boxes[first].tolist(), boxes[index].tolist(), offset) <= threshold
        ]
    return kept


@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("threshold", [0.3, 0.6])
def test_nms_equals_loop(offset: int, threshold: float) -> None:
    boxes, scores = random_boxes(60)
    dets, kept = mmcv_ops.nms(boxes, scores, threshold, offset=offset)
    assert kept.tolist() == loop_nms(boxes, scores, threshold, offset)
    torch.testing.assert_close(dets, torch.cat([boxes, scores[:, None]], 1)[kept])


def test_offset_changes_the_outcome() -> None:
    boxes = torch.tensor([[0.0, 0.0, 4.0, 4.0], [2.0, 0.0, 6.0, 4.0]])
    scores = torch.tensor([0.9, 0.8])
    # IoU is 8 / 24 without and 15 / 35 with the offset.
    assert len(mmcv_ops.nms(boxes, scores, 0.4, offset=0)[1]) == 2
    assert len(mmcv_ops.nms(boxes, scores, 0.4, offset=1)[1]) == 1


def test_nms_of_nothing_and_of_mixed_dtypes() -> None:
    _, kept = mmcv_ops.nms(torch.zeros(0, 4), torch.zeros(0), 0.5)
    assert kept.shape == (0,) and kept.dtype == torch.int64
    boxes, scores = random_boxes(20)
    expected = mmcv_nms.nms(boxes, scores.bfloat16(), 0.5, 0)
    assert torch.equal(expected, mmcv_nms.nms(boxes, scores.bfloat16().float(), 0.5, 0))


def test_batched_nms_keeps_classes_apart() -> None:
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0]] * 4)
    scores = torch.tensor([0.1, 0.4, 0.3, 0.2])
    labels = torch.tensor([0, 0, 1, 1])
    _, kept = mmcv_ops.batched_nms(boxes, scores, labels, dict(type="nms", iou_threshold=0.5))
    assert kept.tolist() == [1, 2]


def loop_soft_nms(
    boxes: list, scores: list, threshold: float, sigma: float, low: float, method: str, offset: int
) -> list[tuple[int, float]]:
    rest = dict(enumerate(scores))
    kept = []
    while rest:
        best = max(rest, key=rest.__getitem__)
        kept.append((best, rest.pop(best)))
        for index in list(rest):
            iou = loop_iou(boxes[best], boxes[index], offset)
            if method == "gaussian":
                rest[index] *= np.exp(-iou * iou / sigma)
            elif iou >= threshold:
                rest[index] *= 1 - iou if method == "linear" else 0
            if rest[index] < low:
                del rest[index]
    return kept


@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("method", ["naive", "linear", "gaussian"])
def test_soft_nms_equals_loop(method: str, offset: int) -> None:
    boxes, scores = random_boxes(50, seed=3)
    dets, kept = mmcv_ops.soft_nms(
        boxes, scores, 0.3, sigma=0.4, min_score=0.05, method=method, offset=offset
    )
    expected = loop_soft_nms(boxes.tolist(), scores.tolist(), 0.3, 0.4, 0.05, method, offset)
    assert kept.tolist() == [index for index, _ in expected]
    torch.testing.assert_close(dets[:, :4], boxes[kept])
    torch.testing.assert_close(dets[:, 4], torch.tensor([float(score) for _, score in expected]))
    assert len(kept) < len(boxes)


def test_soft_nms_documented_example_and_empty() -> None:
    boxes = np.array([[4, 3, 5, 3], [4, 3, 5, 4]] + [[3, 1, 3, 1]] * 4, dtype=np.float32)
    scores = np.array([0.9, 0.9, 0.5, 0.5, 0.4, 0.0], dtype=np.float32)
    dets, kept = mmcv_ops.soft_nms(boxes, scores, 0.6, sigma=0.5)
    assert len(kept) == len(dets) == 5
    dets, kept = mmcv_ops.soft_nms(torch.zeros(0, 4), torch.zeros(0))
    assert dets.shape == (0, 5) and kept.shape == (0,)


def test_nms_match_groups_by_the_kept_box() -> None:
    dets = torch.tensor(
        [
            [0.0, 0.0, 10.0, 10.0, 0.5],
            [0.0, 0.0, 10.0, 9.0, 0.9],
            [50.0, 50.0, 60.0, 60.0, 0.7],
            [0.0, 0.0, 9.0, 10.0, 0.6],
        ]
    )
    groups = [group.tolist() for group in mmcv_ops.nms_match(dets, 0.5)]
    assert groups == [[1, 3, 0], [2]]
