"""A folder of pictures: how it is read, what is checked, and what a run on it can do without it."""

import csv
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import fmnist
from fmnist.config.errors import UserError
from fmnist.data import pictures
from fmnist.data.folder import Folder
from fmnist.data.picture_listing import Entry, put_aside
from fmnist.data.spec import DataSpec
from fmnist.runs.run_directory import RunDirectory
from tests.helpers import ROOT, TINY, Outcome, TrainHere, one_line, run_command

CLASSES = ["cat", "dog", "hen"]


def draw(path: Path, seed: int) -> None:
    """Writes a random picture; each seed gives another one, of another size."""
    random = np.random.default_rng(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(random.integers(0, 256, (*random.integers(20, 300, 2), 3), np.uint8)).save(path)


@pytest.fixture
def animals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Ten pictures of each class, PNG and JPEG; the cache is empty."""
    monkeypatch.setenv("FMNIST_DATA", str(tmp_path / "cache"))
    for label, name in enumerate(CLASSES):
        for number in range(10):
            draw(tmp_path / f"animals/{name}/{number}{'.jpg' if name == 'hen' else '.png'}", 100 * label + number)
    return tmp_path / "animals"


def prepared(directory: Path, **options: Any) -> Folder:
    data = Folder(data_dir=str(directory), **{"val_size": 0.25, **options})
    data.prepare_data()
    data.setup("fit")
    data.setup("test")
    return data


def sets_of(data: Folder) -> dict[str, set[str]]:
    """The files of each set."""
    names = data.file_names("train")
    split = {name: {names[index] for index in getattr(data, f"{name}_indices").tolist()} for name in ("train", "val")}
    return {**split, "test": set(data.file_names("test"))}


def arrange(folder: Path, *layout: str) -> Path:
    """Moves the first pictures of each class to the sets of a layout, such as ``test/``."""
    for number, name in enumerate(layout):
        for kind in CLASSES:
            (folder / name / kind).mkdir(parents=True, exist_ok=True)
            files = sorted((folder / kind).iterdir())
            for path in files if number == len(layout) - 1 else files[:2]:
                path.rename(folder / name / kind / path.name)
    for kind in CLASSES:
        (folder / kind).rmdir()
    return folder


def test_every_picture_is_in_one_set_and_every_class_in_all(animals: Path) -> None:
    data = prepared(animals, test_size=0.2, image_size=32, channels=3)
    sets = sets_of(data)
    assert [len(sets[name]) for name in ("train", "val", "test")] == [18, 6, 6]
    assert len(set.union(*sets.values())) == 30
    assert all({path.split("/")[0] for path in files} == set(CLASSES) for files in sets.values())
    assert data.spec == DataSpec("animals", ("cat", "dog", "hen"), channels=3, size=32, fit="pad")
    for split, dataset in (("train", data.train_set), ("test", data.test_set)):
        for index, name in enumerate(data.file_names(split)):  # type: ignore[arg-type]
            image, label = dataset[index]
            np.testing.assert_array_equal(image, pictures.read_resized(animals / name, data.spec))
            assert CLASSES[label] == name.split("/")[0]


@pytest.mark.parametrize("val", ["val", "valid", "validation"])
def test_given_sets_are_taken(animals: Path, val: str) -> None:
    arrange(animals, val, "test", "train")
    sets = sets_of(prepared(animals))
    assert {name: len(files) for name, files in sets.items()} == {"train": 18, "val": 6, "test": 6}
    assert all(path.startswith(f"{val}/") for path in sets["val"])
    everything = sets_of(prepared(animals, val_size=0))
    assert (len(everything["train"]), len(everything["val"])) == (24, 0)


def test_classes_may_be_called_train_and_bus(animals: Path) -> None:
    (animals / "cat").rename(animals / "train")
    (animals / "dog").rename(animals / "bus")
    assert Folder(data_dir=str(animals)).spec.class_names == ("bus", "hen", "train")


@given(counts=st.lists(st.integers(1, 30), min_size=1, max_size=4), share=st.floats(0.01, 0.99), seed=st.integers(0, 9))
def test_part_put_aside_is_stratified_and_hardly_changes_with_new_pictures(
    counts: list[int], share: float, seed: int
) -> None:
    def test_files(counts: list[int]) -> list[set[str]]:
        entries = [
            Entry("train", label, f"{label}/{n}", 1, 1) for label, count in enumerate(counts) for n in range(count)
        ]
        after = put_aside(entries, share, seed)
        assert [entry.path for entry in after] == [entry.path for entry in entries]
        return [{entry.path for entry in after if (entry.part, entry.label) == ("test", k)} for k in range(len(counts))]

    before = test_files(counts)
    for count, chosen in zip(counts, before, strict=True):
        assert len(chosen) == min(max(1, round(share * count)), count - 1)
    for chosen, later in zip(before, test_files([count + 1 for count in counts]), strict=True):
        assert len(chosen - later) <= 1  # the new one may take the place of another


def test_second_start_reads_no_picture_unless_one_has_changed(animals: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = prepared(animals)
    monkeypatch.setattr(pictures, "read", lambda path: pytest.fail(f"read {path}"))
    second = prepared(animals)
    assert torch.equal(second.train_set.images, first.train_set.images)
    assert sets_of(second) == sets_of(first)
    monkeypatch.undo()
    monkeypatch.setenv("FMNIST_DATA", str(animals.parent / "cache"))
    draw(animals / "cat/new.png", 77)
    assert len(prepared(animals).train_set) + len(prepared(animals).test_set) == 31


def test_damaged_and_half_made_caches_are_noticed(animals: Path) -> None:
    data = prepared(animals)
    path = data.cache / "train.npy"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(UserError, match=r"train\.npy is damaged; delete .*, and the pictures are read again$"):
        prepared(animals)
    (data.cache / "index.json").write_text("{")  # as is everything without an index: a process was killed
    assert len(prepared(animals).train_set) == len(data.train_set)


def test_left_out_and_doubtful_pictures_are_named(animals: Path, caplog: pytest.LogCaptureFixture) -> None:
    arrange(animals, "test", "train")
    (animals / "train/cat/notes.txt").write_text("rubbish")
    (animals / "train/cat/.hidden.png").write_text("rubbish")
    (animals / "train/dog/broken.png").write_bytes((animals / "train/dog/5.png").read_bytes()[:200])
    shutil.copy(animals / "train/hen/5.jpg", animals / "test/hen/same.jpg")
    shutil.rmtree(animals / "test/cat")
    for _ in range(2):  # from the cache as well
        caplog.clear()
        data = prepared(animals)
        assert (len(data.train_set), len(data.test_set)) == (24, 5)
        left_out, missing, copies = (record.getMessage() for record in caplog.records if record.levelname == "WARNING")
        assert left_out.startswith("data: left out, no readable pictures (2): ")
        assert left_out.endswith(": train/cat/notes.txt, train/dog/broken.png")
        assert missing == "data: the test set has no picture of cat"
        assert copies.endswith("too easy (1): test/hen/same.jpg = train/hen/5.jpg")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (shutil.rmtree, "data_dir: .*animals does not exist"),
        (lambda path: [shutil.move(path / name, path.parent) for name in CLASSES], "has no sub-directory"),
        (lambda path: [shutil.move(path / name, path.parent) for name in CLASSES[1:]], "two classes, and has cat"),
        (lambda path: (path / "cat").rename(path / "c\nat"), "rename c.at in .*: a class must have a printable name"),
        (lambda path: (path / "owl").mkdir(), "there is no readable training picture of owl"),
        (
            lambda path: arrange(path, "val", "valid", "train"),
            "must hold one validation set, and has train, ",
        ),
        (lambda path: [arrange(path, "test", "train"), (path / "test/owl").mkdir()], "has owl, and .* no such"),
    ],
)
def test_impossible_folder_is_rejected(animals: Path, change: Callable[[Path], object], message: str) -> None:
    change(animals)
    with pytest.raises((UserError, ValueError), match=message):
        prepared(animals)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 7}, "image_size must be at least 8, got 7"),
        ({"test_size": 0.0}, "test_size must be above 0 and below 1, got 0.0"),
        ({"val_size": 26}, "data.val_size must be from 0 to 2., got 26"),
        ({"val_size": 1.5}, "val_size must be a number of images, or a share from 0 to 1, got 1.5"),
    ],
)
def test_argument_out_of_range_is_named(animals: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises((UserError, ValueError), match=message):
        prepared(animals, **options)


def test_many_pictures_are_read_by_several_processes_in_their_order(
    animals: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = prepared(animals)
    monkeypatch.setattr(pictures, "MANY", 1)
    monkeypatch.setattr(pictures, "PART", 4)
    monkeypatch.setattr(pictures, "usable_cores", lambda: 2)
    draw(animals / "cat/11.png", 11)  # read again
    (animals / "cat/12.png").write_text("rubbish")
    several = prepared(animals)
    images = {name: one.train_set.images[index] for index, name in enumerate(one.file_names("train"))}
    same = [index for index, name in enumerate(several.file_names("train")) if name in images]
    assert len(same) >= 20
    assert all(torch.equal(several.train_set.images[i], images[several.file_names("train")[i]]) for i in same)


def test_a_share_is_at_least_one_picture_and_leaves_one_of_each_class(animals: Path) -> None:
    assert len(prepared(animals, val_size=0.001).val_indices) == 1
    with pytest.raises(UserError, match=r"data\.val_size=0\.9 leaves no training image of (cat|dog|hen): "):
        prepared(animals, val_size=0.9)


def test_memory_is_checked_before_reading(animals: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "read", lambda path: pytest.fail(f"read {path}"))
    with pytest.raises(UserError, match=r"^the images need \S+ GB of memory, and \S+ GB are free: take a smaller "):
        prepared(animals, image_size=100_000)


@settings(max_examples=30)
@given(width=st.integers(1, 90), height=st.integers(1, 90), fit=st.sampled_from(["pad", "crop", "stretch"]))
def test_a_white_picture_is_padded_cropped_or_stretched(width: int, height: int, fit: Any) -> None:
    spec = DataSpec("x", ("a", "b"), channels=3, size=32, fit=fit)
    pixels = pictures.resize(Image.new("L", (width, height), "white"), spec)
    assert pixels.shape == (3, 32, 32)
    filled = {"pad": min(width, height) / max(width, height), "crop": 1, "stretch": 1}[fit]
    assert (pixels > 128).mean() == pytest.approx(filled, abs=1.1 / 32)


def test_transparent_pixels_are_white_and_turned_photographs_upright() -> None:
    spec = DataSpec("x", ("a", "b"), size=8, fit="stretch")
    assert (pictures.resize(Image.new("RGBA", (9, 9), (0, 0, 0, 0)), spec) == 255).all()
    half = Image.new("L", (8, 8))
    half.paste(255, (0, 0, 8, 4))
    half.getexif()[0x0112] = 6  # to be turned clockwise
    half.info["exif"] = half.getexif().tobytes()
    np.testing.assert_array_equal(pictures.resize(half, spec)[0], np.asarray(half)[::-1].T)


def test_file_names_that_are_no_text_do_no_harm(animals: Path, caplog: pytest.LogCaptureFixture) -> None:
    (animals / "cat/1.png").rename(os.fsdecode(bytes(animals / "cat") + b"/\xff\n.png"))
    Path(os.fsdecode(bytes(animals / "dog") + b"/\xfe.png")).write_text("rubbish")
    data = prepared(animals)
    assert len(data.train_set) + len(data.test_set) == 30
    caplog.text.encode()


@pytest.fixture
def train(train_here: TrainHere, animals: Path) -> Callable[..., Outcome]:
    """A tiny training on the animals, in colour."""
    own = f"data.data_dir={animals}", "data.image_size=32", "data.channels=3", "data.val_size=0.25"
    return lambda *overrides: train_here(*TINY, "data=folder", "data.batch_size=4", *own, *overrides)


def test_run_works_without_its_pictures(train: Callable[..., Outcome], animals: Path, tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    assert train(f"hydra.run.dir={run.path}", "data.class_weights=balanced", "dashboard=default").code == 0
    rows = list(csv.DictReader((run.path / "pictures.csv").read_text().splitlines()))
    assert len(rows) == 30
    kept = animals.rename(tmp_path / "elsewhere")
    network = fmnist.load(run.path)
    assert network.class_names == ("cat", "dog", "hen")
    row = next(row for row in rows if row["set"] == "test" and row["class"] == "hen")
    outcome = run_command(ROOT / "fmnist/predict.py", f"run={run.path}", f"images={kept / row['file']}", "format=json")
    (found,) = json.loads(outcome.out)
    spec = DataSpec.from_dict((run.read_manifest() or {})["data"])
    pixels = torch.from_numpy(pictures.read_resized(kept / row["file"], spec))
    expected = network(pixels[None]).softmax(dim=1)[0].tolist()
    assert list(found["probabilities"].values()) == pytest.approx(expected, abs=1e-5)
    exported = run_command(ROOT / "fmnist/export.py", f"run={run.path}", "format=torch")
    assert (exported.code, "1,000 images of random pixels" in exported.out + exported.err) == (0, True), exported.err
    assert "animals does not exist" in one_line(run_command(ROOT / "fmnist/evaluate.py", f"run={run.path}"))
    kept.rename(animals)
    assert run_command(ROOT / "fmnist/evaluate.py", f"run={run.path}").code == 0
    (table,) = run.path.glob("evaluation/*/predictions.csv")
    files = [line["file"] for line in csv.DictReader(table.read_text().splitlines())]
    assert files == [row["file"] for row in rows if row["set"] == "test"]
    draw(animals / row["file"], 5)
    changed = run_command(ROOT / "fmnist/evaluate.py", f"run={run.path}")
    assert (changed.code, "the test images have changed since the run" in changed.out + changed.err) == (0, True)
    draw(animals / "owl/1.png", 6)
    outcome = run_command(ROOT / "fmnist/evaluate.py", f"run={run.path}")
    assert "was trained on another data set: its classes or" in outcome.err.splitlines()[-1]


def test_run_does_not_go_on_with_other_pictures(train: Callable[..., Outcome], animals: Path, tmp_path: Path) -> None:
    assert train(f"hydra.run.dir={tmp_path / 'run'}").code == 0
    draw(animals / "cat/1.png", 5)
    outcome = train(f"resume={tmp_path / 'run'}", "trainer.max_epochs=2")
    assert "not those that the run began with: put those back, or start a new run" in one_line(outcome)
