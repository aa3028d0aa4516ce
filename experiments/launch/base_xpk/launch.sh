#!/usr/bin/env bash
# Made by jaxformer for --executor=xpk; docs/first_tpu_run.md says more.
set -euo pipefail
CDPATH= cd -- "$(dirname -- "$0")"/../../..

case "${1:-}" in
start)
    xpk workload create \
        --cluster=my-cluster \
        --zone=us-west4-a \
        --workload=base-4dba5f \
        --tpu-type=v5litepod-16 \
        --num-slices=1 \
        --base-docker-image=python:3.12 \
        --max-restarts=100 \
        --restart-on-exit-codes=4 \
        --command='exec bash experiments/launch/base_xpk/base-4dba5f.sh'
    ;;
watch)
    xpk workload list --cluster=my-cluster --zone=us-west4-a
    ;;
stop)
    failed=0
    xpk workload delete --cluster=my-cluster --zone=us-west4-a --workload=base-4dba5f || failed=$?
    if [ "$failed" != 0 ]; then echo 'Not all could be ended, or some had ended before: xpk workload list --cluster=my-cluster --zone=us-west4-a shows what is left.' >&2; fi
    exit "$failed"
    ;;
*)
    printf '%s\n' \
        'bash experiments/launch/base_xpk/launch.sh start  sends this folder as an image, and queues each job' \
        'bash experiments/launch/base_xpk/launch.sh watch  shows what goes on' \
        'bash experiments/launch/base_xpk/launch.sh stop   ends each job; the machines of the cluster stay' >&2
    exit 2
    ;;
esac
