"""The end of a control process is noticed, and an interruption shorter than the patience is not."""

import socket
import threading

import pytest

from coablate_platform.lanes.control import watched


@pytest.fixture
def listening():
    """A port of this machine at which somebody answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def test_the_end_of_what_listened_is_noticed(listening):
    ended = threading.Event()
    with watched(f"127.0.0.1:{listening.getsockname()[1]}", patience=0.5, on_end=ended.set):
        assert not ended.wait(2.5)
        listening.close()
        assert ended.wait(10)


def test_a_pause_within_the_patience_and_the_end_of_the_block_are_none(listening):
    ended = threading.Event()
    port = listening.getsockname()[1]
    with watched(f"127.0.0.1:{port}", patience=30, on_end=ended.set):
        listening.close()
        assert not ended.wait(2.5)
    assert not ended.wait(1.5)
