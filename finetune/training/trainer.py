"""The phase loop: plan, apply, count, compile, fit, prove, checkpoint; then the test split once.

The trainer knows neither a terminal nor a file format: listeners and a checkpointer are passed to
it. A run that resumes takes the steps that it would have taken without the interruption.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import tensorflow as tf

from finetune.errors import NotFiniteError, TrainingError
from finetune.evaluation.metrics import Report
from finetune.freezing.apply import apply, release
from finetune.record.listener import Listener
from finetune.record.schema import RunRecord
from finetune.schedule.phase import Phase
from finetune.training.checkpointer import Checkpointer, NoCheckpointer
from finetune.training.interrupt import WatchBatches
from finetune.training.phase_data import PhaseData
from finetune.training.phase_run import PhaseRun
from finetune.training.progress import RunProgress
from finetune.training.setup import TrainingSetup
from finetune.training.tracing import steps_may_be_traced


class Trainer:
    """Trains one model through a schedule.

    Args:
        setup: Model, schedule and data.
        record: Record of the run, filled while it runs.
        listener: Called at each step, epoch and phase.
        checkpointer: Writes checkpoints, and holds the one from which the run resumes.
        started: Clock time (`time.time`) at which the command started; None: now.
    """

    def __init__(
        self,
        setup: TrainingSetup,
        record: RunRecord,
        listener: Listener,
        checkpointer: Checkpointer | NoCheckpointer | None = None,
        started: float | None = None,
    ) -> None:
        self._setup, self._record = setup, record
        self._progress = RunProgress(
            setup,
            record,
            listener,
            NoCheckpointer() if checkpointer is None else checkpointer,
            time.time() if started is None else started,
        )

    def run(
        self,
        assess: Callable[[np.ndarray], Report] | None = None,
        finish: Callable[[], object] | None = None,
    ) -> RunRecord:
        """Runs every phase and the test; all layers of the model are released at the end.

        Args:
            assess: Makes the report of the test split from the model's outputs, in stored order;
                None: the test split is not evaluated.
            finish: Called once with the trained model, before the run is completed.

        Raises:
            FrozenWeightsError: If a weight that a phase holds has changed.
            NotFiniteError: If a loss is NaN or infinite.
            TrainingError: If a phase does not fit into memory.
            StorageError: If the disk is full.
            KeyboardInterrupt: After a signal, once the state is saved.
        """
        status = "failed"
        try:
            with self._progress.interrupt.watched(), steps_may_be_traced():
                data = self._run_phases()
                if assess is not None:
                    self._test(data, assess)
            release(self._setup.inventory)
            if finish is not None:
                began = time.perf_counter()
                finish()
                self._progress.add_seconds("saving", time.perf_counter() - began)
            status = "completed"
        except KeyboardInterrupt:
            status = "interrupted"
            raise
        except NotFiniteError:
            self._progress.checkpointer.set_unseen_aside()
            raise
        finally:
            release(self._setup.inventory)
            self._progress.end(status)
        return self._record

    def _run_phases(self) -> PhaseData | None:
        """Runs the phases that are left; returns the data of the last one."""
        point = self._progress.begin()
        if point is not None and point.state.phase is None:
            point = None  # the next phase starts
        data = None
        for index in range(self._progress.position.phase, len(self._setup.phases)):
            with self._memory_errors_explained(self._setup.phases[index]):
                data = PhaseRun(self._setup, self._progress, index, point).run()
            point = None
        return data

    def _test(self, data: PhaseData | None, assess: Callable[[np.ndarray], Report]) -> None:
        if data is None and self._setup.phases:  # earlier processes have completed every phase
            last = len(self._setup.plans) - 1
            apply(self._setup.plans[last], self._setup.inventory)
            data = self._setup.data.open(last, self._progress.extracting)
        if data is None or data.test is None:
            return
        began = time.perf_counter()
        watch = [WatchBatches(self._progress.interrupt)]
        outputs = data.model.predict(data.test(), verbose=0, callbacks=watch)  # type: ignore[arg-type]
        report, record = assess(np.asarray(outputs)), self._record
        record.test, record.test_per_class = report.metrics, report.per_class
        record.test_details, record.test_interval = report.details, report.interval
        self._progress.add_seconds("evaluation", time.perf_counter() - began)

    @contextmanager
    def _memory_errors_explained(self, phase: Phase) -> Iterator[None]:
        """Names the phase that did not fit into memory, and what to do."""
        try:
            yield
        except (tf.errors.ResourceExhaustedError, MemoryError) as error:
            size = self._record.config.get("dataset", {}).get("batch_size", "?")
            raise TrainingError(
                f"dataset.batch_size must be so small that phase {phase.name} ({phase.policy}) fits "
                f"into memory. Received: {size}, and {str(error).splitlines()[0]}. Use a smaller "
                "dataset.batch_size, dataset.image_size or runtime.precision=mixed_float16, or "
                "unfreeze less."
            ) from error
