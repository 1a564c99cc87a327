"""The doctor reports, gives mends, and does not crash where packages are missing."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fgclip_det.apis import doctor

ROOT = Path(__file__).parents[2]


def broken_import(*names: str):
    """An import_module that fails for the packages `names` and everything below them."""
    real = importlib.import_module

    def fake(module: str, package: str | None = None):
        if any(module == name or module.startswith(f"{name}.") for name in names):
            raise ImportError(f"No module named {module!r}")
        return real(module, package)

    return fake


def by_topic(findings: list) -> dict:
    return {finding.topic: finding for finding in findings}


def test_this_environment_is_usable(capsys: pytest.CaptureFixture) -> None:
    pytest.importorskip("mmdet")
    assert doctor.doctor() == 0
    printed = capsys.readouterr().out
    for topic in ("python", "torch", "mmdet", "mmcv", "transformers", "mmcv ops", "CUDA"):
        assert f"  {topic} " in printed
    assert "fgclip_det ops, cpu" in printed
    assert printed.strip().endswith("usable") and "FAIL" not in printed


def test_missing_mmdet_is_reported_with_its_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.importlib, "import_module", broken_import("mmdet"))
    monkeypatch.setattr(doctor, "_installed_version", lambda names: "")
    finding = by_topic(doctor.examine())["mmdet"]
    assert not finding.usable and finding.value == "not installed"
    assert finding.mend == "pip install mmdet==3.3.0"
    assert doctor.doctor() == 2


def test_known_import_errors_get_their_own_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    error = RuntimeError("operator torchvision::nms does not exist")
    monkeypatch.setattr(doctor, "_try_import", lambda module: error)
    finding = doctor._examine_package(*doctor.PACKAGES[1])
    assert "torch==2.11.0 torchvision==0.26.0" in finding.mend and not finding.usable


def test_nothing_importable_still_gives_a_report(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [module for module, _, _ in doctor.PACKAGES]
    monkeypatch.setattr(
        doctor.importlib,
        "import_module",
        broken_import(*names, "fgclip_det.compat", "fgclip_det.ops"),
    )
    text = doctor.report()
    assert text.count("FAIL") >= len(names) and "not usable" in text
    assert "does not import: ImportError" in text and "->" in text


def test_slow_operators_are_a_note_with_the_build_command(monkeypatch: pytest.MonkeyPatch) -> None:
    ops = importlib.import_module("fgclip_det.ops")
    monkeypatch.setattr(ops, "backend", lambda: {"cpu": "reference", "cuda": "reference"})
    monkeypatch.setattr(doctor, "_wants_device", lambda device: device == "cpu")
    findings = by_topic(doctor._examine_our_ops())
    assert findings["fgclip_det ops, cpu"].mend and findings["fgclip_det ops, cpu"].usable
    assert not findings["fgclip_det ops, cuda"].mend
    assert "note  fgclip_det ops, cpu" in doctor.report(list(findings.values()))


def test_kernels_without_the_assertion_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    ops = importlib.import_module("fgclip_det.ops")
    monkeypatch.setattr(ops, "backend", lambda: {"cpu": "extension", "cuda": "extension"})
    for asserts, words in ((True, ""), (False, ", without the assertion that boxes name an image")):
        monkeypatch.setattr(ops, "asserts_index", lambda asserts=asserts: asserts)
        findings = by_topic(doctor._examine_our_ops())
        assert findings["fgclip_det ops, cuda"].value == f"extension{words}"
        assert findings["fgclip_det ops, cpu"].value == "extension"


def test_the_slow_evaluator_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    found = doctor._examine_evaluator()
    assert re.fullmatch(r"faster-coco-eval \d.*", found.value) and not found.mend
    monkeypatch.setattr(doctor, "_try_import", lambda module: ImportError(f"no {module}"))
    broken = doctor._examine_evaluator()
    assert "pycocotools" in broken.value and "no faster_coco_eval" in broken.value
    assert broken.usable and broken.mend == "pip install faster-coco-eval==1.8.0"
    monkeypatch.setattr(doctor, "_installed_version", lambda names: "")
    assert "is not installed" in doctor._examine_evaluator().value


def test_bundled_model_lists_what_it_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "BUNDLED_MODEL", tmp_path)
    (tmp_path / "config.py").write_text("")
    finding = doctor._examine_bundled_model()
    assert "detector.pth" in finding.value and "config.py" not in finding.value.split(" in ")[0]
    assert finding.mend and finding.usable
    for name in doctor.BUNDLED_FILES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    assert not doctor._examine_bundled_model().mend


def test_a_crash_inside_an_examination_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def crash() -> None:
        raise RuntimeError("driver\nfell over")

    monkeypatch.setattr(doctor, "_examine_cuda", crash)
    finding = by_topic(doctor.examine())["CUDA"]
    assert finding.value == "could not be examined: RuntimeError: driver"


def test_importing_the_doctor_imports_nothing_that_may_be_missing() -> None:
    code = (
        "import sys, fgclip_det.apis.doctor as d; "
        "print([m for m in ('torch', 'mmdet', 'mmcv', 'transformers') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


def test_tells_what_the_cache_of_the_hub_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "none"))
    assert f"0 repositories in {tmp_path / 'none'}" in doctor._examine_hub_cache().value
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    (tmp_path / "models--a--b").mkdir()
    (tmp_path / "fgclip_det").mkdir()
    finding = by_topic(doctor.examine())["hub cache"]
    assert finding.value.startswith(f"1 repositories in {tmp_path}") and finding.usable
