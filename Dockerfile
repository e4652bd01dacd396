# redspan as a container image: docker build --tag redspan .
#
# Python 3.13 on Debian 13: what Debian 13 has itself, so that `python3 -m tests.image` can run these very steps on it
# where there is no container engine.  A release pins the digest and names itself:
# --build-arg PYTHON_IMAGE=python:3.13-slim-trixie@sha256:…
# --label org.opencontainers.image.version=… --label org.opencontainers.image.revision=…
ARG PYTHON_IMAGE=python:3.13-slim-trixie


FROM ${PYTHON_IMAGE} AS build

WORKDIR /src

# An index or an authority of your own: --secret id=pip,src=/etc/pip.conf.  Nothing of it stays in the image.
COPY deploy/requirements.txt deploy/requirements-build.txt deploy/
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    python3 -m venv --without-pip /opt/redspan \
    && python3 -m venv --without-pip /build \
    && python3 -m pip --python /build/bin/python3 install --no-cache-dir --disable-pip-version-check \
        --require-hashes --only-binary :all: --requirement deploy/requirements-build.txt \
    && python3 -m pip --python /opt/redspan/bin/python3 install --no-cache-dir --disable-pip-version-check \
        --require-hashes --only-binary :all: --no-compile --requirement deploy/requirements.txt

COPY pyproject.toml README.md LICENSE ./
COPY proxy proxy
RUN /build/bin/hatchling build --target wheel --directory /build/wheel \
    && python3 -m pip --python /opt/redspan/bin/python3 install --no-cache-dir --disable-pip-version-check \
        --no-index --no-deps --no-compile /build/wheel/redspan-*.whl \
    && python3 -m pip --python /opt/redspan/bin/python3 check --disable-pip-version-check

# Nothing can be compiled later, on a root that is read-only; what is here is not compared with its source either.
RUN /opt/redspan/bin/python3 -m compileall -q -f --invalidation-mode unchecked-hash /opt/redspan/lib


FROM ${PYTHON_IMAGE}

# Official images have pip, which nothing here needs, and no bytecode of the standard library, which every start needs.
RUN stdlib=$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))') \
    && packages=$(python3 -c 'import os, pip; print(os.path.dirname(os.path.dirname(pip.__file__)))') \
    && scripts=$(dirname "$(command -v pip3)") \
    && rm -rf "$packages"/* "$stdlib/ensurepip" "$scripts"/pip* \
    && python3 -m compileall -q -f --invalidation-mode unchecked-hash \
        -x '/(idlelib|lib2to3|pydoc_data|test|tests|tkinter|turtledemo)/' "$stdlib"

COPY --from=build /opt/redspan /opt/redspan

# In a pod, clients reach port 6380 on loopback (the default), which is nobody else's business.  Probes and Prometheus
# come from outside the pod, so the admin port must be open: it shows counts, and nothing of a job without a token.
# This variable wins over admin.bind in a file; to change it, set it ([::]:9464 where pods have no IPv4).
ENV PATH=/opt/redspan/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    REDSPAN_ADMIN__BIND=0.0.0.0:9464

LABEL org.opencontainers.image.title="redspan" \
    org.opencontainers.image.description="Distributed tracing for Redis job queues, on the wire" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.base.name="python:3.13-slim-trixie"

# As a number: Kubernetes' runAsNonRoot cannot look up a name.
USER 65532:65532
WORKDIR /
EXPOSE 6380 9464
STOPSIGNAL SIGTERM

# No HEALTHCHECK: Kubernetes ignores it, and elsewhere it would start a Python every time.  Probes: GET /healthz and
# /readyz on port 9464.
ENTRYPOINT ["redspan"]
CMD ["run"]
