//! Points at which tests stop a process, to kill it just there. Nothing at all where the feature `failpoints` is off.
//!
//! Never: in a release. `BESPEAK_TEST_FAILPOINT` names a point; who reaches it says so on standard error and goes no further.
//! With `:panic` after its name, the first who reaches it panics, and the others go on.

#![cfg_attr(
    not(feature = "failpoints"),
    expect(clippy::unused_async, reason = "a point that is not there does not wait")
)]

/// Goes no further where this point is the one that the environment names.
pub(crate) async fn reach(point: &str) {
    #[cfg(feature = "failpoints")]
    match std::env::var("BESPEAK_TEST_FAILPOINT")
        .ok()
        .and_then(|named| named.strip_prefix(point).map(str::to_owned))
    {
        Some(rest) if rest.is_empty() => {
            eprintln!("failpoint {point} reached");
            std::future::pending::<()>().await;
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
