# syntax=docker/dockerfile:1
# The worker as a container: non-root, able to run on a read-only root file system (with a writable /tmp).
#
# BASE is any Debian-like image with python3 (3.11 to 3.13), its venv module and ca-certificates, for example a
# mirrored or hardened one. It is pinned by its tag; to pin the very bytes, add the digest that your registry shows:
# docker build --build-arg BASE=python:3.13-slim-bookworm@sha256:... .
ARG BASE=python:3.13-slim-bookworm

# The tag is in BASE, where hadolint does not look.
# hadolint ignore=DL3006
FROM ${BASE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1
RUN python3 -m venv /opt/streams
WORKDIR /src
# Dependencies first: they change less often than the code, and are then taken from the build cache.
COPY requirements/run.txt requirements/build.txt requirements/
RUN /opt/streams/bin/python -m pip install --require-hashes --requirement requirements/run.txt
COPY pyproject.toml README.md LICENSE ./
COPY streams streams
# pip has no work in the finished image.
RUN /opt/streams/bin/python -m pip install --require-hashes --requirement requirements/build.txt \
    && /opt/streams/bin/python -m pip install --no-deps --no-build-isolation . \
    && /opt/streams/bin/python -m pip uninstall --yes setuptools pip

# hadolint ignore=DL3006
FROM ${BASE} AS run

# The home directory is where AWS's libraries look for a profile that is mounted as .aws. pip, where the base has one
# of its own or the means to make one, has no work in the finished image.
RUN groupadd --gid 10001 streams \
    && useradd --uid 10001 --gid 10001 --create-home --no-log-init --shell /usr/sbin/nologin streams \
    && rm -rf /usr/local/bin/pip* /usr/local/lib/python3*/site-packages/pip* /usr/local/lib/python3*/ensurepip \
        /usr/lib/python3*/ensurepip /usr/share/python-wheels ~/.cache /var/cache/apt/* /var/lib/apt/lists/*
COPY --from=build /opt/streams /opt/streams

# STREAMS_WEB_BIND: a container's own loopback is out of reach for probes and Prometheus, so the web endpoints listen on
# all of its addresses. They have no authentication: publish the port only where its readers are.
# STREAMS_DATA_DIR: the one directory that the worker writes to; nothing in it has to survive.
ENV PATH=/opt/streams/bin:$PATH \
    HOME=/home/streams \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    STREAMS_WEB_BIND=0.0.0.0 \
    STREAMS_WEB_PORT=6066 \
    STREAMS_DATA_DIR=/tmp/streams

# Numeric, so that Kubernetes can tell that it is not root.
USER 10001:10001
WORKDIR /home/streams
EXPOSE 6066
STOPSIGNAL SIGTERM

# Without a proxy on purpose: http.client never looks for one.
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import http.client, os, sys; worker = http.client.HTTPConnection('127.0.0.1', int(os.environ['STREAMS_WEB_PORT']), timeout=4); worker.request('GET', '/health/live'); sys.exit(worker.getresponse().status != 200)"]

# The exec form: the worker is the container's first process and gets SIGTERM itself, also while Python still imports
# (streams/__main__.py). Give it longer to stop than STREAMS_DRAIN_TIMEOUT_SECONDS (25): docker run --stop-timeout 40.
CMD ["python", "-m", "streams", "worker"]

# Last, because they change with every build (what does not change stays in the build cache): `make image` sets them.
ARG VERSION=0.1.0
ARG REVISION=unknown
ARG SOURCE=unknown
ARG CREATED=unknown
LABEL org.opencontainers.image.title="streams" \
      org.opencontainers.image.description="Every event of your Kafka topics as an object of its own in S3" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.created="${CREATED}"
