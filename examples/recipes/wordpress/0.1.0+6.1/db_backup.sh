#!/bin/bash
# Backup and restore hooks of the database: /db_backup.sh backup|clean|restore
set -euo pipefail

database=$MARIADB_DATABASE
dump=/var/lib/mysql/dump/$database.sql
login=(--no-defaults --socket=/var/lib/mysql/mysqld.sock --user=root "--password=$(<"$MARIADB_ROOT_PASSWORD_FILE")")

backup() {
    mkdir -p "$(dirname "$dump")"
    # Renamed when it is whole, so that a dump that broke off is never backed up.
    mariadb-dump "${login[@]}" --single-transaction --routines --add-drop-database --databases "$database" >"$dump.part"
    mv "$dump.part" "$dump"
}

restore() {
    if [ ! -s "$dump" ]; then
        echo "db_backup.sh: restoring: $dump is missing or empty" >&2
        exit 1
    fi
    # The dump begins with DROP DATABASE: nothing of the present data outlives it.
    mariadb "${login[@]}" <"$dump"
    clean
}

clean() { rm -f "$dump" "$dump.part"; }

case "${1:-}" in
    backup) backup ;;
    clean) clean ;;
    restore) restore ;;
    *) echo "usage: db_backup.sh backup|clean|restore" >&2; exit 2 ;;
esac
