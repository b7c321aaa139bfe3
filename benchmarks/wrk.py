"""Load by wrk: keep-alive connections that POST bodies from a list, round robin."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

SCRIPT = """
local bodies, n = {}, 0
function init(args)
  for line in io.lines(os.getenv("BENCH_BODIES")) do bodies[#bodies + 1] = line end
  n = math.random(#bodies)
end
local headers = {%s}
function request()
  n = n %% #bodies + 1
  return wrk.format("POST", nil, headers, bodies[n])
end
failed = 0
function response(status, headers, body)
  if status ~= %d then
    failed = failed + 1
    if failed == 1 then
      io.stderr:write("answer " .. status .. ": " .. string.sub(body, 1, 400) .. "\\n")
    end
  end
end
local threads = {}
function setup(thread) table.insert(threads, thread) end
function done(summary, latency, requests)
  local bad = 0
  for _, thread in ipairs(threads) do bad = bad + thread:get("failed") end
  io.write(string.format('\\nRESULT {"requests": %%d, "seconds": %%f, "p50": %%f, "p99": %%f, ',
    summary.requests, summary.duration / 1e6,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
  io.write(string.format('"failed": %%d, "timeouts": %%d}\\n', bad, summary.errors.timeout))
end
"""


@dataclass(frozen=True)
class Load:
    """What wrk saw; times in milliseconds."""

    requests: int
    seconds: float
    p50: float
    p99: float
    failed: int
    timeouts: int

    @property
    def rate(self) -> float:
        """Answers per second."""
        return self.requests / self.seconds


def post(
    url: str,
    bodies: Sequence[str],
    *,
    clients: int,
    seconds: int = 5,
    headers: Mapping[str, str] | None = None,
    expect: int = 200,
) -> Load:
    """Run one closed loop of ``clients`` connections. Raises ``RuntimeError`` when an answer was
    wrong.
    """
    wrk = shutil.which("wrk")
    if wrk is None:
        raise RuntimeError("wrk is missing; on Debian: apt-get install wrk")
    table = ", ".join(
        f"[{json.dumps(k)}] = {json.dumps(v)}"
        for k, v in {"Content-Type": "application/json", **(headers or {})}.items()
    )
    with tempfile.TemporaryDirectory(prefix="ucm-wrk-") as name:
        (Path(name) / "bodies").write_text("\n".join(bodies) + "\n")
        (Path(name) / "post.lua").write_text(SCRIPT % (table, expect))
        command = [wrk, "-t1", f"-c{clients}", f"-d{seconds}s", "--timeout", "10s"]
        output = subprocess.run(
            [*command, "-s", f"{name}/post.lua", url],
            env=os.environ | {"BENCH_BODIES": f"{name}/bodies"},
            capture_output=True,
            text=True,
            timeout=seconds + 60,
            check=True,
        )
    line = next(x for x in output.stdout.splitlines() if x.startswith("RESULT "))
    load = Load(**json.loads(line.removeprefix("RESULT ")))
    if load.failed or load.timeouts:
        raise RuntimeError(
            f"{load.failed} wrong answers, {load.timeouts} time-outs: {output.stderr}"
        )
    return load
