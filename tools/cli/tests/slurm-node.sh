#!/bin/sh
# A Slurm cluster of this machine alone, in a folder of its own and on free ports, for the tests.
#   slurm-node.sh start FOLDER PORT   starts munged, slurmctld (PORT) and slurmd (PORT + 1), and waits for the node
#   slurm-node.sh stop FOLDER         ends these three
# Needs root, and Debian's packages slurm-wlm and munge. SLURM_CONF=FOLDER/slurm.conf then reaches it.
set -eu
folder=$2
host=$(hostname -s)
case $1 in
start)
    port=$3
    mkdir -p "$folder/state" "$folder/spool" "$folder/munge"
    chmod 700 "$folder/munge"
    dd if=/dev/urandom of="$folder/munge/key" bs=1024 count=1 2>/dev/null
    chmod 600 "$folder/munge/key"
    cat >"$folder/slurm.conf" <<CONF
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$port
SlurmdPort=$((port + 1))
AuthType=auth/munge
AuthInfo=socket=$folder/munge/socket
CryptoType=crypto/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
MpiDefault=none
SchedulerParameters=sched_interval=1
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(nproc)
PartitionName=all Nodes=$host Default=YES MaxTime=INFINITE State=UP
CONF
    munged --force --key-file="$folder/munge/key" --socket="$folder/munge/socket" \
        --pid-file="$folder/munge/pid" --log-file="$folder/munge/log" --seed-file="$folder/munge/seed"
    export SLURM_CONF="$folder/slurm.conf"
    slurmctld
    slurmd
    for _ in $(seq 100); do
        case $(sinfo -h -o %T 2>/dev/null) in idle*) exit 0 ;; esac
        sleep 0.2
    done
    tail -n 5 "$folder/slurmctld.log" "$folder/slurmd.log" >&2
    exit 1
    ;;
stop)
    for pid in "$folder/slurmd.pid" "$folder/slurmctld.pid" "$folder/munge/pid"; do
        if [ -s "$pid" ]; then kill "$(cat "$pid")" || true; fi
    done
    ;;
esac
