"""Options with values that are of the wrong type, empty, endless or of another world."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tests.hostile.calibrating import absent, curve
from tests.hostile.case import DONE, NO_NUMBERS, REFUSED, Case, case, write_file, write_json
from tests.hostile.shared_data import BUNDLED, Data

EITHER = {DONE, REFUSED}
WHOLE = (*NO_NUMBERS, "-1", "0", "1.5", "99999999999999999999")
SHARE = (*NO_NUMBERS[:4], *("-0.1", "1.1", "-inf", "1e308"))
PATHS = (
    "", "none", "/dev/zero", "/proc/self/mem", ".", "a\0b", "a" * 300, "a/" * 2100,
    "\udcff\udcfe", "\x1b[31mred\x07", "http://127.0.0.1:9/x", "~nobody/x", "-",
)  # fmt: skip
CHOICES = ("", "x", "\x1b[31m", "None")
DEVICES = (
    "", "x", "cuda:99", "cpu:99999999999", "meta", "cuda:-1", "mps", "xpu", "\x1b[31m", "cpu\0",
    "vulkan", "privateuseone",
)  # fmt: skip
# A value that Python takes for another number, such as "0", may be right.
_FINE = ("0", "1.5", "-1", "0.5")


def _demo(folder: Path, data: Data) -> list[object]:
    return ["demo", data.picture, "--out-dir", "out"]


def _heatmap(folder: Path, data: Data) -> list[object]:
    options = ["--encoder", data.encoder(1), "--texts", "a", "--out-dir", "out"]
    return ["heatmap", data.picture, *options]


def _heatmap2(folder: Path, data: Data) -> list[object]:
    options = ["--encoder", data.encoder(2), "--texts", "a", "--out-dir", "out"]
    return ["heatmap", data.picture, *options]


def _rescore(folder: Path, data: Data) -> list[object]:
    (folder / "out").mkdir()
    write_json(folder / "p.json", data.proposals[:4])
    words = ["--encoder", data.encoder(1), "--vocabulary", BUNDLED / "vocabulary.json"]
    rest = ["--out", "out/r.json", "--device", "cpu", "--no-metrics"]
    return ["p.json", data.annotations, data.shapes / "val", *words, *rest]


def _test(folder: Path, data: Data) -> list[object]:
    return [data.test_config, BUNDLED / "detector.pth", "--work-dir", "out"]


def _subsets(folder: Path, data: Data) -> list[object]:
    return [*_test(folder, data), "--subsets", data.fg_ovd, "--device", "cpu"]


def _train(folder: Path, data: Data) -> list[object]:
    return [data.test_config, "--work-dir", "out"]


def _fg_ovd(folder: Path, data: Data) -> list[object]:
    (folder / "out").mkdir()
    return [data.fg_ovd, data.predictions, "--out", "out/s.json"]


def _accuracy(folder: Path, data: Data) -> list[object]:
    (folder / "out").mkdir()
    return [data.encoder(1), data.fg_ovd, data.shapes, "--out", "out/a.json"]


def _shapes(folder: Path, data: Data) -> list[object]:
    counts = [f"--num-{name}=1" for name in ("pretrain", "pretrain-val", "train", "val")]
    return ["--out", "out", "--workers", "0", *counts]


def _coco(folder: Path, data: Data) -> list[object]:
    return ["--coco", data.coco, "--out", "out"]


def _lvis(folder: Path, data: Data) -> list[object]:
    return ["--lvis", data.coco, "--out", "out"]


def _bundle(folder: Path, data: Data) -> list[object]:
    return [data.test_config, BUNDLED / "detector.pth", "--out", "out"]


def _calibrate(folder: Path, data: Data) -> list[object]:
    return absent(folder, data.shapes / "val")


def _curve(folder: Path, data: Data) -> list[object]:
    return curve(folder, data.shapes / "val", data.annotations)


def _presence(folder: Path, data: Data) -> list[object]:
    (folder / "out").mkdir()
    asked = [data.shapes / "annotations" / "val_presence.json", data.shapes / "val"]
    return ["bundled", "--tune", *asked, "--test", *asked, "--device", "cpu"]


def _bank(folder: Path, data: Data) -> list[object]:
    options = ["--number", "3", "--model", "bundled", "--device", "cpu"]
    return [data.shapes / "val", *options, "--out", "out/b.safetensors"]


# Tool, arguments before the option, the option, its values.
Base = Callable[[Path, Data], list[object]]
_CLI = "fgclip-det"
OPTIONS: tuple[tuple[str, Base, str, Sequence[str]], ...] = (
    (_CLI, _demo, "--score-thr", SHARE),
    (_CLI, _demo, "--conf-thr", SHARE),
    (_CLI, _demo, "--calibration", PATHS),
    (_CLI, _demo, "--batch-size", WHOLE),
    (_CLI, _demo, "--device", DEVICES),
    (_CLI, _demo, "--model", PATHS),
    (_CLI, _demo, "--weights", PATHS[:3]),
    (_CLI, _demo, "--encoder", PATHS[:4]),
    (_CLI, _demo, "--vocabulary", PATHS),
    (_CLI, _demo, "--out-dir", PATHS),
    (_CLI, _heatmap, "--image-size", WHOLE),
    (_CLI, _heatmap, "--max-patches", ("", "x", "5")),
    (_CLI, _heatmap2, "--max-patches", WHOLE),
    (_CLI, _heatmap2, "--image-size", ("-1", "0", "99999999")),
    (_CLI, _heatmap, "--box-cells", WHOLE),
    (_CLI, _heatmap, "--scale", CHOICES),
    (_CLI, _heatmap, "--device", DEVICES[:4]),
    (_CLI, _heatmap, "--encoder", (*PATHS, "a/b", "a/../b", "a/b\x1b[31m", "/", "a//b", "..")),
    ("rescore.py", _rescore, "--fusion", CHOICES),
    ("rescore.py", _rescore, "--alpha", SHARE),
    ("rescore.py", _rescore, "--beta", SHARE),
    ("rescore.py", _rescore, "--temperature", (*SHARE, "0", "-1", "1e30")),
    ("rescore.py", _rescore, "--nms", SHARE),
    ("rescore.py", _rescore, "--max-per-image", WHOLE),
    ("rescore.py", _rescore, "--resize", CHOICES),
    ("rescore.py", _rescore, "--image-size", ("-1", "0", "x", "99999999999")),
    ("rescore.py", _rescore, "--resize=squash --image-size", ("-1", "0", "999999", "9" * 30)),
    ("rescore.py", _rescore, "--batch-size", WHOLE),
    ("rescore.py", _rescore, "--device", DEVICES),
    ("rescore.py", _rescore, "--out", (*PATHS, "out", "p.json", "out/r.txt", "none/r.json")),
    ("rescore.py", _rescore, "--encoder", PATHS),
    ("test.py", _test, "--out", ("x", "", "out/../test.json", "/proc/x.pkl")),
    ("test.py", _test, "--wait-time", SHARE[:4]),
    ("test.py", _test, "--launcher", (*CHOICES, "pytorch", "slurm", "mpi")),
    ("test.py", _test, "--cfg-options", (
        "x", "=", "a=b", "model=5", "model.type=os.system", "test_dataloader.batch_size=x",
        "test_dataloader.batch_size=-1", "test_dataloader.num_workers=-1", "model.neck=None",
        "test_dataloader.dataset.ann_file=/dev/zero", "test_dataloader.dataset.ann_file=none",
        "test_dataloader.dataset.pipeline.99.type=x", "test_evaluator.type=x", "model.nick=5",
        "test_dataloader.dataset.data_prefix.img=none", "custom_imports.imports=[evil]",
        "test_cfg.type=x", "work_dir=/proc/x", "model.backbone.encoder=none", "a.b.c=\x1b[31m",
    )),
    ("test.py", _subsets, "--n-negatives", ("-1", "x", "999999", "1e400")),
    ("test.py", _subsets, "--subsets", ("none", "/dev/zero", ".", "\udcff")),
    ("train.py", _train, "--resume", PATHS),
    ("train.py", _train, "--amp-dtype", CHOICES),
    ("train.py", _train, "--launcher", ("x", "pytorch")),
    ("train.py", _train, "--cfg-options", (
        "x", "a=b", "model=5", "optim_wrapper.optimizer.type=os.system", "optim_wrapper=x",
        "optim_wrapper.optimizer.lr=x", "train_dataloader.batch_size=0", "train_cfg.max_epochs=x",
        "train_dataloader.dataset.ann_file=/dev/zero", "train_cfg.type=os.system", "seed=x",
        "train_dataloader.dataset.data_prefix.img=none", "param_scheduler=5", "resume=x",
        "default_hooks.checkpoint.interval=x", "load_from=/dev/zero", "model.data_preprocessor=5",
    )),
    ("eval_region_accuracy.py", _accuracy, "--n-negatives", WHOLE),
    ("eval_region_accuracy.py", _accuracy, "--image-size", WHOLE),
    ("eval_region_accuracy.py", _accuracy, "--batch-size", WHOLE),
    ("eval_region_accuracy.py", _accuracy, "--device", DEVICES),
    ("eval_region_accuracy.py", _accuracy, "--text-length", CHOICES),
    ("eval_region_accuracy.py", _accuracy, "--validation", PATHS),
    ("eval_region_accuracy.py", _accuracy, "--out", (*PATHS, "out", "none/x.json")),
    ("eval_fg_ovd.py", _fg_ovd, "--out", (*PATHS, "out", "none/x.json", "out/x.txt")),
    ("eval_fg_ovd.py", _fg_ovd, "--n-negatives", WHOLE),
    ("prepare_shapes.py", _shapes, "--seed", WHOLE),
    ("prepare_shapes.py", _shapes, "--num-val", (*WHOLE[:-2], "-5")),
    ("prepare_shapes.py", _shapes, "--workers", ("-1", "x", "1e9")),
    ("prepare_shapes.py", _shapes, "--out", PATHS),
    ("prepare_shapes.py", lambda f, d: [*_shapes(f, d), "--check"], "--out", PATHS),
    ("prepare_ov_coco.py", _coco, "--coco", PATHS),
    ("prepare_ov_coco.py", _coco, "--protocol", ("", "x", "66", "-1", "1e3")),
    ("prepare_ov_coco.py", _coco, "--out", PATHS),
    ("prepare_ov_coco.py", _coco, "--images", PATHS),
    ("prepare_ov_lvis.py", _lvis, "--lvis", PATHS),
    ("prepare_ov_lvis.py", _lvis, "--out", PATHS),
    ("prepare_ov_lvis.py", _lvis, "--images", PATHS[:5]),
    (_CLI, _calibrate, "--risk", SHARE),
    (_CLI, _calibrate, "--delta", SHARE),
    (_CLI, _calibrate, "--kind", CHOICES),
    (_CLI, _calibrate, "--clip", WHOLE),
    (_CLI, _calibrate, "--conf-thr", SHARE),
    (_CLI, _calibrate, "--seed", WHOLE),
    (_CLI, _calibrate, "--batch-size", WHOLE),
    (_CLI, _calibrate, "--features", CHOICES),
    (_CLI, _calibrate, "--device", DEVICES[:4]),
    (_CLI, _calibrate, "--calibration", PATHS),
    (_CLI, _calibrate, "--save-vocabulary", (*PATHS, "out/names.png")),
    (_CLI, _calibrate, "--out", (*PATHS, "out", "out/c.png")),
    (_CLI, _curve, "--truth", PATHS),
    (_CLI, _curve, "--prior", SHARE),
    (_CLI, _curve, "--results", PATHS),
    ("eval_presence.py", _presence, "--recall", (*SHARE, "0")),
    ("eval_presence.py", _presence, "--value", CHOICES),
    ("eval_presence.py", _presence, "--batch-size", WHOLE),
    ("eval_presence.py", _presence, "--device", DEVICES[:4]),
    ("eval_presence.py", _presence, "--out", (*PATHS, "out", "none/x.json")),
    ("eval_presence.py", _presence, "--diagram", (*PATHS, "out", "out/x.jpg")),
    ("make_region_bank.py", _bank, "--number", WHOLE),
    ("make_region_bank.py", _bank, "--seed", WHOLE),
    ("make_region_bank.py", _bank, "--batch-size", WHOLE),
    ("make_region_bank.py", _bank, "--device", DEVICES[:4]),
    ("make_region_bank.py", _bank, "--model", PATHS),
    ("make_region_bank.py", _bank, "--out", (*PATHS, "out", "out/b.png")),
    ("bundle_model.py", _bundle, "--out", PATHS),
    ("bundle_model.py", _bundle, "--images", PATHS),
)  # fmt: skip
# Whole command lines.
LINES: dict[str, tuple[str, list[str], set[int]]] = {
    "nothing": (_CLI, [], {REFUSED}),
    "an unknown command": (_CLI, ["detekt"], {REFUSED}),
    "an unknown option": (_CLI, ["demo", "--no-such"], {REFUSED}),
    "the version": (_CLI, ["--version"], {DONE}),
    "help": (_CLI, ["demo", "--help"], {DONE}),
    "doctor": (_CLI, ["doctor"], EITHER),
    "doctor of something": (_CLI, ["doctor", "x"], {REFUSED}),
    "an option without its value": (_CLI, ["demo", "--texts"], {REFUSED}),
    "two kinds of words": (_CLI, ["demo", "--texts", "a", "--vocabulary", "b"], {REFUSED}),
    "a model without pictures": (_CLI, ["demo", "--model", "x.py"], {REFUSED}),
    "10,000 missing pictures": (_CLI, ["demo", *(f"{i}.png" for i in range(10_000))], {REFUSED}),
    **{
        f"{tool} of nothing": (tool, [], {REFUSED})
        for tool in (
            "test.py", "train.py", "rescore.py", "eval_fg_ovd.py", "eval_region_accuracy.py",
            "bundle_model.py", "prepare_ov_coco.py", "prepare_ov_lvis.py", "eval_presence.py",
            "make_region_bank.py",
        )
    },
}  # fmt: skip


def _with(base: Base, option: str, value: str) -> Base:
    def make(folder: Path, data: Data) -> list[object]:
        *before, name = option.split(" ")
        return [*base(folder, data), *before, f"{name}={value}"]

    return make


def _is_fine(option: str, value: str) -> bool:
    """Whether the command may do its work with it, such as a folder of results that is made."""
    if value in _FINE or option in ("--out", "--out-dir", "--seed", "--encoder", "--cfg-options"):
        return True
    known = ("--weights", "--validation", "--n-negatives", "--images", "--alpha", "--beta",
             "--temperature", "--workers", "--box-cells", "--max-patches", "--max-per-image",
             "--image-size", "--batch-size", "--num-val", "--resume", "--coco", "--lvis",
             "--device", "--wait-time", "--nms", "--model", "--vocabulary",
             "--calibration", "--number")  # fmt: skip
    return option.split(" ")[-1] in known


def cases() -> Iterator[Case]:
    """Each option with each of its values, and whole command lines."""
    for tool, base, option, values in OPTIONS:
        # No device is ever named as a place to write to: root would put a file in its place.
        for value in (v for v in values if "--out" not in option or not v.startswith("/dev/")):
            shown = ascii(value)[:30]
            codes = EITHER if _is_fine(option, value) else {REFUSED}
            id = f"argument/{tool.removesuffix('.py')}/{base.__name__[1:]} {option}={shown}"
            # What a value names may be a place beside `out`; inputs are looked at all the same.
            places = ("out", "none") if "out" in option else ("out",)
            yield case(id, tool, _with(base, option, value), codes, places=places)
    for name, (tool, arguments, codes) in LINES.items():
        yield case(f"argument/{name}", tool, lambda f, d, line=arguments: line, codes)
    for name, text in {
        "a config that fails": "1 / 0\n",
        "a config of no model": "a = 5\n",
        "a config of bytes": "\0\0",
        "a config that leaves": "raise SystemExit(7)\n",
        "a config that is odd": "model = [1]\n",
        "a config of a lost base": "_base_ = 'none.py'\n",
        "a config without an end": "_base_ = 'c.py'\n",
        "a config of gibberish": "model = dict(\n",
    }.items():
        for tool in (_CLI, "test.py", "train.py"):

            def make(folder: Path, data: Data, text=text, tool=tool) -> list[object]:
                config = write_file(folder / "c.py", text)
                weights = BUNDLED / "detector.pth"
                if tool == _CLI:
                    words = ["--texts", "a", "--weights", weights]
                    return ["demo", data.picture, "--model", config, "--out-dir", "out", *words]
                return [config, *([weights] if tool == "test.py" else []), "--work-dir", "out"]

            codes = {REFUSED, 7} if "leaves" in name else REFUSED
            errors = None if "leaves" in name else 1
            yield case(f"argument/{name}/{tool}", tool, make, codes, errors=errors)
