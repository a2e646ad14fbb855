"""What commands print with ``--json``, held against its schema."""

import json
from pathlib import Path

from jsonschema import Draft202012Validator

OUTPUTS = Path(__file__).parents[1] / "docs" / "reference" / "outputs.json"
VARIANTS = ("dry_run", "part")
"""Options with which a command prints another document."""


def check_output(command, document):
    """Raise AssertionError unless a document is as docs/reference/outputs.json says."""
    schemas = json.loads(OUTPUTS.read_text())["$defs"]
    assert command in schemas, f"{command} --json is not in {OUTPUTS}"
    faults = Draft202012Validator({**schemas[command], "$defs": schemas}).iter_errors(document)
    found = [f"{command}: {fault.json_path}: {fault.message[:300]}" for fault in faults]
    assert not found, "\n".join([*found, f"describe it in {OUTPUTS}"])
