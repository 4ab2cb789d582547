"""How Sphinx builds the documentation: `python -m sphinx -W --keep-going docs docs/_build/html`.

The build reads this tree and nothing else: no inventory of another project and no font is fetched.
"""

import sys
from pathlib import Path

from pollbroker import __version__

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "pollbroker"
author = "The pollbroker developers"
copyright = author
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "made_from_code"]
exclude_patterns = ["_build"]

# In the docstrings, single backticks stand around code. With this role the name of something that the reference
# describes becomes a link to it, and anything else is shown as code.
default_role = "py:obj"

# Links within a page name a heading as GitHub does, so that a link that works there works here.
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence", "deflist"]

add_module_names = False
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
python_use_unqualified_type_names = True

html_theme = "furo"
html_title = f"pollbroker {version}"
html_copy_source = False
html_show_sphinx = False
