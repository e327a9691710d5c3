"""Uploads a file to S3: all of it or nothing, with checksums, each request retried."""

import base64
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from isal.isal_zlib import crc32

from pack.storage.local import temporary_file
from pack.storage.retry import Attempts, Retry, bounded
from pack.storage.s3_errors import PreconditionError, RefusedError, UnsupportedError, complete

T = TypeVar("T")

PART = 16 << 20  # bytes
_MOST_PARTS = 10_000  # of one upload: the limit of S3
_PIECE = 1 << 20  # bytes read at once for a checksum
_PARALLEL = 4  # parts sent at the same time


class Upload:
    """Sends an open file to one key.

    Args:
        client: of boto3.
        target: ``Bucket`` and ``Key``.
        explain: translates the client's exceptions into ours.
        where: URL of the object.
        retry: limits of a small request; a request that carries data gets more time, by its size.
        create: refuse to replace an object.
    """

    def __init__(
        self,
        client: Any,
        target: dict[str, str],
        explain: Callable[[Exception], Exception],
        where: str,
        retry: Retry,
        create: bool,
    ) -> None:
        self._client, self._target, self._explain = client, target, explain
        self._where, self._retry = where, retry
        self._condition = {"IfNoneMatch": "*"} if create else {}
        # AWS_REQUEST_CHECKSUM_CALCULATION=when_required is for stores that refuse these checksums.
        self._checked = client.meta.config.request_checksum_calculation != "when_required"

    def send(self, file: int) -> None:
        """Uploads the file with this descriptor, in parts if it is large.

        Raises:
            UserError: storage refused or did not answer; nothing was published.
            PreconditionError: `create` is set and the object exists.
        """
        size = os.fstat(file).st_size
        if size > PART:
            self._send_parts(file, size)
            return
        data = os.pread(file, size, 0)
        self._ask(
            lambda: self._client.put_object(
                **self._target, Body=data, **self._condition, **self._checksum(crc32(data))
            ),
            size,
        )

    def _send_parts(self, file: int, size: int) -> None:
        kind = {"ChecksumAlgorithm": "CRC32", "ChecksumType": "FULL_OBJECT"} if self._checked else {}
        start = partial(self._client.create_multipart_upload, **self._target, **kind)
        upload = self._ask(lambda: complete("UploadId", start))["UploadId"]
        # Parts above 16 MiB only if there would be more than 10,000 of them.
        part = max(PART, -(-size // _MOST_PARTS))
        try:
            with ThreadPoolExecutor(_PARALLEL) as pool:
                starts = range(0, size, part)
                parts = list(pool.map(lambda start: self._send_part(file, upload, start, part), starts))
            finish = partial(
                self._client.complete_multipart_upload,
                **self._target,
                UploadId=upload,
                MultipartUpload={"Parts": parts},
                **self._condition,
                **self._checksum(_crc32(file), ChecksumType="FULL_OBJECT"),
            )
            self._ask(lambda: complete("ETag", finish))
            self._abort_others()
        except BaseException:  # Ctrl-C too
            self._abort(upload)
            raise

    def _send_part(self, file: int, upload: str, start: int, length: int) -> dict[str, Any]:
        data, number = os.pread(file, length, start), start // length + 1
        checksum = self._checksum(crc32(data))
        sent = self._ask(
            lambda: self._client.upload_part(
                **self._target, UploadId=upload, PartNumber=number, Body=data, **checksum
            ),
            len(data),
        )
        return {"PartNumber": number, "ETag": sent["ETag"], **checksum}

    def _abort(self, upload: str) -> None:
        """Deletes the uploaded parts, if storage lets us: nobody sees them, but they cost money."""
        with suppress(Exception):
            abort = partial(self._client.abort_multipart_upload, **self._target, UploadId=upload)
            bounded(abort, self._retry.silence_s, self._explain)

    def _abort_others(self) -> None:
        """Removes the parts of unfinished uploads of this key, which killed processes left.

        It comes after our own upload: a process that is still uploading then finds the object and compares.
        """
        with suppress(Exception):  # not every store can list uploads
            key, ask = self._target["Key"], self._client.list_multipart_uploads
            found = bounded(partial(ask, Bucket=self._target["Bucket"], Prefix=key), self._retry.silence_s)
            for one in found.get("Uploads", []):
                if one["Key"] == key:
                    self._abort(one["UploadId"])

    def _checksum(self, crc: int, **more: str) -> dict[str, str]:
        """Parameters with which storage checks the data; none if the AWS variable forbids them."""
        return (
            {"ChecksumCRC32": base64.b64encode(crc.to_bytes(4, "big")).decode(), **more}
            if self._checked
            else {}
        )

    def _ask(self, call: Callable[[], T], size: int = 0) -> T:
        # share=1: an upload can't go on where it stopped, so one attempt may take all the time.
        return Attempts(self._retry.for_bytes(size), share=1).run(
            lambda limit_s: bounded(call, limit_s, self._hinted), f"can't write {self._where}"
        )

    def _hinted(self, error: Exception) -> Exception:
        """Names the cure for a store that refuses checksums, which no answer of such a store does."""
        found = self._explain(error)
        if not (self._checked and isinstance(found, RefusedError)):
            return found
        return type(found)(
            f"{found}; for a store that refuses checksums set AWS_REQUEST_CHECKSUM_CALCULATION=when_required"
        )


def creators(upload: Upload, writers: int) -> int:
    """How many of several writers that send an object at once, with `create` set, believe that it is theirs.

    Raises:
        UserError: storage refused or did not answer.
    """

    def creates(file: int) -> bool:
        try:
            upload.send(file)
        except PreconditionError:
            return False
        except UnsupportedError:  # where no condition can be set, a writer can only do without
            pass
        return True

    with temporary_file() as file, ThreadPoolExecutor(writers) as pool:
        file.write(b"written by pairstream to try this store; may be removed")
        file.flush()
        return sum(pool.map(creates, [file.fileno()] * writers))


def _crc32(file: int) -> int:
    crc, start = 0, 0
    while data := os.pread(file, _PIECE, start):
        crc, start = crc32(data, crc), start + len(data)
    return crc
