# docker build -t batchscan .
# docker run --rm --read-only --tmpfs /tmp -v batchscan-state:/state -v "$PWD/skills:/skills:ro" batchscan scan /skills
#
# Everything that is installed is pinned and hashed by configs/*.lock; only the first two steps of the
# build use a network.

FROM python:3.13-slim AS build
WORKDIR /src
COPY configs/requirements.lock configs/build.lock configs/
RUN python -m venv /opt/batchscan \
    && /opt/batchscan/bin/pip install --no-cache-dir --require-hashes -r configs/requirements.lock
RUN python -m venv /opt/build \
    && /opt/build/bin/pip install --no-cache-dir --require-hashes -r configs/build.lock
COPY pyproject.toml README.md LICENSE ./
COPY batchscan batchscan
RUN /opt/build/bin/pip wheel --no-index --no-deps --no-build-isolation --wheel-dir /wheels . \
    && /opt/batchscan/bin/pip install --no-cache-dir --no-index /wheels/batchscan-*.whl

FROM python:3.13-slim
COPY --from=build /opt/batchscan /opt/batchscan
# A number, so that an orchestrator can see that it is not root.
RUN install -d -m 0700 -o 10001 -g 10001 /state
USER 10001:10001
ENV PATH=/opt/batchscan/bin:$PATH \
    BATCHSCAN_STATE_DIR=/state \
    HOME=/state \
    MALLOC_ARENA_MAX=2 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
VOLUME ["/state"]
# SIGTERM drains for up to 8 seconds, within the grace that container engines give.
STOPSIGNAL SIGTERM
ENTRYPOINT ["batchscan"]
CMD ["--help"]
