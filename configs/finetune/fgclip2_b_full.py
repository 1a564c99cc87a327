# All weights of FG-CLIP 2-B on FineHARD, 16 GPUs of 256 pictures (arXiv 2510.10921, second stage;
# the Chinese half of its data is not published).
_base_ = ["../_base_/objectives_fgclip2.py", "../_base_/finehard.py"]

encoder = "qihoo360/fg-clip2-base"
warmup_iters = 300
model = dict(encoder=encoder, recompute_activations=True)
train_dataloader = dict(
    batch_size=256,
    collate_fn=dict(type="collate_patches"),
    dataset=dict(generation=2, tokenizer=encoder),
)
optim_wrapper = dict(optimizer=dict(betas=(0.9, 0.98)))
param_scheduler = _base_.param_scheduler
param_scheduler[0].end = warmup_iters
param_scheduler[1].begin = warmup_iters
param_scheduler[1].T_max = _base_.max_iters - warmup_iters
work_dir = "work_dirs/finetune_fgclip2_b_full"
