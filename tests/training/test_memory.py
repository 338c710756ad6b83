"""Memory stays flat over many phases: what a phase compiled goes when the next one is compiled."""

import subprocess
import sys

import pytest

MEASURED = """
import gc, sys
from pathlib import Path
import psutil
from tests.helpers.tiny_model import make_tiny
from tests.helpers import feature_runs
from finetune.freezing.policies.depth import Depth
from finetune.schedule.phase import Phase
memory = []
class Spy(feature_runs.Spy):
    def phase_ended(self, record, phase):
        memory.append(psutil.Process().memory_info().rss)
feature_runs.Spy = Spy
gc.freeze()  # the collections between phases need not go through what is imported
depths = [0, 1, 2, 1] * 15  # every depth is reached before the tenth phase
phases = [Phase(f"p{i}", 1, 1e-3, Depth(depth))
          for i, depth in enumerate(depths)]
feature_runs.train(make_tiny, phases, Path(sys.argv[1]), sys.argv[2])
print("memory", *memory)
"""


@pytest.mark.slow
def test_sixty_phases_need_no_more_memory_than_ten(tmp_path):
    command = [sys.executable, "-W", "ignore", "-c", MEASURED]
    children = [
        subprocess.Popen([*command, str(tmp_path), cache], stdout=subprocess.PIPE, text=True)
        for cache in ("always", "never")
    ]
    for child in children:  # both at once: half the time
        output, _ = child.communicate()
        assert child.returncode == 0
        memory = [int(number) for number in output.split("memory ")[-1].split()]
        assert len(memory) == 60
        assert max(memory[10:]) < 1.05 * max(memory[:10])
