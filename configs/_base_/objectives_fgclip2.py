# FG-CLIP 2's objectives with the weights of its authors' code. What they are: docs/objectives.md.
model = dict(
    type="FGCLIP2Pretrainer",
    weight_long=1.0,
    weight_short=1.0,
    weight_region=0.2,
    weight_intra_modal=0.1,
    weight_hard_contrastive=0.3,
    weight_hard=1.5,
    weight_ranking=0.2,
    gather_regions=False,
)
