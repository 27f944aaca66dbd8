"""Recognize failures of Dagster itself, by the classes of the errors that its daemon and its run workers store. Pure.

The database: the class of the error is that of a database, and a frame of the same error's stack is in Dagster's storage. A step, a
sensor or a module of a team that uses a database of its own has no such frame.

The code location: the class is Dagster's, and no code of a team raised it. Dagster marks what came from such code in two ways:

- it wraps an exception of an evaluation, an op or a resource into a subclass of DagsterUserCodeExecutionError
  (dagster/_core/errors.py, `user_code_error_boundary`), except one that is a DagsterError itself;
- an error of a code server has a frame of dagster/_grpc/impl.py in its stack, which the daemon's own errors do not have.

Errors of steps are not given to this module at all: a step that a component reports has the component's own cause.
"""

from __future__ import annotations

from collections.abc import Iterator

from dagster._core import errors
from dagster_shared.error import SerializableErrorInfo

from orchestration.core.causes import Cause

USER_CODE = {
    name
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, errors.DagsterUserCodeExecutionError)
} | {"DagsterRedactedUserCodeError"}
CODE_SERVER = ("/dagster/_grpc/impl.py",)
STORAGE = ("/dagster/_core/storage/", "/dagster_postgres/")
NO_CODE_LOCATION = {
    "DagsterUserCodeUnreachableError",
    "DagsterCodeLocationLoadError",
    "DagsterCodeLocationNotFoundError",
}
TOO_SLOW = "StatusCode.DEADLINE_EXCEEDED"
"""gRPC's status of one evaluation that took too long, for which Dagster has the same class (dagster/_grpc/client.py,
`_raise_grpc_exception`): the code location is there."""
NO_STORAGE = {
    "psycopg2.InterfaceError",
    "psycopg2.OperationalError",
    "sqlalchemy.exc.InterfaceError",
    "sqlalchemy.exc.OperationalError",
    "sqlalchemy.exc.TimeoutError",
    "sqlite3.OperationalError",
    "dagster_postgres.utils.DagsterPostgresException",
}
"""Classes with their modules, as Python's traceback names them at the beginning of an error's message."""


def dagster_cause(error: SerializableErrorInfo | None) -> Cause | None:
    """Return what is wrong with Dagster by an error of a tick or a backfill, or of a run in which no step failed; None for other errors."""
    chain = list(_walk_chain(error))
    if any(_is_of_storage(one) for one in chain):
        return "dagster-storage"
    if any(one.cls_name in USER_CODE or _has_frame(one, CODE_SERVER) for one in chain):
        return None
    unreachable = any(one.cls_name in NO_CODE_LOCATION for one in chain)
    if unreachable and not any(one.cls_name not in NO_CODE_LOCATION and TOO_SLOW in one.message for one in chain):
        return "code-location"
    return None


def _is_of_storage(error: SerializableErrorInfo) -> bool:
    return error.message.partition(":")[0].strip() in NO_STORAGE and _has_frame(error, STORAGE)


def _has_frame(error: SerializableErrorInfo, files: tuple[str, ...]) -> bool:
    # A frame is `  File "…/dagster/_grpc/impl.py", line 401, in …`, with the line of code below it.
    return any(file in frame.partition(", line ")[0] for frame in error.stack for file in files)


def _walk_chain(error: SerializableErrorInfo | None) -> Iterator[SerializableErrorInfo]:
    """Yield an error and what caused it, down to the root."""
    while error is not None:
        yield error
        error = error.cause
