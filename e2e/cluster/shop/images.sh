#!/usr/bin/env bash
# Makes the shop's images, without a base image and without a registry: `images.sh [NAME]...`, all without names. An image is made
# again when what it is made of changed.
#
# Go, Rust and NATS are static programs alone. Python, Node and PostgreSQL are this machine's own programs with the libraries that
# they load. None has a shell, but for PostgreSQL's, whose initdb needs one.
set -Eeuo pipefail
# Some of the programs fail without a word.
trap 'echo "$0: line $LINENO failed: $BASH_COMMAND" >&2' ERR
. "$(dirname "${BASH_SOURCE[0]}")/../plan.sh"
. "$here/image.sh"
shop=$here/shop
stock_target=$cache/stock-target
mkdir -p "$bin" "$images" "$cache/made"
# What a failed run was making.
trap 'rm -rf "$cache"/stage.*' EXIT

# Makes image NAME, if it has to be: `stage_NAME FOLDER` puts the files there. Inputs are files and folders, hashed by content, and
# `=TEXT` for what else it depends on.
shop_image() { # shop_image NAME ENTRYPOINT_JSON INPUT...
    local name=$1 entrypoint=$2 begun=$SECONDS stage input
    shift 2
    # This script too, for what it puts beside the inputs.
    for input in "$0" "$@"; do
        case $input in
        =*) echo "$input" ;;
        *) find "$input" \( -name node_modules -o -name __pycache__ -o -name target \) -prune -o -type f -print0 |
            sort --zero-terminated | xargs --null cat | sha256sum ;;
        esac
    done >"$cache/made/$name.new"
    [ -e "$images/$name.tar" ] && cmp -s "$cache/made/$name.new" "$cache/made/$name" && return
    stage=$(mktemp -d "$cache/stage.XXXXXX")
    "stage_${name//-/_}" "$stage"
    chmod -R a+rX "$stage"
    image "$name" "$entrypoint" "$stage=/"
    rm -rf "$stage"
    mv "$cache/made/$name.new" "$cache/made/$name"
    echo "made $name ($(du -h "$images/$name.tar" | cut -f1)) in $((SECONDS - begun)) s"
}

# Copies the libraries that the programs and libraries of a stage load, and their loader, into it. All go into one folder, in which
# every loader looks: where this machine has them may be nobody else's to read.
libraries() { # libraries STAGE
    local stage=$1 loader
    mkdir -p "$stage/lib"
    # What is no program of ours, ldd refuses, and says so by its code.
    find "$stage" -type f \( -perm -u+x -o -name '*.so*' \) -print0 | { xargs --null --max-args=1 ldd 2>/dev/null || true; } |
        awk '$2 == "=>" && $3 ~ /^\// { print $3 }' | sort --unique |
        while read -r library; do cp --dereference --no-clobber "$library" "$stage/lib/"; done
    loader=$(ldd /bin/sh | awk '$1 ~ /^\// { print $1 }')
    mkdir -p "$stage$(dirname "$loader")"
    cp --dereference "$loader" "$stage$loader"
    # Older C libraries load these when a name is looked up; newer ones have them inside.
    for library in libnss_files.so.2 libnss_dns.so.2 libresolv.so.2; do
        # awk reads on to the end: whom it left would fail the pipe.
        library=$(ldconfig -p | awk -v name="$library" '$1 == name && !found { print $NF; found = 1 }')
        [ -z "$library" ] || cp --dereference --no-clobber "$library" "$stage/lib/"
    done
}

# Names of users, and where names of hosts are looked up.
accounts() { # accounts STAGE
    mkdir -p "$1/etc"
    printf '%s\n' 'root:x:0:0::/:/none' 'shop:x:1000:1000::/:/none' 'postgres:x:999:999::/data:/bin/sh' >"$1/etc/passwd"
    printf '%s\n' 'root:x:0:' 'shop:x:1000:' 'postgres:x:999:' >"$1/etc/group"
    echo 'hosts: files dns' >"$1/etc/nsswitch.conf"
}

stage_shop_go() {
    (cd "$shop/go" && CGO_ENABLED=0 GOTOOLCHAIN=local go build -buildvcs=false -trimpath -ldflags "-s -w" -o "$1/shop" .)
    accounts "$1"
}

stage_shop_rust() {
    local triple
    triple=$(rustc -vV | sed -n 's/^host: //p')
    # With a target named, build scripts and procedural macros stay dynamic, as they must.
    (cd "$shop/stock" && RUSTFLAGS="-C target-feature=+crt-static" \
        cargo build --locked --quiet --release --target "$triple" --target-dir "$stock_target")
    cp "$stock_target/$triple/release/stock" "$1/stock"
}

stage_shop_python() {
    local stdlib version
    read -r version stdlib < <(python3 -c 'import sys, sysconfig
print("%d.%d" % sys.version_info[:2], sysconfig.get_path("stdlib"))')
    mkdir -p "$1/usr/bin" "$1/usr/lib"
    cp --dereference "$(python3 -c 'import sys; print(sys.executable)')" "$1/usr/bin/python3"
    # Not what nobody here imports; least of all the packages that this machine has beside the library.
    mkdir -p "$1/usr/lib/python$version"
    tar --create --dereference --directory "$stdlib" --anchored --no-wildcards-match-slash --exclude-from - . <<'END' |
./site-packages
./dist-packages
./config-*
./test
./idlelib
./tkinter
./turtledemo
./turtle.py
./lib2to3
./ensurepip
./pydoc_data
./distutils
./unittest
./venv
./lib-dynload/*test*
./lib-dynload/_tkinter*
END
        tar --extract --directory "$1/usr/lib/python$version"
    python3 -m pip install --quiet --root-user-action=ignore --disable-pip-version-check --no-deps --only-binary=:all: --no-compile \
        --target "$1/app" --requirement "$shop/python/requirements.txt"
    cp --recursive "$shop/python/shop" "$shop/python/__main__.py" "$1/app/"
    find "$1" \( -name __pycache__ -o -name tests -o -name bin -path '*/app/*' \) -prune -exec rm -rf {} +
    find "$1" -name '*.so*' -type f -exec strip --strip-unneeded {} +
    libraries "$1"
    strip --strip-unneeded "$1"/lib/libpython*
    # The root is read-only: what is not compiled now is compiled at every start. By hash, since a layer may change the times.
    python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash -s "$1" "$1/app" "$1/usr/lib/python$version" >/dev/null
    accounts "$1"
}

stage_shop_node() {
    mkdir -p "$1/usr/bin" "$1/app"
    cp --dereference "$(node --print process.execPath)" "$1/usr/bin/node"
    cp "$shop"/node/*.js* "$1/app/"
    (cd "$1/app" && npm ci --silent --omit=dev --ignore-scripts)
    find "$1/app" -type f \( -name '*.md' -o -name '*.map' -o -name '*.ts' -o -name '*.proto' -not -path '*/grpc-js/*' \) -delete
    libraries "$1"
    accounts "$1"
}

# Its programs, from the package of the system.
postgres_bin() { find /usr/lib/postgresql -maxdepth 2 -name bin 2>/dev/null | sort --version-sort | tail -1; }
install_postgres() {
    [ -n "$(postgres_bin)" ] && return
    apt-get update -qq
    # Without a cluster of its own, which the package would make and start.
    mkdir -p /etc/postgresql-common
    [ -e /etc/postgresql-common/createcluster.conf ] || echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql >/dev/null
}

stage_postgres() {
    local programs libs share
    programs=$(postgres_bin)
    libs=$(dirname "$programs")/lib
    share=/usr/share/postgresql/$(basename "$(dirname "$programs")")
    mkdir -p "$1$programs" "$1$libs" "$1$share" "$1/bin" "$1/usr/share/zoneinfo" "$1/data"
    cp --dereference "$programs"/{postgres,initdb} "$1$programs/"
    cp --dereference "$libs"/{plpgsql,dict_snowball}.so "$1$libs/"
    # initdb converts no text: the functions that would are looked for only when they are called.
    cp --recursive --dereference "$share"/. "$1$share/"
    rm -rf "$1$share"/man "$1$share"/locale
    cp --dereference /usr/share/zoneinfo/UTC "$1/usr/share/zoneinfo/UTC"
    cp --dereference /bin/dash "$1/bin/sh"
    cat >"$1/start" <<END
# Makes the data when there is none, and serves it. Everybody may do everything: it is a test's.
set -e
data=\${PGDATA:-/data/postgres}
[ -e "\$data/PG_VERSION" ] || $programs/initdb --pgdata "\$data" --username postgres --auth trust --encoding UTF8 --locale C --no-sync
echo 'host all all all trust' >"\$data/pg_hba.conf"
exec $programs/postgres -D "\$data" -c listen_addresses='*' -c port=5432 -c unix_socket_directories= -c fsync=off \\
    -c shared_buffers=16MB -c max_connections=50 -c timezone=UTC -c log_timezone=UTC
END
    libraries "$1"
    accounts "$1"
}

stage_nats() {
    (cd "$here/modules/nats" && CGO_ENABLED=0 GOTOOLCHAIN=local \
        go build -buildvcs=false -trimpath -ldflags "-s -w" -o "$1/nats-server" github.com/nats-io/nats-server/v2)
}

wanted=("$@")
[ ${#wanted[@]} -gt 0 ] || wanted=(shop-go shop-rust shop-python shop-node postgres nats)
for name in "${wanted[@]}"; do
    case $name in
    shop-go) shop_image $name '["/shop"]' "$shop/go" "=$(go version)" ;;
    shop-rust) shop_image $name '["/stock"]' "$shop/stock" "=$(rustc --version)" ;;
    shop-python) shop_image $name '["/usr/bin/python3", "/app"]' "$shop/python" "=$(python3 -VV)" ;;
    shop-node) shop_image $name '["/usr/bin/node"]' "$shop/node" "=$(node --version)" ;;
    postgres)
        install_postgres
        shop_image $name '["/bin/sh", "/start"]' "$(postgres_bin)/postgres" /bin/dash
        ;;
    nats) shop_image $name '["/nats-server"]' "$here/modules/nats" "=$(go version)" ;;
    *)
        echo "$name: no image of the shop" >&2
        exit 2
        ;;
    esac
done
