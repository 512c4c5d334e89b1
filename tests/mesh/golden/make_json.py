"""Golden messages of test_json.c, from Google's own Python library: run by hand when json.proto changes.

    pip install protobuf grpcio-tools && python3 make_json.py

Writes json.fds (the descriptor set of json.proto and what it imports) and json.json: for each message
its wire form in hexadecimal, its JSON, its JSON with defaults and original names.
"""
import json
import os
import random
import struct
import sys

from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from grpc_tools import protoc

HERE = os.path.dirname(os.path.abspath(__file__))
SET = os.path.join(HERE, "json.fds")


def load():
    include = os.path.join(os.path.dirname(protoc.__file__), "_proto")
    if protoc.main(["protoc", f"-I{HERE}", f"-I{include}", "--include_imports", f"--descriptor_set_out={SET}",
                    os.path.join(HERE, "json.proto")]) != 0:
        raise SystemExit("protoc failed")
    files = descriptor_pb2.FileDescriptorSet()
    with open(SET, "rb") as stream:
        files.ParseFromString(stream.read())
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("dragoman.test.json.Everything"))


def edges(Everything):
    yield Everything()
    yield Everything(an_int32=-2**31, a_sint32=2**31 - 1, a_sfixed32=-1, an_int64=-2**63, a_sint64=2**63 - 1,
                     a_sfixed64=-2, a_uint32=2**32 - 1, a_fixed32=7, a_uint64=2**64 - 1, a_fixed64=2**53 + 1)
    for value in (0.1, 1e30, -1.5, 3.4028234663852886e38, 1.401298464324817e-45, float("inf"), float("-inf"),
                  float("nan")):
        yield Everything(a_float=value, a_double=value, floats=[value, 1.0], chosen_double=value)
    for value in (1e300, 5e-324, 0.1 + 0.2, 1 / 3, 123456789012345680.0, 1e22, 1e21):
        yield Everything(a_double=value)
    yield Everything(a_bool=True, a_string="quote \" back \\ line \n tab \t bell \x07 del \x7f",
                     some_bytes=bytes(range(256)), color="RED", colors=["BLACK", "DARK_RED"])
    yield Everything(a_string="Grüße, 你好, \U0001F608, \u2028", strings=["", "é"], blobs=[b"", b"\xff", b"ab", b"abc"])
    yield Everything(color=99, colors=[0, 1, -7, 42])
    yield Everything(inner=Everything(inner=Everything(an_int32=1)), inners=[Everything(), Everything(a_bool=True)])
    yield Everything(ints=[0, -1, 300], longs=[0, 2**63], bools=[True, False], loose=[1, 2, 3])
    message = Everything(by_name={"": 0, "a\"b": 5}, by_truth={True: "yes", False: "no"}, colored={7: "RED", 0: 3})
    message.by_number[-5].a_string = "five"
    message.by_number[2**62].SetInParent()
    yield message
    yield Everything(maybe_int=0, maybe_string="", maybe_bytes=b"", maybe_bool=False)
    yield Everything(maybe_int=5, maybe_string="x", maybe_bytes=b"y", maybe_bool=True)
    yield Everything(chosen_long=0)
    yield Everything(chosen_string="")
    yield Everything(chosen_bytes=b"\x00")
    yield Everything(chosen_inner=Everything(chosen_inner=Everything()))
    yield Everything(chosen_color="DARK_RED")
    for seconds, nanos in ((0, 0), (1, 21000000), (-62135596800, 0), (253402300799, 999999999), (1700000000, 1000),
                           (-1, 5), (951782400, 0)):
        message = Everything()
        message.at.seconds, message.at.nanos = seconds, nanos
        message.times.add().seconds = seconds
        yield message
    for seconds, nanos in ((0, 0), (1, 500000000), (-1, -500000000), (0, -1), (315576000000, 0), (-3, 0)):
        message = Everything()
        message.took.seconds, message.took.nanos = seconds, nanos
        message.durations["d"].CopyFrom(message.took)
        yield message
    message = Everything(renamed="r", _odd__name_9x="o")
    message.boxed_long.value = -9007199254740993
    message.boxed_string.value = "boxed"
    message.boxed_bool.SetInParent()
    message.boxed_bytes.value = b"\x01"
    message.boxed_floats.add().value = 0.25
    message.boxed_floats.add()
    yield message


def scramble(Everything, rng, depth=0):
    """A message with a random part of its fields."""
    message = Everything()
    for field in Everything.DESCRIPTOR.fields:
        if rng.random() > 0.15 or field.message_type:
            continue
        for _ in range(rng.randint(1, 4) if field.is_repeated else 1):
            if field.enum_type:
                value = rng.choice((0, 1, -7, 12))
            elif field.cpp_type == field.CPPTYPE_STRING:
                text = "".join(chr(rng.choice((rng.randint(1, 127), rng.randint(160, 0xD7FF), rng.randint(0x10000, 0x10FFFF))))
                               for _ in range(rng.randint(0, 9)))
                value = text.encode() if field.type == field.TYPE_BYTES else text
            elif field.cpp_type == field.CPPTYPE_DOUBLE:
                value = struct.unpack("d", rng.randbytes(8))[0]
            elif field.cpp_type == field.CPPTYPE_FLOAT:
                value = struct.unpack("f", rng.randbytes(4))[0]
            elif field.cpp_type == field.CPPTYPE_BOOL:
                value = rng.random() < 0.5
            else:
                bits = rng.choice((3, 8, 31, 32, 63, 64))
                small = field.cpp_type in (field.CPPTYPE_INT32, field.CPPTYPE_UINT32)
                signed = field.cpp_type in (field.CPPTYPE_INT32, field.CPPTYPE_INT64)
                value = rng.getrandbits(min(bits, 32 if small else 64) - (1 if signed else 0))
                value = -value if signed and rng.random() < 0.5 else value
            if field.is_repeated:
                getattr(message, field.name).append(value)
            else:
                setattr(message, field.name, value)
    if depth < 4 and rng.random() < 0.5:
        message.inner.CopyFrom(scramble(Everything, rng, depth + 1))
    if depth < 4 and rng.random() < 0.4:
        message.inners.append(scramble(Everything, rng, depth + 1))
    if depth < 4 and rng.random() < 0.3:
        message.by_number[rng.randint(-9, 9)].CopyFrom(scramble(Everything, rng, depth + 1))
    return message


def entry(Everything, message, full):
    wire = message.SerializeToString(deterministic=True)
    text = json_format.MessageToJson(message)
    try:
        back = json_format.Parse(text, Everything()).SerializeToString(deterministic=True)
    except json_format.ParseError:  # it writes the largest float in too few digits to read it again
        back = None
    # Entries may come in any order, and what is zero in them may be left out.
    maps = any(f'"{name}":' in text for name in ("byName", "byNumber", "byTruth", "colored", "durations"))
    result = {"wire": wire.hex(), "json": json.loads(text), "exact": back == wire and not maps}
    if full:
        result["full"] = json.loads(json_format.MessageToJson(message, preserving_proto_field_name=True,
                                                              always_print_fields_with_no_presence=True))
    return result


def main():
    Everything = load()
    rng = random.Random(20)
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    golden = [entry(Everything, message, i % 8 == 0) for i, message in enumerate(edges(Everything))]
    golden += [entry(Everything, scramble(Everything, rng), False) for _ in range(count)]
    with open(os.path.join(HERE, "json.json"), "w", encoding="ascii") as stream:
        stream.write("[\n" + ",\n".join(json.dumps(one) for one in golden) + "\n]\n")


if __name__ == "__main__":
    main()
