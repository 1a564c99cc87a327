"""Modules of mmengine and mmdet that run when one of their classes is used, not when it is named.

Both packages import all of themselves, and a few of their modules bring what costs more to import
than torch: transformers' models, torch's sharding, matplotlib, scipy. Each is for one class or
function that most programs never ask for.

Such a module is replaced by a stand-in of its public classes and functions, which are registered
under their names as ever. The first call, attribute or derived class of any of them runs the module
itself, which registers and puts in place the real ones. What was imported before this package is
left as it is, and so is a module that is not of the form that is expected here.
"""

from __future__ import annotations

import importlib
import re
import sys
import threading
from collections.abc import Iterator, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import FunctionType, ModuleType
from typing import Any

LATE = {
    # torch.distributed.optim and torch.distributed.fsdp
    "mmengine.optim.optimizer.zero_optimizer",
    "mmengine.model.wrappers.fully_sharded_distributed",
    "mmengine._strategy.fsdp",
    # transformers' BERT, with all that its models share
    "mmdet.datasets.transforms.text_transformers",
    "mmdet.models.language_models.bert",
    "mmdet.models.utils.vlfuse_helper",
    "mmdet.models.dense_heads.atss_vlfusion_head",
    # scipy.optimize
    "mmdet.models.task_modules.assigners.hungarian_assigner",
    "mmdet.models.task_modules.assigners.topk_hungarian_assigner",
    "mmdet.models.task_modules.tracking.aflink",
    # scipy.linalg
    "mmdet.models.task_modules.tracking.kalman_filter",
    # scipy.sparse
    "mmdet.evaluation.metrics.crowdhuman_metric",
    # matplotlib.pyplot
    "mmdet.utils.mot_error_visualize",
}
_PUBLIC = re.compile(
    r"^(?:@(?P<registry>\w+)\.register_module\(\)\n)?(?P<kind>class|def) (?P<name>[A-Za-z]\w*)",
    re.MULTILINE,
)
_DECORATOR = re.compile(r"^@", re.MULTILINE)
# One for all: the modules import one another.
_running = threading.RLock()


class LateObject:
    """Stand-in for a class or a function of a module that has not run."""

    def __init__(self, module: LateModule, name: str, kind: type, registry: Any) -> None:
        # Straight into the dict: all that is not found there is asked of the real one.
        vars(self).update(
            __module__=module.__name__,
            __name__=name,
            __qualname__=name,
            _home=module,
            _kind=kind,
            _registry=registry,
        )

    @property
    def __class__(self) -> type:  # type: ignore[override]
        """What `inspect.isclass` and `isfunction` are to find."""
        return vars(self)["_kind"]

    def _defined(self) -> Any:
        """What has the name in the module: `self` for as long as that has not defined another."""
        return vars(vars(self)["_home"])[vars(self)["__name__"]]

    def _real(self) -> Any:
        vars(self)["_home"].run_late()
        real = self._defined()
        if real is self:
            raise ImportError(f"{self!r} is asked for while its module runs, before it is there")
        return real

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real(), name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._real()(*args, **kwargs)

    def __or__(self, other: Any) -> Any:
        return self._real() | other

    def __ror__(self, other: Any) -> Any:
        return other | self._real()

    def __reduce_ex__(self, protocol: Any) -> tuple:
        # As classes are pickled: by their names.
        return _find, (vars(self)["__module__"], vars(self)["__name__"])

    def __deepcopy__(self, memo: dict) -> LateObject:
        return self

    def __mro_entries__(self, bases: tuple) -> tuple[type]:
        return (self._real(),)

    def __instancecheck__(self, instance: object) -> bool:
        # Nothing is an instance of a class that does not exist yet.
        return self._defined() is not self and isinstance(instance, self._defined())

    def __subclasscheck__(self, subclass: type) -> bool:
        return self._defined() is not self and issubclass(subclass, self._defined())

    def __repr__(self) -> str:
        return f"<late {vars(self)['__module__']}.{vars(self)['__name__']}>"


def _find(module: str, name: str) -> Any:
    return getattr(importlib.import_module(module), name)


class LateModule(ModuleType):
    """A module of late objects until it runs, the real one from then on."""

    is_late = False

    def stand_in(self, loader: SourceFileLoader, source: str) -> None:
        """Name and register what `source` defines; `loader` is what runs it."""
        registries = importlib.import_module(f"{self.__name__.partition('.')[0]}.registry")
        late = [
            LateObject(
                self,
                found["name"],
                type if found["kind"] == "class" else FunctionType,
                found["registry"] and getattr(registries, found["registry"]),
            )
            for found in _PUBLIC.finditer(source)
        ]
        vars(self).update({found.__name__: found for found in late})
        vars(self).update(_loader=loader, _late=late, is_late=True)
        self._register()

    def _register(self) -> None:
        for late in self._late:
            registry = vars(late)["_registry"]
            if registry is not None:
                registry.register_module(module=late)

    def _unregister(self) -> None:
        for late in self._late:
            registry = vars(late)["_registry"]
            if registry is not None:
                registry.module_dict.pop(late.__name__, None)

    def run_late(self) -> None:
        """Run the module, once."""
        with _running:
            if not self.is_late:
                return
            self.is_late = False
            self._unregister()
            try:
                self._loader.exec_module(self)
            except BaseException:
                self._unregister()
                vars(self).update({late.__name__: late for late in self._late})
                self._register()
                self.is_late = True
                raise
            self._replace()

    def _replace(self) -> None:
        """Put the real ones where packages have imported the late ones to."""
        package = self.__name__.partition(".")[0]
        for name, module in list(sys.modules.items()):
            if name.partition(".")[0] == package:
                for late in self._late:
                    if vars(module).get(late.__name__) is late:
                        setattr(module, late.__name__, vars(self)[late.__name__])

    def __getattr__(self, name: str) -> Any:
        # Import machinery and inspect probe for dunders; they must see an ordinary module.
        if name.startswith("__") or not self.is_late:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        self.run_late()
        return getattr(self, name)


class _LateLoader(Loader):
    """Makes a late module of a file whose definitions can be read off its text."""

    def __init__(self, loader: SourceFileLoader, source: str) -> None:
        self.loader, self.source = loader, source

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return LateModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        module.stand_in(self.loader, self.source)


class _LateFinder(MetaPathFinder):
    """Finds the late modules, and nothing else."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in LATE:
            return None
        spec = PathFinder.find_spec(name, path)
        if spec is None or not isinstance(spec.loader, SourceFileLoader):
            return None
        source = spec.loader.get_source(name) or ""
        if len(list(_decorated(source))) == len(_DECORATOR.findall(source)):
            spec.loader = _LateLoader(spec.loader, source)
        return spec


def _decorated(source: str) -> Iterator[re.Match]:
    return (found for found in _PUBLIC.finditer(source) if found["registry"])


def install() -> None:
    """Let the modules of `LATE` run late from here on; calling again is free."""
    if not any(isinstance(finder, _LateFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _LateFinder())
