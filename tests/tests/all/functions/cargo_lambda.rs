//! `cargo lambda`.
