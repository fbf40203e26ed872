# Serving with vLLM: the pinned versions of constraints/serve.txt.
#
#   docker build -f docker/serve.Dockerfile -t adcopilot-serve .
#   docker run --gpus all --ipc=host -p 127.0.0.1:8000:8000 -v "$PWD/saves:/models:ro" adcopilot-serve \
#       /models/7b/merged --served-model-name ad-copilot
#
# Inside the container vLLM listens on all of the container's addresses; `-p 127.0.0.1:…` is what keeps it on this
# machine. Nobody is asked for a key unless VLLM_API_KEY is set (`docker run -e VLLM_API_KEY`).
FROM python:3.11.7-slim-bookworm AS build
WORKDIR /src
COPY . .
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheel .

FROM python:3.11.7-slim-bookworm

RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ libgl1 libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 user

COPY --from=build /wheel /wheel
COPY constraints/serve.txt /wheel/constraints.txt
RUN pip install --no-cache-dir "$(echo /wheel/*.whl)[serve]" -c /wheel/constraints.txt \
    && pip check

ENV HF_HOME=/tmp/huggingface \
    TRITON_CACHE_DIR=/tmp/triton \
    VLLM_CACHE_ROOT=/tmp/vllm \
    PYTHONUNBUFFERED=1

USER 1000
WORKDIR /models
EXPOSE 8000
ENTRYPOINT ["vllm", "serve"]
CMD ["--help"]
