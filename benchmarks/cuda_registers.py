"""What the compiler makes of the CUDA kernels of RoIAlign: registers, spills, instructions a load.

Compiles them for sm_80 and sm_90 with the flags of setup.py and reads what ptxas and the
disassembler say. Needs an nvcc, no GPU; without cuobjdump (of the CUDA toolkit, or of triton) the
column of instructions stays empty.

    python benchmarks/cuda_registers.py --before e193ee0

*Instructions a load* are those of the innermost loop that reads features or gradients, divided by
its loads: of 16 bytes, of one value for pool_planes_kernel. In shared memory only what is there
whatever the map's size counts; pool_slab_kernel takes 32 bytes a cell on top.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import runpy
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from torch.utils import cpp_extension

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import report

ROOT = Path(__file__).resolve().parents[1]
CSRC = "fgclip_det/ops/csrc"
ARCHITECTURES = ("sm_80", "sm_90")
SHOWN = ("float32", "float16")
TYPES = {"f": "float32", "d": "float64", "N3c104HalfE": "float16", "N3c108BFloat16E": "bfloat16"}
# Of copies: by the bits of a value, and two values of 16 bits by how many are read at once.
TYPES |= {"t": "16 bits", "j": "32 bits", "m": "64 bits", "Li1E": "1 a word", "Li2E": "2 a word"}
# The loads that are counted, of features or of gradients.
LOADS = {
    "pool_box_kernel": r"LDG\.E\.128",
    "pool_slab_kernel": r"LDS\.128",
    "pool_bins_kernel": r"LDG\.E\.128",
    "pool_planes_kernel": "",  # by dtype:
    "spread_kernel": r"LDG\.E\.128",
}
# Shown too, but for their loads: what prepares the others, and copies.
OTHERS = (
    *(("weights_kernel", "float32"), ("windows_kernel", "float32"), ("prepare_kernel", "float32")),
    *(("transpose_kernel", "32 bits"), ("transpose_kernel", "16 bits")),
    *(("transpose_pairs_kernel", "1 a word"), ("transpose_pairs_kernel", "2 a word")),
)
PLANE_LOADS = {"float32": r"LDG\.E R", "float16": r"LDG\.E\.U16", "bfloat16": r"LDG\.E\.U16"}
ENTRY = re.compile(
    r"Compiling entry function '(\S+)' for '\w+'.*?"
    r"(\d+) bytes spill stores, (\d+) bytes spill loads.*?"
    r"Used (\d+) registers[^\n]*",
    re.DOTALL,
)
NAME = re.compile(
    r"_ZN10fgclip_det\d+(\w+?_kernel)I(N3c10\d+(?:Half|BFloat16)E|Li\dE|[fdthjmy])(.*)"
)


@dataclass
class Kernel:
    """One instance of a kernel, compiled for one architecture."""

    name: str
    dtype: str
    vector: bool  # 16 bytes at a time, where the kernel knows both
    registers: int
    spilled: int  # bytes, stores and loads
    shared: int  # bytes, static
    loop: int | None = None  # instructions of the loop that is counted
    loads: int | None = None  # of it
    enclosing: int | None = None  # instructions of the loop over boxes, that one included
    code: list[tuple[int, str]] = field(default_factory=list)  # addresses and instructions

    @property
    def per_load(self) -> float | None:
        """Instructions a load."""
        return self.loop / self.loads if self.loop and self.loads else None


def compile_kernels(root: Path, architecture: str, folder: Path) -> tuple[Path, str]:
    """Compiles the kernels of a checkout; returns the cubin and what ptxas said.

    Raises:
        ValueError: The compiler is missing or fails.
    """
    if shutil.which("nvcc") is None:
        raise ValueError("there is no nvcc on the PATH; install a CUDA toolkit")
    settings = runpy.run_path(str(root / "setup.py"), run_name="settings_of_setup")
    cubin = folder / f"{architecture}.cubin"
    includes = [*cpp_extension.include_paths(), sysconfig.get_paths()["include"]]
    done = subprocess.run(
        [
            *("nvcc", "-cubin", f"-arch={architecture}", "-Xptxas", "-v", "-std=c++17"),
            *(str(root / CSRC / "cuda" / "roi_align_kernel.cu"), "-o", str(cubin)),
            *settings["NVCC_FLAGS"],
            *(flag for path in includes for flag in ("-isystem", path)),
            *cpp_extension.COMMON_NVCC_FLAGS,
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "CUDA_HOME": settings["find_cuda_home"]() or ""},
    )
    if done.returncode:
        raise ValueError(f"nvcc failed:\n{done.stderr[-2000:]}")
    return cubin, done.stderr


def find_cuobjdump() -> str | None:
    """The toolkit's, or the one that triton brings."""
    spec = importlib.util.find_spec("triton")
    folders = [os.environ.get("PATH", "")]
    if spec is not None and spec.origin is not None:
        folders.append(str(Path(spec.origin).parent / "backends" / "nvidia" / "bin"))
    return shutil.which("cuobjdump", path=os.pathsep.join(folders))


def disassemble(cubin: Path) -> dict[str, list[tuple[int, str]]]:
    """Addresses and instructions of each function; empty without a disassembler."""
    tool = find_cuobjdump()
    if tool is None:
        return {}
    folder = os.pathsep.join([str(Path(tool).parent), os.environ.get("PATH", "")])
    done = subprocess.run(
        [tool, "-sass", str(cubin)], capture_output=True, text=True, env={"PATH": folder}
    )
    functions: dict[str, list[tuple[int, str]]] = {}
    lines: list[tuple[int, str]] = []
    for line in done.stdout.splitlines():
        if found := re.search(r"Function : (\S+)", line):
            lines = functions.setdefault(found[1], [])
        elif found := re.match(r"\s*/\*([0-9a-f]{4,})\*/\s+(\S.*?;)", line):
            lines.append((int(found[1], 16), found[2]))
    return functions


def loops(code: list[tuple[int, str]]) -> list[list[str]]:
    """The instructions of each loop, as far as a branch back shows it.

    Behind the last instruction stands what runs where lanes of a warp have parted: no loops.
    """
    last = next((i for i, (_, line) in enumerate(code) if line.startswith("EXIT")), len(code))
    code = code[:last]
    found = []
    for end, (address, line) in enumerate(code):
        branch = re.search(r"\bBRA\b.*?\b0x([0-9a-f]+)", line)
        if branch and int(branch[1], 16) < address:
            target = int(branch[1], 16)
            found.append([text for at, text in code[: end + 1] if at >= target])
    return found


def count_loop(kernel: Kernel, code: list[tuple[int, str]]) -> None:
    """Finds the loop with most loads and no loop within, and notes its size."""
    bodies = loops(code)
    pattern = LOADS[kernel.name]
    if kernel.name == "pool_planes_kernel":
        pattern = PLANE_LOADS.get(kernel.dtype, "never")
        bodies = [
            b for b in bodies if any("FMA" in x for x in b) and not any("LDS" in x for x in b)
        ]
    counts = [(sum(bool(re.search(pattern, line)) for line in body), body) for body in bodies]
    # A body that holds another with loads is no innermost loop.
    inner = [
        (count, body)
        for count, body in counts
        if count
        and not any(
            other and len(small) < len(body) and body[-len(small) :] != small and small[0] in body
            for other, small in counts
        )
    ]
    if not inner:
        return
    most = max(count for count, _ in inner)
    body = min((body for count, body in inner if count == most), key=len)
    # There each value has a weight beside it, which looks alike.
    half = kernel.name == "pool_planes_kernel" and kernel.dtype == "float32"
    kernel.loop, kernel.loads = len(body), most // 2 if half else most
    # A warp ends a box with a sum over lanes, a block with one in shared memory.
    end = "SHFL.BFLY" if kernel.name == "pool_slab_kernel" else "BAR.SYNC"
    kernel.enclosing = min((len(b) for b in bodies if any(end in x for x in b)), default=None)


def read_kernels(root: Path, architecture: str) -> list[Kernel]:
    """All kernels of a checkout, compiled for an architecture."""
    kernels = []
    with tempfile.TemporaryDirectory() as folder:
        cubin, said = compile_kernels(root, architecture, Path(folder))
        functions = disassemble(cubin)
    for entry in ENTRY.finditer(said):
        name = NAME.match(entry[1])
        if name is None:
            continue
        width = re.search(r"Li(\d+)E", name[3])
        shared = re.search(r"(\d+) bytes smem", entry[0])
        kernel = Kernel(
            *(name[1], TYPES.get(name[2], name[2]), width is None or int(width[1]) > 1),
            *(int(entry[4]), int(entry[2]) + int(entry[3]), int(shared[1]) if shared else 0),
        )
        kernel.code = functions.get(entry[1], [])
        if kernel.name in LOADS and kernel.vector:
            count_loop(kernel, kernel.code)
        kernels.append(kernel)
    return kernels


def checkout(revision: str, folder: Path) -> Path:
    """What the kernels are built from, as of a revision of this repository."""
    done = subprocess.run(
        ["git", "archive", revision, "setup.py", CSRC], cwd=ROOT, capture_output=True
    )
    if done.returncode:
        raise ValueError(f"git has no revision {revision}: {done.stderr.decode().strip()}")
    subprocess.run(["tar", "-x", "-C", str(folder)], input=done.stdout, check=True)
    return folder


def by_name(kernels: list[Kernel]) -> dict[tuple[str, str], Kernel]:
    """The instances that take vectors, by kernel and dtype."""
    return {(k.name, k.dtype): k for k in kernels if k.vector}


def cell(kernels: dict[tuple[str, str], Kernel], key: tuple[str, str]) -> list[str]:
    """Registers, spills, shared memory and instructions a load of one instance, or dashes."""
    kernel = kernels.get(key)
    if kernel is None:
        return ["-"] * 4
    load = "-" if kernel.per_load is None else f"{kernel.per_load:.1f}"
    return [str(kernel.registers), str(kernel.spilled), str(kernel.shared), load]


def table(by_column: dict[str, list[Kernel]]) -> str:
    """A row for each kernel and dtype, four columns for each compilation."""
    keyed = {column: by_name(kernels) for column, kernels in by_column.items()}
    keys = [*((name, dtype) for name in LOADS for dtype in SHOWN), *OTHERS]
    rows = [
        [f"`{key[0]}`, {key[1]}", *(" / ".join(cell(found, key)) for found in keyed.values())]
        for key in keys
    ]
    return report.table(["Kernel", *keyed], rows)


def main(argv: list[str] | None = None) -> int:
    """Prints the table; returns the exit code, 2 where the user can mend it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--before", metavar="REVISION", help="also compile this one, to compare")
    args = parser.parse_args(argv)
    columns = {}
    try:
        with tempfile.TemporaryDirectory() as folder:
            roots = {"now": ROOT}
            if args.before:
                roots = {"before": checkout(args.before, Path(folder)), **roots}
            for architecture in ARCHITECTURES:
                for when, root in roots.items():
                    columns[f"{architecture}, {when}"] = read_kernels(root, architecture)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print("Registers / bytes spilled / bytes of shared memory / instructions a load:\n")
    print(table(columns))
    for column, kernels in columns.items():
        spilling = sorted({f"{k.name} ({k.dtype})" for k in kernels if k.spilled})
        print(f"\n{column}: {len(kernels)} kernels; spilling: {', '.join(spilling) or 'none'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
