# FG-CLIP 2-B in place of FG-CLIP-B, with its own protocol: up to 1024 patches, the ratio kept.
_base_ = "dino_r50_fgclip_b_coco.py"

model = dict(
    encoder="qihoo360/fg-clip2-base", frame=dict(_delete_=True, resize="patches", max_patches=None)
)
