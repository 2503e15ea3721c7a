# One image for every process: `zerostor up` by default, or `gateway`, `worker`, `zdb`, `ssh`.
FROM python:3.13-slim AS build
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY firmware firmware
COPY gateway gateway
COPY sshgw sshgw
COPY workers workers
COPY zerostor zerostor
RUN python -m venv /opt/zerostor \
    && /opt/zerostor/bin/pip install --no-cache-dir -c constraints.txt . \
    && /opt/zerostor/bin/pip uninstall --yes pip

FROM python:3.13-slim
RUN useradd --system --uid 10001 --home-dir /data zerostor \
    && install --directory --owner=zerostor --mode=0700 /data
COPY --from=build /opt/zerostor /opt/zerostor
ENV PATH=/opt/zerostor/bin:$PATH PYTHONDONTWRITEBYTECODE=1
USER 10001
WORKDIR /data
VOLUME /data
EXPOSE 8080 2222
HEALTHCHECK --interval=10s --timeout=3s --start-period=15s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8080/healthz', timeout=2)"]
ENTRYPOINT ["zerostor"]
CMD ["up", "--data", "/data", "--listen", "0.0.0.0:8080"]
