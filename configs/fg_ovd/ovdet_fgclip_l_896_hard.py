# FG-CLIP-L on FG-OVD's hard subset; tools/test.py --subsets takes it to the others.
_base_ = "ovdet_fgclip_b_640_hard.py"

image_size = (896, 896)
test_pipeline = _base_.test_pipeline
test_pipeline[1].scale = image_size
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))

model = dict(
    backbone=dict(encoder="qihoo360/fg-clip-large", out_indices=(6, 10, 14, 23)),
    data_preprocessor=dict(pad_size_divisor=896),
)
