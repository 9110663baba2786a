"""One trained job, registered once, for all tests of the registry."""

from __future__ import annotations

from typing import Any

import pytest

from moodscale.registry.config import RegistryConfig
from moodscale.registry.register import register
from moodscale.registry.versions import Registered
from tiny_registry import Trained, load, make_trained, stored_model
from tiny_severity import make_severity


@pytest.fixture(scope="session")
def registered(trained: Trained) -> Registered:
    """Registered as in production: reloaded in a process of its own."""
    return register(**trained.arguments(), config=RegistryConfig(name="tiny", compare_clips=3))


@pytest.fixture(scope="session")
def model(trained: Trained, registered: Registered) -> Any:
    """The registered model, loaded here."""
    return load(stored_model(trained.uri, registered.name, registered.version), device="cpu")


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Made once; tests add to its registry under names of their own and change nothing else."""
    return make_trained(tmp_path_factory.mktemp("registry"))


@pytest.fixture(scope="session")
def severity(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A severity model of chats; made once, used as ``trained`` is."""
    return make_severity(tmp_path_factory.mktemp("severity"))


@pytest.fixture(scope="session")
def registered_severity(severity: Trained) -> Registered:
    """Registered as in production: reloaded in a process of its own."""
    return register(**severity.arguments(), config=RegistryConfig(name="severe", compare_clips=5))


@pytest.fixture(scope="session")
def severity_model(severity: Trained, registered_severity: Registered) -> Any:
    """The registered model, loaded here."""
    return load(stored_model(severity.uri, registered_severity.name, registered_severity.version), device="cpu")
