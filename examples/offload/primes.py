"""Work for a processor: it stands in a module, so that a process of a pool can find it by its name."""


def below(limit: int) -> int:
    """How many primes there are below a number."""
    sieve = bytearray([1]) * limit
    sieve[:2] = b"\0\0"
    for number in range(2, int(limit**0.5) + 1):
        if sieve[number]:
            sieve[number * number :: number] = bytes(len(range(number * number, limit, number)))
    return sum(sieve)
