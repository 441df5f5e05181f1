"""The optional compiled form of the supervision runtime's core; everything else of the build stands in pyproject.toml.

A wheel holds the core of `packetflow.otp` twice: as the Python files that it is written in, and compiled from these
same files, with the types that the `.pxd` files beside them add. Where there is no compiler the wheel holds the Python
files alone. An editable install is pure, so that a change of a file is never hidden by an older compiled one.

PACKETFLOW_PURE=1 at build time leaves the compiled form out; at run time it passes it over.
"""

import os
import sys
from pathlib import Path

from setuptools import Extension, setup

CORE = Path("packetflow/otp")


def compiled_core() -> list[Extension]:
    """The modules that have a .pxd file."""
    if os.environ.get("PACKETFLOW_PURE") or "editable_wheel" in sys.argv:
        return []
    try:
        import greenlet
        from Cython.Build import cythonize
    except ImportError:
        return []
    headers = str(Path(greenlet.__file__).parent.parent)
    names = sorted(path.stem for path in CORE.glob("*.pxd") if path.stem != "__init__")
    made: list[Extension] = cythonize(
        [
            Extension(
                f"packetflow.otp.{name}", [str(CORE / f"{name}.py")], include_dirs=[headers], optional=True
            )
            for name in names
        ],
        build_dir="build/cython",
        language_level=3,
        quiet=True,
    )
    return made


setup(ext_modules=compiled_core())
