//! Points at which tests stop a process, to kill it just there. Nothing at all where the feature `failpoints` is off.
//!
//! Never: in a release. `BESPEAK_TEST_FAILPOINT` names a point; who reaches it says so on standard error and goes no further;
//! or, where `BESPEAK_TEST_FAILPOINT_UNTIL` names a file, until that is there. With `:panic` after its name, the first who
//! reaches it panics, and the others go on.

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
