# FG-CLIP-L on OV-COCO, 65-way protocol.
_base_ = "ovdet_fgclip_b_640_3e_ov_coco.py"

image_size = (896, 896)
train_pipeline = _base_.train_pipeline
train_pipeline[2].scale = train_pipeline[3].crop_size = image_size
test_pipeline = _base_.test_pipeline
test_pipeline[1].scale = image_size
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

model = dict(
    backbone=dict(encoder="qihoo360/fg-clip-large", out_indices=(6, 10, 14, 23)),
    data_preprocessor=dict(pad_size_divisor=896),
)
