# 3 epochs at a constant rate, which is for a batch of 64 over all GPUs. Where the batch is another,
# the rate is scaled with it: on one GPU, the rate of eight diverges or loses 3 AP.
max_epochs = 3
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=max_epochs, val_interval=1)
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
auto_scale_lr = dict(enable=True, base_batch_size=64)
