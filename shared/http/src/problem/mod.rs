//! Problems: the reasons why a request had no effect, as problem details (RFC 9457).
//!
//! `kind.rs` is the only table of problem types. `details.rs` answers with one of them, `mapping.rs` turns refusals and
//! failures of the library into them, and `responses.rs` describes them in the OpenAPI document.

mod details;
mod kind;
mod mapping;
mod responses;

pub(crate) use details::{Problem, ProblemBody};
pub(crate) use kind::Kind;
pub(crate) use responses::{problems, responses};
