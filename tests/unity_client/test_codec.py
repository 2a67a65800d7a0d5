"""The C# codec against Python's protobuf: random messages both ways, and bytes that are broken."""

import random
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from bridge.stubs import motion_pb2

NUNIT_TEST = "MotionR1.Tests.CodecTests.WhatAnotherImplementationWritesComesBackByteForByte"
MESSAGES = {
    name: GetMessageClass(descriptor) for name, descriptor in motion_pb2.DESCRIPTOR.message_types_by_name.items()
}
WIRE_TYPES = (0, 1, 2, 5)
NUMBERS = {
    FieldDescriptor.CPPTYPE_INT32: (0, 1, -1, 127, 128, 2**31 - 1, -(2**31)),
    FieldDescriptor.CPPTYPE_INT64: (0, 1, -1, 2**31, 2**54 - 1, 2**63 - 1, -(2**63)),
    FieldDescriptor.CPPTYPE_UINT64: (0, 1, 127, 128, 2**63, 2**64 - 1),
    FieldDescriptor.CPPTYPE_FLOAT: (0.0, -0.0, 1.0, -1.5, 1e-45, 3e38, float("inf"), float("nan")),
    FieldDescriptor.CPPTYPE_ENUM: (0, 1, 2, 3, 77, -5),
}
TEXTS = ("", "a", "wave, twice", "über", "\0", "日本語", "\U0001f57a", "x" * 200)


def random_message(name: str, chance: random.Random) -> Message:
    """Fill about two thirds of the fields, often with values at the edges."""
    message = MESSAGES[name]()
    for field in cast(list[FieldDescriptor], message.DESCRIPTOR.fields):
        if chance.random() < 1 / 3:
            continue
        if field.is_repeated:
            values = [random_value(field, chance) for _ in range(chance.choice((0, 1, 2, 30)))]
            getattr(message, field.name).extend(values)
        elif field.message_type is not None:
            getattr(message, field.name).CopyFrom(random_value(field, chance))
        else:
            setattr(message, field.name, random_value(field, chance))
    return message


def random_value(field: FieldDescriptor, chance: random.Random) -> object:
    """Return one value for a field."""
    if field.message_type is not None:
        return random_message(field.message_type.name, chance)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return chance.randbytes(chance.choice((0, 1, 48, 1408)))
    if field.type == FieldDescriptor.TYPE_STRING:
        return chance.choice(TEXTS)
    return chance.choice(NUMBERS[field.cpp_type])


def unknown_field(chance: random.Random) -> bytes:
    """Return a field that no message has, of any wire type."""
    number, wire_type = chance.randint(200, 2**29 - 1), chance.choice(WIRE_TYPES)
    length = chance.randint(0, 20)
    value = {
        0: varint(chance.getrandbits(64)),
        1: chance.randbytes(8),
        2: varint(length) + chance.randbytes(length),
        5: chance.randbytes(4),
    }[wire_type]
    return varint(number << 3 | wire_type) + value


def varint(value: int) -> bytes:
    """Return a number as protobuf writes it."""
    written = bytearray()
    while value >= 0x80:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*written, value])


def sound(num_messages: int, chance: random.Random) -> Iterator[tuple[str, bytes]]:
    """Yield messages as Python writes them; some twice over, which merges, some with unknown fields between."""
    for i in range(num_messages):
        name = list(MESSAGES)[i % len(MESSAGES)]
        data = random_message(name, chance).SerializeToString()
        if chance.random() < 0.3:
            data += random_message(name, chance).SerializeToString()
        if chance.random() < 0.3:
            data = data + unknown_field(chance) + random_message(name, chance).SerializeToString()
        yield name, data


def broken(num_messages: int, chance: random.Random) -> Iterator[tuple[str, bytes]]:
    """Yield messages with bytes changed, cut off, put in, or all by chance."""
    for i, (name, data) in enumerate(sound(num_messages, chance)):
        damaged = bytearray(data[:300])
        match i % 4:
            case 0 if damaged:
                for _ in range(chance.randint(1, 4)):
                    damaged[chance.randrange(len(damaged))] = chance.getrandbits(8)
            case 1:
                del damaged[chance.randint(0, len(damaged)) :]
            case 2:
                at = chance.randint(0, len(damaged))
                damaged[at:at] = chance.randbytes(chance.randint(1, 8))
            case _:
                damaged = bytearray(chance.randbytes(chance.randint(0, 40)))
        yield name, bytes(damaged)


def through_csharp(
    run_nunit: Callable[..., str], folder: Path, messages: list[tuple[str, bytes]]
) -> list[bytes | None]:
    """Let C# read and write each message; None where it says that the bytes are malformed."""
    (folder / "written.txt").write_text("".join(f"{name} {data.hex()}\n" for name, data in messages))
    printed = run_nunit(NUNIT_TEST, MOTION_R1_CODEC_FOLDER=str(folder))
    assert "1 passed, 0 failed, 0 skipped" in printed
    lines = (folder / "read.txt").read_text().split("\n")[:-1]
    assert len(lines) == len(messages)
    return [None if line == "malformed" else bytes.fromhex(line) for line in lines]


def canonical(name: str, data: bytes) -> bytes:
    """Return the bytes that Python writes for what it reads."""
    return MESSAGES[name].FromString(data).SerializeToString(deterministic=True)


def check(run_nunit: Callable[..., str], folder: Path, num_messages: int, seed: int) -> None:
    """Send sound and broken messages through C# and compare each with what Python makes of it."""
    chance = random.Random(seed)
    good, bad = list(sound(num_messages, chance)), list(broken(num_messages, chance))
    results = through_csharp(run_nunit, folder, good + bad)
    for (name, data), result in zip(good, results[:num_messages], strict=True):
        assert result == canonical(name, data), (name, data.hex())
    num_refused = 0
    for (name, data), result in zip(bad, results[num_messages:], strict=True):
        if result is None:
            num_refused += 1
        else:
            # What C# reads, Python reads too, and finds the same in it.
            assert canonical(name, result) == canonical(name, data), (name, data.hex())
    assert 0.2 < num_refused / num_messages < 0.9


def test_messages_pass_through_csharp_byte_for_byte(run_nunit: Callable[..., str], tmp_path: Path):
    check(run_nunit, tmp_path, num_messages=2_000, seed=1)


@pytest.mark.slow
def test_200_000_messages_pass_through_csharp_byte_for_byte(run_nunit: Callable[..., str], tmp_path: Path):
    check(run_nunit, tmp_path, num_messages=200_000, seed=2)


def test_python_refuses_nearly_all_that_csharp_refuses(run_nunit: Callable[..., str], tmp_path: Path):
    """Groups, long out of use, are all that Python still reads and C# does not."""
    bad = list(broken(2_000, random.Random(3)))
    for (name, data), result in zip(bad, through_csharp(run_nunit, tmp_path, bad), strict=True):
        if result is not None:
            continue
        try:
            MESSAGES[name].FromString(data)
        except DecodeError:
            continue
        assert any(byte & 7 in (3, 4) for byte in data), (name, data.hex())


def test_floats_keep_every_bit(run_nunit: Callable[..., str], tmp_path: Path):
    patterns = [random.Random(4).getrandbits(32) for _ in range(500)] + [0x7F800001, 0xFFC12345, 0x80000000, 1]
    messages = [("Beat", b"\x15" + struct.pack("<I", pattern)) for pattern in patterns]
    assert through_csharp(run_nunit, tmp_path, messages) == [data for _, data in messages]
