# All images of the shop, a target each: docker build --target order --tag tidings/order .
#
# The workspace is compiled once, in the stage `build`; the targets only pick their program out of it.
#   Pinned bases      --build-arg RUST_IMAGE=rust:1.95.0-slim-bookworm@sha256:… --build-arg RUNTIME_IMAGE=…@sha256:…
#   A registry mirror --secret id=cargo-config,src=$HOME/.cargo/config.toml
#   Smaller programs  --build-arg PROFILE=dist: thin LTO, which takes some minutes more

# The version in rust-toolchain.toml; the tidy tests compare them.
ARG RUST_IMAGE=rust:1.95.0-slim-bookworm
# Of the same Debian as the builder, hence with the same glibc; no shell, no package manager, user 65532.
ARG RUNTIME_IMAGE=gcr.io/distroless/cc-debian12:nonroot

FROM ${RUST_IMAGE} AS build
ARG PROFILE=release
# How many crates at once; as many as there are cores unless it is said.
ARG CARGO_BUILD_JOBS
WORKDIR /src
COPY . .
# Whatever was compiled is kept in a cache that outlives the layer, dependencies and all: after a change to one service
# that one is compiled.
RUN --mount=type=cache,id=tidings-registry,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,id=tidings-target,target=/src/target,sharing=locked \
    --mount=type=secret,id=cargo-config,target=/usr/local/cargo/config.toml \
    cargo build --locked --profile "$PROFILE" --bins \
        --package order --package payment --package inventory --package warehouse --package email --package analytics \
        --package xtask \
    && mkdir --parents /out/data \
    && for program in order payment inventory warehouse email analytics sandbox-gateway shop; do \
        cp "target/$PROFILE/$program" /out/ || exit 1; \
    done

FROM ${RUNTIME_IMAGE} AS runtime
ARG VERSION=development
ARG REVISION=unknown
LABEL org.opencontainers.image.vendor="Tidings" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# By number, so that Kubernetes can see that it is not root.
USER 65532:65532
ENV LOG_FORMAT=json

FROM runtime AS order
LABEL org.opencontainers.image.title="tidings/order" \
      org.opencontainers.image.description="Takes orders, and owns their state from the first event to the last"
ENV HTTP_ADDR=0.0.0.0:8001 ADMIN_ADDR=0.0.0.0:9001
EXPOSE 8001 9001
COPY --from=build /out/order /usr/local/bin/
HEALTHCHECK --interval=5s --timeout=5s --start-period=60s CMD ["order", "health"]
ENTRYPOINT ["order"]

FROM runtime AS payment
LABEL org.opencontainers.image.title="tidings/payment" \
      org.opencontainers.image.description="Payments as event-sourced aggregates, a ledger, refunds"
ENV HTTP_ADDR=0.0.0.0:8002 ADMIN_ADDR=0.0.0.0:9002
EXPOSE 8002 9002
COPY --from=build /out/payment /usr/local/bin/
HEALTHCHECK --interval=5s --timeout=5s --start-period=60s CMD ["payment", "health"]
ENTRYPOINT ["payment"]

FROM runtime AS inventory
LABEL org.opencontainers.image.title="tidings/inventory" \
      org.opencontainers.image.description="Products, prices, stock and reservations"
ENV HTTP_ADDR=0.0.0.0:8003 ADMIN_ADDR=0.0.0.0:9003
EXPOSE 8003 9003
COPY --from=build /out/inventory /usr/local/bin/
HEALTHCHECK --interval=5s --timeout=5s --start-period=60s CMD ["inventory", "health"]
ENTRYPOINT ["inventory"]

FROM runtime AS warehouse
LABEL org.opencontainers.image.title="tidings/warehouse" \
      org.opencontainers.image.description="Shipments, from the shelf to the customer"
ENV HTTP_ADDR=0.0.0.0:8004 ADMIN_ADDR=0.0.0.0:9004
EXPOSE 8004 9004
COPY --from=build /out/warehouse /usr/local/bin/
HEALTHCHECK --interval=5s --timeout=5s --start-period=60s CMD ["warehouse", "health"]
ENTRYPOINT ["warehouse"]

FROM runtime AS email
LABEL org.opencontainers.image.title="tidings/email" \
      org.opencontainers.image.description="Notifications: rendered, and sent once an order and template"
ENV HTTP_ADDR=0.0.0.0:8005 ADMIN_ADDR=0.0.0.0:9005
EXPOSE 8005 9005
COPY --from=build /out/email /usr/local/bin/
HEALTHCHECK --interval=5s --timeout=5s --start-period=60s CMD ["email", "health"]
ENTRYPOINT ["email"]

FROM runtime AS analytics
LABEL org.opencontainers.image.title="tidings/analytics" \
      org.opencontainers.image.description="Projections of what happened in the shop"
ENV HTTP_ADDR=0.0.0.0:8006 ADMIN_ADDR=0.0.0.0:9006
EXPOSE 8006 9006
COPY --from=build /out/analytics /usr/local/bin/
HEALTHCHECK --interval=5s --timeout=5s --start-period=60s CMD ["analytics", "health"]
ENTRYPOINT ["analytics"]

FROM runtime AS sandbox-gateway
LABEL org.opencontainers.image.title="tidings/sandbox-gateway" \
      org.opencontainers.image.description="A Stripe-compatible payment gateway that moves no money"
ENV HTTP_ADDR=0.0.0.0:8010 GATEWAY_DATA=/data
EXPOSE 8010
COPY --from=build /out/sandbox-gateway /usr/local/bin/
# A new volume takes over whose folder this is.
COPY --from=build --chown=65532:65532 /out/data /data
HEALTHCHECK --interval=5s --timeout=5s --start-period=60s CMD ["sandbox-gateway", "health"]
ENTRYPOINT ["sandbox-gateway"]

# The operator's tool: migrate, provision, seed, audit, replay, dead letters.
FROM runtime AS shop
LABEL org.opencontainers.image.title="tidings/shop" \
      org.opencontainers.image.description="The operator's tool: migrates, provisions, seeds, audits"
COPY --from=build /out/shop /usr/local/bin/
ENTRYPOINT ["shop"]
