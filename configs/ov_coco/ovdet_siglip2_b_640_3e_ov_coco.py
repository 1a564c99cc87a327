# Baseline: SigLIP 2-B/16 in place of FG-CLIP 2-B.
_base_ = "ovdet_fgclip2_b_640_3e_ov_coco.py"

model = dict(backbone=dict(encoder="google/siglip2-base-patch16-naflex"))
