"""Which arguments of a command are keys, for the commands that frameworks watch, and how a command is written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from proxy.resp.numbers import Malformed, number

FIRST: Final = frozenset(
    b"LPUSH RPUSH LPUSHX RPUSHX LPOP RPOP LREM LTRIM SET SETEX PSETEX GET INCR TTL HSET HDEL HGET HGETALL ZADD"
    b" ZREM ZRANGEBYSCORE ZRANGE ZPOPMIN ZPOPMAX XADD XACK XDEL XTRIM XCLAIM XAUTOCLAIM LLEN LRANGE EXPIRE"
    b" HSETNX HMGET HINCRBY INCRBY HMSET PERSIST PUBLISH ZINCRBY ZSCORE ZREVRANGEBYSCORE SADD SREM LINDEX"
    b" LINSERT".split()
)
"""Argument 1 is their only key."""
_FIRST_TWO: Final = frozenset(b"RPOPLPUSH BRPOPLPUSH LMOVE BLMOVE RENAME".split())
_ALL: Final = frozenset(b"DEL UNLINK EXISTS MGET".split())
_BUT_LAST: Final = frozenset(b"BLPOP BRPOP BZPOPMIN BZPOPMAX".split())
_PLACES: Final = {
    **dict.fromkeys(FIRST, slice(1, 2)),
    **dict.fromkeys(_FIRST_TWO, slice(1, 3)),
    **dict.fromkeys(_BUT_LAST, slice(1, -1)),
    **dict.fromkeys(_ALL, slice(1, None)),
}
_STREAMS: Final = frozenset((b"XREAD", b"XREADGROUP"))
RUNS: Final = frozenset((b"EVAL", b"EVALSHA"))
"""Run a Lua script."""
SCRIPTS: Final = RUNS | {b"FCALL"}
"""Argument 1 is no key but what to run."""
_COUNTED: Final = {b"LMPOP": 1, b"ZMPOP": 1, b"BLMPOP": 2, b"BZMPOP": 2, **dict.fromkeys(SCRIPTS, 2)}


def keys(name: bytes, args: Sequence[bytes]) -> Sequence[bytes]:
    """The keys of a command (``name`` in upper case, ``args[0]`` as sent); none for a command that has none here."""
    where = _PLACES.get(name)
    if where is not None:
        return args[where]
    if name in _STREAMS:
        return stream_keys(args)
    count_at = _COUNTED.get(name)
    if count_at is None or len(args) <= count_at:
        return ()
    try:
        return args[count_at + 1 : count_at + 1 + number(args[count_at])]
    except Malformed:
        return ()


def stream_keys(args: Sequence[bytes]) -> Sequence[bytes]:
    """The keys of XREAD and XREADGROUP: the first half of what follows the word STREAMS."""
    words = [arg.upper() for arg in args]
    if b"STREAMS" not in words:
        return ()
    rest = args[words.index(b"STREAMS") + 1 :]
    return rest[: len(rest) // 2]


def encode(args: Sequence[bytes]) -> bytes:
    """The command as an array of bulk strings, the only form Redis' clients send."""
    return b"*%d\r\n%s" % (len(args), b"".join([b"$%d\r\n%s\r\n" % (len(arg), arg) for arg in args]))


def encoded_size(args: Sequence[bytes]) -> int:
    """Bytes of what `encode` makes of them."""
    return len(b"*%d\r\n" % len(args)) + sum(len(b"$%d\r\n\r\n" % len(arg)) + len(arg) for arg in args)


def with_last(command: bytes, last: bytes, new: bytes) -> bytes:
    """A command whose last argument is another one; all else stays as it is written."""
    size = len(last)
    return b"%s$%d\r\n%s%s" % (command[: -(len(b"$%d" % size) + 4 + size)], len(new), new, command[-2:])
