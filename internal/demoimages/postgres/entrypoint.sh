#!/bin/bash
# Start gate of cc-ci's PostgreSQL image: makes the cluster when the volume is
# empty, then becomes the server. It understands POSTGRES_USER, POSTGRES_DB,
# POSTGRES_PASSWORD or POSTGRES_PASSWORD_FILE, and POSTGRES_INITDB_ARGS.
#
# The cluster is built beside its final place and renamed into it, so that a
# container killed in the middle of initdb leaves nothing that looks finished.
set -euo pipefail

volume=/var/lib/postgresql/data
cluster=$volume/pgdata
user=${POSTGRES_USER:-postgres}
database=${POSTGRES_DB:-$user}

fail() { echo "postgres image: $1" >&2; exit 1; }

make_cluster() {
    local password=${POSTGRES_PASSWORD:-} building=$volume/.pgdata.building
    if [ -n "${POSTGRES_PASSWORD_FILE:-}" ]; then
        [ -r "$POSTGRES_PASSWORD_FILE" ] || fail "the password file $POSTGRES_PASSWORD_FILE cannot be read"
        password=$(cat "$POSTGRES_PASSWORD_FILE")
    fi
    [ -n "$password" ] || fail "set POSTGRES_PASSWORD_FILE (or POSTGRES_PASSWORD): an empty password is refused"
    rm -rf "$building"
    # shellcheck disable=SC2086 # the arguments are meant to be split
    initdb --pgdata="$building" --username="$user" --pwfile=<(printf '%s\n' "$password") \
        --auth-local=trust --auth-host=scram-sha-256 --encoding=UTF8 --locale=C.UTF-8 \
        ${POSTGRES_INITDB_ARGS:-} >/dev/null
    printf "%s\n" "listen_addresses = '*'" "unix_socket_directories = '/var/lib/postgresql'" >>"$building/postgresql.conf"
    echo "host all all all scram-sha-256" >>"$building/pg_hba.conf"
    if [ "$database" != postgres ]; then
        # Single-user mode takes one statement a line and needs no running server.
        printf 'CREATE DATABASE "%s"\n' "${database//\"/\"\"}" |
            postgres --single -D "$building" -j postgres >/dev/null
    fi
    mv "$building" "$cluster"
    echo "postgres image: made the database cluster for \"$database\""
}

if [ "${1:-postgres}" = postgres ]; then
    [ -s "$cluster/PG_VERSION" ] || make_cluster
    shift || true
    exec postgres -D "$cluster" "$@"
fi
exec "$@"
