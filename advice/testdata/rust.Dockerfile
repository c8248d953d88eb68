FROM rust:1 AS build
RUN cargo build --release
RUN cargo +nightly install cargo-chef
RUN cargo fmt
FROM debian
RUN cargo fetch
ENV CARGO_HOME=/c
RUN cargo build
FROM rust
RUN cargo build && ./x.sh
RUN ./x.sh
