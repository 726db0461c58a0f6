//! The recorder of metrics, the buckets of histograms, and the thread that drains histograms.
//!
//! A histogram keeps each sample until it is drained into its buckets, by a scrape or by the upkeep of the recorder.
//! Many processes are never scraped, so the upkeep belongs to the recorder and not to a kind of process.

use std::{io, sync::OnceLock, thread, time::Duration};

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

use super::catalogue;

/// Buckets in seconds, from a single commit on a fast disk to the longest timeout.
const SECONDS: [f64; 14] =
    [0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Buckets in commands for each transaction, doubling.
const COMMANDS: [f64; 11] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];

/// How often histograms are drained.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);

/// The metrics of this process. The first call starts the recorder and its upkeep; every call returns the same handle.
///
/// # Errors
/// The buckets of a histogram are not valid.
pub fn metrics() -> Result<PrometheusHandle, BuildError> {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    if let Some(handle) = HANDLE.get() {
        return Ok(handle.clone());
    }
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)?
        .set_buckets_for_metric(Matcher::Suffix("_commands".to_owned()), &COMMANDS)?
        .build_recorder();
    let handle = recorder.handle();
    if metrics::set_global_recorder(recorder).is_ok() {
        catalogue::register();
        if let Err(error) = start_upkeep(handle.clone(), UPKEEP_EVERY) {
            tracing::error!(%error, "histograms are drained only by scrapes, because no thread can be started");
        }
    }
    Ok(HANDLE.get_or_init(|| handle).clone())
}

/// Starts the thread that drains histograms. It is a thread and no task, because the recorder outlives every runtime,
/// and it ends with the process.
fn start_upkeep(handle: PrometheusHandle, every: Duration) -> io::Result<()> {
    let upkeep = move || {
        loop {
            thread::sleep(every);
            handle.run_upkeep();
        }
    };
    thread::Builder::new().name("metrics-upkeep".to_owned()).spawn(upkeep).map(drop)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use metrics_exporter_prometheus::PrometheusRecorder;

    use super::*;

    /// The memory that this process uses, in bytes.
    fn memory() -> usize {
        let text = std::fs::read_to_string("/proc/self/statm").expect("Linux");
        let pages = text.split(' ').nth(1).expect("the resident set").parse::<usize>().expect("a number");
        pages * 4_096
    }

    /// A sample takes 24 bytes until it is drained: 3,000,000 samples would take 72 MB.
    #[test]
    fn samples_that_no_scrape_reads_take_no_memory() {
        let recorder: PrometheusRecorder =
            PrometheusBuilder::new().set_buckets(&SECONDS).expect("valid").build_recorder();
        let handle = recorder.handle();
        start_upkeep(handle.clone(), Duration::from_millis(1)).expect("a thread");
        metrics::with_local_recorder(&recorder, || {
            let histogram = metrics::histogram!("bespeak_test_seconds");
            let before = memory();
            for _ in 0..300 {
                for _ in 0..10_000 {
                    histogram.record(0.001);
                }
                // The upkeep gets its turn on a busy machine.
                let until = Instant::now() + Duration::from_millis(2);
                while Instant::now() < until {
                    thread::yield_now();
                }
            }
            let grown = memory().saturating_sub(before);
            assert!(grown < 36_000_000, "{grown} bytes");
        });
        // They are counted. (A sample that is recorded while the upkeep drains its block may be lost.)
        assert!(handle.render().contains("bespeak_test_seconds_count"));
    }
}
