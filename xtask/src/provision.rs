//! What tests and benchmarks need of the machine, and how it is installed where that is ours to do.
//!
//! Never: an installation without root, or on a system whose packages are not known. Next: `services/`, which starts what is
//! found here; the two look in the same places.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::step;

/// A server or tool, and the ways to have it.
struct Service {
    name: &'static str,
    /// A URL of a running one, where it is a server.
    variable: Option<&'static str>,
    /// Any of these, on PATH or in one of [`FOLDERS`].
    programs: &'static [&'static str],
    /// The package of Debian and Ubuntu.
    package: &'static str,
    /// There is an image that is used when Docker runs.
    in_docker: bool,
}

const SERVICES: [Service; 2] = [
    Service {
        name: "MySQL",
        variable: Some("BESPEAK_TEST_MYSQL_URL"),
        programs: &["mariadbd", "mysqld"],
        package: "mariadb-server",
        in_docker: true,
    },
    Service {
        name: "faketime",
        variable: None,
        programs: &["faketime"],
        package: "faketime",
        in_docker: false,
    },
];

/// Where packages put servers, which is not on every account's PATH.
const FOLDERS: [&str; 6] = [
    "/usr/sbin",
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/libexec",
    "/usr/local/mysql/bin",
    "/opt/homebrew/bin",
];

/// Makes sure that every service can be had. Installs what is missing, as root on Debian or Ubuntu.
///
/// # Errors
/// Says what to install, start or set.
pub(crate) fn ensure() -> Result<(), String> {
    let mut missing: Vec<_> = SERVICES.iter().filter(|service| !service.is_there()).collect();
    if missing.iter().any(|service| service.in_docker) && docker_runs() {
        missing.retain(|service| !service.in_docker);
    }
    if missing.is_empty() {
        return Ok(());
    }
    if !Path::new("/etc/debian_version").exists() || !is_root() {
        let ways: Vec<_> = missing.iter().map(|service| service.ways()).collect();
        return Err(ways.join("\n"));
    }
    let names: Vec<_> = missing.iter().map(|service| service.name).collect();
    eprintln!("xtask: not found: {}. Installing (root on Debian)", names.join(", "));
    step("apt-get update", apt_get().arg("update"))?;
    for service in missing {
        step(
            &format!("apt-get install {}", service.package),
            apt_get().args(["install", "-y", "--no-install-recommends", service.package]),
        )?;
        if !service.is_there() {
            return Err(format!("{} was installed, and still: {}", service.package, service.ways()));
        }
    }
    Ok(())
}

impl Service {
    /// It is named in the environment, or installed.
    fn is_there(&self) -> bool {
        self.variable.is_some_and(|variable| env::var_os(variable).is_some())
            || self.programs.iter().any(|program| is_installed(program))
    }

    fn ways(&self) -> String {
        let docker = if self.in_docker { ", or start Docker" } else { "" };
        let url = self.variable.map_or_else(String::new, |variable| {
            format!(", or set {variable} to the URL of one whose account may create databases and accounts")
        });
        format!(
            "there is no {}: install it (apt-get install {}; root on Debian has it done here){docker}{url}",
            self.name, self.package
        )
    }
}

fn is_installed(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut folders = env::split_paths(&path).chain(FOLDERS.map(PathBuf::from));
    folders.any(|folder| folder.join(program).is_file())
}

/// The client asks its daemon for its version.
fn docker_runs() -> bool {
    let mut command = Command::new("docker");
    command.args(["version", "--format", "{{.Server.Version}}"]);
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command
}
