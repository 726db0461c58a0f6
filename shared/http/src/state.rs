//! The state that every handler receives.

use std::sync::Arc;

use bespeak::{app::App, http_options::HttpOptions};

use crate::metrics_page::MetricsPage;

/// The engine, the limits of HTTP, and the two documents, rendered once.
#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) app: Arc<App>,
    pub(crate) http: HttpOptions,
    /// The page of metrics, which takes a while to render.
    pub(crate) metrics: Arc<MetricsPage>,
    /// The OpenAPI document, as JSON.
    pub(crate) openapi: Arc<str>,
    /// The AsyncAPI document, as JSON.
    pub(crate) asyncapi: Arc<str>,
}
