#!/usr/bin/env bash
# Makes the cluster's programs from their published Go modules, and the images of those that run in pods: build.sh [MODULE]...
#
# Each is made once, and again when its module's files changed.
set -Eeuo pipefail
# Some of the programs fail without a word.
trap 'echo "$0: line $LINENO failed: $BASH_COMMAND" >&2' ERR
. "$(dirname "${BASH_SOURCE[0]}")/plan.sh"
. "$here/image.sh"

export CGO_ENABLED=0 GOFLAGS="-buildvcs=false -trimpath" GOTOOLCHAIN=local
mkdir -p "$bin" "$cache/made"

# Whether the programs of a module are there, made from just these files.
made() { # made MODULE OUTPUT
    (cd "$here/modules/$1" && cat go.mod go.sum ./*.go 2>/dev/null | sha256sum) >"$cache/made/$1.new"
    [ -e "$bin/${2:-kubectl}" ] && cmp -s "$cache/made/$1.new" "$cache/made/$1"
}

build() { # build MODULE OUTPUT LDFLAGS PACKAGE...
    local module=$1 output=$2 flags=$3 begun=$SECONDS
    shift 3
    made "$module" "$output" && return
    (cd "$here/modules/$module" && go build -ldflags "-s -w $flags" -o "$bin/$output" "$@")
    mv "$cache/made/$module.new" "$cache/made/$module"
    echo "made $module in $((SECONDS - begun)) s"
}

# The version of what a module builds. Read off its file: Go would want its whole cache for that, also when all is made.
version_of() { # version_of MODULE REQUIRED
    sed -n "\|^[^/]*$2 v|{s|^[^/]*$2 \(v[^ ]*\).*|\1|p;q}" "$here/modules/$1/go.mod"
}

# Kubernetes takes its version from the linker; without it clients see v0.0.0.
kubernetes_flags() {
    local version package
    version=$(version_of kubernetes k8s.io/kubernetes)
    for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
        printf -- '-X %s.gitVersion=%s -X %s.gitMajor=1 -X %s.gitMinor=%s -X %s.gitTreeState=clean ' \
            "$package" "$version" "$package" "$package" "$(cut -d. -f2 <<<"$version")" "$package"
    done
}

wanted=("$@")
[ ${#wanted[@]} -gt 0 ] || wanted=(kubernetes etcd coredns jaeger collector helm3 helm4 tools)
for module in "${wanted[@]}"; do
    case $module in
    kubernetes)
        build kubernetes "" "$(kubernetes_flags)" \
            k8s.io/kubernetes/cmd/{kube-apiserver,kube-controller-manager,kube-scheduler,kubelet,kube-proxy,kubectl}
        ;;
    etcd) build etcd etcd "" go.etcd.io/etcd/server/v3 ;;
    helm3) build helm3 helm3 "-X helm.sh/helm/v3/internal/version.version=$(version_of helm3 helm.sh/helm/v3)" helm.sh/helm/v3/cmd/helm ;;
    helm4) build helm4 helm4 "-X helm.sh/helm/v4/internal/version.version=$(version_of helm4 helm.sh/helm/v4)" helm.sh/helm/v4/cmd/helm ;;
    jaeger) build jaeger jaeger "" github.com/jaegertracing/jaeger/cmd/all-in-one ;;
    *) build "$module" "$module" "" . ;;
    esac
    case $module in
    tools) image pause '["/tools", "pause"]' "$bin/tools=/tools" ;;
    coredns | jaeger | collector) image "$module" "[\"/$module\"]" "$bin/$module=/$module" ;;
    esac
done
