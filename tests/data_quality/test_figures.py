"""The pictures of the audit show the right images with the right captions."""

import numpy as np
import pandas as pd
import pytest
import torch

from fmnist.data_quality import figures

IMAGES = torch.arange(70, dtype=torch.uint8).reshape(70, 1, 1, 1).expand(70, 1, 28, 28)


def some_pairs(distances: list[float]) -> pd.DataFrame:
    """Images 0 and 1, 1 and 2, and so on, by turns moved and of two classes, every third pair mirrored."""
    n = np.arange(len(distances))
    pairs = pd.DataFrame({"first": n, "second": n + 1, "index": n, "other_index": n + 1, "distance": distances})
    pairs = pairs.assign(
        set="train", other_set="train", place="within train", mirrored=n % 3 // 2, down=0, right=-n % 2
    )
    return pairs.assign(label="Bag", other_label=np.where(n % 2, "Coat", "Bag"))


ISSUES = pd.DataFrame({"votes": [["Bag", "Coat", "Coat", "Shirt"], ["Bag"] * 4]}, index=[3, 65]).assign(
    set=["train", "test"], index=[3, 5], label=["Bag", "Coat"], probability=[0.1234, 0.2], trained_on_by=[1, 0]
)


def test_pair_gallery_shows_both_images_and_what_aligns_them() -> None:
    figure = figures.pair_gallery(IMAGES, some_pairs([0.01, 0.02, 0.0306]), "pairs")
    shown = figure.axes[0].images[1].get_array()
    np.testing.assert_array_equal(shown, np.repeat([[1] * 28 + [255] * 2 + [2] * 28], 28, axis=0))
    assert [text.get_text() for text in figure.axes[0].texts] == [
        "train 0\ntrain 1\nBag\n0.010",
        "train 1\ntrain 2\nBag / Coat\n0.020, moved",
        "train 2\ntrain 3\nBag\n0.031, mirrored",
    ]
    assert figure.get_suptitle() == "pairs"


def test_label_gallery_shows_the_most_frequent_other_vote() -> None:
    figure = figures.label_gallery(IMAGES, ISSUES, "labels")
    assert [image.get_array().max() for image in figure.axes[0].images] == [3, 65]  # type: ignore[union-attr]
    assert [text.get_text() for text in figure.axes[0].texts] == [
        "train 3\nis Bag 12.3%\nCoat: 2 of 4",
        "test 5\nis Coat 20.0%\nBag: 4 of 4",
    ]


def test_curves_count_the_pairs_up_to_each_distance() -> None:
    plain, mirrored, threshold = figures.distances(some_pairs([0.02, 0.05, 0.06, 0.08])).axes[0].lines
    assert (plain.get_drawstyle(), plain.get_label()) == ("steps-post", "not mirrored: 3")
    np.testing.assert_array_equal(plain.get_xydata(), [[0, 0], [0.02, 1], [0.05, 2], [0.08, 3], [0.1, 3]])
    np.testing.assert_array_equal(mirrored.get_xydata(), [[0, 0], [0.06, 1], [0.1, 1]])
    assert threshold.get_xdata() == [0.07, 0.07]


def test_galleries_show_the_first_of_many_and_those_around_the_threshold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "SHOWN", 4)
    drawn = figures.draw(IMAGES, some_pairs([0.02, 0.03, 0.04, 0.05, 0.07, 0.08, 0.09, 0.1]), ISSUES)
    assert {name: figure and figure.get_suptitle() for name, figure in drawn.items()} == {
        "distances.png": "",
        "duplicates-train-and-test.png": None,
        "duplicates-within-train.png": "near duplicates, within train: the first 4 of 5",
        "duplicates-within-test.png": None,
        "duplicates-threshold.png": "pairs around the threshold of 0.07: all 4",
        "labels-unseen.png": "rejected labels of images that no network was trained on: all 1",
        "labels-seen.png": "rejected labels of images that networks were trained on: all 1",
    }
    around, unseen = drawn["duplicates-threshold.png"], drawn["labels-unseen.png"]
    assert around is not None
    assert unseen is not None
    assert [text.get_text().split("\n")[3][:5] for text in around.axes[0].texts] == ["0.050", "0.070", "0.080", "0.090"]
    assert unseen.axes[0].texts[0].get_text().startswith("test 5\n")
