"""Exported files predict what the network predicts, without this project."""

import json
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import DictConfig
from torch import Tensor

import fmnist
from fmnist import build, export
from fmnist.config.errors import UserError
from fmnist.data.dataset import ImageDataset
from fmnist.data.files import CLASS_NAMES
from fmnist.inference import export_formats
from tests.conftest import ROOT, Hostile, run_command

pytestmark = pytest.mark.real_data

MODELS = sorted(path.stem for path in (ROOT / "conf/model").glob("*.yaml"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run") / "run"
    outcome = run_command(ROOT / "train.py", "experiment=smoke", "threads=1", f"hydra.run.dir={path}")
    assert outcome.code == 0, outcome.err
    return path


@pytest.fixture(scope="module")
def onnx_file(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason="the optional packages of fmnist.export are not installed")
    directory = tmp_path_factory.mktemp("onnx")
    return export.export(export.Options(run=run, format="onnx", output=directory)) / "model.onnx"


@pytest.fixture(scope="module")
def torch_file(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("torch")
    return export.export(export.Options(run=run, format="torch", output=directory)) / "model.pt2"


@pytest.fixture(scope="module")
def expected(run: Path, test_set: ImageDataset) -> Tensor:
    """The eager network's probabilities of the whole test set."""
    with torch.no_grad():
        logits: Tensor = fmnist.load(run)(test_set.images)
    return logits.softmax(dim=1)


def session(path: Path) -> Any:
    import onnxruntime

    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def test_onnx_runtime_predicts_the_same(onnx_file: Path, test_set: ImageDataset, expected: Tensor) -> None:
    (found,) = session(onnx_file).run(None, {"images": test_set.images.numpy()})
    np.testing.assert_array_equal(found.argmax(axis=1), expected.argmax(dim=1))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_torch_alone_predicts_the_same(
    torch_file: Path, test_set: ImageDataset, expected: Tensor, tmp_path: Path
) -> None:
    torch.save(test_set.images, tmp_path / "images.pt")
    code = (
        "import sys, torch; program = torch.export.load(sys.argv[1]).module(); "
        "torch.save(program(torch.load('images.pt')).detach(), 'found.pt'); print('fmnist' in sys.modules)"
    )
    outcome = run_command("-c", code, torch_file, cwd=tmp_path, cold=True)
    assert (outcome.out, outcome.err) == ("False\n", "")
    found = torch.load(tmp_path / "found.pt")
    assert torch.equal(found.argmax(dim=1), expected.argmax(dim=1))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 1000])
def test_any_batch_size_works(
    onnx_file: Path, torch_file: Path, test_set: ImageDataset, expected: Tensor, batch_size: int
) -> None:
    images = test_set.images[:batch_size]
    (found,) = session(onnx_file).run(None, {"images": images.numpy()})
    np.testing.assert_allclose(found, expected[:batch_size], atol=1e-5)
    program = torch.export.load(torch_file).module()
    torch.testing.assert_close(program(images), expected[:batch_size], atol=1e-5, rtol=0)


def test_onnx_file_is_valid_and_describes_its_inputs_and_outputs(onnx_file: Path) -> None:
    import onnx

    model = onnx.load_from_string(onnx_file.read_bytes())  # from memory: with weights in other files it would fail
    onnx.checker.check_model(model, full_check=True)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 18)]
    (images,), (probabilities,) = model.graph.input, model.graph.output
    assert (images.name, probabilities.name) == ("images", "probabilities")
    assert images.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert probabilities.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    shapes = [
        [size.dim_param or size.dim_value for size in value.type.tensor_type.shape.dim]
        for value in (images, probabilities)
    ]
    assert shapes == [["batch", 1, 28, 28], ["batch", 10]]


def test_files_contain_the_class_names(onnx_file: Path, torch_file: Path) -> None:
    metadata = session(onnx_file).get_modelmeta().custom_metadata_map
    assert json.loads(metadata["class_names"]) == list(CLASS_NAMES)
    extra_files: dict[str, Any] = {"class_names": ""}
    torch.export.load(torch_file, extra_files=extra_files)
    assert json.loads(extra_files["class_names"]) == list(CLASS_NAMES)


def test_files_contain_no_paths_of_this_machine(onnx_file: Path, torch_file: Path) -> None:
    with zipfile.ZipFile(torch_file) as archive:
        contents = [archive.read(name) for name in archive.namelist()]
    for content in [onnx_file.read_bytes(), *contents]:
        assert str(ROOT).encode() not in content
        assert b".py" not in content


@pytest.mark.usefixtures("onnx_file")  # skips where the packages are not installed
def test_command_prints_its_own_lines_only_and_replaces_an_older_export(run: Path) -> None:
    (run / "export").mkdir()
    (run / "export/model.onnx").write_text("old")
    outcome = run_command("-m", "fmnist.export", f"run={run}")
    assert (outcome.code, outcome.err) == (0, "")
    first, *files, last = outcome.out.splitlines()
    assert first == "same predictions     on 10,000 test images; largest difference of a probability:"
    assert [line.split()[0] for line in files] == ["model.onnx", "model.pt2"]
    assert all(0 <= float(line.split()[1]) < 1e-5 for line in files)
    assert "opset 18" in files[0]
    assert last.endswith(f" {run / 'export'}")
    assert sorted(path.name for path in (run / "export").iterdir()) == ["model.onnx", "model.pt2"]
    session(run / "export/model.onnx")


@pytest.mark.usefixtures("onnx_file")
@pytest.mark.parametrize("model", MODELS)
def test_every_network_can_be_exported(model: str, composed: Callable[..., DictConfig], test_set: ImageDataset) -> None:
    torch.manual_seed(0)
    network = build.classifier(composed(f"model={model}")).network.eval()
    images = test_set.images[:300]
    with torch.no_grad():
        expected = network(images).softmax(dim=1)
    program = export_formats.capture(network)
    for kind in export_formats.FORMATS.values():
        assert export_formats.check(kind.file, kind.read(kind.write(program)), images, expected) < 1e-5


def test_file_that_fails_the_check_is_not_written(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = export_formats.FORMATS["torch"]
    shifted = kind._replace(read=lambda content: lambda images: kind.read(content)(images) + 2e-4)
    monkeypatch.setitem(export_formats.FORMATS, "torch", shifted)
    with pytest.raises(UserError, match=r"model\.pt2 was not written: it differs .* by up to 2\.0e-04") as error:
        export.export(export.Options(run=run, format="torch", output=tmp_path / "new"))
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "model.pt2").write_text("old")
    with pytest.raises(UserError):
        export.export(export.Options(run=run, format="torch", output=tmp_path))
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


EVEN = torch.full((300, 10), 0.1)


@pytest.mark.parametrize(
    "change",
    [(0, 3, 2e-4), (299, 0, -2e-4), (7, 5, float("nan")), (8, 5, 1e-6)],
    ids=["too much", "too little", "not a number", "another prediction"],
)
def test_one_wrong_probability_fails_the_check(change: tuple[int, int, float]) -> None:
    row, column, amount = change
    images = torch.arange(300, dtype=torch.int32).reshape(300, 1, 1, 1).expand(300, 1, 28, 28)
    found = EVEN.clone()
    found[row, column] += amount

    def exported(images: Tensor) -> Tensor:
        return found[images[:, 0, 0, 0]]

    with pytest.raises(UserError, match="was not written"):
        export_formats.check("model", exported, images, EVEN)
    found = EVEN
    assert export_formats.check("model", exported, images, EVEN) == 0


def test_without_the_optional_packages_only_onnx_fails(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, package, None)  # makes the import fail
            with pytest.raises(
                UserError, match=r"^ONNX needs .*: make setup-extras, or pip install '\.\[export\]'; format=torch .*$"
            ):
                export.export(export.Options(run=run, output=tmp_path))
    for package in ("onnx", "onnxscript", "onnxruntime"):
        monkeypatch.setitem(sys.modules, package, None)
    export.export(export.Options(run=run, format="torch", output=tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt2"]


def rejection(**options: Any) -> str:
    with pytest.raises(UserError) as error:
        export.export(export.Options(format="torch", **options))
    assert "\n" not in str(error.value)
    return str(error.value)


def test_missing_damaged_and_hostile_runs_are_rejected_in_one_line(run: Path, tmp_path: Path) -> None:
    assert rejection(run=tmp_path / "none").startswith(f"no directory {tmp_path / 'none'}")
    assert "is not a run directory" in rejection(run=tmp_path)
    copy, witness = tmp_path / "run", tmp_path / "witness"
    shutil.copytree(run, copy, ignore=shutil.ignore_patterns("export"))
    torch.save({"state_dict": Hostile(witness)}, copy / "checkpoints/best.ckpt")
    assert "is rejected: it holds more than weights" in rejection(run=copy)
    (copy / "checkpoints/best.ckpt").write_bytes(b"")
    assert "is not a checkpoint" in rejection(run=copy)
    assert not witness.exists()
    assert not (copy / "export").exists()


def test_directory_that_cannot_be_written_is_named(run: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert (
        rejection(run=run, output=tmp_path / "file") == f"{tmp_path / 'file'} is a file; the export needs a directory"
    )
    assert rejection(run=run, output=tmp_path / "file/below").startswith(f"cannot write {tmp_path / 'file/below'}: ")
