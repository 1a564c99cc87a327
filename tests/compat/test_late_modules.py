"""Late modules run on the first use of one of their names, and are the real ones from then on."""

from __future__ import annotations

import copy
import importlib
import inspect
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from fgclip_det.compat import late_modules

REGISTRY = 'from mmengine.registry import Registry\n\nMODELS = Registry("model")\n'
HEAVY = """import colours_ran
from late_colours.registry import MODELS

SHADES = 7


def mix(first, second):
    return first + second


@MODELS.register_module()
class Red:
    shade = 3

    def __init__(self, depth=1):
        self.depth = depth


class _Hidden:
    pass
"""
INIT = "from .heavy import Red, mix\n"


@pytest.fixture
def colours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The package ``late_colours``, whose module ``heavy`` is late and imports ``colours_ran``."""
    yield make_package(tmp_path, monkeypatch, HEAVY)
    forget()


def make_package(folder: Path, monkeypatch: pytest.MonkeyPatch, heavy: str) -> ModuleType:
    forget()
    package = folder / "late_colours"
    package.mkdir()
    (folder / "colours_ran.py").write_text("")
    for name, text in (("__init__", INIT), ("registry", REGISTRY), ("heavy", heavy)):
        (package / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setattr(late_modules, "LATE", {"late_colours.heavy"})
    return importlib.import_module("late_colours")


def forget() -> None:
    for name in [name for name in sys.modules if name.startswith(("late_colours", "colours_ran"))]:
        del sys.modules[name]


def has_run() -> bool:
    return "colours_ran" in sys.modules


def test_naming_inspecting_and_copying_run_nothing(colours: ModuleType) -> None:
    registry = importlib.import_module("late_colours.registry").MODELS
    assert registry.get("Red") is colours.Red and colours.Red.__name__ == "Red"
    assert inspect.isclass(colours.Red) and not inspect.isfunction(colours.Red)
    assert inspect.isfunction(colours.mix) and callable(colours.mix)
    assert not isinstance(3, colours.Red) and not isinstance(3, (str, colours.Red))
    assert not issubclass(int, colours.Red) and "late_colours.heavy.Red" in repr(colours.Red)
    assert copy.deepcopy({"type": colours.Red})["type"] is colours.Red
    assert not has_run()


@pytest.mark.parametrize(
    "use",
    [
        lambda colours: colours.Red(depth=2),
        lambda colours: colours.mix("a", "b"),
        lambda colours: colours.Red.shade,
        lambda colours: type("Dark", (), {}) | colours.Red,
        lambda colours: colours.Red | None,
        lambda colours: colours.heavy.SHADES,
        lambda colours: colours.heavy._Hidden,
        lambda colours: importlib.import_module("late_colours.registry").MODELS.build(
            {"type": "Red", "depth": 4}
        ),
    ],
)
def test_any_use_runs_it_and_puts_the_real_ones_in_place(colours: ModuleType, use) -> None:
    registry = importlib.import_module("late_colours.registry").MODELS
    kept = colours.Red
    use(colours)
    assert has_run() and type(colours.Red) is type and colours.Red is not kept
    assert colours.Red is colours.heavy.Red is registry.get("Red")
    assert len(registry) == 1
    # Who imported the stand-in elsewhere has the same class.
    made = kept(depth=5)
    assert type(made) is colours.Red and made.depth == 5
    assert isinstance(made, kept) and issubclass(colours.Red, kept) and not issubclass(int, kept)
    assert pickle.loads(pickle.dumps(kept)) is colours.Red


def test_built_objects_are_of_the_real_class(colours: ModuleType) -> None:
    registry = importlib.import_module("late_colours.registry").MODELS
    late = colours.Red
    built = [registry.build({"type": kind, "depth": 4}) for kind in ("Red", late)]
    assert [type(one) is colours.Red and one.depth == 4 for one in built] == [True, True]
    with pytest.raises(AttributeError, match="no attribute 'Blue'"):
        _ = colours.heavy.Blue


def test_classes_derive_from_the_real_one(colours: ModuleType) -> None:
    late = colours.Red

    class Dark(late):
        def __init__(self) -> None:
            super().__init__(depth=9)

    assert Dark.__mro__ == (Dark, colours.Red, object) and Dark().depth == 9
    assert isinstance(Dark(), late)


def test_a_module_that_fails_stays_late_and_says_why_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    colours = make_package(tmp_path, monkeypatch, HEAVY)
    registry = importlib.import_module("late_colours.registry").MODELS
    (tmp_path / "colours_ran.py").write_text("raise ImportError('no paint')\n")
    importlib.invalidate_caches()
    for _ in range(2):
        with pytest.raises(ImportError, match="no paint"):
            colours.Red()
        assert registry.get("Red") is colours.Red and len(registry) == 1
    (tmp_path / "colours_ran.py").write_text("# painted again\n")
    assert colours.Red().depth == 1 and registry.get("Red") is colours.heavy.Red
    forget()


def test_a_module_that_needs_its_own_class_too_early_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    early = "import late_colours\nassert not isinstance(3, late_colours.Red)\nlate_colours.Red()\n"
    colours = make_package(tmp_path, monkeypatch, early + HEAVY)
    with pytest.raises(ImportError, match="Red> is asked for while its module"):
        colours.Red()
    assert not has_run()
    forget()


@pytest.mark.parametrize("decorator", ["@MODELS.register_module(name='Rouge')", "@final"])
def test_a_module_of_another_form_runs_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decorator: str
) -> None:
    heavy = "from typing import final\n" + HEAVY.replace("@MODELS.register_module()", decorator)
    colours = make_package(tmp_path, monkeypatch, heavy)
    assert has_run() and type(colours.Red) is type
    forget()


def test_installing_twice_adds_one_finder() -> None:
    late_modules.install()
    late_modules.install()
    assert sum(isinstance(f, late_modules._LateFinder) for f in sys.meta_path) == 1


LISTED = """
import importlib, sys
from fgclip_det.compat import late_modules
import mmdet.models, mmdet.evaluation, mmdet.engine, mmengine.runner, mmengine.model
heavy = ("scipy.optimize", "matplotlib", "torch.distributed.fsdp", "sympy", "torch._dynamo",
         "torchvision", "transformers.modeling_utils")
assert not [name for name in heavy if name in sys.modules], "imported too early"
modules = [importlib.import_module(name) for name in sorted(late_modules.LATE)]
assert all(type(module) is late_modules.LateModule and module.is_late for module in modules)
lates = [late for module in modules for late in module._late]
for module in modules:
    module.run_late()
for late in lates:
    real = getattr(sys.modules[late.__module__], late.__name__)
    assert type(real) is not late_modules.LateObject and real.__name__ == late.__name__, late
    registry = vars(late)["_registry"]
    assert registry is None or registry.get(late.__name__) is real, late
assert sum(vars(late)["_registry"] is not None for late in lates) == 12
print(len(lates), "names")
"""


@pytest.mark.slow
def test_each_listed_module_is_late_and_runs() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LISTED], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("names\n")
