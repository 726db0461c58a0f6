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

/// A problem type, as documentation lists it.
#[derive(Clone, Copy, Debug)]
pub struct ProblemType {
    /// The stable name: the member `type` of the problem details.
    pub slug: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// The title: the same for every problem of this type.
    pub title: &'static str,
    /// When the API answers with it, as one or more sentences.
    pub meaning: &'static str,
}

/// Every problem type of the API, in the order of statuses.
pub fn problem_types() -> impl Iterator<Item = ProblemType> {
    Kind::ALL.iter().map(|kind| ProblemType {
        slug: kind.slug(),
        status: kind.status().as_u16(),
        title: kind.title(),
        meaning: kind.meaning(),
    })
}
