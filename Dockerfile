# syntax=docker/dockerfile:1
# The webhook's image: one static binary and nothing else; no shell, no libraries, no package database, no root.
# `make image` assembles the same image without a container engine: it reads the final stage from this file.
FROM --platform=$BUILDPLATFORM golang:1.26.8 AS build
ARG TARGETOS TARGETARCH VERSION=dev REVISION=unknown
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY . .
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    release/build.sh /out/webhook

# There is no base image to follow: the server knows the API server by the CA of its service account, so it needs
# no public ones, no time zones, and no name for its user.
FROM scratch
ARG VERSION=dev REVISION=unknown
LABEL org.opencontainers.image.title="redis-tls webhook" \
      org.opencontainers.image.description="TLS to Redis by annotation, originated by the pods' Istio sidecars" \
      org.opencontainers.image.url="https://github.com/redis-tls/redis-tls" \
      org.opencontainers.image.source="https://github.com/redis-tls/redis-tls" \
      org.opencontainers.image.documentation="https://github.com/redis-tls/redis-tls/tree/main/docs" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
COPY --from=build --chmod=0555 /out/webhook /webhook
USER 65532:65532
EXPOSE 9443 8080 8081
ENTRYPOINT ["/webhook"]
