"""The pictures of a comparison: a line holds what one thing alone changes."""

from itertools import product

import pytest

from components.report import comparison_plots


def result(pipelines, amounts):
    """What `comparison.json` holds of two methods; a score tells its base and its amount."""
    rows = [
        {
            "pipeline": pipeline,
            "examples": count,
            "name": method,
            "base_parameters": {"small": 1000, "large": 9000}[pipeline],
            "score": 0.1 * (1 + pipelines.index(pipeline)) + 0.01 * amounts.index(count),
            "interval": [0.0, 1.0],
            "seed_scores": [0.5, 0.6],
            "tied_with_best": True,
            "trainable_parameters": 5,
            "train_seconds": 1.0,
            "on_front_of_trainable_parameters": True,
            "on_front_of_train_seconds": True,
        }
        for pipeline, count, method in product(pipelines, amounts, ("prompt", "lora"))
    ]
    return {"rows": rows, "metric": "accuracy", "train_rows": 4000}


def lines(figure):
    """The points of each method's line."""
    return [list(zip(*line.get_data(), strict=True)) for line in figure.axes[0].get_lines()]


@pytest.mark.parametrize(
    ("pipelines", "amounts", "names"),
    [
        (["small"], [None], ["scores", "fronts"]),
        (["small", "large"], [None], ["sizes"]),
        (["small"], [10, None], ["examples"]),
        (
            ["small", "large"],
            [10, None],
            ["sizes_10", "sizes_all", "examples_small", "examples_large"],
        ),
    ],
)
def test_every_axis_has_its_picture(pipelines, amounts, names):
    assert list(comparison_plots.draw(result(pipelines, amounts))) == names


def test_sizes_and_amounts_at_once_share_no_line():
    """All amounts of a method stood in one line over sizes, up and down at every size."""
    figures = comparison_plots.draw(result(["small", "large"], [10, None]))
    assert lines(figures["sizes_all"]) == [[(1000, 0.11), (9000, pytest.approx(0.21))]] * 2
    assert figures["sizes_10"].axes[0].get_title().endswith(": 10 training rows")
    assert lines(figures["examples_large"]) == [[(10, 0.2), (4000, pytest.approx(0.21))]] * 2
    assert figures["examples_large"].axes[0].get_title().endswith(": base large")
