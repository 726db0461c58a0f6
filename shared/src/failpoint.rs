//! Points at which tests stop a process, to kill it just there. Nothing at all where the feature `failpoints` is off.
//!
//! Never: in a release. `BESPEAK_TEST_FAILPOINT` names a point; who reaches it says so on standard error and goes no further;
//! or, where `BESPEAK_TEST_FAILPOINT_UNTIL` names a file, until that is there.

#![cfg_attr(
    not(feature = "failpoints"),
    expect(clippy::unused_async, reason = "a point that is not there does not wait")
)]

/// Goes no further where this point is the one that the environment names.
pub(crate) async fn reach(point: &str) {
    #[cfg(feature = "failpoints")]
    if std::env::var("BESPEAK_TEST_FAILPOINT").is_ok_and(|named| named == point) {
        eprintln!("failpoint {point} reached");
        let until = std::env::var_os("BESPEAK_TEST_FAILPOINT_UNTIL");
        while !until.as_ref().is_some_and(|file| std::path::Path::new(file).exists()) {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }
    #[cfg(not(feature = "failpoints"))]
    let _ = point;
}
