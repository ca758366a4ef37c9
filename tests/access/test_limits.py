"""How much anybody may ask for: counted where it has to be, given back in time, in bounded memory."""

import pytest

from sync_core.problems import TooManyRequests, Unavailable
from sync_server.access.limits import Limits, Rate, address_key
from sync_server.access_sections import LimitsSection


class Time:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def limits(time: Time | None = None, *, workers: int = 1, **section: object) -> Limits:
    return Limits(LimitsSection.model_validate(section), workers=workers, now=time or Time())


def test_what_is_beyond_the_rate_is_refused_until_its_time_is_over() -> None:
    time = Time()
    limited = limits(time, publishes="3/minute")
    for _ in range(3):
        limited.count_principal(Rate.PUBLISHES, "default/ann")
    time.now_s += 20.5
    with pytest.raises(TooManyRequests) as caught:
        limited.count_principal(Rate.PUBLISHES, "default/ann")
    assert caught.value.retry_after_s == 40
    time.now_s += caught.value.retry_after_s
    limited.count_principal(Rate.PUBLISHES, "default/ann")


def test_principals_addresses_and_rates_are_counted_apart() -> None:
    limited = limits(publishes="1/minute", commands="1/minute")
    for rate in (Rate.PUBLISHES, Rate.COMMANDS):
        for who in ("ann", "bob"):
            limited.count_principal(rate, who)
            limited.count_address(rate, who)
            with pytest.raises(TooManyRequests):
                limited.count_principal(rate, who)


def test_bytes_are_counted_by_their_number() -> None:
    limited = limits(bytes_per_minute=2048)
    limited.count_address(Rate.BYTES, "a", cost=2000)
    limited.count_address(Rate.BYTES, "a", cost=48)
    with pytest.raises(TooManyRequests):
        limited.count_address(Rate.BYTES, "a", cost=1)


def test_several_workers_share_a_limit() -> None:
    limited = limits(workers=4, reads="8/second", streams=2, streams_per_principal=9)
    for _ in range(2):
        limited.count_principal(Rate.READS, "ann")
    with pytest.raises(TooManyRequests):
        limited.count_principal(Rate.READS, "ann")
    with limited.stream("ann", "a"), pytest.raises(Unavailable), limited.stream("bob", "b"):
        pass


def test_streams_are_counted_while_they_are_open() -> None:
    limited = limits(streams_per_principal=1, streams_per_address=2)
    with limited.stream("ann", "a"):
        with pytest.raises(TooManyRequests) as caught, limited.stream("ann", "b"):
            pass
        assert caught.value.retry_after_s
        with limited.stream("bob", "a"), pytest.raises(TooManyRequests), limited.stream("cid", "a"):
            pass
    with limited.stream("ann", "a"), limited.stream("cid", "a"):
        assert limited.streams == 2
    assert limited.streams == 0


def test_a_stream_that_fails_is_given_back() -> None:
    limited = limits(streams_per_principal=1)
    with pytest.raises(RuntimeError), limited.stream("ann", "a"):
        raise RuntimeError
    with limited.stream("ann", "a"):
        pass


def test_a_stream_may_become_a_principals_and_is_given_back_by_whom_it_is_then() -> None:
    limited = limits(streams_per_principal=1, streams_per_address=2)
    with limited.stream("a", "a") as lease:
        with pytest.raises(TooManyRequests), limited.stream("a", "b"):
            pass
        lease.become("ann")
        lease.become("ann")
        with pytest.raises(TooManyRequests), limited.stream("ann", "b"):
            pass
        with limited.stream("a", "a"):
            assert limited.streams == 2
            with pytest.raises(TooManyRequests), limited.stream("bob", "a"):
                pass
    with limited.stream("a", "a"), limited.stream("ann", "b"):
        pass
    assert limited.streams == 0


def test_a_stream_that_may_not_become_a_principals_stays_what_it_was() -> None:
    limited = limits(streams_per_principal=1)
    with limited.stream("ann", "b"), limited.stream("a", "a") as lease:
        with pytest.raises(TooManyRequests):
            lease.become("ann")
        with pytest.raises(TooManyRequests), limited.stream("a", "c"):
            pass
    with limited.stream("a", "a"), limited.stream("ann", "a"):
        pass
    assert limited.streams == 0


def test_a_full_server_says_so_to_everybody() -> None:
    limited = limits(streams=1)
    with limited.stream("ann", "a"), pytest.raises(Unavailable) as caught, limited.stream("bob", "b"):
        pass
    assert caught.value.retry_after_s


def test_addresses_without_number_take_bounded_memory_and_push_nobody_out() -> None:
    time = Time()
    section = LimitsSection.model_validate({"reads": "10/minute", "logins": "1/minute"})
    limited = Limits(section, now=time, max_windows=500)
    limited.count_principal(Rate.READS, "ann")
    limited.count_address(Rate.LOGINS, "first")

    def flood() -> int:
        """How many of 2,000 addresses are refused their first request."""
        refused = 0
        for number in range(2000):
            try:
                limited.count_address(Rate.READS, f"address:{number}")
            except TooManyRequests:
                refused += 1
        return refused

    assert flood() == 2000 - 499 - 10  # beyond those that have a counter of their own, all share one
    limited.count_principal(Rate.READS, "ann")
    with pytest.raises(TooManyRequests):
        limited.count_address(Rate.LOGINS, "first")
    limited.count_address(Rate.LOGINS, "later")  # a rate of its own
    time.now_s += 61
    assert flood() == 2000 - 500 - 10


@pytest.mark.parametrize(
    ("host", "key"),
    [
        ("10.1.2.3", "address:10.1.2.3"),
        ("::ffff:10.1.2.3", "address:10.1.2.3"),
        ("2001:db8:1:2:3:4:5:6", "address:2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", "address:2001:db8:1:2::/64"),
        ("", "address:?"),
        ("evil\r\n", "address:?"),
    ],
)
def test_an_address_is_counted_as_a_subscriber_has_it(host: str, key: str) -> None:
    assert address_key(host) == key
