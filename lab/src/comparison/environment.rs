//! Describes the machine, the build and the servers of a lab. Figures mean nothing without them.

use std::{fs, net::IpAddr, process::Command};

use serde::Serialize;

use super::servers::Servers;
use bespeak_cli::Failure;

/// The environment of a lab.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Environment {
    pub(super) at: String,
    pub(super) version: &'static str,
    /// The commit of the source folder that this program was built from, if the folder still exists.
    pub(super) commit: Option<String>,
    /// `release` or `debug`.
    pub(super) profile: &'static str,
    /// The cores of this machine, which servers and load generator share.
    pub(super) cores: usize,
    pub(super) cpu: String,
    pub(super) kernel: String,
    pub(super) database: String,
    /// The host in the database's URL.
    pub(super) database_host: String,
    /// The settings that decide whether a COMMIT is on disk when the server acknowledges it.
    pub(super) database_durability: String,
    /// The version and number of Redis nodes. `None` if no strategy needs Redis.
    pub(super) redis: Option<String>,
}

impl Environment {
    /// Describes this machine and the servers.
    pub(super) async fn describe(servers: &Servers) -> Result<Self, Failure> {
        let version = servers.database.version().await?;
        Ok(Self {
            at: jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC").to_string(),
            version: env!("CARGO_PKG_VERSION"),
            commit: commit(),
            profile: if cfg!(debug_assertions) { "debug" } else { "release" },
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            cpu: cpu(),
            kernel: format!("{} {}", std::env::consts::OS, output_of("uname", &["-r"]).unwrap_or_default()),
            database_host: servers.database.host().to_owned(),
            database: if version.contains("MariaDB") { version } else { format!("MySQL {version}") },
            database_durability: servers.database.durability().await?,
            redis: servers.redis_version().await,
        })
    }

    /// The environment as lines of text, for all forms of the report.
    pub(super) fn lines(&self) -> Vec<String> {
        let commit = self.commit.as_ref().map(|commit| format!(", commit {commit}")).unwrap_or_default();
        let (shared_by, place) = if is_loopback(&self.database_host) {
            ("load generator, servers and database", "on loopback".to_owned())
        } else {
            ("load generator and servers", format!("at {}", self.database_host))
        };
        let mut lines = vec![
            format!("Bespeak {}{commit}, {} build, {}", self.version, self.profile, self.at),
            format!("{} cores of {}, {}, shared by {shared_by}", self.cores, self.cpu, self.kernel),
            format!("{} {place}: {}", self.database, self.database_durability),
        ];
        lines.extend(self.redis.clone());
        lines
    }
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    address.map_or_else(|_name| host == "localhost", |address| address.is_loopback())
}

fn cpu() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let model = model.map(|(_, name)| name.trim().to_owned());
    // On macOS.
    model
        .or_else(|| output_of("sysctl", &["-n", "machdep.cpu.brand_string"]))
        .unwrap_or_else(|| "an unknown CPU".to_owned())
}

fn commit() -> Option<String> {
    let source = env!("CARGO_MANIFEST_DIR");
    let commit = output_of("git", &["-C", source, "rev-parse", "--short", "HEAD"])?;
    let changed =
        output_of("git", &["-C", source, "status", "--porcelain", "--untracked-files=no"]).is_some();
    Some(if changed { format!("{commit} with changes") } else { commit })
}

/// The output of a program. `None` if the program fails or prints nothing.
fn output_of(program: &str, arguments: &[&str]) -> Option<String> {
    let output =
        Command::new(program).args(arguments).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned()).filter(|text| !text.is_empty())
}
