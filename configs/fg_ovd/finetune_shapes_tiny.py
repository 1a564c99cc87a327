# The detector of Shapes, tuned on captions with one attribute swapped beside its base classes.
# From the bundled one on, without having trained anything before:
# python tools/train.py configs/fg_ovd/finetune_shapes_tiny.py --cfg-options \
#     model.backbone.encoder=fgclip_det/assets/shapes/encoder \
#     load_from=fgclip_det/assets/shapes/detector.pth
_base_ = "../shapes/ovdet_tiny.py"

load_from = "work_dirs/shapes_ovdet/epoch_10.pth"
max_epochs = 3

caption_pipeline = [
    *_base_.train_pipeline[:-1],
    dict(
        type="PackDetInputs",
        meta_keys=(*_base_.test_pipeline[-1].meta_keys, "vocabularies"),
    ),
]
# Every picture twice: with its base classes, so that these are not forgotten, and with captions.
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type="ConcatDataset",
        # The two differ in them, and each sample brings what the detector needs to know.
        ignore_keys=["classes", "base_classes", "novel_classes", "captions", "missing_images"],
        datasets=[
            _base_.train_dataloader.dataset,
            dict(
                type="FGOVDDataset",
                ann_file=_base_.data_root + "fg_ovd/train_1_attributes.json",
                data_prefix=dict(img=_base_.data_root),
                n_negatives=10,
                test_mode=False,
                pipeline=caption_pipeline,
            ),
        ],
    ),
)
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
optim_wrapper = dict(optimizer=dict(lr=8e-4))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(
        type="CosineAnnealingLR",
        by_epoch=True,
        convert_to_iter_based=True,
        begin=0,
        end=max_epochs,
        T_max=max_epochs,
        eta_min_ratio=0.01,
    ),
]
work_dir = "work_dirs/fg_ovd_finetune_shapes"
