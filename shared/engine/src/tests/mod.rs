//! Tests of the rules: as stories, and against a simple model over random commands (`tests/model.rs`).

mod books;
mod model;
mod rules;
mod values;
