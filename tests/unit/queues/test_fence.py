"""No vendor error passes the fence: every class of the AMQP library has its fault, on both sides."""

from __future__ import annotations

import inspect

import pamqp.exceptions
import pytest
from aiormq import exceptions as vendor

from queues import errors
from queues.fence import queue_error
from sandpool.amqp import client_error
from sandpool.errors import BrokerUnavailable, SandpoolError, UsageError
from sandpool.fault import VENDOR_ERRORS, Fault, Kind, fault_of

CLASSES = [
    cls
    for module in (vendor, pamqp.exceptions)
    for _, cls in inspect.getmembers(module, inspect.isclass)
    if issubclass(cls, BaseException) and cls.__module__.startswith(("aiormq", "pamqp"))
]
OTHERS = [OSError("x"), ConnectionResetError(), TimeoutError(), RuntimeError("channel closed")]


def made(cls: type[BaseException]) -> BaseException:
    """An instance, whatever its constructor demands."""
    error = cls.__new__(cls)
    error.args = ("first", "second", "third")
    return error


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: f"{cls.__module__}.{cls.__name__}")
def test_every_vendor_class_is_caught_and_becomes_ours(cls: type[BaseException]) -> None:
    error = made(cls)
    assert isinstance(error, VENDOR_ERRORS)
    fault = fault_of(error)
    assert isinstance(queue_error(fault, "e", "k"), errors.QueueError)
    assert isinstance(client_error(fault, "acme"), SandpoolError)


@pytest.mark.parametrize("error", OTHERS, ids=repr)
def test_trouble_of_the_connection_may_be_tried_again(error: BaseException) -> None:
    assert isinstance(error, VENDOR_ERRORS)
    fault = fault_of(error)
    assert fault.text
    assert queue_error(fault).retry
    assert client_error(fault, "acme").retry


@pytest.mark.parametrize(
    ("error", "ours", "clients"),
    [
        (made(vendor.PublishError), errors.Unroutable, UsageError),
        (made(vendor.DeliveryError), errors.NotConfirmed, BrokerUnavailable),
        (vendor.ChannelAccessRefused("no"), errors.AccessRefused, UsageError),
        (vendor.ProbableAuthenticationError("no"), errors.AccessRefused, UsageError),
        (vendor.ChannelPreconditionFailed("args"), errors.TopologyMismatch, UsageError),
        (vendor.ChannelNotFoundEntity("no exchange"), errors.BrokerAway, BrokerUnavailable),
        (vendor.ConnectionClosed(320, "shutdown"), errors.BrokerAway, BrokerUnavailable),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_each_fault_says_whether_to_try_again(
    error: BaseException, ours: type[errors.QueueError], clients: type[SandpoolError]
) -> None:
    fault = fault_of(error)
    assert type(queue_error(fault, "e", "k")) is ours
    assert type(client_error(fault, "acme")) is clients
    assert ours.retry == clients.retry


def test_a_broker_that_fails_inside_says_what_to_do_if_it_stays_so() -> None:
    fault = fault_of(vendor.ConnectionInternalError("INTERNAL_ERROR"))
    assert fault.kind is Kind.AWAY
    assert "restart its node" in str(queue_error(fault))


def test_a_broker_without_queues_sends_its_caller_to_the_cluster_that_declares_them() -> None:
    assert "sandpool up" in str(client_error(fault_of(vendor.ChannelNotFoundEntity("no exchange")), "acme"))


def test_a_mismatch_says_what_to_do() -> None:
    assert "delete it" in str(queue_error(Fault(Kind.MISMATCH, "inequivalent arg")))
