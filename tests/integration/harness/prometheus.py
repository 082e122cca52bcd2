"""A strict reader of the Prometheus text format, version 0.0.4."""
import math
import re

_NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
_SAMPLE = re.compile(rf"({_NAME})(?:\{{(.*)\}})? (\S+)(?: (-?\d+))?")
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(?:,|$)')
_SUFFIXES = {"histogram": ("_bucket", "_sum", "_count"), "summary": ("", "_sum", "_count"), "counter": ("",), "gauge": ("",), "untyped": ("",)}


def parse(text):
    """{(name, frozenset of labels): value}. Asserts everything that a strict scraper would refuse."""
    assert text.endswith("\n"), "the last line ends in a line feed"
    types, helps, samples, current = {}, set(), {}, None
    for line in text[:-1].split("\n"):
        if line.startswith("# HELP "):
            name = line.split(" ")[2]
            assert name not in helps, f"HELP twice: {name}"
            helps.add(name)
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert re.fullmatch(_NAME, name) and kind in _SUFFIXES, line
            assert name not in types, f"TYPE twice: {name}"
            types[name] = kind
            current = name
        elif line and not line.startswith("#"):
            match = _SAMPLE.fullmatch(line)
            assert match, f"no sample: {line!r}"
            name, labels, value = match[1], _labels(match[2]), float(match[3].replace("Inf", "inf"))
            assert current and name in [current + suffix for suffix in _SUFFIXES[types[current]]], f"{name} stands outside its family"
            assert (name, labels) not in samples, f"twice: {line}"
            assert types[current] != "counter" or value >= 0
            samples[name, labels] = value
    for name, kind in types.items():
        if kind == "counter":
            assert name.endswith("_total"), f"a counter's name ends in _total: {name}"
        if kind == "histogram":
            _check_histogram(name, samples)
    return samples


def _labels(text):
    found, position = [], 0
    text = text or ""
    while position < len(text):
        match = _LABEL.match(text, position)
        assert match, f"no labels: {text!r}"
        found.append((match[1], match[2]))
        position = match.end()
    assert len(dict(found)) == len(found), f"a label twice: {text!r}"
    return frozenset(found)


def _check_histogram(name, samples):
    series = {}
    for (sample, labels), value in samples.items():
        if sample == f"{name}_bucket":
            rest = dict(labels)
            bound = float(rest.pop("le").replace("Inf", "inf"))
            series.setdefault(frozenset(rest.items()), []).append((bound, value))
    for labels, buckets in series.items():
        buckets.sort()
        counts = [count for _, count in buckets]
        assert counts == sorted(counts), f"buckets of {name} are not cumulative"
        assert buckets[-1][0] == math.inf and buckets[-1][1] == samples[f"{name}_count", labels]
        assert (f"{name}_sum", labels) in samples


def total(samples, name, **labels):
    """The sum over all series of the name that carry these labels."""
    wanted = set(labels.items())
    return sum(value for (sample, have), value in samples.items() if sample == name and wanted <= have)
