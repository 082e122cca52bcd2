"""The reference page and the schema are what the binary makes from its declarations."""

import json
import os
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = os.environ.get("ASIDECAR_BIN", str(ROOT / "build/release/asidecar"))


def made(command):
    return subprocess.run([BINARY, command], check=True, capture_output=True, text=True).stdout


def test_the_reference_page_is_up_to_date():
    assert (ROOT / "docs/CONFIGURATION.md").read_text() == made("reference"), "run: asidecar reference > docs/CONFIGURATION.md"


def test_the_schema_is_up_to_date():
    text = made("schema")
    assert (ROOT / "config/asidecar.schema.json").read_text() == text, "run: asidecar schema > config/asidecar.schema.json"
    assert json.loads(text)["additionalProperties"] is False
