# The API, the migrations and the control processes: no torch inside.
FROM python:3.12-slim AS build
WORKDIR /src
COPY requirements/api.txt requirements/api.txt
RUN python -m venv /opt/slaegan && /opt/slaegan/bin/pip install --no-cache-dir --require-hashes -r requirements/api.txt
COPY pyproject.toml README.md LICENSE ./
COPY api api
COPY worker worker
COPY core core
COPY client client
COPY migrations migrations
RUN /opt/slaegan/bin/pip install --no-cache-dir --no-deps .

FROM python:3.12-slim
RUN useradd --uid 10001 --create-home slaegan && install -d -o slaegan /data /data/store /data/scratch /data/scratch/resumable /opt/weights
COPY --from=build /opt/slaegan /opt/slaegan
ENV PATH=/opt/slaegan/bin:$PATH PYTHONSAFEPATH=1 PYTHONUNBUFFERED=1 SLAEGAN_LOG_FORMAT=json SLAEGAN_DATA_DIR=/data/scratch \
    SLAEGAN_WEIGHTS_DIR=/opt/weights SLAEGAN_HOST=0.0.0.0
ARG COMMIT
ENV SLAEGAN_COMMIT=$COMMIT
USER slaegan
WORKDIR /data
EXPOSE 8000
CMD ["python", "-m", "api.main"]
