"""The files of a state directory: how a new state takes the place of the last one, whatever process is killed meanwhile.

A state directory has a file or a folder for each part of the graph, and sometimes these:

- `staging-*`: what one refresh has read and not published yet. It is removed at the end, or by the next refresh.
- `publishing`: the states that are being put in place. It appears whole, by one rename, and from then on they are published:
  whoever finds it, after a crash too, moves them in place.
- `rejected`: for each part the last state that the code location did not load with, and its error.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager, suppress
from pathlib import Path

STAGING, PUBLISHING, REJECTED = "staging-", "publishing", "rejected"
ERROR_SUFFIX = ".error.txt"
LOCK_SECONDS = 900
"""How long a refresh waits for another one that publishes: a proof of several states, and a bucket that does not answer."""
LOCK_INTERVAL_SECONDS = 0.2


class StateLocked(TimeoutError):
    """Another process is publishing states in the same directory, and has not ended in time."""


def put_in_place(new: Path, path: Path, aside: Path | None = None) -> None:
    """Replace a file, or the files of a folder, by new ones of the same file system. Each file is replaced whole.

    The files of a folder that have no new one stay. What cannot be replaced, as a folder where a file belongs, is moved to `aside`,
    which is `rejected` next to `path` by default. Where `new` is not there, another process has put it in place already.
    """
    aside = aside or path.with_name(REJECTED)
    try:
        is_folder = stat.S_ISDIR(new.stat().st_mode)
    except FileNotFoundError:
        return
    if os.path.lexists(path) and path.is_dir() is not is_folder:
        aside.mkdir(exist_ok=True)
        remove(aside / f"{path.name}.replaced")
        os.replace(path, aside / f"{path.name}.replaced")
    with suppress(FileNotFoundError):  # another process has finished the same publication
        if not is_folder:
            os.replace(new, path)
            return
        path.mkdir(exist_ok=True)
        for name in sorted(os.listdir(new), key=lambda name: (name.endswith(".json"), name)):
            # The manifest is last: what dbt keeps of a parse goes with the manifest before it as well.
            put_in_place(new / name, path / name, aside)
        with suppress(OSError):
            new.rmdir()


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def open_staging(state: Path) -> Generator[Path]:
    """Yield an empty folder in a state directory, on its file system, until the end of the block.

    Folders that processes which were killed have left are removed.
    """
    state.mkdir(parents=True, exist_ok=True)
    for left in state.glob(f"{STAGING}*"):
        _remove_unused(left)
    folder = Path(tempfile.mkdtemp(dir=state, prefix=STAGING))
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)  # until the process ends, however it does
        yield folder
    finally:
        os.close(handle)
        shutil.rmtree(folder, ignore_errors=True)


def _remove_unused(folder: Path) -> None:
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # A refresh that has made its folder in this moment has not locked it yet.
        if time.time() - folder.stat().st_mtime > 60:
            shutil.rmtree(folder, ignore_errors=True)
    except OSError:
        return
    finally:
        os.close(handle)


@contextmanager
def lock(state: Path, seconds: float = LOCK_SECONDS, wait: Callable[[], None] = lambda: None) -> Generator[None]:
    """Let one process at a time publish in a state directory. `wait` is called once if another one does so now.

    Raises StateLocked after `seconds`. The lock ends with the process, so that none is left behind.
    """
    handle = os.open(state, os.O_RDONLY)
    until, waited = time.monotonic() + seconds, False
    try:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    raise StateLocked(
                        f"another refresh has been publishing in {state} for {seconds:.0f} s; nothing was replaced"
                    ) from None
                if not waited:
                    wait()
                waited = True
                time.sleep(LOCK_INTERVAL_SECONDS)
        yield
    finally:
        os.close(handle)


def publish_files(state: Path, staging: Path, paths: Iterable[Path]) -> None:
    """Put states in place, all or none: after a crash at any moment either none is published, or all are once the next process looks.

    Call it with the lock of the directory. `paths` are in `staging`, and named like the states in place.
    """
    finish_publication(state)
    folder = staging / PUBLISHING
    folder.mkdir()
    for path in paths:
        _flush(path)
        os.replace(path, folder / path.name)
    os.rename(folder, state / PUBLISHING)  # from here on they are published
    finish_publication(state)


def finish_publication(state: Path) -> None:
    """Move the states in place that a publication has left in `publishing`. Any process may call it, at any moment."""
    folder = state / PUBLISHING
    try:
        names = sorted(os.listdir(folder))
    except FileNotFoundError:
        return
    for name in names:
        put_in_place(folder / name, state / name)
    with suppress(OSError):  # another process is here too
        folder.rmdir()


def set_aside(state: Path, path: Path, error: str) -> Path:
    """Move a state that is not published to `rejected`, in place of the one before it, with its error. Return where it is."""
    folder = state / REJECTED
    folder.mkdir(exist_ok=True)
    kept = folder / path.name
    remove(kept)
    os.replace(path, kept)
    kept.with_name(kept.name + ERROR_SUFFIX).write_text(error.rstrip() + "\n", encoding="utf-8")
    return kept


def forget_rejected(state: Path, name: str) -> None:
    """Remove the rejected state of a part, which has a newer one in place."""
    kept = state / REJECTED / name
    remove(kept)
    kept.with_name(name + ERROR_SUFFIX).unlink(missing_ok=True)
    with suppress(OSError):
        kept.parent.rmdir()


def _flush(path: Path) -> None:
    """Have the disk keep a file's content before its name, or a power failure could leave an empty file."""
    for file in path.iterdir() if path.is_dir() else [path]:
        handle = os.open(file, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
