# FG-CLIP-B's words for the boxes of MMDetection's DINO R-50.
_base_ = ["mmdet::dino/dino-4scale_r50_8xb2-12e_coco.py", "../_base_/region_text.py"]

model = dict(_delete_=True, detector=_base_.model, **_base_.wrapper)
