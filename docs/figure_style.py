"""What all figures of the pages have in common."""

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, PINK, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#6b7280"

#: Large letters: on a narrow screen a figure is shrunk to half its size.
STYLE = {
    "font.size": 12,
    "axes.titlesize": 12,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "legend.frameon": False,
    "svg.hashsalt": "sknoprop",
}


def large_letters(gallery_conf, script):
    """Give the figures of a gallery script letters of the same size; called before each."""
    mpl.rcParams.update({key: STYLE[key] for key in ("font.size", "axes.titlesize")})


def new_figure(width, height):
    """An empty figure, which asks for no display."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure
