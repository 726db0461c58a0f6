//! Points at which tests stop a process, to kill it just there. Nothing at all where the feature `failpoints` is off.
//!
//! Never: in a release. `BESPEAK_TEST_FAILPOINT` names a point; who reaches it says so on standard error and goes no further.

#![cfg_attr(
    not(feature = "failpoints"),
    expect(clippy::unused_async, reason = "a point that is not there does not wait")
)]

/// Goes no further where this point is the one that the environment names.
pub(crate) async fn reach(point: &str) {
    #[cfg(feature = "failpoints")]
    if std::env::var("BESPEAK_TEST_FAILPOINT").is_ok_and(|named| named == point) {
        eprintln!("failpoint {point} reached");
        std::future::pending::<()>().await;
    }
    #[cfg(not(feature = "failpoints"))]
    let _ = point;
}
