#!/bin/bash
# Before each start of the worker: the secret as a file for user 10001 alone, and the image. What cannot be fetched but
# is there from the last start is used again: an outage of AWS's control plane must not keep a worker from starting.
set -euo pipefail
umask 077
properties=$RUNTIME_DIRECTORY/client.properties
export DOCKER_CONFIG=$RUNTIME_DIRECTORY/docker

fetch_secret() {
  aws secretsmanager get-secret-value --region "$AWS_REGION" --secret-id "$SECRET_ARN" \
    --query SecretString --output text >"$properties.new" &&
    chown 10001:10001 "$properties.new" &&
    chmod 0400 "$properties.new" &&
    mv "$properties.new" "$properties"
}

fetch_image() {
  aws ecr get-login-password --region "$AWS_REGION" |
    docker login --username AWS --password-stdin "${IMAGE%%/*}" >/dev/null &&
    docker pull --quiet "$IMAGE"
}

if ! fetch_secret; then
  rm -f "$properties.new"
  [[ -s $properties ]] || { echo "the secret $SECRET_ARN cannot be read" >&2; exit 1; }
  echo "the secret $SECRET_ARN cannot be read now: going on with the last one" >&2
fi
if ! fetch_image; then
  docker image inspect "$IMAGE" >/dev/null || { echo "the image $IMAGE cannot be pulled" >&2; exit 1; }
  echo "the image $IMAGE cannot be pulled now: going on with the one that is here" >&2
fi
