# Tuning FG-CLIP on FineHARD (arXiv 2505.05071, second stage): data, schedule and runtime.
custom_imports = dict(
    imports=["fgclip_det.pretrain", "fgclip_det.datasets", "fgclip_det.engine"],
    allow_failed_imports=False,
)
default_scope = "mmdet"

# Shards of tools/prepare_finehard.py.
data_root = "data/finehard/shards"
# Pictures of one GPU; 8 GPUs see 4096 at once, and 12 million are seen once.
batch_size = 512
max_iters = 2930
warmup_iters = 200
base_lr = 1e-6

train_dataloader = dict(
    batch_size=batch_size,
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type="ShardSampler"),
    collate_fn=dict(type="collate_region_captions"),
    dataset=dict(type="FineHARDStream", folder=data_root),
)
train_cfg = dict(type="IterBasedTrainLoop", max_iters=max_iters, val_interval=max_iters + 1)
# Weights, their gradients and the optimizer stay float32: at a rate of 1e-6 bfloat16 would round
# most updates away. So do similarities and losses.
optim_wrapper = dict(
    type="AutocastOptimWrapper",
    dtype="bfloat16",
    optimizer=dict(type="AdamW", lr=base_lr, weight_decay=0.001),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-3, by_epoch=False, begin=0, end=warmup_iters),
    dict(
        type="CosineAnnealingLR",
        T_max=max_iters - warmup_iters,
        eta_min=0.0,
        by_epoch=False,
        begin=warmup_iters,
        end=max_iters,
    ),
]
auto_scale_lr = dict(enable=False, base_batch_size=4096)
default_hooks = dict(
    logger=dict(type="LoggerHook", interval=10),
    checkpoint=dict(type="CheckpointHook", by_epoch=False, interval=100, max_keep_ckpts=2),
)
custom_hooks = [
    dict(type="ExportEncoderHook", directory="encoder"),
    dict(type="LeftOutHook"),
]
log_processor = dict(by_epoch=False, window_size=10)
randomness = dict(seed=0)
