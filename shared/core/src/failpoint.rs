//! Points at which tests stop a process, to kill it there. Without the feature `failpoints` they do nothing.
//!
//! `BESPEAK_TEST_FAILPOINT` names a point. A task that reaches it prints a line on standard error and waits: for
//! ever, or, if `BESPEAK_TEST_FAILPOINT_UNTIL` names a file, until that file exists. With `:panic` after the name,
//! the first task that reaches the point panics, and later ones continue. Never: in a release.

#![cfg_attr(
    not(feature = "failpoints"),
    expect(clippy::unused_async, reason = "a disabled point does not wait")
)]

/// Waits or panics if the environment names this point.
pub(crate) async fn reach(point: &str) {
    #[cfg(feature = "failpoints")]
    match std::env::var("BESPEAK_TEST_FAILPOINT")
        .ok()
        .and_then(|named| named.strip_prefix(point).map(str::to_owned))
    {
        Some(rest) if rest.is_empty() => {
            eprintln!("failpoint {point} reached");
            let until = std::env::var_os("BESPEAK_TEST_FAILPOINT_UNTIL");
            while !until.as_ref().is_some_and(|file| std::path::Path::new(file).exists()) {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        }
        Some(rest) if rest == ":panic" => {
            use std::sync::atomic::{AtomicBool, Ordering};

            static PANICKED: AtomicBool = AtomicBool::new(false);
            assert!(PANICKED.swap(true, Ordering::Relaxed), "failpoint {point} panics");
        }
        _ => {}
    }
    #[cfg(not(feature = "failpoints"))]
    let _ = point;
}

/// The point at the beginning of a supervised task: `task.` and its name.
pub(crate) async fn reach_task(task: &str) {
    #[cfg(feature = "failpoints")]
    reach(&format!("task.{task}")).await;
    #[cfg(not(feature = "failpoints"))]
    let _ = task;
}
