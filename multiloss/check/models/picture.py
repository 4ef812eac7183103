"""The picture of a comparison: the loss by step, and the error by layer. Needs matplotlib."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from multiloss.check.report import Cell

_SHOWN = ("forward", "gradient")
_MARKS = ("o", "s", "^", "D", "v")  # besides colours, for those who cannot tell them apart
_COLORS = ("#0072b2", "#d55e00", "#009e73", "#b0468c", "#77600a")


def write(curves: Mapping[str, Sequence[float]], cells: Sequence[Cell], path: str | Path) -> None:
    """Write the picture of `Comparison.curves` and `cells` in the format of the path's ending.

    Raises:
        ImportError: without matplotlib.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError('the picture needs matplotlib: pip install "multiloss[picture]"') from error

    figure = Figure(figsize=(13, 4.5), layout="constrained")
    left, *others = figure.subplots(1, 1 + len(_SHOWN))
    for k, (backend, losses) in enumerate(curves.items()):
        left.plot(range(1, len(losses) + 1), losses, _MARKS[k % 5] + "-", color=_COLORS[k % 5], ms=4, label=backend)
    left.set(xlabel="step", ylabel="loss", title="Loss of each step")
    left.legend()
    for axes, stage in zip(others, _SHOWN, strict=True):
        rows = [cell for cell in cells if cell.check == stage and cell.errors]
        names = list(dict.fromkeys(name for cell in rows for name in cell.errors))
        for k, cell in enumerate(rows):
            # 1e-4 stands for no error at all, which has no logarithm.
            errors = [max(cell.errors.get(name, 0.0), 1e-4) for name in names]
            axes.semilogy(names, errors, _MARKS[k % 5], color=_COLORS[k % 5], label=cell.backend, alpha=0.8)
        axes.axhline(1, color="0.4", ls="--", lw=1)
        axes.set(ylabel="error / what rounding explains", title=f"{stage.capitalize()}, by layer or weight")
        axes.tick_params(axis="x", rotation=70, labelsize=7)
    figure.savefig(path, dpi=110)
