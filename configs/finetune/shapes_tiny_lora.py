# The same with adapters in place of all weights.
_base_ = "shapes_tiny_full.py"

model = dict(adapters=dict(type="lora", rank=16, alpha=32, trained=("logit_scale",)))
optim_wrapper = dict(optimizer=dict(lr=1e-4))
work_dir = "work_dirs/finetune_shapes_lora"
