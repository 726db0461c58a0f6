# The one binary, `bespeak`: server, client, migrations, operators' commands. See docs/guides/containers.md.

# Base images are pinned by the digest of their index, which contains both architectures; the tag only says what it is. To move
# to a newer one: docker buildx imagetools inspect IMAGE:TAG.
FROM rust:1.95.0-bookworm@sha256:6258907abe69656e41cd992e0b705cdcfabcbbe3db374f92ed2d47121282d4a1 AS build
# Use the image's own toolchain; rust-toolchain.toml would download another one.
ENV RUSTUP_TOOLCHAIN=1.95.0
# Cargo features in addition to the default ones, such as msk-iam.
ARG FEATURES=""
WORKDIR /src
COPY . .
# librdkafka and OpenSSL are built from source, with tools that the image contains: a C compiler, make and perl.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --package bespeak-cli --features "$FEATURES" \
    && install -D --strip target/release/bespeak /out/bespeak \
    && install -d /out/data

# glibc, certificates, and no other programs.
FROM gcr.io/distroless/cc-debian12:nonroot@sha256:9dac0a79194e45a7da0158a9c6da57b217585af0786db3845d1f0ec1a0dd182f
COPY --from=build /out/bespeak /usr/local/bin/bespeak
# The folder of the SQLite database, if BESPEAK_DATABASE_URL names no server.
COPY --from=build --chown=65532:65532 /out/data /data
ENV BESPEAK_LISTEN=0.0.0.0:8080 \
    BESPEAK_DATABASE_URL=sqlite:///data/bespeak.db \
    BESPEAK_LOG_FORMAT=json
VOLUME /data
EXPOSE 8080
USER 65532:65532
# This checks that the process runs, and not that its database answers: restarting the process would make an outage longer.
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s CMD ["/usr/local/bin/bespeak", "health", "--live"]
ENTRYPOINT ["/usr/local/bin/bespeak"]
CMD ["serve"]
