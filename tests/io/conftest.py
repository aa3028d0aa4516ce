"""The figures of pictures, for a look at what is in them."""

import pytest

from jaxformer.io import plot


@pytest.fixture
def figures(monkeypatch):
    """The figures as they were saved."""
    found = []
    save = plot._save

    def keep(figure, path):
        found.append(figure)
        save(figure, path)

    monkeypatch.setattr(plot, "_save", keep)
    return found
