# FG-CLIP 2's objectives with the weights of its paper (arXiv 2510.10921, equation 4).
_base_ = "objectives_fgclip2.py"
model = dict(
    weight_region=0.1,
    weight_hard_contrastive=0.0,
    weight_hard=0.5,
    weight_ranking=0.4,
)
