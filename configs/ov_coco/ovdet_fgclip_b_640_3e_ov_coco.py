# FG-CLIP-B on OV-COCO, 65-way protocol. README.md beside this file has the commands.
_base_ = [
    "../_base_/ov_coco_detection.py",
    "../_base_/ovdet_fgclip.py",
    "../_base_/schedule_ov_coco.py",
    "../_base_/default_runtime.py",
]

# Beside the last two checkpoints, the one that finds the novel classes best.
default_hooks = dict(checkpoint=dict(save_best="AP50_novel", rule="greater"))
model = dict(
    text_cache_dir="work_dirs/text_embeddings",
    # Squares of this side, in training and in testing.
    data_preprocessor=dict(pad_size_divisor=640),
)
