# FG-CLIP-B's words for the boxes of MMDetection's RetinaNet R-50.
_base_ = ["mmdet::retinanet/retinanet_r50_fpn_1x_coco.py", "../_base_/region_text.py"]

detector = _base_.model
# What the detector finds unlikely may be what is asked for.
detector.test_cfg.update(score_thr=0.001, max_per_img=300)
model = dict(_delete_=True, detector=detector, **_base_.wrapper)
