//! `cargo xtask services run | up | down`, and the servers that `cargo xtask test` shares among its tests.
//!
//! Never: knowledge of a server; `services/` has it, and a program of its own starts them for us, so that none of it is built
//! before this. Next: `services/examples/services.rs`, that program.

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

/// Image and package downloads are slow.
const PATIENCE: Duration = Duration::from_secs(600);

#[derive(Debug, Subcommand)]
pub(crate) enum Order {
    /// Start them, print the lines that a shell needs to use them, and stop them on Ctrl-C
    Run,
    /// Start them to stay, and print the lines that a shell needs: `eval "$(cargo xtask services up)"`
    Up {
        /// All of localstack/compose.yaml instead, in Docker: besides, Redis, LocalStack, Prometheus and Grafana
        ///
        /// At fixed ports, and with the settings of `bespeak serve` that lead there.
        #[arg(long, verbatim_doc_comment)]
        compose: bool,
    },
    /// Stop those of `up`, and remove their data
    Down,
}

pub(crate) fn run(order: Order) -> Result<(), String> {
    match order {
        Order::Down => {
            let composed = compose::down()?;
            down(composed)
        }
        Order::Up { compose: true } => print(&compose::up()?),
        Order::Run | Order::Up { compose: false } => {
            provision::ensure()?;
            step(
                "building what starts them",
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
            if matches!(order, Order::Up { .. }) { up() } else { foreground() }
        }
    }
}

fn foreground() -> Result<(), String> {
    eprintln!("xtask: starting the servers; Ctrl-C stops them");
    // In the place of this process, so that Ctrl-C is theirs and the terminal is free when they have stopped.
    let failed = Command::new(program()).arg("until-signal").exec();
    Err(format!("{} cannot be run: {failed}", program().display()))
}

fn up() -> Result<(), String> {
    let state = state();
    if let Ok(lines) = fs::read_to_string(&state) {
        if is_running(&lines) {
            eprintln!("xtask: the servers run already; `cargo xtask services down` stops them");
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
        // Neither the terminal's Ctrl-C nor its end is for them.
        .process_group(0)
        .spawn()
        .map_err(|error| format!("{} cannot be run: {error}", program().display()))?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Ok(lines) = fs::read_to_string(&state) {
            eprintln!("xtask: the servers run until `cargo xtask services down`");
            return print(&lines);
        }
        let ended = child.try_wait().map_err(|error| error.to_string())?;
        if ended.is_some() || Instant::now() > deadline {
            // If it has not ended, its end stops what it has started.
            let _ = child.kill();
            let said = fs::read_to_string(&log).unwrap_or_default();
            return Err(format!("the servers did not start: {}", said.trim()));
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// Stops those of `up`; others may have been stopped already.
fn down(others_did: bool) -> Result<(), String> {
    let state = state();
    let Ok(lines) = fs::read_to_string(&state) else {
        if !others_did {
            eprintln!("xtask: no servers run that `cargo xtask services up` started");
        }
        return Ok(());
    };
    // Its absence is what they wait for.
    fs::remove_file(&state).map_err(|error| format!("{}: {error}", state.display()))?;
    let deadline = Instant::now() + Duration::from_secs(30);
    while is_running(&lines) {
        if Instant::now() > deadline {
            return Err(format!("the servers do not stop; they were:\n{lines}"));
        }
        thread::sleep(Duration::from_millis(20));
    }
    eprintln!("xtask: the servers are stopped");
    Ok(())
}

/// Servers for one command; they stop when this is dropped, or when its process ends in any way.
pub(crate) struct Services {
    child: Child,
    lines: String,
}

impl Services {
    /// Starts them. What starts them was built already.
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
        // It has said why.
        let _ = child.wait();
        Err("the servers did not start".to_owned())
    }

    /// What the tests find in their environment.
    pub(crate) fn variables(&self) -> impl Iterator<Item = (&str, &str)> {
        variables(&self.lines)
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        // The end of its input is the order to stop.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// Of lines such as `export NAME='value'`.
fn variables(lines: &str) -> impl Iterator<Item = (&str, &str)> {
    lines.lines().filter_map(|line| {
        let (name, value) = line.strip_prefix("export ")?.split_once('=')?;
        Some((name, value.trim_matches('\'')))
    })
}

/// Whether the program that wrote these lines runs. Its pid may be another's by now, so its name is looked at as well.
fn is_running(lines: &str) -> bool {
    let pid = lines.lines().find_map(|line| line.strip_prefix("# ")?.rsplit_once("pid ")).map(|(_, pid)| pid);
    let Some(pid) = pid else { return false };
    let name = fs::read(Path::new("/proc").join(pid).join("cmdline")).or_else(|_| {
        Command::new("ps").args(["-p", pid, "-o", "args="]).output().map(|output| output.stdout)
    });
    name.is_ok_and(|name| String::from_utf8_lossy(&name).contains("while-file"))
}

fn print(lines: &str) -> Result<(), String> {
    std::io::stdout().write_all(lines.as_bytes()).map_err(|error| error.to_string())
}

fn program() -> PathBuf {
    target().join("debug").join("examples").join("services")
}

/// Lines that a shell can read, as long as the servers of `up` run.
fn state() -> PathBuf {
    target().join("services.env")
}
