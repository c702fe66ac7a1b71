#!/usr/bin/env bash
# Runs the whole shop on this machine, without Kubernetes and without weir, and checks what the cluster's cases rely on.
#
# Settings (environment): SHOP_GO, SHOP_STOCK, SHOP_PYTHON (a folder with the packages and `shop`), SHOP_NODE (a folder with
# node_modules), made by images.sh or by hand.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
: "${SHOP_GO:?the Go program}" "${SHOP_STOCK:?the Rust program}" "${SHOP_PYTHON:?the folder of the Python part}" "${SHOP_NODE:=$here/node}"

work=$(mktemp -d)
declare -A pids=() sides=()
finish() {
    local code=$?
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    wait || true
    [ $code -eq 0 ] || tail -n 5 "$work"/*.log
    rm -rf "$work"
    exit $code
}
trap finish EXIT

passed=0
check() { # check WHAT WANTED GOT
    if [[ "$3" != $2 ]]; then
        echo "$1: wanted $2, got $3" >&2
        return 1
    fi
    passed=$((passed + 1))
}

start() { # start NAME PORT COMMAND...
    local name=$1 port=$2
    shift 2
    sides[$name]=$((port + 100))
    PORT=$port SIDE_PORT=$((port + 100)) "$@" >"$work/$name.log" 2>&1 &
    pids[$name]=$!
}
side() { curl --silent --max-time 5 "http://127.0.0.1:${sides[$1]}/$2"; }
fetch() { curl --silent --max-time 10 --output "$work/body" --write-out '%{http_code}' "${@:2}" "http://127.0.0.1:18080/$1"; }
field() { python3 -c 'import json, sys
value = json.load(sys.stdin)
for name in sys.argv[1].split("."): value = value[name]
print(value)' "$1"; }

export CHECKOUT_URL=http://127.0.0.1:18081 CATALOG_URL=http://127.0.0.1:18082 STOCK_URL=http://127.0.0.1:18083
export PAYMENTS_ADDR=127.0.0.1:18084 LEDGER_ADDR=127.0.0.1:18085
start gateway 18080 node "$SHOP_NODE/gateway.js"
start checkout 18081 python3 "$SHOP_PYTHON" checkout
start catalog 18082 "$SHOP_GO" catalog
start stock 18083 "$SHOP_STOCK"
start payments 18084 "$SHOP_GO" payments
start ledger 18085 node "$SHOP_NODE/ledger.js"
for name in "${!sides[@]}"; do
    for _ in $(seq 100); do
        [ "$(side "$name" ready)" = ready ] && break
        sleep 0.1
    done
    check "$name is ready" ready "$(side "$name" ready)"
done

trace=00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01
headers=(--header "traceparent: $trace" --header "tracestate: a=b" --header "baggage: c=d" --header "x-request-id: try-1")
check "/buy" 200 "$(fetch buy "${headers[@]}")"
check "the body of /buy" $trace "$(field checkout.payments.ledger.traceparent <"$work/body")"
for name in "${!sides[@]}"; do
    check "$name saw the trace" $trace "$(side "$name" last | field traceparent)"
    check "$name saw the tracestate" a=b "$(side "$name" last | field tracestate)"
    check "$name saw the baggage" c=d "$(side "$name" last | field baggage)"
    check "$name saw the request id" try-1 "$(side "$name" last | field x-request-id)"
    check "$name counted" 1 "$(side "$name" counts | field served)"
done
check "/browse" 200 "$(fetch browse)"
check "the body of /browse" 12 "$(field catalog.stock.left <"$work/body")"
check "stock speaks HTTP/1 too" 200 \
    "$(curl --silent --output /dev/null --write-out '%{http_code}' http://127.0.0.1:18083/stock/7)"

# Every service fails when told to, what it fails is what the buyer sees, and it heals.
for name in "${!sides[@]}"; do
    way=buy
    side "$name" reset >"$work/null"
    check "$name takes a fault" set "$(side "$name" "fault?status=503&share=0.5")"
    check "half of $name's answers, the first" 200 "$(fetch $way)"
    check "half of $name's answers, the second" 503 "$(fetch $way)"
    check "$name counted the good one" 1 "$(side "$name" counts | field served)"
    check "$name counted the bad one" 1 "$(side "$name" counts | field failed)"
    for wrong in status=x share=2 delay=5 concurrency=0 typo=1; do
        check "$name refuses $wrong" 400 \
            "$(curl --silent --output /dev/null --write-out '%{http_code}' "http://127.0.0.1:${sides[$name]}/fault?$wrong")"
    done

    # A bound of one and a delay: eight at once queue inside the service, and take eight times as long.
    side "$name" reset >"$work/null"
    side "$name" "fault?delay=50ms&concurrency=1" >"$work/null"
    summary=$("$SHOP_GO" load --url http://127.0.0.1:18080/buy --rate 1000 --calls 8)
    check "$name served all" 8 "$(field status.200 <<<"$summary")"
    check "$name had them all inside" "[5-8]" "$(side "$name" counts | field concurrent_max)"
    check "$name made them wait" "[4-9]??.*" "$(field latency_ms.max <<<"$summary")"
    check "$name heals" set "$(side "$name" fault)"
done

# Callers that leave while they wait give their places back.
for name in gateway catalog stock payments ledger; do
    side "$name" "fault?delay=400ms&concurrency=1" >"$work/null"
    "$SHOP_GO" load --url http://127.0.0.1:18080/buy --rate 100 --calls 6 --timeout 200ms >"$work/left"
    check "$name's callers left" 6 "$(field errors.timeout <"$work/left")"
    side "$name" fault >"$work/null"
    sleep 0.5
    check "nobody is left in $name" 0 "$(side "$name" counts | field concurrent)"
done

check "get" '*"ok":true*"status":200*"remote":"127.0.0.1:18083"*' "$("$SHOP_GO" get http://127.0.0.1:18083/stock/7 --h2 --json)"
check "get of nothing" '*"error_kind":"refused"*' "$("$SHOP_GO" get http://127.0.0.1:18099/ || true)"
check "call" '*"status":"OK"*ledger*' "$("$SHOP_GO" call 127.0.0.1:18084/shop.Payments/Charge --body '{"item": 7}')"
side ledger "fault?status=503" >"$work/null"
check "call of a failing one" '*"status":"UNAVAILABLE"*"error":""*' \
    "$("$SHOP_GO" call 127.0.0.1:18085/shop.Ledger/Record | sed 's/}$/,"error":""}/')"
side ledger fault >"$work/null"
check "load by gRPC" '*"status":{"OK":20}*' \
    "$("$SHOP_GO" load --grpc --url 127.0.0.1:18085/shop.Ledger/Record --rate 100 --calls 20)"
check "job" '*"ok":5,*' "$("$SHOP_GO" job http://127.0.0.1:18082/items/7 --calls 5)"
start greet 18086 "$SHOP_GO" greet --port 18086
for _ in $(seq 50); do [ "$(side greet ready)" = ready ] && break || sleep 0.1; done
check "a server that speaks first" '*"bytes":"220 shop greets you*' "$("$SHOP_GO" dial 127.0.0.1:18086)"

# A graceful end: under load, told to end, every service ends with 0 after its drain, and the calls until then lose nothing.
for name in gateway checkout catalog stock payments ledger; do
    "$SHOP_GO" load --url http://127.0.0.1:18080/buy --rate 40 --calls 32 >"$work/ending" &
    loading=$!
    sleep 0.2
    kill -TERM "${pids[$name]}"
    wait $loading
    check "$name is unready" ending "$(side "$name" ready)"
    check "calls while $name ends" '*"ok":32,*' "$(cat "$work/ending")"
    code=0
    wait "${pids[$name]}" || code=$?
    check "$name ends" 0 $code
    unset "pids[$name]"
    case $name in
    gateway) start gateway 18080 node "$SHOP_NODE/gateway.js" ;;
    checkout) start checkout 18081 python3 "$SHOP_PYTHON" checkout ;;
    catalog) start catalog 18082 "$SHOP_GO" catalog ;;
    stock) start stock 18083 "$SHOP_STOCK" ;;
    payments) start payments 18084 "$SHOP_GO" payments ;;
    ledger) break ;;
    esac
    for _ in $(seq 100); do [ "$(side "$name" ready)" = ready ] && break || sleep 0.1; done
done
echo "$passed passed, 0 failed"
