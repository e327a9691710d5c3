"""Images behind http(s): read whole, from servers with ranges and without."""

import functools
import http.server
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import photograph, save
from served import served

from pack.base.config import PackConfig
from pack.base.items import store_of
from pack.sources import find_items, read_size
from pack.storage import Retry, open_store
from recon.base.errors import MissingError, UserError

pytest.importorskip("aiohttp", reason="the extra http is not installed")


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves a folder, and sends whole files whatever range is asked for."""

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "site").mkdir()
    handler = functools.partial(Quiet, directory=str(tmp_path / "site"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    store_of.cache_clear()
    with served(server):
        yield f"http://127.0.0.1:{server.server_address[1]}"
    store_of.cache_clear()


def test_images_that_a_table_names_by_url_are_read_whole(url: str, tmp_path: Path) -> None:
    save(tmp_path / "site/cats/a.png", photograph(200, 200, 0))
    table = tmp_path / "photos.csv"
    table.write_text(f"url\n{url}/cats/a.png\n")
    [item] = find_items(PackConfig(source=str(table), out="unused", autoencoder="identity"))[None]
    data = (tmp_path / "site/cats/a.png").read_bytes()
    assert len(data) > 65536
    assert item.real.read() == data
    assert read_size(item.real, 1 << 24) == (200, 200)


def test_table_behind_http_names_images_beside_it(url: str, tmp_path: Path) -> None:
    save(tmp_path / "site/cats/a.png", photograph(8, 8, 0))
    (tmp_path / "site/photos.csv").write_text("path\ncats/a.png\n")
    config = PackConfig(source=f"{url}/photos.csv", out="unused", autoencoder="identity")
    assert [item.path for item in find_items(config)[None]] == ["cats/a.png"]


def test_server_without_ranges_is_told_of_and_what_is_missing_too(url: str, tmp_path: Path) -> None:
    (tmp_path / "site/a.tar").write_bytes(bytes(1000))
    store = open_store(url, Retry(deadline_s=20, attempts=2))
    with pytest.raises(UserError, match=r"a\.tar: asked for a part, its server sends the whole object"):
        store.read_range("a.tar", 10, 100)
    with pytest.raises(MissingError, match=r"none\.tar not found"):
        store.read("none.tar")
    assert not store.exists("none.tar")
