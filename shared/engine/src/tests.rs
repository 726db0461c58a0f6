//! The rules, told as stories, and held against a simple model over random commands (`tests/model.rs`).

mod model;
mod rules;
mod values;
