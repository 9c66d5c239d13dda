"""Reads a pprof file with nothing but Python's own library, by the field numbers of profile.proto, and prints a line for
each sample: label, values, and the names of its calls, innermost first. Fails on anything that is not as the format says."""

import gzip
import sys


def varint(data, at):
    number = shift = 0
    while True:
        byte = data[at]
        at += 1
        number |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return number, at


def fields(data):
    at, found = 0, {}
    while at < len(data):
        key, at = varint(data, at)
        if key & 7 == 0:
            value, at = varint(data, at)
        elif key & 7 == 2:
            length, at = varint(data, at)
            value = data[at : at + length]
            assert len(value) == length, "a field is cut off"
            at += length
        else:
            raise ValueError(f"wire type {key & 7}")
        found.setdefault(key >> 3, []).append(value)
    return found


def numbers(values):
    for value in values:
        if isinstance(value, int):
            yield value
            continue
        at = 0
        while at < len(value):
            number, at = varint(value, at)
            yield number


def one(message, number, default=0):
    return message.get(number, [default])[0]


profile = fields(gzip.open(sys.argv[1]).read())
strings = [text.decode() for text in profile[6]]
assert strings[0] == ""
types = [strings[one(fields(kind), 1)] for kind in profile[1]]
mappings = {one(m, 1): m for m in map(fields, profile.get(3, []))}
functions = {one(f, 1): strings[one(f, 2)] for f in map(fields, profile.get(5, []))}
locations = {}
for location in map(fields, profile.get(4, [])):
    if one(location, 2):
        mapping = mappings[one(location, 2)]
        assert one(mapping, 2) <= one(location, 3) < one(mapping, 3), "an address outside its mapping"
    locations[one(location, 1)] = [functions[one(fields(line), 1)] for line in location.get(4, [])]
for sample in map(fields, profile[2]):
    values = list(numbers(sample[2]))
    assert len(values) == len(types)
    label = fields(sample[3][0])
    calls = [name for number in numbers(sample.get(1, [])) for name in locations[number]]
    shown = " ".join(f"{kind}={value}" for kind, value in zip(types, values))
    print(f"{strings[one(label, 1)]}={strings[one(label, 2)]} {shown} {';'.join(calls)}")
