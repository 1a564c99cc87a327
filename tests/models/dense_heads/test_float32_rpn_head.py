import torch

from fgclip_det.models import Float32RPNHead


def head():
    torch.manual_seed(0)
    anchors = dict(type="AnchorGenerator", scales=[8], ratios=[1.0], strides=[16])
    test_cfg = dict(
        nms_pre=50, max_per_img=20, nms=dict(type="nms", iou_threshold=0.7), min_bbox_size=0
    )
    from mmengine.config import ConfigDict

    built = Float32RPNHead(
        8, feat_channels=8, anchor_generator=anchors, test_cfg=ConfigDict(test_cfg)
    )
    return built.eval()


def test_proposals_are_float32_and_unrounded_under_autocast():
    rpn, x = head(), [torch.randn(1, 8, 4, 84)]
    metas = [dict(img_shape=(64, 1333))]
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        scores, deltas = rpn(x)
        proposals = rpn.predict_by_feat(scores, deltas, batch_img_metas=metas)[0]
    assert scores[0].dtype == deltas[0].dtype == torch.float32
    assert proposals.bboxes.dtype == proposals.scores.dtype == torch.float32
    # The right border, which bfloat16 would put at 1336.
    assert float(proposals.bboxes[:, 2].max()) == 1333.0
