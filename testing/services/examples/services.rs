//! Starts the servers, says how to reach them in lines that a shell can read, and stops them when told to.
//!
//! `cargo xtask` runs this, so that it need not be built with all that servers need. Usage:
//! `services until-signal | until-hang-up | while-file PATH`: until Ctrl-C or SIGTERM, and besides until standard input ends,
//! or as long as the file exists, which is written when the servers are ready.

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

/// Until the servers are not wanted any more. Dropped in the middle, it stops them too.
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
            say(&environment)?;
            std::future::pending().await
        }
        ["until-hang-up"] => {
            say(&environment)?;
            Ok(hung_up().await?)
        }
        ["while-file", path] => while_there(Path::new(path), &environment).await,
        _ => Err("usage: services until-signal | until-hang-up | while-file PATH".into()),
    }
}

/// Writes the file whole or not at all, and waits until somebody removes it.
async fn while_there(path: &Path, text: &str) -> Result<(), Box<dyn Error>> {
    let unfinished = path.with_extension("unfinished");
    fs::write(&unfinished, text)?;
    fs::rename(unfinished, path)?;
    while fs::read_to_string(path).is_ok_and(|now| now == text) {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

async fn signalled() -> Result<(), Box<dyn Error>> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}

/// Standard input has ended; what it says is of no interest. In a thread of its own, which nobody waits for on a signal.
async fn hung_up() -> io::Result<()> {
    let (sender, ended) = oneshot::channel();
    std::thread::spawn(move || {
        // Nobody waits for it when a signal came first.
        let _ = sender.send(io::copy(&mut io::stdin(), &mut io::sink()));
    });
    ended.await.map_err(io::Error::other)?.map(|_| ())
}

fn say(text: &str) -> io::Result<()> {
    let mut out = io::stdout();
    out.write_all(text.as_bytes())?;
    out.flush()
}
