import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "rows"))

from shop import servers, shop, url  # noqa: F401  fixtures
