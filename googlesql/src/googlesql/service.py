"""The analyzer's WebAssembly module in this process, and calls into it."""

from __future__ import annotations

import ctypes
import os
import tempfile
from pathlib import Path

import tzdata
from wasmtime import Config, Engine, Linker, Module, Store, WasiConfig
from zetasql.core.wasm_client import WasmClient
from zetasql.wasi import get_wasm_path


class Service(WasmClient):
    """The analyzer. It is not safe for threads: callers hold a lock.

    It differs from its base in two ways. The compiled module is kept between processes: compiling takes about 25 seconds of CPU.
    Bytes are copied as a block: the base copies them one by one, which takes longer than most analyses.
    """

    def __init__(self) -> None:
        wasi = WasiConfig()
        wasi.inherit_stderr()
        wasi.preopen_dir(str(Path(tzdata.__file__).parent / "zoneinfo"), "/usr/share/zoneinfo")
        config = Config()
        config.shared_memory = True
        with tempfile.NamedTemporaryFile("w", suffix=".toml") as settings:
            # The cache is wasmtime's own, which knows versions of itself and of the module. It has no setting but a file.
            settings.write(f'[cache]\ndirectory = "{_cache_directory()}"\n')
            settings.flush()
            config.cache = settings.name
        self.store = Store(Engine(config))
        self.store.set_wasi(wasi)
        self.module = Module.from_file(self.store.engine, str(get_wasm_path()))
        linker = Linker(self.store.engine)
        linker.define_wasi()
        self.instance = linker.instantiate(self.store, self.module)
        self.exports = self.instance.exports(self.store)
        self.exports["_initialize"](self.store)
        self.memory = self.exports["memory"]

    def write_bytes(self, ptr: int, data: bytes) -> None:
        ctypes.memmove(self._memory_address() + ptr, data, len(data))

    def read_bytes(self, ptr: int, size: int) -> bytes:
        return ctypes.string_at(self._memory_address() + ptr, size)

    def _memory_address(self) -> int:
        # Asked for at each call, since the memory may move when it grows.
        return ctypes.addressof(self.memory.data_ptr().contents)


def _cache_directory() -> Path:
    """Return the folder for compiled modules, absolute as wasmtime wants it: the user's cache, else one of this machine's temporary folder."""
    for base in (
        os.environ.get("GOOGLESQL_CACHE_DIR"),
        os.environ.get("XDG_CACHE_HOME"),
        os.environ.get("HOME") and f"{os.environ['HOME']}/.cache",
    ):
        if base and Path(base).is_absolute():
            folder = Path(base) / "googlesql"
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError:
                continue
            if os.access(folder, os.W_OK):
                return folder.resolve()
    folder = Path(tempfile.gettempdir()) / f"googlesql-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder.resolve()
