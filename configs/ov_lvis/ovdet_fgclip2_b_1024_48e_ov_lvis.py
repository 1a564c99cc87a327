# FG-CLIP 2-B in place of FG-CLIP-B; the recipe's numbers stay, none of them tuned for it.
_base_ = "ovdet_fgclip_b_1024_48e_ov_lvis.py"

model = dict(backbone=dict(type="FGCLIP2ViT", encoder="qihoo360/fg-clip2-base"))
