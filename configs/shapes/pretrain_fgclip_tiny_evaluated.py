# The same training, which asks the encoder for captions of pictures that it does not learn from:
# the best one so far is work_dirs/shapes_pretrain_evaluated/encoder_best.
_base_ = "./pretrain_fgclip_tiny.py"

custom_imports = dict(
    imports=[
        "fgclip_det.pretrain",
        "fgclip_det.datasets",
        "fgclip_det.engine",
        "fgclip_det.evaluation.encoder",
    ],
    allow_failed_imports=False,
)

data_root = "data/shapes/"
metric = "coco-retrieval/i2t_r1"
train_cfg = dict(val_interval=300)
val_cfg = dict(
    type="EncoderEvaluationLoop",
    protocols=[
        dict(
            protocol="coco-retrieval",
            root=data_root + "coco_captions",
            images=data_root + "pretrain_val",
        )
    ],
)
val_dataloader, val_evaluator = [], []
default_hooks = dict(
    logger=dict(log_metric_by_epoch=False), checkpoint=dict(save_best=metric, rule="greater")
)
custom_hooks = [
    dict(type="ExportEncoderHook", directory="encoder", interval=500, dtype="float16", best=metric)
]
work_dir = "work_dirs/shapes_pretrain_evaluated"
