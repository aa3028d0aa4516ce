#!/usr/bin/env bash
# Made by jaxformer for --executor=gcloud; docs/first_tpu_run.md says more.
set -euo pipefail
CDPATH= cd -- "$(dirname -- "$0")"/../../..

case "${1:-}" in
start)
    sent=$(mktemp -d)
    trap 'rm -rf "$sent"' EXIT
    { git ls-files -z --cached --others --exclude-standard; printf '.git\0'; } |
        while IFS= read -r -d '' file; do
            if [ -e "$file" ]; then printf '%s\0' "$file"; fi
        done |
        tar --null -T - -czf "$sent/jaxformer.tar.gz"
    gcloud compute tpus tpu-vm create big-5a8c46 \
        --zone=us-west4-a \
        --accelerator-type=v5litepod-16 \
        --version=v2-alpha-tpuv5-lite \
        --spot
    trap 'rm -rf "$sent"; echo "The slice is paid for until it is stopped." >&2' EXIT
    gcloud compute tpus tpu-vm scp --zone=us-west4-a --worker=all "$sent/jaxformer.tar.gz" \
        experiments/launch/big_gcloud/jobs.sh big-5a8c46:
    gcloud compute tpus tpu-vm ssh big-5a8c46 --zone=us-west4-a --worker=all \
        --command='mkdir -p jaxformer && tar -xzf jaxformer.tar.gz -C jaxformer'
    gcloud compute tpus tpu-vm ssh big-5a8c46 --zone=us-west4-a --worker=all \
        --command='nohup bash jobs.sh > jobs.log 2>&1 < /dev/null & echo $! > jobs.pid'
    ;;
watch)
    gcloud compute tpus tpu-vm ssh big-5a8c46 --zone=us-west4-a --worker=0 \
        --command='tail -n +1 --pid="$(cat jobs.pid)" -f jobs.log'
    ;;
stop)
    gcloud compute tpus tpu-vm delete big-5a8c46 --zone=us-west4-a --quiet
    ;;
*)
    printf '%s\n' \
        'bash experiments/launch/big_gcloud/launch.sh start  rents the slice, sends this folder, and starts its jobs' \
        'bash experiments/launch/big_gcloud/launch.sh watch  shows what the first host prints, until its jobs have ended' \
        'bash experiments/launch/big_gcloud/launch.sh stop   gives the slice back, which is paid for until then' >&2
    exit 2
    ;;
esac
