#!/usr/bin/env bash
# Made by jaxformer for --executor=gcloud; docs/first_tpu_run.md says more.
# Run by every host of v5e:4x4, 16 chips.
set -euo pipefail
cd "$HOME/jaxformer"
python3 -m pip install --quiet uv
python3 -m uv venv --quiet --allow-existing --python 3.12 "$HOME/.jaxformer"
python3 -m uv pip install --quiet --python "$HOME/.jaxformer" \
    --constraints constraints/py312.txt --editable '.[gcs,moses,quickstart,tpu]'
mkdir -p "$HOME/jaxformer-data"
gcloud storage rsync --recursive gs://my-bucket/text "$HOME/jaxformer-data"
export PATH="$HOME/.jaxformer/bin:$PATH"
export JAXFORMER_DATA="$HOME/jaxformer-data"
run() {
    local code=0 pid= stopped=
    trap 'stopped=yes; [ -z "$pid" ] || kill -TERM "$pid" 2> /dev/null || true' TERM
    "$@" &
    pid=$!
    if [ "$stopped" ]; then kill -TERM "$pid" 2> /dev/null || true; fi
    wait "$pid" || code=$?
    while kill -0 "$pid" 2> /dev/null; do
        code=0
        wait "$pid" || code=$?
    done
    trap - TERM
    if [ "$stopped" ]; then exit "$((code ? code : 143))"; fi
    return "$code"
}
failed=0
# base-4dba5f
{ run jaxformer train \
    --config=configs/wmt14_en_de.py:base \
    --workdir=gs://my-bucket/base; } || failed=$?
echo "All jobs have ended, the last that failed with code $failed; 0: none has."
exit "$failed"
