"""The names that the package exports."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from typing import Any

import pytest

package: Any = importlib.import_module("comet_resilience.testing")


def test_all_are_there() -> None:
    """Every export exists, is listed once, and is found by `dir`."""
    exports = importlib.import_module("comet_resilience.testing.exports")
    names = [name for name in vars(exports) if name[0].isalpha()]
    assert sorted(package.__all__) == sorted(names)
    assert {"Gateway", "no_waiting", "FAILURES"} <= {*names} <= {*dir(package)}
    for name in names:
        assert getattr(package, name) is getattr(exports, name)
        assert not inspect.ismodule(getattr(exports, name))


def test_modules_are_no_exports() -> None:
    """They are imported as modules; what is neither is an error that names it."""
    for module in pkgutil.iter_modules(package.__path__):
        assert module.name not in package.__all__
    with pytest.raises(AttributeError, match="'Gatewya'"):
        _ = package.Gatewya
