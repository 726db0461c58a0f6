//! `cargo xtask services run | up | down`, and the servers that the tests of `cargo xtask test` share.
//!
//! Never: details of a server, which are in `testing/services/`. A separate program starts the servers, so
//! that xtask is built without their dependencies. Next: `testing/services/examples/services.rs`, that
//! program.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Write},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use clap::Subcommand;

use crate::{cargo, compose, provision, step, target};

/// The time limit for a start, which may include downloads.
const START_TIMEOUT: Duration = Duration::from_secs(600);

#[derive(Debug, Subcommand)]
pub(crate) enum ServicesCommand {
    /// Start the servers, print their URLs as lines for a shell, and stop the servers on Ctrl-C
    Run,
    /// Start the servers in the background and print their URLs: `eval "$(cargo xtask services up)"`
    Up {
        /// Start all servers of localstack/compose.yaml in Docker instead, with LocalStack, Prometheus and Grafana
        ///
        /// They listen on fixed ports. The printed lines are the settings with which `bespeak serve` uses them.
        #[arg(long, verbatim_doc_comment)]
        compose: bool,
    },
    /// Stop the servers that `up` has started, and remove their data
    Down,
}

pub(crate) fn run(command: ServicesCommand) -> Result<(), String> {
    match command {
        ServicesCommand::Down => {
            let composed = compose::down()?;
            down(composed)
        }
        ServicesCommand::Up { compose: true } => print(&compose::up()?),
        ServicesCommand::Run | ServicesCommand::Up { compose: false } => {
            provision::ensure()?;
            step(
                "building the program that starts the servers",
                cargo().args([
                    "build",
                    "--quiet",
                    "--locked",
                    "-p",
                    "bespeak-services",
                    "--example",
                    "services",
                ]),
            )?;
            if matches!(command, ServicesCommand::Up { .. }) { up() } else { foreground() }
        }
    }
}

fn foreground() -> Result<(), String> {
    eprintln!("xtask: starting the servers; Ctrl-C stops them");
    // The program replaces this process, so that it gets Ctrl-C, and the prompt returns when the servers have stopped.
    let failed = Command::new(program()).arg("until-signal").exec();
    Err(format!("{} cannot be run: {failed}", program().display()))
}

fn up() -> Result<(), String> {
    let state = state();
    if let Ok(lines) = fs::read_to_string(&state) {
        if is_running(&lines) {
            eprintln!("xtask: the servers are running already; `cargo xtask services down` stops them");
            return print(&lines);
        }
        fs::remove_file(&state).map_err(|error| format!("{}: {error}", state.display()))?;
    }
    let log = target().join("services.log");
    let file = File::create(&log).map_err(|error| format!("{}: {error}", log.display()))?;
    let mut child = Command::new(program())
        .arg("while-file")
        .arg(&state)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(file)
        // Ctrl-C and the end of the terminal must not reach the servers.
        .process_group(0)
        .spawn()
        .map_err(|error| format!("{} cannot be run: {error}", program().display()))?;
    let deadline = Instant::now() + START_TIMEOUT;
    loop {
        if let Ok(lines) = fs::read_to_string(&state) {
            eprintln!("xtask: the servers run until `cargo xtask services down`");
            return print(&lines);
        }
        let ended = child.try_wait().map_err(|error| error.to_string())?;
        if ended.is_some() || Instant::now() > deadline {
            // If the program is still running, killing it stops the servers that it has started.
            let _ = child.kill();
            let output = fs::read_to_string(&log).unwrap_or_default();
            return Err(format!("the servers did not start: {}", output.trim()));
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// Stops the servers of `up`. `composed` says whether servers of Compose were stopped already.
fn down(composed: bool) -> Result<(), String> {
    let state = state();
    let Ok(lines) = fs::read_to_string(&state) else {
        if !composed {
            eprintln!("xtask: `cargo xtask services up` has not started any servers");
        }
        return Ok(());
    };
    // The program stops the servers when this file is gone.
    fs::remove_file(&state).map_err(|error| format!("{}: {error}", state.display()))?;
    let deadline = Instant::now() + Duration::from_secs(30);
    while is_running(&lines) {
        if Instant::now() > deadline {
            return Err(format!("the servers do not stop; their URLs are:\n{lines}"));
        }
        thread::sleep(Duration::from_millis(20));
    }
    eprintln!("xtask: the servers have stopped");
    Ok(())
}

/// The servers for one command. They stop when this value is dropped, and when this process ends for any reason.
pub(crate) struct Services {
    child: Child,
    lines: String,
}

impl Services {
    /// Starts the servers with a program that must be built already.
    pub(crate) fn start() -> Result<Self, String> {
        let program = program();
        let mut child = Command::new(&program)
            .arg("until-hang-up")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{} cannot be run: {error}", program.display()))?;
        let mut lines = String::new();
        if let Some(stdout) = child.stdout.take() {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                lines.push_str(&line);
                lines.push('\n');
                if line.starts_with('#') {
                    eprintln!("xtask: servers {}", line.trim_start_matches(['#', ' ']));
                    return Ok(Self { child, lines });
                }
            }
        }
        // The program has printed the reason.
        let _ = child.wait();
        Err("the servers did not start".to_owned())
    }

    /// The environment variables for the tests.
    pub(crate) fn variables(&self) -> impl Iterator<Item = (&str, &str)> {
        variables(&self.lines)
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        // The program stops the servers when its input ends.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// The names and values of lines such as `export NAME='value'`.
fn variables(lines: &str) -> impl Iterator<Item = (&str, &str)> {
    lines.lines().filter_map(|line| {
        let (name, value) = line.strip_prefix("export ")?.split_once('=')?;
        Some((name, value.trim_matches('\'')))
    })
}

/// Whether the program that wrote these lines is running. Its pid may belong to another process by now, so
/// the command line is checked as well.
fn is_running(lines: &str) -> bool {
    let pid = lines.lines().find_map(|line| line.strip_prefix("# ")?.rsplit_once("pid ")).map(|(_, pid)| pid);
    let Some(pid) = pid else { return false };
    let command_line = fs::read(Path::new("/proc").join(pid).join("cmdline")).or_else(|_| {
        Command::new("ps").args(["-p", pid, "-o", "args="]).output().map(|output| output.stdout)
    });
    command_line.is_ok_and(|text| String::from_utf8_lossy(&text).contains("while-file"))
}

fn print(lines: &str) -> Result<(), String> {
    std::io::stdout().write_all(lines.as_bytes()).map_err(|error| error.to_string())
}

fn program() -> PathBuf {
    target().join("debug").join("examples").join("services")
}

/// The file with the lines for a shell, which exists while the servers of `up` are running.
fn state() -> PathBuf {
    target().join("services.env")
}
