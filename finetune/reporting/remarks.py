"""What of a run's data is not as it should be, for the terminal, the page and the model card."""

from collections.abc import Iterator

from finetune.record import DatasetRecord


def remarks(dataset: DatasetRecord, named_in: str | None = "run.json") -> Iterator[str]:
    """Yields a sentence with counts for each thing that is not as it should be.

    Args:
        dataset: of the run.
        named_in: the file that names the samples that were left out; None where it is not there.
    """
    if dataset.skipped:
        counts = ", ".join(f"{split} {n}" for split, n in dataset.skipped["counts"].items())
        more = "" if named_in is None else f"; {named_in} names them"
        yield f"Left out, because bad: {counts}{more}."
    if dataset.repeated:
        counts = ", ".join(f"{n} in {splits}" for splits, n in dataset.repeated.items())
        yield f"The same samples in two splits: {counts}."
    if dataset.ignored:
        counts = ", ".join(f"{n} {suffix}" for suffix, n in dataset.ignored.items())
        yield f"Files that are not read: {counts}."
    if dataset.unused:
        yield f"Beside the splits, and not used: {', '.join(dataset.unused)}."
