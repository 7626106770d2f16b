"""A program that lies where Python imports nothing from, as a module: what roles install, and our scripts."""

from __future__ import annotations

import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType


def loaded(path: Path, name: str = "") -> ModuleType:
    """The program, run anew as a module of this name (its file's, where none is given)."""
    name = name or path.stem.replace("-", "_")
    spec = spec_from_loader(name, SourceFileLoader(name, str(path)))
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    # dataclasses look their module up by its name
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
