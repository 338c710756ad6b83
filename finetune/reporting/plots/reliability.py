"""The reliability diagram: accuracy by confidence (Guo et al. 2017, figure 1)."""

from dataclasses import dataclass

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullLocator

from finetune.record.schema import RunRecord
from finetune.reporting.palette import light
from finetune.reporting.plots.canvas import WIDTH, axes_at, legend, legend_shape, new_figure


@dataclass(frozen=True)
class Reliability:
    """Content of the picture: (mean confidence, accuracy, predictions) of each bin."""

    bins: tuple[tuple[float, float, int], ...]
    error: float | None


def reliability(record: RunRecord) -> Reliability | None:
    """Returns the content of the picture; None without a test split."""
    bins = tuple(
        (point["confidence"], point["accuracy"], int(point["count"]))
        for point in record.test_details.reliability
    )
    return Reliability(bins, record.test.get("expected_calibration_error")) if bins else None


def words(shown: Reliability) -> str:
    """Returns a description of the picture in words."""
    parts = [f"at {c:.0%} confidence, {a:.0%} of {n} are correct" for c, a, n in shown.bins]
    return f"Reliability: {'; '.join(parts)}."


def draw(shown: Reliability) -> Figure:
    """Draws accuracy over confidence, and the number of predictions below."""
    handles = [Line2D([], [], linestyle="--", color=light("muted"), label="perfectly calibrated")]
    if shown.error is not None:
        error = f"calibration error {100 * shown.error:.2g}%"
        handles.append(Line2D([], [], color=light("second"), label=error))
    _, above = legend_shape([str(handle.get_label()) for handle in handles], WIDTH)
    figure = new_figure(WIDTH, 3.12 + above)
    axes = axes_at(figure, 0.74, 1.25, 0.22, 0.04 + above, xlim=(0, 1), ylim=(0, 1.04))
    counts = axes_at(figure, 0.74, 0.45, 0.22, 2.09 + above, xlim=(0, 1))
    legend(figure, handles, "upper left")
    confidence, accuracy, number = zip(*shown.bins, strict=True)
    for part in (axes, counts):
        part.grid(linewidth=0.7)
        part.set_axisbelow(True)
        part.xaxis.set_major_formatter(FuncFormatter(_percent))
        part.yaxis.set_label_coords(-0.6 / (WIDTH - 0.96), 0.5)
    axes.yaxis.set_major_formatter(FuncFormatter(_percent))
    axes.plot((0, 1), (0, 1), color=light("muted"), linestyle="--", linewidth=1.1)
    axes.vlines(confidence, confidence, accuracy, color=light("second"), linewidth=1.2)
    axes.plot(confidence, accuracy, "o-", color=light("accent"), markersize=5, clip_on=False)
    axes.tick_params(labelbottom=False)
    axes.set_ylabel("accuracy")
    counts.bar(confidence, number, width=0.045, color=light("accent"))
    counts.set_yscale("log" if max(number) > 30 * min(number) else "linear")
    counts.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    counts.set(ylabel="number", xlabel="confidence")
    counts.yaxis.set_minor_locator(NullLocator())  # minor ticks are slow to draw
    return figure


def _percent(value: float, _: object) -> str:
    return f"{100 * value:.3g}%"
