#!/bin/bash
# Start gate of cc-ci's MariaDB image: makes the data folder when the volume is
# empty, then becomes the server. It understands MARIADB_DATABASE, MARIADB_USER,
# MARIADB_PASSWORD_FILE and MARIADB_ROOT_PASSWORD_FILE. The user healthcheck may
# connect from inside the container, without a password, and do nothing else.
#
# The folder is built beside its final place and renamed into it, so that a
# container killed in the middle leaves nothing that looks finished.
set -euo pipefail

volume=/var/lib/mysql
data=$volume/data

fail() { echo "mariadb image: $1" >&2; exit 1; }

# secret FILE prints a password as a quoted SQL text.
secret() {
    local text
    [ -n "$1" ] && [ -r "$1" ] || fail "set MARIADB_PASSWORD_FILE and MARIADB_ROOT_PASSWORD_FILE: ${1:-no file} cannot be read"
    text=$(<"$1")
    [ -n "$text" ] || fail "the password file $1 is empty"
    text=${text//\\/\\\\}
    printf "'%s'" "${text//\'/\'\'}"
}

make_data() {
    local password root building=$volume/.data.building database=${MARIADB_DATABASE:?} user=${MARIADB_USER:?}
    password=$(secret "${MARIADB_PASSWORD_FILE:-}")
    root=$(secret "${MARIADB_ROOT_PASSWORD_FILE:-}")
    rm -rf "$building"
    mariadb-install-db --no-defaults --datadir="$building" --auth-root-authentication-method=normal \
        --skip-test-db --skip-name-resolve >/dev/null
    # The bootstrap mode takes statements and needs no running server.
    mariadbd --no-defaults --datadir="$building" --bootstrap <<SQL
USE mysql;
FLUSH PRIVILEGES;
CREATE DATABASE \`$database\` CHARACTER SET utf8mb4;
CREATE USER '$user'@'%' IDENTIFIED BY $password;
GRANT ALL PRIVILEGES ON \`$database%\`.* TO '$user'@'%';
CREATE USER 'healthcheck'@'localhost';
ALTER USER 'root'@'localhost' IDENTIFIED BY $root;
DELETE FROM global_priv WHERE User = '' OR User = 'root' AND Host <> 'localhost';
SQL
    mv "$building" "$data"
    echo "mariadb image: made the database \"$database\""
}

if [ "${1:-mariadbd}" = mariadbd ]; then
    [ -d "$data/mysql" ] || make_data
    shift || true
    exec mariadbd --no-defaults --datadir="$data" --socket="$volume/mysqld.sock" --skip-name-resolve "$@"
fi
exec "$@"
