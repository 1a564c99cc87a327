"""Builds fgclip_det._C and ships configs and tools; the metadata stands in pyproject.toml.

The CPU operators are always built, the CUDA ones where there are an nvcc and a GPU, or FORCE_CUDA=1
says so (FORCE_CUDA=0 leaves them out). Without a compiler the PyTorch reference serves instead.
FGCLIP_DET_INDEX_ASSERTION=0 leaves out the device assertion that boxes name an image: then zeros.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

CSRC = Path("fgclip_det/ops/csrc")
ASSERTED = os.environ.get("FGCLIP_DET_INDEX_ASSERTION") != "0"
NVCC_FLAGS = ["-O3", "-fmad=false", *([] if ASSERTED else ["-DFGCLIP_DET_NO_INDEX_ASSERTION"])]
FORCED = os.environ.get("FORCE_CUDA")


def say(text):
    print(f"[fgclip_det] {text}", flush=True)


def find_cuda_home():
    """The toolkit's folder or None; nvcc is asked, as the one on the PATH may be a wrapper."""
    named = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
    if named or shutil.which("nvcc") is None:
        return named or ("/usr/local/cuda" if Path("/usr/local/cuda/bin/nvcc").exists() else None)
    dry_run = subprocess.run(["nvcc", "--dryrun", "-c", "any.cu"], capture_output=True, text=True)
    found = re.search(r"_HERE_=(.+)", dry_run.stderr)
    return str(Path(found[1]).parent) if found else None


class BuildPy(build_py):
    """Also puts configs/ and tools/ where mmengine looks for them in an installed package."""

    def run(self):
        super().run()
        for folder in () if self.editable_mode else ("configs", "tools"):
            target = Path(self.build_lib, "fgclip_det", ".mim", folder)
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(folder, target, ignore=ignored, dirs_exist_ok=True)


def compiled_parts():
    """The extension and the command that builds it, or nothing where PyTorch is missing."""
    cuda_home = find_cuda_home()
    os.environ["CUDA_HOME"] = cuda_home or ""  # torch.utils.cpp_extension reads it when imported
    try:
        import torch
        from torch.utils.cpp_extension import BuildExtension, CppExtension, CUDAExtension
    except ImportError as error:
        say(f"operators left out, PyTorch cannot be imported: {error}")
        return [], {}
    if FORCED == "1" and not cuda_home:
        raise SystemExit("FORCE_CUDA=1, but there is no nvcc; set CUDA_HOME or unset FORCE_CUDA")
    with_cuda = FORCED == "1" or (FORCED != "0" and bool(cuda_home) and torch.cuda.is_available())
    if not with_cuda:
        say("CUDA operators left out: no nvcc, no GPU, or FORCE_CUDA=0; FORCE_CUDA=1 builds them")
    # OpenMP is compiled in but not linked: its symbols come from the copy that PyTorch loads, so
    # that torch.set_num_threads() holds for our loops too.
    cxx = ["-O3", "-g0", *(["-fopenmp"] if sys.platform == "linux" else [])]

    def extension(cuda):
        globs = ("*.cpp", "autograd/*.cpp", "cpu/*.cpp", *(["cuda/*.cu"] if cuda else []))
        return (CUDAExtension if cuda else CppExtension)(
            "fgclip_det._C",
            [str(path) for pattern in globs for path in sorted(CSRC.glob(pattern))],
            depends=sorted(map(str, [*CSRC.rglob("*.h"), *CSRC.rglob("*.cuh")])),
            extra_compile_args={"cxx": list(cxx), "nvcc": list(NVCC_FLAGS)},
            optional=True,
        )

    class OptionalBuild(BuildExtension):
        """A build that may fail, the CUDA part alone or all of it, unless FORCE_CUDA=1."""

        def build_extensions(self):
            for cuda in (True, False) if with_cuda else (False,):
                # Attributes with an underscore are setuptools' notes on where the result goes.
                wanted = vars(extension(cuda)).items()
                vars(self.extensions[0]).update({k: v for k, v in wanted if k[0] != "_"})
                try:
                    return super().build_extensions()
                except Exception as error:
                    if FORCED == "1":
                        raise
                    part = "CUDA" if cuda else "all"
                    say(f"{part} operators left out, the build failed: {error}")
            say("the PyTorch reference is used instead: same numbers, slower")

    return [extension(with_cuda)], {"build_ext": OptionalBuild}


if __name__ == "__main__":
    ext_modules, commands = compiled_parts()
    setup(ext_modules=ext_modules, cmdclass={"build_py": BuildPy, **commands})
