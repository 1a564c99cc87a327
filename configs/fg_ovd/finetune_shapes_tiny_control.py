# Control: the same training for as many iterations, on the base classes alone.
_base_ = "finetune_shapes_tiny.py"

train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type="RepeatDataset",
        times=2,
        dataset=_base_.train_dataloader.dataset.datasets[0],
    ),
)
work_dir = "work_dirs/fg_ovd_finetune_shapes_control"
