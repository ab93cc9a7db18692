"""The error tree is as drawn, and says what to repeat. `sandpool.errors`."""

from __future__ import annotations

import inspect

import pytest

from sandpool import errors

CLASSES = [cls for _, cls in inspect.getmembers(errors, inspect.isclass) if issubclass(cls, errors.SandpoolError)]


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_error_is_drawn_in_the_tree(cls: type[errors.SandpoolError]) -> None:
    assert errors.__doc__ is not None
    assert cls.__name__ in errors.__doc__


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_only_what_is_away_for_now_may_be_repeated(cls: type[errors.SandpoolError]) -> None:
    assert cls.retry == issubclass(cls, errors.Unavailable)
