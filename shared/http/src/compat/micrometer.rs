//! Times requests as Micrometer does for Spring Boot: `http_server_requests_seconds`, with its labels and their values.
//!
//! Next: <https://docs.spring.io/spring-framework/reference/integration/observability.html>, which names the labels.

use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How long a maximum is remembered: in so many windows of this length. Micrometer's registry for Prometheus has the
/// same.
const WINDOWS: usize = 3;
const WINDOW: Duration = Duration::from_secs(60);

/// The labels of a timer. The template of a path, a known method and a status: a client cannot invent any number.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Labels {
    method: String,
    status: u16,
    uri: String,
}

/// The answers with the same labels.
#[derive(Clone, Debug)]
struct Timer {
    count: u64,
    total: Duration,
    /// The longest time in each of the last windows, the present one first.
    longest: [Duration; WINDOWS],
    window_began: Instant,
}

/// The timers of all requests.
#[derive(Debug, Default)]
pub(super) struct RequestTimers(Mutex<BTreeMap<Labels, Timer>>);

impl RequestTimers {
    /// Records an answer.
    pub(super) fn record(&self, method: &str, route: Option<&str>, status: u16, took: Duration) {
        self.record_at(labels(method, route, status), took, Instant::now());
    }

    fn record_at(&self, labels: Labels, took: Duration, now: Instant) {
        let mut timers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let timer = timers.entry(labels).or_insert_with(|| Timer {
            count: 0,
            total: Duration::ZERO,
            longest: [Duration::ZERO; WINDOWS],
            window_began: now,
        });
        timer.turn_to(now);
        timer.count += 1;
        timer.total += took;
        timer.longest[0] = timer.longest[0].max(took);
    }

    /// All timers, in the text format of Prometheus.
    pub(super) fn render(&self) -> String {
        self.render_at(Instant::now())
    }

    fn render_at(&self, now: Instant) -> String {
        let mut timers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut summary = "# HELP http_server_requests_seconds  \n\
                           # TYPE http_server_requests_seconds summary\n"
            .to_owned();
        let mut longest = "# HELP http_server_requests_seconds_max  \n\
                           # TYPE http_server_requests_seconds_max gauge\n"
            .to_owned();
        for (labels, timer) in timers.iter_mut() {
            timer.turn_to(now);
            let labels = labels.render();
            let (count, total) = (timer.count, timer.total.as_secs_f64());
            let max = timer.longest.iter().max().copied().unwrap_or_default().as_secs_f64();
            // Writing to a string does not fail.
            let _ = writeln!(summary, "http_server_requests_seconds_count{{{labels}}} {count}");
            let _ = writeln!(summary, "http_server_requests_seconds_sum{{{labels}}} {total}");
            let _ = writeln!(longest, "http_server_requests_seconds_max{{{labels}}} {max}");
        }
        summary + &longest
    }
}

impl Timer {
    /// Begins the windows that have begun since.
    fn turn_to(&mut self, now: Instant) {
        let mut turns = 0;
        while now.duration_since(self.window_began) >= WINDOW {
            if turns == WINDOWS {
                // Everything is forgotten already, so the rest can be skipped.
                self.window_began = now;
                return;
            }
            self.longest.rotate_right(1);
            self.longest[0] = Duration::ZERO;
            self.window_began += WINDOW;
            turns += 1;
        }
    }
}

/// The labels of an answer. `route` is the template of its path; Spring names a path without one by the status.
fn labels(method: &str, route: Option<&str>, status: u16) -> Labels {
    let known = ["GET", "POST", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"];
    let uri = match (route, status) {
        (Some("/"), _) => "root",
        (Some(route), _) => route,
        (None, 300..=399) => "REDIRECTION",
        (None, 404) => "NOT_FOUND",
        (None, _) => "UNKNOWN",
    };
    let method = known.into_iter().find(|known| *known == method).unwrap_or("UNKNOWN");
    Labels { method: method.to_owned(), status, uri: uri.to_owned() }
}

impl Labels {
    fn render(&self) -> String {
        let Self { method, status, uri } = self;
        let outcome = match status {
            100..=199 => "INFORMATIONAL",
            200..=299 => "SUCCESS",
            300..=399 => "REDIRECTION",
            400..=499 => "CLIENT_ERROR",
            500..=599 => "SERVER_ERROR",
            _ => "UNKNOWN",
        };
        format!(
            r#"error="none",exception="none",method="{method}",outcome="{outcome}",status="{status}",uri="{uri}""#
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_maximum_is_forgotten_after_three_windows() {
        let (timers, start) = (RequestTimers::default(), Instant::now());
        let labels = || labels("GET", Some("/a"), 200);
        let max = |after: Duration| {
            let text = timers.render_at(start + after);
            text.lines().last().and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        };
        timers.record_at(labels(), Duration::from_secs(3), start);
        timers.record_at(labels(), Duration::from_secs(1), start + WINDOW);
        assert_eq!(max(WINDOW), Some(3.0));
        assert_eq!(max(3 * WINDOW), Some(1.0));
        assert_eq!(max(4 * WINDOW), Some(0.0));
        timers.record_at(labels(), Duration::from_secs(2), start + 100 * WINDOW);
        assert_eq!(max(100 * WINDOW), Some(2.0));
        let text = timers.render_at(start + 100 * WINDOW);
        let labels =
            r#"{error="none",exception="none",method="GET",outcome="SUCCESS",status="200",uri="/a"}"#;
        assert!(text.contains(&format!("_count{labels} 3\n")), "{text}");
        assert!(text.contains("uri=\"/a\"} 6\n"), "the sum is that of all: {text}");
    }

    #[test]
    fn paths_without_a_route_have_the_labels_of_spring() {
        let uri = |route, status| labels("BREW", route, status).uri;
        assert_eq!(uri(None, 404), "NOT_FOUND");
        assert_eq!(uri(None, 303), "REDIRECTION");
        assert_eq!(uri(None, 405), "UNKNOWN");
        assert_eq!(uri(Some("/"), 307), "root");
        assert_eq!(labels("BREW", None, 405).method, "UNKNOWN");
    }
}
