"""Objects in a bucket, each written on the condition that nobody else has done so meanwhile."""

from __future__ import annotations

import contextlib
import errno
import importlib.util
import os
import pathlib
from collections.abc import Generator
from typing import Any, Protocol

from jaxformer.files import patience

ABSENT = 0
"""The generation of an object that is not there."""

_ANSWER = 15.0
"""Seconds until a request that is not answered is sent again."""


class Changed(OSError):
    """Somebody else has written or removed the object."""


class Objects(Protocol):
    """The objects of a folder in a bucket, by their names within it.

    A generation is the number that an object has until it is written again. All methods raise
    OSError where the bucket cannot be reached or refuses.
    """

    def names(self) -> list[str]:
        """Returns the names of those directly in the folder."""
        ...

    def read(self, name: str) -> tuple[bytes, int] | None:
        """Returns content and generation; None if there is no such object."""
        ...

    def write(self, name: str, data: bytes, generation: int) -> int:
        """Writes an object that still has that generation; returns its new one.

        Raises: Changed if it has another.
        """
        ...

    def delete(self, name: str, generation: int) -> None:
        """Removes an object that still has that generation. Raises: Changed if it has another."""
        ...


class BucketObjects:
    """`Objects` of Google Cloud Storage."""

    def __init__(self, folder: str | os.PathLike[str], seconds: float | None = None) -> None:
        """Asks nothing of the bucket yet.

        Args:
          seconds: until a request, tried again and again, is given up; `patience()` without.

        Raises: ValueError if the extra gcs is not installed, or there are no credentials.
        """
        self._folder, self._seconds = os.fspath(folder), seconds
        name, _, self._prefix = self._folder.removeprefix("gs://").partition("/")
        self._bucket = _connect(self._folder).bucket(name)

    def check(self) -> None:
        """Finds what keeps the folder from being read.

        Raises: ValueError if there is no such bucket; OSError if the credentials do not permit it,
          or the bucket cannot be reached.
        """
        client = self._bucket.client
        found = client.list_blobs(
            self._bucket, prefix=self._prefix, max_results=1, **self._patience()
        )
        try:
            with self._told():
                next(iter(found), None)
        except FileNotFoundError as error:
            raise ValueError(
                f"{self._folder}: there is no bucket {self._bucket.name!r}. Make it, or correct "
                "the address."
            ) from error

    def names(self) -> list[str]:
        """Returns the names of those directly in the folder."""
        client = self._bucket.client
        with self._told():
            found = client.list_blobs(
                self._bucket, prefix=f"{self._prefix}/", delimiter="/", **self._patience()
            )
            return [pathlib.PurePosixPath(blob.name).name for blob in found]

    def read(self, name: str) -> tuple[bytes, int] | None:
        """Returns content and generation; None if there is no such object."""
        blob = self._blob(name)
        with contextlib.suppress(FileNotFoundError), self._told(name):
            data = blob.download_as_bytes(**self._patience())
            return data, int(blob.generation)
        return None

    def write(self, name: str, data: bytes, generation: int) -> int:
        """Writes an object that still has that generation; returns its new one."""
        blob = self._blob(name)
        try:
            with self._told(name):
                blob.upload_from_string(data, if_generation_match=generation, **self._patience())
        except Changed:
            # Perhaps by this very request, whose answer was lost on its way; only content tells.
            found = self.read(name) if data else None
            if found is None or found[0] != data:
                raise
            return found[1]
        return int(blob.generation)

    def delete(self, name: str, generation: int) -> None:
        """Removes an object that still has that generation, or is gone already."""
        try:
            with contextlib.suppress(FileNotFoundError), self._told(name):
                self._blob(name).delete(if_generation_match=generation, **self._patience())
        except Changed:
            if self.read(name) is not None:
                raise

    def _blob(self, name: str) -> Any:
        return self._bucket.blob(f"{self._prefix}/{name}")

    def _patience(self) -> dict[str, Any]:
        from google.cloud.storage.retry import DEFAULT_RETRY

        seconds = patience() if self._seconds is None else self._seconds
        return {"timeout": min(_ANSWER, seconds), "retry": DEFAULT_RETRY.with_timeout(seconds)}

    @contextlib.contextmanager
    def _told(self, name: str = "") -> Generator[None]:
        """Turns what Google's client raises into OSErrors that name the object."""
        from google.api_core import exceptions
        from google.auth.exceptions import GoogleAuthError

        path = f"{self._folder}/{name}" if name else self._folder
        try:
            yield
        except exceptions.NotFound as error:
            raise FileNotFoundError(errno.ENOENT, "No such object", path) from error
        except exceptions.PreconditionFailed as error:
            raise Changed(errno.ESTALE, "Another process has written it", path) from error
        except (exceptions.Forbidden, exceptions.Unauthorized) as error:
            told = f"These credentials do not permit it ({error.code}: {error.message})"
            raise PermissionError(errno.EACCES, told, path) from error
        except (exceptions.GoogleAPIError, GoogleAuthError, OSError) as error:
            # Where a request was tried again, what came of it stands in the cause.
            told = " ".join(str(error.__cause__ or error).split())
            raise OSError(errno.EIO, f"The bucket cannot be reached ({told})", path) from error


def _connect(folder: str) -> Any:
    if importlib.util.find_spec("gcsfs") is None:
        raise ValueError(
            f"{folder} lies in a bucket, which needs the packages gcsfs and google-cloud-storage, "
            "which are not installed. Install jaxformer[gcs]."
        )
    # Or the client asks in the background, again and again, for facts of the bucket that only its
    # traces need, and a right that a workdir does not.
    os.environ.setdefault("DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", "true")
    # Imported late: they take a second.
    from google.auth.exceptions import DefaultCredentialsError
    from google.cloud import storage

    try:
        # Without a project, which only the making of buckets needs.
        return storage.Client(project=None)
    except DefaultCredentialsError as error:
        raise ValueError(
            f"{folder}: there are no credentials for Google Cloud on this machine. Run `gcloud "
            "auth application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS."
        ) from error
