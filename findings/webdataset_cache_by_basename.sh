#!/usr/bin/env bash
# webdataset 1.0.2 keeps cached shards under the last part of their URL: two datasets share one 000.tar.
#
# What is run: two folders, served over http, hold a 000.tar each with one sample; both are read with one cache_dir.
# Expected: [b'first'] and [b'second']. Seen: the second dataset yields the first one's sample, without an error
# or a warning. (cache.url_to_cache_name takes the last part of the path; its ndir is 0 unless url_to_name is given.)
# Matters to whoever trains on several datasets whose shards are numbered alike, with a cache on local disk.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check webdataset==1.0.2
cd "$work"
"$work/venv/bin/python" - <<'PY'
import io
import os
import tarfile
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import webdataset as wds


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def write(folder, text):
    os.makedirs(folder)
    with tarfile.open(f"{folder}/000.tar", "w") as tar:
        info = tarfile.TarInfo("sample.txt")
        info.size = len(text)
        tar.addfile(info, io.BytesIO(text))


def read(folder):
    url = f"http://127.0.0.1:{server.server_port}/{folder}/000.tar"
    return [sample["txt"] for sample in wds.WebDataset(url, shardshuffle=False, cache_dir="cache")]


write("one", b"first")
write("two", b"second")
os.makedirs("cache")
server = ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
threading.Thread(target=server.serve_forever, daemon=True).start()
one, two = read("one"), read("two")
server.shutdown()
print(f"one: {one}; two: {two}; cache: {os.listdir('cache')}")
assert one == [b"first"]
assert two == [b"first"], "the second dataset is read as it is: the behaviour has changed"
PY
# Output seen:
# one: [b'first']; two: [b'first']; cache: ['000.tar']
