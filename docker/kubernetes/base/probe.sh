#!/bin/sh
# Whether the tagger gives a tag of a neutral line, over HTTP inside of the pod: ends with 0 if the answer has one of the given statuses.
#
#     probe.sh 200         a tag has come back
#     probe.sh 200 503     or the queue is full
#
# HTTP, because with mutual TLS the pod itself would need a certificate to ask over gRPC; and because curl starts in milliseconds.
set -eu

line='{"user_last_message": "Hello.", "pika_response": "Let us sit down for a while."}'
url=http://127.0.0.1:8000/v2/models/tagger/generate

# 000 is what curl writes if there was no answer.
status=$(curl --silent --noproxy '*' --max-time 8 --output /dev/null --write-out '%{http_code}' --data "$line" "$url" || true)
for accepted in "$@"; do
    [ "$status" != "$accepted" ] || exit 0
done
echo "no tag: HTTP status $status" >&2
exit 1
