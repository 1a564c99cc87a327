# 3 epochs at a constant rate, batch 64 over all GPUs; `tools/train.py --amp` for mixed precision,
# `--auto-scale-lr` where the batch is another.
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=3, val_interval=1)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=1e-4, weight_decay=0.1),
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=250),
]
auto_scale_lr = dict(enable=False, base_batch_size=64)
