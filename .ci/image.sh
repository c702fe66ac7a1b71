# The image: static binaries, and nothing else. Read by .ci/run.
#
# WEIR_IMAGE is its name; without one it is what the chart asks for. Needs buildah, but no root, no base image and no daemon.

image_bytes_max=$((25 * 1024 * 1024))
image_binaries=(weir weirctl weir-injector)

# `cargo auditable` puts the list of dependencies into each binary.
cargo_auditable() {
    [ -x target/tools/bin/cargo-auditable ] && return 0
    echo "making cargo-auditable"
    cargo install --quiet --locked --root target/tools cargo-auditable@0.7.7 >"$logs/cargo-auditable.log" 2>&1 || {
        tail -5 "$logs/cargo-auditable.log"
        return 1
    }
}

# Static binaries of this machine's architecture in target/image/bin. No path of this machine is in them.
static_binaries() {
    local host name profile
    host=$(rustc --version --verbose | sed -n 's/^host: //p')
    # With --target the flags are not those of build scripts and macros, which cannot be static.
    local build=(env PATH="$PWD/target/tools/bin:$PATH" CARGO_TARGET_DIR=target/image
        RUSTFLAGS="-C target-feature=+crt-static --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo --remap-path-prefix=$PWD=/weir"
        cargo auditable build --locked --target "$host")
    "${build[@]}" --release --package sidecar --bin weir
    "${build[@]}" --profile small --package k8s --bin weir-injector
    # In a pod weirctl speaks to its own proxy only: it needs no client of API servers.
    "${build[@]}" --profile small --package control-api --bin weirctl --no-default-features --features client
    rm -rf target/image/bin
    mkdir -p target/image/bin
    for name in "${image_binaries[@]}"; do
        [ "$name" = weir ] && profile=release || profile=small
        cp "target/image/$host/$profile/$name" target/image/bin/
        chmod 0755 "target/image/bin/$name"
        image_binary "target/image/bin/$name"
    done
}

# Whether a binary is what the image promises; says its size. grep reads on to the end: whom it left would fail the pipe.
image_binary() { # image_binary PATH
    # A static binary names no interpreter and no library.
    if readelf --program-headers --dynamic "$1" | grep -E 'INTERP|NEEDED' >/dev/null; then
        echo "$1 is not static"
        return 1
    fi
    if ! readelf --section-headers --wide "$1" | grep '\.dep-v0' >/dev/null; then
        echo "$1 does not say what it was made of"
        return 1
    fi
    "$1" --version >/dev/null
    printf '%9d bytes %s\n' "$(stat --format=%s "$1")" "$(basename "$1")"
}

step_image() {
    local version image made bytes storage=$PWD/target/image/storage
    install buildah=buildah readelf=binutils || { skip image "the programs above are absent"; return; }
    cargo_auditable
    static_binaries
    version=$(app_version)
    image=${WEIR_IMAGE:-ghcr.io/weir-dev/weir:$version}
    made=$(git log -1 --format=%ct 2>/dev/null || echo 0)
    rm -f target/image/weir.tar
    # Its own storage, so that nothing is left on the machine. Times are the commit's, so that the same binaries make the same image.
    local buildah=(env XDG_RUNTIME_DIR="$storage" buildah --root "$storage" --runroot "$storage/run" --storage-driver vfs)
    "${buildah[@]}" build --quiet --isolation chroot --format oci --identity-label=false --timestamp "$made" --file k8s/Dockerfile --tag "$image" \
        --build-arg VERSION="$version" --build-arg REVISION="$(git rev-parse HEAD 2>/dev/null || true)" . >"$logs/image.log"
    "${buildah[@]}" push --quiet "$image" "docker-archive:target/image/weir.tar:$image" >>"$logs/image.log"
    "${buildah[@]}" rmi --all --force >>"$logs/image.log"
    bytes=$(stat --format=%s target/image/weir.tar)
    printf '%9d bytes target/image/weir.tar, %s\n' "$bytes" "$image"
    if [ "$bytes" -gt "$image_bytes_max" ]; then
        echo "the image is larger than $image_bytes_max bytes"
        return 1
    fi
    image_tests
}

# Unpacks the image, and runs what the tests promise of it.
image_tests() {
    local root=target/image/root
    if [ "$(id -u)" != 0 ]; then
        skip image-tests "only root can run the image without a container runtime"
        return
    fi
    install curl=curl setpriv=util-linux unshare=util-linux || { skip image-tests "the programs above are absent"; return; }
    rm -rf "$root"
    mkdir -p "$root"
    tar --extract --to-stdout --file target/image/weir.tar --wildcards '[0-9a-f]*.tar' | tar --extract --directory "$root"
    WEIR_E2E_IMAGE_ROOT="$PWD/$root" tests image test --workspace --test image -- --ignored
}
