"""The points that labels are denoised to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sknoprop.inspection._checks import (
    as_numbers,
    check_length,
    check_positive_int,
    is_positive_int,
)
from sknoprop.inspection._plotting import (
    escaped,
    fit_text,
    fitted,
    import_pandas,
    laid_out,
    new_axes,
    round_step,
    whole_ticks,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure
    from matplotlib.image import AxesImage
    from matplotlib.text import Text
    from pandas import DataFrame

__all__ = ["EmbeddingDisplay"]


class EmbeddingDisplay:
    """The class embeddings, as a heat map or as images.

    It is recommended to create one with `from_estimator`.

    Parameters
    ----------
    embedding : array-like of shape (n_classes, embedding_dim)
        One row a class.
    classes : array-like of shape (n_classes,), default=None
        Class labels; by default 0, 1, ...
    image_shape : tuple of int, default=None
        (height, width) or (channels, height, width) of an embedding that is an image.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    im_ : matplotlib AxesImage
    text_ : list of matplotlib Text
        Names of the classes, over images.

    Raises
    ------
    ValueError
        If shapes do not fit each other, or `image_shape` is not that of an image.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sknoprop import NoPropClassifier
    >>> from sknoprop.inspection import EmbeddingDisplay
    >>> X, y = load_iris(return_X_y=True)
    >>> clf = NoPropClassifier(embedding="learned", embedding_dim=4, max_iter=3).fit(X, y)
    >>> EmbeddingDisplay.from_estimator(clf).embedding.shape
    (3, 4)
    """

    ax_: Axes
    figure_: Figure | SubFigure
    im_: AxesImage
    text_: list[Text]

    def __init__(
        self, embedding: Any, *, classes: Any = None, image_shape: tuple[int, ...] | None = None
    ) -> None:
        self.embedding = as_numbers(embedding, "embedding")
        if self.embedding.ndim != 2 or not self.embedding.size:
            raise ValueError(
                "embedding must be of shape (n_classes, embedding_dim), with at least one of each. "
                f"Got an array of shape {self.embedding.shape}."
            )
        n_classes, n_numbers = self.embedding.shape
        self.classes = np.arange(n_classes) if classes is None else np.asarray(classes)
        check_length(self.classes, "classes", n_classes)
        self.image_shape = None if image_shape is None else _image_shape(image_shape, n_numbers)

    @classmethod
    def from_estimator(
        cls, estimator: Any, *, image_shape: tuple[int, ...] | None = None
    ) -> EmbeddingDisplay:
        """Take the embeddings of a fitted classifier.

        Parameters
        ----------
        estimator : NoPropClassifier
            Fitted, or a fitted pipeline that ends in one.
        image_shape : tuple of int, default=None
            (height, width) or (channels, height, width), where embeddings are images:
            prototypes, or images of one's own.

        Returns
        -------
        EmbeddingDisplay
            Prototypes are in the units of the encoder: standardised for a table of pixels.

        Raises
        ------
        ValueError
            If `image_shape` is not that of an embedding.
        TypeError
            If the estimator is no such classifier.
        sklearn.exceptions.NotFittedError
            Before `fit`.
        """
        clf = fitted(estimator, "embedding_", cls.__name__)
        return cls(clf.embedding_, classes=clf.classes_, image_shape=image_shape)

    def plot(
        self,
        ax: Any = None,
        *,
        kind: str = "auto",
        n_cols: int = 5,
        cmap: str | None = None,
        colorbar: bool = True,
    ) -> EmbeddingDisplay:
        """Draw all embeddings.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            None for a new figure.
        kind : {"auto", "heatmap", "images"}, default="auto"
            "auto" is images if their shape is known.
        n_cols : int, default=5
            Images side by side.
        cmap : str, default=None
            By default diverging, with white at zero, for a heat map, and grey for images.
        colorbar : bool, default=True
            Whether a heat map gets one.

        Returns
        -------
        EmbeddingDisplay
            This one. Names that have no room are cut, and beside many rows every k-th is written.

        Raises
        ------
        ValueError
            If `kind` is none of these, or is images whose shape is not known, or `n_cols` is no
            positive int.
        """
        if kind not in ("auto", "heatmap", "images"):
            raise ValueError(f"kind must be 'auto', 'heatmap' or 'images'. Got {kind!r}.")
        if kind == "images" and self.image_shape is None:
            raise ValueError("Images need an image_shape.")
        check_positive_int(n_cols, "n_cols")
        images = self.image_shape if kind != "heatmap" else None
        n_rows = -(-len(self.classes) // n_cols)
        (self.ax_,) = new_axes(
            ax, size=(5.0, 0.6 + 1.3 * n_rows * min(1, 5 / n_cols)) if images else (5.0, 3.6)
        )
        self.figure_ = self.ax_.figure
        self.text_ = []
        if images is None:
            self._heat_map(cmap or "RdBu_r", colorbar)
        else:
            self._images(images, n_cols, cmap or "gray_r")
        return self

    def _heat_map(self, cmap: str, colorbar: bool) -> None:
        # Any limit will do where all is zero, but zero.
        limit = np.abs(self.embedding).max() or 1.0
        self.im_ = self.ax_.imshow(
            self.embedding,
            cmap=cmap,
            vmin=-limit,
            vmax=limit,
            aspect="auto",
            interpolation="nearest",  # or many rows would be smeared, and with them dimensions
        )
        whole_ticks(self.ax_)
        self.ax_.set(xlabel="dimension of the embedding", ylabel="class", yticks=[])
        if colorbar:
            self.figure_.colorbar(self.im_, ax=self.ax_)
        laid_out(self.ax_)
        self._name_rows()

    def _name_rows(self) -> None:
        """Names of classes beside their rows, in smaller letters or of every k-th if need be."""
        box = self.ax_.get_window_extent()
        names = [str(c) for c in self.classes]
        step = 1
        for size in ("medium", "small", "x-small"):
            self.ax_.set_yticks(range(len(names)), map(escaped, names), fontsize=size)
            labels = self.ax_.get_yticklabels()
            needed = 1.1 * max(label.get_window_extent().height for label in labels)
            if needed <= box.height / len(names):
                break
        else:
            step = round_step(needed * len(names) / box.height)
        shown = range(0, len(names), step)
        for k in shown:
            fit_text(labels[k], names[k], 0.4 * box.width)
        self.ax_.set_yticks(shown, [labels[k].get_text() for k in shown], fontsize=size)

    def _images(self, image_shape: tuple[int, ...], n_cols: int, cmap: str) -> None:
        """All images tiled on one axes, the classes' names above them."""
        n_channels = image_shape[0] if len(image_shape) == 3 else 1
        height, width = image_shape[-2:]
        n_cols = min(n_cols, len(self.classes))
        n_rows = -(-len(self.classes) // n_cols)
        # Room above each image for the name, and a gap beside it; empty, so transparent.
        above, beside = 0.3 * height, max(1, width // 8)
        above = int(np.ceil(above))
        canvas = np.full((n_rows * (height + above), n_cols * (width + beside), n_channels), np.nan)
        for k, row in enumerate(self.embedding):
            top = (k // n_cols) * (height + above) + above
            left = (k % n_cols) * (width + beside)
            image = row.reshape(n_channels, height, width).transpose(1, 2, 0)
            canvas[top : top + height, left : left + width] = image
            centre = left + (width - 1) / 2
            self.text_.append(self.ax_.text(centre, top - 1, "", ha="center", va="bottom"))
        if n_channels == 1:
            self.im_ = self.ax_.imshow(canvas[..., 0], cmap=cmap)
        else:
            low, high = self.embedding.min(), self.embedding.max()
            scaled = (canvas - low) / ((high - low) or 1.0)
            self.im_ = self.ax_.imshow(np.nan_to_num(scaled, nan=1.0))
        self.ax_.set_axis_off()
        laid_out(self.ax_)
        self._name_images(width + beside, above)

    def _name_images(self, width: float, height: float) -> None:
        """Names of the classes above their images, in letters that have room there."""
        names = [str(c) for c in self.classes]
        start, end = self.ax_.transData.transform([(0, 0), (width, -height)])
        room_across, room_up = 0.9 * (end - start)
        for text, name in zip(self.text_, names, strict=True):
            text.set_text(escaped(name))
        boxes = [text.get_window_extent() for text in self.text_]
        too_large = max(max(box.width / room_across, box.height / room_up) for box in boxes)
        # Smaller letters first; with the smallest that can be read names are cut.
        size = self.text_[0].get_fontsize() / min(max(1.0, too_large), 1.4)
        for text, name in zip(self.text_, names, strict=True):
            text.set_fontsize(size)
            fit_text(text, name, room_across)

    def frame(self) -> DataFrame:
        """Numbers as a data frame.

        Returns
        -------
        pandas DataFrame
            A row a class, indexed by its label, and a column a dimension.
        """
        pd = import_pandas()
        return pd.DataFrame(self.embedding, index=pd.Index(self.classes, name="class"))


def _image_shape(image_shape: Any, n_numbers: int) -> tuple[int, ...]:
    """The shape of images as a tuple, of as many numbers as an embedding has."""
    lengths = list(image_shape) if np.iterable(image_shape) else []
    if len(lengths) not in (2, 3) or not all(is_positive_int(length) for length in lengths):
        raise ValueError(
            "image_shape must be (height, width) or (channels, height, width). Got "
            f"{image_shape!r}."
        )
    # As Python's numbers: an array's print otherwise.
    shape = tuple(int(length) for length in lengths)
    if np.prod(shape) != n_numbers:
        raise ValueError(f"image_shape={shape} is not of embeddings with {n_numbers} numbers.")
    if len(shape) == 3 and shape[0] not in (1, 3):
        raise ValueError(f"An image has 1 or 3 channels. Got image_shape={shape}.")
    return shape
