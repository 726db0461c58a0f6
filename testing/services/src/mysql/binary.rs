//! Starts a MySQL or MariaDB binary of this machine on a free port, with its data in a temporary folder.
//!
//! Never: the machine's own configuration or data (`--no-defaults`); a port that other machines can reach.
//! Next: `process.rs`, which runs it.

use std::{
    ffi::OsString,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use tempfile::TempDir;
use tokio::process::Command;

use crate::{
    Process, ServiceError,
    handshake::{self, Handshake},
    installed::{find, output_of},
    port,
    process::{PORT_ATTEMPTS, START_TIMEOUT},
};

/// The program of a server.
pub(super) struct Program {
    path: PathBuf,
    mariadb: bool,
    as_root: bool,
}

impl Program {
    /// Finds MariaDB, or else MySQL.
    pub(super) async fn find() -> Option<Self> {
        let path = ["mariadbd", "mysqld"].into_iter().find_map(find)?;
        let version = output_of(&path, "--version").await;
        let as_root = output_of(Path::new("id"), "-u").await.trim() == "0";
        Some(Self { path, mariadb: version.contains("MariaDB"), as_root })
    }

    /// Starts a server in a new folder and waits until it answers.
    pub(super) async fn start(
        &self,
        options: &[&str],
    ) -> Result<(Process, SocketAddr, Handshake), ServiceError> {
        let mut attempts = 0;
        loop {
            let folder =
                TempDir::with_prefix("bespeak-mysql-").map_err(ServiceError::io("creating a folder"))?;
            let port = port::free().map_err(ServiceError::io("finding a free port"))?;
            let address = SocketAddr::from(([127, 0, 0, 1], port));
            let mut process = Process::new_for(self, folder, port, options)?;
            self.prepare(process.folder()).await?;
            process.start().await?;
            attempts += 1;
            match ready(&mut process, address).await {
                Ok(handshake) => return Ok((process, address, handshake)),
                Err(ServiceError::NotStarted { log, .. })
                    if attempts < PORT_ATTEMPTS && log.contains("already in use") => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn arguments(&self, folder: &Path, port: u16, options: &[&str]) -> Vec<OsString> {
        let mut arguments = vec!["--no-defaults".into()];
        arguments.extend(self.common_arguments(folder));
        arguments.push(with("--pid-file=", &pid_file(folder)));
        // Of its own: a server that starts removes what looks like a temporary table of one that crashed.
        arguments.push(with("--tmpdir=", folder));
        arguments.push(format!("--port={port}").into());
        let fixed = [
            "--bind-address=127.0.0.1",
            // Relative to the data folder, because the address of a Unix socket is limited to about 100 bytes.
            "--socket=server.sock",
            "--skip-name-resolve",
            "--innodb-flush-log-at-trx-commit=1",
            "--innodb-buffer-pool-size=256M",
            "--max-connections=400",
            "--performance-schema=OFF",
        ];
        arguments.extend(fixed.map(Into::into));
        if !self.mariadb {
            arguments.push("--loose-innodb-redo-log-capacity=256M".into());
            // The X protocol would listen on a port that is the same for every server.
            arguments.push("--loose-mysqlx=OFF".into());
        }
        arguments.extend(options.iter().map(Into::into));
        arguments
    }

    /// The arguments that the server and the program that prepares its folder have in common.
    fn common_arguments(&self, folder: &Path) -> Vec<OsString> {
        let mut arguments = vec![with("--datadir=", &folder.join("data"))];
        if self.mariadb {
            arguments.push("--innodb-log-file-size=256M".into());
        }
        if self.as_root {
            arguments.push("--user=root".into());
        }
        arguments
    }

    /// Creates the system tables and a root account without a password.
    async fn prepare(&self, folder: &Path) -> Result<(), ServiceError> {
        let mut command = if self.mariadb {
            let installer = ["mariadb-install-db", "mysql_install_db"].into_iter().find_map(find);
            let mut command = Command::new(installer.unwrap_or_else(|| "mariadb-install-db".into()));
            command.args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"]);
            command
        } else {
            let accounts = folder.join("accounts.sql");
            // Without name resolution 127.0.0.1 does not match localhost, for which alone MySQL creates a root account.
            let sql = "CREATE USER 'root'@'127.0.0.1';\nGRANT ALL ON *.* TO 'root'@'127.0.0.1' WITH GRANT OPTION;\n";
            fs::write(&accounts, sql).map_err(ServiceError::io("writing accounts.sql"))?;
            let mut command = Command::new(&self.path);
            command.args(["--no-defaults", "--initialize-insecure"]).arg(with("--init-file=", &accounts));
            command
        };
        // A server removes the temporary tables that it finds when it starts, also those of a server that uses the same
        // folder meanwhile.
        command.env("TMPDIR", folder);
        command.args(self.common_arguments(folder)).kill_on_drop(true);
        let program = command.as_std().get_program().display().to_string();
        let output = command.output().await.map_err(ServiceError::io(format!("running {program}")))?;
        if output.status.success() {
            return Ok(());
        }
        let log = [output.stdout, output.stderr].concat();
        Err(ServiceError::NotStarted {
            command: program,
            log: String::from_utf8_lossy(&log).trim().to_owned(),
        })
    }
}

impl Process {
    fn new_for(
        program: &Program,
        folder: TempDir,
        port: u16,
        options: &[&str],
    ) -> Result<Self, ServiceError> {
        let arguments = program.arguments(folder.path(), port, options);
        Self::new(folder, &program.path, &arguments)
    }
}

/// Waits until the server answers.
pub(super) async fn ready(process: &mut Process, address: SocketAddr) -> Result<Handshake, ServiceError> {
    let pid = process.pid().map(|pid| pid.to_string());
    let pid_file = pid_file(process.folder());
    let probe = async || {
        // The server writes the file after it has bound the port. Until then another server may answer there.
        let bound = fs::read_to_string(&pid_file).ok()?;
        if Some(bound.trim()) != pid.as_deref() {
            return None;
        }
        handshake::read(address).await.ok()
    };
    let timed_out = |reason| ServiceError::NotAnswering { address, waited: START_TIMEOUT, reason };
    process.wait_until_ready(START_TIMEOUT, probe, timed_out).await
}

fn pid_file(folder: &Path) -> PathBuf {
    folder.join("server.pid")
}

fn with(option: &str, path: &Path) -> OsString {
    let mut argument = OsString::from(option);
    argument.push(path);
    argument
}
