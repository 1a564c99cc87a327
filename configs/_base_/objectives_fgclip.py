# FG-CLIP's objectives with the weights of its paper and code. What they are: docs/objectives.md.
model = dict(
    type="FGCLIPPretrainer",
    weight_long=1.0,
    weight_short=1.0,
    weight_region=0.1,
    weight_hard=0.5,
    gather_regions=False,
)
