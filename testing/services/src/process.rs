//! A server as a process that ends with the process that started it, even if that process is killed with `kill -9`.
//!
//! Each server is the child of a watchdog, a shell that reads commands from a pipe. When this process ends
//! for any reason, the system closes the pipe, and the watchdog kills the server and removes its folder.
//!
//! Never: a server without a watchdog; a folder that stays. Next: `mysql/binary.rs`.

use std::{
    ffi::OsString,
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;
use tokio::sync::mpsc;

use crate::ServiceError;

/// The default time that a server has until it answers. Recovery after a crash takes time.
pub(crate) const START_TIMEOUT: Duration = Duration::from_secs(60);
/// The number of ports that are tried, because a free port may be taken before the server binds it.
pub(crate) const PORT_ATTEMPTS: usize = 5;

/// The watchdog reads one command a line and writes one reply a line. The server is the shell's own child, so
/// the system cannot give its pid to another process before the shell has waited for it. `jobs` makes the
/// shell notice that a child has ended. A signal may take effect late on a busy machine, so `freeze` waits for
/// the state of a stopped process.
const WATCHDOG: &str = r#"
folder=$1 log=$2
shift 2
server=
end() {
    [ -z "$server" ] || { kill -9 "$server"; wait "$server"; server=; } 2>/dev/null
}
stopped() {
    for try in 1 2 3 4 5 6 7 8 9 10; do
        [ -r "/proc/$server/stat" ] || break
        case $(cat "/proc/$server/stat") in *") T "*) break ;; esac
        sleep 0.05
    done
}
while read -r command; do
    case $command in
        start) "$@" </dev/null >"$log" 2>&1 & server=$!; echo "$server" ;;
        check)
            jobs >/dev/null 2>&1
            if [ -n "$server" ] && kill -0 "$server" 2>/dev/null; then echo running; else server=; echo ended; fi ;;
        freeze) [ -z "$server" ] || { kill -STOP "$server"; stopped; }; echo frozen ;;
        thaw) [ -z "$server" ] || kill -CONT "$server"; echo thawed ;;
        kill) end; echo killed ;;
    esac
done
end
for try in 1 2 3 4 5; do rm -rf -- "$folder" && break; sleep 1; done
"#;

/// A server process with its own folder. When it is dropped, or when this process ends, the server is killed
/// and the folder is removed.
///
/// Ctrl-C does not reach the server. The value is not tied to a Tokio runtime: it may be started in one and
/// used in another.
#[derive(Debug)]
pub(crate) struct Process {
    watchdog: Child,
    commands: Option<ChildStdin>,
    replies: mpsc::UnboundedReceiver<String>,
    program: PathBuf,
    log: PathBuf,
    pid: Option<u32>,
    folder: TempDir,
}

impl Process {
    /// Starts the watchdog over `folder`. [`Process::start`] starts the server.
    pub(crate) fn new(folder: TempDir, program: &Path, arguments: &[OsString]) -> Result<Self, ServiceError> {
        let log = folder.path().join("log");
        let mut watchdog = Command::new("sh")
            .args(["-c", WATCHDOG, "watchdog"])
            .arg(folder.path())
            .arg(&log)
            .arg(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // The terminal sends Ctrl-C to this process only; the watchdog reacts when the pipe closes.
            .process_group(0)
            .spawn()
            .map_err(ServiceError::io("starting a shell (sh)"))?;
        let commands = watchdog.stdin.take();
        let (sender, replies) = mpsc::unbounded_channel();
        if let Some(stdout) = watchdog.stdout.take() {
            std::thread::spawn(move || {
                let lines = BufReader::new(stdout).lines().map_while(Result::ok);
                // Sending fails when the `Process` has been dropped.
                lines.map(|line| sender.send(line)).find(Result::is_err)
            });
        }
        Ok(Self { watchdog, commands, replies, program: program.to_owned(), log, pid: None, folder })
    }

    /// Starts the server, which must not be running, and returns before it answers (see [`Process::wait_until_ready`]).
    pub(crate) async fn start(&mut self) -> Result<(), ServiceError> {
        debug_assert!(self.pid.is_none(), "started twice");
        let pid = self.send("start").await?;
        self.pid = pid.parse().ok();
        Ok(())
    }

    /// The server's process id, from [`Process::start`] until [`Process::kill`].
    pub(crate) fn pid(&self) -> Option<u32> {
        self.pid
    }

    /// The folder that is removed with this value.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Whether the server is running.
    pub(crate) async fn is_running(&mut self) -> bool {
        self.send("check").await.is_ok_and(|reply| reply == "running")
    }

    /// Kills the server with `kill -9` and waits until it is gone. The folder stays.
    pub(crate) async fn kill(&mut self) -> Result<(), ServiceError> {
        self.send("kill").await?;
        self.pid = None;
        Ok(())
    }

    /// Stops the server with `kill -STOP` until [`Process::thaw`]. A frozen server can be killed.
    pub(crate) async fn freeze(&mut self) -> Result<(), ServiceError> {
        self.send("freeze").await.map(|_| ())
    }

    /// Continues a frozen server with `kill -CONT`.
    pub(crate) async fn thaw(&mut self) -> Result<(), ServiceError> {
        self.send("thaw").await.map(|_| ())
    }

    /// Calls `probe` until it returns a value.
    ///
    /// # Errors
    /// [`ServiceError::NotStarted`] if the server has ended. After `timeout`, the error that `timed_out`
    /// makes of the end of the log.
    pub(crate) async fn wait_until_ready<T, Fut>(
        &mut self,
        timeout: Duration,
        mut probe: impl FnMut() -> Fut,
        timed_out: impl FnOnce(String) -> ServiceError,
    ) -> Result<T, ServiceError>
    where
        Fut: Future<Output = Option<T>>,
    {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(ready) = probe().await {
                return Ok(ready);
            }
            if !self.is_running().await {
                return Err(self.not_started());
            }
            if Instant::now() > deadline {
                return Err(timed_out(self.log_end()));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The last lines of the server's log since it was started.
    pub(crate) fn log_end(&self) -> String {
        const LINES: usize = 20;
        let log = fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(LINES)..].join("\n")
    }

    fn not_started(&self) -> ServiceError {
        ServiceError::NotStarted { command: self.program.display().to_string(), log: self.log_end() }
    }

    /// Sends one command and returns its reply. Not cancel-safe: a dropped call leaves its reply to the next command.
    async fn send(&mut self, command: &str) -> Result<String, ServiceError> {
        if let Some(commands) = &mut self.commands {
            writeln!(commands, "{command}")
                .map_err(ServiceError::io("writing to the watchdog of a server"))?;
        }
        self.replies.recv().await.ok_or_else(|| self.not_started())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Closing the pipe makes the watchdog kill the server and remove the folder.
        self.commands = None;
        // Waiting fails only if the watchdog was waited for before, and then it has ended.
        let _ = self.watchdog.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_process_can_be_killed_and_restarted_and_leaves_nothing_behind() {
        // Given a process in a folder with a file
        let folder = TempDir::new().unwrap();
        let path = folder.path().to_owned();
        fs::write(path.join("data"), "kept").unwrap();
        let mut process = Process::new(folder, Path::new("sleep"), &["1000".into()]).unwrap();
        process.start().await.unwrap();
        assert!(process.is_running().await);
        let first = process.pid();
        // When it is killed, then it is gone and its folder stays
        process.kill().await.unwrap();
        assert!(!process.is_running().await);
        assert!(path.join("data").exists());
        // When it is started again and dropped, then process and folder are gone
        process.start().await.unwrap();
        assert!(process.is_running().await);
        let second = process.pid().unwrap().to_string();
        assert_ne!(first.unwrap().to_string(), second);
        drop(process);
        assert!(!path.exists());
        let found = Command::new("sh").args(["-c", r#"kill -0 "$0""#, &second]).output().unwrap();
        assert!(!found.status.success(), "{second} is still running");
    }

    #[tokio::test]
    async fn the_error_of_a_process_that_ends_at_once_contains_its_log() {
        let script = ["-c".into(), "echo the port is taken; exit 1".into()];
        let mut process = Process::new(TempDir::new().unwrap(), Path::new("sh"), &script).unwrap();
        process.start().await.unwrap();
        let timeout = Duration::from_secs(20);
        let timed_out = |log| panic!("still running: {log}");
        let error = process.wait_until_ready(timeout, async || None::<()>, timed_out).await.unwrap_err();
        assert!(error.to_string().contains("the port is taken"), "{error}");
    }
}
