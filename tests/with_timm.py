"""Run code in processes that have imported torch and timm, and nothing else that is heavy.

The forks of :mod:`tests.preloaded` have imported much of what se_zoo must not import by itself. So
what an import loads is tested in forks of a process of its own, which takes seconds to start.
"""

import functools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict

_SERVER = """
import contextlib, io, json, os, sys
import torch, timm
for line in sys.stdin:
    folder, code = json.loads(line)
    if not os.fork():
        os.chdir(folder)
        out, err, failed = io.StringIO(), io.StringIO(), ""
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                exec(code, {"__name__": "__main__"})
            except BaseException as error:
                failed = repr(error)
        answer = {"out": out.getvalue(), "err": err.getvalue(), "failed": failed}
        print(json.dumps(answer), flush=True)
        os._exit(0)
    os.wait()
"""


@functools.cache
def _server() -> "subprocess.Popen[str]":
    """Start the process, which ends with this one."""
    return subprocess.Popen(
        [sys.executable, "-c", _SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def run_with_timm(code: str, folder: Path) -> str:
    """Run code in a fork of the process, in a folder; return what it prints."""
    server = _server()
    assert server.stdin and server.stdout
    server.stdin.write(json.dumps([str(folder), code]) + "\n")
    server.stdin.flush()
    answer: Dict[str, Any] = json.loads(server.stdout.readline())
    assert not answer["failed"] and not answer["err"], answer
    return answer["out"]
