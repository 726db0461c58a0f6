//! The slowest tests of a run, from the report that nextest writes (JUnit's XML): what to look at when the tests take
//! longer.

use std::fs;

use crate::root;

/// Where nextest writes the report: always in the folder `target` of the workspace, as `.config/nextest.toml` says.
const REPORT: &str = "target/nextest/default/junit.xml";
const SHOWN: usize = 10;

/// Prints them. A run that was cut off has left no report, and then nothing is printed.
pub(super) fn print() {
    let Ok(report) = fs::read_to_string(root().join(REPORT)) else { return };
    let mut tests: Vec<_> = report.lines().filter_map(test).collect();
    tests.sort_by(|(_, one), (_, other)| other.total_cmp(one));
    for (name, seconds) in tests.iter().take(SHOWN) {
        eprintln!("xtask: {seconds:6.1} s  {name}");
    }
}

/// Name and seconds of a line such as `<testcase name="a::b" classname="c" timestamp="..." time="1.234">`.
fn test(line: &str) -> Option<(&str, f64)> {
    let line = line.trim_start().strip_prefix("<testcase ")?;
    let value = |name: &str| {
        let (_, rest) = line.split_once(&format!("{name}=\""))?;
        rest.split_once('"').map(|(value, _)| value)
    };
    Some((value("name")?, value(" time")?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_has_a_name_and_a_time() {
        let line =
            r#"    <testcase name="a::b" classname="c::d" timestamp="2026-01-01T00:00:00Z" time="1.234">"#;
        assert_eq!(test(line), Some(("a::b", 1.234)));
        assert_eq!(test(r#"<testsuite name="a" time="1.0">"#), None);
    }
}
