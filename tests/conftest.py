"""What all tests share."""

import signal
from collections.abc import Iterator

import pytest
from hypothesis import settings

# The first call of a torch function takes long, and the machine may be busy: neither is a failure.
settings.register_profile("truemask", deadline=None)
settings.load_profile("truemask")

# A shell starts what it runs in the background with Ctrl-C ignored, and so are its children's.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first: one that begins last would keep a single core busy."""
    slow = {item.path for item in items if item.get_closest_marker("slow") is not None}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The user's cache folder is not touched."""
    monkeypatch.setenv("TRUEMASK_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="session", autouse=True)
def _unchecked() -> Iterator[None]:
    """Trainings are not checked unless they say so: their few images are made up, many alike."""
    from truemask.training.settings import CheckSettings

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(CheckSettings.__init__.__kwdefaults__, "enabled", False)
        yield
