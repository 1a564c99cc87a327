# Baseline: OpenAI's CLIP-B/16 in place of FG-CLIP-B.
_base_ = "ovdet_fgclip_b_640_3e_ov_coco.py"

model = dict(backbone=dict(encoder="openai/clip-vit-base-patch16"))
