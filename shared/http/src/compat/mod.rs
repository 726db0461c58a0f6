//! What clients, probes and dashboards of OpenReserve need beside the API: `BESPEAK_COMPAT=openreserve`.
//!
//! Everything that this mode changes in HTTP starts here: `micrometer.rs` times requests as Spring Boot does,
//! `lenient.rs` ignores unknown fields, [`routes`](crate::actuator::routes) adds the paths, and `Api::view` cuts
//! `expiresAt` to seconds. The guide `docs/guides/openreserve.md` lists all of it.

mod lenient;
mod micrometer;

use std::{sync::Arc, time::Duration};

use bespeak::http_options::Compat;

pub(crate) use lenient::without_unknown_fields;
use micrometer::RequestTimers;

/// The state of the mode. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Compatibility {
    timers: Arc<RequestTimers>,
}

impl Compatibility {
    pub(crate) fn new(compat: Compat) -> Self {
        match compat {
            Compat::OpenReserve => Self { timers: Arc::default() },
        }
    }

    /// Times an answered request. `route` is the template of its path, if it has one.
    pub(crate) fn observe(&self, method: &str, route: Option<&str>, status: u16, took: Duration) {
        self.timers.record(method, route, status, took);
    }

    /// The metrics that OpenReserve has and Bespeak has not, in the text format of Prometheus. `metrics` are those of
    /// Bespeak, in the same format.
    pub(crate) fn metrics(&self, metrics: &str) -> String {
        let expired: f64 = metrics
            .lines()
            .filter(|line| line.starts_with("bespeak_expiries_total{"))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum();
        self.timers.render()
            + "# HELP openreserve_reconciled_holds_total Holds that expired, so that their units were returned.\n\
               # TYPE openreserve_reconciled_holds_total counter\n"
            + &format!("openreserve_reconciled_holds_total {expired}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reconciled_holds_are_all_that_expired() {
        let compat = Compatibility::new(Compat::OpenReserve);
        let ours = "bespeak_expiries_total{path=\"timer\"} 2\nbespeak_expiries_total{path=\"on_demand\"} 3\nother 9\n";
        assert!(compat.metrics(ours).ends_with("\nopenreserve_reconciled_holds_total 5\n"));
    }
}
