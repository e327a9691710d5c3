"""A store in a bucket of S3, or of any storage that speaks its protocol, through boto3."""

import os
import threading
import time
import uuid
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, BinaryIO, TypeVar

from pack.storage.local import temporary_file
from pack.storage.pins import Pins
from pack.storage.retry import Attempts, Retry, bounded, settle
from pack.storage.s3_client import connect, endpoint_of
from pack.storage.s3_errors import (
    PastEndError,
    PreconditionError,
    UnsupportedError,
    complete,
    explained,
    no_bucket,
    status_of,
)
from pack.storage.s3_read import REQUEST, ObjectReader, Version
from pack.storage.s3_write import Upload, creators
from pack.storage.trouble import (
    ends_early,
    refuse_secrets,
    replaced,
    taken,
    uncreated,
    unversioned,
    warn_once,
    whole,
)
from recon.base.errors import MissingError, UserError
from recon.base.walk import HIDDEN, Files, Leave, tell_nobody

T = TypeVar("T")

_RACES, _WRITERS = 4, 8  # try whether a store lets only one create an object; one race may miss it (Swift)

CREATES_ONCE: dict[tuple[str, str], bool] = {}
"""What `S3Store` found in this process, by endpoint and bucket: a trial takes 32 uploads."""
_TRYING = threading.Lock()


class _ReplacedError(Exception):
    """An object was replaced during a read that pins no version."""


class S3Store:
    """The objects below ``s3://BUCKET/PREFIX``."""

    def __init__(self, url: str, retry: Retry = Retry()) -> None:  # noqa: B008
        refuse_secrets(url)
        self.url = url.rstrip("/")
        self.bucket, _, self.prefix = url.removeprefix("s3://").strip("/").partition("/")
        if not self.bucket:
            raise UserError(f"expected s3://BUCKET/PREFIX, found {url}")
        self.retry = retry
        self._client = connect(self.url, retry)
        self._endpoint = endpoint_of(self._client)
        self._bucket_seen = False
        self._pins: Pins[Version] = Pins()

    def _target(self, name: str) -> dict[str, str]:
        return {"Bucket": self.bucket, "Key": f"{self.prefix}/{name}" if self.prefix else name}

    def _explain(self, name: str) -> Callable[[Exception], Exception]:
        return lambda error: explained(error, f"{self.url}/{name}".rstrip("/"), self._endpoint)

    def _ask(self, call: Callable[[], T], name: str, verb: str = "read") -> T:
        return Attempts(self.retry).run(
            lambda limit_s: bounded(call, limit_s, self._explain(name)),
            f"can't {verb} {self.url}/{name}".rstrip("/"),
        )

    def exists(self, name: str) -> bool:
        """See `Store.exists`."""
        try:
            self.size(name)
        except MissingError:
            return False
        return True

    def size(self, name: str) -> int:
        """See `Store.size`."""
        try:
            return int(self._ask(lambda: self._head(name)["ContentLength"], name))
        except MissingError:
            self._check_bucket()
            raise

    def _head(self, name: str) -> Any:
        try:
            return self._client.head_object(**self._target(name))
        except Exception as error:
            if status_of(error) not in (400, 403):
                raise
        # An answer to HEAD has no body, which would tell wrong or expired keys, a wrong clock or region and
        # no permission apart. The error of a GET tells the cause.
        self._client.get_object(**self._target(name), Range="bytes=0-0")["Body"].close()
        return self._client.head_object(**self._target(name))

    def _check_bucket(self) -> None:
        """Raises the error of a missing bucket; an object's HEAD answers 404 to that, too."""
        if self._bucket_seen:
            return
        try:
            self._ask(lambda: self._client.head_bucket(Bucket=self.bucket), "")
        except MissingError:
            raise no_bucket(self.url, self._endpoint) from None
        except UserError:
            pass  # without permission to ask, leave it at the missing object
        self._bucket_seen = True  # one such request per store is enough

    def names(self) -> list[str]:
        """See `Store.names`."""
        return sorted(self.times())

    def times(self) -> dict[str, float | None]:
        """See `Store.times`."""
        return {name: entry["LastModified"].timestamp() for name, entry in self._listed(Delimiter="/")}

    def walk(self, links: Container[str] = (), leave: Leave = tell_nobody) -> Files:  # noqa: ARG002  # no links
        """See `Store.walk`; one request lists 1,000 keys."""
        for name, entry in self._listed():
            if "/." in f"/{name}":
                leave(HIDDEN, name)
            else:
                yield name, int(entry["Size"])

    def _listed(self, **options: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yields name and facts of all objects below the prefix, except those that stand for folders."""
        prefix = f"{self.prefix}/".lstrip("/")
        ask = partial(self._client.list_objects_v2, Bucket=self.bucket, Prefix=prefix, **options)
        page: dict[str, Any] = {}
        while not page or page["IsTruncated"]:
            token = {"ContinuationToken": page["NextContinuationToken"]} if page else {}
            page = self._ask(partial(complete, "IsTruncated", partial(ask, **token)), "", "list")
            for entry in page.get("Contents", []):
                name = entry["Key"].removeprefix(prefix)
                if name and not name.endswith("/"):
                    yield name, entry

    def read(self, name: str, start: int = 0, *, until: float | None = None) -> bytes:
        """See `Store.read`."""
        return self._read_current(name, start, None, until)

    def head(self, name: str, length: int) -> bytes:
        """See `Store.head`."""
        return self._read_current(name, 0, length)

    def _read_current(self, name: str, start: int, end: int | None, until: float | None = None) -> bytes:
        for _ in range(self.retry.attempts):
            with suppress(_ReplacedError):  # then start again: parts of two versions make no object
                return self._read_unpinned(name, start, end, until)
        raise replaced(f"{self.url}/{name}")

    def read_range(self, name: str, start: int, length: int, *, until: float | None = None) -> memoryview:
        """See `Store.read_range`."""
        if not length:  # HTTP has no range of zero bytes
            return memoryview(b"")
        where = f"{self.url}/{name}"
        pinned = self._pins.get(name)
        if pinned and pinned.total < start + length:
            raise ends_early(where, start, length, max(0, pinned.total - start))
        attempts = Attempts(self.retry, until=until)
        reader = self._reader(name, start, pinned, partial(self._pin, name))
        try:
            data = reader.fetch(start + length, lambda: attempts)
        except PastEndError:  # nothing was pinned yet, so the size is unknown
            raise ends_early(where, start, length, max(0, self.size(name) - start)) from None
        except PreconditionError:
            raise replaced(where) from None
        return whole(data, where, start, length)

    def _pin(self, name: str, version: Version) -> None:
        if not version.etag:
            warn_once(unversioned(f"{self._endpoint} gives no ETag", version.modified))
        self._pins.check(name, version, f"{self.url}/{name}")

    def _read_unpinned(self, name: str, start: int, end: int | None, until: float | None = None) -> bytes:
        def accept(version: Version) -> None:
            if reader.version not in (None, version):
                raise _ReplacedError

        reader = self._reader(name, start, None, accept)
        try:
            return bytes(reader.fetch(end, lambda: Attempts(self.retry, until=until)))
        except PastEndError:
            return b""  # also the answer for an empty object, because a range has at least one byte
        except PreconditionError:
            raise _ReplacedError from None

    def _reader(
        self, name: str, start: int, version: Version | None, pin: Callable[[Version], None]
    ) -> ObjectReader:
        get = partial(self._client.get_object, **self._target(name))
        return ObjectReader(get, self._explain(name), f"{self.url}/{name}", start, version, pin)

    @contextmanager
    def publish(self, name: str, *, create: bool = False) -> Iterator[BinaryIO]:
        """See `Store.publish`: the file is written to a local temporary file, then uploaded."""
        with temporary_file() as file:
            yield file
            file.flush()
            self._upload(name, file.fileno(), create)

    def _upload(self, name: str, file: int, create: bool) -> None:
        where = f"{self.url}/{name}"
        guarded = create and self._creates_once  # first: it takes time, in which others could write
        looked = time.monotonic()
        # This check may save an upload. If another process creates the object after it, S3 itself refuses;
        # stores that don't are found out by `_creates_once`.
        if create and self.exists(name):
            if not self._holds(name, file):
                raise taken(where)
            return
        try:
            self._send(name, file, create)
        except (PreconditionError, MissingError) as error:
            # An earlier attempt may have published the object, although its answer was lost. This attempt
            # then finds that the name is taken, or that the multipart upload no longer exists.
            if not self._holds(name, file):
                raise taken(where) if isinstance(error, PreconditionError) else error from None
        self._pins.forget(name)
        if create:
            if not guarded:
                settle(looked)
            if not self._holds(name, file) and self.exists(name):  # it may have been removed, as a claim is
                raise taken(where)

    def _uploader(self, name: str, create: bool) -> Upload:
        where = f"{self.url}/{name}"
        return Upload(self._client, self._target(name), self._explain(name), where, self.retry, create)

    def _send(self, name: str, file: int, create: bool) -> None:
        try:
            self._uploader(name, create).send(file)
        except UnsupportedError:
            if not create:
                raise
            # The store knows no conditions. `_upload` has just seen that the name is free, and looks again.
            self._send(name, file, False)

    @property
    def _creates_once(self) -> bool:
        """Whether the store lets only one of several writers create an object: tried once for each bucket."""
        place = self._endpoint, self.bucket
        with _TRYING:
            if place not in CREATES_ONCE:
                try:
                    CREATES_ONCE[place] = self._try_creating()
                except UserError:
                    return True  # the object that is to be created will meet the same trouble, and tell it
            return CREATES_ONCE[place]

    def _try_creating(self) -> bool:
        """Lets several writers create an object; warns if more than one did."""
        for _ in range(_RACES):
            won = self._race()
            if won > 1:
                how = "ignores If-None-Match" if won == _WRITERS else "does not keep to If-None-Match"
                found = f"{how} ({won} of {_WRITERS} writers at once created one object)"
                warn_once(uncreated(self.url, found))
                return False
        return True

    def _race(self) -> int:
        name = f".try-{uuid.uuid4().hex}"
        try:
            return creators(self._uploader(name, create=True), _WRITERS)
        finally:
            with suppress(UserError):
                self.remove(name)

    def _holds(self, name: str, file: int) -> bool:
        """Whether the object's bytes are those of the open file."""
        try:
            size = self.size(name)
            if size != os.fstat(file).st_size:
                return False
            return all(
                self._read_piece(name, start, size) == os.pread(file, REQUEST, start)
                for start in range(0, size, REQUEST)
            )
        except MissingError:
            return False

    def _read_piece(self, name: str, start: int, size: int) -> memoryview:
        reader = self._reader(name, start, None, lambda _: None)
        return reader.fetch(min(start + REQUEST, size), lambda: Attempts(self.retry))

    def remove(self, name: str) -> None:
        """See `Store.remove`."""
        self._ask(lambda: self._client.delete_object(**self._target(name)), name, "remove")
        self._pins.forget(name)
