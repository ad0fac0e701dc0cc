#!/bin/sh
# All tests, as `make test` runs them: the end-to-end tests wait more than they compute, so the others run beside them and are shown after them.
#
#     tests/run.sh PYTEST
set -u
log=$(mktemp)
trap 'kill 0' INT TERM HUP
trap 'rm -f "$log"' EXIT
"$1" --ignore=tests/e2e -p no:cacheprovider > "$log" 2>&1 &
others=$!
"$1" tests/e2e
e2e=$?
wait $others
status=$?
cat "$log"
[ $e2e -eq 0 ] && [ $status -eq 0 ]
