#!/bin/bash
set -eo pipefail
pg_dump -U forum forum > /postgres.dump
