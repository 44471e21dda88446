"""How the site is built. tools/build_site.py lays out its source; start it with ``make docs``."""

import re
from itertools import takewhile
from pathlib import Path

from anywidget import AnyWidget
from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.util import inspect, logging

import causal_lab

project = "Causal Lab"
author = "the authors of Causal Lab"
copyright = author
version = release = causal_lab.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",  # numpydoc's own extension takes ten seconds longer
    "sphinx_copybutton",
]
root_doc = "index"
source_suffix = {".md": "myst-nb", ".ipynb": "myst-nb"}
nitpicky = True

# The saved outputs are shown; they were made, and are checked, by `make notebooks` and `make test`.
nb_execution_mode = "off"
nb_merge_streams = True
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3
myst_links_external_new_tab = False

autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False
autodoc_typehints = "signature"  # the docstrings add what an annotation cannot say: shapes
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 80
napoleon_numpy_docstring = False
napoleon_use_param = False
napoleon_custom_sections = [("Attributes", "params_style")]
# Names of other projects: their pages cannot be looked up where there is no network.
nitpick_ignore_regex = [
    ("py:.*", r"(ast|torch|numpy|matplotlib|ipywidgets|PIL|collections|pathlib|types)\..*"),
    ("py:class", r"causal_lab\.course\.progress\.Step"),  # a type variable
    ("py:class", r"\w+\[~?[\w.]+"),  # half a type, where a default cannot be read: = <factory>
]

html_theme = "furo"
html_title = "Causal Lab"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_math_renderer = "mathml"
copybutton_exclude = ".linenos, .gp, .go"
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

MODULE = Path(causal_lab.__file__).parent.joinpath("explorers", "explorer.js").read_text("utf-8")
logger = logging.getLogger(__name__)


def setup(app):
    """Write formulas as MathML: browsers draw it by themselves, without a script or a network."""
    app.connect("autodoc-skip-member", skip_what_is_not_ours)
    app.connect("autodoc-process-docstring", results_as_prose, priority=400)  # before napoleon
    app.connect("autodoc-process-signature", arguments_of_widgets)
    app.connect("html-page-context", wake_explorers)
    app.connect("html-page-context", name_buttons)
    app.add_html_math_renderer("mathml", (inline_formula, None), (displayed_formula, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def wake_explorers(app, page, template, context, doctree):
    """Give a page with explorers the module that moves them: from disk it could load none."""
    if 'class="causal-explorer"' in context.get("body", ""):
        app.add_js_file(None, type="module", body=f"{MODULE}\nwake(document);")


def name_buttons(app, page, template, context, doctree):
    """Let a button that folds be read aloud as it is written: myst-nb names all of them alike."""
    body = context.get("body", "")
    context["body"] = body.replace(' aria-label="Toggle hidden content"', "")


def skip_what_is_not_ours(app, kind, name, member, skip, options):
    """Leave out what others write into a class of ours: matplotlib, and the fields of a tuple."""
    home = getattr(member, "__module__", None) or "causal_lab"
    is_field = (member.__doc__ or "").startswith("Alias for field number")
    return skip or is_field or not home.startswith("causal_lab")


def arguments_of_widgets(app, kind, name, thing, options, signature, returns):
    """Take an explorer's arguments from its __init__: a widget has a __new__ that takes any."""
    if kind == "class" and issubclass(thing, AnyWidget):
        own = inspect.signature(thing.__init__, bound_method=True)
        written = inspect.stringify_signature(
            own, show_return_annotation=False, unqualified_typehints=True
        )
        return written, returns


def results_as_prose(app, kind, name, thing, options, lines):
    """Keep a result whole: napoleon takes what stands before its first colon for a type."""
    for field in ("Returns", "Yields"):
        if f"{field}:" in lines:
            begin = lines.index(f"{field}:")
            said = list(takewhile(lambda line: line.startswith(" "), lines[begin + 1 :]))
            text = " ".join(line.strip() for line in said)
            lines[begin : begin + 1 + len(said)] = [f":{field.lower()}: {text}"]


def inline_formula(writer, node):
    """Write a formula that stands in a line of text."""
    write_formula(writer, node, as_block=False)


def displayed_formula(writer, node):
    """Write a formula that has a line of its own, in a box that scrolls if it is too wide."""
    writer.body.append('<div class="formula">')
    write_formula(writer, node, as_block=True)
    writer.body.append("</div>")


def write_formula(writer, node, as_block):
    """Write one formula, or warn about what cannot be written: warnings end the build."""
    try:
        writer.body.append(tex2mathml(as_docutils_reads(node.astext()), as_block=as_block))
    except MathError as error:
        logger.warning("formula %r: %s", node.astext(), error, location=node)
    raise nodes.SkipNode


def as_docutils_reads(formula):
    """Write out what TeX takes for granted: an argument without braces is a single digit."""
    formula = re.sub(r"(\\[dt]?frac)\s*(\d)\s*(\w)", r"\1{\2}{\3}", formula)
    formula = re.sub(r"([\^_]|\\sqrt)\s*(\d)(?=\d)", r"\1{\2}", formula)
    return re.sub(r"\\dots\b|…", r"\\ldots ", formula)
