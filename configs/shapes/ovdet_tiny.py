# The bundled detector: minutes on a CPU, on the encoder that pretrain_fgclip_tiny.py makes.
# python tools/train.py configs/shapes/ovdet_tiny.py
_base_ = [
    "../_base_/shapes_detection.py",
    "../_base_/ovdet_fgclip.py",
    "../_base_/schedule_shapes.py",
    "../_base_/default_runtime.py",
]

encoder = "work_dirs/shapes_pretrain/encoder"
norm_cfg = dict(type="BN", requires_grad=True)

model = dict(
    vocabulary={{_base_.vocabulary}},
    backbone=dict(encoder=encoder, out_indices=(-3, -2, -1)),
    # Patches of 8 pixels and objects of 26 to 64: strides 4, 8, 16 and anchors of 32, 64, 128.
    neck=dict(out_channels=64, scales=(2, 1, 0.5), num_outs=3, norm_cfg=norm_cfg),
    rpn_head=dict(num_convs=1),
    roi_head=dict(
        bbox_roi_extractor=dict(output_size=5, finest_scale=24),
        bbox_head=dict(
            num_shared_convs=1,
            conv_out_channels=64,
            num_shared_fcs=1,
            num_cls_fcs=0,
            num_reg_fcs=0,
            fc_out_channels=128,
            norm_cfg=norm_cfg,
        ),
    ),
    train_cfg=dict(
        rpn=dict(sampler=dict(num=64)),
        rpn_proposal=dict(nms_pre=200, max_per_img=100),
        rcnn=dict(sampler=dict(num=32)),
    ),
    test_cfg=dict(rpn=dict(nms_pre=200, max_per_img=100)),
)
work_dir = "work_dirs/shapes_ovdet"
