"""Finds and loads libtandem, once, when it is first used."""
import ctypes.util
import os
import pathlib
import shutil
import sys
import threading
from typing import Any, Iterator, Optional

from cffi import FFI  # type: ignore[import-untyped]

from ._cdef import CDEF

API_VERSION = 2
"""Of tandem.h that this package was made from."""

FILE = "libtandem.0.dylib" if sys.platform == "darwin" else "libtandem.so.0"

ffi = FFI()
ffi.cdef(CDEF)


class Error(Exception):
    """What the library says went wrong. code: "INVALID", "NOT_FOUND" ...; param: the field at fault, or ""."""

    def __init__(self, message: str, code: str = "INTERNAL", param: str = ""):
        super().__init__(message)
        self.message, self.code, self.param = message, code, param


def program_path() -> Optional[str]:
    """The program: $TANDEM, or the one on the PATH."""
    return os.environ.get("TANDEM") or shutil.which("tandem")


def _places() -> Iterator[str]:
    if os.environ.get("TANDEM_LIBRARY"):
        yield os.environ["TANDEM_LIBRARY"]
        return
    program = program_path()
    if program:
        yield str(pathlib.Path(program).resolve().parent.parent / "lib" / FILE)
    yield FILE
    found = ctypes.util.find_library("tandem")
    if found:
        yield found


class _Library:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lib: Any = None
        self.path = ""

    def load(self) -> Any:
        with self._lock:
            if self._lib is None:
                self._lib = self._open()
        return self._lib

    def _open(self) -> Any:
        reasons = []
        for path in _places():
            try:
                lib = ffi.dlopen(path)
            except OSError as e:
                reasons.append(str(e))
                continue
            if lib.tandem_api_version() < API_VERSION:
                raise Error(f"{path} is older than this package: its API is version {lib.tandem_api_version()}, and "
                            f"{API_VERSION} is needed", "UNSUPPORTED")
            self.path = path
            return lib
        raise Error("libtandem was not found; TANDEM_LIBRARY may name it. " + "; ".join(reasons), "NOT_FOUND")


_library = _Library()


def lib() -> Any:
    return _library.load()


def library_path() -> str:
    """Where libtandem was found."""
    lib()
    return _library.path


def version() -> str:
    """Of the library: "0.1.0"."""
    return text(lib().tandem_version()) or ""


def text(pointer: Any, size: Optional[int] = None) -> Optional[str]:
    if pointer == ffi.NULL:
        return None
    raw: bytes = ffi.string(pointer) if size is None else ffi.buffer(pointer, size)[:]
    return raw.decode("utf-8", errors="replace")


def error_of(error: Any) -> Error:
    return Error(text(error.message) or "", text(lib().tandem_code_name(error.code)) or "", text(error.param) or "")
