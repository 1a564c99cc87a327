# Adapters of FG-CLIP-B on FineHARD.
_base_ = "fgclip_b_full.py"

model = dict(adapters=dict(type="lora", rank=16, alpha=32))
# Ours, not published: adapters begin at nothing and bear a rate that would harm the weights.
optim_wrapper = dict(optimizer=dict(lr=1e-4))
work_dir = "work_dirs/finetune_fgclip_b_lora"
