"""Detector families of MMDetection on the stand-in: one of them per operator of `mmcv._ext`."""

import functools
import importlib.util
import sys
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from fgclip_det import compat  # noqa: F401
from fgclip_det.compat import mmcv_ext

pytest.importorskip("mmdet")
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.structures import InstanceData

if not mmcv_ext.is_installed():
    pytest.skip("this environment has the compiled mmcv", allow_module_level=True)

CONFIGS = Path(importlib.util.find_spec("mmdet").origin).parent / ".mim" / "configs"
SIZE = 96

RESNET18 = {
    "model.backbone.depth": 18,
    "model.neck.in_channels": [64, 128, 256, 512],
    "model.neck.out_channels": 32,
}
FASTER_RCNN = {
    **RESNET18,
    "model.rpn_head.in_channels": 32,
    "model.rpn_head.feat_channels": 32,
    "model.roi_head.bbox_roi_extractor.out_channels": 32,
    "model.roi_head.bbox_head.in_channels": 32,
    "model.roi_head.bbox_head.fc_out_channels": 64,
    "model.roi_head.bbox_head.num_classes": 5,
    "model.train_cfg.rpn_proposal.max_per_img": 50,
    "model.test_cfg.rpn.max_per_img": 50,
    "model.test_cfg.rcnn.score_thr": 0.0,
}
ONE_STAGE = {**RESNET18, "model.bbox_head.in_channels": 32, "model.bbox_head.feat_channels": 32}
DYHEAD = {
    "model.backbone.depth": 18,
    "model.neck.0.in_channels": [64, 128, 256, 512],
    "model.neck.0.out_channels": 32,
    "model.neck.1.in_channels": 32,
    "model.neck.1.out_channels": 32,
    "model.neck.1.num_blocks": 1,
    "model.bbox_head.in_channels": 32,
    "model.bbox_head.feat_channels": 32,
}
# The decoder's coordinate encoding is fixed at 2 x 256 channels, so the width stays.
DINO = {
    "model.backbone.depth": 18,
    "model.neck.in_channels": [128, 256, 512],
    "model.num_queries": 20,
    "model.encoder.num_layers": 1,
    "model.encoder.layer_cfg.ffn_cfg.feedforward_channels": 64,
    "model.decoder.num_layers": 2,
    "model.decoder.layer_cfg.ffn_cfg.feedforward_channels": 64,
    "model.dn_cfg.group_cfg.num_dn_queries": 4,
    "model.test_cfg.max_per_img": 10,
}


class Family(NamedTuple):
    """A shipped config, the changes that make it tiny, and the operators that it must call."""

    config: str
    overrides: dict
    operators: tuple[str, ...]
    cuda_only: bool = False


FAMILIES = {
    "nms": Family("faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py", FASTER_RCNN, ("nms",)),
    "softnms": Family(
        "faster_rcnn/faster-rcnn_r50_fpn_soft-nms_1x_coco.py", FASTER_RCNN, ("softnms",)
    ),
    "nms_match": Family("pisa/faster-rcnn_r50_fpn_pisa_1x_coco.py", FASTER_RCNN, ("nms_match",)),
    "roi_align": Family(
        "faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py",
        FASTER_RCNN,
        ("roi_align_forward", "roi_align_backward"),
    ),
    "sigmoid_focal_loss": Family(
        "retinanet/retinanet_r50_fpn_1x_coco.py",
        ONE_STAGE,
        ("sigmoid_focal_loss_forward", "sigmoid_focal_loss_backward"),
        cuda_only=True,
    ),
    "deform_conv": Family(
        "reppoints/reppoints-moment_r50_fpn_1x_coco.py",
        {**ONE_STAGE, "model.bbox_head.point_feat_channels": 32},
        (
            "deform_conv_forward",
            "deform_conv_backward_input",
            "deform_conv_backward_parameters",
        ),
    ),
    "modulated_deform_conv": Family(
        "dyhead/atss_r50_fpn_dyhead_1x_coco.py",
        DYHEAD,
        ("modulated_deform_conv_forward", "modulated_deform_conv_backward"),
    ),
    "ms_deform_attn": Family(
        "dino/dino-4scale_r50_8xb2-12e_coco.py",
        DINO,
        ("ms_deform_attn_forward", "ms_deform_attn_backward"),
        cuda_only=True,
    ),
}


def build(family: Family) -> nn.Module:
    """The detector of a shipped config with random weights."""
    cfg = Config.fromfile(CONFIGS / family.config)
    cfg.model.backbone.init_cfg = None
    cfg.merge_from_dict(family.overrides)
    register_all_modules()
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    # DINO's level embeddings are uninitialised memory until then, now and then NaN.
    model.init_weights()
    return model


def picture_batch() -> dict:
    sample = DetDataSample()
    shape = (SIZE, SIZE)
    sample.set_metainfo(
        dict(img_shape=shape, ori_shape=shape, batch_input_shape=shape, scale_factor=(1.0, 1.0))
    )
    sample.gt_instances = InstanceData(
        bboxes=torch.tensor([[8.0, 8.0, 60.0, 50.0], [30.0, 40.0, 90.0, 90.0]]),
        labels=torch.tensor([1, 3]),
    )
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 255, (3, SIZE, SIZE), dtype=torch.uint8, generator=generator)
    return dict(inputs=[pixels], data_samples=[sample])


def train_and_predict(model: nn.Module) -> Tensor:
    """(K, 4) predicted boxes after one step backwards, every number of both finite."""
    model.train()
    batch = model.data_preprocessor(picture_batch(), True)
    losses, _ = model.parse_losses(model(**batch, mode="loss"))
    losses.backward()
    assert torch.isfinite(losses)
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert gradients and all(torch.isfinite(gradient).all() for gradient in gradients)
    model.eval()
    with torch.no_grad():
        boxes = model.test_step(picture_batch())[0].pred_instances.bboxes
    assert torch.isfinite(boxes).all()
    return boxes


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter:
    """Number of calls of each operator of the stand-in."""
    counter = Counter()

    def counting(name: str, operator):
        @functools.wraps(operator)
        def wrapper(*args, **kwargs):
            counter[name] += 1
            return operator(*args, **kwargs)

        return wrapper

    for name, operator in mmcv_ext.OPS.items():
        monkeypatch.setattr(sys.modules["mmcv._ext"], name, counting(name, operator))
    return counter


def pretend_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """Report a GPU to the two callers that use an operator on CUDA tensors only.

    On the CPU they take a PyTorch path of their own, and the tests must run without a GPU.
    """
    attention = importlib.import_module("mmcv.ops.multi_scale_deform_attn")
    monkeypatch.setattr(attention, "IS_CUDA_AVAILABLE", True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.Tensor, "is_cuda", property(lambda tensor: True))


@pytest.mark.parametrize("operator", FAMILIES)
def test_a_family_of_each_operator_trains_and_predicts(
    operator: str, calls: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    family = FAMILIES[operator]
    model = build(family)
    if family.cuda_only:
        pretend_cuda(monkeypatch)
    train_and_predict(model)
    assert [name for name in family.operators if not calls[name]] == []


def test_faster_rcnn_trains_and_predicts_in_bfloat16() -> None:
    model = build(FAMILIES["softnms"])
    with torch.autocast("cpu", torch.bfloat16):
        assert len(train_and_predict(model)) > 0


def test_dino_trains_and_predicts_without_cuda() -> None:
    assert len(train_and_predict(build(FAMILIES["ms_deform_attn"]))) == 10


def test_every_operator_has_a_family() -> None:
    covered = {name for family in FAMILIES.values() for name in family.operators}
    reports = {"get_compiler_version", "get_compiling_cuda_version"}
    assert covered == set(mmcv_ext.OPS) - reports
