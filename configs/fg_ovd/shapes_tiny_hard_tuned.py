# The hard subset for a detector of finetune_shapes_tiny.py: captions weigh as what it was trained
# on, not as words that are new to it.
_base_ = "shapes_tiny_hard.py"

model = dict(test_cfg=dict(rcnn=dict(beta=_base_.model.test_cfg.rcnn.alpha)))
work_dir = "work_dirs/fg_ovd_shapes_tuned"
