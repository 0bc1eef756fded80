#!/bin/bash
# The first boot, after the template's user data has written the files: installs Docker, starts the units, and returns
# once the worker is ready. Its exit code is what CloudFormation is told.
set -euo pipefail
imds=${IMDS:-http://169.254.169.254}
configuration=${CONFIGURATION:-/etc/streams}
ready_url=${READY_URL:-http://127.0.0.1:6066/health/ready}
ready_seconds=${READY_SECONDS:-420}

metadata() {
  curl --silent --fail --retry 5 --max-time 5 --noproxy '*' "$imds/latest/meta-data/$1" --header \
    "X-aws-ec2-metadata-token: $(curl --silent --fail --retry 5 --max-time 5 --noproxy '*' --request PUT \
      "$imds/latest/api/token" --header 'X-aws-ec2-metadata-token-ttl-seconds: 60')"
}

echo "INSTANCE_ID=$(metadata instance-id)" >>"$configuration/unit.env"
# The broker in the same zone serves the reads where brokers have racks: no traffic between zones to pay for.
echo "STREAMS_KAFKA_CLIENT_RACK=$(metadata placement/availability-zone-id)" >>"$configuration/streams.env"

for attempt in 1 2 3 4 5; do
  dnf install --quiet --assumeyes docker aws-cfn-bootstrap && break
  [[ $attempt -lt 5 ]] || { echo "docker cannot be installed: does this subnet reach the package repositories?" >&2; exit 1; }
  sleep "${RETRY_SECONDS:-10}"
done
systemctl daemon-reload
systemctl enable --now docker.service streams-lifecycle.service
# Before the worker: one that never gets ready has figures and alarms all the same.
systemctl enable --now streams-watch.timer
# It starts again by itself when the secret or the image cannot be had yet.
systemctl enable streams.service
systemctl start --no-block streams.service

deadline=$((SECONDS + ready_seconds))
until curl --silent --fail --max-time 5 --noproxy '*' --output /dev/null "$ready_url"; do
  if ((SECONDS >= deadline)); then
    echo "the worker is not ready after $ready_seconds s: journalctl -u streams, and the log group" >&2
    exit 1
  fi
  sleep "${RETRY_SECONDS:-10}"
done
echo "the worker is ready"
