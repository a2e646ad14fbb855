# ssdtune with its CPU dependencies. For CUDA, build with --build-arg TORCH_INDEX= (PyPI's wheels bring CUDA).
#   docker build -t ssdtune . && docker run --rm -v "$PWD:/work" ssdtune demo
FROM python:3.11-slim-bookworm AS build
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
# gcc for packages that compile; it stays in this stage
RUN apt-get update \
 && apt-get install --no-install-recommends --yes gcc libc6-dev \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY ssdtune ssdtune
RUN python -m venv /opt/ssdtune \
 && /opt/ssdtune/bin/pip install --no-compile --no-cache-dir --disable-pip-version-check --constraint constraints.txt \
      ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} '.[postgresql,ray,s3]'
# compiles what a start loads, which the account of the image could not keep: a third of the start's time, 4 % of the size
RUN /opt/ssdtune/bin/python -c "import importlib, pkgutil, ssdtune, psycopg, boto3, ray; \
      [importlib.import_module(each.name) for each in pkgutil.walk_packages(ssdtune.__path__, 'ssdtune.')]"

FROM python:3.11-slim-bookworm
# git, so that provenance can name the commit
RUN apt-get update \
 && apt-get install --no-install-recommends --yes git \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --uid 10001 --create-home ssdtune \
 && mkdir /work /cache /artifacts && chown ssdtune: /work /cache /artifacts
COPY --from=build /opt/ssdtune /opt/ssdtune
ENV PATH=/opt/ssdtune/bin:$PATH PYTHONUNBUFFERED=1 SSDTUNE_CACHE=/cache
USER ssdtune
# studies, storage and checkpoints live in the mounted folder
WORKDIR /work
EXPOSE 8080 9100
STOPSIGNAL SIGTERM
# of a worker or a dashboard; what serves neither is well as long as it runs
ENV SSDTUNE_HEALTH_URL=
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
  CMD ["python", "-c", "import os, urllib.request as r; u = os.environ['SSDTUNE_HEALTH_URL']; u and r.urlopen(u, timeout=4)"]
ENTRYPOINT ["ssdtune"]
CMD ["--help"]
