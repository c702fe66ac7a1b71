# shellcheck shell=bash
# Makes images of programs that are there, without a base image and without a registry. Read by build.sh and the shop.

# Whether an image of these files is there already; remembers what it was made of.
image_is_current() { # image_is_current NAME INPUT...
    local name=$1
    shift
    find "$@" -type f -printf '%p %s %T@\n' | sort | sha256sum >"$images/$name.new"
    [ -e "$images/$name.tar" ] && cmp -s "$images/$name.new" "$images/$name.made"
}

# An image of static programs: FROM scratch, an entry point, files.
image() { # image NAME ENTRYPOINT_JSON SOURCE=TARGET...
    local name=$1 entrypoint=$2 container pair store
    shift 2
    mkdir -p "$images"
    image_is_current "$name" "${@%%=*}" && return
    store=(buildah --root "$cache/buildah" --runroot "$run.buildah")
    export STORAGE_DRIVER=vfs
    container=$("${store[@]}" from scratch)
    for pair in "$@"; do
        "${store[@]}" copy --quiet "$container" "${pair%%=*}" "${pair#*=}" >/dev/null
    done
    "${store[@]}" config --entrypoint "$entrypoint" "$container"
    rm -f "$images/$name.tar"
    "${store[@]}" commit --quiet --rm "$container" "docker-archive:$images/$name.tar:registry.local/$name:1" >/dev/null
    "${store[@]}" rmi --all >/dev/null
    mv "$images/$name.new" "$images/$name.made"
}
