# Ablation: the detector on the encoder of pretrain_global_only_tiny.py.
_base_ = "ovdet_tiny.py"

model = dict(backbone=dict(encoder="work_dirs/shapes_pretrain_global_only/encoder"))
work_dir = "work_dirs/shapes_ovdet_global_only"
