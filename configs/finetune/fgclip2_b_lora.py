# Adapters of FG-CLIP 2-B on FineHARD.
_base_ = "fgclip2_b_full.py"

model = dict(adapters=dict(type="lora", rank=16, alpha=32))
optim_wrapper = dict(optimizer=dict(lr=1e-4))
work_dir = "work_dirs/finetune_fgclip2_b_lora"
