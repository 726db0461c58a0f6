//! Starts the test servers, prints their URLs in lines that a shell can read, and stops the servers at the end.
//!
//! `cargo xtask` runs this program, so that xtask itself is built without the servers' dependencies. Usage:
//! `services until-signal | until-hang-up | while-file PATH`. Each form ends at Ctrl-C or SIGTERM; the second also when
//! standard input ends; the third also when the file is removed, which the program writes when the servers are ready.

use std::{
    env,
    error::Error,
    fs,
    io::{self, Write},
    path::Path,
    process::ExitCode,
    time::Duration,
};

use bespeak_services::{Aws, Kafka, Mysql, Redis};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let ended = tokio::select! {
        ended = serve(&arguments) => ended,
        ended = signalled() => ended,
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("services: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the servers until the condition of `arguments` ends them. Dropping the future also stops them.
async fn serve(arguments: &[&str]) -> Result<(), Box<dyn Error>> {
    let (mysql, kafka, redis, aws) =
        tokio::try_join!(Mysql::provide(), Kafka::provide(), Redis::provide(), Aws::provide())?;
    let environment = format!(
        "export BESPEAK_TEST_MYSQL_URL='{}'\nexport BESPEAK_TEST_KAFKA_URL='{}'\nexport BESPEAK_TEST_REDIS_URL='{}'\n\
         export BESPEAK_TEST_AWS_URL='{}'\n# ready: {}; {}; {}; {}; pid {}\n",
        mysql.url(),
        kafka.url(),
        redis.url(),
        aws.endpoint(),
        mysql.describe(),
        kafka.describe(),
        redis.describe(),
        aws.describe(),
        std::process::id(),
    );
    match arguments {
        ["until-signal"] => {
            print(&environment)?;
            std::future::pending().await
        }
        ["until-hang-up"] => {
            print(&environment)?;
            Ok(input_ended().await?)
        }
        ["while-file", path] => while_file_exists(Path::new(path), &environment).await,
        _ => Err("usage: services until-signal | until-hang-up | while-file PATH".into()),
    }
}

/// Writes the file atomically, and waits until it is removed or replaced.
async fn while_file_exists(path: &Path, text: &str) -> Result<(), Box<dyn Error>> {
    let unfinished = path.with_extension("unfinished");
    fs::write(&unfinished, text)?;
    fs::rename(unfinished, path)?;
    while fs::read_to_string(path).is_ok_and(|now| now == text) {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// Waits for Ctrl-C or SIGTERM.
async fn signalled() -> Result<(), Box<dyn Error>> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}

/// Waits until standard input ends, and ignores its content. A thread reads it, so that a signal can end the program
/// meanwhile.
async fn input_ended() -> io::Result<()> {
    let (sender, ended) = oneshot::channel();
    std::thread::spawn(move || {
        // It fails if a signal came first.
        let _ = sender.send(io::copy(&mut io::stdin(), &mut io::sink()));
    });
    ended.await.map_err(io::Error::other)?.map(|_| ())
}

fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout();
    out.write_all(text.as_bytes())?;
    out.flush()
}
