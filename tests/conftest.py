"""What all tests share."""

import pytest
from hypothesis import settings

# The first call of a torch function takes long, and the machine may be busy: neither is a failure.
settings.register_profile("truemask", deadline=None)
settings.load_profile("truemask")


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The user's cache folder is not touched."""
    monkeypatch.setenv("TRUEMASK_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
