"""Files are read and written through `fgclip_det.io` alone: every other way, found by `ast`.

A call that is found here belongs behind a door of `io`. Where it cannot, such as for tensors, which
`io` does not know, it is listed with its reason; one that is no longer needed fails too.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOORS = ROOT / "fgclip_det" / "io"

_INTO_OWN_FILE = "another package's writer, into the own file of replaced_file"
_INTO_OWN_FOLDER = "pictures in the own folder of replaced_folder"
_TENSORS = "io knows no tensors: safetensors and torch read their own files"
_SCRATCH = "a folder for another package, which reads it and leaves nothing"
_OWN_TEMPORARY = "a picture in a temporary folder, which read_image reads at once"
EXCEPTIONS = {
    ("fgclip_det/apis/inputs/addresses.py", "open"): _OWN_TEMPORARY,
    ("fgclip_det/apis/inputs/addresses.py", "tempfile"): _OWN_TEMPORARY,
    ("fgclip_det/apis/inputs/piped.py", "open"): _OWN_TEMPORARY,
    ("fgclip_det/apis/inputs/piped.py", "tempfile"): _OWN_TEMPORARY,
    ("fgclip_det/apis/fg_ovd/sheets.py", "save"): _INTO_OWN_FOLDER,
    ("fgclip_det/apis/labelling/formats/yolo.py", "symlink_to"): _INTO_OWN_FOLDER,
    ("fgclip_det/apis/detections.py", "save"): "to memory",
    ("fgclip_det/apis/heatmap.py", "Image.open"): "of what was drawn in memory",
    ("fgclip_det/apis/heatmap.py", "np.load"): "of a stream that io opened, without pickles",
    ("fgclip_det/apis/heatmap.py", "np.savez_compressed"): "to memory",
    ("fgclip_det/apis/video/source.py", "open"): "PyAV's, of a file that io opened before",
    ("fgclip_det/apis/video/writer.py", "open"): _INTO_OWN_FILE,
    ("fgclip_det/apis/image_regions.py", "save"): "of Regions, which writes through io",
    ("fgclip_det/cli/calibrate.py", "save"): "of Calibration, which writes through io",
    ("fgclip_det/compat/checkpoint.py", "import pickle"): "the name of torch's error",
    ("fgclip_det/compat/checkpoint.py", "load_file"): _TENSORS,
    ("fgclip_det/compat/checkpoint.py", "torch.load"): _TENSORS,
    ("fgclip_det/compat/safe_pickle.py", "import pickle"): "the name of an error",
    ("fgclip_det/compat/safe_pickle.py", "torch.load"): _TENSORS,
    (
        "fgclip_det/engine/hooks/atomic_checkpoint_hook.py",
        "save_checkpoint",
    ): "of the runner, which writes through io",
    ("fgclip_det/engine/resume/resumable_runner.py", "save_checkpoint"): _INTO_OWN_FILE,
    ("fgclip_det/datasets/finehard/shards.py", "open"): _INTO_OWN_FILE,
    ("fgclip_det/datasets/shapes/generator.py", "save"): _INTO_OWN_FOLDER,
    (
        "fgclip_det/engine/hooks/log_pictures_hook.py",
        "mmcv.imfrombytes",
    ): "of MMEngine's storage, which may be remote, and turned as MMDetection's loader turns it",
    ("fgclip_det/encoders/pretrained.py", "load_file"): _TENSORS,
    ("fgclip_det/encoders/pretrained.py", "save_file"): _INTO_OWN_FILE,
    ("fgclip_det/encoders/tokenizer.py", "tempfile"): _SCRATCH,
    ("fgclip_det/evaluation/encoder/sheets.py", "save"): "to memory",
    ("fgclip_det/evaluation/ov_coco/ov_coco_metric.py", "tempfile"): _SCRATCH,
    ("fgclip_det/exit_codes.py", "os.fdopen"): _SCRATCH,
    ("fgclip_det/exit_codes.py", "tempfile"): _SCRATCH,
    ("fgclip_det/exit_codes.py", "os.open"): "of nowhere, for what can no longer be printed",
    ("fgclip_det/models/regions/regions.py", "load_file"): _TENSORS,
    ("fgclip_det/vocabulary/region_bank.py", "load_file"): _TENSORS,
    ("fgclip_det/vocabulary/text_embeddings.py", "load_file"): _TENSORS,
    ("fgclip_det/vocabulary/text_embeddings.py", "save"): "its own, which writes through io",
    ("fgclip_det/web/heat.py", "save"): "to memory",
    ("fgclip_det/web/pictures.py", "save"): "to memory",
    ("tools/bundle_model.py", "shutil.copytree"): "into this clone, where git tells what changed",
    ("tools/bundle_model.py", "torch.save"): "to memory",
    ("tools/make_region_bank.py", "save"): "of RegionBank, which writes through io",
}
_MODULES = {"tempfile", "pickle", "_pickle", "cPickle", "dill", "joblib"}
_QUALIFIED = {
    "os": {"replace", "rename", "renames", "link", "symlink", "open", "fdopen", "mkfifo"},
    "shutil": {"move", "copy", "copy2", "copyfile", "copyfileobj", "copytree"},
    "torch": {"save", "load"},
    "np": {
        "save",
        "savez",
        "savez_compressed",
        "savetxt",
        "load",
        "loadtxt",
        "genfromtxt",
        "fromfile",
        "memmap",
    },
    "json": {"load", "loads", "dump"},
    "gzip": {"open", "GzipFile"},
    "bz2": {"open"},
    "lzma": {"open"},
    "io": {"open"},
    "Image": {"open"},
    "mmengine": {"dump", "load"},
    "mmcv": {"imread", "imwrite", "imfrombytes"},
}
_BARE = {
    "save_checkpoint",
    "save_file",
    "load_file",
    "safe_open",
    "imread",
    "imwrite",
    "imdecode",
    "imencode",
}
_METHODS = {
    "write_text",
    "write_bytes",
    "rename",
    "symlink_to",
    "hardlink_to",
    "touch",
    "save",
    "tofile",
}
# How modules are called here, and where else their functions are.
_NAMES = {
    "numpy": "np",
    "PIL.Image": "Image",
    "mmengine.fileio": "mmengine",
    "numpy.lib.format": "np",
    "_io": "io",
}


def _imported(tree: ast.AST) -> dict[str, str]:
    """The full name of each name that is imported under another, or from a module."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.asname: alias.name for alias in node.names if alias.asname}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = node.names
            found |= {one.asname or one.name: f"{node.module}.{one.name}" for one in names}
    return found


def _full_name(node: ast.expr, imported: dict[str, str]) -> str:
    """A dotted name as its module calls it; "" for what is no name."""
    if isinstance(node, ast.Name):
        return imported.get(node.id, node.id)
    if isinstance(node, ast.Attribute):
        owner = _full_name(node.value, imported)
        return f"{owner}.{node.attr}" if owner else ""
    return ""


def _mode(call: ast.Call, place: int) -> str | None:
    """The mode of a call of `open`; "?" where it is no constant, None where it cannot be one."""
    named = [word.value for word in call.keywords if word.arg == "mode"]
    node = named[0] if named else call.args[place] if len(call.args) > place else None
    if node is None:
        return "r"
    if not isinstance(node, ast.Constant):
        return "?"
    return node.value if isinstance(node.value, str) else None


def _called(call: ast.Call, imported: dict[str, str]) -> str | None:
    """The kind of a call that reads or writes a file past `io`, None for every other call."""
    owner, _, name = _full_name(call.func, imported).rpartition(".")
    name = name or getattr(call.func, "attr", "")
    owner = _NAMES.get(owner, owner)
    if name in _QUALIFIED.get(owner, ()):
        return f"{owner}.{name}"
    if owner == "cv2" and name.startswith("im"):
        return f"cv2.{name}"
    if owner.split(".")[0] == "torchvision" and ".io" in owner:
        return f"torchvision.io.{name}"
    if name == "ZipFile":
        return "ZipFile" if set(_mode(call, 1) or "?") & set("wax+?") else None
    if name == "open":
        place = 1 if isinstance(call.func, ast.Name) else 0
        return "open" if set(_mode(call, place) or "?") & set("wax+?") else None
    if isinstance(call.func, ast.Name):
        return name if name in _BARE else None
    # Of a string it takes two arguments, of a path one; and `dataclasses.replace` has no owner.
    if name == "replace":
        return "replace" if len(call.args) == 1 and not call.keywords else None
    return name if name in _METHODS | _BARE else None


def doors(source: str) -> list[tuple[int, str]]:
    """Line and kind of each way to a file past `io`."""
    found, tree = [], ast.parse(source)
    imported = _imported(tree)
    for node in ast.walk(tree):
        kinds: list[str] = []
        if isinstance(node, ast.Call):
            kinds = [kind for kind in (_called(node, imported),) if kind]
        elif isinstance(node, ast.Import | ast.ImportFrom):
            modules = [alias.name for alias in node.names]
            from_module = isinstance(node, ast.ImportFrom)
            names = [(node.module or "") if from_module else name for name in modules]
            kinds = [
                "tempfile" if name == "tempfile" else f"import {name}"
                for name in dict.fromkeys(names)
                if name in _MODULES
            ]
            if from_module:
                # `from json import loads` would hide from what is looked for above.
                owner = _NAMES.get(node.module or "", node.module or "")
                kinds += [f"{owner}.{n}" for n in modules if n in _QUALIFIED.get(owner, ())]
        found += [(node.lineno, kind) for kind in kinds]
    return sorted(found)


def _sources() -> list[Path]:
    package = (ROOT / "fgclip_det").rglob("*.py")
    inside = [p for p in package if DOORS not in p.parents and not {".mim", "assets"} & {*p.parts}]
    return sorted(inside) + sorted((ROOT / "tools").rglob("*.py"))


def test_every_file_goes_through_a_door() -> None:
    found = {}
    for path in _sources():
        name = path.relative_to(ROOT).as_posix()
        for line, kind in doors(path.read_text(encoding="utf-8")):
            found.setdefault((name, kind), line)
    new = [f"{name}:{found[name, kind]}: {kind}" for name, kind in found.keys() - EXCEPTIONS.keys()]
    assert not new, "use fgclip_det.io, or give a reason in EXCEPTIONS:\n" + "\n".join(sorted(new))
    outdated = sorted(EXCEPTIONS.keys() - found.keys())
    assert not outdated, f"no longer needed in EXCEPTIONS: {outdated}"


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("open(p, 'w')", "open"),
        ("open(p, mode='ab')", "open"),
        ("open(p, 'r+')", "open"),
        ("open(p, mode)", "open"),
        ("path.open('x')", "open"),
        ("Path(p).open(mode='w')", "open"),
        ("path.write_text(t)", "write_text"),
        ("Path(p).write_bytes(b)", "write_bytes"),
        ("os.replace(a, b)", "os.replace"),
        ("os.rename(a, b)", "os.rename"),
        ("os.link(a, b)", "os.link"),
        ("partial.replace(path)", "replace"),
        ("partial.rename(path)", "rename"),
        ("shutil.move(a, b)", "shutil.move"),
        ("import tempfile", "tempfile"),
        ("from tempfile import mkstemp", "tempfile"),
        ("torch.save(a, b)", "torch.save"),
        ("torch.load(a)", "torch.load"),
        ("np.save(a, b)", "np.save"),
        ("numpy.load(a)", "np.load"),
        ("np.savez_compressed(a, b)", "np.savez_compressed"),
        ("save_file(a, b)", "save_file"),
        ("safetensors.torch.load_file(a)", "load_file"),
        ("safe_open(a, 'pt')", "safe_open"),
        ("Image.fromarray(a).save(p)", "save"),
        ("image.save(p)", "save"),
        ("json.load(f)", "json.load"),
        ("json.loads(t)", "json.loads"),
        ("json.dump(a, f)", "json.dump"),
        ("from json import loads", "json.loads"),
        ("gzip.open(p)", "gzip.open"),
        ("Image.open(p)", "Image.open"),
        ("cv2.imread(p)", "cv2.imread"),
        ("mmcv.imread(p)", "mmcv.imread"),
        ("import pickle", "import pickle"),
        ("from pickle import loads", "import pickle"),
        ("import _pickle", "import _pickle"),
        ("shutil.copy(a, b)", "shutil.copy"),
        ("shutil.copytree(a, b)", "shutil.copytree"),
        ("ZipFile(p, 'w')", "ZipFile"),
        ("zipfile.ZipFile(p, mode='a')", "ZipFile"),
        ("path.touch()", "touch"),
        ("np.fromfile(p)", "np.fromfile"),
        ("np.memmap(p)", "np.memmap"),
        ("mmengine.dump(a, p)", "mmengine.dump"),
        ("mmengine.fileio.load(p)", "mmengine.load"),
        ("torchvision.io.read_image(p)", "torchvision.io.read_image"),
        ("save_checkpoint(a, p)", "save_checkpoint"),
        ("runner.save_checkpoint(p)", "save_checkpoint"),
    ],
)
def test_the_check_finds_each_kind(source: str, kind: str) -> None:
    assert doors(source) == [(1, kind)]


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("import numpy as n; n.save(p, a)", "np.save"),
        ("import json as j; j.load(f)", "json.load"),
        ("from json import load as l; l(f)", "json.load"),
        ("from PIL.Image import open as o; o(p)", "Image.open"),
        ("from PIL import Image as I; I.open(p)", "Image.open"),
        ("import PIL.Image; PIL.Image.open(p)", "Image.open"),
        ("from os import replace as r; r(a, b)", "os.replace"),
        ("from torchvision.io import read_image as r; r(p)", "torchvision.io.read_image"),
        ("from safetensors.torch import save_file as s; s(a, b)", "save_file"),
        ("import pickle as p", "import pickle"),
    ],
)
def test_the_check_sees_through_other_names(source: str, kind: str) -> None:
    assert kind in [found for _, found in doors(source)]


@pytest.mark.parametrize(
    "source",
    [
        "open(p)",
        "ZipFile(p)",
        "from fgclip_det.io import read_image; read_image(p)",
        "open(p, 'rb')",
        "path.open(encoding='utf-8')",
        "path.read_text()",
        "'a'.replace('b', 'c')",
        "dataclasses.replace(a, b=1)",
        "replace(a, b=1)",
        "json.dumps(a)",
        "Image.fromarray(a)",
        "write_json(path, a)",
    ],
)
def test_the_check_passes_what_writes_and_loads_nothing(source: str) -> None:
    assert doors(source) == []
