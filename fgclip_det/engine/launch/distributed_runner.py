"""MMEngine's runner, in one process or several, with GPUs or without."""

from __future__ import annotations

from mmengine.device import get_device
from mmengine.dist import is_distributed
from mmengine.evaluator import Evaluator
from mmengine.model import is_model_wrapper, revert_sync_batchnorm
from mmengine.registry import MODEL_WRAPPERS
from mmengine.runner import Runner
from mmengine.utils.dl_utils import set_multi_processing
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from fgclip_det.engine.launch.patient_evaluator import PatientEvaluator
from fgclip_det.engine.launch.process_group import start_processes
from fgclip_det.engine.launch.same_everywhere import check_same_everywhere


class DistributedRunner(Runner):
    """It differs from MMEngine's runner in that

    * processes without GPUs are joined by gloo, and the model is wrapped for the CPU; synchronised
      batch norm, which torch has for GPUs alone, is plain there;
    * a collective waits for `COLLECTIVE_LIMIT` seconds, unless ``env_cfg.dist_cfg.timeout`` says
      otherwise; for metrics and checkpoints of the first process the others wait without limit;
    * processes that run other code or another config than the first one are refused.
    """

    def setup_env(self, env_cfg: dict) -> None:
        """Set up the environment, and join the other processes."""
        if self.distributed and not is_distributed():
            set_multi_processing(**env_cfg.get("mp_cfg", {}), distributed=True)
            start_processes(self.launcher, env_cfg.get("dist_cfg"))
        super().setup_env(env_cfg)
        check_same_everywhere(self.cfg)

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        """Wrap the model for several processes."""
        if not self.distributed or get_device() != "cpu" or is_model_wrapper(model):
            return super().wrap_model(model_wrapper_cfg, model)
        if self.cfg.get("sync_bn"):
            raise ValueError("sync_bn is set, and there is no GPU, which it needs: unset it")
        if any(isinstance(layer, nn.SyncBatchNorm) for layer in model.modules()):
            self.logger.warning("no GPU: SyncBatchNorm is plain batch norm of each process's batch")
            model = revert_sync_batchnorm(model)
        config = dict(model_wrapper_cfg or self._default_wrapper())
        kind = MODEL_WRAPPERS.get(config.setdefault("type", "MMDistributedDataParallel"))
        if issubclass(kind, DistributedDataParallel):
            # MMEngine's default, the number of this process, is one of a GPU.
            config["device_ids"] = None
        return super().wrap_model(config, model)

    def _default_wrapper(self) -> dict:
        unused = self.cfg.get("find_unused_parameters", False)
        return {"broadcast_buffers": False, "find_unused_parameters": unused}

    def build_evaluator(self, evaluator: dict | list | Evaluator) -> Evaluator:
        """Build the evaluator of a config."""
        built = super().build_evaluator(evaluator)
        return PatientEvaluator(built.metrics) if type(built) is Evaluator else built
