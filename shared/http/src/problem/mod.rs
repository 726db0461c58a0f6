//! Problems: the reasons why a request had no effect, as problem details (RFC 9457).
//!
//! `kind.rs` is the only table of problem types. `details.rs` answers with one of them, `mapping.rs` turns refusals and
//! failures of the library into them, and `responses.rs` and `schema.rs` describe them in the OpenAPI document.

mod details;
mod kind;
mod mapping;
mod responses;
mod schema;

pub(crate) use details::Problem;
pub(crate) use kind::Kind;
pub(crate) use responses::{complete, problems, responses};
pub(crate) use schema::schemas;

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
    /// The members that each of its answers has, beside those of every problem.
    pub required_members: &'static [&'static str],
    /// The members that some of its answers have.
    pub optional_members: &'static [&'static str],
}

/// Every problem type of the API, in the order of statuses.
pub fn problem_types() -> impl Iterator<Item = ProblemType> {
    Kind::ALL.iter().map(|kind| ProblemType {
        slug: kind.slug(),
        status: kind.status().as_u16(),
        title: kind.title(),
        meaning: kind.meaning(),
        required_members: kind.required_members(),
        optional_members: kind.optional_members(),
    })
}
