"""The command as a user types it: what it writes, and how it refuses."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

import fgclip_det
from fgclip_det.apis.inferencer import BUNDLED
from fgclip_det.cli import main
from fgclip_det.vocabulary import TextEmbeddings, Vocabulary

ROOT = Path(__file__).resolve().parents[1]
PICTURE = sorted((BUNDLED / "images").glob("*.png"))[0]
STEM = PICTURE.stem
NAMES = list(Vocabulary.parse(BUNDLED / "vocabulary.json").names)


def demo(*arguments: object) -> int:
    return main(["demo", *map(str, arguments)])


def written(out: Path) -> list[str]:
    return sorted(p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file())


def told_apart(stem: str, picture: Path) -> str:
    """The name of a result whose own name is taken."""
    return f"{stem}-{hashlib.sha256(os.path.realpath(picture).encode()).hexdigest()[:8]}"


def test_shows_the_bundled_pictures(
    cached_detector, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert demo("--out-dir", tmp_path / "out") == 0
    stems = [path.stem for path in sorted((BUNDLED / "images").glob("*.png"))]
    assert written(tmp_path / "out") == [
        *(f"preds/{stem}.json" for stem in stems),
        *(f"vis/{stem}.png" for stem in stems),
    ]
    assert f"in {len(stems)} picture(s); written to" in capsys.readouterr().out


def test_writes_json_and_an_annotated_picture(
    cached_detector, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    texts = ". ".join(NAMES)
    assert demo(PICTURE, "--texts", texts, "--conf-thr", 0, "--out-dir", tmp_path) == 0
    values = json.loads((tmp_path / "preds" / f"{STEM}.json").read_text("utf-8"))
    assert list(values) == ["image", "width", "height", "vocabulary", "conf_thr", "detections"]
    assert values["image"] == str(PICTURE)
    assert (values["width"], values["height"]) == (128, 128)
    assert values["vocabulary"] == NAMES
    assert values["detections"]
    for found in values["detections"]:
        assert list(found) == ["name", "score", "confidence", "box"]
        assert found["name"] in NAMES
        x1, y1, x2, y2 = found["box"]
        assert 0 <= x1 < x2 <= 128 and 0 <= y1 < y2 <= 128
    with Image.open(tmp_path / "vis" / f"{STEM}.png") as drawn:
        assert drawn.size == (640, 640)
    best = values["detections"][0]
    assert f"{best['confidence']:.2f}  {best['name']}" in capsys.readouterr().out


def test_leaves_out_pictures_on_request(cached_detector, tmp_path: Path) -> None:
    assert demo(PICTURE, "--no-save-vis", "--out-dir", tmp_path) == 0
    assert written(tmp_path) == [f"preds/{STEM}.json"]


def test_pictures_of_one_name_are_kept_apart(cached_detector, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        shutil.copy(PICTURE, tmp_path / folder / "x.png")
    pictures = (tmp_path / "a", tmp_path / "b", tmp_path / "a" / "x.png")
    assert demo(*pictures, "--batch-size", 2, "--out-dir", tmp_path / "out") == 0
    other = told_apart("x", tmp_path / "b" / "x.png")
    names = [f"preds/{other}.json", "preds/x.json", f"vis/{other}.png", "vis/x.png"]
    assert written(tmp_path / "out") == names
    for stem, folder in (("x", "a"), (other, "b")):
        values = json.loads((tmp_path / "out" / "preds" / f"{stem}.json").read_text())
        assert values["image"] == str(tmp_path / folder / "x.png")


def _vocabulary(path: Path) -> list[str]:
    return json.loads((path / "preds" / f"{STEM}.json").read_text("utf-8"))["vocabulary"]


def test_negatives_of_a_preset_stay(cached_detector, tmp_path: Path) -> None:
    told = ["demo", str(PICTURE), "--model", "photos", "--texts", "a ring"]
    told += ["--out-dir", str(tmp_path)]
    assert main(told) == 0
    assert cached_detector._competing.competition is cached_detector.competition is not None
    assert cached_detector.negatives is None
    assert main([*told, "--negatives", "a plate"]) == 0
    assert cached_detector._competing.competition is cached_detector.competition
    assert cached_detector.negatives.names == ("a plate",)


def test_reads_prompts_behind_bars(cached_detector, tmp_path: Path) -> None:
    file = tmp_path / "words.txt"
    file.write_text("# mine\nball | a red circle | a circle\nbox\n", encoding="utf-8")
    for option in ("--vocabulary", "--texts"):
        assert demo(PICTURE, option, file, "--out-dir", tmp_path) == 0
        assert _vocabulary(tmp_path) == ["ball", "box"]
    assert cached_detector.texts.prompts == (("a red circle", "a circle"), ("box",))


def test_reads_json_and_saved_embeddings(cached_detector, tmp_path: Path) -> None:
    (tmp_path / "words.json").write_text('{"ball": ["a circle"], "box": ["a square"]}')
    assert demo(PICTURE, "--vocabulary", tmp_path / "words.json", "--out-dir", tmp_path) == 0
    assert _vocabulary(tmp_path) == ["ball", "box"]
    encoded = TextEmbeddings.encode(Vocabulary.parse("ring, star"), cached_detector.model.encoder)
    encoded.save(tmp_path / "t.safetensors")
    file = tmp_path / "t.safetensors"
    assert demo(PICTURE, "--vocabulary", file, "--out-dir", tmp_path) == 0
    assert _vocabulary(tmp_path) == ["ring", "star"]


def _make_picture(path: Path, kind: str) -> Path:
    rgb = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    image = Image.fromarray(rgb)
    if kind in ("L", "RGBA", "CMYK"):
        image.convert(kind).save(path.with_suffix(".tif"))
        return path.with_suffix(".tif")
    if kind == "16-bit grey":
        cv2.imwrite(str(path), rgb[..., 0].astype(np.uint16) * 257)
    elif kind == "16-bit RGB":
        cv2.imwrite(str(path), rgb.astype(np.uint16) * 257)
    elif kind == "turned":
        exif = Image.Exif()
        exif[0x0112] = 6
        image.save(path, exif=exif)
    else:
        width, height = map(int, kind.split("x"))
        Image.new("RGB", (width, height), (200, 30, 60)).save(path)
    return path


@pytest.mark.parametrize(
    ("kind", "size"),
    [
        ("L", (64, 48)),
        ("RGBA", (64, 48)),
        ("CMYK", (64, 48)),
        ("16-bit grey", (64, 48)),
        ("16-bit RGB", (64, 48)),
        ("turned", (48, 64)),
        ("1x1", (1, 1)),
        ("20000x10", (20_000, 10)),
    ],
)
def test_unusual_pictures_work(
    cached_detector, tmp_path: Path, kind: str, size: tuple[int, int]
) -> None:
    path = _make_picture(tmp_path / "x.png", kind)
    options = ("--texts", ", ".join(NAMES[:40]), "--score-thr", 0, "--out-dir", tmp_path / "out")
    assert demo(path, *options) == 0
    values = json.loads((tmp_path / "out" / "preds" / "x.json").read_text())
    assert (values["width"], values["height"]) == size
    for found in values["detections"]:
        assert 0 <= found["box"][0] < found["box"][2] <= size[0]
        assert 0 <= found["box"][1] < found["box"][3] <= size[1]
    with Image.open(tmp_path / "out" / "vis" / "x.png") as drawn:
        assert drawn.size[0] * size[1] == drawn.size[1] * size[0]


def test_long_captions_are_cut_and_this_is_said_once(
    cached_detector, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    # Spread over several batches of the text tower.
    file = tmp_path / "long.txt"
    file.write_text("\n".join(f"{'red ' * 300}{i}" for i in range(300)))
    assert demo(PICTURE, PICTURE, "--vocabulary", file, "--out-dir", tmp_path / "out") == 0
    said = capsys.readouterr().err
    assert said.count("longer than 77 tokens and were cut") == 1
    assert said.startswith("note: ")


def test_repeated_names_are_said_once(
    cached_detector, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert demo(PICTURE, "--texts", "ring, star, ring, star", "--out-dir", tmp_path) == 0
    assert _vocabulary(tmp_path) == ["ring", "star"]
    said = capsys.readouterr().err
    assert said.count("note: 2 name(s) are given more than once") == 1


def test_names_of_any_script_and_any_number(cached_detector, tmp_path: Path) -> None:
    file = tmp_path / "v.txt"
    names = ["红色的圆", "зелёный круг", "دائرة", *(f"thing {i}" for i in range(5000))]
    file.write_text("\n".join(names), encoding="utf-8")
    assert demo(PICTURE, "--vocabulary", file, "--score-thr", 0, "--out-dir", tmp_path) == 0
    assert _vocabulary(tmp_path) == names
    assert "红色的圆" in (tmp_path / "preds" / f"{STEM}.json").read_text("utf-8")


def test_mistyped_options_exit_with_2(capsys: pytest.CaptureFixture) -> None:
    for argv in (
        [],
        ["detect"],
        ["demo", "--score", "x"],
        ["demo", "--batch-size", "many"],
        ["demo", "--texts", "a", "--vocabulary", "b"],
    ):
        with pytest.raises(SystemExit) as stopped:
            main(argv)
        assert stopped.value.code == 2
        assert "error: " in capsys.readouterr().err


def test_help_and_version_do_not_load_torch() -> None:
    code = (
        "import sys\nfrom fgclip_det.cli import main\n"
        "try: main(['--version'])\nexcept SystemExit: print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [fgclip_det.__version__, "False"]


@pytest.mark.parametrize("missing", ["mmdet", "mmengine", "mmcv"])
def test_missing_packages_are_one_line(missing: str) -> None:
    """The command and the Python interface say what to install."""
    code = (
        f"import sys\nsys.modules[{missing!r}] = None\nfrom fgclip_det.cli import main\n"
        "code = main(['demo'])\n"
        "try: from fgclip_det.apis import OpenVocabInferencer\n"
        "except ImportError as error: print(error)\n"
        "sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    for said in (done.stderr.removeprefix("error: "), done.stdout):
        assert said.count("\n") == 1 and said.startswith(missing), said
        assert "pip install 'fgclip_det[openmmlab]'" in said


@pytest.mark.parametrize("arguments", [["--help"], ["demo", "--help"], ["--version"]])
def test_help_that_nobody_reads(arguments: list[str]) -> None:
    code = "import sys; sys.stdin.read(); from fgclip_det.cli import main; sys.exit(main())"
    running = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    running.stdout.close()
    running.stdin.close()
    with running.stderr as said:
        assert said.read() == b""
    assert running.wait() == 141


def test_doctor_answers(capsys: pytest.CaptureFixture) -> None:
    assert main(["doctor"]) == 0
    assert "bundled model" in capsys.readouterr().out


def _run(*command: object) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def test_the_command_as_a_process(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_text("no picture")
    options = ("--texts", "ring. star", "--device", "cpu", "--out-dir", tmp_path / "out")
    done = _run("-m", "fgclip_det.cli", "demo", PICTURE, tmp_path / "x.png", *options)
    assert done.returncode == 3
    assert "Traceback" not in done.stderr
    assert f"error: {str(tmp_path / 'x.png')!r} is not a picture" in done.stderr
    assert written(tmp_path / "out") == [f"preds/{STEM}.json", f"vis/{STEM}.png"]


def test_the_demo_script(tmp_path: Path) -> None:
    done = _run("demo/image_demo.py", PICTURE, "--texts", "ring", "--out-dir", tmp_path)
    assert done.returncode == 0, done.stderr
    assert written(tmp_path) == [f"preds/{STEM}.json", f"vis/{STEM}.png"]
    assert "warn" not in done.stderr.lower()
