"""Runs a command and says what it took; prints Markdown tables. Used by the scripts beside it."""
import os
import pathlib
import platform
import subprocess
import time


ROOT = pathlib.Path(__file__).resolve().parent.parent


def peer(name):
    """The path that scripts/peers prints, installed first if it is not."""
    return pathlib.Path(subprocess.run([ROOT / "scripts/peers", name], check=True, capture_output=True, text=True).stdout.strip())


class Run:
    def __init__(self, wall, cpu, rss_bytes, output):
        self.wall, self.cpu, self.rss_bytes, self.output = wall, cpu, rss_bytes, output


def run(command, environment=None):
    """Wall seconds, user + system seconds of the process and its children, peak resident bytes; stops with the output if it fails."""
    begin = time.monotonic()
    process = subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**os.environ, **(environment or {})})
    output = process.stdout.read().decode(errors="replace")
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.monotonic() - begin
    if process.returncode != 0:
        raise SystemExit(f"failed: {' '.join(map(str, command))}\n{output[-3000:]}")
    return Run(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, output)


def best(command, times, before=None, environment=None):
    """The fastest of `times` runs; `before` clears what the command writes."""
    runs = []
    for _ in range(times):
        if before:
            before()
        runs.append(run(command, environment))
    return min(runs, key=lambda one: one.wall)


def in_turn(runs):
    """Commands one after the other as one: their times added, the largest peak."""
    runs = list(runs)
    return Run(sum(one.wall for one in runs), sum(one.cpu for one in runs), max(one.rss_bytes for one in runs), "")


def machine():
    with open("/proc/cpuinfo") as lines:
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    return f"{model}, {len(os.sched_getaffinity(0))} threads"


def row(*cells):
    print("| " + " | ".join(str(cell) for cell in cells) + " |", flush=True)


def header(*cells):
    row(*cells)
    row(*(["---"] * len(cells)))


def compared_header(label, peer_name, *last):
    header(label, f"{peer_name}: wall s (CPU s)", "peak RSS GB", "ropewalk: wall s (CPU s)", "peak RSS GB", "ratio", *last)


def compared(label, theirs, ours, *last):
    """A row under compared_header()."""
    took = [cell for one in (theirs, ours) for cell in (f"{one.wall:.2f} ({one.cpu:.2f})", f"{one.rss_bytes / 2**30:.2f}")]
    row(label, *took, f"**{theirs.wall / ours.wall:.1f}x**", *last)
