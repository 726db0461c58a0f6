//! The state that every handler receives.

use std::sync::Arc;

use bespeak::{app::App, http_options::HttpOptions};

/// The engine, the limits of HTTP, and the two documents, rendered once.
#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) app: Arc<App>,
    pub(crate) http: HttpOptions,
    /// The OpenAPI document, as JSON.
    pub(crate) openapi: Arc<str>,
    /// The AsyncAPI document, as JSON.
    pub(crate) asyncapi: Arc<str>,
}
