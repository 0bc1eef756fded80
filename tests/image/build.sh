#!/usr/bin/env bash
# Builds the Dockerfile without a container engine, for machines that have none: as root, on Debian or Ubuntu, with
# `apt-get install buildah mmdebstrap`. The base image is made from the machine's own package sources.
#
#   tests/image/build.sh [further arguments of `buildah build`]
#
# Then: STORAGE_DRIVER=vfs buildah from streams:test, and `buildah run --isolation chroot` on the container it names.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

export STORAGE_DRIVER="${STORAGE_DRIVER:-vfs}" BUILDAH_ISOLATION=chroot
base_image="${BASE_IMAGE:-streams-test-base}"
image="${IMAGE:-streams:test}"
sources="${APT_SOURCES:-}"
for candidate in /etc/apt/sources.list.d/{debian,ubuntu}.sources /etc/apt/sources.list; do
  [[ -z "$sources" && -s "$candidate" ]] && sources="$candidate"
done
# shellcheck source=/dev/null
suite="${SUITE:-$(. /etc/os-release && printf '%s' "$VERSION_CODENAME")}"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if ! buildah inspect --type image "$base_image" >/dev/null 2>&1; then
  printf 'Making the base image %s (%s)\n' "$base_image" "$suite"
  mmdebstrap --quiet --variant=minbase --include=python3,python3-venv,ca-certificates "$suite" "$work/base.tar" "$sources"
  container=$(buildah from scratch)
  buildah add --quiet "$container" "$work/base.tar" / >/dev/null
  buildah commit --quiet "$container" "$base_image" >/dev/null
  buildah rm "$container" >/dev/null
fi

# In a network with a certificate authority of its own, pip has to trust it during the build; mounts stay out of the image.
mounts=()
if [[ -n "${PIP_CERT:-}" ]]; then
  printf '[global]\ncert = /etc/ssl/certs/ca-certificates.crt\n' >"$work/pip.conf"
  mounts=(--volume "$PIP_CERT:/etc/ssl/certs/ca-certificates.crt:ro" --volume "$work/pip.conf:/etc/pip.conf:ro")
fi

before=$(buildah images --quiet --no-trunc "$image" 2>/dev/null || true)
# The docker format keeps HEALTHCHECK, which the OCI format has no place for.
buildah build --format docker --build-arg "BASE=localhost/$base_image" "${mounts[@]}" --tag "$image" "$@" .
# What was built before has lost its name: without this each build would leave 120 MB behind.
if [[ -n "$before" && "$before" != "$(buildah images --quiet --no-trunc "$image")" ]]; then
  buildah rmi "$before" >/dev/null || true
fi
printf 'Built %s\n' "$image"
