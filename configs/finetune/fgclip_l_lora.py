# Adapters of FG-CLIP-L on FineHARD.
_base_ = "fgclip_l_full.py"

model = dict(adapters=dict(type="lora", rank=16, alpha=32))
optim_wrapper = dict(optimizer=dict(lr=1e-4))
work_dir = "work_dirs/finetune_fgclip_l_lora"
