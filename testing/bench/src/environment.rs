//! Describes the machine and the software of a run, for the report.

use std::{fs, io::Write, process::Command, time::Instant};

use crate::Error;

/// A Markdown list of date, machine, compiler, version and disk.
pub(crate) fn describe() -> Result<String, Error> {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu
        .lines()
        .find_map(|line| {
            line.strip_prefix("model name")?.split_once(':').map(|(_, name)| name.trim().to_owned())
        })
        .unwrap_or_else(|| "unknown processor".to_owned());
    let cores = std::thread::available_parallelism()?.get();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let rustc = Command::new("rustc").arg("--version").output()?;
    Ok(format!(
        "- {}\n- {cores} cores of {model}, Linux {}, shared by server and load generator\n- {}\n- Bespeak {}, release \
         profile\n- fdatasync of 4 KiB: {:.2} ms (median of 200)\n",
        jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC"),
        kernel.trim(),
        String::from_utf8_lossy(&rustc.stdout).trim(),
        env!("CARGO_PKG_VERSION"),
        fdatasync_ms()?,
    ))
}

fn fdatasync_ms() -> Result<f64, Error> {
    let mut file = tempfile::tempfile()?;
    let mut times = Vec::with_capacity(200);
    for _ in 0..200 {
        file.write_all(&[7; 4096])?;
        let started = Instant::now();
        file.sync_data()?;
        times.push(started.elapsed().as_secs_f64() * 1000.0);
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}
