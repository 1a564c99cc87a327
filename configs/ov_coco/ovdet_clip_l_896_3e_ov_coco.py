# Baseline: OpenAI's CLIP-L/14 of 336 pixels in place of FG-CLIP-L.
_base_ = "ovdet_fgclip_l_896_3e_ov_coco.py"

model = dict(backbone=dict(encoder="openai/clip-vit-large-patch14-336"))
