# shellcheck shell=bash
# Throw-away servers for tests, Postgres and Redis: no password, no fsync, their own folder and ports, gone when the script
# ends. Sourced after packages.sh.

SERVICES=
REDIS_PID=

# Makes the folder that holds what the servers write, and sees to their end.
open_services() {
    [ -z "$SERVICES" ] || return 0
    SERVICES=$(mktemp -d)
    chmod 777 "$SERVICES"
    trap stop_services EXIT
    trap 'exit 130' INT TERM
}

# Prints the folder of the newest Postgres server on this machine.
postgres_bin() {
    local initdb
    initdb=$(command -v initdb || true)
    [ -n "$initdb" ] || initdb=$(find /usr/lib/postgresql /usr/pgsql-* -path '*/bin/initdb' 2>/dev/null | sort -V | tail -1)
    [ -n "$initdb" ] && dirname "$(readlink -f "$initdb")"
}

# Postgres refuses to run as root.
as_postgres() {
    if [ "$(id -u)" != 0 ]; then
        "$@"
    else
        local user=nobody
        id postgres >/dev/null 2>&1 && user=postgres
        (cd "$SERVICES" && runuser -u "$user" -- "$@")
    fi
}

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

start_postgres() {
    if [ -z "$(postgres_bin)" ]; then
        # The package would start a server of its own; only ours is wanted.
        if [ "$(id -u)" = 0 ] && [ ! -e /etc/postgresql-common/createcluster.conf ]; then
            mkdir -p /etc/postgresql-common
            echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf
        fi
        install_package postgresql
    fi
    local port
    POSTGRES_BIN=$(postgres_bin)
    open_services
    port=$(free_port)
    as_postgres "$POSTGRES_BIN/initdb" -D "$SERVICES/postgres" -U postgres -A trust -E UTF8 --locale=C --no-sync >"$SERVICES/initdb.log"
    as_postgres "$POSTGRES_BIN/pg_ctl" -D "$SERVICES/postgres" -l "$SERVICES/postgres.log" -w start </dev/null >/dev/null -o \
        "-p $port -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off -c full_page_writes=off \
         -c synchronous_commit=off -c max_connections=300 -c shared_buffers=128MB" ||
        { cat "$SERVICES/postgres.log" >&2; exit 1; }
    export MANIFOLD_TEST_POSTGRES=postgres://postgres@127.0.0.1:$port/postgres
    export BLACKBOX_PSQL=$POSTGRES_BIN/psql
}

start_redis() {
    # The package would start a server of its own, except in single-user mode; only ours is wanted.
    RUNLEVEL=1 need redis-server redis-server
    local port
    open_services
    port=$(free_port)
    redis-server --port "$port" --bind 127.0.0.1 --save "" --appendonly no --dir "$SERVICES" --logfile "$SERVICES/redis.log" \
        </dev/null >/dev/null 2>&1 &
    REDIS_PID=$!
    until redis-cli -p "$port" ping >/dev/null 2>&1; do
        kill -0 "$REDIS_PID" 2>/dev/null || { cat "$SERVICES/redis.log" >&2; exit 1; }
        sleep 0.05
    done
    export MANIFOLD_TEST_REDIS=redis://127.0.0.1:$port
}

stop_services() {
    [ -n "$SERVICES" ] || return 0
    [ -z "$REDIS_PID" ] || kill "$REDIS_PID" 2>/dev/null || true
    [ ! -d "$SERVICES/postgres" ] || as_postgres "$POSTGRES_BIN/pg_ctl" -D "$SERVICES/postgres" -m immediate stop >/dev/null 2>&1 || true
    rm -rf "$SERVICES"
}
