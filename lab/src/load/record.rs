//! Records response times and counts of responses.

use std::{collections::BTreeMap, time::Duration};

use hdrhistogram::Histogram;
use serde::Serialize;

/// The longest response time that is recorded, in microseconds: ten minutes. Longer ones count as this.
const MICROS_MAX: u64 = 600_000_000;

/// Collects response times and statuses. Each task has its own recorder; they are merged at the end.
#[derive(Clone, Debug)]
pub struct Recorder {
    micros: Histogram<u64>,
    counts: BTreeMap<String, u64>,
}

/// A summary of a run. Times are in milliseconds.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// The number of responses with any status.
    pub answers: u64,
    /// The number of responses by status, and of requests without a response by error.
    pub counts: BTreeMap<String, u64>,
    /// The mean response time.
    pub mean_ms: f64,
    /// The response time of the 50th percentile.
    pub p50_ms: f64,
    /// The response time of the 95th percentile.
    pub p95_ms: f64,
    /// The response time of the 99th percentile.
    pub p99_ms: f64,
    /// The longest response time.
    pub max_ms: f64,
    /// Responses per second over the whole run.
    pub requests_per_second: f64,
}

impl Default for Recorder {
    fn default() -> Self {
        Self::new()
    }
}

impl Recorder {
    /// An empty recorder with three significant digits.
    #[expect(clippy::missing_panics_doc)]
    pub fn new() -> Self {
        #[expect(clippy::expect_used, reason = "constant bounds that the histogram accepts")]
        let micros = Histogram::new_with_bounds(1, MICROS_MAX, 3).expect("valid bounds");
        Self { micros, counts: BTreeMap::new() }
    }

    /// Records a response and its time.
    pub fn answered(&mut self, status: u16, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(MICROS_MAX);
        self.micros.saturating_record(micros.max(1));
        self.count(&status.to_string());
    }

    /// Counts a request without a response, by its error.
    pub fn failed(&mut self, error: &str) {
        self.count(error);
    }

    fn count(&mut self, name: &str) {
        match self.counts.get_mut(name) {
            Some(count) => *count += 1,
            None => {
                self.counts.insert(name.to_owned(), 1);
            }
        }
    }

    /// Adds the contents of another recorder.
    pub fn merge(&mut self, other: &Self) {
        // Both histograms have the same bounds, so every value fits.
        let _ = self.micros.add(&other.micros);
        for (name, count) in &other.counts {
            *self.counts.entry(name.clone()).or_default() += count;
        }
    }

    /// The count of a status or an error.
    pub fn count_of(&self, name: &str) -> u64 {
        self.counts.get(name).copied().unwrap_or(0)
    }

    /// The response time at a quantile (0 to 1), in milliseconds.
    pub fn quantile_ms(&self, quantile: f64) -> f64 {
        ms(self.micros.value_at_quantile(quantile))
    }

    /// The summary of a run that took `elapsed`.
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    pub fn summary(&self, elapsed: Duration) -> Summary {
        Summary {
            answers: self.micros.len(),
            counts: self.counts.clone(),
            mean_ms: self.micros.mean() / 1000.0,
            p50_ms: self.quantile_ms(0.5),
            p95_ms: self.quantile_ms(0.95),
            p99_ms: self.quantile_ms(0.99),
            max_ms: ms(self.micros.max()),
            requests_per_second: self.micros.len() as f64 / elapsed.as_secs_f64().max(1e-9),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "at most ten minutes")]
fn ms(micros: u64) -> f64 {
    micros as f64 / 1000.0
}

/// A number without decimals and with separators, such as `1,234,568` for `1234567.8`.
pub fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
