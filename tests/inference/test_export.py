"""Exported files predict what the network predicts, without this project."""

import json
import shutil
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import fmnist
from fmnist import export
from fmnist.config.errors import UserError
from fmnist.data.dataset import ImageDataset
from fmnist.data.fashion_mnist import FashionMNIST
from fmnist.data.files import CLASS_NAMES
from fmnist.inference.export_formats import FORMATS, check
from fmnist.runs.run_directory import RunDirectory
from tests.helpers import ROOT, run_command

pytestmark = pytest.mark.real_data

PACKAGES = "onnx", "onnxscript", "onnxruntime"
needs_onnx = pytest.mark.skipif(not all(map(find_spec, PACKAGES)), reason="needs make setup-extras")


@pytest.fixture(scope="module")
def run(trained_run: RunDirectory, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A copy of a trained run, exported in all formats that this machine can write."""
    run = RunDirectory(shutil.copytree(trained_run.path, tmp_path_factory.mktemp("export") / "run"))
    run.export.mkdir()
    (run.export / "model.pt2").write_text("of an older export")
    kind = "both" if all(map(find_spec, PACKAGES)) else "torch"
    outcome = run_command("-m", "fmnist.export", f"run={run.path}", f"format={kind}")
    assert (outcome.code, outcome.err) == (0, "")
    (run.path / "printed").write_text(outcome.out)
    return run


@pytest.fixture
def few_images(test_set: ImageDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the test set small."""
    few = ImageDataset(test_set.images[:20], test_set.labels[:20])
    monkeypatch.setattr(FashionMNIST, "read", lambda *_: few)


def probabilities(run: RunDirectory, images: Tensor) -> Tensor:
    with torch.no_grad():
        logits: Tensor = fmnist.load(run.path)(images)
    return logits.softmax(dim=1)


def session(run: RunDirectory) -> Any:
    import onnxruntime

    return onnxruntime.InferenceSession(run.export / "model.onnx", providers=["CPUExecutionProvider"])


@needs_onnx
def test_command_prints_its_own_lines_only_and_replaces_an_older_export(run: RunDirectory) -> None:
    first, onnx, pt2, last = (run.path / "printed").read_text().splitlines()
    assert first == "same predictions     on 10,000 test images; largest difference of a probability:"
    for line, *expected in ((onnx, "model.onnx", "(ONNX, opset 18)"), (pt2, "model.pt2", "(torch.export)")):
        file, difference, description = line.split(maxsplit=2)
        assert [file, description] == expected
        assert 0 <= float(difference) < 1e-5
    assert last == f"written to           {run.export}"
    assert {path.name for path in run.export.iterdir()} == {"model.onnx", "model.pt2"}


@needs_onnx
@pytest.mark.parametrize("batch_size", [1, 3, 500])
def test_onnx_runtime_predicts_the_same(run: RunDirectory, test_set: ImageDataset, batch_size: int) -> None:
    images = test_set.images[:batch_size]
    (found,) = session(run).run(None, {"images": images.numpy()})
    np.testing.assert_allclose(found, probabilities(run, images), atol=1e-5)


def test_torch_alone_predicts_the_same(run: RunDirectory, test_set: ImageDataset, tmp_path: Path) -> None:
    code = (
        "import sys, torch; program = torch.export.load(sys.argv[1]).module(); batches = torch.load('images.pt'); "
        "torch.save([program(images).detach() for images in batches], 'found.pt'); print('fmnist' in sys.modules)"
    )
    batches = test_set.images[:500].split([1, 3, 496])
    torch.save(batches, tmp_path / "images.pt")
    outcome = run_command("-c", code, run.export / "model.pt2", cwd=tmp_path, cold=True)
    assert (outcome.out, outcome.err) == ("False\n", "")
    for images, found in zip(batches, torch.load(tmp_path / "found.pt"), strict=True):
        torch.testing.assert_close(found, probabilities(run, images), atol=1e-5, rtol=0)


@needs_onnx
def test_onnx_file_is_valid_and_describes_its_inputs_and_outputs(run: RunDirectory) -> None:
    import onnx

    content = (run.export / "model.onnx").read_bytes()
    model = onnx.load_from_string(content)  # from memory: with weights in other files it would fail
    onnx.checker.check_model(model, full_check=True)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 18)]
    (images,), (probabilities,) = model.graph.input, model.graph.output
    assert (images.name, probabilities.name) == ("images", "probabilities")
    types = [value.type.tensor_type for value in (images, probabilities)]
    assert [kind.elem_type for kind in types] == [onnx.TensorProto.UINT8, onnx.TensorProto.FLOAT]
    shapes = [[size.dim_param or size.dim_value for size in kind.shape.dim] for kind in types]
    assert shapes == [["batch", 1, 28, 28], ["batch", 10]]


@needs_onnx
def test_files_contain_the_class_names(run: RunDirectory) -> None:
    metadata = session(run).get_modelmeta().custom_metadata_map
    extra_files: dict[str, Any] = {"class_names": ""}
    torch.export.load(run.export / "model.pt2", extra_files=extra_files)
    for found in (metadata, extra_files):
        assert json.loads(found["class_names"]) == list(CLASS_NAMES)


@needs_onnx
def test_files_contain_no_paths_of_this_machine(run: RunDirectory) -> None:
    with zipfile.ZipFile(run.export / "model.pt2") as archive:
        contents = [archive.read(name) for name in archive.namelist()]
    for content in [(run.export / "model.onnx").read_bytes(), *contents]:
        assert str(ROOT).encode() not in content
        assert b".py" not in content


@pytest.mark.parametrize(
    ("row", "column", "amount", "message"),
    [
        (0, 0, 2e-4, r"2\.0e-04 in a probability \(allowed: 1e-04\) and in 0 of 300 predictions"),
        (299, 0, float("nan"), r"nan in a probability .* predictions"),
        (8, 5, 1e-6, r"1\.0e-06 in a probability .* and in 1 of 300 predictions"),
    ],
)
def test_one_wrong_probability_fails_the_check(row: int, column: int, amount: float, message: str) -> None:
    images = torch.arange(300).reshape(300, 1, 1, 1)
    expected, sizes = torch.full((300, 10), 0.1), []
    found = expected.clone()

    def exported(images: Tensor) -> Tensor:
        sizes.append(len(images))
        return found[images.flatten()]

    found[0, 0] += 0.9e-4
    assert check("model", exported, images, expected) == pytest.approx(0.9e-4, rel=1e-3)
    assert sizes == [1, 7, 250, 42]
    found[0, 0] = 0.1
    found[row, column] += amount
    with pytest.raises(UserError, match=f"^model was not written: it differs from the network by up to {message}$"):
        check("model", exported, images, expected)


@pytest.mark.usefixtures("few_images")
def test_file_that_fails_the_check_is_not_written(
    trained_run: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = FORMATS["torch"]
    monkeypatch.setitem(
        FORMATS, "torch", kind._replace(read=lambda _: lambda images: torch.full((len(images), 10), 0.1))
    )
    (tmp_path / "model.pt2").write_text("old")
    with pytest.raises(UserError, match=r"^model\.pt2 was not written: it differs .* of 20 predictions$"):
        export.export(export.Options(run=trained_run.path, format="torch", output=tmp_path))
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


@pytest.mark.usefixtures("few_images")
def test_without_the_optional_packages_only_onnx_fails(
    trained_run: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in PACKAGES:
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, package, None)  # makes the import fail
            message = (
                r"^ONNX needs .*: make setup-extras, or pip install '\.\[export\]'; format=torch needs none of them$"
            )
            with pytest.raises(UserError, match=message):
                export.export(export.Options(run=trained_run.path, output=tmp_path))
    for package in PACKAGES:
        monkeypatch.setitem(sys.modules, package, None)
    export.export(export.Options(run=trained_run.path, format="torch", output=tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt2"]


@pytest.mark.usefixtures("few_images")
def test_directory_that_cannot_be_written_is_named(trained_run: RunDirectory, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for output, message in (
        (tmp_path / "file", f"^{tmp_path}/file is a file; the export needs a directory$"),
        (tmp_path / "file/below", f"^cannot write {tmp_path}/file/below: Not a directory$"),
    ):
        with pytest.raises(UserError, match=message):
            export.export(export.Options(run=trained_run.path, format="torch", output=output))
