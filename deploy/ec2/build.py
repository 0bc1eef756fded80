"""Writes into streams.yaml what comes from elsewhere: the scripts and units, and the rules for MaxWorkers.

    python deploy/ec2/build.py

Only what stands between the lines `# >>> name` and `# <<< name` is replaced. A test fails when somebody forgets.
"""

from __future__ import annotations

import re
from pathlib import Path

FOLDER = Path(__file__).parent
TEMPLATE = FOLDER / "streams.yaml"
SCRIPTS = ("prepare.sh", "lifecycle.sh", "watch.sh", "setup.sh")
UNITS = ("streams.service", "streams-lifecycle.service", "streams-watch.service", "streams-watch.timer")
MAX_WORKERS = (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
"""What the parameter allows, but for 1, which no topic has fewer partitions than."""


def written(template: str) -> str:
    """The template with its written parts as they must be now."""
    for name, lines in (("rules", rules()), ("files", files())):
        template = _between(template, name, lines)
    return template


def rules() -> list[str]:
    """CloudFormation cannot compare numbers: each allowed maximum excludes the partition counts below it by name."""
    lines: list[str] = []
    for most in MAX_WORKERS:
        fewer = ", ".join(f'"{count}"' for count in range(1, most))
        lines += [
            f"NoMoreThan{most}:",
            f'  RuleCondition: !Equals [!Ref MaxWorkers, "{most}"]',
            "  Assertions:",
            f"    - Assert: !Not [!Contains [[{fewer}], !Ref Partitions]]",
            '      AssertDescription: "MaxWorkers must not be above Partitions: further workers would idle."',
        ]
    return lines


def files() -> list[str]:
    """A part of the user data that writes each file to its place and then starts setup.sh."""
    lines = ["- |"]
    for name in (*SCRIPTS, *UNITS):
        mode, folder = ("0755", "/usr/local/lib/streams") if name in SCRIPTS else ("0644", "/etc/systemd/system")
        lines.append(f"  install -m {mode} /dev/stdin {folder}/{name} <<'END'")
        lines += [f"  {line}".rstrip() for line in (FOLDER / name).read_text().splitlines()]
        lines.append("  END")
    return [*lines, "  /usr/local/lib/streams/setup.sh"]


def _between(template: str, name: str, lines: list[str]) -> str:
    marked = re.compile(rf"^( *)# >>> {name}\n.*?^ *# <<< {name}\n", re.MULTILINE | re.DOTALL)
    found = marked.search(template)
    if found is None:
        raise SystemExit(f"streams.yaml has no lines # >>> {name} and # <<< {name}")
    indent = found[1]
    block = [f"# >>> {name}", *lines, f"# <<< {name}"]
    text = "".join(f"{indent}{line}".rstrip() + "\n" for line in block)
    return template[: found.start()] + text + template[found.end() :]


if __name__ == "__main__":
    TEMPLATE.write_text(written(TEMPLATE.read_text()))
