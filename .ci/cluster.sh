# weir in a real cluster: the one of KUBECONFIG, whose nodes then have the images already, or one that is made here and taken down.
# Read by .ci/run.
#
# Only what this made is removed, whatever becomes of the tests: weir, its namespaces, and the cluster itself if it is ours.

# What a cluster of our own is made of; says what is absent.
cluster_can_be_made() {
    local program
    if [ "$(id -u)" != 0 ]; then
        echo "only root can make a cluster; KUBECONFIG names another one"
        return 1
    fi
    if [ ! -d /sys/fs/cgroup/cpuset ]; then
        echo "the node is made for cgroup v1, and this machine has v2; KUBECONFIG names another cluster"
        return 1
    fi
    for program in go node npm python3 strip; do
        has "$program" || { echo "$program is absent"; return 1; }
    done
    install containerd=containerd runc=runc nft=nftables iptables=iptables conntrack=conntrack buildah=buildah curl=curl \
        h2load=nghttp2-client || return 1
    [ -x /usr/lib/cni/bridge ] || install bridge=containernetworking-plugins || return 1
    if [ -e "$run" ]; then
        echo "a cluster is up already ($run): use it by KUBECONFIG=$run/pki/admin.conf, or end it with e2e/cluster/down.sh"
        return 1
    fi
}

# Whether a namespace of this name is there: it is somebody's, and stays as it is.
namespace_exists() { kubectl get namespace "$1" >/dev/null 2>&1; }

# Ends the making of programs, if it still goes on.
programs_end() {
    [ -n "$programs" ] || return 0
    kill -- "-$programs" 2>/dev/null || true
    wait "$programs" 2>/dev/null || true
    programs=''
}

cluster_end() {
    local code=$?
    programs_end
    if [ -n "$cluster_own" ]; then
        mkdir -p "$logs/cluster"
        cp "$run"/logs/*.log "$logs/cluster/" 2>/dev/null || true
        e2e/cluster/down.sh || code=1
    elif [ -n "$cluster_installed" ]; then
        "$helm" uninstall weir --namespace weir-system --wait --ignore-not-found || true
        kubectl delete namespace weir-system weir-tracing --wait --timeout=120s || true
    fi
    finish $code
}

# Those whose names have one of the words; without words, all: first what neither measures nor changes what all pods share, three at
# a time, then the others one by one.
cluster_tests() { # cluster_tests [WORD]...
    local words=(test --workspace --test cluster -- --ignored --nocapture) beside=(audit:: injection:: lifecycle:: policy::) code=0
    if [ $# -gt 0 ]; then
        tests cluster "${words[@]}" --test-threads 1 "$@"
        return
    fi
    tests cluster-beside "${words[@]}" --test-threads 3 "${beside[@]}" || code=1
    tests cluster "${words[@]}" --test-threads 1 "${beside[@]/#/--skip=}" || code=1
    return $code
}

step_cluster() {
    local archive modules program begun=$SECONDS
    # shellcheck source=e2e/cluster/plan.sh
    . e2e/cluster/plan.sh
    cluster_own='' cluster_installed='' programs='' modules=()
    if [ -z "${KUBECONFIG:-}" ]; then
        cluster_can_be_made || { skip cluster "see above"; return; }
    else
        modules=(helm3 helm4)
        for program in kubectl go; do
            has "$program" || { skip cluster "$program is absent"; return; }
        done
        install buildah=buildah h2load=nghttp2-client || { skip cluster "see above"; return; }
    fi
    trap cluster_end EXIT
    # Go and Rust have long phases of one thread each: side by side they are sooner done. A group of its own can be ended as one.
    setsid e2e/cluster/build.sh "${modules[@]}" >"$logs/programs.log" 2>&1 &
    programs=$!
    rm -f target/image/weir.tar
    # Under a name that no registry has: the node has it already, or the test is not of this image.
    WEIR_IMAGE=registry.local/weir:$(app_version) step_image
    if [ ! -e target/image/weir.tar ]; then
        programs_end
        skip cluster "there is no image"
        return
    fi
    cargo test --quiet --workspace --test cluster --no-run
    wait "$programs" || { programs=''; tail -20 "$logs/programs.log"; return 1; }
    programs=''
    grep "^made" "$logs/programs.log" || true
    if [ -z "${KUBECONFIG:-}" ]; then
        e2e/cluster/shop/images.sh
        cluster_own=1
        e2e/cluster/up.sh
        export KUBECONFIG=$run/pki/admin.conf
        for archive in jaeger collector nats postgres shop-go shop-rust shop-python shop-node; do
            e2e/cluster/load.sh "$images/$archive.tar"
        done
        e2e/cluster/load.sh target/image/weir.tar
    elif namespace_exists weir-system || namespace_exists weir-tracing; then
        skip cluster "weir-system or weir-tracing is there: this step installs weir itself, and removes it"
        return
    fi
    echo "cluster and images after $((SECONDS - begun)) s"
    helm=helm4
    cluster_installed=1
    kubectl apply --filename e2e/cluster/manifests/tracing.yaml >/dev/null
    "$helm" install weir helm/weir --namespace weir-system --create-namespace --values e2e/cluster/values.yaml --wait --timeout 120s
    "$helm" test weir --namespace weir-system --timeout 60s
    kubectl --namespace weir-tracing rollout status deployment/jaeger deployment/collector --timeout=120s
    cluster_tests "${CLUSTER_TESTS[@]}"
    "$helm" uninstall weir --namespace weir-system --wait
    if kubectl get mutatingwebhookconfigurations,clusterroles,clusterrolebindings --output name | grep weir; then
        echo "the objects above are left of the release"
        return 1
    fi
    echo "all of it took $((SECONDS - begun)) s"
}
