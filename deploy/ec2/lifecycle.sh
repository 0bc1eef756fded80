#!/bin/bash
# Waits for the end of this instance, as the instance metadata announces it: a termination by its Auto Scaling group
# (target-lifecycle-state) or a Spot interruption. Then stops the worker, which drains, and lets the group go on.
# Should all of this fail, the hook's own timeout lets the group go on.
set -uo pipefail
imds=${IMDS:-http://169.254.169.254}
poll_seconds=${POLL_SECONDS:-5}
# Longer than the unit's TimeoutStopSec (60), shorter than the hook's heartbeat timeout (120).
stop_seconds=${STOP_SECONDS:-75}
drained=no

metadata() {
  local token
  token=$(curl --silent --fail --max-time 2 --noproxy '*' --request PUT "$imds/latest/api/token" \
    --header 'X-aws-ec2-metadata-token-ttl-seconds: 60') &&
    curl --silent --fail --max-time 2 --noproxy '*' --header "X-aws-ec2-metadata-token: $token" \
      "$imds/latest/meta-data/$1"
}

drain() {
  [[ $drained == yes ]] && return
  drained=yes
  echo "$1: stopping the worker"
  # The timer first: it would take the stopped worker for a sick one.
  systemctl stop streams-watch.timer
  if timeout "$stop_seconds" systemctl stop streams.service; then
    echo "the worker has stopped"
  else
    echo "the worker did not stop as it should; its events in flight will be delivered again" >&2
  fi
}

complete() {
  for _ in 1 2 3 4 5; do
    aws autoscaling complete-lifecycle-action --region "$AWS_REGION" --lifecycle-action-result CONTINUE \
      --lifecycle-hook-name "$LIFECYCLE_HOOK" --auto-scaling-group-name "$GROUP" --instance-id "$INSTANCE_ID" && return
    sleep "$poll_seconds"
  done
  echo "the lifecycle action could not be completed: the group goes on when its heartbeat times out" >&2
}

while :; do
  if [[ $(metadata autoscaling/target-lifecycle-state) == Terminated ]]; then
    drain "this instance is to be terminated"
    complete
    exit 0
  fi
  if metadata spot/instance-action >/dev/null; then
    drain "this Spot instance is interrupted"
  fi
  sleep "$poll_seconds"
done
