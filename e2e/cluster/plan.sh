# shellcheck shell=bash
# Names, addresses and folders of the cluster, read by every script beside this one.
#
# Settings (environment):
#   WEIR_CLUSTER_CACHE  where programs and images are kept between runs (default: the user's cache folder)
#   WEIR_CLUSTER_RUN    where a running cluster keeps its state; short, since sockets have paths of 108 bytes at most
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
cache=${WEIR_CLUSTER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/weir-cluster}
run=${WEIR_CLUSTER_RUN:-/tmp/weir-cluster}
bin=$cache/bin
images=$cache/images

node=weir
# Outside and inside of the one wire into the cluster.
host4=10.99.0.1 node4=10.99.0.2 host6=fd00:99::1 node6=fd00:99::2
pods4=10.244.0.0/16 pods6=fd00:10:244::/64
services4=10.96.0.0/16 services6=fd00:10:96::/112 dns4=10.96.0.10
wire=weir-cluster0
cgroup=weir-cluster
cri=$run/containerd.sock
# What the kubelet changes of the whole machine, and what is put back.
sysctls="vm.overcommit_memory vm.panic_on_oom kernel.panic kernel.panic_on_oops kernel.keys.root_maxkeys kernel.keys.root_maxbytes"
controllers="cpu cpuacct cpuset memory devices freezer blkio pids systemd"

export PATH=$bin:/usr/local/go/bin:/usr/sbin:/sbin:$PATH

# Polls a command; fails when the time is over.
until_true() { # until_true SECONDS WHAT COMMAND...
    local end=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        if [ $SECONDS -ge $end ]; then
            echo "waited in vain until $what; the logs are in $run/logs" >&2
            return 1
        fi
        sleep 0.1
    done
}
