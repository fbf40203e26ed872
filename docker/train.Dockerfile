# Training, data and evaluation: the environment of `make setup` with the pinned versions of constraints/train.txt.
#
#   docker build -f docker/train.Dockerfile -t adcopilot-train .
#   docker run --gpus all --ipc=host --user "$(id -u):$(id -g)" -v "$PWD:/work" adcopilot-train \
#       llamafactory-cli train examples/train/tiny/stage0.yaml
#
# torch's wheels bring CUDA, so the base needs none; the driver is the host's. g++ is for DeepSpeed's CPU kernels.
FROM python:3.11.7-slim-bookworm AS build
WORKDIR /src
COPY . .
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheel .

FROM python:3.11.7-slim-bookworm

RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ libgl1 libglib2.0-0 make \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 user

COPY --from=build /wheel /wheel
COPY constraints/train.txt /wheel/constraints.txt
RUN pip install --no-cache-dir "$(echo /wheel/*.whl)[train,deepspeed,data,ray,eval,web,completion]" \
        llamafactory==0.9.5 -c /wheel/constraints.txt \
    && pip check

# Caches of hubs and kernels go where any --user may write.
ENV HF_HOME=/tmp/huggingface \
    TRITON_CACHE_DIR=/tmp/triton \
    TORCH_EXTENSIONS_DIR=/tmp/torch_extensions \
    PYTHONUNBUFFERED=1

USER 1000
WORKDIR /work
CMD ["adcopilot", "--help"]
