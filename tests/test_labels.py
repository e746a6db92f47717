"""Words beside the points of a map can be read, however near the points lie."""

import matplotlib
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from components.report import canvas
from components.report.ladder import embedding_plots

MONTHS = ("january", "march", "april", "june", "september", "december")


@pytest.mark.parametrize("spread", [0.0, 0.002, 0.3])
def test_no_word_of_a_map_is_written_over_another(spread):
    """Months lie so near each other that their names were one blot."""
    words = [{"word": "far", "group": "a", "x": 1.0, "y": 1.0}]
    words += [
        {"word": word, "group": "months", "x": spread * number, "y": spread * (number % 2)}
        for number, word in enumerate(MONTHS)
    ]
    with matplotlib.rc_context(canvas.STYLE):
        figure = embedding_plots.plane("cbow", {"words": words, "pairs": []})
        drawn = FigureCanvasAgg(figure)
        drawn.draw()
    texts = figure.axes[0].texts
    assert [text.get_text() for text in texts] == ["far", *MONTHS]
    boxes = [matplotlib.text.Text.get_window_extent(text, drawn.get_renderer()) for text in texts]
    whole = figure.bbox
    for number, box in enumerate(boxes):
        assert whole.x0 <= box.x0 and box.x1 <= whole.x1, "cut off at the picture's edge"
        for other in boxes[:number]:
            width = min(box.x1, other.x1) - max(box.x0, other.x0)
            height = min(box.y1, other.y1) - max(box.y0, other.y0)
            # a box is as high as the tallest letters; a sliver of two of them covers no ink
            assert width <= 1 or height <= 0.35 * box.height
