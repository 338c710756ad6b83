"""Does the work of `scripts/torture`, which prepares the environment."""

import argparse
import csv
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# A run of several phases: stored features, a standardised head, dropout, patience, best weights.
OVERRIDES = [
    "experiment=resnet_freeze",
    "dataset.max_samples=200",
    "dataset.batch_size=16",
    "head.dropout=0.2",
    "features.cache=always",
    "schedule.epochs_per_phase=3",
    "schedule.patience=2",
    "schedule.restore_best=true",
    "~schedule.phases.head",
]
# Runs the command line in a process that kills itself after a given number of write steps.
CHILD = """
import os, signal, sys
from finetune.storage import durable
left = int(os.environ["TORTURE_STEPS"])
def count(path):
    global left
    left -= 1
    if left == 0:
        print(f"TORTURE {path.name}", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
durable.between = count
from finetune.cli import main
sys.exit(main(sys.argv[1:]))
"""
TIMING = re.compile(r"seconds|started|peak_memory_bytes|samples_extracted|resumed|sha256$")
PROOF = re.compile(r"sha256_(before|after)$")


def run(arguments: list[str], store: Path, steps: int = 0, seconds: float | None = None):
    """Runs one command; returns its exit code, its duration and what stderr said.

    Args:
        arguments: Arguments of ``python -m finetune``.
        store: Directory of the stored features.
        steps: Number of write steps after which the process kills itself; 0: never.
        seconds: Seconds after which it is killed from outside; negative: it gets SIGTERM; None: never.
    """
    environment = {
        **os.environ,
        "FINETUNE_FEATURES_DIR": str(store),
        "TORTURE_STEPS": str(steps),
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, *arguments],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        said = process.communicate(timeout=None if seconds is None else abs(seconds))[1]
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL if (seconds or 0) > 0 else signal.SIGTERM)
        said = process.communicate()[1]
    return process.returncode, time.monotonic() - began, said


def state_of(directory: Path) -> dict[str, object]:
    """Returns everything that a run produced, except timing."""
    last = sorted(p for p in (directory / "checkpoints").iterdir() if p.name.isdecimal())[-1]
    files = json.loads((last / "checkpoint.json").read_text())["files"]
    with (directory / "metrics.csv").open(newline="") as file:
        rows = [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]
    record = json.loads((directory / "run.json").read_text())
    model = {p.name: _arrays(p) for p in sorted((directory / "model").glob("*.h5"))}
    model["README.md"] = {"text": (directory / "model" / "README.md").read_bytes()}
    return {"checkpoint": files, "metrics": rows, "record": _timeless(record), "model": model}


def _arrays(path: Path) -> dict[str, bytes]:
    import h5py

    found: dict[str, bytes] = {}
    with h5py.File(path) as file:
        file.visititems(
            lambda name, item: (
                found.update({name: item[()].tobytes()}) if isinstance(item, h5py.Dataset) else None
            )
        )
    return found


def _timeless(value: object) -> object:
    if isinstance(value, dict):
        return {
            k: _timeless(v) for k, v in value.items() if PROOF.search(k) or not TIMING.search(k)
        }
    return [_timeless(item) for item in value] if isinstance(value, list) else value


def torture(kills: int, seed: int, work: Path, overrides: list[str]) -> int:
    """Runs and compares everything; returns the exit code."""
    chance = random.Random(seed)
    reference, victim = work / "reference", work / "victim"
    code, whole, said = run([*overrides, f"hydra.run.dir={reference}"], work / "features-a")
    if code != 0:
        print(f"the run itself failed:\n{said}")
        return 1
    writes = 40  # estimated write steps of one process; kills are drawn from this range
    print(f"never killed: {whole:.1f} s", flush=True)
    survived = 0
    began = time.monotonic()
    while True:
        command = [*overrides, f"hydra.run.dir={victim}"]
        if (victim / ".hydra/config.yaml").exists():
            command = ["resume", str(victim)]
        steps, seconds = 0, None
        if survived < kills:
            kind = survived % 4
            if kind in (1, 3):
                steps = chance.randint(1, writes)
            else:
                seconds = chance.uniform(0.2 * whole, whole) * (-1 if kind == 2 else 1)
        code, took, said = run(command, work / "features-b", steps, seconds)
        where = "".join(re.findall(r"TORTURE (.*)", said))
        how = f"writing {where}" if where else f"after {took:.1f} s"
        if code in (-signal.SIGKILL, 130, -signal.SIGTERM):
            survived += 1
            name = {-9: "SIGKILL", 130: "SIGTERM, exit 130", -15: "SIGTERM"}[code]
            print(f"{survived:>3} {name}, {how}: {_status(victim)}", flush=True)
        elif code == 0 and survived >= kills:
            break
        elif code == 0:  # the run ended before the kill: start again, so that every kill hits a run
            if state_of(victim) != state_of(reference):
                break
            print("    completed and equal; starting again", flush=True)
            shutil.rmtree(victim)
            shutil.rmtree(work / "features-b", ignore_errors=True)
        else:
            print(f"exit code {code}:\n{said}")
            return 1
    a, b = state_of(reference), state_of(victim)
    print(f"{survived} kills survived in {time.monotonic() - began:.0f} s")
    for part in a:
        print(f"{part:<10} {'equal' if a[part] == b[part] else 'NOT EQUAL'}")
    return 0 if a == b else 1


def _status(victim: Path) -> str:
    """Returns the status of the run, for the output."""
    numbers = [p for p in (victim / "checkpoints").glob("[0-9]*") if p.name.isdecimal()]
    if not numbers:
        return "no checkpoint yet"
    position = json.loads((max(numbers) / "checkpoint.json").read_text())["state"]["position"]
    at = f"phase {position['phase'] + 1}, epoch {position['epoch']}, step {position['step']}"
    return f"{at} is kept"


def main() -> int:
    """Reads the arguments."""
    parser = argparse.ArgumentParser(prog="scripts/torture")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", action="store_true", help="keep the run directories")
    known, overrides = parser.parse_known_args()
    work = Path(tempfile.mkdtemp(prefix="torture-"))
    try:
        return torture(known.kills, known.seed, work, [*OVERRIDES, *overrides])
    finally:
        if known.keep:
            print(f"kept in {work}")
        else:
            shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
