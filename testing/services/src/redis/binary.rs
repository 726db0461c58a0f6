//! A server binary of this machine, on a free port, with its data in a folder of its own.
//!
//! Never: the machine's own configuration or data, nor a port that can be reached from outside.
//! Next: `process.rs`, which runs it.

use std::{
    ffi::OsString,
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use super::Info;
use super::{PATIENCE, VARIABLE, protocol};
use crate::{Process, ServiceError, installed::find, port};

/// How often another port is tried when the one that was free is not any more.
const TRIES: usize = 5;
/// Nothing is written to a disk.
pub(super) const IN_MEMORY: [&str; 4] = ["--save", "", "--appendonly", "no"];

/// The file in a server's folder that says how far its clock is from everybody else's.
const CLOCK: &str = "clock";

/// A server program.
pub(super) struct Program(PathBuf);

impl Program {
    /// The first on this machine.
    ///
    /// # Errors
    /// [`ServiceError::Missing`].
    pub(super) fn find() -> Result<Self, ServiceError> {
        let path = ["redis-server", "valkey-server"].into_iter().find_map(find);
        path.map(Self).ok_or(ServiceError::Missing {
            name: "Redis",
            install: "apt-get install redis-server",
            variable: VARIABLE,
            example: "redis://127.0.0.1:6379 (a server whose keys may all be lost)",
        })
    }

    /// Starts it in a new folder and waits until it answers.
    pub(super) async fn start(
        &self,
        options: &[String],
        clock: Option<&Clock>,
    ) -> Result<(Process, SocketAddr, Info), ServiceError> {
        let mut tried = 0;
        loop {
            let folder =
                TempDir::with_prefix("bespeak-redis-").map_err(ServiceError::io("making a folder"))?;
            make(&data(folder.path()))?;
            let port = port::free().map_err(ServiceError::io("finding a free port"))?;
            let address = SocketAddr::from(([127, 0, 0, 1], port));
            let arguments = arguments(folder.path(), port, options);
            let mut process = match clock {
                None => Process::new(folder, &self.0, &arguments)?,
                Some(clock) => clock.process(folder, &self.0, arguments)?,
            };
            process.start().await?;
            tried += 1;
            match ready(&mut process, address).await {
                Ok(info) => return Ok((process, address, info)),
                Err(ServiceError::NotStarted { log, .. }) if tried < TRIES && log.contains("in use") => {}
                Err(error) => return Err(error),
            }
        }
    }
}

fn arguments(folder: &Path, port: u16, options: &[String]) -> Vec<OsString> {
    // Without a file as the first argument it reads no configuration.
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
        // A stranger could be answering there, when the port was taken a moment before.
        let info = protocol::info(address, None).await.ok()?;
        (Some(info.pid) == pid).then_some(info)
    };
    let late = |reason| ServiceError::NotAnswering { address, waited: PATIENCE, reason };
    process.until_ready(PATIENCE, probe, late).await
}

/// Removes what a killed server has written.
pub(super) fn forget(process: &Process) -> Result<(), ServiceError> {
    let data = data(process.folder());
    fs::remove_dir_all(&data).map_err(ServiceError::io("removing the data of Redis"))?;
    make(&data)
}

fn make(folder: &Path) -> Result<(), ServiceError> {
    fs::create_dir(folder).map_err(ServiceError::io("making a folder"))
}

fn data(folder: &Path) -> PathBuf {
    folder.join("data")
}

/// A clock of a server's own: libfaketime, which reads from a file how far it is from everybody else's.
pub(super) struct Clock {
    library: PathBuf,
}

impl Clock {
    /// # Errors
    /// libfaketime is not installed.
    pub(super) fn find() -> Result<Self, ServiceError> {
        // The one for programs of several threads; the other does not keep them apart.
        let library = ["x86_64", "aarch64"]
            .map(|arch| PathBuf::from(format!("/usr/lib/{arch}-linux-gnu/faketime/libfaketimeMT.so.1")))
            .into_iter()
            .find(|path| path.exists());
        let wanted = "looking for libfaketime (apt-get install faketime: Debian, Ubuntu)";
        let library = library.ok_or_else(|| ServiceError::io(wanted)(io::ErrorKind::NotFound.into()))?;
        Ok(Self { library })
    }

    /// The program with this clock. `env` becomes the program, so that its process is the one that is watched.
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
        // Before jemalloc, which asks for the time while libfaketime, to tell it, asks for memory.
        libraries.push(":libc.so.6");
        let mut all = vec![
            libraries,
            variable("FAKETIME_TIMESTAMP_FILE=", &folder.path().join(CLOCK)),
            // It would look at the file every ten seconds.
            "FAKETIME_NO_CACHE=1".into(),
            "FAKETIME_DONT_FAKE_MONOTONIC=1".into(),
            program.into(),
        ];
        all.extend(arguments);
        Process::new(folder, Path::new("env"), &all)
    }
}

/// Sets the clock of the server that has this folder. Whole or not at all: the server may read it at any time.
pub(super) fn set_clock(folder: &Path, ahead_seconds: i64) -> Result<(), ServiceError> {
    let (file, unfinished) = (folder.join(CLOCK), folder.join("clock.unfinished"));
    fs::write(&unfinished, format!("{ahead_seconds:+}s\n"))
        .and_then(|()| fs::rename(&unfinished, &file))
        .map_err(ServiceError::io("setting a clock"))
}
