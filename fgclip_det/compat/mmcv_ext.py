"""Stand-in for the compiled module `mmcv._ext` where only mmcv-lite is installed.

mmdet imports `mmcv.ops`, every file of which asks `mmcv._ext` for its C++ functions at import.
The stand-in implements those that mmdet's detectors need on torchvision and on our own op
(`docs/install.md` lists the detectors of each); any other name is a function that raises an error
naming the op and the way to get it.
"""

import importlib.util
import sys
from collections.abc import Callable
from importlib.abc import Loader
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

from . import mmcv_losses, mmcv_nms, mmcv_sampling
from .mmcv_missing import missing_op_error

MODULE_NAME = "mmcv._ext"


def _not_compiled() -> str:
    """Answer of `get_compiler_version` and its CUDA twin, which environment reports print."""
    return "mmcv is not compiled; ops by fgclip_det.compat"


OPS: dict[str, Callable] = {
    **mmcv_nms.OPS,
    **mmcv_losses.OPS,
    **mmcv_sampling.OPS,
    "get_compiler_version": _not_compiled,
    "get_compiling_cuda_version": _not_compiled,
}


class StandInExtension(ModuleType):
    """Module whose known attributes are ops and whose other attributes raise when called."""

    def __getattr__(self, name: str) -> Callable:
        if name.startswith("__"):
            # Import machinery and inspect probe for dunders; they must see an ordinary module.
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        op = _missing_op(name)
        setattr(self, name, op)
        return op


class _StandInLoader(Loader):
    """Loader for the spec: mmengine asks whether `mmcv._ext` can be found, not only imported."""

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return sys.modules[spec.name]

    def exec_module(self, module: ModuleType) -> None:
        """Nothing to run: the module is complete when it is installed."""


def _missing_op(name: str) -> Callable:
    def missing(*args: Any, **kwargs: Any) -> None:
        raise missing_op_error(f"the op {name!r}")

    missing.__name__ = missing.__qualname__ = name
    return missing


def has_compiled_ops() -> bool:
    """True if the installed mmcv has a real `mmcv._ext`; found without importing mmcv."""
    parent = importlib.util.find_spec("mmcv") if "mmcv" not in sys.modules else None
    paths = parent.submodule_search_locations if parent else _loaded_package_path()
    return bool(paths) and PathFinder.find_spec(MODULE_NAME, list(paths)) is not None


def _loaded_package_path() -> list[str]:
    return list(getattr(sys.modules.get("mmcv"), "__path__", []))


def is_installed() -> bool:
    """True if `mmcv._ext` is our stand-in in this process."""
    return isinstance(sys.modules.get(MODULE_NAME), StandInExtension)


def install() -> bool:
    """Put the stand-in into `sys.modules` where mmcv has no compiled ops.

    Returns:
        Whether the stand-in is in place; False where mmcv is missing or has the real module.
    """
    if is_installed():
        return True
    if MODULE_NAME in sys.modules or has_compiled_ops():
        return False
    if "mmcv" not in sys.modules and importlib.util.find_spec("mmcv") is None:
        return False
    spec = ModuleSpec(MODULE_NAME, _StandInLoader(), origin="fgclip_det.compat.mmcv_ext")
    module = StandInExtension(MODULE_NAME, "mmcv's compiled ops, answered by fgclip_det.compat.")
    # pkgutil.find_loader raises ValueError for a module in sys.modules whose __spec__ is None.
    module.__spec__ = spec
    module.__loader__ = spec.loader
    module.__package__ = "mmcv"
    for name, op in OPS.items():
        setattr(module, name, op)
    sys.modules[MODULE_NAME] = module
    return True
