"""Whether the model is right as often as it is sure (Guo et al. 2017, figure 1)."""

from dataclasses import dataclass

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullLocator

from finetune.record.schema import RunRecord
from finetune.reporting.palette import light
from finetune.reporting.plots.canvas import WIDTH, axes_at, legend, legend_shape, new_figure


@dataclass(frozen=True)
class Reliability:
    """What the picture shows: (mean confidence, accuracy, predictions) of each bin."""

    bins: tuple[tuple[float, float, int], ...]
    error: float | None


def reliability(record: RunRecord) -> Reliability | None:
    """Returns what of a record the picture shows; None without a test split."""
    bins = tuple(
        (each["confidence"], each["accuracy"], int(each["count"]))
        for each in record.test_details.reliability
    )
    return Reliability(bins, record.test.get("expected_calibration_error")) if bins else None


def words(shown: Reliability) -> str:
    """Says what the picture shows."""
    parts = [f"at {c:.0%} confidence {a:.0%} right of {n}" for c, a, n in shown.bins]
    return f"Reliability: {'; '.join(parts)}."


def draw(shown: Reliability) -> Figure:
    """Draws accuracy over confidence, and below how many predictions there are."""
    handles = [Line2D([], [], linestyle="--", color=light("muted"), label="perfectly calibrated")]
    if shown.error is not None:
        error = f"calibration error {100 * shown.error:.2g}%"
        handles.append(Line2D([], [], color=light("second"), label=error))
    _, above = legend_shape([str(each.get_label()) for each in handles], WIDTH)
    figure = new_figure(WIDTH, 3.12 + above)
    axes = axes_at(figure, 0.74, 1.25, 0.22, 0.04 + above, xlim=(0, 1), ylim=(0, 1.04))
    counts = axes_at(figure, 0.74, 0.45, 0.22, 2.09 + above, xlim=(0, 1))
    legend(figure, handles, "upper left")
    confidence, accuracy, number = zip(*shown.bins, strict=True)
    for each in (axes, counts):
        each.grid(linewidth=0.7)
        each.set_axisbelow(True)
        each.xaxis.set_major_formatter(FuncFormatter(_percent))
    axes.yaxis.set_major_formatter(FuncFormatter(_percent))
    axes.plot((0, 1), (0, 1), color=light("muted"), linestyle="--", linewidth=1.1)
    axes.vlines(confidence, confidence, accuracy, color=light("second"), linewidth=1.2)
    axes.plot(confidence, accuracy, "o-", color=light("accent"), markersize=5, clip_on=False)
    axes.tick_params(labelbottom=False)
    axes.set_ylabel("accuracy")
    for each in (axes, counts):
        each.yaxis.set_label_coords(-0.6 / (WIDTH - 0.96), 0.5)
    counts.bar(confidence, number, width=0.045, color=light("accent"))
    counts.set_yscale("log" if max(number) > 30 * min(number) else "linear")
    counts.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    counts.set(ylabel="number", xlabel="confidence")
    counts.yaxis.set_minor_locator(NullLocator())  # each tick takes time
    return figure


def _percent(value: float, _: object) -> str:
    return f"{100 * value:.3g}%"
