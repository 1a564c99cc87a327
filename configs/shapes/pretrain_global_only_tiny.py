# Ablation: the same encoder without the region and hard-negative objectives.
_base_ = "pretrain_fgclip_tiny.py"

model = dict(weight_long=1.0, weight_short=1.0, weight_region=0.0, weight_hard=0.0)
work_dir = "work_dirs/shapes_pretrain_global_only"
