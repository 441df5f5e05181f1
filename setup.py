"""The optional compiled form of the supervision runtime's core; everything else of the build stands in pyproject.toml.

A wheel holds the core of `packetflow.otp` twice: as the Python files that it is written in, and compiled from these
same files, with the types that the `.pxd` files beside them add. Where it can't be compiled (no C compiler) the wheel
holds the Python files alone: all of the core or nothing, for its modules know one another's layout. An editable install
is pure, so that a change of a file is never hidden by an older compiled one.

PACKETFLOW_PURE=1 at build time leaves the compiled form out; at run time it passes it over.
"""

import os
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import BaseError, CCompilerError

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
    files = sorted(path.with_suffix(".py") for path in CORE.rglob("*.pxd") if path.stem != "__init__")
    made: list[Extension] = cythonize(
        [
            Extension(".".join(file.with_suffix("").parts), [str(file)], include_dirs=[headers])
            for file in files
        ],
        build_dir="build/cython",
        language_level=3,
        quiet=True,
    )
    return made


class AllOrNothing(build_ext):
    """Builds the core, or takes back what it has built of it and goes on without."""

    def run(self) -> None:
        """Build it."""
        try:
            super().run()
        except (BaseError, CCompilerError, OSError) as error:
            print(
                f"packetflow: the core is left as Python files, it could not be compiled: {error}",
                file=sys.stderr,
            )
            for extension in self.extensions:
                Path(self.get_ext_fullpath(extension.name)).unlink(missing_ok=True)
            self.extensions = []


setup(ext_modules=compiled_core(), cmdclass={"build_ext": AllOrNothing})
