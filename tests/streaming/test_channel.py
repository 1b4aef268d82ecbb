"""The bounded queue between two threads."""

import threading
import time

import pytest

from flowact.streaming.channel import Channel, ClosedError


def test_items_come_in_order_and_closing_ends_the_iteration():
    channel = Channel(capacity=3)
    for item in range(3):
        channel.put(item)
    channel.close()
    assert list(channel) == [0, 1, 2]


def test_a_full_channel_holds_the_producer_back():
    channel, made = Channel(capacity=2), []

    def produce():
        for item in range(6):
            channel.put(item)
            made.append(item)
        channel.close()

    producer = threading.Thread(target=produce)
    producer.start()
    deadline = time.monotonic() + 10
    while len(made) < 2 and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(0.05)  # time in which an unbounded producer would have finished
    assert made == [0, 1]
    assert list(channel) == list(range(6))
    producer.join()


def test_cancel_drops_what_is_in_flight_and_frees_both_sides():
    channel, ended = Channel(capacity=1), []

    def produce():
        try:
            while True:
                channel.put(0)
        except ClosedError:
            ended.append(True)

    producer = threading.Thread(target=produce)
    producer.start()
    next(iter(channel))
    channel.cancel()
    producer.join(timeout=10)
    assert ended == [True]
    assert list(channel) == []


def test_a_closed_channel_takes_nothing():
    channel = Channel(capacity=1)
    channel.close()
    with pytest.raises(ClosedError):
        channel.put(0)
