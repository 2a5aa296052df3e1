"""Figures say what they are meant to say."""

import numpy as np

from fmnist import figures


def test_the_confusion_matrix_shows_each_count_and_its_share_of_the_true_class() -> None:
    counts = np.array([[8, 2, 0], [1, 998, 1], [0, 0, 0]])
    (axes,) = figures.confusion_matrix(counts, ["a", "b", "c"], title="a title").axes
    cells: dict[tuple[int, int], list[str]] = {}
    for text in axes.texts:
        x, y = text.get_position()
        cells.setdefault((round(y), round(x)), []).append(text.get_text())
    # Rows are true classes, from top to bottom; cells without a prediction stay empty.
    assert cells == {
        (0, 0): ["8", "80%"],
        (0, 1): ["2", "20%"],
        (1, 0): ["1", "0.1%"],
        (1, 1): ["998", "100%"],
        (1, 2): ["1", "0.1%"],
    }
    assert axes.get_ylabel() == "true class"
    assert axes.get_xlabel() == "predicted class"
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b", "c"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["a", "b", "c"]
    assert axes.yaxis_inverted()
    assert axes.get_title(loc="right") == "a title"


def test_colours_show_the_share_of_the_row_so_that_rare_classes_count_as_much() -> None:
    (axes,) = figures.confusion_matrix(np.array([[1, 1], [500, 500]]), ["a", "b"], title="").axes
    np.testing.assert_array_equal(axes.images[0].get_array(), [[0.5, 0.5], [0.5, 0.5]])


def test_figures_do_not_pile_up() -> None:
    import matplotlib.pyplot as plt

    figures.confusion_matrix(np.eye(3, dtype=np.int64), ["a", "b", "c"], title="")
    assert plt.get_fignums() == []
