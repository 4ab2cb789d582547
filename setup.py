"""What pyproject.toml cannot say: where the native pump is built, and with which tag the wheel.

Both depend on the Python that builds and on whether its compiler works. setuptools refuses the limited API on a
free-threaded Python altogether, even for an extension that is `optional`, and a static `py_limited_api` would put abi3
into the name of a wheel that has nothing compiled in it.

| what builds | the wheel |
| --- | --- |
| CPython 3.11 or newer, with a C compiler | the native pump for all of them: cp311-abi3 |
| a free-threaded CPython (3.13t, 3.14t) | no native pump, since that needs the limited API: py3-none-any |
| no C compiler that works | no native pump: py3-none-any |

Without the native pump the Python one serves, and `pollbroker doctor` says why.
"""

import sysconfig
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel

OLDEST_PYTHON = "cp311"
LIMITED_API = "0x030b0000"

FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))

WIRE_ROOMS = (
    "slab",
    "queue",
    "map",
    "topics",
    "turns",
    "admission",
    "socket_types",
    "handshake",
    "handshake_out",
    "peer",
    "input",
    "commands",
    "asking",
    "output",
    "port",
    "take",
    "put",
    "publish",
    "subscribers",
    "subscribe",
    "relay",
    "record_write",
    "record_values",
    "record_peers",
    "record_read",
    "deadlines",
    "hosts",
    "notices",
    "net",
    "net_beginning",
    "net_streams",
    "net_moving",
)

NATIVE_PUMP = Extension(
    "pollbroker.pump.native",
    sources=["pollbroker/pump/native.pyx"],
    depends=[f"pollbroker/pump/{part}.pxi" for part in ("receiving", "sending", "waits", "hub", "collector", "turns")],
    optional=True,  # without a compiler the build goes on
    py_limited_api=True,
    define_macros=[("Py_LIMITED_API", LIMITED_API)],
)


WIRE = Extension(
    "pollbroker.wire.native",
    sources=["pollbroker/wire/native.pyx", *(f"pollbroker/wire/{room}.c" for room in WIRE_ROOMS)],
    depends=[
        "pollbroker/pump/waits.pxi",
        *(str(part) for kind in ("*.h", "*.pxi") for part in Path("pollbroker/wire").glob(kind)),
    ],
    include_dirs=["pollbroker/wire"],
    extra_compile_args=["-std=gnu11"],
    optional=True,  # it needs Linux, beside a compiler
    py_limited_api=True,
    define_macros=[("Py_LIMITED_API", LIMITED_API)],
)


class HonestWheel(bdist_wheel):
    """A wheel that is called abi3 if the native pump is in it, and pure if not."""

    def finalize_options(self) -> None:
        if self.distribution.has_ext_modules():
            self.py_limited_api = OLDEST_PYTHON
        super().finalize_options()

    def run(self) -> None:
        # The extension is optional: only after the build is it known whether there is one.
        if self.distribution.has_ext_modules() and not self.skip_build:
            self.remove_outdated()
            self.run_command("build")
            if not any(Path(path).exists() for path in self.get_finalized_command("build_ext").get_outputs()):
                self.distribution.ext_modules = []
                self.root_is_pure, self.py_limited_api = True, False
        super().run()

    def remove_outdated(self) -> None:
        """Remove the modules of an earlier build whose sources have changed since: if the compiler fails now, the wheel
        would have them beside the new Python code."""
        build_ext = self.get_finalized_command("build_ext")
        for extension in self.distribution.ext_modules:
            built = Path(build_ext.get_ext_fullpath(extension.name))
            sources = (Path(source) for source in (*extension.sources, *extension.depends))
            if built.exists() and any(source.stat().st_mtime > built.stat().st_mtime for source in sources):
                built.unlink()


setup(ext_modules=[] if FREE_THREADED else [NATIVE_PUMP, WIRE], cmdclass={"bdist_wheel": HonestWheel})
