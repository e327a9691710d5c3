"""What the tests of S3 store: the bytes of an object, and a way to publish them."""

import numpy as np

from pack.storage import Retry, Store

SIZE = 300_000
DATA = np.random.default_rng(0).bytes(SIZE)
QUICK = Retry(deadline_s=60.0, attempts=2)


def put(store: Store, name: str, data: bytes = DATA, **options: bool) -> None:
    with store.publish(name, **options) as file:
        file.write(data)
