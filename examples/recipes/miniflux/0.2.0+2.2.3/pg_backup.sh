#!/bin/bash
# Backup and restore hooks of the database: /pg_backup.sh backup|clean|restore
set -euo pipefail

database=$POSTGRES_DB
export PGUSER=$POSTGRES_USER PGOPTIONS=--client-min-messages=warning
dump=/var/lib/postgresql/data/dump/miniflux.pgdump

sql() { psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --dbname=postgres "$@"; }

backup() {
    mkdir -p "$(dirname "$dump")"
    # Renamed when it is whole, so that a dump that broke off is never backed up.
    pg_dump --format=custom --file="$dump.part" "$database"
    mv "$dump.part" "$dump"
}

restore() {
    if [ ! -s "$dump" ]; then
        echo "pg_backup.sh: restoring: $dump is missing or empty" >&2
        exit 1
    fi
    # Into a database beside the live one: a broken dump must not cost the data that is there.
    sql --command="DROP DATABASE IF EXISTS \"${database}_restored\""
    sql --command="CREATE DATABASE \"${database}_restored\""
    pg_restore --exit-on-error --single-transaction --no-owner --dbname="${database}_restored" "$dump"
    # FORCE ends the app's sessions; it connects again by itself.
    sql --command="DROP DATABASE IF EXISTS \"$database\" WITH (FORCE)" \
        --command="ALTER DATABASE \"${database}_restored\" RENAME TO \"$database\""
    clean
}

clean() { rm -f "$dump" "$dump.part"; }

case "${1:-}" in
    backup) backup ;;
    clean) clean ;;
    restore) restore ;;
    *) echo "usage: pg_backup.sh backup|clean|restore" >&2; exit 2 ;;
esac
