"""A real S3 endpoint over HTTP: moto's server in a process of its own, dummy credentials in the environment.

``object_storage`` is one endpoint a session, ``bucket`` one of a test's own; other processes get
``object_storage.environment``.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from upath import UPath

from moodscale.storage import location

SECRET = "canary-secret-3f9d1c7e5b"
"""In no output of any run, whatever happens."""
KEY_ID = "canary-key-id-8a41"

_SERVER = """
import logging, sys, threading
from moto.server import ThreadedMotoServer
logging.disable(logging.INFO)
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print("PORT", server.get_host_and_port()[1], flush=True)
sys.stdin.read()  # until whoever started this process is gone, however it ended
server.stop()
"""


@dataclass(frozen=True)
class ObjectStorage:
    """An endpoint that answers.

    Attributes:
        environment: what a process needs to reach it; nothing else is needed.
    """

    endpoint: str
    environment: dict[str, str]

    def new_bucket(self) -> UPath:
        bucket = f"test-{uuid.uuid4().hex[:12]}"
        place = location(f"s3://{bucket}")
        place.fs.mkdir(bucket)
        return place


@pytest.fixture(scope="session")
def object_storage() -> Iterator[ObjectStorage]:
    """The endpoint, with this process' environment set for as long as the session lasts."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    process = subprocess.Popen(
        [sys.executable, "-c", _SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        env=clean,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        match = re.match(rb"PORT (\d+)", process.stdout.readline())
        assert match is not None, "moto's server did not start"
        endpoint = f"http://127.0.0.1:{int(match[1])}"
        environment = {
            "AWS_ACCESS_KEY_ID": KEY_ID,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            # No file of the user's own has a say.
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }
        with pytest.MonkeyPatch.context() as patch:
            for name in [name for name in os.environ if name.startswith("AWS_")]:
                patch.delenv(name)
            for name, value in environment.items():
                patch.setenv(name, value)
            yield ObjectStorage(endpoint, environment)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)
        process.kill()
        process.wait(5)


@pytest.fixture
def bucket(object_storage: ObjectStorage) -> UPath:
    """An empty bucket of the test's own, as a place to put things under."""
    return object_storage.new_bucket()


def leaks(*directories: Path, words: tuple[str, ...] = (SECRET, KEY_ID)) -> list[str]:
    """Files below that hold a credential, in plain bytes."""
    return [
        f"{path}: {word}"
        for directory in directories
        for path in sorted(directory.rglob("*"))
        if path.is_file() and not path.is_symlink()
        for word in words
        if word.encode() in path.read_bytes()
    ]
