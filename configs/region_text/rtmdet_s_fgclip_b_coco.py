# FG-CLIP-B's words for the boxes of MMDetection's RTMDet-s.
_base_ = ["mmdet::rtmdet/rtmdet_s_8xb32-300e_coco.py", "../_base_/region_text.py"]

model = dict(_delete_=True, detector=_base_.model, **_base_.wrapper)
# Its hooks are for training.
custom_hooks = []
