# What e2e-tests/compose/run does, step by step. It provides SHOP, the names of the services, ORDERS, and
# WORK, a folder.
# shellcheck shell=bash disable=SC2016  # what is in single quotes is for jq

ORDER=http://127.0.0.1:8001 JAEGER=http://127.0.0.1:16686 MAILPIT=http://127.0.0.1:8025 PROMETHEUS=http://127.0.0.1:9090
export ORDER

say() { printf '\n=== %s (%d s)\n' "$*" "$SECONDS"; }
fail() { printf 'FAILED: %s\n' "$*" >&2; exit 1; }

# Waits until a command succeeds: SECONDS, what is waited for, the command.
await() {
    local until=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        ((SECONDS < until)) || fail "not in time: $what"
        sleep 0.5
    done
}

get() { curl --noproxy '*' --silent --show-error --fail --max-time 10 "$@"; }
is() { jq --exit-status "$@" >/dev/null; }

# Places an order: KEY CARD COUNTRY; prints its id. Whatever dies meanwhile, the same key is the same order.
place() {
    local order
    order=$(jq --null-input --arg key "$1" --arg card "$2" --arg country "$3" '{
        customer: {id: "01940000-0000-7000-8000-000000000001", email: "\($key)@example.com"},
        lines: [{sku: "TEA-SENCHA", quantity: 1}],
        ship_to: {name: "Ada", street: "Harbour Street 1", city: "Hamburg", postal_code: "20457", country: $country},
        payment_method: $card}')
    curl --noproxy '*' --silent --fail --max-time 10 --retry 90 --retry-delay 1 --retry-all-errors \
        -H 'content-type: application/json' -H "idempotency-key: $1" --data "$order" "$ORDER/v1/orders" |
        jq --raw-output .id
}
export -f place

# The end of an order: ID STATE REASON
ended() {
    get "$ORDER/v1/orders/$1" |
        is --arg state "$2" --arg reason "${3:-}" '.state == $state and (.reason // "") == $reason'
}

# A trace that Jaeger finds by its service and knows by its id, with spans of all of these services.
traced() {
    local order=$1 trace
    shift
    trace=$(get "$ORDER/v1/orders/$order" | jq --raw-output .trace_id) &&
        get "$JAEGER/api/traces?service=order&limit=100&lookback=1h" |
        is --arg id "$trace" 'any(.data[]; .traceID == $id)' &&
        get "$JAEGER/api/traces/$trace" |
        is '[.data[0].processes[].serviceName] as $seen | ($ARGS.positional - $seen) == []' --args "$@"
}

# As many mails in the mailbox as the email service says it has sent for the order, and not none: ORDER KEY
mailed() {
    local sent
    sent=$(get "http://127.0.0.1:8005/v1/messages?order_id=$1" | jq '.items | length') &&
        get --get "$MAILPIT/api/v1/search" --data-urlencode "query=to:$2@example.com" |
        is --argjson sent "$sent" '.messages_count == $sent and $sent > 0'
}

# A query to Prometheus that has a result.
measured() { get --get "$PROMETHEUS/api/v1/query" --data-urlencode "query=$1" | is '.data.result | length > 0'; }

# Customers who place one order after the other until there is enough: HOW_MANY RUN
customers() {
    local customer n=0 pids=()
    for customer in $(seq "$1"); do
        while [[ ! -e $WORK/enough ]]; do
            key="$2-$customer-$((++n))"
            echo "$key" >>"$WORK/keys"
            place "$key" pm_card_visa DE >>"$WORK/ids"
        done &
        pids+=($!)
    done
    for customer in "${pids[@]}"; do wait "$customer" || return 1; done
}

# Waits until the customers have placed ORDERS more.
# shellcheck disable=SC2153
more() { await 180 "the load goes on" placed $(($(wc -l <"$WORK/ids") + ORDERS)); }
placed() { (($(wc -l <"$WORK/ids") >= $1)); }

# As many containers of a service as said: SERVICE REPLICAS
healthy() {
    docker compose ps --format json "$1" |
        is --slurp --argjson replicas "$2" 'flatten | map(select(.Health == "healthy")) | length == $replicas'
}

# All orders in the list of those that are open, which it shortens.
all_completed() {
    local id
    for id in $(<"$WORK/open"); do
        ended "$id" COMPLETED || return 1
        sed --in-place "/$id/d" "$WORK/open"
    done
}

# What the containers of the shop use while there is load, over and over.
sample() {
    local containers
    while containers=$(docker compose ps --quiet "${SHOP[@]}"); do
        # shellcheck disable=SC2086
        docker stats --no-stream --format '{{.Name}} {{.MemUsage}}' $containers >>"$WORK/memory" 2>/dev/null || true
    done
}

# Kills a container with -9, then starts it again.
slay() {
    say "kill -9 $1, after $(wc -l <"$WORK/ids") orders"
    docker compose kill --signal KILL "$1"
    docker compose start "$1"
    await 120 "$1 is healthy again" healthy "$1" 1
}

# Whether the database forbids it: ROLE DATABASE SQL
refused() {
    local psql=(psql --no-psqlrc --host 127.0.0.1 --username "$1" --dbname "$2" --command "$3")
    ! docker compose exec -T postgres "${psql[@]}" >"$WORK/refusal" 2>&1 && grep --quiet 'permission denied' "$WORK/refusal"
}

# The most that each container was seen to use, and what it may.
memory() {
    jq --raw-input --null-input --raw-output '
        def mb: capture("(?<n>[0-9.]+)(?<u>[KMG]i)B") | (.n | tonumber) * {Ki: 0.001024, Mi: 1.048576, Gi: 1073.741824}[.u];
        [inputs | split(" ") | {name: .[0], used: (.[1] | mb), limit: (.[3] | mb)}] | group_by(.name)
        | map({name: .[0].name, used: (map(.used) | max), limit: .[0].limit})
        | (.[] | "\(.name)\t\(.used * 10 | round / 10) MB of \(.limit | round) MB"),
          "all\t\(map(.used) | add | round) MB of \(map(.limit) | add | round) MB"' "$WORK/memory" |
        column -t -s $'\t'
}
