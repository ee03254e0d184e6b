"""Waiting for something that may never end."""

import threading

import pytest

from registry.patience import wait_for
from resunet.errors import StoreError


def test_an_answer_comes_back() -> None:
    assert wait_for(60, lambda: 7) == 7


def test_an_error_comes_back_as_it_was_raised() -> None:
    error = StoreError("the store is away")

    def ask() -> None:
        raise error

    with pytest.raises(StoreError) as raised:
        wait_for(60, ask)
    assert raised.value is error


def test_what_does_not_end_is_left_alone() -> None:
    ended = threading.Event()
    with pytest.raises(TimeoutError):
        wait_for(0.01, lambda: ended.wait(60))
    ended.set()
