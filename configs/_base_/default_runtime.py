custom_imports = dict(
    imports=[
        "fgclip_det.models",
        "fgclip_det.datasets",
        "fgclip_det.evaluation",
        "fgclip_det.engine",
    ],
    allow_failed_imports=False,
)
default_scope = "mmdet"
runner_type = "ResumableRunner"
default_hooks = dict(
    timer=dict(type="IterTimerHook"),
    logger=dict(type="LoggerHook", interval=50),
    param_scheduler=dict(type="ParamSchedulerHook"),
    checkpoint=dict(type="CheckpointHook", interval=1, max_keep_ckpts=2),
    sampler_seed=dict(type="DistSamplerSeedHook"),
    visualization=dict(type="LogPicturesHook", draw=True, pictures=8),
)
env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method="fork", opencv_num_threads=0),
    # Of GPUs; a CPU has gloo. Seconds that a process waits for another.
    dist_cfg=dict(backend="nccl", timeout=600),
)
vis_backends = [dict(type="LocalVisBackend")]
visualizer = dict(type="DetLocalVisualizer", vis_backends=vis_backends, name="visualizer")
log_processor = dict(type="LogProcessor", window_size=50, by_epoch=True)
log_level = "INFO"
load_from = None
resume = False
randomness = dict(seed=0)
