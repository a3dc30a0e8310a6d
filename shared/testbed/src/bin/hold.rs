//! Holds a private cluster, a broker and a program until its input ends: `cargo run -p testbed` and Ctrl-D.

use std::process::Command;

use testbed::{Nats, Place, Postgres, Process, Scratch};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let (postgres, nats) = tokio::try_join!(Postgres::start(Place::temporary()), Nats::start(Place::temporary()))?;
    let scratch = Scratch::new("hold").await?;
    let (folder, log) = (scratch.path().join("clock"), scratch.path().join("clock.log"));
    let mut clock = Command::new("sh");
    clock.args(["-c", "while :; do date; sleep 1; done"]).arg(&folder);
    let _clock = Process::start("clock", &clock, &folder, &log).await?;
    println!("DATABASE_URL={}", postgres.socket_url("postgres"));
    println!("NATS_URL={}", nats.url());
    let folders = [postgres.folder(), nats.folder(), scratch.path()];
    println!(
        "folders: {}",
        folders.map(|folder| folder.display().to_string()).join(" ")
    );
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    Ok(())
}
