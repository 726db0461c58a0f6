//! Starts a Redis or Valkey binary of this machine on a free port, with its data in a temporary folder.
//!
//! Never: the machine's own configuration or data; a port that other machines can reach.
//! Next: `process.rs`, which runs it.

use std::{
    ffi::OsString,
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use super::protocol::{self, Info};
use crate::{
    Process, ServiceError,
    installed::find,
    port,
    process::{PORT_ATTEMPTS, START_TIMEOUT},
};

/// The options of a server that writes nothing to disk.
pub(super) const IN_MEMORY: [&str; 4] = ["--save", "", "--appendonly", "no"];

/// The file in a server's folder that contains the offset of its clock.
const CLOCK_FILE: &str = "clock";

/// The program of a server.
pub(super) struct Program(PathBuf);

impl Program {
    /// Finds Redis, or else Valkey.
    pub(super) fn find() -> Option<Self> {
        ["redis-server", "valkey-server"].into_iter().find_map(find).map(Self)
    }

    /// Starts a server in a new folder and waits until it answers.
    pub(super) async fn start(
        &self,
        options: &[String],
        clock: Option<&Clock>,
    ) -> Result<(Process, SocketAddr, Info), ServiceError> {
        let mut attempts = 0;
        loop {
            let folder =
                TempDir::with_prefix("bespeak-redis-").map_err(ServiceError::io("creating a folder"))?;
            create_folder(&data(folder.path()))?;
            let port = port::free().map_err(ServiceError::io("finding a free port"))?;
            let address = SocketAddr::from(([127, 0, 0, 1], port));
            let arguments = arguments(folder.path(), port, options);
            let mut process = match clock {
                None => Process::new(folder, &self.0, &arguments)?,
                Some(clock) => clock.process(folder, &self.0, arguments)?,
            };
            process.start().await?;
            attempts += 1;
            match ready(&mut process, address).await {
                Ok(info) => return Ok((process, address, info)),
                Err(ServiceError::NotStarted { log, .. })
                    if attempts < PORT_ATTEMPTS && log.contains("in use") => {}
                Err(error) => return Err(error),
            }
        }
    }
}

fn arguments(folder: &Path, port: u16, options: &[String]) -> Vec<OsString> {
    // The server reads no configuration file, because the first argument is not a file.
    let mut arguments: Vec<OsString> =
        vec!["--port".into(), port.to_string().into(), "--bind".into(), "127.0.0.1".into()];
    arguments.extend(["--dir".into(), data(folder).into()]);
    arguments.extend(IN_MEMORY.map(Into::into));
    arguments.extend(options.iter().map(Into::into));
    arguments
}

/// Waits until the server answers.
pub(super) async fn ready(process: &mut Process, address: SocketAddr) -> Result<Info, ServiceError> {
    let pid = process.pid();
    let probe = async || {
        // If the port was taken a moment ago, another server answers there.
        let info = protocol::info(address, None).await.ok()?;
        (Some(info.pid) == pid).then_some(info)
    };
    let timed_out = |reason| ServiceError::NotAnswering { address, waited: START_TIMEOUT, reason };
    process.wait_until_ready(START_TIMEOUT, probe, timed_out).await
}

/// Removes the data of a killed server.
pub(super) fn remove_data(process: &Process) -> Result<(), ServiceError> {
    let data = data(process.folder());
    fs::remove_dir_all(&data).map_err(ServiceError::io("removing the data of Redis"))?;
    create_folder(&data)
}

fn create_folder(folder: &Path) -> Result<(), ServiceError> {
    fs::create_dir(folder).map_err(ServiceError::io("creating a folder"))
}

fn data(folder: &Path) -> PathBuf {
    folder.join("data")
}

/// Gives a server its own clock with libfaketime, which reads the clock's offset from a file.
pub(super) struct Clock {
    library: PathBuf,
}

impl Clock {
    /// Finds libfaketime.
    ///
    /// # Errors
    /// libfaketime is not installed.
    pub(super) fn find() -> Result<Self, ServiceError> {
        // Redis has several threads, so it needs the variant that is safe for threads.
        let library = ["x86_64", "aarch64"]
            .map(|arch| PathBuf::from(format!("/usr/lib/{arch}-linux-gnu/faketime/libfaketimeMT.so.1")))
            .into_iter()
            .find(|path| path.exists());
        let search = "looking for libfaketime (Debian, Ubuntu: apt-get install faketime)";
        let library = library.ok_or_else(|| ServiceError::io(search)(io::ErrorKind::NotFound.into()))?;
        Ok(Self { library })
    }

    /// Runs the program with this clock. `env` replaces itself with the program, so the watched process is the server.
    fn process(
        &self,
        folder: TempDir,
        program: &Path,
        arguments: Vec<OsString>,
    ) -> Result<Process, ServiceError> {
        set_clock(folder.path(), 0)?;
        let variable = |name: &str, value: &Path| {
            let mut variable = OsString::from(name);
            variable.push(value);
            variable
        };
        let mut libraries = variable("LD_PRELOAD=", &self.library);
        // libc comes before jemalloc. Otherwise jemalloc reads the time while libfaketime allocates memory to
        // return it.
        libraries.push(":libc.so.6");
        let mut all = vec![
            libraries,
            variable("FAKETIME_TIMESTAMP_FILE=", &folder.path().join(CLOCK_FILE)),
            // Otherwise libfaketime would read the file only every ten seconds.
            "FAKETIME_NO_CACHE=1".into(),
            "FAKETIME_DONT_FAKE_MONOTONIC=1".into(),
            program.into(),
        ];
        all.extend(arguments);
        Process::new(folder, Path::new("env"), &all)
    }
}

/// Sets the clock of the server with this folder. The file is replaced atomically, because the server may
/// read it at any time.
pub(super) fn set_clock(folder: &Path, ahead_seconds: i64) -> Result<(), ServiceError> {
    let (file, unfinished) = (folder.join(CLOCK_FILE), folder.join("clock.unfinished"));
    fs::write(&unfinished, format!("{ahead_seconds:+}s\n"))
        .and_then(|()| fs::rename(&unfinished, &file))
        .map_err(ServiceError::io("setting a clock"))
}
