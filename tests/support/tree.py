"""Where the files of the project are, for tests that read them."""

from pathlib import Path
from typing import Final

TREE: Final = Path(__file__).parents[2]
"""The top of the tree: what git holds, or what an sdist unpacks to."""
