"""The process that decodes strangers' pictures: `python -P -m core.datasets.decode_process`, started by `decoder`.

A request is a line of JSON on stdin, its answer a line on stdout, the first one says that the process is ready. The
end of stdin ends it, and so does its parent's.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any

from core.datasets import decoding
from core.datasets.enclosure import enclose, limit_processor, limit_resources
from core.parent import bind_to_parent

_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS)


def main() -> None:
    """Answer requests until stdin ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    for name in ("--parent-pid", "--memory-bytes", "--file-bytes", "--processor-s"):
        parser.add_argument(name, type=int, required=True)
    arguments = parser.parse_args()
    bind_to_parent(arguments.parent_pid)
    limit_resources(memory_bytes=arguments.memory_bytes, file_bytes=arguments.file_bytes)
    enclose(arguments.folder)
    # What a library prints belongs to the log, not between the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    _tell(answers, {"kind": "ready"})
    for line in sys.stdin:
        limit_processor(arguments.processor_s)
        _tell(answers, _answer(json.loads(line)))


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    target = Path(request["target"])
    try:
        match request["do"]:
            case "normalise":
                limits = {name: request[name] for name in ("max_bytes", "max_pixels")}
                return {"kind": "picture"} | decoding.normalise(Path(request["source"]), target, **limits)
            case "thumbnail":
                decoding.thumbnail(Path(request["source"]), target)
            case "small":
                decoding.small(Path(request["source"]), target)
            case "contact_sheet":
                decoding.contact_sheet([Path(source) for source in request["sources"]], target)
    except decoding.Refused as refused:
        return {"kind": "refused", "code": refused.code, "reason": refused.reason}
    except MemoryError:
        return {"kind": "too_demanding"}
    except OSError as error:
        if error.errno not in _DISK:
            raise
        return {"kind": "disk", "errno": error.errno, "reason": error.strerror}
    return {"kind": "done"}


def _tell(answers: Any, answer: dict[str, Any]) -> None:
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


if __name__ == "__main__":
    try:
        main()
    except Exception:  # noqa: BLE001  # the outermost frame: the parent reads the last line of the log
        traceback.print_exc()
        sys.exit(1)
