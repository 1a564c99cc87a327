"""A report on this environment: each part, its state, and the command that mends it.

Nothing of the packages under examination is imported at module level: the doctor is for the
environments where one of them is missing or broken.
"""

import importlib
import importlib.metadata
import importlib.util
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from fgclip_det.exit_codes import EXIT_USER_ERROR, run_tool, say

PACKAGE_ROOT = Path(__file__).resolve().parents[1]
BUNDLED_MODEL = PACKAGE_ROOT / "assets" / "shapes"
BUNDLED_FILES = (
    "config.py",
    "detector.pth",
    "vocabulary.json",
    "encoder/config.json",
    "encoder/model.safetensors",
)
OLDEST_PYTHON, NEWEST_PYTHON = (3, 10), (3, 13)

# Module, the distributions that provide it, and the version that is tested together.
PACKAGES: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("torch", ("torch",), "torch==2.11.0"),
    ("torchvision", ("torchvision",), "torchvision==0.26.0"),
    ("numpy", ("numpy",), "'numpy>=1.26'"),
    ("transformers", ("transformers",), "'transformers>=4.57,<6'"),
    ("safetensors", ("safetensors",), "'safetensors>=0.4.3'"),
    ("mmengine", ("mmengine", "onedl-mmengine"), "mmengine==0.10.7"),
    ("mmcv", ("mmcv", "mmcv-lite", "onedl-mmcv"), "mmcv-lite==2.1.0"),
    ("mmdet", ("mmdet", "onedl-mmdetection"), "mmdet==3.3.0"),
)
DEEPER_IMPORT = {"mmdet": "mmdet.models"}
# What an import error says, and what mends it where that is not the package itself.
KNOWN_MENDS = {
    "pkg_resources": "pip install 'setuptools<81'",
    "libGL": "pip install --force-reinstall --no-deps opencv-python-headless==5.0.0.93",
    "'cv2'": "pip install opencv-python==5.0.0.93",
    "'pycocotools'": "pip install pycocotools==2.0.11",
    # A CPU-only torch cannot import the registry's torchvision: mend them as a pair.
    "torchvision::nms": "pip install --force-reinstall torch==2.11.0 torchvision==0.26.0",
}


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        topic: what was examined.
        value: what was found.
        mend: the command that mends it; empty where nothing needs mending.
        usable: False where detection cannot work before it is mended.
    """

    topic: str
    value: str
    mend: str = ""
    usable: bool = True


def _first_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:160]}" if text else type(error).__name__


def _try_import(module: str) -> ModuleType | Exception:
    try:
        return importlib.import_module(module)
    except Exception as error:
        return error


def _build_command() -> str:
    """Command that builds our extension: in a clone by make, else from the source that pip has."""
    clone = PACKAGE_ROOT.parent
    if (clone / "Makefile").is_file() and (clone / "setup.py").is_file():
        return f"make -C {clone} setup"
    return "pip install --no-build-isolation --force-reinstall --no-deps <folder of the sources>"


def _examine_python() -> Finding:
    version = platform.python_version()
    if OLDEST_PYTHON <= sys.version_info[:2] <= NEWEST_PYTHON:
        return Finding("python", version)
    return Finding(
        "python", f"{version}, but 3.10 to 3.13 are supported", "python3.12 -m venv .venv", False
    )


def _installed_version(distributions: tuple[str, ...]) -> str:
    for name in distributions:
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        return version if name == distributions[0] else f"{version} ({name})"
    return ""


def _examine_package(module: str, distributions: tuple[str, ...], pin: str) -> Finding:
    version = _installed_version(distributions)
    found = _try_import(DEEPER_IMPORT.get(module, module))
    if not isinstance(found, Exception):
        return Finding(module, version or getattr(found, "__version__", "unknown version"))
    if not version:
        return Finding(module, "not installed", f"pip install {pin}", False)
    mend = f"pip install --force-reinstall --no-deps {pin}"
    mend = next((known for sign, known in KNOWN_MENDS.items() if sign in str(found)), mend)
    return Finding(module, f"{version}, does not import: {_first_line(found)}", mend, False)


def _examine_self() -> Finding:
    package = _try_import("fgclip_det")
    if isinstance(package, Exception):
        return Finding("fgclip_det", _first_line(package), _build_command(), False)
    return Finding("fgclip_det", f"{package.__version__} in {PACKAGE_ROOT}")


def _examine_mmcv_ops() -> Finding:
    topic = "mmcv ops"
    compat = _try_import("fgclip_det.compat")
    if isinstance(compat, Exception):
        return Finding(topic, f"compat does not import: {_first_line(compat)}", usable=False)
    if compat.mmcv_ext.is_installed():
        return Finding(topic, "stand-in by fgclip_det.compat (mmcv-lite has no compiled ops)")
    extension = _try_import("mmcv._ext")
    if not isinstance(extension, Exception):
        return Finding(topic, "compiled mmcv")
    if isinstance(_try_import("mmcv"), Exception):
        return Finding(topic, "none, mmcv is missing", usable=False)
    return Finding(
        topic,
        f"compiled mmcv that does not import: {_first_line(extension)}",
        "pip uninstall -y mmcv && pip install mmcv-lite==2.1.0",
        False,
    )


def _examine_our_ops() -> list[Finding]:
    ops = _try_import("fgclip_det.ops")
    if isinstance(ops, Exception):
        value = f"does not import: {_first_line(ops)}"
        return [Finding("fgclip_det ops", value, _build_command(), False)]
    unchecked = ", without the assertion that boxes name an image"
    return [
        Finding(
            f"fgclip_det ops, {device}",
            backend + (unchecked if device == "cuda" and not ops.asserts_index() else ""),
            # CUDA kernels are only missing where there is a GPU to run them on.
            _build_command() if backend == "reference" and _wants_device(device) else "",
        )
        for device, backend in ops.backend().items()
    ]


def _wants_device(device: str) -> bool:
    if device == "cpu":
        return True
    torch = _try_import("torch")
    return not isinstance(torch, Exception) and torch.cuda.is_available()


def _examine_evaluator() -> Finding:
    topic, version = "box evaluator", _installed_version(("faster-coco-eval",))
    found = _try_import("faster_coco_eval")
    if not isinstance(found, Exception):
        return Finding(topic, f"faster-coco-eval {version}")
    why = f"does not import: {_first_line(found)}" if version else "is not installed"
    value = f"pycocotools: the same numbers, slower (faster-coco-eval {why})"
    return Finding(topic, value, "pip install faster-coco-eval==1.8.0")


def _examine_cuda() -> list[Finding]:
    torch = _try_import("torch")
    if isinstance(torch, Exception):
        return [Finding("CUDA", "unknown without torch")]
    built_for = torch.version.cuda or "no CUDA (CPU-only build)"
    if not torch.cuda.is_available():
        value = f"no GPU in reach; torch is built for {built_for}; everything runs on the CPU"
        return [Finding("CUDA", value), _examine_toolkit()]
    devices = [
        Finding(f"cuda:{index}", f"{device.name}, {device.total_memory / 2**30:.0f} GiB")
        for index, device in enumerate(
            map(torch.cuda.get_device_properties, range(torch.cuda.device_count()))
        )
    ]
    return [Finding("CUDA", f"torch is built for {built_for}"), *devices, _examine_toolkit()]


def _examine_toolkit() -> Finding:
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        return Finding("CUDA toolkit", "no nvcc on the PATH (only needed to build CUDA kernels)")
    try:
        printed = subprocess.run(
            [nvcc, "--version"], capture_output=True, text=True, timeout=20, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        return Finding("CUDA toolkit", f"{nvcc} does not run: {_first_line(error)}")
    release = re.search(r"release (\S+?),", printed)
    return Finding("CUDA toolkit", f"nvcc {release.group(1) if release else 'unknown'} at {nvcc}")


def _examine_bundled_model() -> Finding:
    missing = [name for name in BUNDLED_FILES if not (BUNDLED_MODEL / name).is_file()]
    if not missing:
        size = sum(file.stat().st_size for file in BUNDLED_MODEL.rglob("*") if file.is_file())
        return Finding("bundled model", f"complete, {size / 1e6:.1f} MB in {BUNDLED_MODEL}")
    # The Python API and --model work without it, so this does not make detection unusable.
    clone = PACKAGE_ROOT.parent
    mend = f"git -C {clone} checkout -- fgclip_det/assets"
    if not (clone / ".git").exists():
        mend = "pip install --force-reinstall --no-deps <folder of the sources>"
    return Finding("bundled model", f"lacks {', '.join(missing)} in {BUNDLED_MODEL}", mend)


def _examine_hub_cache() -> Finding:
    """Of the hub alone, which nobody is asked about here."""
    topic = "hub cache"
    hub = _try_import("fgclip_det.hub")
    if isinstance(hub, Exception):
        mend = "pip install 'huggingface-hub>=0.34'"
        return Finding(topic, f"does not import: {_first_line(hub)}", mend, False)
    folder = hub.cache_folder()
    count = sum(1 for path in folder.glob("models--*") if path.is_dir())
    return Finding(topic, f"{count} repositories in {folder}; fgclip-det models list tells more")


def _guarded(examine: Callable[[], Finding | list[Finding]], topic: str) -> list[Finding]:
    """Run one examination; its own failure is a finding, for a doctor must not crash."""
    try:
        found = examine()
    except Exception as error:
        return [Finding(topic, f"could not be examined: {_first_line(error)}", usable=False)]
    return found if isinstance(found, list) else [found]


def examine() -> list[Finding]:
    """Examine this environment.

    Returns:
        Findings in the order of the report: versions, operators, evaluator, CUDA, hub cache,
            bundled model.
    """
    findings = [_examine_python(), *_guarded(_examine_self, "fgclip_det")]
    # compat mends what mmdet needs, so it goes before mmdet's own import is tried.
    mmcv_ops = _guarded(_examine_mmcv_ops, "mmcv ops")
    for package in PACKAGES:
        findings += _guarded(lambda package=package: _examine_package(*package), package[0])
    findings += mmcv_ops
    findings += _guarded(_examine_our_ops, "fgclip_det ops")
    findings += _guarded(_examine_evaluator, "box evaluator")
    findings += _guarded(_examine_cuda, "CUDA")
    findings += _guarded(_examine_hub_cache, "hub cache")
    return findings + _guarded(_examine_bundled_model, "bundled model")


def report(findings: list[Finding] | None = None) -> str:
    """Lay the findings out as text, one line each, with the mend below what is missing."""
    findings = examine() if findings is None else findings
    width = max(len(finding.topic) for finding in findings)
    lines = []
    for finding in findings:
        mark = "FAIL" if not finding.usable else "note" if finding.mend else "ok"
        lines.append(f"{mark:<4}  {finding.topic:<{width}}  {finding.value}")
        if finding.mend:
            lines.append(f"{'':<4}  {'':<{width}}  -> {finding.mend}")
    failures = sum(not finding.usable for finding in findings)
    verdict = f"not usable: mend the {failures} marked FAIL" if failures else "usable"
    return "\n".join([*lines, "", verdict])


def doctor() -> int:
    """Print the report.

    Returns:
        0 where detection can work, else that of an error that the user can mend.
    """
    findings = examine()
    say(*report(findings).split("\n"))
    return EXIT_USER_ERROR if any(not finding.usable for finding in findings) else 0


if __name__ == "__main__":
    sys.exit(run_tool(doctor))
