"""SECURITY.md keeps its word while commands run: they call nobody, and execute no data."""

import json
import os
import subprocess
import sys

from tests.cli.conftest import ROOT

# Python tells this hook what it does. Names of modules stand in the workdir, all of them traps.
WATCH = """
import json, sys
NETWORK = ("socket.connect", "socket.bind", "socket.getaddrinfo", "socket.gethostbyname",
           "socket.sendto", "socket.sendmsg", "http.client.connect", "urllib.Request")
commands, workdir, seen = *json.loads(sys.argv[1]), []
def watch(event, arguments):
    if event in NETWORK or event == "pickle.find_class":
        seen.append(f"{event} {arguments}")
    elif event in ("open", "compile", "exec") and workdir in repr(arguments) + repr(
            getattr(arguments[0], "co_filename", "")) and ".py" in repr(arguments):
        seen.append(f"{event} {arguments}")
sys.addaudithook(watch)
from jaxformer.cli.main import main
codes = [main(command) for command in commands]
print(json.dumps([codes, seen]))
"""
TRAPS = ["json", "numpy", "jax", "evil", "sitecustomize", "checkpoints/jax", "tokenizer/evil"]


def test_a_run_calls_nobody_and_executes_no_data(tiny, tmp_path):
    workdir = tmp_path / "run"
    for trap in TRAPS:
        path = workdir / f"{trap}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("raise SystemExit('a trap')", encoding="utf-8")
    (tmp_path / "news").write_text("an bee\n", encoding="utf-8")
    (tmp_path / "watch.py").write_text(WATCH, encoding="utf-8")
    place = f"--workdir={workdir}"
    commands = [
        [*tiny, place, "--config.train.num_steps=3", "--config.train.eval_every=2"],
        ["evaluate", place, "--num_beams=1", "--split=valid"],
        ["translate", place, "--num_beams=1", f"--input={tmp_path / 'news'}"],
    ]
    done = subprocess.run(
        [sys.executable, tmp_path / "watch.py", json.dumps([commands, str(workdir)])],
        cwd=workdir,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    codes, seen = json.loads(done.stdout.splitlines()[-1])
    assert codes == [0, 0, 0]
    assert seen == []


def test_the_watch_sees_what_it_is_to_see(tmp_path):
    (tmp_path / "evil.py").write_text("", encoding="utf-8")
    faults = f"""
import pickle, socket
from decimal import Decimal
sys.path.insert(0, {str(tmp_path)!r})
import evil
pickle.loads(pickle.dumps(Decimal))
try:
    socket.create_connection(("127.0.0.1", 1), timeout=1)
except OSError:
    pass
"""
    script = WATCH.replace("from jaxformer.cli.main import main", faults)
    done = subprocess.run(
        [sys.executable, "-c", script, json.dumps([[], str(tmp_path)])],
        capture_output=True,
        text=True,
        check=True,
    )
    events = {event.split()[0] for event in json.loads(done.stdout)[1]}
    assert {"open", "exec", "pickle.find_class", "socket.getaddrinfo", "socket.connect"} <= events
