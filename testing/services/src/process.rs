//! A server as a process that ends with the process that started it, even when that is killed with `kill -9`.
//!
//! Never: a server outside its watchdog, or a folder that stays. The watchdog is a shell that reads orders from a pipe: when
//! our end of the pipe is gone, for whatever reason, it kills the server and removes its folder. Next: `mysql/binary.rs`.

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

/// Orders in, replies out, one word a line. The server is the shell's own child, so that its pid cannot be another's until
/// the shell has waited for it; `jobs` is how a shell notices that a child ended.
const WATCHDOG: &str = r#"
folder=$1 log=$2
shift 2
server=
end() {
    [ -z "$server" ] || { kill -9 "$server"; wait "$server"; server=; } 2>/dev/null
}
while read -r order; do
    case $order in
        start) "$@" </dev/null >"$log" 2>&1 & server=$!; echo "$server" ;;
        check)
            jobs >/dev/null 2>&1
            if [ -n "$server" ] && kill -0 "$server" 2>/dev/null; then echo running; else server=; echo ended; fi ;;
        freeze) [ -z "$server" ] || kill -STOP "$server"; echo frozen ;;
        thaw) [ -z "$server" ] || kill -CONT "$server"; echo thawed ;;
        kill) end; echo killed ;;
    esac
done
end
for try in 1 2 3 4 5; do rm -rf -- "$folder" && break; sleep 1; done
"#;

/// A server process with a folder of its own; killed, and the folder removed, when this is dropped or its process ends.
///
/// Ctrl-C does not reach it. Not tied to a Tokio runtime: it may be started in one and used in another.
#[derive(Debug)]
pub struct Process {
    watchdog: Child,
    orders: Option<ChildStdin>,
    replies: mpsc::UnboundedReceiver<String>,
    program: PathBuf,
    log: PathBuf,
    pid: Option<u32>,
    folder: TempDir,
}

impl Process {
    /// A process to be started, and from now on a watchdog over `folder`.
    pub fn new(folder: TempDir, program: &Path, arguments: &[OsString]) -> Result<Self, ServiceError> {
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
            // The terminal's Ctrl-C is for us; the pipe tells the watchdog.
            .process_group(0)
            .spawn()
            .map_err(ServiceError::io("starting a shell (sh)"))?;
        let orders = watchdog.stdin.take();
        let (sender, replies) = mpsc::unbounded_channel();
        if let Some(stdout) = watchdog.stdout.take() {
            std::thread::spawn(move || {
                let lines = BufReader::new(stdout).lines().map_while(Result::ok);
                // Fails when nobody waits for replies any more.
                lines.map(|line| sender.send(line)).find(Result::is_err)
            });
        }
        Ok(Self { watchdog, orders, replies, program: program.to_owned(), log, pid: None, folder })
    }

    /// Starts it; does not wait until it is of use (see [`Process::until_ready`]). It must not run already.
    pub async fn start(&mut self) -> Result<(), ServiceError> {
        debug_assert!(self.pid.is_none(), "started twice");
        let pid = self.order("start").await?;
        self.pid = pid.parse().ok();
        Ok(())
    }

    /// The process id of the server, while it was not killed.
    pub fn pid(&self) -> Option<u32> {
        self.pid
    }

    /// The folder that goes when this goes.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Whether it runs.
    pub async fn is_running(&mut self) -> bool {
        self.order("check").await.is_ok_and(|reply| reply == "running")
    }

    /// `kill -9`, and waits until it is gone. The folder stays.
    pub async fn kill(&mut self) -> Result<(), ServiceError> {
        self.order("kill").await?;
        self.pid = None;
        Ok(())
    }

    /// `kill -STOP`: it does nothing more until [`Process::thaw`]. It can be killed as it is.
    pub async fn freeze(&mut self) -> Result<(), ServiceError> {
        self.order("freeze").await.map(|_| ())
    }

    /// `kill -CONT`: it goes on where it was.
    pub async fn thaw(&mut self) -> Result<(), ServiceError> {
        self.order("thaw").await.map(|_| ())
    }

    /// Waits until `probe` has something.
    ///
    /// # Errors
    /// [`ServiceError::NotStarted`] when the server ended, `late` of the log's end when it takes longer than `patience`.
    pub async fn until_ready<T, Fut>(
        &mut self,
        patience: Duration,
        mut probe: impl FnMut() -> Fut,
        late: impl FnOnce(String) -> ServiceError,
    ) -> Result<T, ServiceError>
    where
        Fut: Future<Output = Option<T>>,
    {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(ready) = probe().await {
                return Ok(ready);
            }
            if !self.is_running().await {
                return Err(self.not_started());
            }
            if Instant::now() > deadline {
                return Err(late(self.log_end()));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// What the server said last: the end of its log since it was started.
    pub fn log_end(&self) -> String {
        const LINES: usize = 20;
        let log = fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(LINES)..].join("\n")
    }

    fn not_started(&self) -> ServiceError {
        ServiceError::NotStarted { command: self.program.display().to_string(), log: self.log_end() }
    }

    /// One order, one reply. Not cancel-safe: whoever stops waiting leaves a reply to the next order.
    async fn order(&mut self, order: &str) -> Result<String, ServiceError> {
        if let Some(orders) = &mut self.orders {
            writeln!(orders, "{order}").map_err(ServiceError::io("telling the watchdog of a server"))?;
        }
        self.replies.recv().await.ok_or_else(|| self.not_started())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The end of the pipe is the order to kill the server and to remove the folder.
        self.orders = None;
        // It fails only if somebody else waited for it, and then it is gone.
        let _ = self.watchdog.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_process_is_killed_started_again_and_leaves_nothing() {
        // Given a process in a folder with something in it
        let folder = TempDir::new().unwrap();
        let path = folder.path().to_owned();
        fs::write(path.join("data"), "kept").unwrap();
        let mut process = Process::new(folder, Path::new("sleep"), &["1000".into()]).unwrap();
        process.start().await.unwrap();
        assert!(process.is_running().await);
        let first = process.pid();
        // When it is killed, then it is gone, and its folder is not
        process.kill().await.unwrap();
        assert!(!process.is_running().await);
        assert!(path.join("data").exists());
        // When it is started again and dropped, then nothing stays
        process.start().await.unwrap();
        assert!(process.is_running().await);
        let second = process.pid().unwrap().to_string();
        assert_ne!(first.unwrap().to_string(), second);
        drop(process);
        assert!(!path.exists());
        let found = Command::new("sh").args(["-c", r#"kill -0 "$0""#, &second]).output().unwrap();
        assert!(!found.status.success(), "{second} still runs");
    }

    #[tokio::test]
    async fn a_process_that_ends_at_once_says_what_it_said_last() {
        let said = ["-c".into(), "echo the port is taken; exit 1".into()];
        let mut process = Process::new(TempDir::new().unwrap(), Path::new("sh"), &said).unwrap();
        process.start().await.unwrap();
        let patience = Duration::from_secs(20);
        let late = |log| panic!("still runs: {log}");
        let error = process.until_ready(patience, async || None::<()>, late).await.unwrap_err();
        assert!(error.to_string().contains("the port is taken"), "{error}");
    }
}
