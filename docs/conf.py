"""How the documentation is built; see the README for the command."""

import os
import re
import sys
from datetime import UTC, datetime
from pathlib import Path

import torch
from docutils import nodes
from sphinx.ext.autosummary import autosummary_table

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

# The HTML picture of an estimator links to its page. Pages that show one (the gallery's) lie one
# folder below the root.
os.environ.setdefault("SKNOPROP_DOCS", "..")
os.environ.setdefault("OMP_NUM_THREADS", "1")
torch.set_num_threads(1)

import figures  # noqa: E402

import sknoprop  # noqa: E402

project = "sknoprop"
author = "The sknoprop developers"
copyright = f"{datetime.now(tz=UTC).year}, {author}"
release = version = sknoprop.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx-mathjax-offline",  # formulas are set by files of the build: no network, no CDN
    "numpydoc",
    "myst_parser",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
]

templates_path = ["_templates"]
exclude_patterns = ["_build", "_templates", "**/GALLERY_HEADER.rst"]
root_doc = "index"
nitpicky = True

# A word in single backticks is a link where it names something documented, else code.
default_role = "py:obj"
smartquotes = False  # "dt" is a string of Python's

# Beside a page: names of methods, without that of their class.
toc_object_entries_show_parents = "hide"

autosummary_generate = True
autodoc_typehints = "none"
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
# Checked when pages are built: that summaries are a line and a sentence, that sections have known
# names in the usual order, and that all parameters there are, no others, are documented with their
# types and in order, and what is returned. Of a tensor, name and shape often say enough.
numpydoc_validation_checks = {
    *("GL01", "GL03", "GL05", "GL06", "GL07", "GL09", "GL10"),
    *("SS02", "SS03", "SS04", "SS06"),
    *("PR01", "PR02", "PR03", "PR04", "PR05", "PR06", "PR09", "PR10"),
    *("RT01", "RT04", "RT05", "YD01", "SA02", "SA03", "SA04"),
}
numpydoc_validation_exclude = {
    r"\.set_\w+_request$",
    # Classes without a constructor of their own; methods are checked.
    r"\.(BlockNet|Readout|Schedule|StraightLineSchedule|Trajectories|VariancePreservingSchedule)$",
}
numpydoc_validation_overrides = {
    "PR02": r"^Read a classifier;",  # its `cls` is taken for that of a class method
}

myst_heading_anchors = 3
suppress_warnings = ["myst.xref_missing"]  # files of the repository that are no pages

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "filename_pattern": "plot_",
    "within_subsection_order": "FileNameSortKey",
    "abort_on_example_error": True,
    "reset_modules": ("matplotlib", "seaborn", "figure_style.large_letters"),
    "reference_url": {"sknoprop": None},
    "doc_module": ("sknoprop",),
    "backreferences_dir": "generated/backreferences",
    "inspect_global_variables": False,
    "remove_config_comments": True,
    "show_signature": False,
    "min_reported_time": 0,
    "parallel": False,  # some print seconds, which another one beside them would change
    "plot_gallery": True,
}

# Links into other projects' pages need their inventories from the network. They are asked for only
# where somebody says that there is one, so that a build without it is complete and the same.
if os.environ.get("SKNOPROP_DOCS_ONLINE"):
    extensions.append("sphinx.ext.intersphinx")
    intersphinx_mapping = {
        "python": ("https://docs.python.org/3", None),
        "numpy": ("https://numpy.org/doc/stable", None),
        "sklearn": ("https://scikit-learn.org/stable", None),
        "torch": ("https://docs.pytorch.org/docs/stable", None),
        "skorch": ("https://skorch.readthedocs.io/en/stable", None),
    }

html_theme = "pydata_sphinx_theme"
html_title = "sknoprop"
html_static_path = ["_static"]
html_css_files = ["sknoprop.css"]
html_show_sourcelink = False
html_theme_options = {
    "navbar_end": ["theme-switcher"],
    "navigation_with_keys": False,
    "show_nav_level": 1,
    "show_toc_level": 2,
    "show_prev_next": True,
    "footer_start": ["copyright"],
    "footer_end": [],
    # The gallery's pages have none, for its code is wide, and the widest tables have none. A page
    # may match one pattern: these are all that begin with another letter than auto_examples does.
    "secondary_sidebar_items": {"[!a]**": ["page-toc"], "api/**": ["page-toc"], "measurements": []},
    "pygments_light_style": "tango",
    "pygments_dark_style": "monokai",
}
html_sidebars = {"changelog": [], "measurements": [], "contributing": []}


def draw_figures(app):
    """Draw the figures of the pages before those are read."""
    figures.draw_all(HERE / "_figures")


#: Cells of tables that hold numbers and nothing else: 98.4 ± 0.3, 1.0 · 483, 0.06 to 0.07.
NUMBERS = re.compile(r"(?:[-+±·.,%()/\d\s]|\bto\b)+")


def mark_numbers(app, doctree):
    """Mark the cells of numbers, so that they are not broken over lines."""
    for cell in doctree.findall(nodes.entry):
        if NUMBERS.fullmatch(cell.astext()):
            cell["classes"].append("number")


def let_arguments_break(app, doctree):
    """Keep autosummary from gluing the arguments in a list of names together."""
    for table in doctree.findall(autosummary_table):
        for paragraph in table.findall(nodes.paragraph):
            for text in [child for child in paragraph if isinstance(child, nodes.Text)]:
                paragraph.replace(text, nodes.inline("", "", nodes.Text(text)))


def plain_code(app, env, node, contnode):
    """Show a name in single backticks that is no page's as code; other roles must resolve."""
    return contnode if node.get("reftype") == "obj" else None


def plain_signature(app, what, name, obj, options, signature, annotation):
    """Leave out what torch's modules say of a constructor without arguments."""
    return ("()" if signature == "(*args, **kwargs)" else signature), annotation


def setup(app):
    """Connect the above."""
    app.connect("autodoc-process-signature", plain_signature)
    app.connect("builder-inited", draw_figures)
    app.connect("doctree-read", mark_numbers)
    app.connect("doctree-read", let_arguments_break)
    app.connect("missing-reference", plain_code, priority=900)
