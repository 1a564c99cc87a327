# Your own data: copy this file and change the paths. docs/train_your_own.md tells how.
_base_ = "../ov_coco/ovdet_fgclip_b_640_3e_ov_coco.py"

data_root = "data/custom/"
train_file = "annotations/train.json"
val_file = "annotations/val.json"
# Names to train and to test: those of an annotation file, or a file of names, perhaps in groups.
vocabulary = data_root + train_file
# "base" where the vocabulary has groups and boxes of its novel names must stay out of training.
classes = "all"

train_dataloader = dict(
    dataset=dict(
        vocabulary=vocabulary,
        classes=classes,
        data_root=data_root,
        ann_file=train_file,
        data_prefix=dict(img="train/"),
    )
)
val_dataloader = dict(
    dataset=dict(
        vocabulary=vocabulary,
        data_root=data_root,
        ann_file=val_file,
        data_prefix=dict(img="val/"),
    )
)
test_dataloader = val_dataloader
val_evaluator = dict(protocol=None, ann_file=data_root + val_file)
test_evaluator = val_evaluator

# "AP50_novel" where the vocabulary has groups and finding what is new matters most.
default_hooks = dict(checkpoint=dict(save_best="AP50_all"))
model = dict(vocabulary=dict(names=vocabulary))
