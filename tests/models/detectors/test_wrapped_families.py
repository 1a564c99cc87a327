"""Families of MMDetection's detectors: boxes in the picture without masks, or one clear line."""

from __future__ import annotations

import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.hub import get_config
from mmengine.model import revert_sync_batchnorm

from fgclip_det.models import OpenVocabWrapper
from tests.messages import says

MASKS = {
    "MaskRCNN": "mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py",
    "HybridTaskCascade": "htc/htc-without-semantic_r50_fpn_1x_coco.py",
    "QueryInst": "queryinst/queryinst_r50_fpn_1x_coco.py",
    "CondInst": "condinst/condinst_r50_fpn_ms-poly-90k_coco_instance.py",
    "YOLACT": "yolact/yolact_r50_1xb8-55e_coco.py",
}
# One that scores its first stage's boxes, the others do not.
NO_RPN = {
    "SparseRCNN": "sparse_rcnn/sparse-rcnn_r50_fpn_1x_coco.py",
    "QueryInst": MASKS["QueryInst"],
    "DETR": "detr/detr_r50_8xb2-150e_coco.py",
    "ATSS": "atss/atss_r50_fpn_1x_coco.py",
    "RPN": "rpn/rpn_r50_fpn_1x_coco.py",
}
NO_BOXES = {
    "PanopticFPN": "panoptic_fpn/panoptic-fpn_r50_fpn_1x_coco.py",
    "MaskFormer": "maskformer/maskformer_r50_ms-16xb1-75e_coco.py",
    "Mask2Former": "mask2former/mask2former_r50_8xb2-lsj-50e_coco.py",
    "SOLOv2": "solov2/solov2_r50_fpn_1x_coco.py",
}
SIZES = [(64, 96), (67, 131)]


def config(path):
    """MMDetection's own, in which no box is too unlikely, and only the 20 best are given."""
    found = get_config(f"mmdet::{path}")
    model = found.model
    model.setdefault("data_preprocessor", found.get("data_preprocessor"))
    model.data_preprocessor.pop("batch_augments", None)
    test_cfg = model.get("test_cfg") or {}
    for settings in (test_cfg, test_cfg.get("rcnn") or {}, test_cfg.get("rpn") or {}):
        if "score_thr" in settings:
            settings["score_thr"] = 0.0
        # As many as there are learned queries are the least.
        if "max_per_img" in settings and "num_proposals" not in model.get("rpn_head", {}):
            settings["max_per_img"] = 20
    return model


def wrapped(path, encoder_dir, **settings):
    torch.manual_seed(0)
    wrapper = OpenVocabWrapper(config(path), encoder_dir, **settings)
    return revert_sync_batchnorm(wrapper).eval()


def batch_of(wrapper, size):
    generator = torch.Generator().manual_seed(0)
    meta = dict(img_shape=size, ori_shape=size, scale_factor=(1.0, 1.0))
    pixels = torch.randint(0, 256, (3, *size), generator=generator).byte()
    data = dict(inputs=[pixels], data_samples=[DetDataSample(metainfo=meta)])
    data = wrapper.data_preprocessor(data, False)
    return data["inputs"], data["data_samples"]


def assert_in_the_picture(regions, size):
    assert len(regions) and regions.boxes.isfinite().all()
    limits = torch.tensor([size[1], size[0]] * 2)
    assert (regions.boxes >= 0).all() and (regions.boxes <= limits).all()
    assert ((regions.objectness >= 0) & (regions.objectness <= 1)).all()


def mask_heads(detector):
    holder = detector if getattr(detector, "mask_head", None) is not None else detector.roi_head
    heads = holder.mask_head
    return list(heads) if isinstance(heads, torch.nn.ModuleList) else [heads]


@pytest.mark.parametrize("name", MASKS)
def test_masks_are_not_computed(name, encoder_dir):
    wrapper = wrapped(MASKS[name], encoder_dir)
    assert type(wrapper.detector).__name__ == name
    ran = []
    for head in mask_heads(wrapper.detector):
        head.register_forward_hook(lambda *_: ran.append(1))
    (regions,) = wrapper.propose(*batch_of(wrapper, SIZES[1]))
    assert_in_the_picture(regions, SIZES[1])
    assert not ran
    # The detector itself is as it was, with its masks.
    if name == "MaskRCNN":
        inputs, samples = batch_of(wrapper, SIZES[0])
        samples[0].set_metainfo(dict(batch_input_shape=tuple(inputs.shape[-2:])))
        with torch.no_grad():
            found = wrapper.detector.predict(inputs, samples, rescale=False)[0].pred_instances
        assert ran and len(found.masks) == len(found)
        own = set(map(tuple, found.bboxes.tolist()))
        (regions,) = wrapper.propose(*batch_of(wrapper, SIZES[0]))
        assert set(map(tuple, regions.boxes.tolist())) <= own


@pytest.mark.parametrize("name", NO_RPN)
def test_a_first_stage_without_scores_is_refused(name, encoder_dir):
    with pytest.raises(ValueError, match=says('"rpn"', "two-stage", name, '"max"')):
        wrapped(NO_RPN[name], encoder_dir, box_score="rpn")


@pytest.mark.parametrize("name", NO_BOXES)
def test_no_boxes_are_refused(name, encoder_dir):
    with pytest.raises(ValueError, match=f"{name} gives no boxes"):
        wrapped(NO_BOXES[name], encoder_dir)


def test_a_second_stage_alone_is_refused(encoder_dir):
    with pytest.raises(ValueError, match=says("FastRCNN", "file", "tools/rescore.py")):
        wrapped("fast_rcnn/fast-rcnn_r50_fpn_1x_coco.py", encoder_dir)


def test_operators_of_the_compiled_mmcv_are_named(encoder_dir):
    wrapper = wrapped("dcn/faster-rcnn_r50_fpn_dpool_1x_coco.py", encoder_dir)
    try:
        from mmcv import _ext
    except ImportError:
        pytest.skip("no operators at all")
    if type(_ext).__name__ != "StandInExtension":
        pytest.skip("this environment has the compiled mmcv")
    with pytest.raises(ValueError, match=says("FasterRCNN", "deform_roi_pool_forward")):
        wrapper.propose(*batch_of(wrapper, SIZES[0]))


@pytest.mark.parametrize(
    "path",
    [
        "dyhead/atss_r50_fpn_dyhead_1x_coco.py",
        "reppoints/reppoints-moment_r50_fpn_1x_coco.py",
        "cascade_rpn/cascade-rpn_faster-rcnn_r50-caffe_fpn_1x_coco.py",
        "sparse_rcnn/sparse-rcnn_r50_fpn_1x_coco.py",
        "rpn/rpn_r50_fpn_1x_coco.py",
    ],
)
def test_boxes_lie_in_the_picture(path, encoder_dir):
    wrapper = wrapped(path, encoder_dir)
    for size in SIZES:
        (regions,) = wrapper.propose(*batch_of(wrapper, size))
        assert_in_the_picture(regions, size)
