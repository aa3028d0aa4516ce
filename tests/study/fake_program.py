"""Stands for `jaxformer` in tests of sweeps: leaves the files of a run without training anything.

What a member does otherwise is said by behaviour.json in the sweep's folder: id -> a word.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path


def main():
    command, *arguments = sys.argv[1:]
    (place,) = [text for text in arguments if text.startswith("--workdir=")]
    workdir = Path(place.removeprefix("--workdir="))
    folder = workdir.parents[2]
    name = str(workdir.relative_to(folder))
    members = json.loads((folder / "manifest.json").read_bytes())["members"]
    (num_steps,) = [each["config"]["train"]["num_steps"] for each in members if each["id"] == name]
    path = folder / "behaviour.json"
    word = json.loads(path.read_bytes()).get(name, "") if path.exists() else ""
    with open(folder / "calls", "a", encoding="utf-8") as calls:
        calls.write(f"{command} {name}\n")
    print(f"{command} speaks", flush=True)
    print(f"{command} warns", file=sys.stderr, flush=True)
    if command == "train":
        train(word, workdir, folder)
        row = json.dumps({"step": num_steps})
        (workdir / "metrics.jsonl").write_text(f"{row}\n", encoding="utf-8")
    elif word != "no scores":
        record = {"checkpoints": [num_steps], "bleu": 30.125, "perplexity": 5.5}
        for text in arguments:
            if text.startswith("--protocol="):
                protocol = text.removeprefix("--protocol=")
                record["published_protocol"] = {"protocol": protocol, "bleu": 41.5}
        (workdir / "evaluation").mkdir(exist_ok=True)
        (workdir / "evaluation" / "valid.json").write_text(json.dumps(record), encoding="utf-8")


def interrupt(number, frame):
    raise KeyboardInterrupt


def train(word, workdir, folder):
    """Does what the word says."""
    if word == "fail":
        print("jaxformer: There is no room.\n", file=sys.stderr)
        sys.exit(2)
    if word == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if word == "leave a child":
        subprocess.Popen(["sleep", "600"])
    if word == "meet":
        (workdir / "here").touch()
        deadline = time.monotonic() + 120
        while len(list(folder.glob("*/*/*/here"))) < 2:
            if time.monotonic() > deadline:
                sys.exit("nobody came")
            time.sleep(0.01)
    if word in ("wait", "stay"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN if word == "stay" else interrupt)
        try:
            (workdir / "pid").write_text(str(os.getpid()), encoding="utf-8")
            time.sleep(600)
        except KeyboardInterrupt:
            (workdir / "interrupted").touch()
            sys.exit(130)


if __name__ == "__main__":
    main()
