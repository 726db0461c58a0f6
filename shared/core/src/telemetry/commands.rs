//! Metrics of commands: outcomes, batches, queues, expiries, refusals from memory.

use std::{sync::OnceLock, time::Duration};

use metrics::{Histogram, counter, gauge, histogram};

/// Counts a command by its outcome.
pub(crate) fn count_command(name: &'static str, outcome: &'static str) {
    counter!("bespeak_commands_total", "command" => name, "outcome" => outcome).increment(1);
}

/// Records the size and the duration of a transaction.
pub(crate) fn observe_batch(commands: usize, took: Duration) {
    static HANDLES: OnceLock<(Histogram, Histogram)> = OnceLock::new();
    let (sizes, times) = HANDLES.get_or_init(|| {
        (histogram!("bespeak_lane_batch_commands"), histogram!("bespeak_store_transaction_seconds"))
    });
    // A batch has far fewer than 2^52 commands.
    #[expect(clippy::cast_precision_loss)]
    sizes.record(commands as f64);
    times.record(took);
}

/// Sets how many commands wait for a transaction.
#[expect(clippy::cast_precision_loss, reason = "queues are bounded far below 2^52")]
pub(crate) fn set_queue(commands: usize) {
    gauge!("bespeak_lane_queue_commands").set(commands as f64);
}

/// Counts refusals that took no lock.
pub(crate) fn count_refused_from_memory(refusals: u64) {
    if refusals > 0 {
        counter!("bespeak_refusals_from_memory_total").increment(refusals);
    }
}

/// What caused the expiry of a hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpiryPath {
    /// A command that needed its units.
    OnDemand,
    /// The timer of a server.
    Timer,
    /// A scheduled task.
    Sweep,
}

/// Counts expired holds by the path that expired them.
pub(crate) fn count_expired(path: ExpiryPath, holds: u64) {
    let path = match path {
        ExpiryPath::OnDemand => "on_demand",
        ExpiryPath::Timer => "timer",
        ExpiryPath::Sweep => "sweep",
    };
    if holds > 0 {
        counter!("bespeak_expiries_total", "path" => path).increment(holds);
    }
}
