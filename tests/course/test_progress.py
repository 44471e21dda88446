"""One bar, in a notebook or in a terminal, and the same steps with and without it."""

import sys
import types

import IPython.display
import pytest
from tqdm.notebook import tqdm as notebook_tqdm

from causal_lab.course.progress import with_bar

VIEW = "application/vnd.jupyter.widget-view+json"


@pytest.fixture
def notebook(monkeypatch):
    """Pretend that a kernel runs this; record what is displayed."""
    shown = []
    monkeypatch.setattr("IPython.get_ipython", lambda: types.SimpleNamespace(kernel=object()))
    monkeypatch.setattr(
        IPython.display, "display", lambda *data, **options: shown.append((data, options))
    )
    return shown


@pytest.fixture
def bars(monkeypatch):
    """Record the bars of a notebook."""
    made = []

    def make(*arguments, **options):
        made.append(notebook_tqdm(*arguments, **options))
        return made[-1]

    monkeypatch.setattr("causal_lab.course.progress.notebook_tqdm", make)
    return made


def test_in_a_terminal_the_steps_go_by_and_the_line_is_wiped_out(capfd):
    assert list(with_bar(iter("abc"), total=3, text="3 steps")) == ["a", "b", "c"]
    written = capfd.readouterr()
    assert written.out == ""
    assert "/3 [" in written.err
    assert written.err.endswith("\r")


def test_an_interactive_python_without_a_kernel_is_a_terminal(capfd, monkeypatch):
    monkeypatch.setattr("IPython.get_ipython", lambda: types.SimpleNamespace())
    assert list(with_bar([1, 2], total=2, text="2 steps")) == [1, 2]
    assert "/2 [" in capfd.readouterr().err


def test_without_ipython_there_is_a_line_too(capfd, monkeypatch):
    monkeypatch.setitem(sys.modules, "IPython", None)
    assert list(with_bar([1, 2], total=2, text="2 steps")) == [1, 2]
    assert "/2 [" in capfd.readouterr().err


def test_in_a_notebook_one_widget_is_shown_beside_the_constant_text(notebook, bars, capfd):
    steps = with_bar(iter([5, 6, 7]), total=3, text="3 steps")
    assert not notebook  # nothing before somebody asks
    assert next(steps) == 5
    [((bundle,), options)] = notebook
    assert options == {"raw": True}
    assert bundle["text/plain"] == "3 steps"
    [bar] = bars
    assert bundle[VIEW]["model_id"] == bar.container.model_id
    assert list(steps) == [6, 7]
    assert len(notebook) == 1
    inner = bar.container.children[1]
    assert (inner.value, inner.max, inner.bar_style) == (3, 3, "success")
    assert capfd.readouterr() == ("", "")


def test_a_bar_that_is_switched_off_is_not_shown(notebook, monkeypatch):
    class Off(notebook_tqdm):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options | {"disable": True})

    monkeypatch.setattr("causal_lab.course.progress.notebook_tqdm", Off)
    assert list(with_bar([1, 2], total=2, text="2 steps")) == [1, 2]
    assert not notebook


@pytest.mark.parametrize("total", [2, 5])
def test_steps_may_end_before_the_total(total, notebook):
    assert list(with_bar(iter([1, 2]), total=total, text="steps")) == [1, 2]


@pytest.mark.parametrize("where", ["terminal", "notebook"])
def test_steps_are_taken_one_by_one_as_they_are_asked_for(where, request):
    if where == "notebook":
        request.getfixturevalue("notebook")
    taken = []

    def steps():
        for number in range(5):
            taken.append(number)
            yield number

    bar = with_bar(steps(), total=5, text="5 steps")
    assert taken == []
    assert next(bar) == 0
    assert taken == [0]
    assert next(bar) == 1
    assert taken == [0, 1]
    bar.close()
    assert taken == [0, 1]


@pytest.mark.parametrize("where", ["terminal", "notebook"])
def test_an_error_in_a_step_reaches_who_goes_through_them(where, request):
    if where == "notebook":
        request.getfixturevalue("notebook")

    def steps():
        yield 1
        raise ZeroDivisionError("in step 2")

    bar = with_bar(steps(), total=5, text="5 steps")
    assert next(bar) == 1
    with pytest.raises(ZeroDivisionError, match="in step 2"):
        next(bar)
