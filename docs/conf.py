"""How the site is built: `make docs`."""

import sys
from importlib import metadata
from pathlib import Path

sys.path.append(str(Path(__file__).parent))

project = "aiopip"
author = "The aiopip developers"
project_copyright = author
version = release = metadata.version("aiopip")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "docstrings"]
exclude_patterns = ["build"]
nitpicky = True

# Markdown pages
myst_heading_anchors = 3

# Docstrings: what is in `single backticks` becomes a link where it names something of ours, and is
# code elsewhere.
default_role = "py:obj"
# Of the standard library no inventory is at hand, and what is private has no page.
nitpick_ignore_regex = [("py:obj", ".*"), ("py:(class|exc)", r"(?!aiopip\.[A-Z]).*")]
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_class_signature = "mixed"
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_custom_sections = ["Cancellation", "Thread safety", "Source"]
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 80

html_theme = "furo"
html_title = "aiopip"
html_copy_source = False
