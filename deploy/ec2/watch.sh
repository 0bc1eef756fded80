#!/bin/bash
# Once a minute: the figures of this worker's /metrics to CloudWatch, one sample a worker, under the group's name. So
# their average is the backlog per instance, which the group scales on. A lag that is unknown is no sample, never 0.
# An unhealthy worker is restarted: Docker only tells, it does nothing.
set -euo pipefail

if [[ $(docker inspect --format '{{.State.Health.Status}}' streams) == unhealthy ]]; then
  echo "the worker is unhealthy: restarting it" >&2
  exec systemctl restart --no-block streams.service
fi

# An answer of the worker's own pages; a worker that is just starting has none yet, and that is no error.
page=$(curl --silent --fail --max-time 10 --noproxy '*' "${METRICS_URL:-http://127.0.0.1:6066/metrics}") || exit 0

# shellcheck disable=SC2016 # the dollar signs are awk's
data=$(awk -v group="$GROUP" '
  function metric(name, unit, value) {
    printf "%s{\"MetricName\":\"%s\",\"Unit\":\"%s\",\"Value\":%.3f,", (some++ ? "," : "["), name, unit, value
    printf "\"Dimensions\":[{\"Name\":\"AutoScalingGroupName\",\"Value\":\"%s\"}]}", group
  }
  /^streams_partition_lag_events\{/ { lag += $NF; partitions++ }
  /^streams_lag_unknown_partitions / { unknown = $NF }
  /^streams_rebalances_total / { joined = $NF }
  /^streams_condition_active\{condition="(kafka_unreachable|group_not_joined)"\}/ { outside += $NF }
  /^streams_partition_oldest_pending_seconds\{/ { if ($NF > oldest) oldest = $NF }
  /^streams_partition_time_to_loss_seconds\{/ && $NF != "+Inf" { if (loss == "" || $NF + 0 < loss) loss = $NF + 0 }
  /^streams_sink_failing / { failing = $NF }
  END {
    # As in /stats: a worker without partitions has no lag, but only where the group has said so and it is still in it.
    blind = unknown > 0 || (!partitions && (!joined || outside))
    if (!blind) metric("LagEvents", "Count", lag)
    metric("LagUnknown", "Count", blind)
    metric("OldestPendingSeconds", "Seconds", oldest)
    metric("SinkFailing", "Count", failing)
    if (loss != "") metric("TimeToLossSeconds", "Seconds", loss)
    print "]"
  }' <<<"$page")

exec aws cloudwatch put-metric-data --region "$AWS_REGION" --namespace "$NAMESPACE" --metric-data "$data"
