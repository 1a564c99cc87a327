# As ovdet_fgclip_b_640_hard.py, on the color subset.
_base_ = "ovdet_fgclip_b_640_hard.py"

annotations = "data/fg_ovd/color.json"
n_negatives = 2
test_dataloader = dict(dataset=dict(ann_file=annotations, n_negatives=n_negatives))
test_evaluator = dict(ann_file=annotations, n_negatives=n_negatives)
