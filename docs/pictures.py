"""Draw `docs/losses/*.svg`: one picture for each loss of `multiloss.losses`.

KERAS_BACKEND=torch python docs/pictures.py                 all of them
KERAS_BACKEND=torch python docs/pictures.py dice_loss mcc   these

Values are those of the losses themselves, and gradients those of torch, so that it needs that backend, and Matplotlib.
Run it from the root of the repository.
"""

import argparse
import io
import pathlib
import re
from collections.abc import Callable
from typing import Any

import keras
import matplotlib as mpl
import numpy as np
import torch
from keras import ops
from matplotlib import pyplot as plt
from matplotlib.patches import PathPatch
from matplotlib.path import Path

from multiloss import losses
from multiloss._base import snake_case
from multiloss.overlap.cldice_loss import _skeleton

FOLDER = pathlib.Path(__file__).parent / "losses"
GREY = "#808080"  # is legible on white and on black
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")  # of Okabe and Ito, told apart with any colour vision
DASHES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^")
STYLE = {
    "figure.constrained_layout.use": True,
    "savefig.transparent": True,
    "svg.fonttype": "none",
    "svg.hashsalt": "multiloss",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    **dict.fromkeys(["text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"], GREY),
}

# A loss as a function of a number: from `[N]` to `[N]`.
Curve = Callable[[Any], Any]
PIXELS, MASK = 64, 16
TRUTH = np.arange(PIXELS) < MASK
PIXEL = np.ones(1)


def names() -> dict[str, type]:
    """Return the losses by the names of their pages: those of Keras, without `_loss`."""
    found = {name: getattr(losses, name) for name in losses.__all__}
    bases = (losses.OverlapLoss, losses.PairwiseLoss)
    classes = [x for x in found.values() if isinstance(x, type) and issubclass(x, keras.losses.Loss)]
    return {snake_case(x.__name__.removesuffix("Loss")): x for x in classes if x not in bases}


def truth(count: int, of: np.ndarray = TRUTH) -> np.ndarray:
    """Return `[count, PIXELS]`: the same mask again and again."""
    return np.tile(of.astype("float32"), (count, 1))


def on_mask(p: Any) -> Any:
    """Return predictions with the probabilities p on the mask, and 0 elsewhere."""
    return p[:, None] * ops.convert_to_tensor(truth(len(p)))


def of_true_class(p: Any, of: np.ndarray = TRUTH) -> Any:
    """Return predictions in which every pixel has the probability p of what it is: p on the mask, 1 - p elsewhere."""
    t = ops.convert_to_tensor(truth(len(p), of))
    return t * p[:, None] + (1 - t) * (1 - p[:, None])


def alone(p: Any) -> Any:
    """Return predictions of one pixel."""
    return p[:, None]


def grown(area: Any) -> Any:
    """Return predictions of 1 on a region of that area, in areas of the mask, that grows over it and beyond."""
    return ops.clip(area[:, None] * MASK - ops.arange(PIXELS, dtype="float32"), 0, 1)


def region(loss: Callable[..., Any], predict: Callable[..., Any], of: np.ndarray = TRUTH, **options: Any) -> Curve:
    """Return the curve of a function of samples over the predictions that `predict` makes."""
    return lambda x: loss(truth(len(x), of), predict(x), mode="binary", **options)


def each(loss: Any, predict: Callable[..., Any]) -> Curve:
    """Return the curve of a loss whose value is one number for the batch."""
    return lambda x: ops.stack([loss(truth(1), predict(x[i : i + 1])) for i in range(len(x))])


def derivative(curve: Curve, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the values and the derivatives of a curve."""
    at = torch.tensor(x.astype("float32"), requires_grad=True)
    values = curve(at)
    (slopes,) = torch.autograd.grad(values.sum(), at)
    return values.detach().numpy(), slopes.numpy()


def curves(
    lines: dict[str, Curve], x: str, low: float = 0.0, high: float = 1.0, top: Any = None, bottom: Any = None
) -> Any:
    """Draw values, and next to them gradients, between `bottom` and `top`, of several curves."""
    figure, panels = plt.subplots(1, 2, figsize=(5, 2.7))
    # No point lies at a whole pixel, where a derivative is of one side.
    at = np.linspace(low + 0.003, high - 0.003, 120)
    for (label, curve), colour, dashes in zip(lines.items(), COLOURS, DASHES, strict=False):
        for panel, y in zip(panels, derivative(curve, at), strict=True):
            panel.plot(at, y, dashes, color=colour, linewidth=2, label=label)
    for panel, title in zip(panels, ("value", "gradient"), strict=True):
        panel.set(title=title, xlabel=x, xlim=(low, high))
    panels[1].set_ylim(bottom, top)
    beside = len(lines) if len("".join(lines)) < 30 else 2
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=beside)
    return figure


ON_MASK = "probability on the mask"
TRUE_CLASS = "probability of the true class"
AREA = "predicted area / true area"


def batch_dice() -> Any:
    """The soft and the thresholded coefficient."""
    lines = {
        "thresh=None": each(losses.dice_loss(), on_mask),
        "thresh=0.5": each(losses.dice_loss(thresh=0.5), on_mask),
    }
    return curves(lines, ON_MASK)


def cl_dice() -> Any:
    """A tube, and two predictions that Dice and clDice judge differently."""
    shape = (11, 22)
    row, column = np.mgrid[: shape[0], : shape[1]]
    middle = np.round(5 + 2 * np.sin(column / 21 * 2 * np.pi))
    tube = (abs(row - middle) <= 2).astype("float32")
    thin = (abs(row - middle) <= 1).astype("float32")
    gap = tube * (abs(column - 10.5) > 2)
    figure, panels = plt.subplots(3, 1, figsize=(5, 5.4))
    figure.get_layout_engine().set(hspace=0.08)
    shown = {"truth": tube, "prediction, too thin": thin, "prediction, with a gap": gap}
    for panel, (title, image) in zip(panels, shown.items(), strict=True):
        line = ops.convert_to_numpy(_skeleton(ops.convert_to_tensor(image[None, ..., None]), 3, None))[0, ..., 0]
        # One path, so that there are no seams between its pixels.
        edges = np.diff(np.pad(image, [(0, 0), (1, 1)]), axis=1)
        runs = zip(np.argwhere(edges > 0), np.argwhere(edges < 0)[:, 1], strict=True)
        corners = [((x - 0.5, y - 0.5), (end - 0.5, y + 0.5)) for (y, x), end in runs]
        boxes = [Path([(a, b), (c, b), (c, d), (a, d), (a, b)], closed=True) for (a, b), (c, d) in corners]
        outline = Path.make_compound_path(*boxes)
        panel.add_patch(PathPatch(outline, facecolor=COLOURS[0], alpha=0.55, linewidth=0))
        panel.plot(*np.nonzero(line > 0.5)[::-1], "o", color=COLOURS[1], markersize=5, label="centreline")
        if image is not tube:
            values = [
                float(ops.convert_to_numpy(loss(tube[None], image[None], mode="binary"))[0])
                for loss in (losses.dice, losses.cldice)
            ]
            title += f": DiceLoss {values[0]:.2f}, ClDiceLoss {abs(values[1]):.2f}"
        panel.set(title=title, xlim=(-1, shape[1]), ylim=(shape[0], -1), aspect="equal", xticks=[], yticks=[])
        panel.spines[:].set_visible(True)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center")
    return figure


def combined() -> Any:
    """A sum and its parts."""
    parts = losses.TverskyLoss(0.3, 0.7, mode="binary"), losses.CrossEntropyLoss(mode="binary")
    lines = {
        "CombinedLoss": each(losses.CombinedLoss(parts, [1, 0.5]), of_true_class),
        "TverskyLoss(0.3, 0.7)": each(parts[0], of_true_class),
        "0.5 CrossEntropyLoss()": each(losses.CombinedLoss(parts[1:], [0.5]), of_true_class),
    }
    return curves(lines, TRUE_CLASS, top=0.2, bottom=-6)


def cross_entropy() -> Any:
    """What the options change."""
    lines = {
        "default": region(losses.cross_entropy, alone, PIXEL),
        "pos_weight=2": region(losses.cross_entropy, alone, PIXEL, pos_weight=2),
        "label_smoothing=0.1": region(losses.cross_entropy, alone, PIXEL, label_smoothing=0.1),
    }
    return curves(lines, "probability of a positive pixel", bottom=-10, top=2)


def sum_and_parts(loss: Callable[..., Any], pixels: str) -> Any:
    """A sum with the Dice loss, and its parts."""
    lines = {
        "sum": region(loss, of_true_class),
        "Dice loss": region(loss, of_true_class, pixel_weight=0),
        pixels: region(loss, of_true_class, dice_weight=0),
    }
    return curves(lines, TRUE_CLASS, bottom=-6, top=0.2)


def dice_cross_entropy() -> Any:
    """The sum and its parts."""
    return sum_and_parts(losses.dice_cross_entropy, "cross-entropy")


def dice_focal() -> Any:
    """The sum and its parts."""
    return sum_and_parts(losses.dice_focal, "focal loss")


def dice() -> Any:
    """What the options change."""
    lines = {
        "default": region(losses.dice, on_mask),
        "squared=True": region(losses.dice, on_mask, squared=True),
        f"smooth={MASK}": region(losses.dice, on_mask, smooth=MASK),
    }
    return curves(lines, ON_MASK)


def focal() -> Any:
    """The exponent."""
    lines = {f"gamma={gamma}": region(losses.focal, alone, PIXEL, gamma=gamma) for gamma in (0, 1, 2, 5)}
    return curves(lines, TRUE_CLASS, bottom=-10, top=0.5)


def focal_tversky() -> Any:
    """The exponent."""
    lines = {f"gamma={gamma}": region(losses.focal_tversky, grown, gamma=gamma) for gamma in (0.75, 1, 2)}
    return curves(lines, AREA, high=2.0, bottom=-2, top=2)


def generalized_dice() -> Any:
    """Three weightings, for a class of four pixels beside one of sixty."""
    labels = (np.arange(PIXELS) < 4).astype("int32")

    def curve(weighting: str) -> Curve:
        def of(p: Any) -> Any:
            small = p[:, None] * ops.convert_to_tensor(labels.astype("float32"))
            return losses.generalized_dice(
                np.tile(labels, (len(p), 1)), ops.stack([1 - small, small], axis=-1), weighting=weighting
            )

        return of

    lines = {f'weighting="{weighting}"': curve(weighting) for weighting in ("square", "simple", "uniform")}
    return curves(lines, "probability on the small class")


def jaccard() -> Any:
    """Jaccard beside Dice."""
    return curves({"JaccardLoss": region(losses.jaccard, on_mask), "DiceLoss": region(losses.dice, on_mask)}, ON_MASK)


def log_cosh_dice() -> Any:
    """Beside the Dice loss itself."""
    lines = {"LogCoshDiceLoss": region(losses.log_cosh_dice, on_mask), "DiceLoss": region(losses.dice, on_mask)}
    return curves(lines, ON_MASK)


def lovasz() -> Any:
    """Beside the Jaccard loss of sums of probabilities."""
    lines = {"LovaszLoss": region(losses.lovasz, of_true_class), "JaccardLoss": region(losses.jaccard, of_true_class)}
    return curves(lines, TRUE_CLASS)


def mcc() -> Any:
    """A mask and its complement, which have one loss here, and two with Dice."""

    def curve(loss: Callable[..., Any], of: np.ndarray) -> Curve:
        return region(loss, lambda p: of_true_class(p, of), of)

    lines = {
        "MCCLoss, mask of 1/4": curve(losses.mcc, TRUTH),
        "MCCLoss, mask of 3/4": curve(losses.mcc, ~TRUTH),
        "DiceLoss, mask of 1/4": curve(losses.dice, TRUTH),
        "DiceLoss, mask of 3/4": curve(losses.dice, ~TRUTH),
    }
    return curves(lines, TRUE_CLASS)


def tversky() -> Any:
    """What false positives and false negatives weigh."""
    pairs = ((0.5, 0.5), (0.3, 0.7), (0.7, 0.3))
    lines = {f"alpha={a}, beta={b}": region(losses.tversky, grown, alpha=a, beta=b) for a, b in pairs}
    return curves(lines, AREA, high=2.0)


def unified_focal() -> Any:
    """What gamma and symmetry change."""
    lines = {
        "default": region(losses.unified_focal, of_true_class),
        "gamma=0": region(losses.unified_focal, of_true_class, gamma=0),
        "symmetric=True": region(losses.unified_focal, of_true_class, symmetric=True),
    }
    return curves(lines, TRUE_CLASS, bottom=-4, top=0.2)


def pairs(lines: dict[str, Curve], trained: Any, high: float, rate: float, about: str) -> Any:
    """Draw value and pull over the distance of a pair, and points before and after 50 steps of gradient descent."""
    figure, panels = plt.subplots(2, 2, figsize=(5, 4.9))
    at = np.linspace(0.004, high - 0.004, 80)
    for (label, curve), colour, dashes in zip(lines.items(), COLOURS, DASHES, strict=False):
        values, slopes = derivative(curve, at)
        for panel, y in zip(panels[:, 0], (values, -slopes), strict=True):
            panel.plot(at, y, dashes, color=colour, linewidth=2, label=label)
    panels[0, 0].set(title="value of a pair", xlim=(0, high))
    panels[1, 0].set(title="pull (minus the derivative)", xlim=(0, high), xlabel=f"distance{about}")
    panels[1, 0].axhline(0, color=GREY, linewidth=0.8)

    users = np.arange(18) % 3
    start = np.random.default_rng(4).normal(scale=0.7, size=(18, 2)).astype("float32")
    points = torch.tensor(start, requires_grad=True)
    optimizer = torch.optim.SGD([points], rate)
    for panel, title in zip(panels[:, 1], ("before", "after 50 steps"), strict=True):
        shown = points.detach().numpy().copy()
        for user, colour, marker in zip(range(3), COLOURS, MARKERS, strict=False):
            panel.plot(*shown[users == user].T, marker, color=colour, alpha=0.8, label=f"user {user}")
        panel.set(title=title, aspect="equal", xticks=[], yticks=[])
        panel.spines[:].set_visible(True)
        if title == "before":
            for _ in range(50):
                optimizer.zero_grad()
                trained(users, points).backward()
                optimizer.step()
    left, right = panels[0, 0].get_legend_handles_labels(), panels[0, 1].get_legend_handles_labels()
    figure.legend(*left, loc="outside lower left")
    figure.legend(*right, loc="outside lower right")
    reach = max(abs(np.array([panel.get_xlim(), panel.get_ylim()])).max() for panel in panels[:, 1])
    for panel in panels[:, 1]:
        panel.set(xlim=(-1.1 * reach, 1.1 * reach), ylim=(-1.1 * reach, 1.1 * reach))
    return figure


def two_rows(loss: Any, labels: list[int]) -> Curve:
    """Return the loss of two rows, which is that of their pair, over their distance."""
    zero = torch.zeros(())
    return lambda d: ops.stack([loss(labels, ops.stack([zero, zero, x, zero]).reshape(2, 2)) for x in d])


def contrastive() -> Any:
    """Two margins."""
    loss = losses.ContrastiveLoss(pos_margin=0.5, neg_margin=2)
    lines = {"same label": two_rows(loss, [0, 0]), "different labels": two_rows(loss, [0, 1])}
    return pairs(lines, loss, 3.0, 5.0, "")


def pairwise_user() -> Any:
    """Signed distances, up to a margin."""
    loss = losses.PairwiseUserLoss(margin=1, pairs="mean")
    lines = {"same user": two_rows(loss, [0, 0]), "different users": two_rows(loss, [0, 1])}
    return pairs(lines, loss, 3.0, 4.0, "")


def sup_con() -> Any:
    """A row with a positive and a negative: one of them moves on the circle, the other is at a right angle."""

    def curve(labels: list[int], temperature: float) -> Curve:
        def row(d: Any) -> Any:
            cosine = 1 - d**2 / 2
            moved = ops.stack([cosine, ops.sqrt(1 - cosine**2)])
            one, other = torch.tensor([1.0, 0.0]), torch.tensor([0.0, -1.0])
            return losses.supcon(labels, ops.stack([one, moved, other]), temperature=temperature)[0]

        return lambda d: ops.stack([row(x) for x in d])

    lines = {
        "positive, temperature=0.5": curve([0, 0, 1], 0.5),
        "negative, temperature=0.5": curve([0, 1, 0], 0.5),
        "positive, temperature=1": curve([0, 0, 1], 1.0),
        "negative, temperature=1": curve([0, 1, 0], 1.0),
    }
    return pairs(lines, losses.SupConLoss(0.5), 2.0, 2.0, " of unit vectors")


def save(figure: Any, name: str) -> None:
    """Write a picture: coordinates to a hundredth of a point, in whatever font without serifs the reader has."""
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    short = re.sub(r"(\.\d\d)\d+", r"\1", text.getvalue()).replace("'DejaVu Sans'", "sans-serif")
    (FOLDER / f"{name}.svg").write_text("\n".join(line.rstrip() for line in short.splitlines()) + "\n")
    plt.close(figure)


def main() -> None:
    """Draw the pictures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", help="of losses, as those of their pages; by default all")
    chosen = [name.removesuffix("_loss") for name in parser.parse_args().names]
    known = list(names())
    if unknown := sorted({*chosen} - {*known}):
        parser.error(f"no loss {', '.join(unknown)}; there are: {', '.join(known)}")
    if keras.backend.backend() != "torch":
        parser.error("it needs KERAS_BACKEND=torch")
    mpl.use("svg")
    with mpl.rc_context(STYLE):
        for name in chosen or known:
            save(globals()[name](), name)


if __name__ == "__main__":
    main()
