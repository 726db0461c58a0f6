//! Response times and counts.

use std::{collections::BTreeMap, time::Duration};

use hdrhistogram::Histogram;
use serde::Serialize;

/// The longest response time that is told apart, in microseconds: ten minutes.
const MICROS_MAX: u64 = 600_000_000;

/// Collects answers. One per task, merged at the end.
#[derive(Clone, Debug)]
pub struct Recorder {
    micros: Histogram<u64>,
    counts: BTreeMap<String, u64>,
}

/// What was measured, in milliseconds.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Answers, whatever their status.
    pub answers: u64,
    /// How many of each status; requests that got no answer under what went wrong.
    pub counts: BTreeMap<String, u64>,
    /// Mean response time.
    pub mean_ms: f64,
    /// Half of the answers were as fast.
    pub p50_ms: f64,
    /// 95 of 100 were as fast.
    pub p95_ms: f64,
    /// 99 of 100 were as fast.
    pub p99_ms: f64,
    /// The slowest.
    pub max_ms: f64,
    /// Answers per second of the whole run.
    pub requests_per_second: f64,
}

impl Default for Recorder {
    fn default() -> Self {
        Self::new()
    }
}

impl Recorder {
    /// An empty one; three significant digits.
    #[expect(clippy::missing_panics_doc)]
    pub fn new() -> Self {
        #[expect(clippy::expect_used, reason = "constant bounds that the histogram accepts")]
        let micros = Histogram::new_with_bounds(1, MICROS_MAX, 3).expect("valid bounds");
        Self { micros, counts: BTreeMap::new() }
    }

    /// Counts an answer.
    pub fn answered(&mut self, status: u16, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(MICROS_MAX);
        self.micros.saturating_record(micros.max(1));
        self.count(&status.to_string());
    }

    /// Counts a request that got no answer.
    pub fn failed(&mut self, what: &str) {
        self.count(what);
    }

    fn count(&mut self, name: &str) {
        match self.counts.get_mut(name) {
            Some(count) => *count += 1,
            None => {
                self.counts.insert(name.to_owned(), 1);
            }
        }
    }

    /// Adds what another collected.
    pub fn merge(&mut self, other: &Self) {
        // The bounds are the same, so every value fits.
        let _ = self.micros.add(&other.micros);
        for (name, count) in &other.counts {
            *self.counts.entry(name.clone()).or_default() += count;
        }
    }

    /// How many of a status were counted.
    pub fn count_of(&self, name: &str) -> u64 {
        self.counts.get(name).copied().unwrap_or(0)
    }

    /// The response time below which `quantile` (0 to 1) of the answers were, in milliseconds.
    pub fn quantile_ms(&self, quantile: f64) -> f64 {
        ms(self.micros.value_at_quantile(quantile))
    }

    /// Sums up a run that took `elapsed`.
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

/// `1234567.8` as `1,234,568`.
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
