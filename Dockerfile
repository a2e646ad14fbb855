# ssdtune with its CPU dependencies. For CUDA, drop the constraint and pick torch's CUDA wheels.
#   docker build -t ssdtune . && docker run --rm -v "$PWD:/work" ssdtune demo
FROM python:3.11-slim

# gcc for packages that compile, git so that provenance can name the commit
RUN apt-get update \
 && apt-get install --no-install-recommends --yes gcc git make \
 && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/ssdtune
COPY pyproject.toml constraints.txt README.md ./
COPY ssdtune ssdtune
RUN pip install --no-cache-dir --constraint constraints.txt .

# studies, storage and checkpoints live in the mounted folder
WORKDIR /work
EXPOSE 8080
ENTRYPOINT ["ssdtune"]
CMD ["--help"]
