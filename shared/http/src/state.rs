//! The state that every handler receives.

use std::sync::Arc;

use bespeak::{app::App, engine::Reservation, http_options::HttpOptions};

use crate::{compat::Compatibility, metrics_page::MetricsPage, problem::Problem, views::ReservationView};

/// The engine, the limits of HTTP, and the two documents, rendered once.
#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) app: Arc<App>,
    pub(crate) http: HttpOptions,
    /// The page of metrics, which takes a while to render.
    pub(crate) metrics: Arc<MetricsPage>,
    /// The interfaces of another product, if they are offered.
    pub(crate) compat: Option<Compatibility>,
    /// The OpenAPI document, as JSON.
    pub(crate) openapi: Arc<str>,
    /// The AsyncAPI document, as JSON.
    pub(crate) asyncapi: Arc<str>,
}

impl Api {
    /// A reservation as clients of this deployment read it.
    pub(crate) fn view(&self, reservation: Reservation) -> ReservationView {
        let view = ReservationView::from(reservation);
        if self.compat.is_some() { view.in_whole_seconds() } else { view }
    }

    /// A problem as clients of this deployment read it.
    pub(crate) fn problem(&self, problem: Problem) -> Problem {
        if self.compat.is_some() { problem.in_whole_seconds() } else { problem }
    }
}
