# As for OV-COCO, but 48 epochs, with steps at 32 and 44.
_base_ = "schedule_ov_coco.py"

max_epochs = 48
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=250),
    dict(
        type="MultiStepLR", by_epoch=True, begin=0, end=max_epochs, milestones=[32, 44], gamma=0.1
    ),
]
