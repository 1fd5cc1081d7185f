"""The fixtures of the integration tests; and no limit of a minute."""

from __future__ import annotations

from pathlib import Path

import pytest
from integration.conftest import pip_program, program, root

__all__ = ["pip_program", "program", "root"]

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark all tests of this folder."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.stress)
