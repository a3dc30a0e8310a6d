//! Nothing but a test: `cargo test --manifest-path shared/events/cross-check/Cargo.toml`.
